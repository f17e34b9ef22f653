"""Presence and contribution of concepts over a whole dataset, shard by shard and, if exact, gated.

And what they say together: shares, coverage, residuals. Source: Parchami-Araghi et al., "FaCT",
NeurIPS 2025, arXiv 2510.25512, section 4.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from torch import Tensor

from fact.data.classes import ClassMatch
from fact.data.images import ImageDataset, batches, write_parts
from fact.networks.files import open_network
from fact.networks.layers import layer_shape, resume, to_positions
from fact.networks.linearity import N_IMAGES, tell_linearity
from fact.networks.network import NetworkError, match_classes
from fact.schemas import CONCEPTS
from fact.traces.config import ChannelConfig, MeasureConfig
from fact.traces.contributions import check_completeness, trace_pass
from fact.traces.spliced import ConceptSource, SplicedPass, forward_spliced, picks
from registry import Inputs, Run, Shards, open_dataset
from registry.store.shards import part_name

SHARD_BYTES = 64 * 2**20

COVERED = 0.8
"""Fraction of the positive contribution that the strongest concepts are counted up to."""

COMMON = 0.85
"""Fraction of the images above which a concept that contributes is common."""

CONSTANTS = ("position_share", "encoder_bias_share", "offset")
"""What only some networks and SAEs have: parts that are in no pixel, or of no concept."""

OFFSETS = ("mean_offset", "offset_share")

Floats = NDArray[np.float64]


def measure_concepts(config: MeasureConfig, inputs: Inputs, run: Run) -> Shards:
    """Splice the SAE into the network whose features it was trained on, and measure.

    Raises
    ------
    CompletenessError
        As soon as contributions do not add up to a logit, or presences to their map, of a network
        that is linear in its frozen weights.
    """
    source = ConceptSource.of_sae(inputs["sae"], config.device)
    return _measure(source, config, inputs["images"].load(), run)


def measure_channels(config: ChannelConfig, inputs: Inputs, run: Run) -> Shards:
    """Take each channel for a concept, and measure as :func:`measure_concepts` does."""
    network = open_network(inputs["network"], config.device)
    source = ConceptSource(network, config.layer, None)
    return _measure(source, config, inputs["images"].load(), run)


def _measure(
    source: ConceptSource, config: MeasureConfig, images: ImageDataset, run: Run
) -> Shards:
    """Measure what is not measured yet, and sum up: shards of the schema ``concepts``."""
    ids = images.ids(config.split)
    first = images.read(ids[:N_IMAGES], source.network.geometry)
    source = source.probed(first)
    tell_linearity(source.network)
    match = match_classes(source.network, images, ids, config.match)
    labels = match.of_labels(images.labels(config.split))
    _require_labels(match, labels, config)
    match.tell()
    if source.sae is not None:
        n_concepts = source.sae.n_concepts
    else:
        n_concepts = layer_shape(source.network, source.layer, first)[1]

    def part(_index: int, rows: slice) -> xr.Dataset:
        columns, start = [], rows.start
        for names, pixels in batches(images, ids[rows], config.batch, source.network.geometry):
            own = labels[start : start + len(names)]
            columns.append(measure_batch(source, config.target, pixels, own))
            start += len(names)
        whole = {name: np.concatenate([c[name] for c in columns]) for name in columns[0]}
        classes = source.network.class_names(whole["logit"].shape[1])
        coords = {
            "image": ids[rows].astype(object),
            "class": np.array(classes, dtype=object),
            "concept": np.arange(n_concepts),
        }
        return xr.Dataset({n: (CONCEPTS.variables[n].dims, v) for n, v in whole.items()}, coords)

    # Whole batches, so that every batch is the same after a stop.
    size = max(1, SHARD_BYTES // (8 * n_concepts * config.batch)) * config.batch
    writer = write_parts(run, len(ids), size, part)

    def measured() -> Iterator[xr.Dataset]:
        for index in writer.done:
            with open_dataset(writer.folder / part_name(index)) as opened:
                yield opened

    found = concept_statistics(measured()).assign(exact=source.exact)
    if source.network.probe is not None:
        found["probe"] = source.network.probe
    return writer.finish(found.assign_attrs(match.attributes()))


def _require_labels(match: ClassMatch, labels: NDArray[np.int64], config: MeasureConfig) -> None:
    """Raise where logits of labels are to be explained, and there are images without one."""
    n_unknown = int((labels < 0).sum())
    if config.target == "label" and n_unknown:
        raise NetworkError(
            f"target = 'label' needs a label of every image; {n_unknown} of {len(labels)} have "
            f"none. {match.note} Or explain target = 'prediction'."
        )


def measure_batch(
    source: ConceptSource, target: str, pixels: NDArray[np.uint8], labels: NDArray[np.int64]
) -> dict[str, NDArray[Any]]:
    """Return the variables along ``image`` of some images."""
    network, encoded = source.network, source.network.encode(pixels)
    with torch.enable_grad():
        spliced = forward_spliced(source, encoded)
    traced = trace_pass(source, spliced, *picks(network, target, None, labels, slice(None)))
    if source.exact:
        check_completeness(traced["residual"], traced["input_residual"])
    alone = _logits_alone(source, spliced).argmax(dim=1).cpu().numpy()
    energy = traced["reconstruction_error"].flatten(1).mean(dim=1)
    traced |= {"logit": traced["logits"], "residual_energy": energy}
    floats = ("presence", "contribution", "logit", "residual", "input_residual", "residual_energy")
    return {
        **{n: traced[n].float().cpu().numpy() for n in (*floats, *CONSTANTS) if n in traced},
        **{name: traced[name].cpu().numpy() for name in ("prediction", "target")},
        "label": labels,
        "network_prediction": alone,
    }


@torch.no_grad()
def _logits_alone(source: ConceptSource, spliced: SplicedPass) -> Tensor:
    """Return the logits of the network as it is, of the images of a pass with concepts in it.

    Where contributions add up nothing goes around the layer, and what it put out says all.
    """
    network, image = source.network, spliced.image.detach()
    if not source.exact:
        return network.logits(image)
    with resume(network.module, source.layer, to_positions(spliced.output)):
        return network.logits(image[:1])


def coverage(contribution: NDArray[np.floating]) -> tuple[Floats, NDArray[np.int64]]:
    """Return how the positive contribution of each image gathers in its strongest concepts.

    Parameters
    ----------
    contribution : ndarray, (image, concept)
        Only positive entries count; every image must have one.

    Returns
    -------
    curve : ndarray of float64, (image, rank)
        Fraction of the positive contribution in the ``rank + 1`` strongest concepts.
    needed : ndarray of int64, (image,)
        Concepts that cover 80 %.
    """
    positive = np.clip(np.asarray(contribution, dtype=np.float64), 0, None)
    strongest = -np.sort(-positive, axis=1)
    curve = np.cumsum(strongest, axis=1) / positive.sum(axis=1, keepdims=True)
    # A fraction is reached up to rounding: 0.8 of equal parts is 4 of 5, not 5.
    needed = (curve < COVERED * (1 - 1e-12)).sum(axis=1) + 1
    return curve, np.minimum(needed, positive.shape[1])


def concept_statistics(parts: Iterable[xr.Dataset]) -> xr.Dataset:
    """Return the statistics of concepts, by concept, by rank and as scalars; see ``fact.schemas``.

    Parameters
    ----------
    parts : iterable of Dataset
        With ``presence``, ``contribution``, residuals, predictions and labels.

    Raises
    ------
    ValueError
        If they hold no image.
    """
    sums: dict[str, Any] = {"images": 0}
    residuals: list[tuple[NDArray[np.floating], NDArray[np.floating]]] = []
    for part in parts:
        sums = {name: sums.get(name, 0) + value for name, value in _sums(part).items()}
        residuals.append((part["residual"].values, part["input_residual"].values))
    images = sums["images"]
    if not images:
        raise ValueError("no images; expected at least one")
    with_positive, contributing = max(sums["with_positive"], 1), sums["contributing"]
    labelled = sums["labelled"] or float("nan")
    residual, at_input = (
        np.concatenate(column).astype(np.float64) for column in zip(*residuals, strict=True)
    )
    known = at_input[~np.isnan(at_input)]
    common = contributing > COMMON * images
    offsets = {name: sums[name] / images for name in OFFSETS if name in sums}
    return xr.Dataset(
        {
            "image_share": ("concept", sums["present"] / images),
            "contributing_share": ("concept", contributing / images),
            "mean_contribution": ("concept", sums["contribution"] / images),
            "coverage": ("rank", sums["curve"] / with_positive),
            "accuracy": sums["correct"] / labelled,
            "network_accuracy": sums["correct_alone"] / labelled,
            "n_labelled": np.int64(sums["labelled"]),
            "commonest_share": float(sums["by_class"].max(initial=0) / labelled),
            "image_l0": float(sums["nonzero"] / images),
            "concepts_for_80": sums["needed"] / with_positive,
            "alive_share": float((contributing > 0).mean()),
            "common_concepts": np.int64(common.sum()),
            "common_share": float(sums["positive_share"][common].sum() / with_positive),
            "residual_mean": float(residual.mean()),
            "residual_std": float(residual.std()),
            "residual_max": float(residual.max()),
            "input_residual_max": float(known.max()) if known.size else float("nan"),
            **offsets,
        }
    )


def _sums(part: xr.Dataset) -> dict[str, Any]:
    """Return what is summed over the images of a part; shares over those with a positive one."""
    contribution, label = part["contribution"].values.astype(np.float64), part["label"].values
    positive = np.clip(contribution, 0, None)
    total = positive.sum(axis=1)
    some = total > 0
    curve, needed = coverage(contribution[some])
    offsets = _offset_sums(part["offset"].values, contribution) if "offset" in part else {}
    return {
        **offsets,
        "images": len(contribution),
        "present": (part["presence"].values > 0).sum(axis=0),
        "nonzero": int(np.count_nonzero(part["presence"].values)),
        "contributing": (contribution != 0).sum(axis=0),
        "contribution": contribution.sum(axis=0),
        "labelled": int((label >= 0).sum()),
        "by_class": np.bincount(label[label >= 0], minlength=part.sizes["class"]),
        "correct": int((part["prediction"].values == label).sum()),
        "correct_alone": int((part["network_prediction"].values == label).sum()),
        "curve": curve.sum(axis=0),
        "needed": int(needed.sum()),
        "positive_share": (positive[some] / total[some, None]).sum(axis=0),
        "with_positive": int(some.sum()),
    }


def _offset_sums(offset: NDArray[np.floating], contribution: Floats) -> dict[str, Any]:
    """Return sums over images of the offset, and of its share in all that is added up."""
    size = np.abs(offset.astype(np.float64))
    whole = np.abs(contribution).sum(axis=1) + size
    share = np.divide(size, whole, out=np.zeros_like(size), where=whole > 0)
    return {"mean_offset": float(offset.sum(dtype=np.float64)), "offset_share": float(share.sum())}
