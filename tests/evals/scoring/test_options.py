"""How many inputs *top and random* draws, and which neurons are scored, as declared."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import evals
from evals import identify_neurons, sanity_check, schemas, score_explanations
from evals.kernels.arrays import AlignmentError
from evals.scoring.labelled import choose_neurons
from tests.evals.runs import FakeInput, FakeRun
from tests.evals.test_stages import make_datasets

NAME = "correlation_top_and_random"


@pytest.mark.parametrize(("compat", "of_sample"), [("", 1.0), ("neuroneval", 219 / 220)])
def test_where_all_are_drawn_nothing_is_left_to_chance(compat: str, of_sample: float) -> None:
    rng = np.random.default_rng(0)
    activations, labels = rng.random((200, 3)), rng.random((200, 2)) < 0.3
    (row,) = evals.metrics_by_rule([NAME], compat)
    found = row(activations, labels, drawing=evals.Drawing(size=200, share=0.1))
    for neuron, column in enumerate(activations.T):
        inputs = np.append(np.argsort(-column)[:20], np.arange(200))
        for concept, label in enumerate(labels.T):
            expected = of_sample * np.corrcoef(column[inputs], label[inputs])[0, 1]
            assert found[neuron, concept] == pytest.approx(expected, rel=1e-9)
    assert not np.allclose(found, row(activations, labels))


@pytest.mark.parametrize("compat", ["", "neuroneval"])
def test_no_figure_is_published_for_other_draws(compat: str) -> None:
    small = {"n_inputs": 2000, "frequencies": [0.1], "simulated_draws": 3, "compat": compat}
    every = evals.theoretical_sanity([NAME], drawing=evals.Drawing(2000, 0.2), **small)
    assert (every["decrease_rate"] == 1).all()  # by counts of all, which always fall
    assert every["published"].isnull().all()
    usual = evals.theoretical_sanity([NAME], drawing=evals.Drawing(), n_draws=50)
    assert usual["published"].notnull().all()
    other = evals.theoretical_sanity([NAME], drawing=evals.Drawing(24), n_draws=50)
    assert other["published"].isnull().all()


def test_draws_that_make_no_sense_are_refused() -> None:
    for size, share in ((0, 0.1), (5, 0.0), (5, 1.5)):
        with pytest.raises(ValueError, match="at least 1 input"):
            evals.Drawing(size, share)


def test_neurons_are_chosen_by_name_number_or_range() -> None:
    numbered, named = np.array([0, 2, 4, 6]), np.array(["a", "b", "c:d", "e"])
    assert choose_neurons(numbered, ["1:5"]).tolist() == [False, True, True, False]
    assert choose_neurons(numbered, ["6", ":1"]).tolist() == [True, False, False, True]
    assert choose_neurons(numbered, ["4:"]).tolist() == [False, False, True, True]
    assert choose_neurons(named, ["c:d", "0:1"]).tolist() == [True, False, True, False]
    for wrong in ("7", "7:9", "b"):
        with pytest.raises(AlignmentError, match=f"no neuron '{wrong}'"):
            choose_neurons(numbered, [wrong])


@pytest.fixture
def inputs(tmp_path: Path) -> dict[str, FakeInput]:
    concepts, labels = make_datasets()
    concepts = concepts.rename(concept="neuron", presence="activation")
    right = [["red", "square", "striped", "left"][index % 4] for index in range(12)]
    concepts = concepts.assign(
        right_concept=("neuron", right), name=("neuron", list("abcdefghijkl"))
    )
    return {
        "activations": FakeInput.of(concepts, tmp_path / "concepts.nc"),
        "labels": FakeInput.of(labels, tmp_path / "labels.nc"),
    }


def test_stages_score_the_neurons_that_are_chosen(inputs: dict[str, FakeInput], tmp_path) -> None:
    given = {"neurons": ("1:6", "9"), "metrics": (NAME,), "n_drawn": 300, "drawn_share": 1.0}
    chosen = [1, 2, 3, 4, 5, 9]
    run = FakeRun(tmp_path / "scores", schemas.SCORES)
    scores = score_explanations.stage(score_explanations.Config(**given), inputs, run)
    assert scores["neuron"].values.tolist() == chosen
    activations, labels = (inputs[slot].open() for slot in ("activations", "labels"))
    labels = labels["present"].sel(input=activations["image"].values)
    drawing = evals.Drawing(300, 1.0)
    expected = evals.score(NAME, activations["activation"], labels, alpha=0.02, drawing=drawing)
    np.testing.assert_array_equal(scores["score"].sel(metric=NAME), expected.sel(neuron=chosen))

    given |= {"alphas": (0.2,), "lams": (1.0,)}
    run = FakeRun(tmp_path / "identified", schemas.IDENTIFICATION)
    config = identify_neurons.Config(**given, choosing=("1:3",))
    found = identify_neurons.stage(config, inputs, run)
    assert found["neuron"].values.tolist() == chosen
    assert found["is_choosing"].values[:, 0].tolist() == [True, True, False, False, False, False]

    run = FakeRun(tmp_path / "tested", schemas.SANITY)
    config = sanity_check.Config(**given, n_draws=10)
    tested = sanity_check.stage(config, inputs, run)
    assert tested["n_neurons"].sel(form="experimental").values.tolist() == [4, 4]
