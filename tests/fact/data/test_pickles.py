"""Pickles of plain data: what they hold comes out, and nothing that they name is run."""

from __future__ import annotations

import builtins
import os
import pickle
import pickletools
import subprocess
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fact.data.pickles import PickleError, read_pickle


def written(tmp_path: Path, value: Any, protocol: int = 2) -> Path:
    path = tmp_path / "file.pkl"
    path.write_bytes(value if isinstance(value, bytes) else pickle.dumps(value, protocol))
    return path


@pytest.mark.parametrize("protocol", range(6))
def test_data_and_arrays_are_what_they_were(tmp_path: Path, protocol: int) -> None:
    shared = [1, 2.5, None, True]
    value = {
        "bytes": np.arange(12, dtype=np.uint8).reshape(3, 4),
        "fortran": np.asfortranarray(np.random.default_rng(0).random((2, 3))),
        "big": np.arange(4, dtype=">i4"),
        "none": np.zeros((0, 3), np.float32),
        "numbers": [np.int64(3), np.float64(0.5), np.bool_(True)],
        "shared": (shared, shared),
        "set": {1, 2},
        "text": "ü",
        "ordered": OrderedDict(a=1),
        2**70: b"ab\xff",
    }
    found = read_pickle(written(tmp_path, value, protocol))
    for name in ("bytes", "fortran", "big", "none"):
        np.testing.assert_array_equal(found[name], value[name])
        assert found[name].dtype == value[name].dtype
        assert found[name].flags.writeable
    assert found["numbers"] == [3, 0.5, True]
    assert {type(number) for number in found["numbers"]} == {int, float, bool}
    assert found["shared"] == (shared, shared)
    assert found["shared"][0] is found["shared"][1]
    assert (found["set"], found["text"], found["ordered"]) == ({1, 2}, "ü", {"a": 1})
    assert found[2**70] == b"ab\xff"


def test_what_python_2_wrote_is_read_as_texts_and_arrays(tmp_path: Path) -> None:
    """As the official files of CIFAR are written: by cPickle, texts as byte strings."""
    parts = [
        b"\x80\x02}q\x01(U\x04dataq\x02cnumpy.core.multiarray\n_reconstruct\nq\x03cnumpy\nndarray\n",
        b"q\x04K\x00\x85U\x01b\x87Rq\x05(K\x01K\x01K\x03\x86cnumpy\ndtype\nq\x06U\x02u1K\x00K\x01",
        b"\x87Rq\x07(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89U\x03\x00\x7f\xfftb",
        b"U\x0bbatch_labelq\x08U\x04n\xb0 1q\x09u.",
    ]
    found = read_pickle(written(tmp_path, b"".join(parts)))
    np.testing.assert_array_equal(found["data"], np.array([[0, 127, 255]], np.uint8))
    assert found["batch_label"] == "n° 1"


class Runs:
    """Pickled as a call of a function."""

    def __init__(self, function: Any, *args: Any):
        self.function, self.args = function, args

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return self.function, self.args


def getattr_chain(path: Path) -> bytes:
    """``getattr(getattr(builtins, 'open')('…', 'w'), 'close')()``, by hand."""
    return (
        b"\x80\x04cbuiltins\ngetattr\n(cbuiltins\ngetattr\n(cbuiltins\nopen\nX"
        + len(str(path)).to_bytes(4, "little")
        + str(path).encode()
        + b"X\x01\x00\x00\x00w\x86RX\x05\x00\x00\x00closetRX\x08\x00\x00\x00__call__tR)R."
    )


def hostile(path: Path) -> dict[str, bytes]:
    touch, text = f"touch {path}", f"open({str(path)!r}, 'w')"
    told = touch.encode()
    stacked = b"\x8c\x02os\x8c\x0epath.os.system\x93\x8c" + bytes([len(told)]) + told
    on_function = b"N}X\x01\x00\x00\x00aK\x01s\x86b."
    return {
        "os.system": pickle.dumps(Runs(os.system, touch)),
        "posix by protocol 0": pickle.dumps(Runs(os.system, touch), 0),
        "eval": pickle.dumps([Runs(builtins.eval, text)]),
        "exec": pickle.dumps({"a": Runs(builtins.exec, text)}),
        "popen": pickle.dumps(Runs(subprocess.Popen, ["touch", str(path)])),
        "getattr": getattr_chain(path),
        "dotted name": b"\x80\x04" + stacked + b"\x85R.",
        "inside an array": pickle.dumps(np.array([Runs(os.system, touch)], dtype=object)),
        "instance by INST": b"(S'" + told + b"'\nios\nsystem\n.",
        "instance by OBJ": b"(cos\nsystem\nS'" + told + b"'\no.",
        "attribute of a function": b"\x80\x02cnumpy.core.multiarray\n_reconstruct\n" + on_function,
        "persistent id": b"\x80\x02Pkey\n.",
        "extension": b"\x80\x02\x82\x01.",
    }


@pytest.mark.parametrize("kind", hostile(Path("x")))
def test_nothing_is_run(tmp_path: Path, kind: str) -> None:
    content = hostile(tmp_path / "touched")[kind]
    with pytest.raises(PickleError, match=r"file.pkl cannot be read as plain data"):
        read_pickle(written(tmp_path, content))
    assert not (tmp_path / "touched").exists()


def test_those_pickles_would_run_elsewhere(tmp_path: Path) -> None:
    """The other tests would pass on pickles that cannot be read by anybody."""
    for kind in ("os.system", "eval", "getattr", "instance by INST", "inside an array"):
        path = tmp_path / kind.replace(" ", "_")
        pickle.loads(hostile(path)[kind])
        assert path.exists(), kind
        list(pickletools.genops(hostile(path)[kind]))


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        (b"", "Ran out of input"),
        (b"no pickle", "cannot be read"),
        (pickle.dumps(list(range(1000)))[:500], "cannot be read"),
        (pickle.dumps(np.array([[1], "a"], dtype=object)), "numbers or texts"),
        (pickle.dumps(np.zeros(2, [("a", "i4")])), "numbers or texts"),
        (pickle.dumps(np.array(["2020"], dtype="M8[D]")), "numbers or texts"),
        (pickle.dumps(Path("x")), "it names pathlib"),
    ],
)
def test_what_is_no_data_is_told(tmp_path: Path, value: bytes, fault: str) -> None:
    with pytest.raises(PickleError, match=fault):
        read_pickle(written(tmp_path, value))


def test_arrays_of_other_shapes_than_their_bytes_are_refused(tmp_path: Path) -> None:
    whole = pickle.dumps(np.zeros((3, 4), np.uint8), 2)
    with pytest.raises(PickleError, match=r"\(3, 5\) of uint8 in 12 bytes"):
        read_pickle(written(tmp_path, whole.replace(b"K\x03K\x04\x86", b"K\x03K\x05\x86")))
    with pytest.raises(PickleError, match="no file at"):
        read_pickle(tmp_path / "absent.pkl")


def test_what_holds_itself_is_refused(tmp_path: Path) -> None:
    ring: list[Any] = []
    ring.append(ring)
    with pytest.raises(PickleError, match="recursion"):
        read_pickle(written(tmp_path, ring))
