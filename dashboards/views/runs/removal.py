"""What the deletion of a run would remove, and what depends on it, in words."""

from __future__ import annotations

from collections.abc import Iterator

from dashboards.views.parts.text import size_text
from registry.upkeep.deletion import Deletion
from registry.wording import counted

MOST_NAMED = 8
"""Datasets that are named."""


def told(deletion: Deletion) -> Iterator[str]:
    """Yield what would go, what rests on it, and what is declared to need it."""
    gone, holding = deletion.tombstone, deletion.holding
    what = f"Run {gone.uid} of {gone.cell} would go: its record, its journal"
    yield (
        f"{what} and its dataset, {size_text(holding.size)}."
        if holding
        else (f"{what}. It holds no dataset.")
    )
    if readers := deletion.readers:
        names = [
            f"{one.cell} ({'current' if one.run in deletion.current else one.run})"
            for one in readers[:MOST_NAMED]
        ]
        more = len(readers) - MOST_NAMED
        names += [f"{more} more"] if more > 0 else []
        rest = counted(len(readers), "dataset rests", "datasets rest")
        yield f"{rest} on it, and would stay: {', '.join(names)}."
    else:
        yield "No dataset rests on it."
    if deletion.needed:
        yield f"Its dataset is {deletion.needed}."
    yield f"What makes it again: {gone.command}"


def consent(deletion: Deletion) -> str:
    """Return what a reader says who means it."""
    if deletion.needed or deletion.readers:
        return "Delete it although others rest on it"
    return "Delete it; it cannot be brought back"
