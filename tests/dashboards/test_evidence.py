"""Whether a name can be trusted."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import xarray as xr
from sklearn.metrics import average_precision_score

from dashboards.views.concepts.evidence import (
    AGAINST,
    FIT_METRIC,
    FOR,
    OPEN,
    Evidence,
    Reach,
    agreement,
    alikeness,
    beyond_chance,
    evidence_table,
    fit,
    lead,
    location,
    missing,
    reach,
    recurrence,
    verdict_line,
)
from dashboards.views.concepts.one_concept import returns
from evals.scoring.scoring import score
from tests.dashboards import fabricate_concepts
from tests.dashboards.fabricate import CONCEPTS, HOSTILE, with_chance
from tests.dashboards.fabricate import names as fabricated_names

METRICS = ["a", "b", "c", "d"]


def names(chosen: list[str], votes: list[bool], **others: object) -> xr.Dataset:
    """Return the names of one concept by four metrics, the last of which is not to be trusted."""
    by_metric = ("concept", "metric")
    voted = [label for label, trusted in zip(chosen, votes, strict=True) if trusted]
    consensus = max(sorted(set(voted)), key=voted.count, default="")
    known = {
        "name": (by_metric, np.array([chosen], dtype=object)),
        "votes": ("metric", np.array(votes)),
        "verdict": ("metric", np.where(votes, "passes", "fails").astype(object)),
        "consensus": ("concept", np.array([consensus], dtype=object)),
        "score": (by_metric, np.array([[0.9, 0.9, 0.9, 0.9]])),
        "margin": (by_metric, np.array([[0.3, 0.3, 0.01, 0.3]])),
        "interval_low": (by_metric, np.array([[0.8, 0.7, 0.8, 0.8]])),
        "tied": (by_metric, np.array([[0, 2, 0, 0]])),
    }
    return xr.Dataset(known | others, {"concept": [7], "metric": METRICS})


TRUSTED = [True, True, True, False]


@pytest.mark.parametrize(
    ("chosen", "label", "speaks", "told"),
    [
        (["x", "x", "y", "y"], "x", FOR, "2 of 3 choose 'x'"),
        (["x", "y", "z", "x"], "x", AGAINST, "1 of 3 choose 'x'"),
        (["y", "y", "x", "y"], "x", AGAINST, "1 of 3 choose 'x'; most choose 'y'"),
        (["y", "y", "y", "x"], "x", AGAINST, "0 of 3 choose 'x'; most choose 'y'"),
        (["", "", "", ""], "", AGAINST, "it has no name"),
    ],
)
def test_whether_metrics_agree(chosen: list[str], label: str, speaks: str, told: str) -> None:
    found = agreement(names(chosen, TRUSTED), 7, label)
    told += "; by chance: not tested" if label else ""
    assert (found.speaks, found.finding) == (speaks, told)


@pytest.mark.parametrize(("by_chance", "speaks"), [(2.0, FOR), (3.0, OPEN)])
def test_unanimous_votes_stand_beside_what_chance_gives(by_chance: float, speaks: str) -> None:
    one = names(["x", "x", "x", "y"], TRUSTED, votes_by_chance=("concept", [by_chance]))
    found = agreement(one, 7, "x")
    told = f"3 of 3 choose 'x'; by chance up to {by_chance:.0f}"
    assert (found.speaks, found.finding) == (speaks, told)


def test_metrics_that_nobody_tested_leave_it_open() -> None:
    untested = names(["x"] * 4, [True] * 4, verdict=("metric", ["untested"] * 4))
    found = agreement(untested, 7, "x")
    assert (found.speaks, found.finding) == (OPEN, "4 of 4 choose 'x'; none was tested")


@pytest.mark.parametrize(
    ("chosen", "speaks", "told"),
    [
        # a and b are clear: 0.8 and 0.7 above 0.6; c is not: 0.8 below 0.89
        (["x", "x", "y", "x"], FOR, "by 2 of 2 metrics that choose it; 1 give another label"),
        (["y", "y", "x", "x"], AGAINST, "by 0 of 1 metrics that choose it"),
        (["x", "y", "x", "y"], AGAINST, "by 1 of 2 metrics that choose it"),
        (["y", "y", "y", "x"], OPEN, "no metric that can be trusted chooses it"),
    ],
)
def test_whether_a_name_is_clearly_ahead(chosen: list[str], speaks: str, told: str) -> None:
    found = lead(names(chosen, TRUSTED), 7, "x")
    assert found.speaks == speaks
    assert found.finding.startswith(told)


@pytest.mark.parametrize(
    ("concept", "label", "speaks", "told"),
    [
        (
            0,
            "colour: red",
            FOR,
            "above chance by the mean score of the metrics that vote, p = 0.005; votes alone do "
            "not decide: 1 vote, by chance up to 1",
        ),
        (
            1,
            "shape: <b>star</b>",
            AGAINST,
            "at chance by the mean score of the metrics that vote, p = 0.4",
        ),
        (
            2,
            "texture: dots",
            OPEN,
            "undecided by the mean score of the metrics that vote, p = 0.03",
        ),
        (3, "place: left", OPEN, "untested: the budget of permutations left this concept out"),
        (0, "other", OPEN, "no metric that can be trusted chooses it"),
        (CONCEPTS - 1, "", AGAINST, "it has no name"),
    ],
)
def test_whether_a_name_is_more_than_chance(
    concept: int, label: str, speaks: str, told: str
) -> None:
    found = beyond_chance(with_chance(fabricated_names()), concept, label)
    assert (found.speaks, found.finding[: len(told)]) == (speaks, told)
    before = beyond_chance(fabricated_names(), 0, "colour: red")
    assert (before.speaks, before.finding) == (OPEN, "permutations of labels were not made")


@pytest.mark.parametrize(
    ("chance", "speaks", "told"),
    [
        (["at chance", "at chance"], AGAINST, "; at chance by all that do, 2 metrics"),
        (["at chance", "undecided"], OPEN, ""),
        (["above chance", "above chance"], OPEN, ""),
    ],
)
def test_a_name_of_untrusted_metrics_alone_is_never_for_and_may_be_against(
    chance: list[str], speaks: str, told: str
) -> None:
    own = names(["x", "x", "y", "y"], [False] * 4)
    verdicts = (("concept", "metric"), [[*chance, "above chance", "above chance"]])
    own = own.assign(chance=verdicts, consensus_chance=("concept", [""]))
    found = beyond_chance(own, 7, "x")
    expected = f"no metric that can be trusted chooses it{told}"
    assert (found.speaks, found.finding) == (speaks, expected)


@pytest.mark.parametrize(
    ("concept", "speaks", "told"),
    [
        (0, FOR, "C2-score 0.8 over 20 images; random maps 0.01, all concepts 0.4; 100 %"),
        (3, OPEN, "C2-score 0.2 over 20 images"),
        (4, OPEN, "too few images to count"),
        (CONCEPTS - 1, OPEN, "too few images"),
        (99, OPEN, "no C2-score"),
    ],
)
def test_whether_it_looks_alike(concept: int, speaks: str, told: str) -> None:
    found = alikeness(fabricate_concepts.consistency(), concept)
    assert found.speaks == speaks
    assert told in found.finding


def test_a_score_of_random_maps_speaks_against() -> None:
    consistency = fabricate_concepts.consistency().assign(baseline=0.3)
    assert alikeness(consistency, 3).speaks == AGAINST


def test_random_maps_of_the_concepts_own_class_count_first() -> None:
    own = np.full(CONCEPTS, np.nan)
    own[3] = 0.25
    consistency = fabricate_concepts.consistency().assign(concept_baseline=("concept", own))
    assert "random maps 0.25" in alikeness(consistency, 3).finding
    assert alikeness(consistency, 3).speaks == AGAINST
    assert "random maps 0.01" in alikeness(consistency, 0).finding


@pytest.mark.parametrize(("concept", "speaks"), [(0, FOR), (1, AGAINST), (2, OPEN), (99, OPEN)])
def test_whether_it_is_where_its_name_says(concept: int, speaks: str) -> None:
    assert location(fabricate_concepts.localisation(), concept).speaks == speaks


def test_a_place_is_told_with_its_name_and_chance() -> None:
    told = location(fabricate_concepts.localisation(), 1).finding
    assert told == (
        f"in the 6 of 8 images that show {HOSTILE!r}: "
        "pointing 0.1 (chance 0.4, on other images 0.45), "
        "energy 0.6 (chance 0.4, on other images 0.45)"
    )


def test_maps_that_lie_as_well_on_other_images_leave_it_open() -> None:
    own = fabricate_concepts.localisation()
    elsewhere = own["elsewhere"].copy()
    elsewhere[0, 1] = 0.5  # as high as the lower end of its interval
    assert location(own.assign(elsewhere=elsewhere), 0).speaks == OPEN


def fitting(low: float, high: float) -> xr.Dataset:
    """Return names of which `auprc` has this interval."""
    own = names(["x"] * 4, TRUSTED).assign_coords(metric=["a", "auprc", "c", "d"])
    ends = {"interval_low": low, "interval_high": high}
    return own.assign(
        {end: (("concept", "metric"), np.full((1, 4), at)) for end, at in ends.items()}
    )


WHOLE = Reach(alpha=0.1, share=0.1, ceiling=1.0, chance=0.1)
COMMON = Reach(alpha=0.1, share=0.5, ceiling=0.2, chance=0.1)


@pytest.mark.parametrize(
    ("label", "low", "high", "reached", "speaks", "told"),
    [
        ("x", 0.56, 0.93, WHOLE, FOR, "strongest: 0.9, from 0.56 to 0.93; at most 1 for a label"),
        ("x", 0.45, 0.93, WHOLE, OPEN, "on 10 % of the images and the strongest 10 %, by chance"),
        ("x", 0.25, 0.35, WHOLE, AGAINST, "from 0.25 to 0.35"),
        ("x", 0.16, 0.19, COMMON, FOR, "at most 0.2 for a label on 50 % of the images"),
        ("x", 0.11, 0.14, COMMON, AGAINST, "at most 0.2"),
        ("x", 0.16, 0.19, None, OPEN, "how high it can be is not known here"),
        ("y", 0.51, 0.93, WHOLE, OPEN, "by auprc another label fits better: 'x'"),
        ("", 0.51, 0.93, WHOLE, OPEN, "by auprc another label fits better: 'x'"),
    ],
)
def test_whether_a_name_fits_by_itself(
    label: str, low: float, high: float, reached: Reach | None, speaks: str, told: str
) -> None:
    found = fit(fitting(low, high), 7, label, reached)
    assert found.speaks == speaks
    assert told in found.finding


@pytest.mark.parametrize("n_labelled", [20, 100, 101, 160, 500, 980])
@pytest.mark.parametrize("present", [1.0, 0.06])
def test_how_high_a_score_can_be_by_scikit_learn(n_labelled: int, present: float) -> None:
    values = np.random.default_rng(0).permutation(np.arange(1000) < n_labelled).astype(float)
    active = np.zeros(1000)
    active[np.argsort(-values, kind="stable")[: int(1000 * min(0.1, present))]] = 1
    found = reach(values, 0.1, present)
    assert found is not None
    assert found.ceiling == pytest.approx(average_precision_score(active, values), abs=1e-12)
    assert found.chance == pytest.approx(min(0.1, present))
    assert found.ceiling <= 1
    assert found.share == n_labelled / 1000


@pytest.mark.parametrize("alpha", [0.004, 0.1, 0.5, 1.0])
@pytest.mark.parametrize("levels", [2, 5, 300])
def test_how_high_a_score_can_be_by_the_metric_itself(levels: int, alpha: float) -> None:
    values = np.random.default_rng(1).integers(0, levels, 300) / (levels - 1)
    ideal = np.empty(300)  # above 0, no two alike, ranked as the label ranks them
    ideal[np.argsort(values, kind="stable")] = np.arange(1, 301)
    found = reach(values, alpha)
    assert found is not None
    scored = score(FIT_METRIC, ideal[:, None], values[:, None], alpha=alpha)
    assert found.ceiling == pytest.approx(scored.item(), abs=1e-12)


def test_how_high_a_score_can_be_is_not_known_of_labels_without_two_values() -> None:
    assert reach(np.ones(50), 0.1) is None
    assert reach(np.arange(50.0), None) is None
    graded = reach(np.arange(50.0) / 50, 0.1)
    assert graded is not None
    assert graded.ceiling == 1, "what ranks all images leaves no ties"


def test_without_its_metric_it_is_open_whether_a_name_fits() -> None:
    assert fit(names(["x"] * 4, TRUSTED), 7, "x", None).speaks == OPEN


@pytest.mark.parametrize(
    ("concept", "speaks"), [(0, FOR), (3, FOR), (1, OPEN), (2, AGAINST), (4, AGAINST)]
)
def test_whether_it_comes_back(concept: int, speaks: str) -> None:
    found = recurrence("other", returns(fabricate_concepts.matching(), concept))
    assert found.speaks == speaks
    assert "other" in found.finding


def test_what_comes_back_by_presence_alone_leaves_it_open() -> None:
    first, second = returns(fabricate_concepts.matching(), 0)
    at_chance = replace(first, similarity=first.chance)
    assert recurrence("other", [at_chance, second]).speaks == OPEN
    both = [at_chance, replace(second, similarity=second.chance)]
    assert recurrence("other", both).speaks == AGAINST


def test_what_is_not_known_says_what_to_run() -> None:
    assert missing("Q?", "C2-scores", "factbook run x").finding == (
        "not known: C2-scores; factbook run x"
    )


def test_all_questions_as_a_table_and_a_line() -> None:
    asked = [
        Evidence("Q", "f", FOR, "r"),
        Evidence("R", "g", OPEN, ""),
        Evidence("S", "h", FOR, ""),
    ]
    assert verdict_line(asked) == "3 answers: 2 for it, 0 against it, 1 open."
    assert verdict_line(asked[1:2]) == (
        "1 answer: 0 for it, 0 against it, 1 open: nothing speaks for it yet."
    )
    table = evidence_table("x", asked)
    assert table.frame["speaks"].tolist() == [FOR, OPEN, FOR]
    assert "what was found" in table.latex()
