"""The choice of alpha and lambda, against plain loops and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn import metrics as sk

import evals
from evals.identification.known_neurons import (
    ALPHAS,
    LAMBDAS,
    choose_parameters,
    chosen_parameters,
    identification_auprc,
    validation_neurons,
)
from evals.metrics.table import Parameters
from evals.scoring.labelled import find_concepts

N_INPUTS, N_NEURONS, N_CONCEPTS = 240, 6, 9
RIGHT = np.array([4, 0, 7, 2, 4, 8])
NAMES = [f"concept {i}" for i in range(N_CONCEPTS)]


def make_pair() -> tuple[xr.DataArray, xr.DataArray]:
    """Neurons that detect their concept among noise; soft labels, one concept empty."""
    rng = np.random.default_rng(3)
    commonness = np.linspace(0.5, 6, N_CONCEPTS)
    labels = np.round(rng.random((N_INPUTS, N_CONCEPTS)) ** commonness, 2)
    labels[:, 1] = 0
    neurons = 0.3 * labels[:, RIGHT] + rng.random((N_INPUTS, N_NEURONS))
    ids = {"input": [f"test/{i:03d}" for i in range(N_INPUTS)]}
    return (
        xr.DataArray(neurons, dims=("input", "neuron"), coords=ids),
        xr.DataArray(labels, dims=("input", "concept"), coords={**ids, "concept": NAMES}),
    )


NEURONS, LABELS = make_pair()


def test_the_published_grid():
    assert len(ALPHAS) == 12
    assert ALPHAS[0] == 0.0001
    assert ALPHAS[-1] == 0.5
    assert LAMBDAS[0] == 0
    assert LAMBDAS[35] == 0.35
    assert LAMBDAS[-1] == 1
    assert len(LAMBDAS) == 101


@pytest.mark.parametrize(
    ("n_neurons", "expected"), [(112, 5), (3, 2), (40, 2), (59, 2), (60, 3), (1000, 50), (1400, 70)]
)
def test_five_percent_choose_but_at_least_two(n_neurons, expected):
    assert validation_neurons(n_neurons).sum() == expected


def test_the_draw_is_seeded_and_bounded():
    one = validation_neurons(1000, seed=1)
    assert one.dtype == bool
    np.testing.assert_array_equal(one, validation_neurons(1000, seed=1))
    assert (one != validation_neurons(1000, seed=2)).any()
    assert validation_neurons(1000, most=7).sum() == 7
    assert validation_neurons(100, share=0.29).sum() == 29  # 28 in floats
    often = np.sum([validation_neurons(10, seed=seed) for seed in range(500)], axis=0)
    assert often.min() > 60  # 100 each in expectation, standard deviation 9
    assert often.max() < 140


def test_too_few_neurons_to_choose_and_to_test():
    with pytest.raises(ValueError, match="got 2 neurons of known concept; expected at least 3"):
        validation_neurons(2)
    with pytest.raises(ValueError, match=r"lies in \(0, 1\); got 1"):
        validation_neurons(10, share=1)


def test_right_concepts_are_found_by_name():
    names = xr.DataArray(["concept 7", "", "concept 0"], dims="neuron")
    assert find_concepts(names, LABELS).tolist() == [7, -1, 0]
    assert find_concepts(["concept 1"], LABELS.rename(concept="label")).tolist() == [1]
    with pytest.raises(ValueError, match="'concpet 7' of neuron 1 is no label; did you mean 'co"):
        find_concepts(["concept 7", "concpet 7"], LABELS)


few = st.sampled_from([0.0, 1.0, -1.0, 0.5, 1e-300, np.nan])


@settings(max_examples=60)
@given(drawn=st.data())
@pytest.mark.slow
def test_auprc_is_scikit_learns_with_undefined_pairs_last(drawn):
    shape = drawn.draw(st.integers(1, 5)), drawn.draw(st.integers(1, 6))
    scores = drawn.draw(hnp.arrays(np.float64, shape, elements=few))
    right = drawn.draw(hnp.arrays(np.int64, shape[0], elements=st.integers(0, shape[1] - 1)))
    truth = np.zeros(shape, dtype=bool)
    truth[np.arange(shape[0]), right] = True
    finite = np.where(np.isnan(scores), -9.0, scores)
    expected = sk.average_precision_score(truth.ravel(), finite.ravel())
    assert identification_auprc(scores, right) == pytest.approx(expected, rel=1e-12)


def test_neurons_that_are_not_known_are_left_out():
    scores = np.random.default_rng(0).random((5, 4))
    right = np.array([1, -1, 0, -1, 3])
    expected = identification_auprc(scores[[0, 2, 4]], right[[0, 2, 4]])
    assert identification_auprc(scores, right) == expected
    with pytest.raises(ValueError, match="at least one neuron"):
        identification_auprc(scores, np.full(5, -1))
    with pytest.raises(ValueError, match="an index for each of 5 neurons"):
        identification_auprc(scores, right[:4])
    with pytest.raises(ValueError, match="in 0 to 3, or is -1"):
        identification_auprc(scores, right + 1)


def choose_by_loops(name, alphas, lams) -> tuple[float, float, float]:
    """Try everything, one call of `evals.score` each; the first of the best."""
    row = evals.find_metric(name)
    truth = np.zeros((N_NEURONS, N_CONCEPTS), dtype=bool)
    truth[np.arange(N_NEURONS), RIGHT] = True
    tried = []
    for alpha in alphas if "alpha" in row.needs else [np.nan]:
        for lam in lams if "lam" in row.needs else [np.nan]:
            scores = evals.score(
                name, NEURONS, LABELS, alpha=alpha, lam=1 if np.isnan(lam) else lam, seed=5
            )
            finite = scores.fillna(-1e300).values
            tried.append((sk.average_precision_score(truth.ravel(), finite.ravel()), alpha, lam))
    best = max(value for value, _, _ in tried)
    return next(point for point in tried if point[0] > best - 1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 3])
def test_what_is_chosen_is_the_first_best_of_all(workers):
    alphas, lams = (0.5, 0.02, 0.1, 0.3), (0.0, 0.1, 0.7, 0.9, 1.0)
    names = list(evals.list_metrics())
    chosen = choose_parameters(NEURONS, LABELS, RIGHT, names, alphas, lams, seed=5, workers=workers)
    assert chosen.metric.values.tolist() == names
    for name in names:
        auprc, alpha, lam = choose_by_loops(name, alphas, lams)
        got = chosen.sel(metric=name)
        assert got.auprc == pytest.approx(auprc, rel=1e-12)
        np.testing.assert_array_equal([got.alpha, got.lam], [alpha, lam])


def test_the_choice_is_one_of_several():
    """The test above would say little if every choice fell on the first point."""
    chosen = choose_parameters(NEURONS, LABELS, RIGHT, ["wpmi", "iou"], seed=5)
    assert chosen.lam.sel(metric="wpmi") not in (0, 1)
    assert chosen.alpha.sel(metric="iou") not in (ALPHAS[0], ALPHAS[-1])


def test_parameters_are_ready_for_each_metric():
    chosen = choose_parameters(NEURONS, LABELS, RIGHT, ["cosine", "wpmi", "iou"], [0.1], [0.25])
    assert chosen_parameters(chosen, seed=4) == {
        "cosine": Parameters(alpha=None, lam=1.0, seed=4),
        "wpmi": Parameters(alpha=0.1, lam=0.25, seed=4),
        "iou": Parameters(alpha=0.1, lam=1.0, seed=4),
    }


def test_binary_neurons_need_no_alpha():
    bits = NEURONS > 0.9
    chosen = choose_parameters(bits, LABELS, RIGHT, ["iou", "wpmi"], alphas=())
    assert chosen.alpha.isnull().all()
    scores = evals.score("iou", bits, LABELS)
    assert chosen.auprc.sel(metric="iou") == identification_auprc(scores, RIGHT)


def test_a_neuron_without_a_known_concept_does_not_choose():
    right = np.where(np.arange(N_NEURONS) == 2, -1, RIGHT)
    others = np.delete(np.arange(N_NEURONS), 2)
    got = choose_parameters(NEURONS, LABELS, right, ["auprc", "wpmi"])
    named = NEURONS.assign_coords(neuron=np.arange(N_NEURONS)).isel(neuron=others)
    xr.testing.assert_identical(
        got, choose_parameters(named, LABELS, RIGHT[others], ["auprc", "wpmi"])
    )
    with pytest.raises(ValueError, match="an index for each of 6 neurons"):
        choose_parameters(NEURONS, LABELS, RIGHT[:5], ["iou"])
