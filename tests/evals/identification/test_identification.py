"""Neurons of known concept: ranks, splits and intervals against loops; the failure of cosine."""

from __future__ import annotations

import weakref

import numpy as np
import pytest
import xarray as xr
from scipy import stats
from sklearn import metrics as sk

import evals
from evals import identify_neurons, schemas
from evals.identification import known_neurons
from evals.identification.config import PUBLISHED, other_data
from evals.identification.identification import (
    IdentificationOptions,
    identify,
    known_ranks,
    mean_interval,
)
from evals.identification.identification_table import identification_table
from evals.identification.known_neurons import choose_parameters, validation_neurons
from evals.kernels import blocks
from evals.kernels.blocks import BlockStatistics
from evals.scoring.labelled import find_concepts
from registry.declare.faults import ConfigError
from tests.evals.runs import FakeInput, FakeRun

N_INPUTS, N_NEURONS, N_LABELS = 400, 12, 20
LABEL_NAMES = [f"label {i}" for i in range(N_LABELS)]
IDS = [f"test/{i:04d}" for i in range(N_INPUTS)]


def make_datasets() -> tuple[xr.Dataset, xr.Dataset]:
    """Detectors like sigmoids of logits, most near 0; two of them of nothing that is known."""
    rng = np.random.default_rng(7)
    frequency = np.geomspace(0.02, 0.6, N_LABELS)
    labels = rng.random((N_INPUTS, N_LABELS)) < rng.permutation(frequency)
    right = rng.permutation(N_LABELS)[:N_NEURONS]
    logits = 3 * labels[:, right] - 4 + rng.normal(size=(N_INPUTS, N_NEURONS))
    names = np.array(LABEL_NAMES, dtype=object)[right]
    names[[3, 8]] = ""
    activations = xr.Dataset(
        {
            "activation": (("image", "neuron"), (1 / (1 + np.exp(-logits))).astype(np.float32)),
            "name": ("neuron", [f"unit {i}" for i in range(N_NEURONS)]),
            "right_concept": ("neuron", names.astype(str)),
        },
        {"image": IDS, "neuron": np.arange(N_NEURONS) * 10},
    )
    values = xr.Dataset(
        {"value": (("image", "label"), labels.astype(np.float32))},
        {"image": IDS, "label": LABEL_NAMES},
    )
    return activations, values


ACTIVATIONS, LABELS = make_datasets()
PLACES = find_concepts(ACTIVATIONS.right_concept, LABELS.value)
METRICS = ("correlation", "cosine", "iou", "wpmi", "correlation_top_and_random")
OPTIONS = IdentificationOptions(
    alphas=(0.5, 0.02, 0.1), lams=(0.0, 0.4, 1.0), n_splits=4, share=0.3, seed=3
)


@pytest.fixture(scope="module")
def found() -> xr.Dataset:
    return identify(ACTIVATIONS.activation, LABELS.value, PLACES, METRICS, OPTIONS)


@pytest.fixture
def inputs(tmp_path):
    return {
        "activations": FakeInput.of(ACTIVATIONS, tmp_path / "activations.nc"),
        "labels": FakeInput.of(LABELS, tmp_path / "labels.nc"),
    }


def run_stage(inputs, tmp_path, **values) -> xr.Dataset:
    run = FakeRun(tmp_path, schemas.IDENTIFICATION)
    return identify_neurons.stage(identify_neurons.Config(**values), inputs, run)


def test_every_split_is_chosen_and_tested_apart(found):
    known = np.flatnonzero(PLACES >= 0)
    neurons = ACTIVATIONS.activation.isel(neuron=known)
    assert found.neuron.values.tolist() == (known * 10).tolist()
    assert found.seed.values.tolist() == [3, 4, 5, 6]
    for split, seed in enumerate(found.seed.values):
        choosing = validation_neurons(len(known), 0.3, seed)
        np.testing.assert_array_equal(found.is_choosing[:, split], choosing)
        chosen = choose_parameters(
            neurons[:, choosing],
            LABELS.value,
            PLACES[known][choosing],
            METRICS,
            OPTIONS.alphas,
            OPTIONS.lams,
            seed=3,
        )
        for metric in METRICS:
            got, best = found.sel(metric=metric, seed=seed), chosen.sel(metric=metric)
            np.testing.assert_array_equal(
                [got.alpha, got.lam, got.validation_auprc], [best.alpha, best.lam, best.auprc]
            )
            scores = evals.score(
                metric,
                neurons[:, ~choosing],
                LABELS.value,
                alpha=float(best.alpha),
                lam=1.0 if best.lam.isnull() else float(best.lam),
                seed=3,
            )
            truth = np.arange(N_LABELS) == PLACES[known][~choosing][:, None]
            expected = sk.average_precision_score(truth.ravel(), scores.fillna(-1e9).values.ravel())
            assert got.split_auprc == pytest.approx(expected, rel=1e-12)


def test_means_ranks_and_intervals_are_of_the_splits(found):
    auprc = found.split_auprc.values
    np.testing.assert_allclose(found.auprc, auprc.mean(axis=1), rtol=1e-14)
    for split in range(OPTIONS.n_splits):
        ordered = sorted(-auprc[:, split])
        places = [
            1 + np.mean([i for i, x in enumerate(ordered) if x == -a]) for a in auprc[:, split]
        ]
        np.testing.assert_allclose(found.split_rank[:, split], places)
    np.testing.assert_allclose(found.mean_rank, found.split_rank.mean("seed"))
    for row, values in enumerate(auprc):
        if np.ptp(values):
            low, high = stats.t.interval(0.95, 3, values.mean(), stats.sem(values))
            np.testing.assert_allclose(
                [found.auprc_low[row], found.auprc_high[row]], np.clip([low, high], 0, 1)
            )
    assert found.best_auprc == found.auprc.max()


def test_one_split_has_no_interval():
    low, high = mean_interval(np.array([[0.3], [0.5]]), 0.95)
    assert np.isnan([low, high]).all()
    low, high = mean_interval(np.array([[0.5, 0.5], [0.99, 1.0]]), 0.95)
    assert (low[0], high[0]) == (0.5, 0.5)
    assert high[1] == 1


def rank_by_loops(scores, right) -> tuple[float, float]:
    """Mean place and chance to be first over all orders in which ties may fall."""
    values = [(-np.inf if np.isnan(value) else value) for value in scores]
    above = sum(value > values[right] for value in values)
    tied = sum(value == values[right] for value in values)
    chance = 1 / tied if above == 0 and values[right] > -np.inf else 0
    return above + np.mean(range(1, tied + 1)), chance


def test_ranks_and_chances_share_ties():
    nan = np.nan
    scores = np.array(
        [
            [0.3, 0.9, 0.1, 0.2],
            [0.9, 0.9, 0.9, 0.2],
            [0.0, 0.0, 0.0, 0.0],
            [nan, -1.0, nan, -2.0],
            [nan, nan, nan, nan],
            [0.5, nan, 0.4, 0.4],
        ]
    )
    right = np.array([1, 2, 0, 0, 3, 2])
    expected = [rank_by_loops(*row) for row in zip(scores, right, strict=True)]
    ranks, chances = known_ranks(scores, right)
    np.testing.assert_allclose(ranks, [rank for rank, _ in expected])
    np.testing.assert_allclose(chances, [chance for _, chance in expected])
    assert ranks.tolist() == [1, 2, 2.5, 3.5, 2.5, 2.5]
    assert chances.tolist() == [1, 1 / 3, 1 / 4, 0, 0, 0]


def test_neurons_are_ranked_where_they_are_tested(found):
    metric = found.sel(metric="correlation")  # needs no parameters: the same in every split
    scores = evals.score("correlation", ACTIVATIONS.activation, LABELS.value)
    scores = scores.isel(neuron=np.flatnonzero(PLACES >= 0))
    right = PLACES[PLACES >= 0]
    tested = ~metric.is_choosing.values
    assert tested.any(axis=1).all()
    np.testing.assert_array_equal(metric.right_rank, known_ranks(scores.values, right)[0])
    best = scores.concept.values[scores.values.argmax(axis=1)]
    np.testing.assert_array_equal(metric.best_concept, best)
    np.testing.assert_array_equal(metric.right_concept, scores.concept.values[right])
    is_right = best == metric.right_concept.values
    np.testing.assert_allclose(metric.top_share, np.mean([is_right[t].mean() for t in tested.T]))


def test_a_neuron_that_always_chooses_is_not_ranked():
    options = IdentificationOptions(n_splits=1, seed=3)
    found = identify(ACTIVATIONS.activation, LABELS.value, PLACES, ["mad"], options)
    choosing = found.is_choosing.values[:, 0]
    assert choosing.sum() == 2
    assert found.right_rank[choosing].isnull().all()
    assert (found.best_concept[choosing] == "").all()
    assert found.right_rank[~choosing].notnull().all()


def test_published_figures_of_other_data_are_told(inputs, tmp_path, capsys):
    assert other_data("cub-cbm", inputs=5794, neurons=112, concepts=112) == ""
    assert other_data("", inputs=1, neurons=1, concepts=1) == ""
    found = run_stage(inputs, tmp_path, metrics=("mad",), published="cub-cbm", n_splits=1)
    told = f"of 5,794 inputs (here {int(found.n_inputs):,}), 112 neurons (here "
    assert told in found.attrs["other_data"]
    assert found.attrs["other_data"] in capsys.readouterr().out


def test_undefined_pairs_are_counted():
    labels = LABELS.value.copy()
    labels[:, [2, 5]] = 0
    found = identify(ACTIVATIONS.activation, labels, PLACES, ["correlation", "recall"], OPTIONS)
    np.testing.assert_allclose(found.undefined_share, [2 / N_LABELS, 0])


def test_a_constant_shift_fails_cosine_alone(inputs, tmp_path):
    """Appendix E.2: nothing that is learned of a neuron may depend on what is added to it."""
    names = ("correlation", "cosine", "mad", "iou", "auprc", "inverse_auc", "spearman_correlation")
    plain = run_stage(inputs, tmp_path, metrics=names, n_splits=5)
    shifted = run_stage(inputs, tmp_path, metrics=names, n_splits=5, shift=1.0)
    assert plain.auprc.sel(metric="cosine") > 0.8
    assert shifted.auprc.sel(metric="cosine") < 0.4
    others = [name for name in names if name != "cosine"]
    np.testing.assert_allclose(
        shifted.auprc.sel(metric=others), plain.auprc.sel(metric=others), rtol=1e-9
    )
    assert shifted["shift"] == 1


def test_a_shift_changes_no_correlation():
    neurons = ACTIVATIONS.activation.astype(float)
    plain, shifted = (
        evals.score_matrix(values, LABELS.value, ["correlation", "cosine", "mad"])
        for values in (neurons, neurons + 1)
    )
    xr.testing.assert_allclose(shifted.correlation, plain.correlation, rtol=1e-9)
    xr.testing.assert_allclose(shifted.mad, plain.mad, rtol=1e-9)
    assert (abs(shifted.cosine - plain.cosine) > 0.05).mean() > 0.5


def test_a_shift_is_added_in_double_precision(inputs, tmp_path):
    small = ACTIVATIONS.copy()
    small["activation"] = small.activation * np.float32(1e-9)
    inputs["activations"] = FakeInput.of(small, tmp_path / "small.nc")
    options = {"metrics": ("correlation", "inverse_auc"), "n_splits": 3}
    plain = run_stage(inputs, tmp_path, **options)
    shifted = run_stage(inputs, tmp_path, **options, shift=1.0)  # in float32 all would be 1
    np.testing.assert_allclose(shifted.auprc, plain.auprc, rtol=1e-9)


def test_identification_follows_its_schema(inputs, tmp_path, capsys):
    run = FakeRun(tmp_path, schemas.IDENTIFICATION)
    config = identify_neurons.Config(n_splits=2, published="cub-cbm")
    found = identify_neurons.stage(config, inputs, run)
    schemas.IDENTIFICATION.check(found)
    assert found.metric.values.tolist() == list(evals.list_metrics())
    assert found.name.values[0] == "unit 0"
    assert found.published.notnull().all()
    assert run.told[-1] == (48, 48, "steps")
    told = capsys.readouterr().out
    assert told.startswith("10 neurons of known concept among 20 labels, on 400 inputs; 2 splits")
    assert "published" in told
    best = str(found.metric.values[found.auprc.values.argmax()])
    assert told.splitlines()[2].startswith(best)


def test_inputs_of_one_split_alone(inputs, tmp_path):
    ids = [name.replace("test", "train") if i % 4 else name for i, name in enumerate(IDS)]
    moved = ACTIVATIONS.assign_coords(image=ids), LABELS.assign_coords(image=ids)
    for name, dataset in zip(inputs, moved, strict=True):
        inputs[name] = FakeInput.of(dataset, tmp_path / f"{name}-moved.nc")
    found = run_stage(inputs, tmp_path, metrics=("mad",), split="test")
    assert found.n_inputs == N_INPUTS // 4


def test_threads_do_not_change_the_result(found):
    options = IdentificationOptions(**{**vars(OPTIONS), "workers": 3})
    again = identify(ACTIVATIONS.activation, LABELS.value, PLACES, METRICS, options)
    xr.testing.assert_identical(again, found)


@pytest.mark.parametrize("limit", [1, 10_000])
def test_how_many_scores_are_held_does_not_change_the_result(monkeypatch, found, limit):
    monkeypatch.setattr(known_neurons, "SCORE_BYTES", limit)
    again = identify(ACTIVATIONS.activation, LABELS.value, PLACES, METRICS, OPTIONS)
    xr.testing.assert_identical(again, found)


@pytest.mark.parametrize("n_copies", [1, 5])
def test_memory_does_not_grow_with_neurons_or_with_what_is_tried(monkeypatch, n_copies):
    live, most = weakref.WeakSet(), []

    class Counted(BlockStatistics):
        def __init__(self, *args, **options):
            super().__init__(*args, **options)
            live.add(self)
            most.append(len(live))

    def count_scores(self, jobs, n_neurons):
        held.append(8 * len(jobs) * n_neurons * N_LABELS)
        return score_together(self, jobs, n_neurons)

    held, score_together = [], known_neurons.KnownNeurons._score_together
    monkeypatch.setattr(known_neurons.KnownNeurons, "_score_together", count_scores)
    monkeypatch.setattr(known_neurons, "SCORE_BYTES", 20_000)
    monkeypatch.setattr(blocks, "BlockStatistics", Counted)
    monkeypatch.setattr(blocks, "BLOCK_VALUES", 2 * N_INPUTS)
    neurons = xr.concat([ACTIVATIONS.activation] * n_copies, "neuron")
    neurons = neurons.assign_coords(neuron=np.arange(neurons.sizes["neuron"]))
    identify(neurons, LABELS.value, np.tile(PLACES, n_copies), METRICS, OPTIONS)
    assert len(most) > 5 * n_copies  # blocks
    assert max(most) == 1
    assert max(held) <= 20_000


def test_too_few_known_neurons():
    right = np.where(np.arange(N_NEURONS) < 2, PLACES, -1)
    with pytest.raises(ValueError, match="got 2 neurons of known concept; expected at least 3"):
        identify(ACTIVATIONS.activation, LABELS.value, right, ["mad"])
    three = np.where(np.arange(N_NEURONS) < 3, PLACES, -1)
    found = identify(ACTIVATIONS.activation, LABELS.value, three, ["mad"])
    assert (found.n_choosing, found.n_neurons) == (2, 3)


def test_an_unknown_right_concept(inputs, tmp_path):
    wrong = ACTIVATIONS.copy()
    wrong["right_concept"] = wrong.right_concept.astype(object)
    wrong["right_concept"][0] = "lable 3"
    inputs["activations"] = FakeInput.of(wrong, tmp_path / "wrong.nc")
    with pytest.raises(ValueError, match="'lable 3' of neuron 0 is no label; did you mean 'label "):
        run_stage(inputs, tmp_path, metrics=("mad",))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"metrics": ["iuo"]}, "unknown metric 'iuo'; did you mean 'iou'"),
        ({"alphas": [0.0]}, "greater than 0"),
        ({"n_splits": 0}, "greater than or equal to 1"),
        ({"share": 1.0}, "less than 1"),
        ({"published": "cub-cmb"}, "unknown published setting 'cub-cmb'; did you mean 'cub-cbm'"),
    ],
)
def test_configurations_are_checked(values, message):
    with pytest.raises(ConfigError, match=message):
        identify_neurons.stage.resolve(values)


def test_all_metrics_are_spelt_out_in_a_configuration():
    resolved = identify_neurons.stage.resolve({})
    assert resolved.metrics == tuple(evals.list_metrics())


def test_published_figures_are_those_of_the_paper():
    cub = PUBLISHED["cub-cbm"]
    assert set(cub) == set(evals.list_metrics()) == set(PUBLISHED["cub-cbm-shifted"])
    best = sorted(cub, key=cub.__getitem__, reverse=True)[:3]
    assert best == ["cosine", "inverse_auc", "correlation"]
    assert PUBLISHED["cub-cbm-shifted"]["cosine"] == 0.0443


def test_the_table_shows_what_there_is(found):
    text = identification_table(found)
    lines = text.splitlines()
    assert "published" not in text
    assert len(lines) == 2 + len(METRICS)
    shares = [float(line.split()[1]) for line in lines[2:]]
    assert shares == sorted(shares, reverse=True)
    assert all(line == line.rstrip() for line in lines)
