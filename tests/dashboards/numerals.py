"""Numbers in what people read: which of them are not written for people."""

from __future__ import annotations

import re
from html import unescape

MOST_DIGITS = 4
_EXPONENT = re.compile(r"\d[eE][-+]?\d+(?![\w.])")
_DECIMAL = re.compile(r"(?<![\w./:+-])(?<!arXiv )[-+]?\d+\.\d+(?![\w.])")
_NOT_READ = re.compile(r"data:[^\"']*|<(style|script|svg)\b.*?</\1>", re.DOTALL)
_TERMS = re.compile(r"Shares of what speaks for it.*?</table>", re.DOTALL)
"""The table of a decision by which one checks its sum: five digits."""


def badly_written(text: str) -> list[str]:
    """Return numbers with an exponent, or with a point and more than four significant digits.

    Identifiers, versions, dates and addresses are none.
    """
    bare = text.replace("\\", "")
    decimals = [found[0] for found in _DECIMAL.finditer(bare)]
    many = [n for n in decimals if len(n.strip("+-").replace(".", "").lstrip("0")) > MOST_DIGITS]
    return [found[0] for found in _EXPONENT.finditer(bare)] + many


def words_of(html: str) -> str:
    """Return what stands in a file to be read, without pictures and the table of terms."""
    return unescape(re.sub(r"<[^>]*>", " ", _TERMS.sub("", _NOT_READ.sub("", html))))
