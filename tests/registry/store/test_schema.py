import datetime
import json
import pickle
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from registry.store.datasets import open_dataset, write_dataset
from registry.store.digest import content_digest
from registry.store.durable import StoreError
from registry.store.manifest import Provenance
from registry.store.schema import (
    Schema,
    SchemaError,
    Variable,
    decode_attribute,
    decode_attributes,
    encode_attribute,
    encode_attributes,
    json_value,
)
from registry.store.shards import ShardWriter

SCHEMA = Schema(
    name="concepts",
    version=3,
    title="Presence of concepts",
    variables={
        "presence": Variable(("image", "concept"), "float32", "presence", units="m"),
        "alive": Variable(("concept",), "bool", "alive"),
        "accuracy": Variable((), "float", "accuracy"),
        "position": Variable(("image",), "float", "position", optional=True),
    },
    coords={
        "image": Variable(("image",), "str", "image"),
        "concept": Variable(("concept",), "int64", "concept"),
        "split": Variable(("image",), "str", "split"),
    },
    references="A paper",
    sharded_along="image",
    readable_versions=(2,),
)


def dataset(images=3, concepts=2):
    return xr.Dataset(
        {
            "presence": (("image", "concept"), np.ones((images, concepts), "float32")),
            "alive": ("concept", np.ones(concepts, bool)),
            "accuracy": 0.5,
        },
        coords={
            "image": [f"test/{i}" for i in range(images)],
            "concept": np.arange(concepts),
            "split": ("image", ["test"] * images),
        },
    )


def faults(wrong, part=False):
    with pytest.raises(SchemaError) as error:
        SCHEMA.check(wrong, part=part)
    return error.value.faults


def test_a_dataset_as_declared_passes():
    SCHEMA.check(dataset())
    SCHEMA.check(dataset().assign(position=("image", np.zeros(3))))
    SCHEMA.check(dataset().chunk())


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda d: d.drop_vars("presence"), "missing variable 'presence'"),
        (lambda d: d.drop_vars("concept"), "missing coordinate 'concept'"),
        (lambda d: d.drop_vars("accuracy"), "missing variable 'accuracy', float ()"),
        (lambda d: d.assign(acuracy=0.1), "unknown variable 'acuracy'; did you mean 'accuracy'?"),
        (lambda d: d.assign_coords(run=1), "unknown coordinate 'run'"),
        (
            lambda d: d.transpose("concept", "image"),
            "'presence' has dims (concept, image); expected (image, concept)",
        ),
        (lambda d: d.assign(accuracy=("image", np.ones(3))), "'accuracy' has dims (image)"),
        (lambda d: d.assign(alive=("concept", [1, 0])), "'alive' is int64; expected bool"),
        (
            lambda d: d.assign(presence=d.presence.astype("float64")),
            "'presence' is float64; expected float32",
        ),
        (lambda d: d.assign(presence=d.presence.astype("float16")), "cast to float32"),
        (lambda d: d.assign(accuracy=1), "'accuracy' is int64; expected float32 or float64"),
        (lambda d: d.assign_coords(image=["a", "b", "a"]), "'image' repeats 1 value: 'a'"),
        (
            lambda d: d.assign_coords(split=("image", np.array(["a", None, 1.5], object))),
            "'split' is NoneType and float; expected str",
        ),
        (lambda d: d.reset_coords("split"), "'split' is a variable; expected a coordinate"),
        (lambda d: d.set_coords("alive"), "'alive' is a coordinate; expected a variable"),
        (
            lambda d: d.assign(alive=d.alive.assign_attrs(scale_factor=2)),
            "'alive' has attributes that change how it is read: scale_factor",
        ),
    ],
)
def test_every_kind_of_fault_is_told(change, expected):
    found = faults(change(dataset()))
    assert any(expected in fault for fault in found), found


def test_all_faults_are_told_at_once():
    wrong = dataset().drop_vars("alive").assign(extra=1, accuracy="high")
    found = faults(wrong.assign_coords(image=["a", "a", "a"]))
    assert len(found) == 4
    with pytest.raises(SchemaError, match=r"'alive'[^$]*unknown variable 'extra'"):
        SCHEMA.check(wrong)


def test_missing_coordinate_values_are_told():
    schema = Schema("s", 1, "t", {}, {"x": Variable(("x",), "float", "x")})
    with pytest.raises(SchemaError, match="'x' has 2 missing values"):
        schema.check(xr.Dataset(coords={"x": [0.0, np.nan, np.nan]}))


def test_a_part_may_leave_out_what_does_not_grow():
    part = dataset().drop_vars(["accuracy", "alive"])
    SCHEMA.check(part, part=True)
    assert any("'presence'" in fault for fault in faults(part.drop_vars("presence"), part=True))


def test_labels_are_added_and_the_argument_is_left_alone():
    plain = dataset()
    plain["presence"].attrs["comment"] = "kept"
    before = plain.copy(deep=True)
    labelled = SCHEMA.label(plain)
    xr.testing.assert_identical(plain, before)
    assert labelled["presence"].attrs == {"comment": "kept", "long_name": "presence", "units": "m"}
    assert labelled["image"].attrs == {"long_name": "image"}
    assert labelled.attrs["Conventions"].startswith("CF-")
    expected = {"title": "Presence of concepts", "references": "A paper"}
    expected |= {"schema": "concepts", "schema_version": 3}
    assert labelled.attrs.items() >= expected.items()


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"x": Variable((), "flot", "x")}, "unknown dtype 'flot'; did you mean 'float'?"),
        ({"x": Variable((), "float16", "x")}, "unknown dtype 'float16'"),
        ({"a/b": Variable((), "int", "x")}, "no '/'"),
        ({"a b": Variable((), "int", "x")}, "no blanks"),
        ({"x": Variable(("y", "y"), "int", "x")}, "stands twice"),
        ({"x": Variable((), "float", "x", units="seconds")}, "expected 's'"),
        ({"x": Variable(("concept", "image"), "float", "x")}, "'image' must be first"),
        ({"concept": Variable(("image",), "int", "x")}, "only its own coordinate"),
        ({"image": Variable(("image",), "int", "x")}, "both a variable and a coordinate"),
    ],
)
def test_a_schema_that_cannot_be_stored_is_refused(variables, expected):
    coords = {"image": Variable(("image",), "str", "image")}
    other = {"o": Variable(("image", "concept"), "float", "other")}
    with pytest.raises(SchemaError, match=expected.replace("?", r"\?")):
        Schema("s", 1, "t", variables | other, coords, sharded_along="image")


@pytest.mark.parametrize("name", ["y", "other"])
def test_what_is_told_first_is_a_scalar_of_the_schema(name):
    variables = {"x": Variable((), "int", "x"), "y": Variable(("image",), "int", "y")}
    with pytest.raises(SchemaError, match=f"'{name}' is told first, and is no scalar of it"):
        Schema("s", 1, "t", variables, {}, first=("x", name))


def test_a_scalar_tells_what_it_was_measured_on_as_far_as_that_is_known():
    of = ("of {n} {split} images", "at best: {best}", "by {whom}")
    share = Variable((), "float", "share", of=of)
    assert share.measured_on({"n": "7", "split": "test", "best": "0.9", "more": "1"}) == (
        "of 7 test images (at best: 0.9)"
    )
    assert share.measured_on({"n": "7", "split": "test"}) == "of 7 test images"
    assert share.measured_on({"n": "7"}) == ""
    assert Variable((), "float", "share").measured_on({"n": "7"}) == ""


def test_versions():
    today = dataset().assign_attrs(schema="concepts", schema_version=3)
    assert SCHEMA.upgrade(today) is today
    readable = today.assign_attrs(schema_version=2)
    assert SCHEMA.upgrade(readable) is readable
    with pytest.raises(SchemaError, match=r"version 4 was written by newer code.* reads 2, 3"):
        SCHEMA.upgrade(today.assign_attrs(schema_version=4))
    old = today.assign_attrs(schema_version=1, experiment="fashion-sae[k=8]")
    with pytest.raises(SchemaError, match=r"factbook run 'fashion-sae\[k=8\]'"):
        SCHEMA.upgrade(old)
    with pytest.raises(SchemaError, match="got a 'sae' dataset; expected 'concepts'"):
        SCHEMA.upgrade(today.assign_attrs(schema="sae"))


def test_an_older_version_is_migrated():
    def migrate(old, version):
        assert version == 1
        return old.rename(presences="presence")

    schema = Schema("concepts", 3, "t", SCHEMA.variables, SCHEMA.coords, migrate=migrate)
    old = dataset().rename(presence="presences").assign_attrs(schema="concepts", schema_version=1)
    new = schema.upgrade(old)
    schema.check(new)
    assert new.attrs["schema_version"] == 3


FORMER = Schema(
    "scores",
    1,
    "Scores",
    {
        "score": Variable(("image", "channel"), "float", "score"),
        "share": Variable((), "float", "s"),
    },
    {"image": Variable(("image",), "str", "image")},
    sharded_along="image",
)
LATER = Schema(
    "scores",
    1,
    "Scores",
    {
        "score": Variable(("input", "neuron"), "float", "score"),
        "fraction": Variable((), "float", "fraction"),
    },
    {"input": Variable(("input",), "str", "input")},
    sharded_along="input",
    renamed={"image": "input", "channel": "neuron", "share": "fraction"},
)


def former_dataset():
    values = {"score": (("image", "channel"), np.arange(6.0).reshape(3, 2)), "share": 0.5}
    return xr.Dataset(values, {"image": ["a", "b", "c"]})


@pytest.mark.parametrize("in_parts", [False, True])
@pytest.mark.slow
def test_old_names_are_read_under_new_ones_and_verified_as_they_were_stored(tmp_path, in_parts):
    old = former_dataset()
    dataset = old
    if in_parts:
        writer = ShardWriter(tmp_path, FORMER)
        for start in range(3):
            writer.append(old[["score"]].isel(image=slice(start, start + 1)))
        dataset = writer.finish(old[["share"]].drop_vars("image", errors="ignore"))
    written = write_dataset(dataset, tmp_path, FORMER, Provenance())
    read = open_dataset(tmp_path, LATER)
    assert read["score"].dims == ("input", "neuron")
    LATER.check(read.load())
    expected = old.rename({"image": "input", "channel": "neuron", "share": "fraction"})
    xr.testing.assert_identical(read.drop_attrs(), expected)
    assert open_dataset(tmp_path)["score"].dims == ("image", "channel")
    assert content_digest(open_dataset(tmp_path)) == written.content == content_digest(old)
    [file] = tmp_path.glob("part-000001.nc") if in_parts else tmp_path.glob("dataset.nc")
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    with pytest.raises(StoreError, match="another checksum than when it was written"):
        open_dataset(tmp_path, LATER)


def test_names_come_before_a_migration():
    old = former_dataset().assign_attrs(schema="scores", schema_version=1)
    newer = replace(LATER, version=2, migrate=lambda d, version: d.assign(score=d["score"] + 1))
    assert newer.upgrade(old)["score"].sel(input="b").values.tolist() == [3, 4]
    with pytest.raises(SchemaError, match="version 1 is older than this code, which reads 2"):
        replace(LATER, version=2).upgrade(old)


def test_the_error_survives_pickling():
    error = pickle.loads(pickle.dumps(SchemaError("subject", ["one", "two"])))
    assert str(error) == "subject:\n  - one\n  - two"


plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(plain)
@pytest.mark.slow
def test_attributes_come_back_as_they_were(value):
    encoded = encode_attribute(value)
    assert type(encoded) in (str, int, float)
    decoded = decode_attribute(encoded)
    assert decoded == value
    assert type(decoded) is type(value)


@pytest.mark.parametrize("text", ["true", "null", '"quoted"', "{}", "[1]", "{broken", "", "12"])
def test_strings_that_look_like_json_stay_strings(text):
    assert decode_attribute(encode_attribute(text)) == text


def test_attributes_of_other_types():
    @dataclass
    class Config:
        path: Path
        when: datetime.date

    config = Config(Path("a/b"), datetime.date(2026, 11, 22))
    assert json.loads(encode_attribute(config)) == {"path": "a/b", "when": "2026-11-22"}
    assert encode_attribute(np.float32(0.5)) == 0.5
    assert encode_attribute(np.bool_(True)) == "true"
    assert encode_attribute(2**70) == str(2**70)
    assert encode_attribute({"b", "a"}) == '["a", "b"]'
    assert json_value({"x": [float("nan"), float("-inf")]}) == {"x": ["nan", "-inf"]}
    vector = np.array([1, 2])
    assert encode_attribute(vector) is vector
    with pytest.raises(TypeError, match="got object; expected what JSON can hold"):
        encode_attribute([object()])
    both = {"a": None, "b": [1, "x"]}
    assert decode_attributes(encode_attributes(both)) == both


@pytest.mark.parametrize("version", [np.array([1, 2]), "new", [3], float("inf"), np.array([])])
def test_a_version_that_is_none_is_told(version):
    with pytest.raises(SchemaError, match=r"schema_version is .*; expected a whole number"):
        SCHEMA.upgrade(xr.Dataset(attrs={"schema": "concepts", "schema_version": version}))
