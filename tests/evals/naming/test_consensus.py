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


def test_those_vote_that_pass_and_none_without_a_verdict():
    verdicts = verdicts_of(["iou", "auc", "new", "recall"], {"iou": "passes", "auc": "undecided"})
    assert verdicts == ["passes", "undecided", "untested", "untested"]
    assert voters(verdicts).tolist() == [True, False, False, False]
    assert not voters(verdicts_of(["iou"], None)).any()
    assert verdicts_of(["iou"], {"iou": ""}) == ["untested"]


def test_many_ballots_are_counted_as_one_by_one(monkeypatch):
    rng = np.random.default_rng(0)
    best = np.array([[rng.permutation(5)[:3] for _ in range(4)] for _ in range(60)])
    best[::7, 1:] = -1
    voting = np.array([True, True, False, True])
    expected = []
    for ballot in best[:, voting].tolist():
        votes = {label: sum(own[0] == label for own in ballot) for own in ballot for label in own}
        worth = {
            label: round(sum(1 / (own.index(label) + 1) for own in ballot if label in own), 9)
            for label in votes
        }
        firsts = {own[0] for own in ballot} - {-1}
        winner = min(firsts, key=lambda label: (-votes[label], -worth[label], label))
        expected.append((winner, votes[winner]))
    monkeypatch.setattr("evals.naming.consensus.BALLOTS_AT_ONCE", 100)
    assert list(zip(*(own.tolist() for own in elect(best, voting)), strict=True)) == expected
    assert [own.tolist() for own in elect(best[:0], voting)] == [[], []]
