"""Numbers of things in texts: ``1 image``, ``2,000 images``."""

from __future__ import annotations


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
