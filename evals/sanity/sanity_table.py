"""Verdicts of the sanity tests as a table of text, for consoles."""

from __future__ import annotations

import numpy as np
import xarray as xr

from registry.terminal import text_table

ORDER = ("passes", "undecided", "fails", "")


def sanity_table(tested: xr.Dataset) -> str:
    """Return one line for each metric, those that pass first, then why cells differ.

    Parameters
    ----------
    tested : Dataset
        Of the schema ``sanity``.

    Returns
    -------
    str
        Columns: metric, its verdict, then for each form that was run and each test the decrease
        accuracy in per cent, with ``?`` where sampling decides, and the published one in
        parentheses. A note for each theoretical cell that differs from the published one.
    """
    forms = [form for form in tested["form"].values.tolist() if _was_run(tested, form)]
    columns = [(form, test) for form in forms for test in tested["test"].values.tolist()]
    metrics = tested["metric"].values.tolist()
    verdicts = tested["passed"].values.tolist()
    cells = {key: _cells(tested.sel(form=key[0], test=key[1])) for key in columns}
    rows = [
        [metrics[row], verdicts[row], *(held[row] for held in cells.values())]
        for row in sorted(range(len(metrics)), key=lambda row: ORDER.index(verdicts[row]))
    ]
    tests = ["metric", "verdict", *(test for _, test in columns)]
    lines = text_table(["", "", *(form for form, _ in columns)], [tests, *rows], 2).splitlines()
    lines += [*_said_of_all(tested, forms), *_notes(tested)]
    return "\n".join(lines) + "\n"


def _was_run(tested: xr.Dataset, form: str) -> bool:
    return bool(tested["decrease_accuracy"].sel(form=form).notnull().any())


def _cells(cell: xr.Dataset) -> list[str]:
    columns = (cell[name].values.tolist() for name in ("decrease_accuracy", "published", "verdict"))
    return [_cell(*held) for held in zip(*columns, strict=True)]


def _cell(accuracy: float, published: float, verdict: str) -> str:
    if np.isnan(accuracy):
        return ""
    doubt = "?" if verdict == "undecided" else ""
    beside = "" if np.isnan(published) else f" ({100 * published:.2f})"
    return f"{doubt}{100 * accuracy:.2f}{beside}"


def _said_of_all(tested: xr.Dataset, forms: list[str]) -> list[str]:
    lines = [
        f"Scores fell in so many per cent of the draws or neurons (published in parentheses); "
        f"{100 * float(tested['required']):g} are required; ? where sampling decides."
    ]
    for form in forms:
        if counts := [n for n in tested["n_neurons"].sel(form=form).values.tolist() if n]:
            lines.append(f"{form}: on {' and '.join(map(str, sorted(set(counts))))} neurons.")
    return lines


def _notes(tested: xr.Dataset) -> list[str]:
    """Return why theoretical cells differ from the published ones, each reason once."""
    told: dict[str, list[str]] = {}
    theoretical = tested["difference"].sel(form="theoretical")
    for metric in theoretical["metric"].values.tolist():
        for test in theoretical["test"].values.tolist():
            if reason := theoretical.sel(metric=metric, test=test).item():
                told.setdefault(reason, []).append(f"{metric} ({test})")
    return [f"{', '.join(cells)}: {reason}." for reason, cells in told.items()]
