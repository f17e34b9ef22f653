"""Pickles of others, read without running what they name: plain data, and NumPy's arrays.

A pickle is a program: it names functions, and reading it calls them. Here a name is looked up in a
short table and nowhere else, so that nothing is imported and nothing of a file's choice is called;
arrays and numbers of NumPy are rebuilt from their bytes, by our own code.
"""

from __future__ import annotations

import math
import pickle
import re
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

_PLAIN_DTYPE = re.compile(r"[biufcSU]\d+")


class PickleError(ValueError):
    """A pickle that holds something else than data, is damaged, or is none."""


class Inert:
    """Stands for something that a pickle builds; takes whatever it is given and does nothing."""

    args: tuple[Any, ...]
    state: Any

    def __new__(cls, *args: Any, **_settings: Any) -> Inert:
        """Keep what it is made with; an unpickler may leave ``__init__`` out."""
        made = object.__new__(cls)
        made.args, made.state = args, None
        return made

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def append(self, _item: Any) -> None:
        """Take an item, as a list would."""

    def extend(self, _items: Any) -> None:
        """Take items, as a list would."""

    def __setitem__(self, _key: Any, _value: Any) -> None:
        """Take an entry, as a dict would."""


class _DataType(Inert):
    """A ``numpy.dtype``: its letters, then its byte order."""

    @cached_property
    def known(self) -> np.dtype[Any]:
        """The type, of numbers or texts alone."""
        text = as_text(self.args[0])
        if not _PLAIN_DTYPE.fullmatch(text):
            raise PickleError(f"an array of {text[:40]!r}; expected numbers or texts")
        order = as_text(self.state[1]) if self.state else "|"
        return np.dtype(f"{order}{text}" if order in ("<", ">") else text)


class _Array(Inert):
    """A ``numpy.ndarray``: version, shape, type, whether Fortran's order, and bytes."""

    def known(self) -> NDArray[Any]:
        """Return the array."""
        _, shape, kind, is_fortran, data = self.state
        return _array(data, kind, shape, "F" if is_fortran else "C")


class _Buffer(Inert):
    """An array as protocol 5 has it: bytes, type, shape and order."""

    def known(self) -> NDArray[Any]:
        """Return the array."""
        data, kind, shape, order = self.args[:4]
        return _array(data, kind, shape, as_text(order))


class Call:
    """A function that a pickle may call; nothing can be written on it."""

    __slots__ = ("_function",)
    _function: Callable[..., Any]

    def __init__(self, function: Callable[..., Any]):
        object.__setattr__(self, "_function", function)

    def __setattr__(self, name: str, value: Any) -> None:
        raise PickleError(f"sets {name} of a function")

    def __call__(self, *args: Any) -> Any:
        """Call it."""
        return self._function(*args)


def as_text(value: Any) -> str:
    """Return a text, of Latin-1 where it stands as bytes."""
    return value.decode("latin1") if isinstance(value, bytes) else str(value)


def _encoded(text: str, encoding: str = "latin1") -> bytes:
    """Return the bytes that Python 3 writes as a text in pickles for Python 2."""
    if encoding not in ("latin1", "latin-1"):
        raise PickleError(f"a text in {encoding!r}")
    return text.encode("latin1")


def _array(data: Any, kind: Any, shape: Any, order: str) -> NDArray[Any]:
    if not isinstance(kind, _DataType) or not isinstance(shape, tuple):
        raise PickleError("an array without a type or a shape")
    dtype, count = kind.known, math.prod(shape)
    raw = data.encode("latin1") if isinstance(data, str) else bytes(data)
    if min(shape, default=0) < 0 or count * dtype.itemsize != len(raw):
        raise PickleError(f"an array {shape} of {dtype} in {len(raw)} bytes")
    flat = np.frombuffer(raw, dtype).copy() if raw else np.zeros(count, dtype)
    return flat.reshape(shape, order="F" if order == "F" else "C")


def _scalar(kind: Any, data: Any) -> Any:
    """Return a number of NumPy as one of Python, at once: official files have a million of them."""
    raw = data.encode("latin1") if isinstance(data, str) else bytes(data)
    return _number(kind.known, raw)


@lru_cache(maxsize=4096)
def _number(dtype: np.dtype[Any], raw: bytes) -> Any:
    if len(raw) != dtype.itemsize:
        raise PickleError(f"a number of {dtype} in {len(raw)} bytes")
    return np.frombuffer(raw, dtype)[0].item()


_BUILTINS = ("builtins", "__builtin__")  # of Python 3 and 2
_NUMPY = ("numpy.core", "numpy._core")  # before and since NumPy 2

PLAIN: Mapping[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    **{(m, t.__name__): t for m in _BUILTINS for t in (set, frozenset)},
    **{(m, "bytes"): Call(lambda: b"") for m in _BUILTINS},  # as an empty one is written
    ("_codecs", "encode"): Call(_encoded),
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _DataType,
    **{(f"{m}.multiarray", "_reconstruct"): Call(lambda *_: _Array()) for m in _NUMPY},
    **{(f"{m}.multiarray", "scalar"): Call(_scalar) for m in _NUMPY},
    **{(f"{m}.numeric", "_frombuffer"): _Buffer for m in _NUMPY},
}
"""What a pickle of data may name, and what stands for it."""


class PlainUnpickler(pickle.Unpickler):
    """Reads a pickle of plain data; a name that is not in `PLAIN` is an error.

    Parameters
    ----------
    file : binary file
        Where it stands.
    """

    def __init__(self, file: IO[bytes]):
        super().__init__(file, encoding="latin1")  # as texts of Python 2 were, and bytes

    def find_class(self, module: str, name: str) -> Any:
        """Return what stands for a name."""
        if (module, name) in PLAIN:
            return PLAIN[module, name]
        raise PickleError(
            f"it names {module}.{name}; expected nothing but numbers, texts, lists and arrays"
        )


def read_pickle(path: Path | str) -> Any:
    """Read a pickle of plain data: None, numbers, texts, containers, NumPy's numbers and arrays.

    Texts and bytes that Python 2 wrote are texts, in Latin-1. Numbers of NumPy become Python's.

    Parameters
    ----------
    path : path
        The file.

    Raises
    ------
    PickleError
        If it cannot be read, or names anything else; nothing of it was run.
    """
    try:
        with Path(path).open("rb") as file:
            return as_plain(PlainUnpickler(file).load())
    except FileNotFoundError:
        raise PickleError(f"no file at {path}") from None
    except Exception as error:  # a damaged pickle raises all kinds of errors
        raise PickleError(f"{path} cannot be read as plain data: {error}") from error


def as_plain(value: Any, known: dict[int, Any] | None = None) -> Any:
    """Return what was unpickled with arrays and numbers for what stands for them.

    Parameters
    ----------
    value : object
        As an unpickler returned it.
    known : dict of int to object, optional
        What was converted already, by identity: parts that are shared stay so.

    Raises
    ------
    PickleError
        If something of it is not data.
    """
    if isinstance(value, (str, bytes, int, float, complex)) or value is None:
        return value
    known = {} if known is None else known
    if id(value) not in known:
        known[id(value)] = _converted(value, known)
    return known[id(value)]


def _converted(value: Any, known: dict[int, Any]) -> Any:
    if isinstance(value, Mapping):
        return {as_plain(k, known): as_plain(entry, known) for k, entry in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return type(value)([as_plain(entry, known) for entry in value])
    if isinstance(value, (_Array, _Buffer)):
        return value.known()
    if isinstance(value, (bytearray, _DataType)):
        return bytes(value) if isinstance(value, bytearray) else str(value.known)
    raise PickleError(f"it holds a {type(value).__name__}")


def require_keys(value: Any, keys: Sequence[str], what: str) -> Mapping[str, Any]:
    """Return a dict that has these keys, which may stand there as bytes.

    Raises
    ------
    PickleError
        If it is none, or lacks some.
    """
    if not isinstance(value, Mapping):
        raise PickleError(f"{what} holds a {type(value).__name__}; expected a dict")
    found = {as_text(key): entry for key, entry in value.items()}
    missing = [key for key in keys if key not in found]
    if missing:
        raise PickleError(f"{what} has no {', '.join(map(repr, missing))}; it has {list(found)}")
    return found
