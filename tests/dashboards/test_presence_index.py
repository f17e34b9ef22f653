"""Presences that are read in the background, and kept."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from dashboards.server.presence_index import MOST_KEPT, PresenceIndex, cache_folder
from fact.traces import by_concept
from fact.traces.by_concept import (
    ABANDONED,
    ENTRIES,
    FOLDER,
    INDEX,
    Block,
    Presences,
    lay_down,
    open_kept,
    read_presences,
)
from registry.store.durable import StoreError
from registry.store.manifest import DERIVED
from tests.fact.test_by_concept import CONCEPTS, IMAGES, dataset

LARGE = 10**9
PATIENCE = 60.0


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return cache_folder(tmp_path, "0123456789abcdef" * 4)


@pytest.fixture(autouse=True)
def short_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read a few images at a time, so that small arrays make several blocks."""
    monkeypatch.setattr(by_concept.read_blocks, "__defaults__", (10 * CONCEPTS,))


def wait(known: PresenceIndex) -> None:
    until = time.monotonic() + PATIENCE
    while known.is_reading and time.monotonic() < until:
        time.sleep(0.005)


def index(folder: Path, cells: int = LARGE) -> PresenceIndex:
    made = PresenceIndex(dataset, cells, folder)
    wait(made)
    return made


def assert_whole(known: Presences | None) -> None:
    assert known is not None
    assert known.is_whole
    expected = read_presences(dataset())
    for concept in range(CONCEPTS):
        np.testing.assert_array_equal(known.column(concept), expected.column(concept))
        np.testing.assert_allclose(known.correlations(concept), expected.correlations(concept))


def test_a_small_dataset_is_read_at_once_and_not_kept(folder: Path) -> None:
    known = PresenceIndex(dataset, IMAGES * CONCEPTS, folder)
    assert not known.is_reading
    assert_whole(known.presences())
    assert not folder.parent.exists()


def test_a_large_one_is_read_by_a_thread_and_kept(folder: Path) -> None:
    known = index(folder)
    assert (known.trouble, known.is_reading) == ("", False)
    assert_whole(known.presences())
    assert len(known.presences().blocks) == 6
    assert_whole(open_kept(folder))
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_what_is_kept_is_not_read_again(folder: Path) -> None:
    index(folder)

    def never() -> xr.Dataset:
        raise AssertionError("the dataset was opened")

    again = PresenceIndex(never, LARGE, folder)
    assert not again.is_reading
    assert_whole(again.presences())


def test_readers_see_what_was_read_so_far(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Presences] = []
    known = PresenceIndex.__new__(PresenceIndex)
    write = by_concept._on_disk

    def look(*told: Any) -> Block:
        seen.append(known.presences())
        return write(*told)

    monkeypatch.setattr(by_concept, "_on_disk", look)
    known.__init__(dataset, LARGE, folder)  # type: ignore[misc]
    wait(known)
    seen.append(known.presences())
    assert [one.n_read for one in seen] == [0, 10, 20, 30, 40, 50, IMAGES]
    assert_whole(seen[-1])
    np.testing.assert_array_equal(
        seen[2].column(0), read_presences(dataset().isel(image=slice(20))).column(0)
    )


@pytest.mark.parametrize("name", [ENTRIES, INDEX])
@pytest.mark.parametrize("how", ["cut", "gone", "bytes"])
def test_what_is_damaged_is_made_again(folder: Path, name: str, how: str) -> None:
    index(folder)
    file = folder / name
    content = file.read_bytes()
    if how == "gone":
        file.unlink()
    else:
        file.write_bytes(content[: len(content) // 2] if how == "cut" else os.urandom(50))
    assert open_kept(folder) is None
    assert_whole(index(folder).presences())
    assert_whole(open_kept(folder))


def test_what_was_laid_down_is_taken(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(by_concept, "SMALL_CELLS", 0)
    beside = tmp_path / "run" / DERIVED
    lay_down(dataset(), beside)
    assert [path.name for path in beside.iterdir()] == [FOLDER]

    def never() -> xr.Dataset:
        raise AssertionError("the dataset was opened")

    known = PresenceIndex(never, LARGE, folder, tmp_path / "run")
    assert_whole(known.presences())
    assert not folder.exists()


def test_what_is_damaged_in_place_is_noticed_and_read_anew(folder: Path, tmp_path: Path) -> None:
    for _ in by_concept.kept_blocks(dataset(), tmp_path / "run" / DERIVED / FOLDER):
        pass
    file = tmp_path / "run" / DERIVED / FOLDER / ENTRIES
    content = bytearray(file.read_bytes())
    content[9] ^= 1  # of the first concept's first entry
    file.write_bytes(content)
    known = PresenceIndex(dataset, LARGE, folder, tmp_path / "run")
    with pytest.raises(StoreError, match="damaged"):
        known.presences().column(0)
    known.read_anew()
    wait(known)
    assert_whole(known.presences())
    assert_whole(PresenceIndex(dataset, LARGE, folder, tmp_path / "run").presences())


def test_an_interrupt_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(by_concept, "SMALL_CELLS", 0)
    calls: list[int] = []

    def check() -> None:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        lay_down(dataset(), tmp_path / DERIVED, check)
    assert list((tmp_path / DERIVED).iterdir()) == []


def test_pickles_are_not_loaded(folder: Path) -> None:
    index(folder)
    known = dict(np.load(folder / INDEX))
    np.savez(folder / INDEX, **known | {"moments": np.array([{}], dtype=object)})
    assert open_kept(folder) is None


def test_a_disk_that_cannot_be_written_to_is_told(tmp_path: Path) -> None:
    (tmp_path / ".factbook").write_text("in the way")
    known = index(cache_folder(tmp_path, "a" * 64))
    assert known.trouble
    assert not known.is_dense
    assert known.presences().n_read == 0


def test_what_is_present_everywhere_is_not_kept(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(by_concept, "MOST_ENTRIES", 10)
    known = index(folder)
    assert "too many to be kept" in known.trouble
    assert known.is_dense
    assert list(folder.parent.iterdir()) == []


def test_of_two_servers_one_keeps(folder: Path) -> None:
    both = [PresenceIndex(dataset, LARGE, folder) for _ in range(2)]
    for one in both:
        wait(one)
        assert one.trouble == ""
        assert_whole(one.presences())
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_the_oldest_is_given_up_and_what_was_abandoned_removed(tmp_path: Path) -> None:
    index(cache_folder(tmp_path, "f" * 64))
    parent = cache_folder(tmp_path, "").parent
    abandoned = parent / ".presences-1-x.1-aa"
    abandoned.mkdir()
    long_ago = time.time() - ABANDONED - 10
    os.utime(abandoned, (long_ago, long_ago))
    for number in range(MOST_KEPT):
        index(cache_folder(tmp_path, f"{number:x}" * 64))
    left = {path.name for path in parent.iterdir()}
    assert left == {cache_folder(tmp_path, f"{n:x}" * 64).name for n in range(MOST_KEPT)}


ENDS = """
import sys, time
from pathlib import Path
import dashboards.server.presence_index as it
from registry.store.datasets import open_dataset
from tests.dashboards import fabricate_large as large
from fact.traces.by_concept import read_blocks

size = large.Size(images=2_000, concepts=400, active=40, classes=10, images_of_part=1_000)
project = large.concepts_only(Path(sys.argv[1]), size)
read_blocks.__defaults__ = (400 * 20,)
it.SMALL_CELLS = 0
dataset = open_dataset(project.current("large-concepts"))
index = it.PresenceIndex(lambda: dataset, 2_000 * 400, Path(sys.argv[1]) / "cache" / "presences-x")
while not index.presences().blocks:
    time.sleep(0.001)
print("reading", index.is_reading)
"""


@pytest.mark.slow
def test_a_server_that_ends_while_it_reads_ends_at_once(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", ENDS, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    assert done.stdout == "reading True\n"
    assert (done.returncode, done.stderr) == (0, "")
    assert list((tmp_path / "cache").iterdir()) == []
