"""A matching of two sets of concepts as a table of text, for consoles."""

from __future__ import annotations

import numpy as np
import xarray as xr

from evals.naming.tables import number
from registry.terminal import text_table


def matching_table(matched: xr.Dataset) -> str:
    """Return what fraction of concepts comes back, by every basis, beside that of the null.

    Parameters
    ----------
    matched : Dataset
        Of the schema ``matching``.
    """
    rows = []
    for b, basis in enumerate(matched["basis"].values.tolist()):
        own = matched.isel(basis=b)
        for t, threshold in enumerate(matched["threshold"].values):
            at = own.isel(threshold=t)
            rows.append(
                [
                    basis,
                    f"matched at {threshold:g}",
                    *_cells(at, "matched_share"),
                    number(float(at["null_matched_share"])),
                ]
            )
        rows += [
            [basis, what, *_cells(own, key), number(float(own[f"null_{key}"]))]
            for what, key in (
                ("mutual nearest", "mutual_share"),
                ("mean nearest", "mean_nearest"),
                ("mean matched", "mean_similarity"),
            )
        ]
    table = text_table(["basis", "what", "value", "interval", "null"], rows, left=2)
    return f"{table}\n{_remarks(matched)}"


def _cells(own: xr.Dataset, key: str) -> list[str]:
    if f"{key}_low" not in own:
        return [number(float(own[key])), ""]
    low, high = float(own[f"{key}_low"]), float(own[f"{key}_high"])
    interval = "" if np.isnan(low) else f"[{low:.3f}, {high:.3f}]"
    return [number(float(own[key])), interval]


def _remarks(matched: xr.Dataset) -> str:
    text = (
        f"{int(matched['n_alive_one'])} of {int(matched['n_one'])} concepts against "
        f"{int(matched['n_alive_other'])} of {int(matched['n_other'])} that are alive."
    )
    same = float(matched["same_match_share"])
    agree = "" if np.isnan(same) else f" Both bases match {same:.1%} of concepts alike."
    return f"{text}{agree}\n"
