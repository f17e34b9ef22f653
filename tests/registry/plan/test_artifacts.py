import errno
import os
import random
import shutil
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest
import xarray as xr

from registry.plan.artifacts import ExperimentStore, publish
from registry.record.states import State
from registry.store.datasets import open_dataset
from registry.store.digest import content_digest
from registry.store.durable import StoreError
from registry.store.manifest import Provenance
from registry.store.schema import Schema, Variable
from registry.store.shards import ShardWriter
from tests.forked import Forked

WHOLE = Schema("sae", 1, "SAE", {"x": Variable(("a",), "float", "x")}, {})
SHARDED = Schema(
    "features",
    1,
    "Features",
    {"x": Variable(("a", "b"), "float", "x"), "count": Variable((), "int", "count")},
    {"a": Variable(("a",), "int", "a")},
    sharded_along="a",
)
FINGERPRINT = "0123456789abcdef"


def task(fingerprint=FINGERPRINT, cell="fashion[k=8]", **config):
    record = {"experiment": "fashion", "cell": cell, "fingerprint": fingerprint}
    return record | {"stage": "s", "version": 1, "config": config, "needs": {}}


def uid(number):
    return f"20261122T0133{number:02d}-1a2b3c4d"


def begin(store, number=0, fingerprint=FINGERPRINT, inputs=None, sources="", **config):
    record = task(fingerprint, **config)
    return store.begin("fashion", fingerprint, record, uid(number), inputs, sources)


def leave(store, *which, **config):
    """Begin, and end without an output."""
    with begin(store, *which, **config):
        pass


def data(value=1.0):
    return xr.Dataset({"x": ("a", np.full(5000, value))})


def complete(store, number=0, fingerprint=FINGERPRINT, value=1.0, **config):
    with begin(store, number, fingerprint, **config) as attempt:
        inputs = {"features": {"content": "abc"}, "images": {"fingerprint": "f"}}
        provenance = Provenance(run=uid(number), inputs=inputs, sources="code")
        return attempt.publish(data(value), WHOLE, provenance)


@pytest.fixture
def store(tmp_path):
    return ExperimentStore(tmp_path / "artifacts")


def test_a_finished_run_is_current(store):
    written = complete(store)
    folder = store.folder("fashion", FINGERPRINT)
    assert written.folder == folder / uid(0)
    assert os.readlink(folder / "current") == uid(0)
    assert store.state("fashion", FINGERPRINT).folder == written.folder
    listed = sorted(os.listdir(folder))
    assert listed == [".lock", uid(0), "attempts", "current", "task.json"]
    state = store.state("fashion", FINGERPRINT, verify=True)
    assert (state.status, state.run, state.why) == (State.COMPLETE, uid(0), "")
    assert state.folder == written.folder
    known = state
    assert known.content == written.content
    assert known.read == {"features": "abc"}
    assert known.sources == "code"
    assert known.durations == (written.manifest["duration"],)
    with open_dataset(folder) as read:
        xr.testing.assert_identical(read.load().drop_attrs(), data())


def test_a_second_run_is_a_dataset_of_its_own(store):
    complete(store, 0, value=1.0)
    folder = store.folder("fashion", FINGERPRINT)
    first = open_dataset(folder)
    complete(store, 1, value=2.0)
    assert (folder / "attempts").read_text().split() == [uid(0), uid(1)]
    assert store.state("fashion", FINGERPRINT).run == uid(1)
    assert first["x"].values.max() == 1.0, "an open dataset stays the run that it was"
    with open_dataset(folder) as second:
        assert second["x"].values.min() == 2.0


def test_attachments_are_part_of_the_output(store):
    with begin(store) as attempt:
        (attempt.output / "pictures").mkdir()
        (attempt.output / "pictures" / "1.png").write_bytes(b"1")
        written = attempt.publish(data(), WHOLE, Provenance())
    assert (written.folder / "pictures" / "1.png").read_bytes() == b"1"
    os.unlink(written.folder / "pictures" / "1.png")
    state = store.state("fashion", FINGERPRINT)
    assert (state.status, state.why) == (State.DAMAGED, "pictures/1.png is missing")


def test_what_an_unfinished_run_left_is_resumed(store):
    with begin(store, 0, inputs={"a": "1"}) as attempt:
        (attempt.partial / "checkpoint").write_text("half way")
        (attempt.output / "picture.png").write_text("of the first try")
        (attempt.output / "part-000000.nc").write_text("a part")
    assert store.state("fashion", FINGERPRINT).folder is None
    with begin(store, 1, inputs={"a": "1"}) as attempt:
        assert attempt.is_shared
        assert (attempt.partial / "checkpoint").read_text() == "half way"
        assert os.listdir(attempt.output) == ["part-000000.nc"]


@pytest.mark.parametrize("change", [{"inputs": {"a": "2"}}, {"inputs": {}}, {"sources": "new"}])
def test_nothing_is_resumed_for_other_inputs_or_code(store, change):
    with begin(store, 0, inputs={"a": "1"}) as attempt:
        (attempt.partial / "checkpoint").touch()
        (attempt.output / "part-000000.nc").touch()
    with begin(store, 1, **({"inputs": {"a": "1"}} | change)) as attempt:
        assert attempt.is_shared
        assert not (attempt.partial / "checkpoint").exists()
        assert os.listdir(attempt.output) == []
    assert not list(attempt.folder.glob("partial-*"))


def test_a_second_run_at_the_same_time_has_a_place_of_its_own(store):
    with begin(store, 0) as first, begin(store, 1) as second:
        assert first.partial != second.partial
        assert (first.is_shared, second.is_shared) == (True, False)
        with begin(store, 2) as third:
            assert third.partial not in (first.partial, second.partial)
        assert second.partial.exists()
        second.publish(data(2.0), WHOLE, Provenance())
        first.publish(data(1.0), WHOLE, Provenance())
    folder = store.folder("fashion", FINGERPRINT)
    assert sorted(os.listdir(folder)) == [
        ".lock",
        uid(0),
        uid(1),
        "attempts",
        "current",
        "task.json",
    ]
    assert (first.overtaken_by, second.overtaken_by) == (uid(1), "")
    assert os.readlink(folder / "current") == uid(1), "of two attempts, one publishes"


def test_a_run_that_began_after_a_publication_takes_its_place(store):
    with begin(store, 0) as first:
        first.publish(data(1.0), WHOLE, Provenance())
    with begin(store, 1) as second, begin(store, 2) as third:
        second.publish(data(2.0), WHOLE, Provenance())
        third.publish(data(3.0), WHOLE, Provenance())
    assert third.overtaken_by == uid(1)
    assert store.state("fashion", FINGERPRINT).run == uid(1)
    complete(store, 3)
    assert store.state("fashion", FINGERPRINT).run == uid(3)


ATTEMPT = """
    import sys
    from pathlib import Path
    from registry.plan.artifacts import ExperimentStore, StaleAttemptError
    from registry.store.manifest import Provenance
    from tests.registry.plan.test_artifacts import WHOLE, begin, data
    number = int(sys.argv[2])
    with begin(ExperimentStore(Path(sys.argv[1])), number) as attempt:
        print("ready", flush=True)
        sys.stdin.readline()
        try:
            attempt.publish(data(float(number)), WHOLE, Provenance())
            print("published", attempt.overtaken_by, flush=True)
        except StaleAttemptError as error:
            print("stale", error, flush=True)
"""


def publish_now(process):
    process.say("go")
    return process.finish().split()


@pytest.mark.slow
def test_of_processes_at_one_task_one_publishes(tmp_path):
    processes = [start(ATTEMPT, tmp_path, number) for number in range(3)]
    told = [publish_now(process) for process in (processes[1], processes[0], processes[2])]
    assert told == [["published"], ["published", uid(1)], ["published", uid(1)]]
    store = ExperimentStore(tmp_path)
    assert store.state("fashion", FINGERPRINT, verify=True).run == uid(1)
    folder = store.folder("fashion", FINGERPRINT)
    for number in range(3):  # each is a run with a dataset of its own
        with open_dataset(folder / uid(number)) as read:
            assert read["x"].values.min() == number
    assert not list(folder.glob("partial*"))


def without_lock(store):
    """Make a lock invisible, as that of a process on another host may be."""
    (store.folder("fashion", FINGERPRINT) / "partial" / "lock").unlink()


@pytest.mark.slow
def test_who_was_taken_for_dead_does_not_publish_over_its_successor(tmp_path):
    store = ExperimentStore(tmp_path, lambda run: "DIED")
    stale = start(ATTEMPT, tmp_path, 0)
    without_lock(store)
    with begin(store, 1) as successor:
        assert successor.is_shared, "what the other had done is gone on with"
        told = publish_now(stale)
        assert (told[0], told[2]) == ("stale", uid(0))
        assert f"run {uid(1)} has taken over" in " ".join(told)
        assert store.state("fashion", FINGERPRINT).folder is None
        successor.publish(data(1.0), WHOLE, Provenance())
    assert store.state("fashion", FINGERPRINT, verify=True).run == uid(1)
    assert not (store.folder("fashion", FINGERPRINT) / uid(0)).exists()


@pytest.mark.slow
def test_who_is_late_finds_what_its_successor_published(tmp_path):
    store = ExperimentStore(tmp_path, lambda run: "DIED")
    stale = start(ATTEMPT, tmp_path, 0)
    without_lock(store)
    complete(store, 1, value=1.0)
    told = publish_now(stale)
    assert told[0] == "stale"
    assert store.state("fashion", FINGERPRINT, verify=True).run == uid(1)


@pytest.mark.slow
def test_who_runs_on_another_host_is_not_taken_over(tmp_path):
    store = ExperimentStore(tmp_path, {uid(0): "RUNNING"}.get)
    other = start(ATTEMPT, tmp_path, 0)
    without_lock(store)
    with begin(store, 1) as second:
        assert not second.is_shared
        assert publish_now(other) == ["published"]
        second.publish(data(1.0), WHOLE, Provenance())
    assert second.overtaken_by == uid(0)
    assert store.state("fashion", FINGERPRINT, verify=True).run == uid(0)


def test_many_at_once_do_not_disturb_each_other(store):
    shared, faults = [], []

    def attempt_often(number):
        try:
            for _ in range(6):
                with begin(store, number) as attempt:
                    (attempt.output / "file").touch()
                    shared.append(attempt.is_shared)
        except Exception as error:
            faults.append(error)

    threads = [threading.Thread(target=attempt_often, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not faults
    assert any(shared)
    leave(store, 5)
    assert not list(store.folder("fashion", FINGERPRINT).glob("partial-*"))


def test_a_run_that_cannot_be_written_keeps_what_is_current(store, monkeypatch):
    complete(store, 0)
    replace = os.replace

    def full(source, target):
        if str(target).endswith("manifest.json"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        replace(source, target)

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(StoreError, match=r"disk full: cannot write .*manifest\.json"):
        complete(store, 1)
    state = store.state("fashion", FINGERPRINT, verify=True)
    assert (state.status, state.run) == (State.COMPLETE, uid(0))


def test_only_what_is_whole_is_published(tmp_path):
    (tmp_path / "run").mkdir()
    with pytest.raises(StoreError, match=r"has no manifest\.json"):
        publish(tmp_path / "run")
    assert os.listdir(tmp_path) == ["run"]


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ("RUNNING", State.RUNNING),
        ("FAILED", State.FAILED),
        ("INTERRUPTED", State.INTERRUPTED),
        ("DIED", State.DIED),
        ("COMPLETED", State.MISSING),
        ("TIMEOUT", State.FAILED),
        ("", State.MISSING),
    ],
)
def test_without_output_the_journal_says_how_it_stands(tmp_path, told, expected):
    asked = []
    store = ExperimentStore(tmp_path, lambda run: asked.append(run) or told)
    assert store.state("fashion", FINGERPRINT).status is State.NEVER
    leave(store, 0)
    leave(store, 1)
    state = store.state("fashion", FINGERPRINT)
    assert (state.status, state.run) == (expected, uid(1))
    assert asked == [uid(1)]
    complete(store, 2)
    leave(store, 3)
    assert store.state("fashion", FINGERPRINT).status is State.COMPLETE
    assert asked == [uid(1)]


def remove(path):
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def overwrite(path, text):
    remove(path)
    path.write_text(text)


def make_folder(path):
    remove(path)
    path.mkdir()


RUN = uid(0)


@pytest.mark.parametrize(
    ("spoil", "status", "why"),
    [
        (lambda f: remove(f / RUN / "dataset.nc"), State.DAMAGED, "dataset.nc is missing"),
        (
            lambda f: os.truncate(f / RUN / "dataset.nc", 9),
            State.DAMAGED,
            "dataset.nc has 9 bytes",
        ),
        (lambda f: remove(f / RUN / "manifest.json"), State.DAMAGED, "manifest.json is missing"),
        (lambda f: overwrite(f / RUN / "manifest.json", "{"), State.DAMAGED, "manifest.json"),
        (lambda f: overwrite(f / RUN / "manifest.json", "[]"), State.DAMAGED, "manifest.json"),
        (
            lambda f: overwrite(f / RUN / "manifest.json", '{"format": 1, "files": [3]}'),
            State.DAMAGED,
            "entry",
        ),
        (
            lambda f: overwrite(f / RUN / "manifest.json", '{"format": 1, "files": {}}'),
            State.DAMAGED,
            "no files",
        ),
        (lambda f: remove(f / RUN), State.DAMAGED, f"{RUN} is missing"),
        (lambda f: make_folder(f / "current"), State.DAMAGED, "current is no link"),
        (lambda f: remove(f / "current"), State.MISSING, ""),
        (lambda f: remove(f / "task.json"), State.COMPLETE, ""),
        (lambda f: overwrite(f / "task.json", "{}"), State.COMPLETE, ""),
        (lambda f: make_folder(f / "attempts"), State.COMPLETE, ""),
        (lambda f: overwrite(f / "attempts", ""), State.COMPLETE, ""),
        (lambda f: [remove(f / n) for n in ("attempts", "current")], State.NEVER, ""),
        (lambda f: [remove(f / n) for n in (RUN, "task.json")], State.DAMAGED, RUN),
        (remove, State.NEVER, ""),
        (lambda f: overwrite(f, "a file"), State.DAMAGED, "current"),
    ],
)
def test_a_store_that_was_half_deleted_is_no_crash(store, spoil, status, why):
    complete(store)
    folder = store.folder("fashion", FINGERPRINT)
    spoil(folder)
    for verify in (False, True):
        state = store.state("fashion", FINGERPRINT, verify)
        assert state.status is status
        assert why in state.why
    cell = SimpleNamespace(former_name="", name="fashion[k=8]", experiment="fashion")
    assert store.states()(cell, FINGERPRINT).status is status
    if status is not State.COMPLETE:
        with pytest.raises(StoreError):
            open_dataset(folder)


def test_changed_bits_are_found_when_asked_for(store):
    written = complete(store)
    with open(written.folder / "dataset.nc", "r+b") as file:
        file.seek(-100, os.SEEK_END)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 1]))
    assert store.state("fashion", FINGERPRINT).status is State.COMPLETE
    state = store.state("fashion", FINGERPRINT, verify=True)
    assert state.status is State.DAMAGED
    assert state.why == "dataset.nc has another checksum than when it was written"


def test_what_a_cell_was_before(store):
    complete(store, 0, "a" * 16, k=1)
    complete(store, 1, "b" * 16, k=2)
    leave(store, 2, "a" * 16, k=1)
    complete(store, 3, "c" * 16, cell="fashion[k=9]", k=9)
    store.folder("fashion", "d" * 16).mkdir()
    history = store.history("fashion")
    assert {cell: [t.fingerprint[0] for t in tasks] for cell, tasks in history.items()} == {
        "fashion[k=8]": ["b", "a"],
        "fashion[k=9]": ["c"],
    }
    cell = SimpleNamespace(former_name="", name="fashion[k=8]", experiment="fashion")
    assert store.past("fashion", "b" * 16).config == {"k": 2}
    assert store.past("fashion", "d" * 16) is None
    state = store.states()(cell, "e" * 16)
    assert state.status is State.NEVER
    assert state.earlier.fingerprint == "a" * 16
    assert state.earlier.config == {"k": 1}
    assert len(state.durations) == 2
    assert state.earlier_run == store.current_run("fashion", "a" * 16) != ""
    shutil.rmtree(store.folder("fashion", "a" * 16) / "current", ignore_errors=True)
    os.unlink(store.folder("fashion", "a" * 16) / "current")
    missing = store.states()(cell, "a" * 16)
    assert missing.earlier.fingerprint == "b" * 16, "not itself"
    again = store.states()(cell, "e" * 16)
    assert again.earlier.fingerprint == "b" * 16, "the last with an output"
    assert store.history("nothing") == {}


COLLECT = """
    import sys, time
    import numpy as np, xarray as xr
    from pathlib import Path
    from registry.plan.artifacts import ExperimentStore
    from registry.store.manifest import Provenance
    from registry.store.shards import ShardWriter
    from tests.registry.plan.test_artifacts import FINGERPRINT, SHARDED, begin, part
    print("ready", flush=True)
    store = ExperimentStore(Path(sys.argv[1]))
    with begin(store, int(sys.argv[2]), inputs={"images": "same"}) as attempt:
        writer = ShardWriter(attempt.output, SHARDED)
        while writer.next_index < 12:
            print(writer.next_index, flush=True)
            time.sleep(0.1)  # so that it is killed in the middle, however fast the machine
            writer.append(part(writer.next_index))
        attempt.publish(writer.finish(xr.Dataset({"count": 12})), SHARDED, Provenance())
    print("done", flush=True)
"""


def part(index):
    values = np.random.default_rng(index).random((30, 200))
    rows = np.arange(index * 30, index * 30 + 30)
    return xr.Dataset({"x": (("a", "b"), values)}, coords={"a": rows})


def start(code, *arguments):
    process = Forked(code, *arguments)
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.slow
def test_a_killed_collection_resumes_and_ends_the_same(tmp_path):
    store, generator = ExperimentStore(tmp_path), random.Random(0)
    output = store.folder("fashion", FINGERPRINT) / "partial" / "output"
    reached = []
    for number in range(4):
        process = start(COLLECT, tmp_path, number)
        reached.append(int(process.stdout.readline()))
        process.stdout.readline()  # at least one part more
        time.sleep(generator.uniform(0, 0.15))
        process.kill()
        process.wait()
        for path in output.glob("part-*.nc"):
            with xr.open_dataset(path) as read:
                expected = part(int(path.stem[-6:]))
                xr.testing.assert_identical(read.load().drop_attrs(), expected)
        assert store.state("fashion", FINGERPRINT).status is not State.COMPLETE
    assert reached == sorted(set(reached)), "every try went on from where the last one was"
    process = start(COLLECT, tmp_path, 4)
    assert process.stdout.read().endswith("done\n")
    state = store.state("fashion", FINGERPRINT, verify=True)
    assert (state.status, state.run) == (State.COMPLETE, uid(4))
    whole = xr.concat([part(i) for i in range(12)], "a", join="exact").assign(count=12)
    assert state.content == content_digest(whole)
    folder = store.folder("fashion", FINGERPRINT)
    assert sorted(os.listdir(folder)) == [".lock", uid(4), "attempts", "current", "task.json"]
    assert (folder / "attempts").read_text().split() == [uid(i) for i in range(5)]


PUBLISH = """
    import itertools, sys
    from pathlib import Path
    from registry.plan.artifacts import ExperimentStore
    from tests.registry.plan.test_artifacts import complete
    store = ExperimentStore(Path(sys.argv[1]))
    print("ready", flush=True)
    for number in itertools.count(int(sys.argv[2])):
        complete(store, number, value=float(number))
        print(number, flush=True)
"""


@pytest.mark.slow
def test_killed_at_any_moment_nothing_half_written_is_current(tmp_path):
    store, generator, number = ExperimentStore(tmp_path), random.Random(1), 0
    folder = store.folder("fashion", FINGERPRINT)
    for _ in range(4):
        process = start(PUBLISH, tmp_path, number)
        told = int(process.stdout.readline())
        time.sleep(generator.uniform(0, 0.3))
        process.kill()
        told = max([told, *map(int, process.stdout.read().split())])
        state = store.state("fashion", FINGERPRINT, verify=True)
        assert state.status is State.COMPLETE
        with open_dataset(folder) as read:
            assert read["x"].values.min() == read["x"].values.max() >= told
        for manifest in folder.glob("2*/manifest.json"):
            with open_dataset(manifest.parent) as read:
                xr.testing.assert_identical(read.load().drop_attrs(), data(read["x"].values[0]))
        number = told + 10
    complete(store, number + 1)
    assert not list(folder.glob("partial*"))


@pytest.mark.slow
def test_readers_are_not_disturbed_by_a_publisher(tmp_path):
    store = ExperimentStore(tmp_path)
    folder = store.folder("fashion", FINGERPRINT)
    complete(store, 0, value=0.0)
    process = start(PUBLISH, tmp_path, 1)
    seen = set()
    try:
        until = time.monotonic() + 20
        while len(seen) < 4 and time.monotonic() < until:
            with open_dataset(folder) as read:
                values = read["x"].values
            assert values.min() == values.max()
            assert store.state("fashion", FINGERPRINT).status is State.COMPLETE
            seen.add(float(values[0]))
    finally:
        process.kill()
        process.wait()
    assert len(seen) >= 4


@pytest.mark.slow
def test_a_lock_dies_with_its_process(tmp_path):
    process = start(COLLECT, tmp_path, 0)
    process.stdout.readline()
    store = ExperimentStore(tmp_path)
    with begin(store, 1, inputs={"images": "same"}) as second:
        assert not second.is_shared
    process.kill()
    process.wait()
    with begin(store, 2, inputs={"images": "same"}) as third:
        assert third.is_shared
        assert ShardWriter(third.output, SHARDED).next_index >= 0
