"""Work on blocks side by side, results in order."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from threading import RLock
from typing import Any, Generic, TypeVar, overload

from threadpoolctl import threadpool_limits

S = TypeVar("S")
T = TypeVar("T")


def count_processors() -> int:
    """Return how many processors this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)  # not everywhere
    return len(affinity(0)) if affinity else os.cpu_count() or 1


@contextmanager
def one_thread_each(workers: int) -> Iterator[None]:
    """Keep matrix products in the thread that asks for them while several threads work.

    Products that each use all processors wait for each other. This holds for the whole process.
    """
    if workers <= 1:
        yield
        return
    with threadpool_limits(1, user_api="blas"):
        yield


class Shared:
    """Thread-safe cached properties."""

    def __init__(self) -> None:
        self.lock = RLock()


class shared_property(Generic[T]):  # noqa: N801  a decorator
    """A property of something `Shared`, computed once by the first thread that asks for it.

    Others wait meanwhile. Threads that compute a part of it must not ask for shared properties.
    """

    def __init__(self, compute: Callable[[Any], T]):
        self._compute = compute
        self._name = compute.__name__
        self.__doc__ = compute.__doc__

    @overload
    def __get__(self, owner: None, kind: type) -> shared_property[T]: ...

    @overload
    def __get__(self, owner: Shared, kind: type) -> T: ...

    def __get__(self, owner: Shared | None, kind: type) -> T | shared_property[T]:
        if owner is None:
            return self
        with owner.lock:
            if self._name not in owner.__dict__:
                owner.__dict__[self._name] = self._compute(owner)
            value: T = owner.__dict__[self._name]  # from now on found there first
        return value


def map_in_order(work: Callable[[S], T], items: Sequence[S], workers: int = 1) -> Iterator[T]:
    """Yield the results of ``work`` in the order of ``items``.

    Parameters
    ----------
    work : callable
        Of one item.
    items : sequence
        What to work on.
    workers : int
        Threads; they are never more than two results each ahead of whoever takes them, so that
        memory stays bounded.
    """
    if workers <= 1:
        for item in items:  # `map` would take a StopIteration of the work for its own end
            yield work(item)
        return
    with ThreadPoolExecutor(workers) as pool:
        waiting: deque[Future[T]] = deque()
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) >= 2 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
