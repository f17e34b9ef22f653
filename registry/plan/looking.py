"""Who is told of the hashing of outside data, and for how long what was seen of it holds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path


@dataclass
class Hashing:
    """How far the hashing of a folder or file is.

    Attributes
    ----------
    path : str
        What is hashed.
    n_files, n_bytes : int
        How much has to be read.
    files, bytes : int
        How much has been.
    """

    path: str
    n_files: int
    n_bytes: int
    files: int = 0
    bytes: int = 0


WATCH: ContextVar[Callable[[Hashing], None] | None] = ContextVar("watch", default=None)
SEEN: ContextVar[dict[tuple[Path, Path | None], str] | None] = ContextVar("seen", default=None)


@contextmanager
def hashing_told(watch: Callable[[Hashing], None]) -> Iterator[None]:
    """Tell how far hashing is while the context lasts: at its beginning, now and then, at its end.

    What ``watch`` raises ends the hashing; what was hashed by then is kept.
    """
    token = WATCH.set(watch)
    try:
        yield
    finally:
        WATCH.reset(token)


@contextmanager
def looked_at_once() -> Iterator[None]:
    """Look at the same data once while the context lasts, which is to be a moment.

    What is planned, and what is begun, asks several times for the same identities.
    """
    if SEEN.get() is not None:
        yield
        return
    token = SEEN.set({})
    try:
        yield
    finally:
        SEEN.reset(token)
