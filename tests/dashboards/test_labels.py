"""Names of concepts under every metric."""

from __future__ import annotations

import numpy as np
import pytest

from dashboards.views.concepts.labels import (
    best_names,
    doubts_of,
    label_frame,
    label_table,
    namers_of,
    names_note,
    preferred_namer,
)
from tests.dashboards import fabricate
from tests.dashboards.fabricate import CONCEPTS


def test_ways_to_name_are_the_consensus_and_the_metrics() -> None:
    names = fabricate.names()
    assert namers_of(names) == ["consensus", "iou", "auprc"]
    assert namers_of(names.drop_vars("consensus")) == ["iou", "auprc"]
    assert namers_of(names.assign(n_voting=0)) == ["iou", "auprc"], "where no metric votes"


@pytest.mark.parametrize(
    ("ways", "place"),
    [
        (["iou", "auprc"], 1),
        (["mine"], 0),
        (["mine", "iou"], 1),
        (["auprc", "correlation"], 1),
        (["consensus", "correlation"], 0),
    ],
)
def test_the_way_to_begin_with(ways: list[str], place: int) -> None:
    assert preferred_namer(ways) == place


def test_best_names_by_a_metric() -> None:
    names = fabricate.names()
    best = best_names(names, "auprc")
    assert best.index.tolist() == list(range(CONCEPTS))
    for concept in range(CONCEPTS):
        own = names.sel(concept=concept, metric="auprc")
        assert best.loc[concept, "name"] == str(own["name"].values)
        np.testing.assert_equal(best.loc[concept, "score"], float(own["score"]))


def test_names_by_consensus_are_scored_by_the_share_of_votes() -> None:
    names = fabricate.names().assign(n_voting=2)
    best = best_names(names, "consensus")
    assert best["name"].tolist() == names["consensus"].values.tolist()
    assert best["score"].tolist()[:-1] == [0.5] * (CONCEPTS - 1)
    assert np.isnan(best["score"].iloc[-1])


def test_the_verdict_is_the_metrics_or_says_how_many_agree() -> None:
    names = fabricate.names().assign(n_voting=2)
    by_metric = best_names(names, "auprc")
    assert by_metric["verdict"].tolist() == ["undecided"] * (CONCEPTS - 1) + [""]
    by_consensus = best_names(names, "consensus")
    assert by_consensus["verdict"].tolist() == ["1 of 2 agree"] * (CONCEPTS - 1) + [""]


def test_names_stand_beside_what_chance_gives() -> None:
    names = fabricate.with_chance(fabricate.names())
    by_consensus = best_names(names, "consensus")["chance"].tolist()
    assert by_consensus == ["above chance", "at chance", "undecided", "untested", "untested", ""]
    assert best_names(names, "auprc")["chance"].tolist()[0] == "above chance"
    row = label_frame(names, 0).set_index("metric").loc["iou"]
    assert (row["by_chance"], row["p"], row["chance"]) == (0.3, 0.005, "above chance")
    assert names_note(names).endswith(
        "Chance: 199 permutations of labels, for 3 of 6 concepts, as many as the budget allows; p "
        "up to 0.05. The consensus of 1 is above chance, of 1 undecided (by themselves, not among "
        "all), of 1 at chance. Left out: 2 labels on fewer than 10 inputs, "
        "or all but so few, of a half."
    )
    before = best_names(fabricate.names(), "consensus")["chance"].tolist()
    assert before == ["untested"] * (CONCEPTS - 1) + [""]


@pytest.mark.parametrize(("concept", "is_tested"), [(0, True), (3, False)])
def test_the_note_on_one_concept_counts_all(concept: int, is_tested: bool) -> None:
    names = fabricate.with_chance(fabricate.names())
    own = names.isel(concept=[concept])
    note = label_table("x", own, concept, names).note
    left_out = " This concept is among those that the budget left out."
    assert note == names_note(names) + ("" if is_tested else left_out)
    assert "for 3 of 6 concepts" in note
    every = names.assign(n_tested=CONCEPTS)
    assert "for all 6 concepts; p" in label_table("x", own, concept, every).note


def test_metrics_that_pass_come_first() -> None:
    names = fabricate.names().assign(verdict=("metric", ["fails", "passes"]))
    assert label_frame(names, 0)["metric"].tolist() == ["auprc", "iou"]
    named = label_table("x", names, 0)
    assert named.name == "x-concept-0-labels"
    assert named.frame["verdict"].tolist() == ["passes", "fails"]


def test_labels_of_a_concept_under_every_metric() -> None:
    frame = label_frame(fabricate.names(), 1).set_index("metric")
    assert frame.index.tolist() == ["iou", "auprc"]
    row = frame.loc["iou"]
    assert frame["verdict"].tolist() == ["passes", "undecided"]
    assert row["label"] == "shape: <b>star</b>"
    assert row["score"] == pytest.approx(0.8)
    assert (row["low"], row["high"]) == (pytest.approx(0.75), pytest.approx(0.84))
    assert row["margin"] == pytest.approx(0.2)
    assert row["others"] == "texture: dots 0.60, place: left 0.40"


def test_a_concept_without_names() -> None:
    names = fabricate.names()
    dead = label_frame(names, CONCEPTS - 1)
    assert dead["label"].tolist() == ["", ""]
    assert dead["others"].tolist() == ["", ""]
    assert label_frame(names, 999).empty
    assert list(label_frame(names, 999).columns) == list(dead.columns)


def test_the_note_says_on_what_names_were_chosen_and_what_was_tested() -> None:
    names = fabricate.names()
    told = "Names were chosen on 15 images and scored on 15 others. "
    chance = " Names were not tested against chance."
    passed = "1 of 2 tested metrics passes the sanity checks; these vote."
    assert names_note(names) == told + passed + chance
    known = names_note(names.assign(sanity_forms="theoretical"))
    assert known.endswith(
        f"; these vote. Metrics were tested theoretically only, on no real neurons.{chance}"
    )
    untested = names.assign(verdict=("metric", ["untested", "untested"]))
    assert names_note(untested) == told + (
        f"No sanity checks were given: the verdict on every metric is open.{chance}"
    )
    assert names_note(names.drop_vars("n_scoring")) == ""


def test_doubts_say_whose_they_are() -> None:
    assert doubts_of("undecided", "undecided") == "metric undecided, name undecided"
    assert doubts_of("fails", "") == "metric fails"
    assert doubts_of("4 of 5 agree", "above chance") == "4 of 5 agree, above chance"
    assert doubts_of("", "") == ""
