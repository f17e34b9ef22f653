"""What threads do beside a loop: steps behind it, for what it hands over; items ahead of it."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")
Step = Callable[[Any], Any]
_END: Any = object()


class Pipeline:
    """Steps that are taken behind whoever hands over items: a thread for each, in order.

    What a step returns is given to the next. The first error of a step is raised by the next call
    here, and an item whose step failed is in no later one.

    Parameters
    ----------
    steps : sequence of callable
        Each takes one item.
    most : int
        Items that are under way at most; who hands over one more waits.
    name : str
        Of the threads.
    """

    def __init__(self, steps: Sequence[Step], most: int, name: str):
        self._steps = tuple(steps)
        self._most = most
        self._name = name
        self._threads: list[ThreadPoolExecutor] = []
        self._under_way: deque[Future[Any]] = deque()

    def put(self, item: Any) -> None:
        """Hand over an item, as soon as there is room for it.

        Raises
        ------
        BaseException
            What a step of an item before has raised; then this one is not taken.
        """
        while len(self._under_way) >= self._most or (self._under_way and self._under_way[0].done()):
            self._await_first()
        if not self._threads:
            self._threads = [ThreadPoolExecutor(1, self._name) for _ in self._steps]
        future = self._threads[0].submit(self._steps[0], item)
        for thread, step in zip(self._threads[1:], self._steps[1:], strict=True):
            future = thread.submit(_go_on, future, step)
        self._under_way.append(future)

    def wait(self) -> None:
        """Wait until all that was handed over has gone through all steps.

        Raises
        ------
        BaseException
            The first that a step has raised; the other items have gone through all the same.
        """
        try:
            while self._under_way:
                self._await_first()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End the threads once what is under way has gone through; errors are not told."""
        for thread in self._threads:
            thread.shutdown()
        self._threads = []
        self._under_way.clear()

    def _await_first(self) -> None:
        first = self._under_way[0]
        first.exception()  # an interrupt of this wait leaves it under way
        self._under_way.popleft().result()


def _go_on(before: Future[Any], step: Step) -> Any:
    return step(before.result())


def read_ahead(
    make: Callable[[threading.Event], Generator[T, None, None]], most: int
) -> Generator[T, None, None]:
    """Yield what a thread makes ahead of who asks for it, in the same order.

    Parameters
    ----------
    make : callable
        Given an event, returns the generator, which only that thread goes through. Once the event
        is set, nobody wants the items any more: one that takes long to make should end early.
    most : int
        Items that are made in advance, at least 1.

    Yields
    ------
    object
        The items. What making one raises is raised where it is due.
    """
    unwanted = threading.Event()
    items = make(unwanted)
    with ThreadPoolExecutor(1, "read-ahead") as thread:
        try:
            pending = deque(thread.submit(next, items, _END) for _ in range(most))
            while (item := pending.popleft().result()) is not _END:
                pending.append(thread.submit(next, items, _END))
                yield item
        finally:
            unwanted.set()
            thread.shutdown(cancel_futures=True)
            items.close()
