"""The name that metrics agree on: an election among labels, with one vote for each metric."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from evals.sanity.protocol import PASSES

UNTESTED = "untested"


def verdicts_of(metrics: Sequence[str], sanity: Mapping[str, str] | None) -> list[str]:
    """Return the verdict of the sanity check on each metric, "untested" where there is none."""
    known = sanity or {}
    return [known.get(metric) or UNTESTED for metric in metrics]


def voters(verdicts: Sequence[str], is_tested: bool = True) -> np.ndarray:
    """Return which metrics vote (metric,): those that pass, or all where nothing was tested."""
    if not is_tested:
        return np.ones(len(verdicts), dtype=bool)
    return np.array([verdict == PASSES for verdict in verdicts], dtype=bool)


def elect(best: np.ndarray, voting: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the label that most voting metrics rank first, and how many do.

    Of labels with equally many votes, the one with the largest sum of reciprocal ranks over the
    voting metrics (1 for a first place, 1/2 for a second, 0 beyond the ranks that are kept) wins,
    and of those the first. Metrics that always rank alike, as F1 score and IoU do, vote alike.

    Parameters
    ----------
    best : ndarray of int
        (concept, metric, rank) the best labels, -1 for none.
    voting : ndarray of bool
        (metric,) which metrics vote.

    Returns
    -------
    winner, votes : ndarray of int64
        (concept,) the label, -1 where no voting metric has one; and the number of its votes.
    """
    ballots = best[:, np.asarray(voting, dtype=bool)]
    elected = [_elect_one(ballot) for ballot in ballots]
    return tuple(np.array(elected, dtype=np.int64).reshape(-1, 2).T)  # type: ignore[return-value]


def _elect_one(ballot: np.ndarray) -> tuple[int, int]:
    """Elect by one concept's ballot (metric, rank)."""
    firsts = ballot[:, :1].ravel()
    candidates, votes = np.unique(firsts[firsts >= 0], return_counts=True)
    if not len(candidates):
        return -1, 0
    worth = 1 / np.arange(1, ballot.shape[1] + 1)
    support = [float(((ballot == label) * worth).sum()) for label in candidates]
    index = np.lexsort((candidates, -np.round(support, 9), -votes))[0]
    return int(candidates[index]), int(votes[index])
