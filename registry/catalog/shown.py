"""How datasets show themselves in Jupyter: ``dataset.factbook``, beside xarray's own view."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterator
from functools import cached_property
from typing import Any

import pandas as pd
import xarray as xr

from registry.declare.stage import Stage, find_stage
from registry.suggest import RefusalError


@xr.register_dataset_accessor("factbook")
class Shown:
    """A dataset as what it means: its tables, and its figures where matplotlib is installed.

    It is there as ``dataset.factbook`` for datasets that :meth:`registry.Catalog.dataset` opened.

    Parameters
    ----------
    dataset : Dataset
        Of the schema of a stage, which its attribute ``source`` names.
    """

    def __init__(self, dataset: xr.Dataset):
        self._dataset = dataset

    @cached_property
    def stage(self) -> Stage | None:
        """The stage that made it; None where none is known."""
        return find_stage(str(self._dataset.attrs.get("source", "")).partition(" ")[0])

    def tables(self) -> list[pd.DataFrame]:
        """Return the tables that sum it up, numbers as they are; a column is named by its key."""
        tables = self.stage.tables() if self.stage else ()
        return [pd.DataFrame(table.values(self._dataset)) for table in tables]

    def parts(self) -> Iterator[Any]:
        """Yield what it shows: texts, and figures, or how to get matplotlib where it is missing."""
        for show in self.stage.shows() if self.stage else ():
            try:
                shown = show(self._dataset)
                yield from [shown] if isinstance(shown, str) or hasattr(shown, "savefig") else shown
            except RefusalError as error:
                yield str(error)

    def __repr__(self) -> str:
        texts = [part for part in self.parts() if isinstance(part, str)]
        return "\n\n".join(texts) or repr(self._dataset)

    def _repr_html_(self) -> str:
        found = "".join(map(_part_html, self.parts()))
        return found or str(self._dataset._repr_html_())


def _part_html(part: Any) -> str:
    if isinstance(part, str):
        return f"<pre>{html.escape(part)}</pre>"
    picture = base64.b64encode(part._repr_png_()).decode("ascii")
    return f'<p><img src="data:image/png;base64,{picture}"></p>'
