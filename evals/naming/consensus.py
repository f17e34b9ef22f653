"""The name that metrics agree on: an election among labels, with one vote for each metric."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from evals.sanity.protocol import PASSES

UNTESTED = "untested"

BALLOTS_AT_ONCE = 1 << 22  # places of ballots that are compared with a candidate at once


def verdicts_of(metrics: Sequence[str], sanity: Mapping[str, str] | None) -> list[str]:
    """Return the verdict of the sanity check on each metric, "untested" where there is none."""
    known = sanity or {}
    return [known.get(metric) or UNTESTED for metric in metrics]


def voters(verdicts: Sequence[str]) -> np.ndarray:
    """Return which metrics vote (metric,): those that pass; one without a verdict does not."""
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
    if not ballots.size:
        return np.full(len(best), -1, dtype=np.int64), np.zeros(len(best), dtype=np.int64)
    size = max(1, BALLOTS_AT_ONCE // (ballots.shape[1] * ballots[0].size))
    parts = [_elect(ballots[i : i + size]) for i in range(0, len(ballots), size)]
    winner, votes = (np.concatenate([part[i] for part in parts]) for i in (0, 1))
    return winner.astype(np.int64), votes.astype(np.int64)


def elect_second(
    best: np.ndarray, winner: np.ndarray, voting: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return what `elect` does where one label (concept,) stands no more for election."""
    is_left = best != np.asarray(winner)[:, None, None]
    order = np.argsort(~is_left, axis=2, kind="stable")
    moved = np.take_along_axis(np.where(is_left, best, -1), order, axis=2)
    return elect(moved, voting)


def _elect(ballots: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Elect by the ballots (concept, metric, rank) of some concepts."""
    firsts = ballots[:, :, 0]
    votes = (firsts[:, :, None] == firsts[:, None]).sum(axis=2)
    votes[firsts < 0] = 0
    worth = 1 / np.arange(1, ballots.shape[2] + 1)
    named = ballots[:, None] == firsts[:, :, None, None]
    support = np.round(named.sum(axis=2) @ worth, 9)
    is_left = votes == votes.max(axis=1, keepdims=True)
    support[~is_left] = -1
    is_left &= support == support.max(axis=1, keepdims=True)
    winner = np.where(is_left, firsts, np.iinfo(firsts.dtype).max).min(axis=1)
    most = votes.max(axis=1)
    return np.where(most > 0, winner, -1), most
