"""What a server imports before anybody asks for it: explaining an image needs seconds of it."""

from __future__ import annotations

import gc
import importlib
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress

STEPS = {
    "dashboards.pages": 0.0,
    "dashboards.screens.first": 0.0,
    "dashboards.screens.runs": 0.0,
    "dashboards.screens.concepts": 1.0,
    "dashboards.screens.decisions": 0.0,
    "dask.array": 0.0,
    "dashboards.views.sections": 0.0,
    "torch": 0.5,
    "torchvision": 0.0,
    "fact.traces.decisions": 0.0,
}
"""Modules, and how many seconds a reader may come before each.

What the first page needs is imported at once; somebody who looks as soon as a server answers comes
before what only other pages need.
"""

PATIENCE = 10.0
"""Seconds that a step waits for readers at most."""


class Preparation:
    """Imports in a thread of its own, which makes way for readers between its steps.

    Threads of Python share one interpreter: a page that is drawn while modules are imported takes
    twice its time.

    Parameters
    ----------
    steps : mapping of str to float
        Modules to import, and seconds to wait before; one that is not installed is left out.
    """

    def __init__(self, steps: Mapping[str, float] = STEPS):
        self._steps = steps
        self._lock = threading.Lock()
        self._readers = 0
        self._quiet = threading.Event()
        self._quiet.set()
        self._hurried = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def is_busy(self) -> bool:
        """Whether it has begun, and not ended."""
        return self._thread is not None and self._thread.is_alive()

    def wait(self, seconds: float) -> bool:
        """Wait until it has ended, so long at most; return whether it has."""
        if self._thread is not None:
            self._thread.join(seconds)
        return not self.is_busy

    def hurry(self) -> None:
        """Make way for nobody any more: a reader waits for what is imported last."""
        with self._lock:
            self._hurried.set()
            self._quiet.set()

    def start(self) -> threading.Thread:
        """Begin, if that was not done yet.

        Returns
        -------
        Thread
            That imports; it ends with the process.
        """
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="imports", daemon=True)
                self._thread.start()
            return self._thread

    @contextmanager
    def reader(self) -> Iterator[None]:
        """Draw a page, meanwhile no step begins; and begin with them when it is drawn."""
        with self._lock:
            self._readers += 1
            if not self._hurried.is_set():
                self._quiet.clear()
        try:
            yield
        finally:
            with self._lock:
                self._readers -= 1
                if not self._readers:
                    self._quiet.set()
            self.start()

    def _work(self) -> None:
        """Import all; without collecting garbage meanwhile, which takes a third of that time."""
        gc.disable()
        try:
            for name, seconds in self._steps.items():
                self._hurried.wait(seconds)
                self._quiet.wait(PATIENCE)
                with suppress(ImportError):
                    importlib.import_module(name)
        finally:
            gc.enable()
        self._quiet.wait(PATIENCE)
        gc.collect()
        gc.freeze()  # Streamlit collects garbage after every click: 0.2 s with all modules


PREPARATION = Preparation()
"""That of this process."""
