"""A dataset as xarray itself shows it, in a frame in which nothing can run or be fetched."""

from __future__ import annotations

from html import escape
from pathlib import Path

from registry.store import open_dataset

_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
_COLOURS = {"light": ("#fff", "#1c1c1e"), "dark": ("#0e1117", "#fafafa")}


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
    with open_dataset(folder) as dataset:
        body = dataset._repr_html_()
    ground, ink = _COLOURS.get(theme, _COLOURS["light"])
    page = (
        f"<!doctype html><html theme='{'dark' if theme == 'dark' else 'light'}'><head>"
        f'<meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        f"<style>body {{ margin: 0; background: {ground}; color: {ink}; "
        f"font: 14px/1.4 system-ui, sans-serif; }}</style></head><body>{body}</body></html>"
    )
    style = f"border: 0; width: 100%; height: {int(height)}px; background: {ground}"
    return f'<iframe sandbox="" title="dataset" style="{style}" srcdoc="{escape(page)}"></iframe>'
