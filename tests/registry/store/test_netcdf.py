import os
import subprocess
import sys
import textwrap
import zlib
from pathlib import Path

import dask.array as da
import h5netcdf
import h5py
import numpy as np
import pytest
import xarray as xr

import registry.store.digest
from registry.store import netcdf
from registry.store.digest import content_digest
from registry.store.durable import StoreError, file_sha256
from registry.store.netcdf import (
    HEADER_BYTES,
    _StoredArray,
    chunk_shape,
    gain,
    read_file,
    write_file,
)
from registry.store.schema import decode_attributes
from tests.forked import Forked

NUMBERS = ["float32", "float64", "int8", "int16", "int32", "int64"]
NUMBERS += ["uint8", "uint16", "uint32", "uint64"]


def dataset(images=50, concepts=30):
    generator = np.random.default_rng(0)
    numbers = {
        name: ("image", generator.integers(0, 256, images * 8).astype("uint8").view(name)[:images])
        for name in NUMBERS
    }
    return xr.Dataset(
        {
            **numbers,
            "presence": (("image", "concept"), generator.random((images, concepts), "float32")),
            "flag": (("image", "concept"), generator.random((images, concepts)) > 0.5),
            "word": ("concept", [f"wört {i}" for i in range(concepts)]),
            "text": "some words",
            "is_true": True,
            "accuracy": np.float32(0.5),
            "count": 7,
        },
        coords={
            "image": [f"test/{i:05d}" for i in range(images)],
            "concept": np.arange(concepts),
            "split": ("image", ["test"] * images),
            "alone": ("other", [1.0, 2.0]),
            "moment": 3,
        },
    )


def plain_open(path):
    """Open a file as a user would who has not installed this package."""
    code = f"""
        import sys, xarray as xr
        sys.modules["registry"] = None
        dataset = xr.open_dataset({str(path)!r}).load()
        print(dataset.sizes, {{n: str(v.dtype) for n, v in dataset.variables.items()}})
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    return subprocess.run(command, capture_output=True, text=True, cwd=path.parent)


@pytest.mark.slow
def test_every_dtype_comes_back(tmp_path):
    path = tmp_path / "a.nc"
    digest = write_file(dataset(), path)
    with xr.open_dataset(path) as read:
        assert read.attrs == {"content": digest}
        read.load()
        for name in (*NUMBERS, "flag", "presence"):
            assert read[name].dtype == dataset()[name].dtype
            assert read[name].values.tobytes() == dataset()[name].values.tobytes()
        assert read["is_true"].dtype == bool
        xr.testing.assert_identical(read.drop_attrs(), dataset())
        assert content_digest(read) == digest == content_digest(dataset())
    assert os.listdir(tmp_path) == ["a.nc"]


@pytest.mark.slow
def test_other_software_reads_it(tmp_path):
    write_file(dataset(), tmp_path / "a.nc")
    done = plain_open(tmp_path / "a.nc")
    assert done.returncode == 0, done.stderr
    assert "'image': 50" in done.stdout
    assert "'flag': 'bool'" in done.stdout


def test_special_values_come_back_to_the_bit(tmp_path):
    bits = np.array([0x7FC00001, 0xFFC12345, 0x7F800000, 0x80000000, 1], "uint32")
    special = xr.Dataset(
        {"x": ("a", bits.view("float32")), "i": ("a", np.arange(5) + np.iinfo("int64").min)}
    )
    write_file(special, tmp_path / "a.nc")
    with xr.open_dataset(tmp_path / "a.nc") as read:
        assert read["x"].values.view("uint32").tolist() == bits.tolist()
        assert read["i"].values.tolist() == special["i"].values.tolist()


@pytest.mark.parametrize("size", [0, 1])
@pytest.mark.slow
def test_empty_and_single(tmp_path, size):
    small = dataset().isel(image=slice(size), concept=slice(size))
    write_file(small, tmp_path / "a.nc")
    with xr.open_dataset(tmp_path / "a.nc") as read:
        xr.testing.assert_identical(read.load().drop_attrs(), small)


def test_nothing_but_attributes(tmp_path):
    write_file(xr.Dataset(attrs={"title": "none"}), tmp_path / "a.nc")
    with xr.open_dataset(tmp_path / "a.nc") as read:
        assert read.attrs["title"] == "none"


def test_attributes_come_back(tmp_path):
    attributes = {
        "config": {"lr": 1e-3, "layers": ["a", "b"], "none": None},
        "flag": True,
        "empty": "",
        "unicode": "é" * 100_000,
        "seed": 3,
        "rate": 0.1,
    }
    labelled = dataset().assign_attrs(attributes)
    labelled["presence"].attrs = {"valid": [0.0, None], "long_name": "presence"}
    write_file(labelled, tmp_path / "a.nc")
    with read_file(tmp_path / "a.nc") as read:
        assert decode_attributes(read.attrs).items() >= attributes.items()
        assert decode_attributes(read["presence"].attrs) == labelled["presence"].attrs


def test_reading_is_lazy(tmp_path):
    big = xr.Dataset({"x": (("a", "b"), np.zeros((1000, 1000)))})
    write_file(big, tmp_path / "a.nc")
    with read_file(tmp_path / "a.nc") as read:
        assert not read["x"].variable._in_memory
        assert read["x"][3].values.shape == (1000,)
        assert not read["x"].variable._in_memory


@pytest.mark.slow
def test_dask_and_files_are_written_as_memory_is(tmp_path, monkeypatch):
    monkeypatch.setattr(registry.store.digest, "BLOCK_BYTES", 1000)
    expected = write_file(dataset(), tmp_path / "memory.nc")
    assert write_file(dataset().chunk({"image": 7, "concept": 4}), tmp_path / "a.nc") == expected
    with read_file(tmp_path / "memory.nc") as lazy:
        assert write_file(lazy, tmp_path / "b.nc") == expected
    for name in ("a.nc", "b.nc"):
        with xr.open_dataset(tmp_path / name) as read:
            xr.testing.assert_identical(read.load().drop_attrs(), dataset())


def test_encoding_of_where_it_came_from_is_not_inherited(tmp_path):
    foreign = xr.Dataset({"x": ("a", [1.0, np.nan, 2.5])})
    packed = {"scale_factor": 0.5, "dtype": "int16", "_FillValue": -1}
    foreign.to_netcdf(tmp_path / "foreign.nc", engine="h5netcdf", encoding={"x": packed})
    with read_file(tmp_path / "foreign.nc") as read:
        write_file(read, tmp_path / "ours.nc")
    with read_file(tmp_path / "ours.nc") as ours:
        assert ours["x"].dtype == "float64"
        assert "scale_factor" not in ours["x"].encoding
        np.testing.assert_array_equal(ours["x"], foreign["x"])


def by_xarray(path):
    foreign = xr.Dataset(
        {
            "x": (("time", "y"), np.arange(6.0).reshape(3, 2), {"units": "m", "range": [0, 6]}),
            "words": ("y", np.array(["a", "é"], dtype=object)),
            "alone": ((), 3, {"flag": np.int8(1), "title": ""}),
        },
        {"time": [1, 2, 3], "lat": (("time", "y"), np.ones((3, 2)))},
    )
    foreign.to_netcdf(path, engine="h5netcdf", unlimited_dims=["time"])


def by_h5netcdf(path):
    with h5netcdf.File(path, "w") as file:
        file.dimensions = {"y": 2, "x": 3, "open": None}
        file.create_variable("y", ("y", "x"), "f4")  # of a dimension's name, and of two dimensions
        file.create_variable("still", ("open", "x"), "i2")
        file.create_variable("grown", ("open",), "i2")
        file.resize_dimension("open", 4)


def by_h5py(path):
    with h5py.File(path, "w") as file:
        file["of"], file["no"] = np.zeros((2, 3)), np.ones(3)
        file["of"].attrs["unit"] = np.bytes_("m")


@pytest.mark.parametrize("write", [by_xarray, by_h5netcdf, by_h5py])
def test_foreign_files_are_read_as_xarray_reads_them(tmp_path, write):
    write(tmp_path / "a.nc")
    with (
        read_file(tmp_path / "a.nc") as read,
        xr.open_dataset(tmp_path / "a.nc", engine="h5netcdf", phony_dims="access") as expected,
    ):
        xr.testing.assert_identical(read.load(), expected.load())
        for name in expected.variables:
            assert read[name].dtype == expected[name].dtype
            np.testing.assert_equal(read[name].encoding, expected[name].encoding)


@pytest.mark.slow
def test_memory_stays_bounded(tmp_path):
    code = f"""
        import dask, dask.array as da, xarray as xr
        from pathlib import Path
        from registry.store.netcdf import write_file
        from registry.store.digest import content_digest
        from tests.benchmarks.memory import peak
        dask.config.set(scheduler="synchronous")
        folder = Path({str(tmp_path)!r})
        write_file(xr.Dataset({{"x": ("a", da.ones(8, chunks=4))}}), folder / "small.nc")
        before = peak()
        array = da.ones((3000, 16384), chunks=(200, 16384), dtype="float32")
        write_file(xr.Dataset({{"x": (("a", "b"), array)}}), folder / "large.nc")
        print(peak() - before)
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert float(done.stdout) < 130, "200 MB were to be written in blocks of 32"


def test_stored_compressed_in_chunks(tmp_path):
    sparse = np.zeros((500, 400), "float32")
    sparse[::50] = 1
    write_file(xr.Dataset({"x": (("a", "b"), sparse)}), tmp_path / "a.nc")
    with h5py.File(tmp_path / "a.nc") as file:
        stored = file["x"]
        assert (stored.compression, stored.compression_opts, stored.shuffle) == ("gzip", 1, True)
        assert stored.id.get_storage_size() < sparse.nbytes / 20


def test_what_gains_little_by_compression_is_stored_as_it_is(tmp_path):
    generator = np.random.default_rng(0)
    noise = generator.standard_normal((600, 128), dtype="float32")
    half = np.where(generator.random(noise.shape) < 0.5, 0, noise)
    variables = {"noise": noise, "half": half, "flag": noise > 0, "few": noise[:3]}
    dataset = xr.Dataset({name: ((f"{name}_", "b"), v) for name, v in variables.items()})
    digest = write_file(dataset, tmp_path / "a.nc")
    with h5py.File(tmp_path / "a.nc") as file:
        stored = {name: file[name].compression for name in variables}
        assert file["noise"].chunks == chunk_shape(noise.shape, 4)
    assert stored == {"noise": None, "half": "gzip", "flag": "gzip", "few": None}
    with read_file(tmp_path / "a.nc") as read:
        assert content_digest(read) == digest == content_digest(dataset)


def test_what_is_read_by_rows_lies_in_one_piece(tmp_path, monkeypatch):
    monkeypatch.setattr(registry.store.digest, "BLOCK_BYTES", 60_000)
    generator = np.random.default_rng(0)
    noise = generator.standard_normal((600, 128), dtype="float32")
    big = generator.standard_normal((60, 16)).astype(">f8")
    variables = {"noise": noise, "big": big, "turned": noise.T}
    variables |= {"flag": generator.integers(0, 2, (9, 3)) > 0, "none": noise[:0]}
    variables |= {"columns": noise, "zeros": np.zeros((600, 128), "float32")}
    dataset = xr.Dataset({name: ((f"{name}_", f"_{name}"), v) for name, v in variables.items()})
    dataset["scalar"], dataset["text"] = 1.5, ("a", np.array(["a", "é"], object))
    by_rows = dataset.variables.keys() - {"columns"}
    digest = write_file(dataset, tmp_path / "a.nc", by_rows)
    assert write_file(dataset.chunk({"noise_": 50}), tmp_path / "b.nc", by_rows) == digest
    assert write_file(dataset, tmp_path / "c.nc") == digest == content_digest(dataset)
    for file in ("a.nc", "b.nc"):
        with h5py.File(tmp_path / file) as stored:
            whole = {name for name in variables if stored[name].id.get_offset() is not None}
            assert whole == {"noise", "big", "turned", "flag"}
            assert stored["columns"].chunks == chunk_shape(noise.shape, 4)
            assert stored["zeros"].compression == "gzip"
        with xr.open_dataset(tmp_path / file) as read:
            xr.testing.assert_identical(read.load().drop_attrs(), dataset)


def test_the_gain_is_that_of_the_file(tmp_path):
    values = np.random.default_rng(0).standard_normal(4096, dtype="float32")
    shuffled = values.view("uint8").reshape(-1, 4).T.tobytes()
    assert gain(values) == 1 - len(zlib.compress(shuffled, 1)) / values.nbytes
    assert gain(np.zeros((1000, 1000))) > 0.99
    assert gain(np.array(True)) < 0
    turned = values.reshape(64, 64).T
    assert gain(turned) == gain(turned.copy())
    assert gain(values[::2]) == gain(values[::2].copy())


@pytest.mark.parametrize("by_rows", ["", "x"])
@pytest.mark.parametrize("kind", ["memory", "dask"])
def test_what_is_read_back_otherwise_is_not_kept(tmp_path, monkeypatch, kind, by_rows):
    values = np.arange(12.0).reshape(3, 4)
    values[1, 2] = np.nan
    written = xr.Dataset({"x": (("a", "b"), values), "word": ("a", ["a", "b", "c"])})
    written = written.chunk() if kind == "dask" else written
    compare = netcdf._compare

    def flip(dataset, digest, temporary, path):
        with h5py.File(temporary, "r+") as file:
            file["x"][1, 2] = -np.nan
            file["word"][2] = "d"
        return compare(dataset, digest, temporary, path)

    write_file(written, tmp_path / "a.nc", by_rows)
    monkeypatch.setattr(netcdf, "_compare", flip)
    with pytest.raises(
        StoreError, match=r"b\.nc did not read back as written: 'word', 'x'; nothing"
    ):
        write_file(written, tmp_path / "b.nc", by_rows)
    assert os.listdir(tmp_path) == ["a.nc"]


@pytest.mark.parametrize("damage", ["flip", "cut"])
def test_a_piece_that_is_read_back_otherwise_is_not_kept(tmp_path, monkeypatch, damage):
    monkeypatch.setattr(netcdf, "READ_BYTES", 64)
    written = xr.Dataset({"x": (("a", "b"), np.random.default_rng(0).random((30, 4)))})
    file = netcdf.WrittenFile(written, tmp_path / "a.nc", ("x",))
    file.prove()
    file.publish()
    assert file.sha256 == file_sha256(tmp_path / "a.nc")
    with h5py.File(tmp_path / "a.nc") as stored:
        offset = stored["x"].id.get_offset()
    file = netcdf.WrittenFile(written, tmp_path / "b.nc", ("x",))
    [temporary] = tmp_path.glob(".b.nc.*")
    content = bytearray(temporary.read_bytes())
    content[offset + 29 * 32] ^= 1  # in the last row
    temporary.write_bytes(content if damage == "flip" else content[: offset + 29 * 32])
    with pytest.raises(StoreError, match=r"b\.nc (did not|could not be) read back"):
        file.prove()
    assert os.listdir(tmp_path) == ["a.nc"]


@pytest.mark.parametrize(
    ("shape", "itemsize"),
    [((2000, 16384), 4), ((60000, 512), 4), ((7,), 8), ((10**7,), 8), ((512, 9, 224, 224, 4), 1)],
)
def test_chunks_are_small_and_even(shape, itemsize):
    chunk = chunk_shape(shape, itemsize)
    assert itemsize * np.prod(chunk) <= 128 * 2**10
    assert itemsize * np.prod(chunk) >= min(itemsize * np.prod(shape), 30 * 2**10)
    assert all(1 <= c <= s for c, s in zip(chunk, shape, strict=True))
    if len(shape) == 2:
        pieces = [s / c for s, c in zip(shape, chunk, strict=True)]
        assert max(pieces) / min(pieces) <= 2.1


def test_what_cannot_be_written_leaves_nothing(tmp_path):
    for values in (np.ones(2, "float16"), np.array(["a\0"], object), np.array([1, "a"], object)):
        with pytest.raises((TypeError, ValueError)):
            write_file(xr.Dataset({"ok": 1, "x": ("a", values)}), tmp_path / "a.nc")
    failing = da.map_blocks(lambda block: 1 / 0, da.ones(4), dtype="float64", meta=np.empty(0))
    with pytest.raises(ZeroDivisionError):
        write_file(xr.Dataset({"x": ("a", failing)}), tmp_path / "a.nc")
    assert os.listdir(tmp_path) == []


def test_a_file_that_reads_back_otherwise_is_not_kept(tmp_path, monkeypatch):
    written = {"x": ("a", np.arange(5.0))}

    def corrupt(path, **options):
        return xr.Dataset({"x": ("a", np.arange(5.0) + 1)})

    monkeypatch.setattr("registry.store.netcdf.read_file", corrupt)
    with pytest.raises(StoreError, match="did not read back as written: 'x'"):
        write_file(xr.Dataset(written), tmp_path / "a.nc")
    assert os.listdir(tmp_path) == []


FULL = """
    import resource, sys
    import numpy as np, xarray as xr
    from pathlib import Path
    from registry.store.durable import StoreError
    from registry.store.netcdf import write_file
    folder, limit, rows = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    values = np.random.default_rng(0).random((rows, 1000), "float32")
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    try:
        write_file(xr.Dataset({"x": (("a", "b"), values)}), folder / "a.nc")
    except StoreError as error:
        print(error)
    write_file(xr.Dataset({"small": 1}), folder / "small.nc")  # the process is still sound
"""


@pytest.mark.slow
@pytest.mark.parametrize(("limit", "rows"), [(300_000, 2000), (300_000, 120), (15_000, 10)])
def test_a_full_disk_is_told_and_leaves_nothing(tmp_path, limit, rows):
    process = Forked(FULL, tmp_path, limit, rows)
    printed = process.finish()
    assert process.wait() == 0, printed
    assert f"file too large: cannot write {tmp_path / 'a.nc'}" in printed
    assert f"takes up to {rows * 4000 + HEADER_BYTES:,} bytes" in printed
    assert "bytes are free" in printed
    assert os.listdir(tmp_path) == ["small.nc"]


@pytest.mark.parametrize("by_rows", ["", "x"])
def test_a_really_full_disk(tmp_path, by_rows):
    mount = ["mount", "-t", "tmpfs", "-o", "size=400k", "none", str(tmp_path)]
    try:
        mounted = subprocess.run(mount, capture_output=True).returncode == 0
    except FileNotFoundError:
        mounted = False
    if not mounted:
        pytest.skip("no right to mount a small file system")
    try:
        values = np.random.default_rng(0).random((2000, 1000), "float32")
        with pytest.raises(StoreError, match=r"disk full: cannot write .*8,065,536 bytes"):
            write_file(xr.Dataset({"x": (("a", "b"), values)}), tmp_path / "a.nc", by_rows)
        assert os.listdir(tmp_path) == []
        write_file(xr.Dataset({"x": 1}), tmp_path / "b.nc")
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def test_tables_of_texts_are_read_when_they_are_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = np.array([["a", "é"], ["<b>", ""]], dtype=object)
    path = tmp_path / "a.nc"
    write_file(xr.Dataset({"text": (("x", "y"), texts)}, {"x": ["one", "two"]}), path)
    asked: list[object] = []
    read_one = _StoredArray.__getitem__

    def note(array: _StoredArray, key: object) -> object:
        asked.append(array.shape)
        return read_one(array, key)

    monkeypatch.setattr(_StoredArray, "__getitem__", note)
    with read_file(path) as read:
        assert (2, 2) not in asked
        assert read["text"].isel(x=1).values.tolist() == ["<b>", ""]
        assert read["text"].values.tolist() == texts.tolist()
        assert read["x"].dtype.kind == "U"
