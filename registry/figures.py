"""Figures of matplotlib, as scripts and notebooks expect them; no window and no state."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from registry.suggest import RefusalError

if TYPE_CHECKING:
    from matplotlib.figure import Figure


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
