"""What chance gives, against permutations made by hand; then on noise, and on known truth."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
import xarray as xr
from scipy import stats

import evals
from evals.metrics.table import Parameters
from evals.naming.chance import Budget, Clock, Comparison, Permutations, combine, usual_deviation
from evals.naming.naming import (
    Namer,
    NamingOptions,
    choose_names,
    halve_inputs,
    sequences_of,
)
from evals.naming.verdicts import judge

VOTING = ["correlation", "iou", "auprc"]
METRICS = ["recall", *VOTING, "correlation_top_and_random", "wpmi"]
SANITY = dict.fromkeys(VOTING, "passes") | {"recall": "fails"}
ALPHA, N_PERMUTATIONS, SEED = 0.2, 19, 3
OPTIONS = NamingOptions(
    Parameters(alpha=ALPHA, seed=0),
    n_bootstrap=0,
    n_ranks=3,
    seed=SEED,
    n_permutations=N_PERMUTATIONS,
    min_positives=4,
    min_active=3,
)


def make(
    n_inputs: int, n_noise: int, seed: int = 0, n_labels: int = 6
) -> tuple[xr.DataArray, xr.DataArray]:
    """Return concepts of which the first two follow a label, then noise; labels that correlate."""
    rng = np.random.default_rng(seed)
    labels = rng.random((n_inputs, n_labels)) < np.linspace(0.15, 0.5, n_labels)
    labels[:, 1] |= labels[:, 0]
    noise = np.maximum(rng.normal(size=(n_inputs, n_noise)), 0)
    caused = labels[:, [2, 3]] * rng.gamma(4, size=(n_inputs, 2))
    presence = np.hstack([caused + 0.3 * rng.random((n_inputs, 2)), noise])
    ids = [f"test/{i:05d}" for i in range(n_inputs)]
    names = [f"label {i}" for i in range(n_labels)]
    return (
        xr.DataArray(presence, dims=("image", "concept"), coords={"image": ids}),
        xr.DataArray(labels, dims=("input", "label"), coords={"input": ids, "label": names}),
    )


# -- against loops --------------------------------------------------------------------------------


class ByHand:
    """The same test, one permutation and one concept after another, by plain Python."""

    def __init__(self, presence: xr.DataArray, labels: xr.DataArray):
        self.presence, self.labels = presence, labels
        self.halves = halve_inputs(presence["image"].values, SEED)
        totals = [labels.values[half].sum(axis=0) for half in self.halves]
        self.rare = [min(pair) < OPTIONS.min_positives for pair in zip(*totals, strict=True)]
        draws = [self._draw(number) for number in range(N_PERMUTATIONS + 1)]
        self.found = [[draw[concept] for draw in draws] for concept in range(presence.shape[1])]

    def _draw(self, number: int) -> list[dict[str, float]]:
        scores = []
        for which, half in enumerate(self.halves):
            own = self.labels.values[half]
            if number:
                ids = self.presence["image"].values[half]
                own = own[Permutations(ids, SEED).draw(number, which)]
            held = self.labels[half].copy(data=own)
            scored = [evals.score(m, self.presence[half], held, alpha=ALPHA) for m in METRICS]
            scores.append(np.stack(scored))
        return [self._name(*(half[:, c] for half in scores)) for c in range(scores[0].shape[1])]

    def _name(self, chosen: np.ndarray, scored: np.ndarray) -> dict[str, float]:
        """Name one concept by scores (metric, label) of both halves."""
        known = [[i for i, x in enumerate(own) if x == x and not self.rare[i]] for own in chosen]
        ranked = [
            sorted(labels, key=lambda i, own=own: (-round(own[i], 11), i))
            for labels, own in zip(known, chosen, strict=True)
        ]
        voters = [METRICS.index(name) for name in VOTING]
        votes = Counter(ranked[m][0] for m in voters)

        def support(label: int) -> float:
            places = [ranked[m].index(label) for m in voters if label in ranked[m]]
            return sum(1 / (place + 1) for place in places if place < OPTIONS.n_ranks)

        best = min(votes, key=lambda label: (-votes[label], -round(support(label), 9), label))
        found = {"votes": float(votes[best])}
        for m, name in enumerate(METRICS):
            found["score", name] = scored[m][ranked[m][0]]
            found["margin", name] = scored[m][ranked[m][0]] - scored[m][ranked[m][1]]
            found["consensus_score", name] = scored[m][best]
        return found

    def values(self, what: object) -> list[list[float]]:
        """Return a statistic by concept and draw, the data first."""
        if what != "consensus":
            return [[draw[what] for draw in draws] for draws in self.found]
        of = [self.excess(self.values(("consensus_score", name))) for name in VOTING]
        return np.mean(of, axis=0).tolist()

    @staticmethod
    def excess(values: list[list[float]]) -> list[list[float]]:
        """Return each draw above the mean of its concept's other draws, in their deviations.

        None is smaller than the root mean square, over concepts, of that without the furthest draw.
        """
        others = [[own[:i] + own[i + 1 :] for i in range(len(own))] for own in values]
        spread = [[float(np.std(rest)) for rest in own] for own in others]
        usual = [least for least in map(min, spread) if least > 1e-9]
        floor = (sum(least**2 for least in usual) / len(usual)) ** 0.5
        return [
            [
                (x - np.mean(rest)) / max(deviation, floor)
                for x, rest, deviation in zip(*parts, strict=True)
            ]
            for parts in zip(values, others, spread, strict=True)
        ]

    def p(self, what: object) -> list[float]:
        return [self._p(own, 0) for own in self.values(what)]

    @staticmethod
    def _p(own: list[float], draw: int) -> float:
        return sum(x >= own[draw] - 1e-11 for x in own) / len(own)

    def family_p(self, what: object) -> list[float]:
        values = self.values(what)
        ranks = [
            [(self._p(own, draw), -round(z, 9)) for draw, z in enumerate(further)]
            for own, further in zip(values, self.excess(values), strict=True)
        ]
        smallest = [min(of_draw) for of_draw in zip(*ranks, strict=True)]
        return [sum(own[0] >= least for least in smallest) / len(smallest) for own in ranks]


@pytest.fixture(scope="module")
def pair():
    return make(n_inputs=90, n_noise=4)


@pytest.fixture(scope="module")
def named(pair):
    return choose_names(*pair, METRICS, OPTIONS, sanity=SANITY)


@pytest.fixture(scope="module")
def by_hand(pair):
    return ByHand(*pair)


@pytest.mark.parametrize("statistic", ["score", "margin", "consensus_score"])
@pytest.mark.parametrize("metric", METRICS)
def test_p_is_that_of_permutations_by_hand(named, by_hand, statistic, metric):
    own = named.sel(metric=metric)
    np.testing.assert_allclose(own[f"{statistic}_p"], by_hand.p((statistic, metric)), rtol=1e-12)
    expected = by_hand.family_p((statistic, metric))
    np.testing.assert_allclose(own[f"{statistic}_family_p"], expected, rtol=1e-12)


@pytest.mark.parametrize("statistic", ["votes", "consensus"])
def test_votes_and_consensus_have_their_null(named, by_hand, statistic):
    np.testing.assert_allclose(named[f"{statistic}_p"], by_hand.p(statistic), rtol=1e-12)
    if statistic == "consensus":
        np.testing.assert_allclose(named.consensus_family_p, by_hand.family_p("consensus"))


def test_what_chance_gives_is_a_quantile_of_the_permutations(named, by_hand):
    for metric in METRICS:
        drawn = np.array(by_hand.values(("score", metric)))[:, 1:]
        expected = np.sort(drawn, axis=1)[:, math.ceil(0.95 * N_PERMUTATIONS) - 1]
        got = named.score_by_chance.sel(metric=metric)
        np.testing.assert_allclose(got, expected, rtol=1e-11)


def test_verdicts_follow_from_p(named):
    for of, name in (("score", "chance"), ("consensus", "consensus_chance")):
        p, family = named[f"{of}_p"].values, named[f"{of}_family_p"].values
        expected = np.where(p > 0.05 + 1e-9, "at chance", "undecided")
        expected = np.where(family <= 0.05 + 1e-9, "above chance", expected)
        np.testing.assert_array_equal(named[name].values, expected)
    assert named.n_permutations == N_PERMUTATIONS
    assert named.n_tested == 6
    assert judge(np.array([np.nan]), np.array([np.nan]), 0.05).tolist() == [""]


# -- whatever the order, the blocks, the threads --------------------------------------------------


@pytest.mark.parametrize(
    "change", [{"block_size": 1}, {"block_size": 4, "workers": 2}, {"CHUNK_VALUES": 500}, "alone"]
)
def test_blocks_chunks_and_threads_do_not_matter(pair, named, change, monkeypatch):
    options = OPTIONS
    if change == "alone":
        monkeypatch.setattr("evals.naming.chance.LABELS_AT_ONCE", 1)
    elif "CHUNK_VALUES" in change:
        monkeypatch.setattr("evals.naming.chance.CHUNK_VALUES", change["CHUNK_VALUES"])
    else:
        options = NamingOptions(**{**vars(OPTIONS), **change})
    xr.testing.assert_allclose(choose_names(*pair, METRICS, options, sanity=SANITY), named)


def test_neither_the_order_of_inputs_nor_sparse_storage_matters(pair, named):
    presence, labels = pair
    order = np.random.default_rng(1).permutation(len(presence))
    moved = choose_names(presence[order], labels, METRICS, OPTIONS, sanity=SANITY)
    xr.testing.assert_allclose(moved, named, rtol=1e-9)
    rare = xr.concat([labels, labels.sum("label").expand_dims(label=["none"]) < 0], "label")
    few = presence.where(presence > np.quantile(presence.values, 0.97), 0)
    options = NamingOptions(**{**vars(OPTIONS), "min_active": 1})
    held = choose_names(few, rare.transpose("input", "label"), VOTING, options, sanity=SANITY)
    dense = choose_names(few + 1.0, rare.transpose("input", "label"), ["iou"], options)
    np.testing.assert_array_equal(held.score_p.sel(metric="iou"), dense.score_p.sel(metric="iou"))


def test_more_permutations_begin_with_the_same():
    ids = np.array(["c", "a", "b", "d"])
    drawn = Permutations(ids, seed=0)
    one = drawn.draw(5)
    order = np.array([2, 0, 3, 1])
    moved = Permutations(ids[order], seed=0).draw(5)
    assert dict(zip(ids, ids[one], strict=True)) == dict(
        zip(ids[order], ids[order][moved], strict=True)
    )
    assert sorted(one) == [0, 1, 2, 3]
    seen = {tuple(drawn.draw(number)) for number in range(200)}
    assert len(seen) == 24


# -- sequences ------------------------------------------------------------------------------------


def test_sequences_change_places_whole():
    ids = np.array([f"text/{s}/{i}" for s, size in enumerate([3, 2, 3, 2, 4]) for i in range(size)])
    groups = sequences_of(ids)
    drawn = Permutations(ids, 0, groups)
    moved = [ids[drawn.draw(number)] for number in range(40)]
    for to in moved:
        assert sorted(to) == sorted(ids)
        for group in np.unique(groups):
            own = to[groups == group]
            assert len(set(sequences_of(own))) == 1
            assert [one[-1] for one in own] == [str(i) for i in range(len(own))]
    assert all((to[-4:] == ids[-4:]).all() for to in moved)  # the only one of its length
    assert len({tuple(to) for to in moved}) == 4
    halves = halve_inputs(ids, 1, groups)
    assert not set(groups[halves[0]]) & set(groups[halves[1]])
    assert sorted(np.concatenate(halves)) == list(range(len(ids)))


def test_positions_of_one_text_are_no_evidence():
    """Labels and concepts that hold throughout a text look related; sequences do not."""
    found = {}
    for by_sequence in (False, True):
        verdicts = []
        for seed in range(2):
            rng = np.random.default_rng(seed)
            n_texts, length = 40, 8
            ids = [f"web/{t:03d}/{i:02d}" for t in range(n_texts) for i in range(length)]
            labels = np.repeat(rng.random((n_texts, 8)) < 0.3, length, axis=0)
            presence = np.repeat(rng.gamma(1, size=(n_texts, 10)), length, axis=0)
            presence += 0.1 * rng.random(presence.shape)
            arrays = (
                xr.DataArray(presence, dims=("input", "neuron"), coords={"input": ids}),
                xr.DataArray(labels, dims=("input", "concept"), coords={"input": ids}),
            )
            options = NamingOptions(
                Parameters(alpha=0.2), n_bootstrap=5, n_permutations=39, by_sequence=by_sequence
            )
            own = choose_names(*arrays, ["correlation", "auprc"], options)
            verdicts += (own.consensus_p.values <= 0.05).tolist()
        found[by_sequence] = np.mean(verdicts)
    assert found[False] > 0.2
    assert found[True] <= 0.125


def test_sequences_that_cannot_change_places_are_refused(pair):
    lengths = np.repeat(np.arange(13), np.arange(13))  # sequences of 1 to 12 positions
    ids = [f"text/{length}/{row}" for row, length in enumerate(lengths)]
    arrays = tuple(
        own[: len(ids)].assign_coords({dim: ids})
        for own, dim in zip(pair, ("image", "input"), strict=True)
    )
    with pytest.raises(
        ValueError, match=r"by_sequence: .* as 0 of .* and .* of the two halves can"
    ):
        choose_names(*arrays, ["iou"], NamingOptions(Parameters(alpha=0.1), by_sequence=True))
    few = NamingOptions(Parameters(alpha=0.1), n_bootstrap=0, by_sequence=True, n_permutations=0)
    assert choose_names(*arrays, ["iou"], few).n_permutations == 0


@pytest.mark.parametrize("n_permutations", [0, 19])
def test_one_sequence_cannot_be_halved(pair, n_permutations):
    ids = [f"text/7/{row:02d}" for row in range(90)]
    arrays = pair[0].assign_coords(image=ids), pair[1].assign_coords(input=ids)
    options = NamingOptions(
        Parameters(alpha=0.1), by_sequence=True, n_permutations=n_permutations, n_bootstrap=0
    )
    with pytest.raises(ValueError, match=r"all 90 inputs are of one, 'text/7'\. Bring more"):
        choose_names(*arrays, ["iou"], options)


@pytest.mark.parametrize("n_sequences", [2, 5])
def test_of_few_sequences_of_equal_length_more_are_asked_for(pair, n_sequences):
    ids = [f"text/{row % n_sequences}/{row:02d}" for row in range(90)]
    arrays = pair[0].assign_coords(image=ids), pair[1].assign_coords(input=ids)
    options = NamingOptions(Parameters(alpha=0.1), by_sequence=True)
    with pytest.raises(ValueError, match=r"against chance\. Bring more of them, or make no"):
        choose_names(*arrays, ["iou"], options)


def test_sequences_need_names_of_positions(pair):
    options = NamingOptions(by_sequence=True)
    arrays = pair[0].assign_coords(image=range(90)), pair[1].assign_coords(input=range(90))
    with pytest.raises(ValueError, match="named 'sequence/position'; got '0'"):
        choose_names(*arrays, ["iou"], options)


# -- few positives --------------------------------------------------------------------------------


def test_labels_of_few_positives_and_concepts_that_are_rarely_active_are_undefined(pair):
    presence, labels = (array.copy() for array in pair)
    labels[:, 4] = False
    labels[:7, 4] = True
    presence[:, 4] = labels[:, 4].values * 1.0
    presence[:, 5] = labels[:, 4].values * np.arange(1.0, 91)
    base = vars(OPTIONS) | {"min_positives": 1, "min_active": 1}
    easy = choose_names(presence, labels, METRICS, NamingOptions(**base), sanity=SANITY)
    assert easy.name.sel(concept=4, metric="iou") == "label 4"
    assert easy.n_rare_labels == 0
    strict = NamingOptions(**base | {"min_positives": 5})
    found = choose_names(presence, labels, METRICS, strict, sanity=SANITY)
    assert (found.name != "label 4").all()
    assert found.n_rare_labels == 1
    more = found.undefined.sel(metric="iou") - easy.undefined.sel(metric="iou")
    assert (more == 1).all()
    active = NamingOptions(**base | {"min_active": 5})
    found = choose_names(presence, labels, METRICS, active, sanity=SANITY)
    assert found.few_active.values.tolist() == [False] * 4 + [True] * 2
    assert found.n_few_active == 2
    assert (found.name[4:] == "").all()
    assert (found.undefined[4:] == 6).all()
    assert (found.chance[4:] == "").all()
    assert (found.consensus_chance[4:] == "").all()
    assert found.consensus_p[4:].isnull().all()
    default = NamingOptions()
    assert (default.min_positives, default.min_active) == (10, 10)


# -- the budget -----------------------------------------------------------------------------------


def test_the_budget_makes_fewer_permutations_and_then_tests_fewer_concepts():
    assert Budget.of(199, 1 << 40, 64, 20_000) == Budget(199, 64)
    assert Budget.of(199, 150 * 64 * 20_000, 64, 20_000) == Budget(150, 64)
    assert Budget.of(199, 99 * 10 * 20_000, 64, 20_000) == Budget(99, 10)
    assert Budget.of(19, 19 * 10 * 20_000, 64, 20_000) == Budget(19, 10)
    assert Budget.of(199, 1, 64, 20_000) == Budget(99, 1)
    assert Budget.of(0, 1 << 40, 64, 20_000) == Budget(0, 0)
    assert Budget.of(1, 1 << 40, 64, 20_000, level=1 - 0.95) == Budget(19, 64)
    assert Budget.of(199, 1, 64, 20_000, level=1 - 0.999) == Budget(999, 1)
    whole = Budget.of(199, 1 << 40, 16_384, 50_000 * 1_400)
    assert whole.n_permutations == 99
    assert 100 < whole.n_concepts < 200


def test_concepts_that_the_budget_leaves_out_are_untested(pair, named):
    steps = N_PERMUTATIONS * 3 * 90 * 6
    options = NamingOptions(**vars(OPTIONS) | {"permutation_budget": steps})
    some = choose_names(*pair, METRICS, options, sanity=SANITY)
    tested = (some.consensus_chance != "untested").values
    assert some.n_tested == tested.sum() == 3
    assert some.n_permutations == N_PERMUTATIONS
    np.testing.assert_array_equal(some.score_p[tested], named.score_p[tested])
    assert some.score_p[~tested].isnull().all()
    assert (some.chance[~tested] == "untested").all()
    assert (some.name == named.name).all()


def test_the_time_that_is_left_is_told_once_by_the_first_permutations(monkeypatch, pair):
    now, told = iter([0.0, 3.0, 5.0, 100.0]), []
    monkeypatch.setattr("evals.naming.chance.time.monotonic", lambda: next(now))
    clock = Clock(told.append)
    for done in (0, 0, 4, 12):
        clock.note(done, 12)
    assert told == [(5 - 3) / 4 * 8]
    monkeypatch.undo()
    naming = Namer.of(*pair, ["iou"], OPTIONS, sanity=SANITY)
    monkeypatch.setattr("evals.naming.chance.LABELS_AT_ONCE", 6)
    naming.test(forecast=told.append)
    assert len(told) == 2
    assert told[1] >= 0


def test_without_permutations_nothing_is_said_of_chance(pair):
    options = NamingOptions(**vars(OPTIONS) | {"n_permutations": 0})
    none = choose_names(*pair, METRICS, options, sanity=SANITY)
    assert none.n_permutations == 0
    assert not {"chance", "consensus_chance", "score_p"} & set(none)


# -- small pieces ---------------------------------------------------------------------------------


def test_what_is_undefined_in_a_permutation_is_compared_with_none():
    values = np.array([[0.5, np.nan], [np.nan, 0.2], [0.5 * (1 + 1e-15), 0.1], [0.1, 0.3]])
    found = Comparison.of(values, confidence=0.5)
    np.testing.assert_array_equal(found.p, [2 / 3, np.nan])
    np.testing.assert_array_equal(found.chance, [0.1, np.nan])
    np.testing.assert_array_equal(found.family_p[1], np.nan)
    constant = Comparison.of(np.ones((5, 2)), confidence=0.95)
    assert constant.p.tolist() == [1, 1]
    assert constant.family_p.tolist() == [1, 1]


def test_chance_is_a_quantile_of_what_is_defined():
    values = np.random.default_rng(0).normal(size=(200, 30))
    values[np.random.default_rng(1).random(values.shape) < 0.4] = np.nan
    for confidence in (0.5, 0.9, 0.95):
        own = [column[~np.isnan(column)] for column in values[1:].T]
        expected = [np.quantile(column, confidence, method="inverted_cdf") for column in own]
        found = Comparison.of(values, confidence).chance
        np.testing.assert_array_equal(
            found[~np.isnan(values[0])], np.array(expected)[~np.isnan(values[0])]
        )


@pytest.mark.slow
@pytest.mark.parametrize("defined", [1.0, 0.5, 0.15])
def test_noise_that_is_sometimes_undefined_is_no_surer_for_it(defined):
    """As of metrics that look at the most active inputs alone, where rare labels may be missing."""
    random, named, ps = np.random.default_rng(0), [], []
    for _ in range(600):
        values = random.normal(size=(100, 20))
        values[random.random(values.shape) > defined] = np.nan
        found = Comparison.of(values, confidence=0.95)
        named.append((found.verdicts(0.05) == "above chance").any())
        ps.append(found.p[~np.isnan(found.p)])
    assert np.mean(named) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 600)
    assert np.mean(np.concatenate(ps) <= 0.05) <= 0.055


def test_no_metric_that_votes_gives_no_consensus():
    assert np.isnan(combine(np.zeros((4, 2, 3)), np.zeros(3, dtype=bool))).all()
    scores = np.array([[[3.0, np.nan]], [[1.0, np.nan]], [[2.0, np.nan]]])
    np.testing.assert_allclose(
        combine(scores, np.ones(2, dtype=bool))[:, 0], np.array([3, -3, 0]) / 2
    )


# -- noise, and known truth -----------------------------------------------------------------------


@pytest.mark.slow
def test_noise_is_at_chance_and_truth_is_not():
    """Over 20 seeds: of 18 neurons of noise at most 5 % are named, of two that a label explains
    by construction at least 90 %, by the consensus and by each metric that votes."""
    options = NamingOptions(Parameters(alpha=0.2), n_bootstrap=0, n_permutations=99)
    noise, truth = [], []
    for seed in range(20):
        arrays = make(n_inputs=300, n_noise=18, seed=seed, n_labels=12)
        found = choose_names(*arrays, VOTING, options)
        verdicts = np.column_stack([found.consensus_chance, found.chance])
        alone = np.column_stack([found.consensus_p, found.score_p]) <= 0.05
        right = np.array(["label 2", "label 3"])[:, None]
        hit = np.column_stack([found.consensus, found.name])[:2] == right
        noise.append(np.stack([verdicts[2:] == "above chance", alone[2:]]))
        truth.append((verdicts[:2] == "above chance") & hit)
        assert (found.consensus != "").all()  # a name alone says nothing
    above, alone = np.mean(noise, axis=(0, 2))
    assert (above <= 0.05).all()
    assert (alone <= 0.05 + 3 * (0.05 * 0.95 / 360) ** 0.5).all()
    assert (np.mean(truth, axis=(0, 1)) >= 0.9).all()


# -- rare concepts --------------------------------------------------------------------------------


def rare_scores(generator: np.random.Generator, n_concepts: int) -> np.ndarray:
    """Return scores (permutation, concept) of concepts that few labels meet, by chance."""
    met = generator.random((200, n_concepts)) < 0.005
    return np.where(met, generator.gamma(4, 0.01, met.shape), 0)


def test_rare_concepts_do_not_hide_those_that_a_label_explains():
    generator = np.random.default_rng(0)
    explained = generator.gamma(2, 0.005, (200, 40))
    explained[0] = generator.uniform(0.5, 0.8, 40)
    found = Comparison.of(np.hstack([rare_scores(generator, 600), explained]), confidence=0.95)
    assert np.nanmax(found.family_p[600:]) <= 0.05
    assert np.mean(found.family_p[:600] <= 0.05) <= 0.01


@pytest.mark.slow
def test_rare_concepts_alone_are_seldom_above_chance():
    generator = np.random.default_rng(1)
    found = [Comparison.of(rare_scores(generator, 300), 0.95).family_p for _ in range(200)]
    n_wrong = sum((p <= 0.05).any() for p in found)
    assert n_wrong <= stats.binom.ppf(0.999, 200, 0.05)


def test_the_usual_deviation_is_the_same_whichever_permutation_the_data_are():
    generator = np.random.default_rng(2)
    values = rare_scores(generator, 30)
    values[0, :20] += 1  # well named
    expected = usual_deviation(values)
    assert usual_deviation(np.roll(values, 7, axis=0)) == pytest.approx(expected, rel=1e-9)
    by_hand = [
        min(np.std(np.delete(own, draw)) for draw in range(len(own))) for own in values.T.copy()
    ]
    deviate = [least for least in by_hand if least > 1e-9]
    assert expected == pytest.approx(np.sqrt(np.mean(np.square(deviate))), rel=1e-9)
    assert np.isnan(usual_deviation(np.ones((5, 3))))


# -- units ----------------------------------------------------------------------------------------


def test_the_units_of_a_concept_make_it_no_surer_and_no_less_sure():
    presence, labels = make(n_inputs=300, n_noise=12, n_labels=6)
    factors = xr.DataArray(2.0 ** np.arange(-7, 7), dims="concept")
    options = NamingOptions(Parameters(alpha=ALPHA), n_bootstrap=0, n_permutations=99)
    plain, scaled = (
        choose_names(held, labels, ["mad", "iou"], options)
        for held in (presence, presence * factors)
    )
    for same in ("name", "score_p", "chance", "consensus_p", "consensus_chance"):
        np.testing.assert_array_equal(scaled[same], plain[same])
    by_chance = [own.score_by_chance.sel(metric="mad").values for own in (plain, scaled)]
    np.testing.assert_array_equal(by_chance[1], by_chance[0] * factors.values)
    assert (plain.chance.sel(metric="mad")[:2] == "above chance").all()


@pytest.mark.parametrize(
    "wrong",
    [
        {"prefer": "class"},
        {"confidence": 0.0},
        {"confidence": 1.0},
        {"n_ranks": 0},
        {"n_permutations": -1},
        {"permutation_budget": -5},
        {"leave_out": "a"},
        {"prefer": "concepts", "n_permutations": 0},
    ],
)
def test_options_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        NamingOptions(**wrong)
