"""Names: halves, ranks, intervals and margins against plain loops."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import xarray as xr

import evals
from evals.metrics.table import Parameters
from evals.naming.choice import rank_labels
from evals.naming.halves import halve_inputs
from evals.naming.naming import Namer, NamingOptions, choose_names, join_names

METRICS = ["correlation", "iou", "auprc", "inverse_auc"]
N_INPUTS = 101
IDS = np.array([f"test/{i:03d}" for i in range(N_INPUTS)])
PARAMETERS = Parameters(alpha=0.1)
FEW = {"n_permutations": 19, "min_positives": 5, "min_active": 5}
OPTIONS = NamingOptions(PARAMETERS, n_bootstrap=40, n_ranks=3, seed=4, **FEW)


def make_pair():
    rng = np.random.default_rng(1)
    labels = rng.random((N_INPUTS, 6)) < 0.3
    presence = labels[:, [0, 1, 2, 3]] * rng.gamma(1, size=(N_INPUTS, 4))
    presence += rng.random(presence.shape) * 0.5
    presence[:, 3] = 0
    return (
        xr.DataArray(presence, dims=("image", "concept"), coords={"image": IDS}),
        xr.DataArray(
            labels, dims=("input", "label"), coords={"input": IDS, "label": list("abcdef")}
        ),
    )


PRESENCE, LABELS = make_pair()


def test_halves_are_disjoint_and_by_name():
    first, second = halve_inputs(IDS, seed=4)
    assert sorted([*first, *second]) == list(range(N_INPUTS))
    assert (len(first), len(second)) == (51, 50)
    order = np.random.default_rng(0).permutation(N_INPUTS)
    again, _ = halve_inputs(IDS[order], seed=4)
    assert set(IDS[order][again]) == set(IDS[first])
    assert set(halve_inputs(IDS, seed=5)[0]) != set(first)


def test_names_are_chosen_on_one_half_and_scored_on_the_other():
    named = choose_names(PRESENCE, LABELS, METRICS, OPTIONS)
    first, second = halve_inputs(IDS, OPTIONS.seed)
    for metric in METRICS:
        chosen = evals.score(metric, PRESENCE[first], LABELS[first], alpha=0.1)
        scored = evals.score(metric, PRESENCE[second], LABELS[second], alpha=0.1)
        undefined = np.isnan(chosen.values).sum(axis=1)
        undefined[3] = 6  # active on too few inputs
        np.testing.assert_array_equal(named.undefined.sel(metric=metric), undefined)
        assert named.undefined_share.sel(metric=metric) == undefined.sum() / chosen.size
        for concept in range(4):
            got = named.sel(metric=metric, concept=concept)
            if concept == 3:  # dead
                assert got["name"] == ""
                assert got.top_label.values.tolist() == [""] * 3
                assert got.score.isnull()
                assert got.margin.isnull()
                continue
            best = chosen[concept][np.argsort(-chosen[concept].values, kind="stable")[:3]]
            assert got.top_label.values.tolist() == best.concept.values.tolist()
            assert got["name"] == best.concept.values[0]
            np.testing.assert_array_equal(got.chosen_score, best)
            other = scored[concept].sel(concept=best.concept.values).values
            np.testing.assert_array_equal(got.top_score, other)
            assert got.score == other[0]
            assert got.margin == other[0] - other[1]


def test_intervals_are_those_of_redrawn_inputs():
    named = choose_names(PRESENCE, LABELS, METRICS, OPTIONS)
    _, second = halve_inputs(IDS, OPTIONS.seed)
    draws = np.random.default_rng([4, 1]).multinomial(50, np.full(50, 1 / 50), 40)
    for metric in METRICS:
        row = evals.find_metric(metric)
        name = named.name.sel(metric=metric, concept=1).item()
        a = PRESENCE.values[second][:, [1]]
        c = LABELS.sel(label=name).values[second][:, None].astype(float)
        scores = [
            row(np.repeat(a, w, axis=0), np.repeat(c, w, axis=0), alpha=0.1)[0, 0] for w in draws
        ]
        low, high = np.nanquantile(scores, [0.025, 0.975])
        got = named.sel(metric=metric, concept=1)
        np.testing.assert_allclose([got.interval_low, got.interval_high], [low, high], rtol=1e-9)
        assert low < high


@pytest.mark.parametrize("options", [{"block_size": 1}, {"workers": 2}, {"block_size": 3}])
def test_blocks_and_threads_do_not_matter(options):
    expected = choose_names(PRESENCE, LABELS, METRICS, OPTIONS)
    changed = replace(OPTIONS, **options)
    xr.testing.assert_identical(choose_names(PRESENCE, LABELS, METRICS, changed), expected)


def test_order_of_inputs_does_not_matter():
    order = np.random.default_rng(2).permutation(N_INPUTS)
    options = NamingOptions(PARAMETERS, n_bootstrap=0, seed=4, **FEW)
    expected = choose_names(PRESENCE, LABELS, METRICS, options)
    shuffled = choose_names(PRESENCE[order], LABELS, METRICS, options)
    xr.testing.assert_allclose(shuffled, expected, rtol=1e-12)
    assert expected.interval_low.isnull().all()


def test_more_ranks_than_labels():
    options = NamingOptions(PARAMETERS, n_bootstrap=0, n_ranks=9, **FEW)
    named = choose_names(PRESENCE, LABELS, ["cosine"], options)
    assert (named.top_label[1, 0] == "").sum() == 3
    assert named.top_score[1, 0].isnull().sum() == 3


def test_the_first_of_equal_labels_is_the_name():
    twins = xr.concat([LABELS[:, [2]], LABELS[:, [0]]], "label").assign_coords(label=["x", "y"])
    both = xr.concat([twins, twins.assign_coords(label=["z", "w"])], "label").transpose()
    named = choose_names(PRESENCE, both, METRICS, OPTIONS)
    assert named.name[0].values.tolist() == ["y"] * 4
    assert named.top_label[0, :, 1].values.tolist() == ["w"] * 4
    assert (named.margin[0] == 0).all()
    assert named.tied.values.tolist() == [[1] * 4, [1] * 4, [1] * 4, [0] * 4]
    assert named.tied_share == 1


def test_scores_that_differ_by_rounding_are_equal():
    scores = np.array([[0.3, 0.5, 0.5 * (1 + 3e-16), np.nan], [-1.0, -1 - 1e-9, np.inf, -2]])
    found = rank_labels(scores, np.zeros(2, dtype=bool), 3, right=np.array([1, 3]))
    assert found["best"].tolist() == [[1, 2, 0], [0, 1, 3]]
    assert found["tied"].tolist() == [1, 0]
    assert found["undefined"].tolist() == [1, 1]
    assert found["right_rank"].tolist() == [0, 2]


def test_shares():
    named = choose_names(PRESENCE, LABELS, METRICS, OPTIONS)
    assert named.named_share == 0.75  # concept 3 is dead
    assert named.silent.values.tolist() == [False] * 3 + [True]
    assert named.n_silent == 1
    agreeing = (named.name[:3] == named.name[:3, 0]).all("metric")
    assert named.agreeing_share == pytest.approx(float(agreeing.mean()))
    assert named.n_names == len(set(named.name.values.ravel()) - {""})
    assert named.consensus_share == 0.75
    assert named.n_consensus_names == len(set(named.consensus.values) - {""})


def test_the_consensus_is_of_metrics_that_pass():
    sanity = {"correlation": "passes", "iou": "fails", "auprc": "undecided"}
    named = choose_names(PRESENCE, LABELS, METRICS, OPTIONS, sanity=sanity)
    assert named.verdict.values.tolist() == ["passes", "fails", "undecided", "untested"]
    assert named.votes.values.tolist() == [True, False, False, False]
    assert named.n_voting == 1
    assert named.consensus.values.tolist() == named.name.sel(metric="correlation").values.tolist()
    assert named.consensus_votes.values.tolist() == [1, 1, 1, 0]
    assert named.unanimous_share == 1
    none = choose_names(PRESENCE, LABELS, METRICS, OPTIONS, sanity={})
    assert none.consensus_share == 0
    assert none.unanimous_share.isnull()
    exact = choose_names(PRESENCE, LABELS, METRICS, OPTIONS)
    assert exact.verdict.values.tolist() == ["passes", "passes", "passes", "fails"]
    assert exact.votes.values.tolist() == [True, True, True, False]


def test_the_consensus_is_scored_by_every_metric_on_the_scoring_half():
    named = choose_names(PRESENCE, LABELS, METRICS, OPTIONS, sanity={"auprc": "passes"})
    _, second = halve_inputs(IDS, OPTIONS.seed)
    for metric in METRICS:
        scored = evals.score(metric, PRESENCE[second], LABELS[second], alpha=0.1)
        for concept in range(3):
            label = named.consensus.values[concept]
            expected = scored.sel(neuron=concept, concept=label)
            assert named.consensus_score.sel(concept=concept, metric=metric) == expected
    assert named.consensus_score[3].isnull().all()


def test_right_names_are_counted_where_the_right_label_is_known():
    right = xr.DataArray(["a", "f", "", "a"], dims="concept", coords={"concept": range(4)})
    named = choose_names(PRESENCE, LABELS, METRICS, OPTIONS, right=right[::-1])
    assert named.right_label.values.tolist() == ["a", "f", "", "a"]
    assert named.n_right_known == 3  # the dead concept's name is wrong
    assert named.name[:, 0].values[:2].tolist() == ["a", "b"]
    np.testing.assert_allclose(named.right_share.sel(metric="correlation"), 1 / 3)
    assert named.consensus_right_share == pytest.approx(1 / 3)
    first, _ = halve_inputs(IDS, OPTIONS.seed)
    scores = evals.score("correlation", PRESENCE[first], LABELS[first])[1].values
    rank = named.right_rank.sel(metric="correlation")
    assert rank.values.tolist() == [0, (scores > scores[5]).sum(), -1, -1]
    strange = choose_names(PRESENCE, LABELS, METRICS, OPTIONS, right=right.copy(data=["?"] * 4))
    assert strange.n_right_known == 0
    assert strange.right_share.isnull().all()
    with pytest.raises(ValueError, match="'aa' of neuron 1 is no label; did you mean 'a'"):
        choose_names(PRESENCE, LABELS, METRICS, OPTIONS, right=right.copy(data=["a", "aa", "", ""]))


def test_parts_do_not_matter(monkeypatch):
    expected = choose_names(PRESENCE, LABELS, METRICS, OPTIONS)
    monkeypatch.setattr("evals.naming.naming.PART_VALUES", 3 * N_INPUTS)
    naming = Namer.of(PRESENCE, LABELS, METRICS, OPTIONS)
    parts = list(naming.parts())
    assert [part.sizes["concept"] for part in parts] == [3, 1]
    assert [part.sizes["concept"] for part in naming.parts(first=1)] == [1]
    chance = naming.test()
    whole = join_names(naming.parts(chance=chance))
    whole = whole.merge(naming.summarise(whole, chance))
    xr.testing.assert_allclose(whole, expected, rtol=1e-12)


def test_a_strangers_metric_names_too():
    def overlap(activations, labels):
        return (activations.T @ labels) / labels.sum(axis=0)

    named = choose_names(PRESENCE, LABELS, [evals.Metric("overlap", overlap)], OPTIONS)
    assert named.name[:3, 0].values.tolist() == ["a", "b", "c"]
    assert (named.interval_low[:3] < named.interval_high[:3]).all()
    assert named.lower.isnull().all()
    assert named.verdict.values.tolist() == ["untested"]  # a function of arrays
    assert not named.votes.any()
    assert (named.consensus == "").all()
    assert (named.score_p[:3] == 0.05).all()


def test_naming_needs_named_inputs():
    with pytest.raises(ValueError, match="at least two named inputs"):
        choose_names(PRESENCE.drop_vars("image"), LABELS.drop_vars("input"), METRICS, OPTIONS)
