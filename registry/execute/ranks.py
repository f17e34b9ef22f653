"""Processes that torchrun starts to run one task together: the first records, the others help.

Each has a rank, from 0. They share a store of words (of the launcher, which outlives them), by
which they learn whether there is anything to run, and how another one ended: an interrupt of one
interrupts the run, and one that is gone without a word fails it.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from signal import SIGTERM
from typing import Protocol

from registry.declare.faults import StageError
from registry.declare.stage import Stage
from registry.interrupts import SignalInterrupt
from registry.record.liveness import ProcessIdentity

PATIENCE_SECONDS = 10.0
"""How long a process that failed waits to learn whether another one was the reason."""
_PAUSE_SECONDS = 0.02

_BEGIN, _PROCESS, _END = "begin", "process/{rank}", "end/{rank}"
_YES, _NO = "yes", "no"
_DONE, _INTERRUPTED, _FAILED = "done", "interrupted", "failed"


class Words(Protocol):
    """Keys and values that all processes share, as `torch.distributed.Store` keeps them."""

    def set(self, key: str, value: str) -> None:
        """Set the value of a key."""

    def get(self, key: str) -> bytes:
        """Return the value of a key that was set."""

    def check(self, keys: list[str]) -> bool:
        """Return whether all keys were set."""


@dataclass(frozen=True)
class Ranks:
    """The place of this process among those that run a task together.

    Attributes
    ----------
    rank, size : int
        Which of how many.
    words : Words
        What they share.
    """

    rank: int
    size: int
    words: Words

    @property
    def is_first(self) -> bool:
        """Whether this process records the run and publishes its dataset."""
        return self.rank == 0

    @property
    def _others(self) -> list[int]:
        return [rank for rank in range(self.size) if rank != self.rank]

    def begin(self, goes: bool = True) -> bool:
        """Say, as the first, whether there is anything to run; as another, wait for that word."""
        process = ProcessIdentity.current().facts()
        self.words.set(_PROCESS.format(rank=self.rank), json.dumps(process))
        if self.is_first:
            self.words.set(_BEGIN, _YES if goes else _NO)
            return goes
        while not self.words.check([_BEGIN]):
            time.sleep(_PAUSE_SECONDS)
        return self.words.get(_BEGIN).decode() == _YES

    @contextmanager
    def together(self) -> Iterator[None]:
        """Tell the others how the work in the block ended, and take their ends for its own.

        Raises
        ------
        SignalInterrupt
            If it failed since another process was interrupted.
        StageError
            If another process failed, or is gone without a word.
        """
        try:
            yield
        except KeyboardInterrupt:
            # The launcher stops the others by a signal when one of them is gone.
            if lost := self._lost():
                self._leave(_FAILED)
                raise StageError(_gone(lost)) from None
            self._leave(_INTERRUPTED)
            raise
        except Exception as error:
            self._raise_reason(error)
            self._leave(f"{_FAILED}: {error}")
            raise
        self._leave(_DONE)

    def _raise_reason(self, error: Exception) -> None:
        """Raise why another process made this one fail, if that is so."""
        ends = self._ends_of_others()
        if _INTERRUPTED in ends.values():
            self._leave(_INTERRUPTED)
            raise SignalInterrupt(SIGTERM) from error
        if failed := [rank for rank, end in ends.items() if end.startswith(_FAILED)]:
            self._leave(_FAILED)
            why = ends[failed[0]].removeprefix(_FAILED)
            raise StageError(f"rank {failed[0]} failed{why}") from error
        if lost := self._lost():
            self._leave(_FAILED)
            raise StageError(_gone(lost)) from error

    def _ends_of_others(self) -> dict[int, str]:
        """Wait a while until another process has ended, and return how those that have did."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            ends = {rank: self._end(rank) for rank in self._others}
            known = {rank: end for rank, end in ends.items() if end and end != _DONE}
            if known or self._lost() or time.monotonic() > deadline:
                return known
            time.sleep(_PAUSE_SECONDS)

    def _end(self, rank: int) -> str:
        return self._word(_END.format(rank=rank))

    def _lost(self) -> list[int]:
        """Return who is gone without a word, as far as can be seen from this host."""
        return [rank for rank in self._others if self._is_gone(rank) and not self._end(rank)]

    def _is_gone(self, rank: int) -> bool:
        facts = self._word(_PROCESS.format(rank=rank))
        process = ProcessIdentity.from_facts(json.loads(facts)) if facts else None
        return process is not None and process.state() == "gone"

    def _word(self, key: str) -> str:
        with suppress(RuntimeError):  # the launcher is gone, and its store
            return self.words.get(key).decode() if self.words.check([key]) else ""
        return ""

    def _leave(self, how: str) -> None:
        with suppress(RuntimeError):
            self.words.set(_END.format(rank=self.rank), how)


def _gone(ranks: list[int]) -> str:
    return f"rank {', '.join(map(str, ranks))} is gone without a word: it was killed, or crashed"


def join_ranks(stage: Stage, environment: Mapping[str, str] = os.environ) -> Ranks | None:
    """Join the processes that torchrun has started with this one.

    Parameters
    ----------
    stage : Stage
        What they run.
    environment : mapping of str to str
        Where torchrun says who this is: ``RANK``, ``WORLD_SIZE``, ``MASTER_ADDR``.

    Returns
    -------
    Ranks or None
        None where this process is alone.

    Raises
    ------
    StageError
        If the stage runs in one process.
    """
    size = int(environment.get("WORLD_SIZE", 1)) if "MASTER_ADDR" in environment else 1
    if size == 1:
        return None
    words = stage.join()
    if words is None:
        raise StageError(
            f"{stage.name} runs in one process; torchrun started {size} (--nproc-per-node 1)"
        )
    return Ranks(int(environment["RANK"]), size, words)
