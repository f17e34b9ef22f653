import json
import os
import subprocess
import sys
import textwrap
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
import xarray as xr

from registry.store.datasets import open_dataset, write_dataset
from registry.store.digest import content_digest
from registry.store.durable import StoreError
from registry.store.manifest import Provenance, read_manifest
from registry.store.schema import Schema, SchemaError, Variable, decode_attributes
from registry.store.shards import ShardWriter

SCHEMA = Schema(
    "sae",
    2,
    "A sparse autoencoder",
    variables={
        "decoder": Variable(("channel", "concept"), "float32", "decoder weights"),
        "accuracy": Variable((), "float", "accuracy", units="percent"),
        "dead": Variable((), "int", "dead concepts"),
    },
    coords={"concept": Variable(("concept",), "int64", "concept")},
    references="A paper",
)
SHARDED = Schema(
    "features",
    1,
    "Features",
    variables={
        "feature": Variable(("sample", "channel"), "float32", "feature"),
        "count": Variable((), "int64", "count"),
    },
    coords={"sample": Variable(("sample",), "int64", "sample")},
    sharded_along="sample",
)
PROVENANCE = Provenance(
    experiment="fashion-sae[k=8,seed=1]",
    run="20261122T013355-1a2b3c4d",
    fingerprint="0123456789abcdef",
    stage="fact.train_sae",
    version=3,
    config={"k": 8, "layer": None, "lr": 1e-3},
    inputs={"features": {"experiment": "fashion-features", "content": "abc", "run": "r"}},
    commit="c0ffee",
    sources="51a7e",
    seed=1,
    started=datetime.now(UTC) - timedelta(seconds=5),
)


def dataset(value=0.5):
    return xr.Dataset(
        {
            "decoder": (("channel", "concept"), np.full((4, 3), value, "float32")),
            "accuracy": value,
            "dead": 7,
        },
        coords={"concept": [3, 1, 2]},
    )


def write_shards(folder, start=0):
    writer = ShardWriter(folder, SHARDED, PROVENANCE.attributes)
    for index in range(3):
        rows = np.arange(index * 4, index * 4 + 4)
        values = np.random.default_rng(index).random((4, 2), "float32")
        part = xr.Dataset({"feature": (("sample", "channel"), values)}, coords={"sample": rows})
        writer.append(part)
    shards = writer.finish(xr.Dataset({"count": 12}))
    return write_dataset(shards, folder, SHARDED, PROVENANCE)


def test_a_dataset_explains_itself(tmp_path):
    written = write_dataset(dataset(), tmp_path / "run", SCHEMA, PROVENANCE)
    with xr.open_dataset(tmp_path / "run" / "dataset.nc") as read:
        xr.testing.assert_identical(read.load().drop_attrs(), dataset())
        found = decode_attributes(read.attrs)
        assert found["Conventions"].startswith("CF-")
        assert found["title"] == "A sparse autoencoder"
        assert found["references"] == "A paper"
        assert found["source"] == "fact.train_sae version 3"
        assert "made by fact.train_sae" in found["history"]
        assert (found["schema"], found["schema_version"]) == ("sae", 2)
        assert found["experiment"] == "fashion-sae[k=8,seed=1]"
        assert found["fingerprint"] == "0123456789abcdef"
        assert found["run"] == "20261122T013355-1a2b3c4d"
        assert (found["commit"], found["seed"]) == ("c0ffee", 1)
        assert found["config"] == {"k": 8, "layer": None, "lr": 1e-3}
        assert found["inputs"]["features"]["content"] == "abc"
        assert found["content"] == written.content
        assert read["accuracy"].attrs == {"long_name": "accuracy", "units": "percent"}


def test_the_manifest_says_what_there_is(tmp_path):
    folder = tmp_path / "run"
    (folder / "pictures").mkdir(parents=True)
    (folder / "pictures" / "3.png").write_bytes(b"picture")
    started = datetime.now(UTC) - timedelta(seconds=5)
    written = write_dataset(dataset(), folder, SCHEMA, replace(PROVENANCE, started=started))
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest.pop("checksum")
    assert manifest == written.manifest == read_manifest(folder)
    files = {entry["name"]: entry for entry in manifest["files"]}
    assert set(files) == {"dataset.nc", "pictures/3.png"}
    for name, entry in files.items():
        digest = subprocess.check_output(["sha256sum", folder / name], text=True).split()[0]
        assert (entry["size"], entry["sha256"]) == ((folder / name).stat().st_size, digest)
    assert manifest["content"] == content_digest(dataset())
    assert manifest["sizes"] == {"channel": 4, "concept": 3}
    assert manifest["scalars"]["accuracy"] == {
        "value": 0.5,
        "units": "percent",
        "long_name": "accuracy",
    }
    assert written.result == {"accuracy": 0.5, "dead": 7}
    assert written.size == sum(entry["size"] for entry in files.values())
    assert 5 <= manifest["duration"] < 60
    assert manifest["config"] == {"k": 8, "layer": None, "lr": 1e-3}
    assert manifest["sources"] == "51a7e"
    assert manifest["started"] < manifest["stopped"]
    assert manifest["started"].endswith("Z")


def test_content_is_equal_for_equal_numbers(tmp_path):
    first = write_dataset(dataset(), tmp_path / "a", SCHEMA, PROVENANCE)
    again = write_dataset(dataset().chunk(), tmp_path / "b", SCHEMA, Provenance(run="other"))
    other = write_dataset(dataset(0.6), tmp_path / "c", SCHEMA, PROVENANCE)
    assert first.content == again.content != other.content


def test_numbers_that_json_lacks(tmp_path):
    write_dataset(dataset(float("nan")), tmp_path, SCHEMA, PROVENANCE)
    text = (tmp_path / "manifest.json").read_text()
    json.loads(text, parse_constant=lambda name: pytest.fail(name))


def test_what_does_not_follow_the_schema_is_not_written(tmp_path):
    with pytest.raises(SchemaError, match="missing variable 'dead'"):
        write_dataset(dataset().drop_vars("dead"), tmp_path / "run", SCHEMA, PROVENANCE)
    assert not (tmp_path / "run").exists()


def test_shards_are_a_dataset_like_any_other(tmp_path):
    written = write_shards(tmp_path)
    read = open_dataset(tmp_path)
    assert read["feature"].chunks
    assert content_digest(read) == written.content
    assert written.manifest["sizes"] == {"sample": 12, "channel": 2}
    assert written.result == {"count": 12}
    names = [entry["name"] for entry in written.manifest["files"]]
    assert names == [*(f"part-00000{i}.nc" for i in range(3)), "summary.nc"]
    assert decode_attributes(read.attrs)["config"] == {"k": 8, "layer": None, "lr": 1e-3}
    assert read["count"].item() == 12


def test_shards_must_lie_in_the_folder_and_follow_the_schema(tmp_path):
    writer = ShardWriter(tmp_path / "a", SHARDED)
    part = {"feature": (("sample", "channel"), np.ones((2, 2), "float32"))}
    writer.append(xr.Dataset(part, coords={"sample": [0, 1]}))
    shards = writer.finish(xr.Dataset({"count": 1}))
    with pytest.raises(StoreError, match="the parts lie in"):
        write_dataset(shards, tmp_path / "b", SHARDED, PROVENANCE)
    with pytest.raises(StoreError, match="the parts follow 'features'; expected 'sae'"):
        write_dataset(shards, tmp_path / "a", SCHEMA, PROVENANCE)


def test_opening_is_lazy_for_files_and_folders(tmp_path):
    write_dataset(dataset(), tmp_path, SCHEMA, PROVENANCE)
    for path in (tmp_path, tmp_path / "dataset.nc", str(tmp_path)):
        with open_dataset(path) as read:
            assert not read["decoder"].variable._in_memory
            xr.testing.assert_identical(read.load().drop_attrs(), dataset())
    with open_dataset(tmp_path, chunks={}) as read:
        assert read["decoder"].chunks


def test_opening_with_a_schema_checks_the_version(tmp_path):
    write_dataset(dataset(), tmp_path, SCHEMA, PROVENANCE)
    open_dataset(tmp_path, SCHEMA).close()
    older = Schema("sae", 1, "t", SCHEMA.variables, SCHEMA.coords)
    with pytest.raises(SchemaError, match="version 2 was written by newer code"):
        open_dataset(tmp_path, older)


@pytest.mark.parametrize("sharded", [False, True])
@pytest.mark.slow
def test_xarray_opens_the_folder(tmp_path, sharded):
    written = write_shards(tmp_path) if sharded else None
    if written is None:
        written = write_dataset(dataset(), tmp_path, SCHEMA, PROVENANCE)
    for options in ({}, {"engine": "factbook"}, {"engine": "factbook", "chunks": {}}):
        with xr.open_dataset(tmp_path, **options) as read:
            name = "feature" if sharded else "decoder"
            assert read[name].chunks is not None or not read[name].variable._in_memory
            assert content_digest(read) == written.content
    with xr.open_dataset(tmp_path, drop_variables=[name]) as read:
        assert name not in read


def test_xarray_leaves_other_folders_alone(tmp_path):
    with pytest.raises(Exception, match=r"did not find a match|IO|supported"):
        xr.open_dataset(tmp_path)


@pytest.mark.parametrize(
    ("spoil", "match"),
    [
        (lambda folder: (folder / "manifest.json").unlink(), "no manifest.json, or a damaged one"),
        (lambda folder: (folder / "manifest.json").write_text("{"), "no manifest.json, or"),
        (lambda folder: (folder / "manifest.json").write_text('{"format": 1}'), "lists no files"),
        (lambda folder: (folder / "dataset.nc").unlink(), "damaged: dataset.nc is missing"),
        (lambda folder: os.truncate(folder / "dataset.nc", 100), "has 100 bytes; expected"),
    ],
)
def test_what_is_not_whole_is_not_opened(tmp_path, spoil, match):
    write_dataset(dataset(), tmp_path, SCHEMA, PROVENANCE)
    spoil(tmp_path)
    with pytest.raises(StoreError, match=match):
        open_dataset(tmp_path)


def test_what_is_no_dataset_is_told(tmp_path):
    with pytest.raises(StoreError, match="no dataset at"):
        open_dataset(tmp_path / "nowhere")
    with pytest.raises(StoreError, match="holds no whole dataset"):
        open_dataset(tmp_path)
    (tmp_path / "text.nc").write_text("text")
    with pytest.raises(StoreError, match="is damaged and cannot be read"):
        open_dataset(tmp_path / "text.nc")


@pytest.mark.slow
def test_eight_threads_read_one_file(tmp_path):
    values = np.arange(400 * 300, dtype="float32").reshape(400, 300)
    big = xr.Dataset(
        {"decoder": (("channel", "concept"), values), "accuracy": 0.5, "dead": 1},
        coords={"concept": np.arange(300)},
    )
    write_dataset(big, tmp_path, SCHEMA, PROVENANCE)
    shared, faults = open_dataset(tmp_path), []

    def look(seed):
        generator = np.random.default_rng(seed)
        for _ in range(6):
            row = generator.integers(0, 400)
            with open_dataset(tmp_path) as own:
                for read in (shared, own):
                    if not np.array_equal(read["decoder"][row].values, values[row]):
                        faults.append(row)

    threads = [threading.Thread(target=look, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not faults


def test_importing_the_schema_loads_no_arrays():
    code = """
        import sys
        import registry.store.schema, registry.plan.artifacts, registry.plan.sources
        heavy = {"xarray", "numpy", "h5py", "dask", "torch", "sacred", "pymongo"} & set(sys.modules)
        print(sorted(heavy))
    """
    done = subprocess.check_output([sys.executable, "-c", textwrap.dedent(code)], text=True)
    assert done.strip() == "[]"
