"""The sentence and the figure that result pages begin with: what the numbers say, no more."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from dashboards.views.parts.parts import Answer, Figure, Fold, Heading, Note, Table, folded
from dashboards.views.results import answers, fidelity, names, sanity, stability
from dashboards.views.results.view import Setting
from dashboards.views.sections import RESULTS
from evals.metrics.registered import list_metrics
from evals.metrics.tolerance import FAULTY
from evals.sanity.protocol import FAILS, NOT_RUN, PASSES, UNDECIDED
from tests.dashboards import fabricate, fabricate_results
from tests.dashboards.fabricate_results import METRICS

MADE: dict[str, Any] = {
    "sanity": fabricate_results.sanity,
    "identification": fabricate_results.identification,
    "comparison": fabricate_results.comparison,
    "consistency": fabricate_results.consistency,
    "fidelity": fabricate_results.fidelity,
    "intervention": fabricate_results.intervention,
    "matching": fabricate_results.matching,
    "localisation": fabricate_results.localisation,
    "scores": fabricate_results.scores,
    "names": fabricate.names,
}


@pytest.mark.parametrize("row", RESULTS, ids=lambda row: row.schema)
def test_every_page_begins_with_one_sentence_and_one_figure(row: Any) -> None:
    own = MADE[row.schema]()
    first, figure, *rest = row.shown({"a": own})
    assert isinstance(first, Answer)
    assert first.text.endswith(".")
    assert "nan" not in first.text
    assert isinstance(figure, Figure)
    figure.chart.to_dict()  # validates
    assert not [p for p in rest if isinstance(p, Table | Figure | Heading)]  # folded
    several = row.shown({"a": own, "b": own.copy()})
    assert several[0] == Answer(f"a and b: {first.text}")
    assert [type(part) for part in several[:2]] == [Answer, Figure]


def test_details_are_folded_by_their_titles() -> None:
    table, note = Table("t", pd.DataFrame(), "One"), Note("said")
    plain = Table("u", pd.DataFrame())
    parts = folded([note, table, plain, Heading("Many"), table, note])
    assert parts == [note, Fold("One", [table]), plain, Fold("Many", [table, note])]


def checked(*verdicts: str, forms: int = 1) -> xr.Dataset:
    """Return a sanity check of so many metrics, with some of its forms run."""
    accuracy = np.full((len(verdicts), 3, 2), np.nan)
    accuracy[:, :forms] = 1.0
    return xr.Dataset(
        {
            "passed": ("metric", np.array(verdicts, dtype=object)),
            "decrease_accuracy": (("metric", "form", "test"), accuracy),
        },
        {"form": ["theoretical", "experimental", "semantic"]},
    )


def test_a_sanity_check_counts_verdicts_and_says_what_was_run() -> None:
    told = answers.sanity(checked(PASSES, PASSES, FAILS, UNDECIDED, NOT_RUN, forms=2))
    assert told == (
        "2 of 5 metrics pass the sanity checks (theoretical and experimental); 1 fails, 1 is "
        "undecided, within sampling error, 1 was not checked."
    )
    failed = checked(PASSES, NOT_RUN, NOT_RUN).assign_coords(metric=["iou", "mine", "yours"])
    told = answers.sanity(failed.assign_attrs({FAULTY: "mine: ValueError: no\nyours: None"}))
    first = "1 of 3 metrics passes the sanity checks (theoretical); 2 failed themselves."
    assert told.startswith(first)
    told = answers.sanity(checked(FAILS, FAILS, UNDECIDED))
    assert told.startswith("No metric of 3 passes the sanity checks (theoretical); 2 fail")
    assert told.endswith("On real neurons none was checked here.")
    beside = answers.sanity(checked(PASSES, FAILS, UNDECIDED, forms=3))
    assert beside.startswith(
        "1 of 3 metrics passes the sanity checks (theoretical and experimental)"
    )
    assert beside.endswith("The semantic check is shown beside them, and decides nothing.")
    assert answers.sanity(checked(PASSES)).startswith("1 of 1 metric passes")
    assert answers.sanity(checked(FAILS, forms=0)) == "None of 1 metric was checked."


def test_the_matrix_of_verdicts_has_every_metric_and_test() -> None:
    own = fabricate_results.sanity()
    cells = sanity.verdict_cells(own)
    assert set(cells["y"]) == set(METRICS)
    assert len(cells) == len(METRICS) * (1 + 2 * len(sanity.forms_run(own)))
    by = cells.set_index(["y", "x"])
    assert by.loc[("recall", "theoretical, extra"), "text"] == "✗ 0"
    assert by.loc[("recall", "verdict"), "state"] == FAILS
    every = checked(*[PASSES] * len(list_metrics())).assign_coords(
        metric=list(list_metrics()), test=["missing", "extra"]
    )
    every["verdict"] = every["decrease_accuracy"].notnull().astype(str)
    (figure,) = sanity.matrix([Setting("a", every, {"metric": ""})])
    assert set(figure.chart.data["y"]) == set(list_metrics())
    assert len(list_metrics()) >= 24


def identified(auprc: list[float], low: list[float]) -> xr.Dataset:
    return xr.Dataset(
        {
            "auprc": ("metric", auprc),
            "auprc_low": ("metric", low),
            "auprc_high": ("metric", auprc),
            "n_neurons": 9,
            "n_concepts": 4,
        },
        {"metric": ["a", "b", "c"][: len(auprc)]},
    )


def test_known_neurons_name_the_best_metric_beside_chance() -> None:
    told = answers.identification(identified([0.9, 0.3, 0.2], [0.8, 0.25, 0.1]))
    assert told == (
        "a finds the known concepts of 9 neurons best, with an AUPRC of 0.9 (95 % interval 0.8 to "
        "0.9; chance 0.25); 2 of 3 metrics are not above chance."
    )
    told = answers.identification(identified([0.9, 0.9], [np.nan, np.nan]))
    assert told.startswith("a and b find")
    assert told.endswith("(chance 0.25); all 2 are above chance.")
    assert "No metric could be tested" in answers.identification(identified([np.nan], [np.nan]))


def test_concepts_that_are_no_more_alike_than_random_maps_are_said_to_be_so() -> None:
    own = xr.Dataset({"n_scored": 3, "mean_score": 0.1, "baseline": 0.2})
    assert "no more alike than random maps" in answers.consistency(own, 0.0)
    assert "look more" not in answers.consistency(own.assign(baseline=0.01), 1.0)
    assert "looks more alike than" in answers.consistency(own.assign(baseline=0.01), 1.0)
    assert "The mean C2-score" in answers.consistency(own.assign(baseline=np.nan), np.nan)
    assert "No concept" in answers.consistency(own.assign(n_scored=0), np.nan)


def test_fidelity_leaves_out_what_is_not_defined() -> None:
    told = answers.fidelity(fabricate_results.fidelity())
    assert "of the divergence is recovered" in told
    assert "87.5 % of the 6 with a label, the network itself in 90 %, always naming the" in told
    own = fabricate_results.fidelity(defined=False)
    assert "recovered" not in answers.fidelity(own)
    assert "divergence recovered" not in set(fidelity.kept_frame(own)["label"])


def matched(share: float, chance: float) -> xr.Dataset:
    both = {"mutual_share": ("basis", [share]), "null_mutual_share": ("basis", [chance])}
    return xr.Dataset({**both, "n_alive_one": 8}, {"basis": ["presence"]})


def test_matches_that_are_no_more_than_chance_are_said_to_be_so() -> None:
    told = answers.matching(matched(0.5, 0.1))
    assert told == (
        "Of 8 concepts, 50 % by presence (chance 10 %) are each other's nearest in both sets."
    )
    assert "chance 60 %, so no more than that" in answers.matching(matched(0.5, 0.6))
    frame = stability.recovered_frame(fabricate_results.matching())
    assert {"mark", "value", "series"} <= set(frame)


def test_localisation_counts_the_concepts_whose_interval_lies_above_chance() -> None:
    numbers = {f"mean_{name}": ("measure", [0.25]) for name in ("score", "chance", "elsewhere")}
    own = xr.Dataset(
        {"lift_low": (("concept", "measure"), [[0.1], [-0.1], [np.nan]]), **numbers},
        {"measure": ["energy"]},
    )
    assert answers.localisation(own, "energy").startswith("1 of 2 judged concepts is where")
    none = own.assign(lift_low=-abs(own["lift_low"]))
    assert answers.localisation(none, "energy").startswith("None of 2 judged concepts is where")
    unjudged = own.assign(lift_low=own["lift_low"] * np.nan)
    assert "No concept could be judged" in answers.localisation(unjudged, "energy")


def test_names_are_counted_against_chance() -> None:
    own = fabricate.names()
    told = answers.names(own)
    counts = answers.chance_counts(own)
    assert f"{sum(counts.values())} of {own.sizes['concept']} concepts" in told
    assert "No metric may vote" in answers.names(own.assign(n_voting=0))
    none = own.assign(consensus=xr.full_like(own["consensus"], ""))
    assert answers.names(none).startswith("None of")
    (figure,) = names.figure([Setting("a", own, {"metric": "consensus"})])
    assert figure.chart.data["value"].sum() == own.sizes["concept"]


@pytest.mark.parametrize(("low", "high", "told"), [(0.9, 1.1, "as large"), (1.4, 1.6, "1.5 times")])
def test_promises_are_told_with_their_size(low: float, high: float, told: str) -> None:
    numbers = {"correlation": 0.9, "slope": 1.5, "relative_error": 0.4, "slope_low": low}
    own = xr.Dataset(numbers | {"slope_high": high, "correlation_low": 0.8, "correlation_high": 1})
    assert told in answers.intervention(own)
    assert "could not be measured" in answers.intervention(own.assign(correlation=np.nan))


def test_published_figures_are_counted() -> None:
    own = xr.Dataset({"n_equal": 0, "n_explained": 1, "n_open": 2}, {"cell": ["a", "b", "c"]})
    assert answers.comparison(own).startswith("None of 3 published figures is ours too; 1 differs")
    assert answers.comparison(own.assign(n_equal=3)).startswith("3 of 3 published figures are")


def test_scores_say_that_nothing_was_tested() -> None:
    pairs = pd.DataFrame({"score": [0.5, 0.7], "margin": [np.nan, 0.1]})
    told = answers.scores(pairs, "auc", 3)
    assert told == (
        "By auc, the best of 3 concepts scores 0.6 in the median of 2 neurons, 0.1 more than the "
        "second best; none of it was tested against chance."
    )
    assert "No pair" in answers.scores(pairs * np.nan, "auc", 3)
