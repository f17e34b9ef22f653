"""Weights out of pickled modules of torch, without the code of their classes, running nothing.

``torch.save(module)`` writes a pickle that names every class of a network; reading it the usual way
imports them, and runs whatever else the file names. Here nothing is built but tensors: a class that
the file names is replaced by one that holds its state and does nothing.
"""

from __future__ import annotations

import math
import pickle
import sys
import zipfile
from _compat_pickle import IMPORT_MAPPING
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor

from fact.data.pickles import PLAIN, Call, Inert, PickleError, as_text
from registry.wording import counted

MAGIC = 0x1950A86A20F9469CFC6C
"""Begins a file that torch wrote before its version 1.6."""

_DTYPES = {
    "Double": torch.float64,
    "Float": torch.float32,
    "Half": torch.float16,
    "BFloat16": torch.bfloat16,
    "Long": torch.int64,
    "Int": torch.int32,
    "Short": torch.int16,
    "Char": torch.int8,
    "Byte": torch.uint8,
    "Bool": torch.bool,
}
"""Types of storages by what stands before ``Storage`` in their names."""

_HARMLESS = frozenset(
    [
        *(("argparse", "Namespace"), ("collections", "defaultdict"), ("collections", "Counter")),
        *(("functools", "partial"), ("types", "SimpleNamespace"), ("pathlib", "PosixPath")),
        *(("pathlib", "PurePosixPath"), ("pathlib", "WindowsPath"), ("datetime", "datetime")),
    ]
)
"""Names of Python's own library that checkpoints of trainings have; nothing is made of them."""


@dataclass(frozen=True)
class Checkpoint:
    """What a file of torch holds.

    Attributes
    ----------
    state : dict of str to Tensor
        Parameters and buffers by name, on the CPU.
    settings : dict of str to value
        Numbers, texts and truth values that modules had beside them, by name:
        ``transform_input``, ``all_fc.0.expand_dim``.
    """

    state: dict[str, Tensor]
    settings: dict[str, bool | int | float | str] = field(default_factory=dict)


def read_pickled(path: Path | str) -> Checkpoint:
    """Read the weights of a module, or of a dict of tensors, that torch pickled.

    Of a checkpoint of a training, the entry ``state_dict``, ``model`` or ``net`` is taken.

    Parameters
    ----------
    path : path
        The file, of any version of torch since 0.2.

    Raises
    ------
    PickleError
        If it cannot be read, names a function of Python's own library, or holds no weights;
        nothing that it names was imported or run.
    """
    path = Path(path).expanduser()
    try:
        found = _read(path)
        return _checkpoint(found)
    except FileNotFoundError:
        raise PickleError(f"no weights at {path}") from None
    except Exception as error:  # a damaged file raises all kinds of errors
        raise PickleError(f"{path} cannot be read as weights: {error}") from error


# --- what stands for what is named ----------------------------------------------------------


@dataclass(frozen=True)
class _Storage:
    """Numbers that tensors are views of; they are read behind the pickle."""

    key: str
    dtype: torch.dtype
    count: int


class _Tensor(Inert):
    """A view of a storage: the storage, offset, size and stride."""

    def known(self, storages: Mapping[str, Tensor]) -> Tensor:
        """Return the tensor, with numbers of its own."""
        storage, offset, size, stride = self.args[:4]
        flat = storages[storage.key]
        numbers = (offset, *size, *stride)
        if len(size) != len(stride) or not all(isinstance(n, int) and n >= 0 for n in numbers):
            raise PickleError(f"a tensor of size {size} and stride {stride}")
        last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
        count = math.prod(size)
        if count and (last >= len(flat) or count > len(flat)):
            raise PickleError(f"a tensor of size {size} in {counted(len(flat), 'number')}")
        return flat.as_strided(size, stride, offset).clone() if count else flat.new_zeros(size)


def _rebuild_parameter(tensor: Any, *_others: Any) -> Any:
    return tensor


def _rebuild_from_type(make: Callable[..., Any], _type: Any, args: Any, _state: Any) -> Any:
    return make(*args) if make is _Tensor else Inert()


_KNOWN: Mapping[tuple[str, str], Any] = {
    **PLAIN,
    ("torch._utils", "_rebuild_tensor"): _Tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _Tensor,
    ("torch._utils", "_rebuild_parameter"): Call(_rebuild_parameter),
    ("torch._utils", "_rebuild_parameter_with_state"): Call(_rebuild_parameter),
    ("torch._tensor", "_rebuild_from_type_v2"): Call(_rebuild_from_type),
    ("torch", "Size"): Call(tuple),
}


class _Unpickler(pickle.Unpickler):
    """Builds nothing but tensors, plain containers, and inert objects for everything else."""

    def __init__(self, file: IO[bytes]):
        super().__init__(file, encoding="latin1")
        self._classes: dict[tuple[str, str], type] = {}

    def find_class(self, module: str, name: str) -> Any:
        """Return what stands for a name; nothing is imported."""
        known = _KNOWN.get((module, name))
        if known is not None:
            return known
        top = IMPORT_MAPPING.get(module, module).partition(".")[0]  # as Python 2 called it
        if top in sys.stdlib_module_names and (module, name) not in _HARMLESS:
            raise PickleError(f"it names {module}.{name}, which no weights need")
        if (module, name) not in self._classes:
            self._classes[module, name] = type("Named", (Inert,), {"named": f"{module}.{name}"})
        return self._classes[module, name]

    def persistent_load(self, pid: Any) -> Any:
        """Return what stands for a storage, or for the class of a module with its source."""
        what, *rest = pid
        if as_text(what) == "module":  # the class, and what its code was
            return rest[0]
        if as_text(what) != "storage":
            raise PickleError(f"it holds a {str(what)[:40]!r}")
        kind, key, _device, count = rest[:4]
        if len(rest) > 4 and rest[4] is not None:
            raise PickleError("a view of a storage, as torch wrote before its version 0.4")
        letters = str(getattr(kind, "named", "")).rpartition(".")[2].removesuffix("Storage")
        if letters not in _DTYPES:
            raise PickleError(f"a storage of {letters or kind!r}; expected {', '.join(_DTYPES)}")
        return _Storage(as_text(key), _DTYPES[letters], count)


# --- files ----------------------------------------------------------------------------------


@dataclass
class _Read:
    """What was unpickled, and the storages behind it."""

    value: Any
    storages: dict[str, Tensor]


def _read(path: Path) -> _Read:
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            return _read_zip(archive)
    with path.open("rb") as file:
        return _read_legacy(file)


def _read_zip(archive: zipfile.ZipFile) -> _Read:
    """Read what torch writes since its version 1.6: ``…/data.pkl`` and ``…/data/0``, …"""
    names = archive.namelist()
    pickles = [name for name in names if name.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise PickleError(
            f"an archive with {counted(len(pickles), 'file')} data.pkl; expected torch's"
        )
    folder = pickles[0].removesuffix("data.pkl")
    if f"{folder}constants.pkl" in names:
        raise PickleError("it is compiled (TorchScript); expected a module that was pickled")
    if f"{folder}byteorder" in names and archive.read(f"{folder}byteorder") != b"little":
        raise PickleError("its numbers are big-endian")
    with archive.open(pickles[0]) as file:
        unpickler = _Tracked(file)
        value = unpickler.load()
    storages = {}
    for storage in unpickler.storages.values():
        entry = archive.getinfo(f"{folder}data/{storage.key}")
        if entry.compress_type != zipfile.ZIP_STORED:
            raise PickleError(f"{entry.filename} is compressed; torch compresses nothing")
        storages[storage.key] = _numbers(storage, archive.read(entry))
    return _Read(value, storages)


def _read_legacy(file: IO[bytes]) -> _Read:
    """Read what torch wrote before: pickles one after the other, then the storages."""
    if _Unpickler(file).load() != MAGIC:
        raise PickleError("it does not begin as files of torch do")
    _Unpickler(file).load()  # version of the format
    if not _Unpickler(file).load().get("little_endian", True):
        raise PickleError("its numbers are big-endian")
    unpickler = _Tracked(file)
    value = unpickler.load()
    storages = {}
    for key in map(as_text, _Unpickler(file).load()):
        storage = unpickler.storages[key]
        length = file.read(8)
        if len(length) < 8:
            raise PickleError(f"it ends before storage {key}: is the file cut short?")
        count = int.from_bytes(length, "little")
        if count != storage.count:
            raise PickleError(
                f"storage {key} has {counted(count, 'number')}; expected {storage.count}"
            )
        storages[key] = _numbers(storage, file.read(count * storage.dtype.itemsize))
    return _Read(value, storages)


class _Tracked(_Unpickler):
    """Keeps the storages that it meets."""

    def __init__(self, file: IO[bytes]):
        super().__init__(file)
        self.storages: dict[str, _Storage] = {}

    def persistent_load(self, pid: Any) -> Any:
        """Return what stands for a storage, which is kept."""
        found = super().persistent_load(pid)
        if isinstance(found, _Storage):
            known = self.storages.setdefault(found.key, found)
            if known != found:
                raise PickleError(f"storage {found.key} is of two kinds")
        return found


def _numbers(storage: _Storage, raw: bytes) -> Tensor:
    if len(raw) != storage.count * storage.dtype.itemsize:
        raise PickleError(
            f"storage {storage.key} has {counted(len(raw), 'byte')}; expected "
            f"{counted(storage.count, 'number')} of "
            f"{storage.dtype}: is the file cut short?"
        )
    if not raw:
        return torch.zeros(0, dtype=storage.dtype)
    return torch.frombuffer(bytearray(raw), dtype=storage.dtype)


# --- from what was built to weights ---------------------------------------------------------

_ENTRIES = ("state_dict", "model", "net")


def _checkpoint(read: _Read) -> Checkpoint:
    value = read.value
    if isinstance(value, Mapping):
        inner = next((value[entry] for entry in _ENTRIES if _has_weights(value.get(entry))), None)
        value = value if inner is None else inner
    if _is_module(value):
        state = {name: tensor.known(read.storages) for name, tensor in _tensors(value, "")}
        return Checkpoint(state, dict(_settings(value, "")))
    if isinstance(value, _Tensor):
        value = {"": value}
    if not _has_weights(value):
        what = getattr(value, "named", type(value).__name__)
        raise PickleError(f"it holds a {what}; expected a module or a dict of tensors")
    tensors = {str(name): entry for name, entry in value.items() if isinstance(entry, _Tensor)}
    return Checkpoint({name: entry.known(read.storages) for name, entry in tensors.items()})


def _has_weights(value: Any) -> bool:
    if isinstance(value, Mapping):
        return bool(value) and all(isinstance(entry, _Tensor) for entry in value.values())
    return _is_module(value)


def _is_module(value: Any) -> bool:
    state = getattr(value, "state", None)
    return isinstance(value, Inert) and isinstance(state, dict) and "_parameters" in state


def _tensors(module: Any, prefix: str) -> Iterator[tuple[str, _Tensor]]:
    """Yield parameters and buffers of a module and of those in it, as a state dict has them."""
    state = module.state
    not_kept = state.get("_non_persistent_buffers_set") or ()
    for table in ("_parameters", "_buffers"):
        for name, value in (state.get(table) or {}).items():
            if isinstance(value, _Tensor) and not (table == "_buffers" and name in not_kept):
                yield f"{prefix}{name}", value
    for name, inner in (state.get("_modules") or {}).items():
        if _is_module(inner):
            yield from _tensors(inner, f"{prefix}{name}.")


def _settings(module: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    """Yield the plain values of a module and of those in it."""
    for name, value in module.state.items():
        if isinstance(value, (bool, int, float, str)) and not str(name).startswith("_"):
            yield f"{prefix}{name}", value
    for name, inner in (module.state.get("_modules") or {}).items():
        if _is_module(inner):
            yield from _settings(inner, f"{prefix}{name}.")
