"""Plain JSON values: what may stand in a journal and in MongoDB, whatever a stage hands over."""

from __future__ import annotations

import dataclasses
import datetime
import enum
import json
import math
import numbers
import os
import re
import zlib
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from functools import lru_cache
from typing import Any

LARGEST_ARRAY = 1000
"""Elements of the largest array that is recorded; datasets hold what is larger."""

_LONGEST_REPR = 10_000
_DEEPEST = 40  # MongoDB refuses documents nested deeper than 100
_INT64 = range(-(2**63), 2**63)
_SEQUENCES = (list, tuple, range)
_NON_FINITE = "$numberDouble"  # MongoDB's extended JSON; plain keys never begin with $
_CHECK, _AFTER_CHECK = b',"crc32":"', b'"}'
_NUMBER = re.compile(rb',"n":(\d{1,15})}\Z')
_NUMBER_WITHIN = 24  # bytes at the end of an event in which its number stands
_SAFE_KEY = str.maketrans({".": ",", "=": ":", "\0": None})
_dump = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


def plain(value: Any) -> Any:
    """Return `value` as dicts with safe string keys, lists, strings, numbers, booleans and None.

    Parameters
    ----------
    value : object
        Anything. Scalars of NumPy, PyTorch and xarray become Python's; arrays of up to
        `LARGEST_ARRAY` elements become lists, larger ones a line that says what they were; dates
        become ISO 8601; paths strings; integers beyond 64 bits strings; anything else its `repr`.

    Returns
    -------
    object
        Values that MongoDB stores and can be asked for. Floats may be NaN or infinite. In keys,
        ``.`` becomes ``,``, a leading ``$`` becomes ``@``, ``=`` becomes ``:`` and NUL is left out.
    """
    return _plain(value, ())


def encode(value: Any) -> str:
    """Return plain values as one line of strict JSON; NaN and infinities as extended JSON."""
    try:
        return _dump(value)
    except ValueError:
        return _dump(_mark_non_finite(value))


def decode(line: str | bytes) -> Any:
    """Return the values of a line that `encode` wrote.

    Raises
    ------
    ValueError
        If the line is not JSON.
    """
    marked = (_NON_FINITE if isinstance(line, str) else _NON_FINITE.encode()) in line  # type: ignore[operator]
    return json.loads(line, object_hook=_unmark if marked else None)


def encode_event(event: Mapping[str, Any], uid: str = "") -> str:
    """Return an event as a line that ends with the CRC-32 of its run's `uid` and what it says."""
    return seal_event(encode(event).encode(), uid=uid).decode()


def seal_event(text: bytes, number: int | None = None, *, uid: str = "") -> bytes:
    """Return the text of an event as a line with its number, if it has one, and its CRC-32.

    That is of the run's `uid` and the text, so that no other run can have the line; without, as
    former versions wrote it, of the text.
    """
    if number is not None:
        text = b'%b,"n":%d}' % (text[:-1], number)
    return b"%b%b%08x%b" % (text[:-1], _CHECK, zlib.crc32(text, _seed(uid)), _AFTER_CHECK)


def open_event(line: bytes, uid: str = "") -> tuple[bytes, int | None, bool | None]:
    """Return the text of an event whose checksum holds, its number, and whether it is the run's.

    Lines of versions before there were numbers, or checksums, have none; of one without a checksum
    it is None whether it is the run's.

    Raises
    ------
    ValueError
        If the line no longer says what was written, or another run wrote it.
    """
    text = line.rstrip()
    if not text.endswith(_AFTER_CHECK):
        return text, None, None
    said, mark, digits = text.removesuffix(_AFTER_CHECK).rpartition(_CHECK)
    if not mark:
        return text, None, None
    text, check = said + b"}", int(digits, 16)
    is_own = bool(uid) and zlib.crc32(text, _seed(uid)) == check
    if not is_own and zlib.crc32(text) != check:
        raise ValueError("the checksum of an event differs")
    number = _NUMBER.search(text[-_NUMBER_WITHIN:])
    return text, int(number[1]) if number else None, is_own


def decode_event(line: bytes, uid: str = "") -> Any:
    """Return the event of a line that `seal_event` wrote, or a version before there were checks.

    Raises
    ------
    ValueError
        If the line is not JSON, no longer says what was written, or is of another run.
    """
    return decode(open_event(line, uid)[0])


@lru_cache(maxsize=16)
def _seed(uid: str) -> int:
    return zlib.crc32(uid.encode())


def safe_key(key: Any) -> str:
    """Return a key that MongoDB and Sacred accept."""
    text = _text(key if isinstance(key, str) else str(_plain(key, ()))).translate(_SAFE_KEY)
    return f"@{text[1:]}" if text.startswith("$") else text


def shorten(text: str, most: int) -> str:
    """Return `text` with its middle left out where it has more than `most` characters."""
    if len(text) <= most:
        return text
    half = most // 2
    return f"{text[:half]}\n[… {len(text) - 2 * half} characters left out …]\n{text[-half:]}"


def _plain(value: Any, above: tuple[int, ...]) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, enum.Enum):
        return _plain(value.value, above)
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, numbers.Integral):
        return int(value) if int(value) in _INT64 else str(int(value))
    if isinstance(value, float):
        return float(value)
    if isinstance(value, (datetime.datetime, datetime.date, datetime.time)):
        return value.isoformat()
    if isinstance(value, os.PathLike):
        return _text(os.fsdecode(value))
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return _array(value, above)
    return _container(value, above)


def _container(value: Any, above: tuple[int, ...]) -> Any:
    if id(value) in above:
        return f"<{type(value).__name__} that contains itself>"
    if len(above) >= _DEEPEST:
        return _repr(value)
    inside = (*above, id(value))
    if isinstance(value, Mapping):
        return _mapping(value.items(), inside)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = (field.name for field in dataclasses.fields(value))
        return _mapping(((name, getattr(value, name)) for name in names), inside)
    if isinstance(value, AbstractSet):
        return sorted((_plain(item, inside) for item in value), key=repr)
    if isinstance(value, _SEQUENCES):
        return [_plain(item, inside) for item in value]
    return _repr(value)


def _mapping(items: Iterable[tuple[Any, Any]], inside: tuple[int, ...]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, item in items:
        name = safe_key(key)
        while name in result:  # two keys that differ only in what is unsafe
            name += "_"
        result[name] = _plain(item, inside)
    return result


def _array(value: Any, above: tuple[int, ...]) -> Any:
    """Return an array's elements by duck typing: neither NumPy nor PyTorch is imported for it."""
    try:
        size = math.prod(value.shape)
        if size > LARGEST_ARRAY:
            return f"{type(value).__name__} of {value.dtype} {tuple(value.shape)}, not recorded"
        array = value if hasattr(value, "tolist") else value.values  # xarray's
        elements = array.item() if value.shape == () else array.tolist()
    except Exception:
        return _repr(value)
    if hasattr(elements, "dtype"):  # NumPy's long double is its own item
        elements = float(elements)
    return _plain(elements, (*above, id(value)))


def _repr(value: Any) -> str:
    try:
        return shorten(_text(repr(value)), _LONGEST_REPR)
    except Exception:
        return f"<{type(value).__name__} without a representation>"


def _text(value: str) -> str:
    """Return a string that can be encoded: lone surrogates of undecodable file names escaped."""
    return value.encode("utf-8", "backslashreplace").decode("utf-8")


def _mark_non_finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _mark_non_finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_mark_non_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        name = "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
        return {_NON_FINITE: name}
    return value


def _unmark(item: dict[str, Any]) -> Any:
    if _NON_FINITE not in item:
        return item
    # One NaN for all: containers that hold the same object are equal.
    return math.nan if item[_NON_FINITE] == "NaN" else float(item[_NON_FINITE])
