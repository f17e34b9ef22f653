"""What the training of an SAE left: its numbers, and losses on training and held-out images."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from dashboards.views.parts.charts import lines
from dashboards.views.parts.measured import HELD_OUT, of_images
from dashboards.views.parts.parts import Figure, Numbers, Part, file_name, numbers_of
from dashboards.views.runs.curves import MOST_POINTS, thin
from registry.wording import counted

TRAINING, HELD_OUT_IMAGES = "training", "held-out images"
SAE_NUMBERS = {
    "best_accuracy": ("accuracy, spliced", "of the network with the SAE in place of the layer"),
    "network_accuracy": ("accuracy, network", "of the network itself, on the same images"),
    "final_explained_variance": ("explained variance", "fraction, in the last epoch"),
    "final_dead": ("dead concepts", "not fired for half an epoch, at the end"),
    "never_firing": ("never firing", "concepts that never fired in the last epoch"),
    "always_active": ("always active", "concepts in at least 60 % of the last epoch"),
    "checked_explained_variance": ("explained variance", "fraction, when it was imported"),
    "checked_l0": ("L0", "concepts active at a position, mean, when it was imported"),
    "checked_dead": ("dead concepts", "active at no position, when it was imported"),
    "checked_agreement": ("agreement", "with the network's own prediction, when it was imported"),
    "k": ("k", "active concepts per position"),
}
SAE_FRACTIONS = (
    *("best_accuracy", "network_accuracy", "final_explained_variance"),
    *("checked_explained_variance", "checked_agreement"),
)
SAE_CURVES = {
    "reconstruction_loss": ("Reconstruction loss", "squared error of scaled samples"),
    "auxiliary_loss": ("Auxiliary loss", "of dead concepts"),
    "explained_variance": ("Explained variance", "fraction of variance"),
    "l0": ("Active concepts", "concepts in a sample"),
    "dead": ("Dead concepts", "concepts"),
}
"""By the name of a curve: of every update, of held-out images after every epoch, or of both."""

COUNTS = {
    "l0": "Mean over samples.",
    "dead": "In training: not fired for half an epoch. Of held-out images: active in no sample.",
}
"""Curves whose axis begins at 0, with what they count."""


def sae_parts(cell: str, sae: xr.Dataset) -> list[Part]:
    """Return the numbers and curves of an SAE's training.

    Parameters
    ----------
    cell : str
        What made it.
    sae : xr.Dataset
        Of the schema ``sae``; encoder and decoder are not read.
    """
    of = of_images(int(sae["n_held_out"]) if "n_held_out" in sae else None, HELD_OUT)
    numbers = numbers_of(sae, SAE_NUMBERS, SAE_FRACTIONS, of)
    return [Numbers(numbers), *training_figures(cell, sae)]


def training_figures(cell: str, sae: xr.Dataset) -> list[Figure]:
    """Return the curves of an SAE's training, those of held-out images in the same figures."""
    figures = []
    for name, (title, y_title) in SAE_CURVES.items():
        series = {}
        if name in sae:
            series[TRAINING] = _points(sae["step"].values, sae[name].values)
        if (held_out := f"held_out_{name}") in sae:  # NaN within an epoch
            ends = sae[held_out].dropna("step")
            series[HELD_OUT_IMAGES] = _points(ends["step"].values, ends.values)
        if series:
            figures.append(_curves(cell, name, series, title, y_title))
    if "held_out_accuracy" not in sae:  # one that was imported
        return figures
    evaluated = _points(sae["evaluated_step"].values, sae["held_out_accuracy"].values)
    title, y_title = "Accuracy of the spliced network", "fraction of images"
    return [*figures, _curves(cell, "accuracy", {HELD_OUT_IMAGES: evaluated}, title, y_title)]


def _points(steps: NDArray[np.integer], values: NDArray[np.generic]) -> pd.DataFrame:
    return pd.DataFrame({"step": steps, "value": values.astype(np.float64)})


def _curves(
    cell: str, name: str, series: dict[str, pd.DataFrame], title: str, y_title: str
) -> Figure:
    shown, left_out = [], 0
    for label, frame in series.items():
        known = frame[np.isfinite(frame["value"])]
        left_out += len(frame) - len(known)
        drawn = known.iloc[thin(known["value"].to_numpy(), MOST_POINTS)]
        shown.append(drawn.assign(series=label))
    points = pd.concat(shown, ignore_index=True)
    looks: dict[str, Any] = {"y_title": y_title, "height": 220, "form": ".3g"}
    if name in COUNTS:
        looks["domain"] = 0.0, max(1.0, float(points["value"].max()))
    chart = lines(points, x="step", y="value", x_title="updates", series=list(series), **looks)
    told = [f"{counted(left_out, 'value is', 'values are')} not finite."] if left_out else []
    told += [f"On {HELD_OUT_IMAGES}."] if list(series) == [HELD_OUT_IMAGES] else []
    told += [COUNTS[name]] if name in COUNTS else []
    return Figure(file_name(cell, name), chart, title, " ".join(told))
