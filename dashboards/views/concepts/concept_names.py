"""Names for results that know concepts by number alone: those of the names dataset of the model."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import xarray as xr

from dashboards.views.concepts.concepts import cells_of
from dashboards.views.concepts.labels import best_names, preferred_way, ways_to_name
from dashboards.views.runs.advice import EXPECTED
from registry.catalog.access import Catalog
from registry.plan.project import MissingInputsError

LABEL = "label"
"""Variable that :func:`label_concepts` adds."""


def with_names(
    catalog: Catalog, cell: str, dataset: xr.Dataset, read: Callable[[str], xr.Dataset]
) -> xr.Dataset:
    """Return a dataset with the names of its concepts; as it is where none can be read.

    Parameters
    ----------
    catalog : Catalog
        Where datasets are looked up.
    cell : str
        The cell that made the dataset.
    dataset : xr.Dataset
        With a coordinate ``concept`` of numbers.
    read : callable
        From a cell to its dataset.
    """
    with suppress(*EXPECTED):  # numbers serve without; the page of names tells what is wrong
        if names := naming_cell(catalog, cell):
            return label_concepts(dataset, read(names))
    return dataset


def naming_cell(catalog: Catalog, cell: str) -> str:
    """Return the cell whose dataset names the concepts that a cell is about; "" if none is made.

    Parameters
    ----------
    catalog : Catalog
        Where datasets are looked up.
    cell : str
        It rests on one set of concepts; the first, where it rests on several.
    """
    for concepts in _concept_models(catalog, cell):
        for names in cells_of(catalog.project, "names", made_from=concepts):
            with suppress(MissingInputsError):
                catalog.path(names)
                return names
    return ""


def _concept_models(catalog: Catalog, cell: str) -> list[str]:
    """Return the nearest cells behind a cell that make concepts; none where it is a resource."""
    cells, level = catalog.project.graph.cells, [cell]
    while level:
        needed = [name for own in level for name in cells[own].needs.values() if name in cells]
        if found := [name for name in needed if cells[name].provides == "concepts"]:
            return found[:1]
        level = list(dict.fromkeys(needed))
    return []


def label_concepts(dataset: xr.Dataset, names: xr.Dataset) -> xr.Dataset:
    """Return a dataset with the best name of each of its concepts, "" where there is none.

    Parameters
    ----------
    dataset : xr.Dataset
        With a coordinate ``concept`` of numbers.
    names : xr.Dataset
        Of the schema ``names``, for the same concept model.
    """
    ways = ways_to_name(names)
    known = best_names(names, ways[preferred_way(ways)])["name"]
    labels = known.reindex(dataset["concept"].values, fill_value="").to_numpy(dtype=str)
    return dataset.assign({LABEL: ("concept", labels)})
