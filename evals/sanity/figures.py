"""Figures of sanity tests for scripts and notebooks, of matplotlib.

Source: Oikarinen et al., "Evaluating Neuron Explanations", ICML 2025, arXiv 2506.05774, tables 2
and 3.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from evals.sanity.forms import combine_forms
from registry.figures import new_figure, require_variables

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = {"passes": "#26864f", "fails": "#c83732", "undecided": "#b58a1b"}
SERIES = {"missing": "o", "extra": "s"}


def plot_sanity(sanity: xr.Dataset, form: str = "") -> Figure:
    """Show for each metric how often its score falls when labels are corrupted, and the verdict.

    Each point is a fraction in [0, 1] with its interval of 95 %; a tick is what the paper gives;
    the dashed line what is required.

    Parameters
    ----------
    sanity : Dataset
        Of the schema ``sanity``, or what :func:`evals.theoretical_sanity` returns.
    form : str
        ``theoretical``, ``experimental`` or ``semantic``; by default the first that was run.

    Raises
    ------
    ValueError
        If that form was not run, or the dataset is of another schema.
    RefusalError
        If matplotlib is not installed.
    """
    require_variables(sanity, "sanity", "verdict", "decrease_accuracy", "published")
    if "form" not in sanity.dims:
        sanity = combine_forms(sanity).assign(required=sanity["required"])
    verdicts = sanity["verdict"].astype(str)
    run = [str(f) for f in sanity["form"].values if (verdicts.sel(form=f) != "").any()]
    if not run or form not in ("", *run):
        raise ValueError(f"form {form!r} was not run; expected one of {', '.join(run) or 'none'}")
    own = sanity.sel(form=form or run[0])
    own = own.isel(metric=np.flatnonzero((own["verdict"].astype(str) != "").any("test").values))
    figure = new_figure(7, 0.32 * own.sizes["metric"] + 1.6)
    axes = figure.subplots()
    for test in own["test"].values.astype(str):
        _draw_test(axes, own.sel(test=test), test)
    axes.axvline(float(own["required"]), color="#6e6e73", linestyle="--", linewidth=0.9)
    metrics = own["metric"].values.astype(str)
    axes.set_yticks(np.arange(len(metrics)), metrics.tolist(), fontsize=8)
    axes.invert_yaxis()
    axes.set_xlim(-0.03, 1.03)
    axes.set_xlabel(f"{form or run[0]}: share of scores that fall")
    for verdict, colour in COLOURS.items():
        axes.plot([], [], "o", color=colour, label=verdict)
    figure.legend(loc="outside lower center", ncols=5, fontsize=8, frameon=False)
    return figure


def _draw_test(axes: Axes, own: xr.Dataset, test: str) -> None:
    """Draw the points of one test, a little beside those of the other."""
    is_first = test == next(iter(SERIES))
    places = np.arange(own.sizes["metric"]) + (-0.14 if is_first else 0.14)
    values = own["decrease_accuracy"].values
    ends = own["decrease_accuracy_low"].values, own["decrease_accuracy_high"].values
    verdicts = own["verdict"].values.astype(str)
    colours = [COLOURS.get(verdict, "#6e6e73") for verdict in verdicts]
    marker = SERIES.get(test, "^")
    axes.hlines(places, *ends, colors=colours, linewidth=1)
    axes.scatter(values, places, s=26, c=colours, marker=marker)
    axes.scatter(own["published"].values, places, s=60, c="#6e6e73", marker="|", linewidths=1)
    axes.scatter([], [], s=26, c="#6e6e73", marker=marker, label=f"{test} labels")
