"""Figures of matplotlib, as scripts and notebooks expect them; no window and no state."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from registry.suggest import RefusalError

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure


def require_variables(dataset: xr.Dataset, schema: str, *names: str) -> None:
    """Make sure that a dataset can be shown.

    Parameters
    ----------
    dataset : Dataset
        What was given.
    schema : str
        The schema that is shown.
    names : str
        Its variables that are needed.

    Raises
    ------
    ValueError
        If some are not there, with the schema of what was given.
    """
    lacking = [name for name in names if name not in dataset]
    if lacking:
        own = f" of {dataset.attrs['schema']!r}" if "schema" in dataset.attrs else ""
        raise ValueError(
            f"expected a dataset of the schema {schema!r}; got one{own} without "
            f"{', '.join(lacking)}"
        )


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure that shows itself in Jupyter and is saved by ``savefig``.

    Parameters
    ----------
    width, height : float
        In inches.

    Raises
    ------
    RefusalError
        If matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        message = "figures need matplotlib: pip install 'factbook[figures]'"
        raise RefusalError(message) from error

    class Shown(Figure):
        """A figure that needs no backend to be shown."""

        def _repr_png_(self) -> bytes:
            file = io.BytesIO()
            self.savefig(file, format="png")
            return file.getvalue()

    return Shown(figsize=(width, height), layout="constrained")
