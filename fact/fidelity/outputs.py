"""What a network says as it is, with concepts in a layer's place, and with nothing in it.

Divergence and cross-entropy are of the softmax over the logits, in nats. The fraction recovered is
0 where concepts do no better than the ablated layer, 1 where they do as well as the layer itself;
better than that is above 1, worse than the ablated layer below 0. Source: Gao et al., "Scaling and
evaluating sparse autoencoders", arXiv 2406.04093, section 4.1; Bricken et al., "Towards
Monosemanticity", Transformer Circuits Thread, 2023.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from fact.data.classes import commonest_share
from fact.networks.arrays import slices
from fact.traces.interventions import interval, weighted_means
from registry.wording import counted

CASES = ("network", "spliced", "ablated")
"""The network as it is; with concepts in the layer's place; with the baseline in it."""

DRAWS_AT_ONCE = 2**22
"""Weights of images that are drawn at a time, for all draws of a block together."""

Columns: TypeAlias = dict[str, NDArray[Any]]
"""Variables of images: (image,) or (image, case)."""


def compare_outputs(logits: Mapping[str, Tensor], labels: NDArray[np.int64]) -> Columns:
    """Return divergence, cross-entropy and prediction of some images in each case.

    Parameters
    ----------
    logits : mapping of str to Tensor
        By case, ``(image, class)``; computed with in float64, whatever their type.
    labels : ndarray of int64, (image,)
        Index of each image's logit; -1 where it has none.

    Returns
    -------
    dict of str to ndarray
        ``kl_divergence`` (image, case), of the network's distribution from the case's;
        ``cross_entropy`` (image, case), NaN without a label; ``prediction`` (image, case);
        ``label`` (image,).

    Raises
    ------
    FloatingPointError
        If a logit is not finite.
    """
    whole = [_log_probabilities(case, logits[case]) for case in CASES]
    reference, has_label = whole[0], labels >= 0
    of_label = np.where(has_label, labels, 0)[:, None]
    divergence = [(np.exp(reference) * (reference - own)).sum(axis=1) for own in whole]
    entropy = [-np.take_along_axis(own, of_label, axis=1)[:, 0] for own in whole]
    return {
        "kl_divergence": np.maximum(np.stack(divergence, axis=1), 0),  # rounding goes below
        "cross_entropy": np.where(has_label[:, None], np.stack(entropy, axis=1), np.nan),
        "prediction": np.stack([own.argmax(axis=1) for own in whole], axis=1),
        "label": labels,
    }


def _log_probabilities(case: str, logits: Tensor) -> NDArray[np.float64]:
    found: NDArray[np.float64] = logits.detach().cpu().double().log_softmax(dim=1).numpy()
    broken = int((~np.isfinite(found).all(axis=1)).sum())
    if broken:
        name = "network's own" if case == CASES[0] else f"{case} network's"
        raise FloatingPointError(
            f"the {name} logits are not finite, of {broken} of {counted(len(found), 'image')}"
        )
    return found


def recovered(whole: Any, spliced: Any, ablated: Any) -> Any:
    """Return which fraction of a loss is recovered, ``(ablated - spliced) / (ablated - whole)``.

    Parameters
    ----------
    whole, spliced, ablated : float or ndarray
        The loss in each case.

    Returns
    -------
    float or ndarray
        NaN where the ablated layer loses nothing.
    """
    lost = np.asarray(ablated - whole)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(lost > 0, (ablated - spliced) / lost, np.nan)[()]


def summarise_outputs(columns: Columns, n_draws: int, seed: int) -> dict[str, Any]:
    """Return means over images, fractions recovered, and intervals of 95 %.

    Parameters
    ----------
    columns : dict of str to ndarray
        Of all images, as :func:`compare_outputs` returns them.
    n_draws, seed : int
        Of the bootstrap over images.

    Returns
    -------
    dict of str to float or int
        Scalars of the schema ``fidelity``. What needs labels is NaN where no image has one.
    """
    by_image = _measured(columns)
    names, values = list(by_image), np.stack(list(by_image.values()), axis=1)
    once_each = np.ones((1, len(values)))
    found = _with_fractions(names, weighted_means(once_each, values))
    drawn = _with_fractions(names, _draw_means(values, n_draws, seed))
    ends = {
        f"{name}_{end}": float(value) if np.isfinite(found[name][0]) else float("nan")
        for name in ("kl", "agreement", "kl_recovered", "ce_recovered")
        for end, value in zip(("low", "high"), interval(drawn[name]), strict=True)
    }
    counts = {
        "n_images": len(values),
        "n_labelled": int((columns["label"] >= 0).sum()),
        "commonest_share": commonest_share(columns["label"]),
    }
    return {name: float(value[0]) for name, value in found.items()} | ends | counts


def _measured(columns: Columns) -> dict[str, NDArray[np.float64]]:
    """Return what is averaged, (image,); NaN where it is not defined."""
    label, prediction = columns["label"], columns["prediction"]
    correct = np.where(label[:, None] < 0, np.nan, prediction == label[:, None])
    return {
        "kl": columns["kl_divergence"][:, 1],
        "ablated_kl": columns["kl_divergence"][:, 2],
        "network_ce": columns["cross_entropy"][:, 0],
        "ce": columns["cross_entropy"][:, 1],
        "ablated_ce": columns["cross_entropy"][:, 2],
        "agreement": (prediction[:, 1] == prediction[:, 0]).astype(np.float64),
        "network_accuracy": correct[:, 0],
        "accuracy": correct[:, 1],
        "ablated_accuracy": correct[:, 2],
    }


def _with_fractions(names: list[str], means: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    """Return the fractions recovered, and behind them means (draw, name) by name."""
    own = dict(zip(names, means.T, strict=True))
    return {
        "kl_recovered": recovered(0.0, own["kl"], own["ablated_kl"]),
        "ce_recovered": recovered(own["network_ce"], own["ce"], own["ablated_ce"]),
        **own,
    }


def _draw_means(values: NDArray[np.float64], n_draws: int, seed: int) -> NDArray[np.float64]:
    """Return the means (draw, name) of images drawn with replacement, a few draws at a time."""
    generator, count = np.random.default_rng(seed), len(values)
    blocks = slices(n_draws, max(1, DRAWS_AT_ONCE // count))
    sizes = (block.stop - block.start for block in blocks)
    chances = np.full(count, 1 / count)
    weights = (generator.multinomial(count, chances, size=size) for size in sizes)
    return np.concatenate([weighted_means(own.astype(np.float64), values) for own in weights])


def undefined_note(summary: Mapping[str, float], ablation: str) -> str:
    """Return in words why a fraction recovered is not defined; "" where all are.

    Parameters
    ----------
    summary : mapping of str to float
        As :func:`summarise_outputs` returns it.
    ablation : str
        What stood in the layer's place.
    """
    told = []
    if not summary["n_labelled"]:
        told.append("No image has a label among the logits: there is no cross-entropy.")
    elif np.isnan(summary["ce_recovered"]):
        told.append(
            f"The {ablation}-ablated layer does not raise the cross-entropy "
            f"({summary['network_ce']:.4g} to {summary['ablated_ce']:.4g} nats): the fraction of "
            "it that is recovered is not defined."
        )
    if np.isnan(summary["kl_recovered"]):
        told.append(
            f"The {ablation}-ablated layer changes no output: the fraction of the divergence that "
            "is recovered is not defined."
        )
    return " ".join(told)
