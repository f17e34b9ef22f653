"""Attempts at parts of a task: beside each other, and never beside one at the whole."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from registry.plan.artifacts import (
    Attempt,
    ExperimentStore,
    StaleAttemptError,
    TaskBusyError,
    read_attempts,
)
from registry.record.states import State
from registry.store.manifest import Provenance
from registry.store.parts import Part
from registry.store.shards import PartWritten, Shards, ShardWriter
from tests.registry.plan.test_artifacts import FINGERPRINT, SHARDED, task, uid

N_SHARDS = 5
INPUTS = {"features": "abc"}


@pytest.fixture
def statuses() -> dict[str, str]:
    """What the journals of runs say."""
    return {}


@pytest.fixture
def store(tmp_path: Path, statuses: dict[str, str]) -> ExperimentStore:
    return ExperimentStore(tmp_path / "artifacts", lambda run: statuses.get(run, ""))


@pytest.fixture
def begin(store: ExperimentStore) -> Iterator[object]:
    """Begins attempts, numbered as they come, which are closed in the end."""
    numbers, begun = itertools.count(), []

    def attempt(part: str = "", sources: str = "code", current: str | None = "") -> Attempt:
        given = "fashion", FINGERPRINT, task(), uid(next(numbers)), INPUTS, sources
        own = store.begin(*given, current=current, part=Part.parse(part))
        begun.append(own)
        return own.__enter__()

    yield attempt
    for own in begun:
        own.close()


def write(attempt: Attempt) -> Shards:
    """Write what is missing, as a stage does: its own shards, or all and the end."""
    own = attempt.part.share(N_SHARDS) if attempt.part else None
    writer = ShardWriter(attempt.output, SHARDED, parts=own, guard=attempt.require_held)
    for index in writer.indices(N_SHARDS):
        if index not in writer.done:
            rows = np.arange(2 * index, 2 * index + 2)
            values = {"x": (("a", "b"), np.ones((2, 3)) * rows[:, None])}
            writer.append(xr.Dataset(values, {"a": rows}), index)
    writer.end_part()
    return writer.finish(xr.Dataset({"count": N_SHARDS}))


def write_part(attempt: Attempt) -> None:
    with closing(attempt):
        with pytest.raises(PartWritten):
            write(attempt)
        attempt.finish_part(1.5)


def publish(attempt: Attempt) -> str:
    with closing(attempt):
        parts = tuple(part.entry() for part in attempt.written_parts)
        made = Provenance(run=attempt.uid, parts=parts)
        return attempt.publish(write(attempt), SHARDED, made).content


def test_shares_are_all_pieces_once_and_in_order() -> None:
    for count, of in itertools.product(range(8), range(1, 10)):
        shares = [Part(number, of).share(count) for number in range(1, of + 1)]
        assert [index for share in shares for index in share] == list(range(count))
        assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_parts_side_by_side_give_the_digest_of_one_attempt(begin, store) -> None:
    expected = publish(begin())
    second, first = begin("2/2", current=None), begin("1/2", current=None)
    assert len({second.partial, first.partial}) == 1
    write_part(second)
    write_part(first)
    assert publish(begin(current=None)) == expected
    state = store.state("fashion", FINGERPRINT)
    assert state.run == uid(3)
    assert state.durations[0] >= 3, "the seconds of both parts, and of what closed them"
    assert read_attempts(store.folder("fashion", FINGERPRINT)) == [uid(i) for i in range(4)]
    assert not list(store.root.glob("*/*/partial*"))


@pytest.mark.parametrize(("held", "wanted"), [("1/3", "1/3"), ("1/3", "2/4"), ("1/3", "")])
def test_what_is_in_the_way_of_an_attempt_is_named(begin, held: str, wanted: str) -> None:
    at_it = begin(held)
    for _ in range(2):
        with pytest.raises(TaskBusyError) as error:
            begin(wanted)
        assert error.value.run == at_it.uid
    at_it.close()
    begin(wanted)


def test_no_part_is_written_beside_the_whole(begin) -> None:
    whole = begin()
    with pytest.raises(TaskBusyError, match=whole.uid):
        begin("1/2")
    publish(whole)
    with pytest.raises(TaskBusyError, match=whole.uid):
        begin("1/2")


def test_a_part_on_another_host_is_known_by_its_journal(begin, statuses, store) -> None:
    gone = begin("1/2")
    gone._lock._lock.release()  # as if its lock were not seen here
    statuses[gone.uid] = "RUNNING"
    with pytest.raises(TaskBusyError, match=gone.uid):
        begin("1/2")
    statuses[gone.uid] = "DIED"
    begin("1/2")
    with pytest.raises(StaleAttemptError, match="was taken for dead"):
        gone.require_held()


def test_parts_of_other_code_are_no_part_of_it(begin, store, capsys) -> None:
    write_part(begin("1/2"))
    known = "fashion", FINGERPRINT, Part(1, 2), INPUTS
    assert store.part_state(*known, "code")[0].run == uid(0)
    assert store.part_state(*known, "other code") == (None, "")
    alive = begin("2/2")
    with pytest.raises(TaskBusyError, match=alive.uid):
        begin("1/2", "other code")
    alive.close()
    assert capsys.readouterr().out == ""
    anew = begin("1/2", "other code")
    assert "made of other inputs or code; begun anew" in capsys.readouterr().out
    assert not list(anew.output.glob("part-*.nc"))
    assert anew.written_parts == ()


def test_another_number_of_parts_takes_over_what_is_there(begin, store) -> None:
    write_part(begin("1/2"))
    before = {path: path.stat().st_mtime_ns for path in store.root.rglob("part-*.nc")}
    for number in (1, 2, 3):
        assert store.part_state("fashion", FINGERPRINT, Part(number, 3), INPUTS)[0] is None
        write_part(begin(f"{number}/3"))
    assert (
        before.items() <= {p: p.stat().st_mtime_ns for p in store.root.rglob("part-*.nc")}.items()
    )
    publish(begin())


def test_how_a_task_stands_that_is_written_in_parts(begin, store, statuses) -> None:
    def stands() -> tuple[State, str, str]:
        state = store.state("fashion", FINGERPRINT)
        return state.status, state.run, state.why

    first, second = begin("1/3"), begin("2/3")
    statuses |= {first.uid: "RUNNING", second.uid: "COMPLETED"}
    assert stands() == (State.RUNNING, first.uid, "part 1 of 3")
    statuses[first.uid] = "FAILED"
    assert stands() == (State.FAILED, first.uid, "part 1 of 3")
    first.close()
    again = begin("1/3")
    statuses[again.uid] = "COMPLETED"
    assert stands() == (State.INTERRUPTED, again.uid, "2 of 3 parts are written")
    for attempt in (again, second):
        attempt.close()
    closing_run = begin()
    statuses[closing_run.uid] = "DIED"
    assert stands()[:2] == (State.DIED, closing_run.uid)


def test_a_deleted_run_leaves_what_is_said_of_the_other_parts(begin, store) -> None:
    folder = store.folder("fashion", FINGERPRINT)
    for code in ("1/2", "2/2"):
        write_part(begin(code))
    store.forget_run(folder / uid(0))
    assert (folder / "attempts").read_text() == f"{uid(1)} 2/2\n"
