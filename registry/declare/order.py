"""The order in which named things can be made, and the cycles that leave none."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping


def topological_order(behind: Mapping[str, set[str]]) -> list[str]:
    """Sort names after those behind them, else as given; what waits for a cycle is left out."""
    names = list(behind)
    position = {name: index for index, name in enumerate(names)}
    ahead: dict[str, list[str]] = {name: [] for name in names}
    waiting = {name: len(needed) for name, needed in behind.items()}
    for name, needed in behind.items():
        for other in needed:
            ahead[other].append(name)
    ready = [index for index, name in enumerate(names) if not waiting[name]]
    order = []
    while ready:
        order.append(names[heapq.heappop(ready)])
        for name in ahead[order[-1]]:
            waiting[name] -= 1
            if not waiting[name]:
                heapq.heappush(ready, position[name])
    return order


def cycles(behind: Mapping[str, set[str]], stuck: set[str]) -> Iterator[tuple[str, ...]]:
    """Yield a shortest cycle through every name that is in one, unless it was in one before."""
    told: set[str] = set()
    for name in behind:
        if name in stuck and name not in told:
            cycle = _shortest_cycle(name, behind)
            told.update(cycle)
            if cycle:
                yield cycle


def _shortest_cycle(start: str, behind: Mapping[str, set[str]]) -> tuple[str, ...]:
    paths: dict[str, tuple[str, ...]] = {start: (start,)}
    queue = [start]
    for name in queue:  # grows while it is walked: breadth first
        if start in behind[name]:
            return paths[name]
        for other in sorted(behind[name] - paths.keys()):
            paths[other] = (*paths[name], other)
            queue.append(other)
    return ()
