"""Losses of runs in few points, read behind the backs of readers: a long training has many."""

from __future__ import annotations

import threading
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor

from dashboards.views.runs.curves import spark
from dashboards.views.runs.runs import run_key
from registry.catalog.access import Catalog
from registry.catalog.runs import RunView

MOST = 2000
"""Runs whose losses are kept."""

State = tuple[str, float | None]


class Sparks:
    """Losses of runs as they were when they were read last; one thread reads.

    Attributes
    ----------
    version : int
        Grows whenever one has been read.
    """

    def __init__(self) -> None:
        self.version = 0
        self._known: OrderedDict[str, tuple[State, list[float] | None]] = OrderedDict()
        self._asked: set[str] = set()
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(1, "sparks")

    def of(self, catalog: Catalog, run: RunView) -> list[float] | None:
        """Return the loss of a run as far as it is known; what is not is read soon."""
        key, state = run_key(run), (run.status, run.seconds)
        with self._lock:
            before, found = self._known.get(key, (None, None))
            if before != state and key not in self._asked:
                self._asked.add(key)
                self._pool.submit(self._read, catalog, run, key, state)
        return found

    def _read(self, catalog: Catalog, run: RunView, key: str, state: State) -> None:
        found = None
        try:
            found = spark(catalog.metrics(run))
        finally:  # what cannot be read has none
            with self._lock:
                self._known[key] = state, found
                self._known.move_to_end(key)
                while len(self._known) > MOST:
                    self._known.popitem(last=False)
                self._asked.discard(key)
                self.version += found is not None
