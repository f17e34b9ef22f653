"""What the console and pages show of fidelity, declared once."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from registry.columns import Column, ResultTable
from registry.terminal import text_table
from registry.wording import counted

if TYPE_CHECKING:
    import xarray as xr


DENSE = 0.1
"""Fraction of the positions above which an active concept is dense."""


def _by_case(*names: str) -> Callable[[xr.Dataset], list[Any]]:
    """Return what reads the scalars of the cases in their order; "" stands for none."""
    return lambda own: [float(own[name]) if name else None for name in names]


BY_CASE = ResultTable(
    "case",
    {
        "kl": Column(
            ".3g", "KL, nats", "divergence from the network", _by_case("", "kl", "ablated_kl")
        ),
        "kl_recovered": Column(
            ".1%",
            "KL recovered",
            "fraction of the ablated layer's divergence that is not there",
            _by_case("", "kl_recovered", ""),
        ),
        "ce": Column(
            ".3g",
            "cross-entropy, nats",
            "of the labels",
            _by_case("network_ce", "ce", "ablated_ce"),
        ),
        "ce_recovered": Column(
            ".1%",
            "CE recovered",
            "fraction of the cross-entropy lost by the ablated layer that is recovered",
            _by_case("", "ce_recovered", ""),
        ),
        "agreement": Column(
            ".1%",
            "agreement",
            "fraction of images with the prediction of the network itself",
            _by_case("", "agreement", ""),
        ),
        "accuracy": Column(
            ".1%",
            "accuracy",
            "top-1, of images with a label",
            _by_case("network_accuracy", "accuracy", "ablated_accuracy"),
        ),
    },
)
"""A row for the network as it is, one with concepts in the layer's place, one without both."""


def density_decades(density: NDArray[np.floating]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return how many concepts have a density in each decade.

    Parameters
    ----------
    density : ndarray, (concept,)
        In [0, 1]; zeros are in no decade.

    Returns
    -------
    exponent : ndarray of int64, (decade,)
        Rising, without gaps; a decade begins at 10 to its power, and the last ends with 1, itself
        included.
    count : ndarray of int64, (decade,)
        Concepts in it.
    """
    active = density[density > 0]
    exponents = np.minimum(np.floor(np.log10(active)), -1).astype(np.int64)
    if not len(exponents):
        return np.array([], dtype=np.int64), np.array([], dtype=np.int64)
    decades = np.arange(exponents.min(), 0)
    return decades, np.bincount(exponents - decades[0], minlength=len(decades))


def fidelity_table(summary: xr.Dataset) -> str:
    """Return a line for each case, how dense concepts are, and what is not defined.

    Parameters
    ----------
    summary : Dataset
        Of the schema ``fidelity``.
    """
    own = {str(name): value.item() for name, value in summary.items() if not value.dims}
    exponents, counts = density_decades(summary["position_density"].values)
    decades = [f"10^{e} to {f'10^{e + 1}' if e < -1 else '1'}" for e in exponents.tolist()]
    density = zip(decades, (f"{count:,}" for count in counts), strict=True)
    lines = [
        BY_CASE.text(summary).rstrip("\n"),
        f"{own['ablation']} ablation, {counted(own['n_images'], 'image')}, {own['n_labelled']:,} "
        f"with a label{_by_commonest(own)}{_left_out(own)}",
        f"explained variance {own['explained_variance']:.1%}, normalised MSE "
        f"{own['normalised_mse']:.3g}, {own['l0']:.1f} concepts active at a position",
        f"{counted(own['n_concepts'], 'concept')}: {own['dead_concepts']:,} dead, "
        f"{own['dense_concepts']:,} dense (active at over 10 % of positions)",
        text_table(("active at a fraction of positions", "concepts"), density).rstrip("\n"),
        str(summary.attrs.get("undefined_fractions", "")),
    ]
    return "\n".join(filter(None, lines)) + "\n"


def _by_commonest(own: dict[str, Any]) -> str:
    """Return what accuracies are to be held against; "" where no image has a label."""
    share = own.get("commonest_share", math.nan)
    return "" if math.isnan(share) else f" (always the commonest class: {share:.1%})"


def _left_out(own: dict[str, Any]) -> str:
    """Return which images were left out or should perhaps have been, after a semicolon."""
    told = {
        "n_omitted": "omitted, on which the concepts were fitted",
        "n_fitted": "counted on which the concepts were fitted",
        "n_without_concepts": "left out, predicted as a class without concepts",
    }
    return "".join(f"; {own[name]:,} {text}" for name, text in told.items() if own.get(name))
