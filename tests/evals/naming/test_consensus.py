"""Elections among labels, by hand."""

from __future__ import annotations

import numpy as np

from evals.naming.consensus import elect, verdicts_of, voters

ALL = np.ones(3, dtype=bool)


def test_most_votes_win():
    best = np.array([[[7, 2], [3, 7], [3, 1]]])
    assert [found.tolist() for found in elect(best, ALL)] == [[3], [2]]


def test_only_voting_metrics_count():
    best = np.array([[[7, 2], [3, 7], [3, 1]]])
    assert [found.tolist() for found in elect(best, np.array([True, False, False]))] == [[7], [1]]


def test_equal_votes_are_decided_by_further_ranks_and_then_by_order():
    best = np.array(
        [
            [[5, 4], [4, 9], [9, 4]],  # one vote each; 4 is second twice
            [[5, 4], [4, 5], [-1, -1]],  # nothing between them
        ]
    )
    winner, votes = elect(best, ALL)
    assert winner.tolist() == [4, 4]
    assert votes.tolist() == [1, 1]


def test_without_voters_or_names_there_is_no_consensus():
    best = np.array([[[5, 4], [4, 5], [5, 4]], [[-1, -1]] * 3])
    assert elect(best, ~ALL)[0].tolist() == [-1, -1]
    winner, votes = elect(best, ALL)
    assert winner.tolist() == [5, -1]
    assert votes.tolist() == [2, 0]


def test_those_vote_that_pass_or_all_where_nothing_was_tested():
    verdicts = verdicts_of(["iou", "auc", "new", "recall"], {"iou": "passes", "auc": "undecided"})
    assert verdicts == ["passes", "undecided", "untested", "untested"]
    assert voters(verdicts).tolist() == [True, False, False, False]
    assert voters(verdicts, is_tested=False).all()
    assert verdicts_of(["iou"], {"iou": ""}) == ["untested"]
