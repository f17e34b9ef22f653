"""How long calls take, at the least: what else runs on a machine can only add to that."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable


def least(
    *calls: Callable[[], object],
    rounds: int = 5,
    clock: Callable[[], float] = time.perf_counter,
    warm_up: bool = False,
) -> list[float]:
    """Return the fewest seconds of each call, all called in turn once a round.

    Parameters
    ----------
    *calls : callable
        Without arguments.
    rounds : int
        How often each is measured.
    clock : callable
        :func:`time.perf_counter`, or :func:`time.process_time` for what a processor works.
    warm_up : bool
        Whether a round that counts for none goes first.
    """
    taken: list[list[float]] = [[] for _ in calls]
    for number in range(rounds + warm_up):
        for call, seconds in zip(calls, taken, strict=True):
            gc.collect()
            start = clock()
            call()
            if number >= warm_up:
                seconds.append(clock() - start)
    return list(map(min, taken))


def seconds(call: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> float:
    """Return how long one call takes."""
    start = clock()
    call()
    return clock() - start
