"""A stage whose parts are written by runs of their own, one after the other."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from registry.store.parts import Part
from registry.store.shards import PartWritten, Shards, ShardWriter


def closed_over(work: Callable[[Any], Shards], make_run: Callable[[], Any], of: int) -> Shards:
    """Return what the run that closes a dataset makes, when others have written its parts.

    Parameters
    ----------
    work : callable
        Does a stage's work in a run.
    make_run : callable
        Makes runs that write into one folder.
    of : int
        Runs that write a part each.
    """
    folder = Path(make_run().shards().folder)
    found: dict[Path, int] = {}
    for number in range(1, of + 1):
        run = make_run()
        run.shards = _shards_of(run.shards, Part(number, of))
        with pytest.raises(PartWritten):
            work(run)
        now = _written(folder)
        assert found.items() <= now.items(), "nobody writes what another one has written"
        found = now
    closed = work(make_run())
    assert _written(folder) == found, "what closes the dataset writes no part"
    assert len(closed.rows) == len(found)
    return closed


def _written(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.glob("part-*.nc")}


def _shards_of(shards: Callable[[], ShardWriter], part: Part) -> Callable[[int], ShardWriter]:
    def open_own(count: int) -> ShardWriter:
        whole, own = shards(), part.share(count)
        if not own:
            raise PartWritten
        return ShardWriter(whole.folder, whole.schema, parts=own)

    return open_own
