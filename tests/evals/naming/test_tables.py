from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from evals.naming.tables import names_table, wrapped_table
from evals.naming.verdicts import chance_lines
from registry.terminal import text_table


def names() -> xr.Dataset:
    """Three concepts, the second silent; of three metrics, the first two vote."""
    chosen = np.array([["dog", "cat", "cat"], ["", "", ""], ["red", "red", "red"]], dtype=object)
    score = np.array([[0.5, 0.6, 0.7], [np.nan] * 3, [0.9, 0.8, 0.95]])
    by_metric = ("concept", "metric")
    return xr.Dataset(
        {
            "name": (by_metric, chosen),
            "score": (by_metric, score),
            "margin": (by_metric, score - 0.1),
            "tied": (by_metric, np.array([[2, 0, 0], [0, 0, 0], [0, 0, 0]])),
            "consensus": ("concept", np.array(["dog", "", "red"], dtype=object)),
            "consensus_votes": ("concept", [1, 0, 2]),
            "consensus_score": (by_metric, score - 0.01),
            "verdict": ("metric", np.array(["passes", "passes", "fails"], dtype=object)),
            "votes": ("metric", [True, True, False]),
            "n_voting": 2,
            "n_silent": 1,
            "n_consensus_names": 2,
            "unanimous_share": 0.5,
            "majority_share": 0.5,
        },
        {"concept": [4, 5, 6], "metric": ["iou", "auprc", "recall"]},
    )


def test_metrics_stand_beside_their_verdicts():
    lines = names_table(names()).splitlines()[4:]
    assert lines[0].split() == ["metric", "sanity", "votes", "agrees", "score", "margin", "tied"]
    assert lines[1].split() == ["iou", "passes", "yes", "100", "%", "0.700", "0.600", "1"]
    assert lines[2].split() == ["auprc", "passes", "yes", "50", "%", "0.700", "0.600", "0"]
    assert lines[3].split() == ["recall", "fails", "no", "50", "%", "0.825", "0.725", "0"]


def test_concepts_on_which_voting_metrics_agree_come_first():
    lines = names_table(names()).splitlines()
    assert lines[0].split() == ["consensus", "concept", "votes", "iou", "auprc"]
    assert lines[1].split() == ["red", "6", "2/2", "0.890", "0.790"]
    assert lines[2].split() == ["dog", "4", "1/2", "0.490", "0.590"]
    assert lines[3] == ""
    assert lines[9].startswith("2 of 3 concepts have a consensus of 2 voting metrics (2 different")
    assert lines[10] == "Names were not tested against chance."
    assert lines[11:13] == [
        "All voting metrics agree on 50 % of them; not tested against chance.",
        "More than half agree on 50 %; not tested against chance.",
    ]
    assert lines[13] == "Most often: dog 1, red 1."


def test_shares_of_votes_stand_beside_how_often_permuted_labels_give_them():
    tested = names().assign(votes_p=("concept", [0.9, np.nan, 0.25]))
    told = "50 % of them; permuted labels give so many votes 25 % of the time."
    assert told in names_table(tested)


def test_what_is_above_chance_comes_first_and_what_chance_gives_stands_beside_it():
    verdicts = np.array(["above chance", "", "at chance"], dtype=object)
    tested = names().assign(
        consensus_chance=("concept", verdicts),
        chance=(("concept", "metric"), np.repeat(verdicts[:, None], 3, axis=1)),
        votes_by_chance=("concept", [1.0, np.nan, 2.0]),
        consensus_p=("concept", [0.005, np.nan, 0.41]),
        score_by_chance=(("concept", "metric"), np.full((3, 3), 0.2)),
        above_chance_share=("metric", [0.5, 0.5, 0.5]),
        confidence=0.95,
        n_permutations=199,
        n_tested=3,
        n_rare_labels=2,
        n_few_active=1,
        min_positives=10,
        min_active=7,
    )
    lines = names_table(tested).splitlines()
    header = ["consensus", "concept", "votes", "by", "chance", "chance", "p", "iou", "auprc"]
    assert lines[0].split() == header
    assert lines[1].split()[:6] == ["dog", "4", "1/2", "1", "above", "chance"]
    assert lines[2].split()[:7] == ["red", "6", "2/2", "2", "at", "chance", "0.410"]
    assert lines[5].split()[-5:] == ["0.200", "50", "%", "0.600", "1"]
    assert lines[10:13] == [
        "Chance: 199 permutations of labels, for all 3 concepts; p up to 0.05.",
        "The consensus of 1 is above chance, of 0 undecided (by themselves, not among all), of 1 "
        "at chance.",
        "Left out: 2 labels on fewer than 10 inputs, "
        "or all but so few, of a half, 1 concept active on fewer than "
        "7 inputs of a half.",
    ]


def test_a_metric_without_a_verdict_is_told_beside_its_vote():
    open_one = names().assign(
        verdict=("metric", ["passes", "passes", "untested"]), votes=("metric", [True, True, False])
    )
    assert names_table(open_one).splitlines()[7].split()[:4] == [
        *("recall", "untested", "no,", "untested")
    ]


def test_only_so_many_are_shown():
    assert "dog  " not in names_table(names(), most=1)


def test_right_names_are_told_where_they_are_known():
    known = names().assign(
        right_share=("metric", [1.0, 0.5, np.nan]), n_right_known=2, consensus_right_share=0.5
    )
    text = names_table(known)
    assert text.splitlines()[6].split()[-2:] == ["50", "%"]
    assert "Of 2 whose label is known, the consensus names 50 % correctly." in text


def test_on_what_metrics_were_tested_is_told_where_it_is_known():
    assert "Metrics were tested" not in names_table(names())
    only = names_table(names().assign(sanity_forms="theoretical"))
    assert "Metrics were tested theoretically only, on no real neurons." in only.splitlines()
    both = names_table(names().assign(sanity_forms="theoretical, experimental"))
    assert "Sanity check: theoretical, experimental." in both.splitlines()


def test_a_table_without_votes():
    silent = names().assign(
        votes=("metric", [False] * 3),
        consensus=("concept", np.array([""] * 3, dtype=object)),
        consensus_votes=("concept", [0, 0, 0]),
        n_voting=0,
    )
    assert "0 of 3 concepts have a consensus of 0 voting metrics" in names_table(silent)


@pytest.mark.parametrize("left", [1, 2])
def test_columns_are_as_wide_as_what_they_hold(left):
    text = text_table(["a", "bb"], [["ccc", "d"]], left=left)
    assert text == ("a    bb\nccc   d\n" if left == 1 else "a    bb\nccc  d\n")


def test_no_voting_metric_is_hidden():
    many = xr.concat([names().isel(metric=[0])] * 24, "metric", data_vars="minimal")
    metrics = [f"metric_of_somebody_{m}" for m in range(24)]
    many = many.assign_coords(metric=metrics).assign(n_voting=24)
    lines = names_table(many).splitlines()
    heads = [line.split() for line in lines if line.startswith("consensus  ")]
    assert len(heads) > 1
    assert all(head[:3] == ["consensus", "concept", "votes"] for head in heads)
    assert [metric for head in heads for metric in head[3:]] == metrics
    assert max(map(len, lines)) <= 100
    assert sum(line.startswith("dog ") for line in lines) == len(heads)


def test_a_table_is_wrapped_where_it_is_too_wide():
    header, rows = ["a", "bb", "cc"], [["x", "1", "2"]]
    assert wrapped_table(header, rows, 1, width=9) == "a  bb  cc\nx   1   2\n"
    assert wrapped_table(header, rows, 1, width=8) == "a  bb\nx   1\n\na  cc\nx   2\n"
    assert wrapped_table(header, rows, 1, width=2) == wrapped_table(header, rows, 1, width=8)
    assert wrapped_table(header[:1], [["x"]], 1) == "a\nx\n"


def test_a_second_name_stands_beside_each_consensus():
    told = names().assign(
        consensus_second=("concept", np.array(["fur", "", "warm"], dtype=object)),
        consensus_second_votes=("concept", [2, 0, 1]),
        consensus_second_p=("concept", [0.01, np.nan, 0.5]),
        confidence=0.95,
    )
    lines = names_table(told).splitlines()
    assert "next" in lines[0].split()
    assert "warm, 1 of 2 votes, at chance" in lines[1]
    assert "fur, 2 of 2 votes, not at chance by itself" in lines[2]


def test_what_was_left_out_and_preferred_is_told():
    told = names().assign(
        n_permutations=19,
        n_tested=3,
        confidence=0.95,
        n_rare_labels=0,
        n_few_active=0,
        n_left_out=12,
        prefer="concepts",
        consensus_chance=("concept", np.array(["above chance", "", "at chance"], dtype=object)),
    )
    assert "Left out: 12 labels by leave_out." in chance_lines(told)
    assert chance_lines(told)[-1].startswith("No label was preferred: all of them are classes")
    passed = ("concept", np.array(["class:a", "", ""], dtype=object))
    assert chance_lines(told.assign(consensus_passed_over=passed))[-1] == (
        "Labels that are no classes are preferred where they are not at chance: as consensus of "
        "1 concept, in place of another label."
    )
