"""Localisation of concepts as a table of text, for consoles."""

from __future__ import annotations

import numpy as np
import xarray as xr

from registry.columns import Column, ResultTable
from registry.terminal import text_table

BY_MEASURE = ResultTable(
    "measure",
    {
        "mean_score": Column(".3f", "score", "mean over concepts, on the masks of their names"),
        "mean_chance": Column(".3f", "chance", "the same for a uniform map"),
        "mean_elsewhere": Column(".3f", "elsewhere", "the same maps on the masks of other images"),
        "mean_lift": Column("+.3f", "above chance", "mean over concepts", short=None),
        "located_share": Column(
            ".1%", "located", "fraction of judged concepts whose interval lies above chance"
        ),
        "best_share": Column(
            ".1%", "best label", "fraction of shown names that no label exceeds", short="best"
        ),
    },
)
"""A row for each measure; of schema ``localisation``."""


def localisation_table(localised: xr.Dataset, most: int = 15) -> str:
    """Return what is true of all concepts, by each measure, and the concepts of the largest lift.

    Parameters
    ----------
    localised : Dataset
        Of the schema ``localisation``.
    most : int
        Concepts shown: those whose energy lies furthest above chance.

    Returns
    -------
    str
        A line for each measure: mean score of names in the images that show them, the same for a
        map that carries no location, the same maps on the masks of other images, the fraction of
        concepts whose interval lies above chance, and of those whose name no label exceeds. Then a
        line for each concept.
    """
    return "\n".join([BY_MEASURE.text(localised), _concepts(localised, most), _remarks(localised)])


def _concepts(localised: xr.Dataset, most: int) -> str:
    measures = localised["measure"].values.tolist()
    energy = measures.index("energy")
    lift = localised["lift"].values[:, energy]
    order = [row for row in np.argsort(-lift, kind="stable") if not np.isnan(lift[row])][:most]
    rows = []
    for row in order:
        own = localised.isel(concept=row)
        shown = f"{int(own['n_shown'])}/{int(own['n_images'])}"
        scores = [
            f"{float(own['score'][m]):.2f} ({float(own['chance'][m]):.2f})"
            for m in range(len(measures))
        ]
        best = str(own["top_label"].values[energy, 0])
        rows.append([str(own["name"].item()), best, str(int(own["concept"])), shown, *scores])
    header = ["name", "best by energy", "concept", "shown", *(f"{m} (chance)" for m in measures)]
    return text_table(header, rows, left=2)


def _remarks(localised: xr.Dataset) -> str:
    return (
        f"{int(localised['n_named'])} of {localised.sizes['concept']} concepts have a name; "
        f"{int(localised['n_without_mask'])} names have no masks, "
        f"{int(localised['n_not_shown'])} are shown in no image of the concept; "
        f"{int(localised['n_judged'])} are judged.\n"
    )
