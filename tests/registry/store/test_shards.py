import errno
import os
import threading

import numpy as np
import pytest
import xarray as xr

from registry.store.digest import content_digest
from registry.store.durable import StoreError, file_sha256
from registry.store.schema import Schema, SchemaError, Variable
from registry.store.shards import ShardWriter, open_parts, part_name
from tests.forked import Forked

SCHEMA = Schema(
    "features",
    1,
    "Features",
    variables={
        "feature": Variable(("sample", "channel"), "float32", "feature"),
        "image": Variable(("sample",), "str", "image"),
        "active": Variable(("sample",), "bool", "active"),
        "n_images": Variable((), "int64", "number of images"),
        "mean": Variable(("channel",), "float", "mean", optional=True),
    },
    coords={
        "sample": Variable(("sample",), "int64", "sample"),
        "channel": Variable(("channel",), "str", "channel", optional=True),
        "row": Variable(("sample",), "int32", "row", optional=True),
    },
    sharded_along="sample",
)
SUMMARY = xr.Dataset({"n_images": 3, "mean": ("channel", np.arange(4.0))})


def whole(samples=20):
    generator = np.random.default_rng(0)
    return xr.Dataset(
        {
            "feature": (("sample", "channel"), generator.random((samples, 4), "float32")),
            "image": ("sample", [f"test/{'x' * i}" for i in range(samples)]),
            "active": ("sample", generator.random(samples) > 0.5),
        },
        coords={
            "sample": np.arange(samples),
            "channel": list("abcd"),
            "row": ("sample", np.arange(samples, dtype="int32")),
        },
    )


def parts(sizes=(7, 7, 6)):
    stops = np.cumsum(sizes)
    return [whole().isel(sample=slice(b - n, b)) for n, b in zip(sizes, stops, strict=True)]


def write(folder, sizes=(7, 7, 6)):
    writer = ShardWriter(folder, SCHEMA, {"run": "r"})
    for part in parts(sizes):
        writer.append(part)
    return writer.finish(SUMMARY)


@pytest.mark.slow
def test_parts_together_are_the_whole(tmp_path):
    shards = write(tmp_path)
    expected = whole().assign(SUMMARY)
    with open_parts(tmp_path, shards.rows, "sample") as read:
        assert read["feature"].chunks
        xr.testing.assert_identical(read.load().drop_attrs(), expected)
        assert read.attrs["schema"] == "features"
        assert read.attrs["run"] == "r"
        assert read["feature"].attrs == {"long_name": "feature", "units": "1"}
    assert shards.content == content_digest(expected)
    assert shards.rows == (7, 7, 6)
    assert shards.sizes == {"sample": 20, "channel": 4}
    scalar = {"value": 3, "units": "1", "long_name": "number of images"}
    assert shards.scalars == {"n_images": scalar}


@pytest.mark.slow
def test_the_digest_does_not_depend_on_the_parts(tmp_path):
    assert write(tmp_path / "a").content == write(tmp_path / "b", (1, 19)).content


@pytest.mark.slow
def test_lazy_values_are_those_of_the_parts(tmp_path):
    shards = write(tmp_path)
    read = open_parts(tmp_path, shards.rows, "sample")
    assert read["feature"][9].values.tolist() == whole()["feature"][9].values.tolist()
    rows = [19, 0, 7, 7]
    np.testing.assert_array_equal(read["feature"][rows, 2], whole()["feature"][rows, 2])
    assert read["image"][8].values == whole()["image"][8].values
    assert read["active"].dtype == bool
    assert read["active"].sum().values == whole()["active"].sum().values
    assert read.sel(sample=13)["feature"].values.tolist() == whole()["feature"][13].values.tolist()


@pytest.mark.slow
def test_xarray_alone_opens_the_parts(tmp_path):
    write(tmp_path)
    with xr.open_mfdataset(str(tmp_path / "part-*.nc")) as read:
        xr.testing.assert_identical(read.load().drop_attrs(), whole())


@pytest.mark.slow
def test_a_writer_resumes_and_ends_the_same(tmp_path):
    expected = write(tmp_path / "straight").content
    folder = tmp_path / "resumed"
    for part in parts():
        writer = ShardWriter(folder, SCHEMA)
        assert writer.done == tuple(range(writer.next_index))
        writer.append(part)
    assert ShardWriter(folder, SCHEMA).finish(SUMMARY).content == expected


@pytest.mark.slow
def test_parts_may_come_in_any_order(tmp_path):
    expected = write(tmp_path / "straight").content
    writer = ShardWriter(tmp_path / "other", SCHEMA)
    for index in (2, 0):
        writer.append(parts()[index], index)
    assert (writer.done, writer.next_index) == ((0, 2), 1)
    with pytest.raises(StoreError, match=r"1 part is missing: part-000001\.nc"):
        writer.finish(SUMMARY)
    with pytest.raises(StoreError, match="is there already; next is 1"):
        writer.append(parts()[0], 0)
    writer = ShardWriter(tmp_path / "other", SCHEMA)
    writer.append(parts()[1])
    assert writer.finish(SUMMARY).content == expected


def flip(path):
    """Change one value of a file, and nothing else."""
    import h5py

    with h5py.File(path, "r+") as file:
        file["feature"][2, 2] += 1


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(path.read_bytes()[:-100]),
        lambda path: path.write_bytes(b""),
        flip,
    ],
)
@pytest.mark.slow
def test_a_damaged_part_is_written_again(tmp_path, damage):
    expected = write(tmp_path).content
    damage(tmp_path / part_name(1))
    writer = ShardWriter(tmp_path, SCHEMA)
    assert writer.done == (0, 2)
    writer.append(parts()[1])
    assert writer.finish(SUMMARY).content == expected


@pytest.mark.slow
def test_parts_of_another_schema_version_are_not_resumed(tmp_path):
    write(tmp_path)
    newer = Schema("features", 2, "t", SCHEMA.variables, SCHEMA.coords, sharded_along="sample")
    assert ShardWriter(tmp_path, newer).done == ()
    assert not list(tmp_path.glob("part-*"))


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        (lambda d: d.assign_coords(channel=list("abce")), StoreError, "'channel'"),
        (lambda d: d.drop_vars("channel"), StoreError, "'channel'"),
        (lambda d: d.drop_vars("row"), StoreError, "'row'"),
        (lambda d: d.isel(channel=slice(3)), StoreError, "'channel', 'feature'"),
        (lambda d: d.drop_vars("image"), SchemaError, "missing variable 'image'"),
        (lambda d: d.assign(extra=1), SchemaError, "unknown variable 'extra'"),
    ],
)
def test_a_part_that_does_not_go_with_the_others_is_refused(tmp_path, change, error, match):
    writer = ShardWriter(tmp_path, SCHEMA)
    writer.append(parts()[0])
    with pytest.raises(error, match=match):
        writer.append(change(parts()[1]))
    assert os.listdir(tmp_path) == [part_name(0)]
    writer.append(parts()[1])


@pytest.mark.slow
def test_a_summary_must_go_with_the_parts(tmp_path):
    writer = ShardWriter(tmp_path, SCHEMA)
    with pytest.raises(StoreError, match="1 part is missing"):
        writer.finish(SUMMARY)
    writer.append(parts()[0])
    with pytest.raises(StoreError, match="'channel' differs"):
        writer.finish(SUMMARY.assign_coords(channel=list("abce")))
    with pytest.raises(StoreError, match="has the sharded dimension 'sample'"):
        ShardWriter(tmp_path, SCHEMA).finish(SUMMARY.assign(x=("sample", [1])))
    with pytest.raises(SchemaError, match="missing variable 'n_images'"):
        ShardWriter(tmp_path, SCHEMA).finish()
    with pytest.raises(SchemaError, match="unknown variable 'extra'"):
        ShardWriter(tmp_path, SCHEMA).finish(SUMMARY.assign(extra=1))


@pytest.mark.slow
def test_a_coordinate_may_not_repeat_across_parts(tmp_path):
    writer = ShardWriter(tmp_path, SCHEMA)
    writer.append(parts()[0])
    writer.append(parts()[0])
    with pytest.raises(SchemaError, match="coordinate 'sample' repeats 7 values"):
        writer.finish(SUMMARY)


def test_only_a_sharded_schema_is_written_in_parts(tmp_path):
    with pytest.raises(StoreError, match="declares no dimension to shard along"):
        ShardWriter(tmp_path, Schema("s", 1, "t", {}, {}))


@pytest.mark.slow
def test_a_full_disk_keeps_the_parts_before(tmp_path, monkeypatch):
    writer = ShardWriter(tmp_path, SCHEMA)
    writer.append(parts()[0])
    room, pwrite = [3000], os.pwrite

    def full(descriptor, data, offset):
        if room[0] < len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        room[0] -= len(data)
        return pwrite(descriptor, data, offset)

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        with pytest.raises(StoreError, match=r"disk full: cannot write .*part-000001\.nc, which"):
            writer.append(parts()[1])
    assert os.listdir(tmp_path) == [part_name(0)]
    writer.append(parts()[1])
    writer.append(parts()[2])
    assert writer.finish(SUMMARY).content == content_digest(whole().assign(SUMMARY))


@pytest.mark.slow
def test_threads_share_an_open_collection(tmp_path):
    read = open_parts(tmp_path, write(tmp_path).rows, "sample")
    expected, faults = whole(), []

    def look(seed):
        generator = np.random.default_rng(seed)
        for _ in range(8):
            rows = generator.integers(0, 20, 5)
            if not np.array_equal(read["feature"][rows].values, expected["feature"][rows].values):
                faults.append(rows)

    threads = [threading.Thread(target=look, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not faults


@pytest.mark.slow
def test_a_part_that_was_exchanged_or_removed_is_noticed(tmp_path):
    read = open_parts(tmp_path, write(tmp_path).rows, "sample")
    os.replace(tmp_path / part_name(2), tmp_path / part_name(1))
    with pytest.raises(StoreError, match=r"part-000001\.nc is \(6,.*; expected \(7,"):
        read["feature"][8].load()
    with pytest.raises(StoreError, match=r"part-000002\.nc is damaged and cannot be read"):
        read["feature"][15].load()


@pytest.mark.slow
def test_leftovers_of_a_writer_that_died_are_removed(tmp_path):
    (tmp_path / ".part-000000.nc.1-2.tmp").write_bytes(b"half")
    write(tmp_path)
    assert sorted(os.listdir(tmp_path)) == [*(part_name(i) for i in range(3)), "summary.nc"]


# -- parts that are written behind who makes them ----------------------------------------------


def test_submitted_parts_are_those_that_are_appended(tmp_path):
    told = []
    with ShardWriter(tmp_path / "behind", SCHEMA, {"run": "r"}) as writer:
        for part in parts():
            writer.submit(part, then=lambda part: told.append(part.sizes["sample"]))
        shards = writer.finish(SUMMARY)
    expected = write(tmp_path / "appended")
    assert (shards.content, shards.rows) == (expected.content, expected.rows)
    assert told == [7, 7, 6], "one after the other"
    for name, facts in shards.files.items():
        path = tmp_path / "behind" / name
        assert (facts.size, facts.sha256) == (path.stat().st_size, file_sha256(path))
    assert len(shards.files) == 3


def test_a_part_that_cannot_be_written_is_told_and_those_before_count(tmp_path, monkeypatch):
    replace, other = os.replace, tmp_path / "other"

    def fail(source, target):
        if str(target).endswith(part_name(1)):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        replace(source, target)

    writer = ShardWriter(tmp_path, SCHEMA, {"run": "r"})
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", fail)
        for part in parts()[:2]:
            writer.submit(part)
        with pytest.raises(StoreError, match=r"disk full: cannot write .*part-000001\.nc"):
            writer.wait()
    assert os.listdir(tmp_path) == [part_name(0)]
    for part in parts()[1:]:
        writer.submit(part)
    assert writer.finish(SUMMARY).content == write(other).content


def test_a_part_counts_once_it_is_on_the_disk(tmp_path, monkeypatch):
    fsync, synced = os.fsync, threading.Event()

    def wait(descriptor):
        synced.wait()
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", wait)
    writer = ShardWriter(tmp_path, SCHEMA)
    writer.submit(parts()[0])
    assert [*writer.done, *tmp_path.glob("part-*")] == []
    with pytest.raises(StoreError, match="is there already"):
        writer.submit(parts()[0], 0)
    synced.set()
    writer.wait()
    assert writer.done == (0,)
    writer.close()


# -- several writers --------------------------------------------------------------------------

SIZES = (3, 2, 2, 3, 3, 2, 3, 2)
WRITE = """
    import sys, time
    from pathlib import Path
    from registry.store.shards import ShardWriter
    from tests.registry.store.test_shards import SCHEMA, SIZES, parts
    own = range(int(sys.argv[2]), int(sys.argv[3]))
    with ShardWriter(Path(sys.argv[1]), SCHEMA, {"run": "r"}, parts=own) as writer:
        print("ready", flush=True)
        sys.stdin.readline()
        while writer.next_index < own.stop:
            writer.append(parts(SIZES)[writer.next_index])
            print(writer.done, flush=True)
            time.sleep(float(sys.argv[4]))
"""


def begin_writing(folder, start, stop, pause=0.0):
    process = Forked(WRITE, folder, start, stop, pause)
    assert (first := process.stdout.readline()) == "ready\n", first + process.finish()
    process.say("go")
    return process


@pytest.mark.slow
def test_several_processes_write_what_one_would(tmp_path):
    expected = write(tmp_path / "one", SIZES)
    folder = tmp_path / "many"
    processes = [begin_writing(folder, *own) for own in ((3, 6), (0, 3), (6, 8))]
    for process in processes:
        printed = process.finish()
        assert process.wait() == 0, printed
    shards = ShardWriter(folder, SCHEMA, {"run": "r"}).finish(SUMMARY, parts=8)
    assert (shards.content, shards.rows, shards.sizes) == (expected.content, SIZES, expected.sizes)
    assert sorted(os.listdir(folder)) == sorted(os.listdir(tmp_path / "one"))
    with open_parts(folder, shards.rows, "sample") as read:
        xr.testing.assert_identical(read.load().drop_attrs(), whole().assign(SUMMARY))


@pytest.mark.slow
def test_a_killed_writer_of_a_range_is_gone_on_with(tmp_path):
    expected = write(tmp_path / "one", SIZES).content
    folder = tmp_path / "many"
    killed, other = begin_writing(folder, 0, 4, pause=600), begin_writing(folder, 4, 8)
    killed.stdout.readline()
    (folder / ".part-000001.nc.1-2.tmp").write_bytes(b"half")
    with pytest.raises(StoreError, match=r"parts \d to \d in .* are being written by another"):
        ShardWriter(folder, SCHEMA)
    killed.kill()
    killed.finish()
    printed = other.finish()
    assert other.wait() == 0, printed
    with pytest.raises(StoreError, match=r"3 parts are missing: part-000001\.nc"):
        ShardWriter(folder, SCHEMA).finish(SUMMARY, parts=8)
    with ShardWriter(folder, SCHEMA, parts=range(0, 4)) as writer:
        assert writer.done == (0,), "what others wrote is not this writer's"
        for index in (1, 2, 3):
            writer.append(parts(SIZES)[index])
        assert writer.next_index == 4
        with pytest.raises(StoreError, match="got part 4; this writer writes parts 0 to 3"):
            writer.append(parts(SIZES)[4])
        with pytest.raises(StoreError, match="one for all parts finishes"):
            writer.finish(SUMMARY)
    shards = ShardWriter(folder, SCHEMA).finish(SUMMARY, parts=8)
    assert shards.content == expected
    assert not list(folder.glob(".*"))


@pytest.mark.slow
def test_overlapping_ranges_are_refused(tmp_path):
    process = begin_writing(tmp_path, 2, 5, pause=600)
    try:
        for own in (range(0, 3), range(4, 5), range(0, 9)):
            with pytest.raises(
                StoreError, match=r"parts 2 to 4 in .* are being written by another"
            ):
                ShardWriter(tmp_path, SCHEMA, parts=own)
        ShardWriter(tmp_path, SCHEMA, parts=range(5, 7)).close()
        with pytest.raises(StoreError, match="expected a range of consecutive parts"):
            ShardWriter(tmp_path, SCHEMA, parts=range(0, 8, 2))
    finally:
        process.kill()
        process.finish()
    with ShardWriter(tmp_path, SCHEMA, parts=range(0, 3)):
        pass


@pytest.mark.slow
def test_a_part_that_never_began_or_is_too_many_is_noticed_at_the_end(tmp_path):
    with ShardWriter(tmp_path, SCHEMA, parts=range(0, 2)) as writer:
        writer.append(parts()[0])
        writer.append(parts()[1])
    with pytest.raises(StoreError, match=r"1 part is missing: part-000002\.nc"):
        ShardWriter(tmp_path, SCHEMA).finish(SUMMARY, parts=3)
    with pytest.raises(StoreError, match="got 2 parts; expected 1"):
        ShardWriter(tmp_path, SCHEMA).finish(SUMMARY, parts=1)


def test_parts_of_writers_that_do_not_go_together_are_not_joined(tmp_path):
    with ShardWriter(tmp_path, SCHEMA, parts=range(0, 1)) as writer:
        writer.append(parts()[0])
    with ShardWriter(tmp_path, SCHEMA, parts=range(1, 2)) as writer:
        writer.append(parts()[1].assign_coords(channel=list("abce")))
    with pytest.raises(StoreError, match="1 part is missing"):
        ShardWriter(tmp_path, SCHEMA).finish(SUMMARY, parts=2)


def test_a_writer_that_must_not_write_writes_nothing(tmp_path):
    def refuse():
        raise StoreError("taken over")

    writer = ShardWriter(tmp_path, SCHEMA, guard=refuse)
    with pytest.raises(StoreError, match="taken over"):
        writer.append(parts()[0])
    assert os.listdir(tmp_path) == []
