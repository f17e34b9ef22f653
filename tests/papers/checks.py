"""What must be true of the papers' datasets, whatever the weights: one check for a schema."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import xarray as xr

SIDE = 224
"""Pixels of the pictures that networks of the papers see."""

COMPLETE = 1e-5
"""By how much contributions may miss the logit, of the sum of their amounts."""


class CheckError(AssertionError):
    """What is not true of a dataset."""


def require(condition: object, what: str) -> None:
    """Raise with what is wrong unless a condition holds."""
    if not condition:
        raise CheckError(what)


def check(kind: str, dataset: xr.Dataset) -> None:
    """Check a dataset of a schema; of schemas without a check of their own, that it holds numbers.

    Raises
    ------
    CheckError
        With what is wrong.
    """
    require(dataset.sizes and all(dataset.sizes.values()), f"is empty: {dict(dataset.sizes)}")
    CHECKS.get(kind, _holds_numbers)(dataset)


def _holds_numbers(dataset: xr.Dataset) -> None:
    for name, variable in dataset.data_vars.items():
        if variable.dtype.kind == "f":
            require(np.isfinite(variable).any(), f"{name} has no finite number")


def _is_finite(dataset: xr.Dataset, *names: str) -> None:
    for name in names:
        require(np.isfinite(dataset[name]).all(), f"{name} is not finite everywhere")


def check_features(dataset: xr.Dataset) -> None:
    """Check that samples are finite, of all images that are not held out."""
    _is_finite(dataset, "feature", "root_mean_square")
    require(dataset["root_mean_square"] > 0, "all samples are 0")
    require(dataset["n_held_out"] > 0, "no image is held out")
    seen = len(np.unique(dataset["image"]))
    require(seen == int(dataset["n_images"]), f"samples of {seen} images alone")


def check_sae(dataset: xr.Dataset) -> None:
    """Check that weights are finite and that accuracies are some, where it was trained."""
    _is_finite(dataset, "encoder", "decoder")
    if "held_out_accuracy" in dataset:
        _is_finite(dataset, "held_out_accuracy", "network_accuracy", "reconstruction_loss")
        loss = dataset["reconstruction_loss"].values
        require(loss[-1] < loss[0], f"the loss did not fall: {loss[0]:.3g}, then {loss[-1]:.3g}")


def check_concepts(dataset: xr.Dataset) -> None:
    """Check that contributions add up to the logit of every image."""
    _is_finite(dataset, "presence", "contribution", "logit")
    require((dataset["presence"] != 0).any(), "no concept is in any image")
    contribution = dataset["contribution"].astype(float)
    target = dataset["target"].values[:, None]
    logit = np.take_along_axis(dataset["logit"].values, target, axis=1)[:, 0]
    missed = np.abs(contribution.sum("concept").values - logit)
    share = missed / np.abs(contribution).sum("concept").values
    require((share < COMPLETE).all(), f"contributions miss a logit by {share.max():.2g}")
    require((dataset["residual"] < COMPLETE).all(), "a residual is larger than allowed")
    require(dataset["accuracy"] >= 0, "there is no accuracy")


def check_encodings(dataset: xr.Dataset) -> None:
    """Check that encodings are finite, and that there are some of every image."""
    _is_finite(dataset, "encoding")


def check_consistency(dataset: xr.Dataset) -> None:
    """Check that there are scores, each a cosine, beside the random baseline."""
    _is_finite(dataset, "mean_score", "baseline")
    score = dataset["score"].values
    defined = score[~np.isnan(score)]
    require(len(defined), "no concept has a score")
    require((np.abs(defined) <= 1 + 1e-6).all(), "a score is no cosine")


def check_gallery(dataset: xr.Dataset) -> None:
    """Check that pictures are those that the network sees."""
    require(dataset["picture"].shape[-3:-1] == (SIDE, SIDE), "pictures have another size")
    require(dataset["explanation"].max() > 0, "no map shows anything")


def check_decisions(dataset: xr.Dataset) -> None:
    """Check that concepts and all others together give the logit, and their shares 1."""
    require(dataset["picture"].shape[-3:-1] == (SIDE, SIDE), "pictures have another size")
    logit = dataset["logit"].astype(float)
    given = dataset["contribution"].sum("rank") + dataset["others"]
    amounts = np.abs(dataset["contribution"]).sum("rank") + np.abs(dataset["others"])
    missed = (np.abs(given - logit) / amounts).max()
    require(missed < COMPLETE, f"concepts miss a logit by {float(missed):.2g}")
    shares = dataset["share"].sum("rank") + dataset["others_share"]
    require(np.allclose(shares, 1, atol=1e-4), "shares do not add up to 1")
    maps = dataset["concept_map"].sum("rank") + dataset["others_map"]
    scale = float(np.abs(dataset["logit_map"]).max())
    apart = float(np.abs(maps - dataset["logit_map"]).max()) / scale
    require(apart < 1e-3, f"maps of concepts miss that of the logit by {apart:.2g}")


def check_labels(dataset: xr.Dataset) -> None:
    """Check that labels are shares."""
    value = dataset["value"]
    require(((value >= 0) & (value <= 1)).all(), "a label is no share")
    require(value.std() > 0, "all labels are the same")


def check_activations(dataset: xr.Dataset) -> None:
    """Check that neurons differ between inputs."""
    _is_finite(dataset, "activation")
    spread = dataset["activation"].std(next(iter(dataset["activation"].dims)))
    require((spread > 0).any(), "no neuron varies")


def check_sanity(dataset: xr.Dataset) -> None:
    """Check that every form that was run has a fraction of neurons for every metric."""
    _holds_numbers(dataset.drop_vars("published"))
    run = dataset["decrease_accuracy"].sel(form="theoretical")
    require(np.isfinite(run).all(), "a metric has no verdict in the theoretical form")
    tested = dataset["n_neurons"].sel(form="experimental")
    for test, count in zip(dataset["test"].values, tested.values, strict=True):
        found = dataset["decrease_accuracy"].sel(form="experimental", test=test)
        require(not count or np.isfinite(found).all(), f"a metric has no verdict on {test} labels")


def check_identification(dataset: xr.Dataset) -> None:
    """Check that metrics have an average precision."""
    auprc = dataset["auprc"].values
    defined = auprc[np.isfinite(auprc)]
    require(len(defined) > len(auprc) / 2, f"{len(defined)} of {len(auprc)} metrics have a score")
    require(((defined >= 0) & (defined <= 1)).all(), "a score is no average precision")
    require(dataset["n_neurons"] > dataset["n_choosing"], "no neuron is tested")


def check_comparison(dataset: xr.Dataset) -> None:
    """Check that every published cell has a state."""
    counted = sum(int(dataset[f"n_{state}"]) for state in ("equal", "explained", "open"))
    require(counted == dataset.sizes["cell"], "not every published cell has a state")


CHECKS: Mapping[str, Callable[[xr.Dataset], None]] = {
    "features": check_features,
    "sae": check_sae,
    "concepts": check_concepts,
    "encodings": check_encodings,
    "consistency": check_consistency,
    "gallery": check_gallery,
    "decisions": check_decisions,
    "labels": check_labels,
    "activations": check_activations,
    "sanity": check_sanity,
    "identification": check_identification,
    "comparison": check_comparison,
}
"""Schema to its check."""
