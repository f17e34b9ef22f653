"""The order in which named things can be made, and the cycles that leave none."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping
from contextlib import suppress
from graphlib import CycleError, TopologicalSorter


def topological_order(behind: Mapping[str, set[str]]) -> list[str]:
    """Sort names after those behind them, else as given; what waits for a cycle is left out."""
    names = list(behind)
    position = {name: index for index, name in enumerate(names)}
    sorter = TopologicalSorter(behind)
    with suppress(CycleError):  # what is in no cycle is sorted all the same
        sorter.prepare()
    order: list[str] = []
    ready = [position[name] for name in sorter.get_ready()]
    heapq.heapify(ready)
    while ready:
        order.append(names[heapq.heappop(ready)])
        sorter.done(order[-1])
        for name in sorter.get_ready():
            heapq.heappush(ready, position[name])
    return order


def cycles(behind: Mapping[str, set[str]], stuck: set[str]) -> Iterator[tuple[str, ...]]:
    """Yield a shortest cycle through every name that is in one, unless it was in one before."""
    found: set[str] = set()
    for name in behind:
        if name in stuck and name not in found:
            cycle = _shortest_cycle(name, behind)
            found.update(cycle)
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
