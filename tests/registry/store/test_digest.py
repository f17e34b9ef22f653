import dask.array as da
import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import registry.store.digest
from registry.store.digest import ContentDigest, blocks, content_digest
from registry.store.durable import StoreError

NAMES = ["float32", "float64", "bool", "int8", "int16", "int32", "int64", "uint8", "uint16"]
NAMES += ["uint32", "uint64"]


def dataset(images=7):
    generator = np.random.default_rng(0)
    return xr.Dataset(
        {
            "presence": (("image", "concept"), generator.random((images, 5), "float32")),
            "name": ("concept", ["a", "bé", "", "c", "d"]),
            "accuracy": 0.25,
        },
        coords={"image": [f"test/{i}" for i in range(images)], "concept": np.arange(5)},
    )


def test_how_values_are_held_does_not_matter():
    expected = content_digest(dataset())
    assert content_digest(dataset().chunk({"image": 2})) == expected
    assert content_digest(dataset().chunk({"image": 3, "concept": 2})) == expected
    assert content_digest(dataset().assign_attrs(title="another")) == expected
    fortran = ("image", "concept"), np.asfortranarray(dataset().presence.values)
    assert content_digest(dataset().assign(presence=fortran)) == expected
    swapped = dataset().assign(presence=dataset().presence.astype(">f4"))
    assert content_digest(swapped) == expected
    objects = dataset().assign(name=dataset().name.astype(object))
    assert content_digest(objects) == expected
    assert content_digest(dataset()[["accuracy", "name", "presence"]]) == expected


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.rename(presence="presences"),
        lambda d: d.rename(concept="neuron"),
        lambda d: d.assign(presence=d.presence.astype("float64")),
        lambda d: d.transpose(),
        lambda d: d.assign_coords(concept=d.concept + 1),
        lambda d: d.set_coords("name"),
        lambda d: d.drop_vars("image"),
        lambda d: d.isel(image=slice(None, None, -1)),
        lambda d: d.assign(name=("concept", ["ab", "é", "", "c", "d"])),
        lambda d: d.assign(accuracy=np.nextafter(0.25, 1)),
        lambda d: d.assign(presence=d.presence * np.float32(-0.0)),
    ],
)
def test_what_is_said_matters(change):
    zero = dataset().assign(presence=dataset().presence * 0)
    assert content_digest(change(dataset())) not in {
        content_digest(dataset()),
        content_digest(zero),
    }


@given(st.data())
@pytest.mark.slow
def test_every_bit_matters(data):
    dtype = data.draw(st.sampled_from([name for name in NAMES if name != "bool"]))
    values = data.draw(hnp.arrays(dtype, hnp.array_shapes(max_dims=3)))
    changed = values.copy()
    flat = changed.reshape(-1).view(np.uint8)
    byte = data.draw(st.integers(0, flat.size - 1))
    flat[byte] ^= 1 << data.draw(st.integers(0, 7))
    dims = [f"d{i}" for i in range(values.ndim)]
    first, second = (xr.Dataset({"x": (dims, array)}) for array in (values, changed))
    assert content_digest(first) != content_digest(second)


def test_parts_one_after_the_other_are_the_whole():
    digest = ContentDigest(along="image")
    for start, stop in ((0, 3), (3, 3), (3, 4), (4, 7)):
        digest.update(dataset().isel(image=slice(start, stop)))
    assert digest.hexdigest() == content_digest(dataset())


def test_parts_must_go_together():
    digest = ContentDigest(along="image")
    digest.update(dataset())
    with pytest.raises(StoreError, match="'concept' differs"):
        digest.update(dataset().assign_coords(concept=np.arange(1, 6)))
    with pytest.raises(StoreError, match="'presence' is float64"):
        digest.update(dataset().assign(presence=dataset().presence.astype("float64")))


def test_what_cannot_be_stored_has_no_digest():
    with pytest.raises(TypeError, match="'x' is float16"):
        content_digest(xr.Dataset({"x": ("a", np.ones(2, "float16"))}))
    with pytest.raises(TypeError, match="among strings"):
        content_digest(xr.Dataset({"x": ("a", np.array(["a", None], object))}))
    with pytest.raises(ValueError, match="NUL"):
        content_digest(xr.Dataset({"x": ("a", np.array(["a\0b"], object))}))


@given(
    st.lists(st.integers(0, 40), min_size=1, max_size=8),
    st.integers(1, 64),
    st.integers(1, 8),
    st.booleans(),
)
@pytest.mark.slow
def test_blocks_cover_every_row_once(chunks, block_rows, step, lazy):
    length = sum(chunks)
    values = np.arange(length, dtype="int64")
    array = da.from_array(values, chunks=(tuple(chunks),)) if lazy else values
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry.store.digest, "BLOCK_BYTES", 8 * block_rows)
        found = list(blocks(xr.Variable(("x",), array), step))
    assert np.array_equal(np.concatenate([b for _, b in found] or [values[:0]]), values)
    assert all(np.array_equal(values[rows], block) for rows, block in found)
    if not lazy:
        assert all(rows.start % step == 0 for rows, _ in found)
        assert all(len(block) <= max(step, block_rows) for _, block in found)


def test_a_chunk_is_computed_once(monkeypatch):
    monkeypatch.setattr(registry.store.digest, "BLOCK_BYTES", 8 * 10)
    computed = []

    def compute(block_info=None):
        computed.append(block_info[None]["chunk-location"])
        return np.zeros(25)

    array = da.map_blocks(compute, chunks=((25,) * 8,), dtype="float64", meta=np.empty(0))
    content_digest(xr.Dataset({"x": ("a", array)}))
    assert sorted(computed) == [(i,) for i in range(8)]
