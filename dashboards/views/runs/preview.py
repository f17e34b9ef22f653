"""A dataset as xarray itself shows it, in a frame in which nothing can run or be fetched."""

from __future__ import annotations

from html import escape
from pathlib import Path

from dashboards.views.runs.datasets import open_made

_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
_INK = {"light": "#1c1c1e", "dark": "#fafafa"}


def dataset_frame(folder: str | Path, theme: str = "light", height: int = 560) -> str:
    """Return the HTML of a frame that shows a dataset.

    xarray escapes what is stored; should it ever miss something, the frame is sandboxed: no script
    runs in it, it belongs to no origin, and its policy lets nothing be fetched.

    Parameters
    ----------
    folder : str or Path
        Of the dataset, which is opened lazily: no array is read.
    theme : str
        ``light`` or ``dark``.
    height : int
        Pixels.

    Raises
    ------
    StoreError
        If there is no whole dataset.
    """
    with open_made(folder, "") as dataset:
        body = dataset._repr_html_()
    scheme = theme if theme in _INK else "light"
    look = (
        f":root {{ color-scheme: {scheme}; background: transparent; }} "
        f"body {{ margin: 0; background: transparent; color: {_INK[scheme]}; "
        "font: 14px/1.4 system-ui, sans-serif; }"
    )
    page = (
        f"<!doctype html><html theme='{scheme}'><head>"
        f'<meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        f"<style>{look}</style></head><body>{body}</body></html>"
    )
    style = f"border: 0; width: 100%; height: {int(height)}px; color-scheme: {scheme}"
    return f'<iframe sandbox="" title="dataset" style="{style}" srcdoc="{escape(page)}"></iframe>'
