"""What training left: curves of an SAE, loss and accuracy of a network."""

from __future__ import annotations

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from dashboards.views.parts.charts import lines
from dashboards.views.parts.dots import bars
from dashboards.views.parts.parts import Figure, Number, Numbers, Part, file_name
from dashboards.views.parts.text import number_text
from dashboards.views.runs.curves import MOST_POINTS, thin

SAE_NUMBERS = {
    "best_accuracy": ("accuracy, spliced", "of the network with the SAE, on held-out images"),
    "network_accuracy": ("accuracy, network", "of the network itself, on the same images"),
    "final_explained_variance": ("explained variance", "fraction, in the last epoch"),
    "final_dead": ("dead concepts", "not fired for half an epoch, at the end"),
    "never_firing": ("never firing", "concepts that never fired in the last epoch"),
    "always_active": ("always active", "concepts in at least 60 % of the last epoch"),
    "k": ("k", "active concepts per position"),
}
SHARES = ("best_accuracy", "network_accuracy", "final_explained_variance")
SAE_CURVES = {
    "reconstruction_loss": ("Reconstruction loss", "squared error of scaled samples"),
    "auxiliary_loss": ("Auxiliary loss", "of the dead concepts' reconstruction"),
    "explained_variance": ("Explained variance", "fraction of variance"),
    "dead": ("Dead concepts", "concepts not fired for half an epoch"),
}
CLASSES_SHOWN = 40


def sae_parts(cell: str, sae: xr.Dataset) -> list[Part]:
    """Return the numbers and curves of an SAE's training.

    Parameters
    ----------
    cell : str
        What made it.
    sae : xr.Dataset
        Of the schema ``sae``; encoder and decoder are not read.
    """
    numbers = [
        Number(label, _text(name, float(sae[name])), meaning)
        for name, (label, meaning) in SAE_NUMBERS.items()
    ]
    curves: list[Part] = [
        _curve(file_name(cell, name), sae["step"].values, sae[name].values, *found)
        for name, found in SAE_CURVES.items()
    ]
    accuracy = _curve(
        file_name(cell, "accuracy"),
        sae["evaluated_step"].values,
        sae["held_out_accuracy"].values,
        "Accuracy of the spliced network",
        "fraction of held-out images",
    )
    return [Numbers(numbers), *curves, accuracy]


def _text(name: str, value: float) -> str:
    return f"{100 * value:.1f} %" if name in SHARES else number_text(value)


def _curve(
    name: str, steps: NDArray[np.integer], values: NDArray[np.generic], title: str, y_title: str
) -> Figure:
    numbers = values.astype(np.float64)
    finite = np.isfinite(numbers)
    kept = np.flatnonzero(finite)[thin(numbers[finite], MOST_POINTS)] if finite.any() else []
    frame = pd.DataFrame({"step": steps[kept], "value": numbers[kept], "series": ""})
    chart = lines(
        frame,
        x="step",
        y="value",
        x_title="updates",
        y_title=y_title,
        series=("",),
        height=220,
        form=".4g",
    )
    left_out = int((~finite).sum())
    note = f"{left_out:,} values are not finite." if left_out else ""
    return Figure(name, chart, title, note)


def network_parts(cell: str, network: xr.Dataset) -> list[Part]:
    """Return the loss of a network's training, and its accuracy on the test images by class.

    Parameters
    ----------
    cell : str
        What made it.
    network : xr.Dataset
        Of the schema ``network``.
    """
    numbers = [
        Number("test accuracy", f"{100 * float(network['test_accuracy']):.1f} %", "share"),
        Number("test images", f"{network.sizes['image']:,}"),
        Number("classes", f"{network.sizes['class']:,}"),
        Number("parameters", f"{int(network['parameters']):,}", "trained values"),
    ]
    loss = network["loss"].values
    epochs = np.arange(1, len(loss) + 1)
    frame = pd.DataFrame({"epoch": epochs, "loss": loss.astype(np.float64), "series": ""})
    curve = lines(
        frame, x="epoch", y="loss", x_title="epoch", y_title="mean loss", series=("",), height=220
    )
    accuracy = class_accuracy(network)
    by_class = bars(
        accuracy.head(CLASSES_SHOWN), x_title="fraction of its images", domain=(0, 1), form=".1%"
    )
    more = len(accuracy) - CLASSES_SHOWN
    note = "Lowest first." + (f" {more:,} more classes left out." if more > 0 else "")
    return [
        Numbers(numbers),
        Figure(file_name(cell, "loss"), curve, "Training loss"),
        Figure(file_name(cell, "accuracy"), by_class, "Accuracy by class", note),
    ]


def class_accuracy(network: xr.Dataset) -> pd.DataFrame:
    """Return ``label``, ``value``, the share of right predictions, and ``images`` of every class.

    The lowest comes first; classes without a labelled image are left out.
    """
    label, right = network["label"].values, (network["prediction"] == network["label"]).values
    classes = network["class"].values.astype(str)
    total = np.bincount(label[label >= 0], minlength=len(classes))
    hits = np.bincount(label[(label >= 0) & right], minlength=len(classes))
    frame = pd.DataFrame({"label": classes, "value": hits / np.maximum(total, 1), "images": total})
    return frame[total > 0].sort_values("value", kind="stable").reset_index(drop=True)
