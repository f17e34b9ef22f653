"""What was found of known neurons, as a table of text."""

from __future__ import annotations

import numpy as np
import xarray as xr


def identification_table(found: xr.Dataset) -> str:
    """Return one line for each metric, the best first.

    Parameters
    ----------
    found : Dataset
        Of the schema ``identification``.

    Returns
    -------
    str
        Columns: metric, AUPRC with its interval, mean rank among the metrics, share of neurons
        whose best concept is the right one, alpha and lambda that most splits chose, share of
        undefined pairs where there are any, and the published AUPRC where there is one.
    """
    columns = {
        "metric": found["metric"].values.astype(str).tolist(),
        "auprc": [f"{value:.4f}" for value in found["auprc"].values],
        "interval": _intervals(found),
        "rank": [f"{value:.1f}" for value in found["mean_rank"].values],
        "top": [f"{value:.0%}" for value in found["top_share"].values],
        "alpha": [_most_common(row) for row in found["alpha"].values],
        "lambda": [_most_common(row) for row in found["lam"].values],
        "undefined": [f"{value:.1%}" if value else "" for value in found["undefined_share"].values],
        "published": [_known(value, ".4f") for value in found["published"].values],
    }
    shown = {name: cells for name, cells in columns.items() if any(cells)}
    order = np.argsort(-found["auprc"].values, kind="stable")
    return _said_of_all(found) + _lay_out(shown, order)


def _said_of_all(found: xr.Dataset) -> str:
    n_neurons, n_choosing = int(found["n_neurons"]), int(found["n_choosing"])
    return (
        f"{n_neurons} neurons of known concept among {int(found['n_concepts'])} labels, on "
        f"{int(found['n_inputs'])} inputs; {found.sizes['seed']} splits: {n_choosing} choose, "
        f"{n_neurons - n_choosing} are tested\n"
    )


def _intervals(found: xr.Dataset) -> list[str]:
    ends = zip(found["auprc_low"].values, found["auprc_high"].values, strict=True)
    return ["" if np.isnan(low) else f"{low:.4f} to {high:.4f}" for low, high in ends]


def _most_common(values: np.ndarray) -> str:
    """Return the value that stands most often, the smallest of equals; "" if there is none."""
    known, counts = np.unique(values[~np.isnan(values)], return_counts=True)
    return f"{known[counts.argmax()]:g}" if len(known) else ""


def _known(value: float, form: str) -> str:
    return "" if np.isnan(value) else format(value, form)


def _lay_out(columns: dict[str, list[str]], order: np.ndarray) -> str:
    """Return columns of cells side by side: the first to the left, the others to the right."""
    widths = {name: max(map(len, [name, *cells])) for name, cells in columns.items()}
    first = next(iter(columns))

    def line(cells: dict[str, str]) -> str:
        laid = [
            cell.ljust(widths[name]) if name == first else cell.rjust(widths[name])
            for name, cell in cells.items()
        ]
        return "  ".join(laid).rstrip()

    header = line({name: name for name in columns})
    rows = [line({name: cells[row] for name, cells in columns.items()}) for row in order]
    return "\n".join([header, *rows]) + "\n"
