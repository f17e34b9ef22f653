"""What a command prints: tables, values and durations as text."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

import click
from rich.cells import cell_len
from rich.console import Console
from rich.markup import escape
from rich.table import Table

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)


def can_animate() -> bool:
    """Whether lines that were printed can be drawn again.

    Notebooks and CI ask for colours (``FORCE_COLOR``), and are no terminal for all that.
    """
    return out.is_terminal and out.file.isatty()


_MOST_FOLDED = 500  # rows; Rich takes half a millisecond for each


def print_table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print rows of values under the names of their columns; all names empty: no head.

    On a terminal that is too narrow, cells are folded. Anywhere else a row is one line.
    """
    cells = [[text_of(value).replace("\n", " ") for value in row] for row in rows]
    widths = [max(map(_width, column)) for column in zip(columns, *cells, strict=True)]
    if out.is_terminal and sum(widths) + 2 * len(widths) > out.width and len(cells) <= _MOST_FOLDED:
        table = Table(box=None, pad_edge=False, show_header=any(columns))
        for column in columns:
            table.add_column(column, overflow="fold")
        for row in cells:
            table.add_row(*map(escape, row))
        out.print(table, soft_wrap=False)
        return
    head = [click.style(_line(columns, widths), bold=True)] if any(columns) else []
    click.echo("\n".join([*head, *(_line(row, widths) for row in cells)]))


def text_table(header: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1) -> str:
    """Return rows of cells in columns, the first ``left`` of which are aligned to the left."""
    cells = [list(header), *map(list, rows)]
    widths = [max(map(_width, column)) for column in zip(*cells, strict=True)]
    return "".join(f"{_line(row, widths, left)}\n" for row in cells)


def latex_table(header: Iterable[object], rows: Iterable[Iterable[object]], align: str) -> str:
    """Return rows as a LaTeX table with the rules of booktabs; ``align`` is as ``lrr``."""
    lines = [" & ".join(map(escape_latex, row)) + r" \\" for row in (header, *rows)]
    body = [lines[0], r"\midrule", *lines[1:], r"\bottomrule", r"\end{tabular}"]
    return "\n".join([rf"\begin{{tabular}}{{{align}}}", r"\toprule", *body]) + "\n"


def escape_latex(text: object) -> str:
    r"""Return a text as LaTeX that shows it as it is; ``\``, ``~`` and ``^`` too."""
    named = {
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "–": "--",
    }
    letters = (f"\\{c}" if c in "&%$#_{}" else named.get(c, c) for c in str(text))
    return "".join(letters).replace("\n", " ")


def text_of(value: Any) -> str:
    """Return a value as a cell of a table: numbers with four digits, times in local time."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, datetime):
        return value.astimezone().strftime("%Y-%m-%d %H:%M:%S")
    return value if isinstance(value, str) else exact(value)


def exact(value: Any) -> str:
    """Return a value as JSON, with all its digits."""
    return json.dumps(value, ensure_ascii=False, default=str)


def duration(seconds: float | None) -> str:
    """Return a duration for people: ``12.3 s``, ``4.5 min``, ``1.2 h``, or ``?``."""
    if seconds is None:
        return "?"
    if seconds < 90:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _width(cell: str) -> int:
    return len(cell) if cell.isascii() else cell_len(cell)


def _line(row: Sequence[str], widths: Sequence[int], left: int | None = None) -> str:
    """Return cells side by side, those after the first ``left`` aligned to the right."""
    gaps = [" " * (width - _width(cell)) for cell, width in zip(row, widths, strict=True)]
    left = len(row) if left is None else left
    padded = (
        cell + gap if index < left else gap + cell
        for index, (cell, gap) in enumerate(zip(row, gaps, strict=True))
    )
    return "  ".join(padded).rstrip()
