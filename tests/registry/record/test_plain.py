"""Values of every sort become plain JSON that MongoDB stores."""

from __future__ import annotations

import dataclasses
import datetime
import enum
import json
import math
from decimal import Decimal
from pathlib import Path
from typing import Any

import bson
import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from registry.record.plain import LARGEST_ARRAY, decode, encode, plain, safe_key


class Colour(enum.Enum):
    RED = "red"


@dataclasses.dataclass
class Size:
    x: int
    path: Path


class Broken:
    def __repr__(self) -> str:
        raise RuntimeError("no")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (np.float32(0.5), 0.5),
        (np.float16(0.5), 0.5),
        (np.longdouble(0.5), 0.5),
        (np.int64(7), 7),
        (np.bool_(True), True),
        (np.array(3), 3),
        (np.arange(3), [0, 1, 2]),
        (np.array(["a", "b"]), ["a", "b"]),
        (xr.DataArray(2.5), 2.5),
        (xr.DataArray([1.0, 2.0]), [1.0, 2.0]),
        (2**63 - 1, 2**63 - 1),
        (2**63, str(2**63)),
        (-(2**70), str(-(2**70))),
        (np.uint64(2**64 - 1), str(2**64 - 1)),
        ((1, (2,)), [1, [2]]),
        ({3, 1, 2}, [1, 2, 3]),
        (range(3), [0, 1, 2]),
        (Path("a/b"), "a/b"),
        (Colour.RED, "red"),
        (Size(3, Path("p")), {"x": 3, "path": "p"}),
        (datetime.datetime(2026, 1, 2, 3, 4), "2026-01-02T03:04:00"),
        (datetime.date(2026, 1, 2), "2026-01-02"),
        (Decimal("1.5"), "Decimal('1.5')"),
        (1 + 2j, "(1+2j)"),
        (b"ab", "b'ab'"),
        ({1: "a", None: "b", False: "c"}, {"1": "a", "None": "b", "False": "c"}),
        ({"a.b": 1, "$c": 2, "d=e": 3, "f\0": 4}, {"a,b": 1, "@c": 2, "d:e": 3, "f": 4}),
        ({"a.b": 1, "a,b": 2}, {"a,b": 1, "a,b_": 2}),
        ("\udcff", "\\udcff"),
        (Broken(), "<Broken without a representation>"),
    ],
)
def test_becomes(value: Any, expected: Any) -> None:
    got = plain(value)
    assert got == expected
    assert type(got) is type(expected)
    assert decode(encode(got)) == expected
    bson.encode({"value": got}, check_keys=True)


def test_torch_scalars() -> None:
    torch = pytest.importorskip("torch")
    assert plain(torch.tensor(0.25, requires_grad=True)) == 0.25
    assert plain({"loss": torch.tensor([1, 2])}) == {"loss": [1, 2]}
    assert "(2000,)" in plain(torch.zeros(2000))


def test_large_arrays_are_described() -> None:
    assert len(plain(np.zeros(LARGEST_ARRAY))) == LARGEST_ARRAY
    assert plain(np.zeros((40, 50), "float32")) == "ndarray of float32 (40, 50), not recorded"


def test_recursion_ends() -> None:
    loop: list[Any] = [1]
    loop += [loop, loop]
    assert plain(loop) == [1] + ["<list that contains itself>"] * 2
    deep: Any = "bottom"
    for _ in range(200):
        deep = [deep]
    bson.encode({"value": plain(deep)})


def test_not_finite_is_strict_json_and_comes_back() -> None:
    line = encode({"a": [math.nan, math.inf, -math.inf, 1.5]})
    json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    nan, *rest = decode(line)["a"]
    assert math.isnan(nan)
    assert rest == [math.inf, -math.inf, 1.5]


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(max_size=20),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner),
    max_leaves=20,
)


@given(anything)
@pytest.mark.slow
def test_any_value_survives_journal_and_mongodb(value: Any) -> None:
    once = plain(value)
    line = encode(once)
    assert "\n" not in line
    assert encode(decode(line)) == line
    assert encode(plain(once)) == line  # what is plain stays as it is
    bson.decode(bson.encode({"value": once}, check_keys=True))


@given(st.text())
def test_safe_keys(key: str) -> None:
    safe = safe_key(key)
    assert not safe.startswith("$")
    assert not set(safe) & set(".=\0")
