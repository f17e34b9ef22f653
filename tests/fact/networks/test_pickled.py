"""Weights of pickled modules: tensors come out, and nothing that the file names is run."""

from __future__ import annotations

import builtins
import io
import os
import pickle
import subprocess
import sys
import types
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from fact.data.pickles import PickleError
from fact.networks.network import NetworkError
from fact.networks.pickled import read_pickled
from fact.networks.weights import read_state

LAYOUT = """
from torch import nn

class Head(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.expand_dim = 0
        self.fc = nn.Linear(width, 1)

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.transform_input = True
        self.conv = nn.Conv2d(3, 4, 3, bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.tied = nn.Linear(4, 4)
        self.again = nn.Linear(4, 4)
        self.again.weight = self.tied.weight
        self.all_fc = nn.ModuleList([Head(4) for _ in range(3)])
        self.register_buffer("halves", __import__("torch").arange(3).half())
        self.register_buffer("passing", __import__("torch").zeros(2), persistent=False)
        self.register_parameter("absent", None)
"""


@pytest.fixture
def net() -> Iterator[nn.Module]:
    """A module whose classes are in a package that is gone when it is read."""
    package, module = types.ModuleType("Their"), types.ModuleType("Their.model")
    sys.modules |= {"Their": package, "Their.model": module}
    exec(compile(LAYOUT, "model.py", "exec"), module.__dict__)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = module.Net()
    made.norm.running_mean.uniform_(-1, 1)
    yield made
    for name in ("Their", "Their.model"):
        sys.modules.pop(name, None)


def save(value: Any, path: Path, is_zip: bool = True) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of sources that it does not find
        torch.save(value, path, _use_new_zipfile_serialization=is_zip)
    return path


@pytest.mark.parametrize("is_zip", [True, False], ids=["zip", "before torch 1.6"])
@pytest.mark.parametrize("wrap", ["module", "parallel", "checkpoint"])
def test_weights_are_those_of_the_module(
    net: nn.Module, tmp_path: Path, is_zip: bool, wrap: str
) -> None:
    expected = net.state_dict()
    value: Any = net
    if wrap == "parallel":
        value = nn.DataParallel(net)
    elif wrap == "checkpoint":
        value = {"epoch": 3, "model": net, "best": np.float64(0.5)}
    path = save(value, tmp_path / "net.pth", is_zip)
    for name in ("Their", "Their.model"):
        del sys.modules[name]
    found = read_state(path)
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor), name
        assert found[name].dtype == tensor.dtype
    assert "Their" not in sys.modules
    settings = read_pickled(path).settings
    prefix = "module." if wrap == "parallel" else ""
    assert settings[f"{prefix}transform_input"] is True
    assert settings[f"{prefix}all_fc.1.expand_dim"] == 0


def test_a_state_dict_is_read_as_torch_reads_it(net: nn.Module, tmp_path: Path) -> None:
    for is_zip in (True, False):
        path = save({"state_dict": net.state_dict(), "epoch": 1}, tmp_path / "s.pth", is_zip)
        found = read_pickled(path).state
        for name, tensor in net.state_dict().items():
            assert torch.equal(found[name], tensor)
    views = torch.arange(12.0).reshape(3, 4)
    path = save({"t": views.T, "row": views[1], "none": views[:0]}, tmp_path / "v.pth")
    found = read_pickled(path).state
    assert torch.equal(found["t"], views.T)
    assert torch.equal(found["row"], views[1])
    assert found["none"].shape == (0, 4)


# --- what wants to be run -------------------------------------------------------------------


class Runs:
    """Pickled as a call of a function."""

    def __init__(self, function: Any, *args: Any, state: Any = None):
        self.call = (function, args) if state is None else (function, args, state)

    def __reduce__(self) -> Any:
        return self.call


def attacks(path: Path) -> dict[str, Any]:
    touch, text = f"touch {path}", f"open({str(path)!r}, 'w')"
    return {
        "os.system": Runs(os.system, touch),
        "eval": Runs(builtins.eval, text),
        "exec": Runs(builtins.exec, text),
        "popen": Runs(subprocess.Popen, ["touch", str(path)]),
        "getattr": Runs(getattr, Runs(__import__, "os"), "system"),
        "import": Runs(__import__, "antigravity"),
        "apply": Runs(map, os.system, [touch]),
        "state": Runs(types.SimpleNamespace, state={"a": Runs(os.system, touch)}),
    }


@pytest.mark.parametrize("is_zip", [True, False], ids=["zip", "before torch 1.6"])
@pytest.mark.parametrize("kind", attacks(Path("x")))
def test_nothing_is_run(net: nn.Module, tmp_path: Path, kind: str, is_zip: bool) -> None:
    target = tmp_path / "touched"
    net.hidden = attacks(target)[kind]
    for value in (net, {"weight": torch.zeros(2), "hidden": net.hidden}):
        path = save(value, tmp_path / "net.pth", is_zip)
        with pytest.raises(PickleError, match=r"which no weights need"):
            read_pickled(path)
        with pytest.raises(NetworkError, match="cannot be read as weights"):
            read_state(path)
    assert not target.exists()


def test_functions_of_other_packages_are_not_called(net: nn.Module, tmp_path: Path) -> None:
    """Of names that may be classes nothing is known, and nothing is made."""
    file = tmp_path / "inner.pkl"
    file.write_bytes(pickle.dumps(Runs(os.system, f"touch {tmp_path / 'touched'}")))
    net.hidden = [
        Runs(np.load, str(file), None, True),
        Runs(torch.load, str(file)),
        Runs(torch.hub.load, "a/b", "c"),
        Runs(np.testing.rundocs, str(file)),
    ]
    expected = net.state_dict()
    found = read_pickled(save(net, tmp_path / "net.pth")).state
    assert found.keys() == expected.keys()
    assert not (tmp_path / "touched").exists()


def with_pickle(path: Path, content: bytes, **entries: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", content)
        archive.writestr("archive/byteorder", "little")
        for name, raw in entries.items():
            archive.writestr(f"archive/data/{name}", raw)
    return path


def storage(count: int, key: bytes = b"a") -> bytes:
    kind = b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x00" + key
    return kind + b"X\x03\x00\x00\x00cpuK" + bytes([count]) + b"tQ"


def tensor(size: bytes, stride: bytes, count: int = 4, offset: bytes = b"K\x00") -> bytes:
    made = b"\x80\x02}X\x01\x00\x00\x00wctorch._utils\n_rebuild_tensor_v2\n(" + storage(count)
    return made + offset + size + stride + b"\x89}tRs."


FOUR = np.arange(4, dtype=np.float32).tobytes()


def test_tensors_never_reach_beyond_their_numbers(tmp_path: Path) -> None:
    path = tmp_path / "t.pth"
    whole = with_pickle(path, tensor(b"K\x02K\x02\x86", b"K\x02K\x01\x86"), a=FOUR)
    assert read_pickled(whole).state["w"].tolist() == [[0, 1], [2, 3]]
    beyond = {
        "long": tensor(b"K\x05\x85", b"K\x01\x85"),
        "stride": tensor(b"K\x02\x85", b"K\x04\x85"),
        "offset": tensor(b"K\x01\x85", b"K\x01\x85", offset=b"K\x04"),
        "negative": tensor(b"K\x01\x85", b"J\xff\xff\xff\xff\x85"),
        "repeated": tensor(b"J\xff\xff\xff\x7f\x85", b"K\x00\x85"),
        "other": tensor(b"K\x01\x85", b")"),
    }
    for content in beyond.values():
        with pytest.raises(PickleError, match="a tensor of size"):
            read_pickled(with_pickle(path, content, a=FOUR))
    with pytest.raises(PickleError, match="has 15 bytes; expected 4 numbers"):
        read_pickled(with_pickle(path, tensor(b"K\x01\x85", b"K\x01\x85"), a=FOUR[:-1]))
    with pytest.raises(PickleError, match="no item named"):
        read_pickled(with_pickle(path, tensor(b"K\x01\x85", b"K\x01\x85")))


def test_nothing_is_written_on_what_stands_for_functions(tmp_path: Path) -> None:
    for name in (b"_rebuild_parameter", b"_rebuild_tensor_v2"):
        content = b"\x80\x02ctorch._utils\n" + name + b"\nN}X\x01\x00\x00\x00aK\x01s\x86b."
        with pytest.raises(PickleError):
            read_pickled(with_pickle(tmp_path / "t.pth", content))


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"", "Ran out of input"),
        (b"no file of torch", "cannot be read as weights"),
        (pickle.dumps({"a": 1}), "does not begin as files of torch do"),
    ],
)
def test_what_is_no_file_of_torch_is_told(tmp_path: Path, content: bytes, fault: str) -> None:
    (tmp_path / "x.pth").write_bytes(content)
    with pytest.raises(PickleError, match=fault):
        read_pickled(tmp_path / "x.pth")
    with pytest.raises(PickleError, match="no weights at"):
        read_pickled(tmp_path / "absent.pth")


def test_cut_and_compiled_files_are_told(net: nn.Module, tmp_path: Path) -> None:
    path = save(net, tmp_path / "net.pth", is_zip=False)
    whole = path.read_bytes()
    for left_out in range(1, 81):  # in the numbers of a storage, and in their count
        path.write_bytes(whole[:-left_out])
        with pytest.raises(PickleError, match="is the file cut short"):
            read_pickled(path)
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is deprecated
        torch.jit.save(torch.jit.script(nn.Linear(2, 2)), file)
    path.write_bytes(file.getvalue())
    with pytest.raises(PickleError, match="compiled"):
        read_pickled(path)
    save({"epoch": 3}, path)
    with pytest.raises(PickleError, match="expected a module or a dict of tensors"):
        read_pickled(path)
