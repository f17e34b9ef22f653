"""What an accuracy is of, in words: how many images of which split, and what is reached at once."""

from __future__ import annotations

import math

import numpy as np
import xarray as xr

from dashboards.views.parts.text import share_text
from fact.data.classes import commonest_share
from registry.wording import counted

ACCURACIES = ("accuracy", "network_accuracy", "test_accuracy", "best_accuracy")
HELD_OUT = "held-out"
BY_COMMONEST = "always the commonest class"
"""What accuracies are to be held against."""
_LOOKED_AT = 1000


def of_images(count: int | None, split: str = "", are_some: bool = False) -> str:
    """Return what images an accuracy is of: ``of 100 test images``, ``of held-out images``.

    Parameters
    ----------
    count : int or None
        How many have a label; None where that is not known.
    split : str
        Of which split they are; "" where that is not known.
    are_some : bool
        Whether there are others, without a label.
    """
    kind = " ".join(filter(None, ("labelled" if are_some else "", split, "image")))
    return f"of {kind}s" if count is None else f"of {counted(count, kind)}"


def beside_commonest(of: str, dataset: xr.Dataset) -> str:
    """Return what accuracies are of with what they are to be held against, where that is known.

    As ``of 100 test images (always the commonest class: 25 %)``.
    """
    share = commonest_of(dataset)
    return of if math.isnan(share) else f"{of} ({BY_COMMONEST}: {share_text(share)})"


def commonest_of(dataset: xr.Dataset) -> float:
    """Return the share of the commonest class among the labelled images of a dataset.

    Parameters
    ----------
    dataset : xr.Dataset
        With ``commonest_share``, or ``label`` (image), -1 where there is none.

    Returns
    -------
    float
        In [0, 1]; NaN where it has neither, or no image has a label.
    """
    if "commonest_share" in dataset:
        return float(dataset["commonest_share"])
    if "label" not in dataset or dataset["label"].dims != ("image",):
        return math.nan
    return commonest_share(np.asarray(dataset["label"].values))


def of_labelled(dataset: xr.Dataset) -> str:
    """Return what images the accuracies of a dataset are of; "" where it does not say.

    Parameters
    ----------
    dataset : xr.Dataset
        With ``label`` (image), -1 where there is none. Images are called by split and path.
    """
    if "label" not in dataset or "image" not in dataset.coords:
        return ""
    labelled = int((dataset["label"] >= 0).sum())
    return of_images(labelled, split_of(dataset), labelled < dataset.sizes["image"])


def split_of(dataset: xr.Dataset) -> str:
    """Return of which split the images of a dataset are; "" of several, or of none that is told."""
    if "image" not in dataset.coords:
        return ""
    ids = dataset["image"].values
    some = [*ids[:: max(1, len(ids) // _LOOKED_AT)], *ids[-1:]]
    splits = {str(one).partition("/")[0] for one in some if "/" in str(one)}
    return splits.pop() if len(splits) == 1 else ""


def of_counted(own: xr.Dataset) -> str:
    """Return what images the accuracies of a dataset are of that counts them.

    Parameters
    ----------
    own : xr.Dataset
        With ``n_images`` and ``n_labelled``, and ``image`` where their split is to be told.
    """
    labelled = int(own["n_labelled"])
    return of_images(labelled, split_of(own), labelled < int(own["n_images"]))
