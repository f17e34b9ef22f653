"""What the store holds, how large it is, and what of it nothing refers to."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pandas as pd

from dashboards.views.parts.parts import Number, Numbers, Part, Table
from registry.columns import BYTES, Column
from registry.upkeep.garbage import Garbage
from registry.upkeep.inventory import Holding, Inventory
from registry.wording import size_text

COLUMNS = {
    "datasets": Column("d", help="one of each run that made one and still has it"),
    "current": Column("d", help="of cells as they are declared now"),
    "size": Column(BYTES),
    "garbage": Column(BYTES, "removable", "nothing refers to it; see factbook gc"),
    "newest": Column(help="when the newest was made, UTC"),
}


def store_parts(inventory: Inventory, garbage: Sequence[Garbage]) -> list[Part]:
    """Return what a store holds: sums, and a row for each experiment, the largest first."""
    holdings = inventory.holdings.values()
    removable = sum(each.size for each in garbage)
    numbers = [
        Number("datasets", f"{len(holdings):,}", "whole ones, of every run that still has one"),
        Number("size", size_text(sum(each.size for each in holdings)), "of all of them"),
        Number("removable", size_text(removable), "nothing refers to it; factbook gc removes it"),
    ]
    return [Numbers(numbers), _table(inventory, holdings, garbage)]


def _table(inventory: Inventory, holdings: Iterable[Holding], garbage: Sequence[Garbage]) -> Table:
    removable = {each.path for each in garbage if each.kind == "dataset"}
    rows = pd.DataFrame(
        {
            "experiment": [each.experiment for each in holdings],
            "datasets": 1,
            "current": [each.run in inventory.current for each in holdings],
            "size": [each.size for each in holdings],
            "garbage": [each.size * (each.folder in removable) for each in holdings],
            "newest": [f"{each.made:%Y-%m-%d %H:%M}" for each in holdings],
        }
    )
    sums = dict.fromkeys(("datasets", "current", "size", "garbage"), "sum") | {"newest": "max"}
    frame = (
        rows.groupby("experiment", as_index=False).agg(sums).sort_values("size", ascending=False)
    )
    return Table("store", frame, "Experiments", columns=COLUMNS)
