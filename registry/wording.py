"""Numbers as people read them: counts of things, measured values, shares, sizes and durations.

Whatever a page, a report or a console says goes through here: three significant digits, no
``1e-05``, units that a person uses. Files for programs (CSV, JSON) hold numbers in full.
"""

from __future__ import annotations

import math
import re

DIGITS = 3
"""Significant digits of a measured value."""

SMALLEST = 1e-4
"""Below this a value is written with a power of ten: ``2.89 × 10⁻⁷``."""

LARGEST = 1e15
"""From here on too."""

NONE = "–"
"""Where there is no number."""

_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_FORM = re.compile(r"(?P<sign>[+]?),?(?:\.(?P<digits>\d+))?(?P<kind>[efg%])")
_UNITS = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))
_SECOND_UNITS = ((86400, 3600), (3600, 60))
_SIZES = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


def number_text(value: float | None, digits: int = DIGITS, sign: bool = False) -> str:
    """Return a number to so many significant digits; whole ones in full.

    Parameters
    ----------
    value : float or None
        None and NaN are "–".
    digits : int
        From 1 on.
    sign : bool
        Whether numbers above 0 have a sign too.

    Returns
    -------
    str
        ``0.123``, ``1,234``, ``12,300`` of 12345.6, ``2.89 × 10⁻⁷``.
    """
    if value is None or math.isnan(value):
        return NONE
    before = "+" if sign and value > 0 else ""
    if math.isinf(value):
        return f"{before}{'-' if value < 0 else ''}∞"
    size = abs(value)
    if float(value).is_integer() and size < LARGEST:
        return f"{before}{value + 0:,.0f}"
    mantissa, power = f"{value:.{max(digits, 1) - 1}e}".split("e")
    exponent = int(power)
    if not SMALLEST <= size < LARGEST:
        raised = f"10{str(exponent).translate(_RAISED)}"
        mantissa = _bare(mantissa)
        if mantissa in ("1", "-1"):
            return f"{before}{mantissa[:-1]}{raised}"
        return f"{before}{mantissa} × {raised}"
    decimals = digits - 1 - exponent
    if decimals < 0:
        return f"{before}{round(value, decimals):,.0f}"
    return before + _bare(f"{value:,.{decimals}f}")


def signed_text(value: float | None, digits: int = DIGITS) -> str:
    """Return a number as :func:`number_text` does, numbers above 0 with their sign."""
    return number_text(value, digits, sign=True)


def exact_text(value: float) -> str:
    """Return a number with all its digits, as somebody set it: ``0.00001``, ``1,000`` as 1000."""
    if not math.isfinite(value):
        return number_text(value)
    if value == 0 or 1e-7 <= abs(value) < LARGEST:
        digits = repr(float(value))
        if "e" in digits:
            mantissa, power = digits.split("e")
            digits = f"{value:.{len(mantissa.partition('.')[2]) - int(power)}f}"
        return _bare(digits)
    return number_text(value, 17)


def share_text(share: float | None, digits: int = DIGITS) -> str:
    """Return a share of 1 in percent, to a tenth at best: ``12.3 %``, ``100 %``, ``0.04 %``."""
    if share is None or math.isnan(share):
        return NONE
    percent = 100 * share
    return f"{number_text(round(percent, 1) if abs(percent) >= 1 else percent, digits)} %"


def formed(value: float, form: str) -> str:
    """Return a number by a format of Python, as people read it.

    A fixed number of decimals (``.3f``) stays as it is up to 10, where as many significant digits
    are left as there are decimals, at least three; significant digits (``.3g``) are never written
    with an exponent. Shares (``.1%``) are written as :func:`share_text` does. Other formats are
    Python's own.
    """
    found = _FORM.fullmatch(form)
    if found is None or not math.isfinite(value):
        return format(value, form)
    digits = int(found["digits"] or 6)
    if found["kind"] == "%":
        return ("+" if found["sign"] and value > 0 else "") + share_text(value)
    if found["kind"] != "f":
        return number_text(value, max(digits, 1), bool(found["sign"]))
    if digits and abs(value) >= 10:
        decimals = max(0, max(digits, DIGITS) - 1 - math.floor(math.log10(abs(value))))
        form = form.replace(f".{digits}f", f".{min(digits, decimals)}f")
    return format(value, form)


def duration_text(seconds: float | None) -> str:
    """Return a duration by its two largest units: ``3 min 20 s``; "" where it is not known."""
    if seconds is None:
        return ""
    if 0 < seconds < 0.05:
        return "below 0.1 s"
    if seconds < 10:
        return f"{number_text(round(seconds, 1))} s"
    left = round(seconds)
    parts: list[str] = []
    for unit, size in _UNITS:
        count, left = divmod(left, size)
        if count or parts:
            parts.append(f"{count} {unit}" if count else "")
    return " ".join(part for part in parts[:2] if part)


def told_seconds(seconds: float) -> float:
    """Return the seconds that :func:`duration_text` tells of so many: those of two units."""
    if seconds < 10:
        return round(seconds, 1)
    whole = round(seconds)
    smallest = next((below for size, below in _SECOND_UNITS if whole >= size), 1)
    return float(whole - whole % smallest)


def size_text(size: float | None) -> str:
    """Return a number of bytes: ``1.4 MiB``; "" where it is not known."""
    if size is None:
        return ""
    unit = 0
    while size >= 1000 and unit < len(_SIZES) - 1:
        size, unit = size / 1024, unit + 1
    return f"{number_text(size)} {_SIZES[unit]}"


def counted(number: int, one: str, many: str = "") -> str:
    """Return a number of things with their noun.

    Parameters
    ----------
    number : int
        How many.
    one, many : str
        What follows 1, and what follows other numbers: ``image``, or ``image is`` and ``images
        are``. Without `many`, the regular plural of `one`.
    """
    return f"{number:,} {one if number == 1 else many or _plural(one)}"


def verb(number: int, one: str, many: str) -> str:
    """Return the form of a verb after a number of things: ``has`` after 1, else ``have``."""
    return one if number == 1 else many


def _plural(noun: str) -> str:
    if noun.endswith(("s", "x", "ch", "sh")):
        return f"{noun}es"
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return f"{noun[:-1]}ies"
    return f"{noun}s"


def _bare(digits: str) -> str:
    """Return decimal digits without zeros that say nothing."""
    return digits.rstrip("0").rstrip(".") if "." in digits else digits
