"""Metrics by the rules of the published code: where they differ from their definitions."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
import xarray as xr
from scipy import stats
from sklearn import metrics as sk

import evals
from evals import identify_neurons, sanity_check, schemas, score_explanations
from evals.identification.known_neurons import (
    identification_auprc,
    original_auprc,
    original_validation_neurons,
)
from evals.sanity.protocol import CRITERION, bounds_of_scores, change_of_scores
from evals.scoring.original_rules import ORIGINAL, _draws, _neuron_ranks, metrics_by_rule
from tests.evals.data import BUILT_IN
from tests.evals.runs import FakeInput, FakeRun

N = 400
RNG = np.random.default_rng(0)
DENSE = RNG.normal(size=(N, 5))
PROBABILITY = np.clip(0.3 + 0.1 * DENSE[:, :4] + 0.2 * RNG.random((N, 4)), 0.001, 0.999)
SPARSE = np.where(RNG.random((N, 3)) < 0.01, RNG.gamma(2, size=(N, 3)), 0)
BITS = (RNG.random((N, 4)) < 0.2).astype(float)
BITS[:, 3] = 0
AT = {"alpha": 0.1, "lam": 0.7, "seed": 0}


def test_every_metric_that_is_built_in_has_its_rule():
    assert ORIGINAL.keys() == set(BUILT_IN)
    assert [row.name for row in metrics_by_rule(compat="neuroneval")] == list(evals.list_metrics())
    assert metrics_by_rule(["iou"]) == [evals.find_metric("iou")]
    with pytest.raises(ValueError, match="unknown compat 'neuronevel'; did you mean 'neuroneval'"):
        metrics_by_rule(["iou"], "neuronevel")


@pytest.mark.parametrize("name", [name for name in BUILT_IN if "top_and_random" not in name])
def test_without_ties_they_are_the_definitions_but_for_the_sample_deviation(name):
    expected = evals.find_metric(name)(DENSE, PROBABILITY, **AT)
    factor = (N - 1) / N if name in ("correlation", "spearman_correlation") else 1
    np.testing.assert_allclose(ORIGINAL[name](DENSE, PROBABILITY, **AT), factor * expected, 1e-10)


@pytest.mark.parametrize("alpha", [0.07, 0.1])
def test_a_sparse_neuron_is_active_everywhere(alpha):
    """By plain counts: the cut-off of so few active inputs is 0, and everything is at least 0."""
    labelled = BITS >= 0.5
    n_labelled = labelled.sum(axis=0)
    everything = np.ones((SPARSE.shape[1], 1))
    expected = {
        "recall": n_labelled / N,
        "precision": np.where(n_labelled > 0, 1.0, 0.0),
        "f1_score": 2 * n_labelled / (N + n_labelled),
        "iou": n_labelled / N,
        "accuracy": n_labelled / N,
        "balanced_accuracy": n_labelled / N / 2,
        "inverse_balanced_accuracy": np.where(n_labelled > 0, 1.0, 0.0) / 2,
        "auc": np.zeros(4),
        "auprc": np.ones(4),
    }
    for name, values in expected.items():
        got = ORIGINAL[name](SPARSE, BITS, alpha=alpha)
        np.testing.assert_allclose(got, everything * values, atol=1e-12, err_msg=name)
    assert (evals.find_metric("recall")(SPARSE, BITS, alpha=alpha)[:, 0] != n_labelled[0] / N).all()


def test_the_number_of_active_inputs_is_that_of_floating_point():
    values = np.arange(100.0)[:, None]
    labels = (values >= 93).astype(float)  # the 7 strongest; 0.07 * 100 is above 7 in floats
    assert math.ceil(0.07 * 100) == 8
    assert ORIGINAL["recall"](values, labels, alpha=0.07)[0, 0] == 7 / 8
    assert evals.find_metric("recall")(values, labels, alpha=0.07)[0, 0] == 1


def test_what_is_undefined_is_a_number():
    constant, empty = np.ones((N, 1)), np.zeros((N, 1))
    for name in ("correlation", "cosine", "mad", "precision", "inverse_auc", "inverse_auprc"):
        assert np.isnan(evals.find_metric(name)(empty, empty, alpha=0.1)).all(), name
        assert ORIGINAL[name](empty, empty, alpha=0.1).item() == 0, name
    assert ORIGINAL["correlation"](constant, BITS[:, :1]).item() == 0
    assert ORIGINAL["wpmi"](DENSE[:, :1], empty, alpha=0.1).item() == np.inf


def test_areas_are_of_ranks_that_noise_has_ordered():
    ranks = _neuron_ranks(SPARSE, 3)
    got = ORIGINAL["inverse_auc"](SPARSE, BITS, seed=3)
    for neuron, column in enumerate(ranks.T):
        assert sorted(column.astype(int).tolist()) == list(range(N))
        for concept in range(3):
            expected = sk.roc_auc_score(BITS[:, concept], column)
            assert got[neuron, concept] == pytest.approx(expected, rel=1e-12)
    other = ORIGINAL["inverse_auc"](SPARSE, BITS, seed=4)
    assert (other[:, :3] != got[:, :3]).all()  # ties fall otherwise


def test_spearman_is_pearson_of_those_ranks():
    got = ORIGINAL["spearman_correlation"](SPARSE, PROBABILITY, seed=3)
    ranks = _neuron_ranks(SPARSE, 3)
    for neuron, concept in np.ndindex(3, 4):
        r = stats.pearsonr(ranks[:, neuron], stats.rankdata(PROBABILITY[:, concept])).statistic
        assert got[neuron, concept] == pytest.approx((N - 1) / N * r, rel=1e-9)


def test_top_and_random_draws_from_exactly_so_many_strongest():
    values = np.repeat(np.arange(500.0), 100)[:, None]  # 50,000 inputs, each value 100 times
    [(column, inputs, _)] = _draws(values, values, 0)
    assert len(inputs) == 50
    assert (column[inputs[:25]] == 499).all()  # ceil(0.002 * 50,000) = 100 strongest
    assert len(set(inputs[:25].tolist())) == len(set(inputs[25:].tolist())) == 25
    few = np.random.default_rng(1).permutation(np.arange(3000.0))[:, None] / 3000
    [(column, inputs, _)] = _draws(few, few, 0)
    assert len(inputs) == 6 + 25
    got = ORIGINAL["correlation_top_and_random"](few, few**2, seed=5)
    [(column, inputs, _)] = _draws(few, few**2, 5)
    r = stats.pearsonr(column[inputs], column[inputs] ** 2).statistic
    assert got.item() == pytest.approx(30 / 31 * r, rel=1e-9)
    ranked = ORIGINAL["spearman_correlation_top_and_random"](few, few**2, seed=5)
    assert ranked.item() == pytest.approx(30 / 31, abs=0.01)  # inputs drawn twice are tied


def test_harmonic_means_are_of_their_two_metrics():
    got = ORIGINAL["recall_auc"](DENSE, BITS, alpha=0.1, seed=2)
    recall, auc = (ORIGINAL[name](DENSE, BITS, alpha=0.1, seed=2) for name in ("recall", "auc"))
    with np.errstate(invalid="ignore"):
        np.testing.assert_array_equal(got, 2 * recall * auc / (recall + auc))


def test_blocks_do_not_matter():
    rows, activations = metrics_by_rule(compat="neuroneval"), np.hstack([DENSE, SPARSE])
    one, all_ = (
        evals.score_matrix(activations, BITS, rows, alphas=[0.1], block_size=size)
        for size in (1, 8)
    )
    xr.testing.assert_allclose(one, all_, rtol=1e-12)


@pytest.mark.parametrize("n_neurons", [40, 112, 500, 1000])
@pytest.mark.parametrize("seed", [0, 5])
def test_neurons_are_divided_as_torch_permutes(n_neurons, seed):
    torch.manual_seed(seed)
    expected = np.sort(torch.randperm(n_neurons)[: int(0.05 * n_neurons)].numpy())
    got = np.flatnonzero(original_validation_neurons(n_neurons, seed=seed))
    np.testing.assert_array_equal(got, expected)


def test_there_must_be_neurons_that_choose():
    with pytest.raises(ValueError, match=r"share = 0\.05 of 10 neurons lets 0 choose"):
        original_validation_neurons(10)


# what is undefined


def torch_auprc(scores: np.ndarray, right: np.ndarray) -> float:
    """Average precision as torcheval has it: a sort of torch, thresholds where differences are."""
    truth = torch.nn.functional.one_hot(torch.tensor(right), scores.shape[1]).flatten()
    ordered, indices = torch.sort(torch.tensor(scores).flatten(), descending=True, stable=True)
    is_last = torch.cat([ordered.diff() != 0, torch.tensor([True])])
    found = truth[indices].cumsum(0)[is_last]
    wrong = (1 - truth[indices]).cumsum(0)[is_last]
    recall = torch.cat([torch.zeros(1), found / found[-1]])
    return float((recall.diff() * found / (found + wrong)).sum())


def test_undefined_scores_rank_first_as_in_torch_and_last_by_definition():
    rng, undefined = np.random.default_rng(0), [np.nan, np.inf, -np.inf]
    for _ in range(100):
        shape = rng.integers(2, 7, 2)
        scores = rng.choice([*undefined, 0.25, 0.5, 0.75, 1.0], shape)
        right = rng.integers(0, shape[1], shape[0])
        assert original_auprc(scores, right) == pytest.approx(torch_auprc(scores, right), abs=1e-6)
        finite = np.nan_to_num(scores, nan=-2, posinf=3, neginf=-3)
        same = identification_auprc(finite, right)
        assert original_auprc(finite, right) == same == pytest.approx(torch_auprc(finite, right))
    first = np.array([[0.9, np.nan], [np.nan, 0.8]])
    assert original_auprc(first, np.array([0, 1])) == pytest.approx((1 / 3 + 2 / 4) / 2)
    assert identification_auprc(first, np.array([0, 1])) == 1
    some = np.array([[0.9, np.nan], [0.1, 0.2]])
    assert original_auprc(some, np.array([0, -1])) == 0.5  # of the first neuron alone


def test_a_change_is_undefined_as_in_torch_and_no_fall():
    one = np.array([0.5, np.nan, 1.0, np.inf, 0.2])
    other = np.array([0.1, 0.1, np.nan, np.inf, np.inf])
    for parts in ([one, other], [one[[0, 2, 4]], other[[0, 1]]], [one[[0]], other[[0, 3]]]):
        low, high = bounds_of_scores(parts, compat=True)
        together = torch.tensor(np.concatenate(parts))
        np.testing.assert_equal([low, high], [float(together.min()), float(together.max())])
        expected = (torch.tensor(other) - torch.tensor(one)) / (together.max() - together.min())
        change = change_of_scores(one, other, (low, high), compat=True)
        np.testing.assert_array_equal(change, expected)
        falls = CRITERION.falls(change)
        np.testing.assert_array_equal(falls, expected < -CRITERION.epsilon)
    plain = change_of_scores(one, other, (0, 1), compat=True)
    assert CRITERION.falls(plain).tolist() == [True, False, False, False, False]
    assert CRITERION.falls(change_of_scores(one, other, (0, 1))).tolist()[2]


# stages


@pytest.fixture
def inputs(tmp_path):
    """Thirty sparse neurons that each know one of thirty labels of 300 images."""
    rng = np.random.default_rng(7)
    labels = rng.random((300, 30)) < 0.1
    activation = np.where(labels, rng.gamma(3, size=labels.shape), 0)
    activation[rng.random(labels.shape) < 0.02] = 1
    images, names = [f"test/{i}" for i in range(300)], [f"label {i}" for i in range(30)]
    neurons = xr.Dataset(
        {
            "activation": (("image", "neuron"), activation),
            "name": ("neuron", [f"neuron {i}" for i in range(30)]),
            "right_concept": ("neuron", names),
        },
        {"image": images, "neuron": np.arange(30)},
    )
    known = xr.Dataset({"present": (("input", "label"), labels)}, {"input": images, "label": names})
    return {
        "activations": FakeInput.of(neurons, tmp_path / "neurons.nc"),
        "labels": FakeInput.of(known, tmp_path / "labels.nc"),
    }


def test_scores_say_whose_rules_they_follow(inputs, tmp_path):
    config = score_explanations.Config(metrics=("recall", "auc"), alpha=0.5, compat="neuroneval")
    scores = score_explanations.stage(config, inputs, FakeRun(tmp_path / "run", schemas.SCORES))
    schemas.SCORES.check(scores)
    assert scores.compat.item() == "neuroneval"
    labels = inputs["labels"].open().present
    share = labels.mean("input").values
    np.testing.assert_allclose(scores.score.sel(metric="recall"), np.tile(share, (30, 1)))
    assert not score_explanations.stage.settings.rules.hashed({"compat": ""})


def test_known_neurons_are_divided_by_their_split_or_one_that_is_given(inputs, tmp_path):
    run = FakeRun(tmp_path / "run", schemas.IDENTIFICATION)
    same = {"metrics": ("iou", "spearman_correlation"), "alphas": (0.05, 0.5), "share": 0.1}
    config = identify_neurons.Config(**same, compat="neuroneval", n_splits=2)
    found = identify_neurons.stage(config, inputs, run)
    schemas.IDENTIFICATION.check(found)
    for split, seed in enumerate(found.seed.values):
        expected = original_validation_neurons(30, 0.1, int(seed))
        np.testing.assert_array_equal(found.is_choosing[:, split], expected)
    resolve = identify_neurons.stage.resolve
    for chosen in (["3", "17"], [17, 3], ["neuron 3", 17]):
        given = identify_neurons.stage(resolve({**same, "choosing": chosen}), inputs, run)
        assert np.flatnonzero(given.is_choosing[:, 0]).tolist() == [3, 17]
    assert "compat" not in given
    unknown = identify_neurons.Config(**same, choosing=("3", "170"))
    with pytest.raises(ValueError, match="no neuron '170' of known concept; did you mean '17'"):
        identify_neurons.stage(unknown, inputs, run)


def test_an_empty_label_counts_as_there_where_their_rules_are_asked_for(inputs, tmp_path):
    """By the definitions it ranks last and falls to 0; in torch it ranks first and hides falls."""
    labels = inputs["labels"].open().load()
    labels["present"][:, 5] = False
    labels["present"][1:, 6] = False
    changed = inputs | {"labels": FakeInput.of(labels, tmp_path / "emptied.nc")}
    run = FakeRun(tmp_path / "run", schemas.IDENTIFICATION)
    same = {"metrics": ("wpmi", "recall_inverse_auc"), "alphas": (0.05,), "lams": (0.0, 0.5)}
    config = identify_neurons.Config(**same, choosing=("0", "1"), compat="neuroneval")
    found = identify_neurons.stage(config, changed, run)
    tested = np.arange(2, 30)
    activations = changed["activations"].open().activation.values.astype(float)
    for name in same["metrics"]:
        chosen = found.sel(metric=name, seed=0)
        options = {"alpha": 0.05, "lam": float(chosen.lam.fillna(1)), "seed": 0}
        theirs = ORIGINAL[name](
            activations[:, tested], labels.present.values.astype(float), **options
        )
        assert not np.isfinite(theirs).all()
        expected = torch_auprc(np.asarray(theirs), tested)
        assert chosen.split_auprc == pytest.approx(expected, abs=1e-6)
    run = FakeRun(tmp_path / "sanity", schemas.SANITY)
    same |= {"validation_share": 0.1, "metrics": ("wpmi",), "seeds": (1,)}
    config = sanity_check.Config(**same, experimental_compat="neuroneval")
    theirs = sanity_check.stage(config, changed, run)
    ours = sanity_check.stage(sanity_check.Config(**same), changed, run)
    real = {"form": "experimental", "test": "missing", "metric": "wpmi"}
    assert theirs.decrease_accuracy.sel(**real) == 0
    assert ours.decrease_accuracy.sel(**real) > 0.8


def test_sanity_on_real_neurons_follows_them_too(inputs, tmp_path):
    run = FakeRun(tmp_path / "run", schemas.SANITY)
    same = {"metrics": ("recall", "correlation_top_and_random"), "validation_share": 0.1}
    config = sanity_check.Config(**same, alphas=(0.5,), experimental_compat="neuroneval")
    theirs = sanity_check.stage(config, inputs, run)
    ours = sanity_check.stage(sanity_check.Config(**same, alphas=(0.5,)), inputs, run)
    assert theirs.variant.item().endswith("; experimental: rules of neuroneval")
    real = {"form": "experimental", "test": "missing"}
    # all is active at the cut-off 0, so that recall is the share of labels; half of a tenth is lost
    assert theirs.mean_change.sel(metric="recall", **real) == pytest.approx(-0.05, abs=0.01)
    assert ours.mean_change.sel(metric="recall", **real) < -0.3


def single_precision_wpmi(activations: np.ndarray, labels: np.ndarray, alpha: float) -> np.ndarray:
    """Mean over active inputs of the log of labels, as it comes out in single precision."""
    values, given = (torch.tensor(one, dtype=torch.float32) for one in (activations, labels))
    strongest = torch.topk(values, math.ceil(alpha * len(values)), dim=0).values[-1]
    active = (values >= strongest).float()
    return ((active.T @ torch.log(given.clamp(min=1e-8))) / active.sum(0)[:, None]).numpy()


def test_wpmi_differs_from_single_precision_only_in_how_equal_counts_are_rounded():
    """By counts: what is ordered otherwise misses the label on equally many active inputs."""
    rng = np.random.default_rng(0)
    labels = (rng.random((50, 60)) < rng.uniform(0.05, 0.5, 60))[rng.integers(0, 50, 2000)]
    labels = labels.astype(float)
    values = (2 * labels + rng.normal(0, 1.5, labels.shape)).astype(np.float32).astype(float)
    right, n_active = np.arange(60), math.ceil(0.1 * 2000)
    active = values >= -np.sort(-values, axis=0)[n_active - 1]
    missed = active.T.astype(int) @ (1 - labels).astype(int)
    order = rng.permutation(2000)
    kinds = {
        "ours": ORIGINAL["wpmi"](values, labels, alpha=0.1, lam=0.0),
        "ours, other rows": ORIGINAL["wpmi"](values[order], labels[order], alpha=0.1, lam=0.0),
        "single": single_precision_wpmi(values, labels, 0.1),
        "single, other rows": single_precision_wpmi(values[order], labels[order], 0.1),
    }
    places = np.argsort(missed, axis=None, kind="stable")
    for name, scores in kinds.items():
        np.testing.assert_allclose(scores, missed * np.log(1e-8) / n_active, 1e-5, err_msg=name)
        by_count = np.split(scores.ravel()[places], np.unique(np.sort(missed, None), True)[1][1:])
        assert all(a.min() > b.max() for a, b in itertools.pairwise(by_count)), name
        assert any(len(np.unique(own)) > 1 for own in by_count), name  # equal counts fall apart
    found = {name: original_auprc(scores, right) for name, scores in kinds.items()}
    assert len({round(float(one), 5) for one in found.values()}) > 1
    tied = original_auprc(-missed.astype(float), right)
    assert all(abs(one - tied) < 0.01 for one in found.values())
