"""A network with concepts in the place of a layer, beside itself and beside an empty layer.

The network is run on every image three times: as it is; with the layer's output replaced by what
its concepts reconstruct, at all positions; and with it replaced by a baseline.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from torch import Tensor, nn

from fact.data.classes import UNKNOWN, ClassMatch
from fact.data.images import Ids, ImageDataset, batches, images_by_class
from fact.encode.craft import CraftConcepts
from fact.fidelity.config import Ablation, FidelityConfig
from fact.fidelity.outputs import (
    CASES,
    Columns,
    compare_outputs,
    summarise_outputs,
    undefined_note,
)
from fact.fidelity.reconstruction import Sums, add_sums, batch_sums, summarise_reconstruction
from fact.fidelity.tables import fidelity_table
from fact.networks.arrays import AnyArray, checked_labels, image_ids, slices, take
from fact.networks.files import open_network
from fact.networks.layers import LayerError, capture, run_until, splice, to_positions
from fact.networks.network import Network, as_network, match_classes, predict_logits
from fact.sae.model import SAE
from fact.traces.spliced import Concepts, ConceptSource, as_concepts
from registry import Checkpoint, Input, Inputs, Run
from registry.declare.faults import StageError
from registry.suggest import RefusalError
from registry.wording import counted

STATE = "fidelity.npz"


class NoImagesError(RefusalError, ValueError):
    """No image is left that fidelity could be measured on."""


# --- what stands in a layer's place -----------------------------------------------------------


class ConceptModel(Protocol):
    """Concepts of a network's layer that can stand in its place."""

    @property
    def network(self) -> Network:
        """On the chosen device."""

    @property
    def layer(self) -> str:
        """Name of the layer."""

    def known(self, predictions: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return which images have concepts, (image,), given the network's predictions."""

    def concepts(self, positions: Tensor, predictions: NDArray[np.int64]) -> Concepts:
        """Return what stands in the place of ``(image, position, channel)``."""


@dataclass(frozen=True)
class SAEModel:
    """The concepts of an SAE, or a layer's own channels: the same for every image."""

    source: ConceptSource

    @property
    def network(self) -> Network:
        """On the chosen device."""
        return self.source.network

    @property
    def layer(self) -> str:
        """Name of the layer."""
        return self.source.layer

    def known(self, predictions: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return that every image has concepts."""
        return np.ones(len(predictions), dtype=bool)

    def concepts(self, positions: Tensor, predictions: NDArray[np.int64]) -> Concepts:
        """Return the SAE's concepts."""
        return as_concepts(self.source.sae, positions)


@dataclass(frozen=True)
class CraftModel:
    """The concepts of CRAFT: those of the class that the network itself predicts.

    Attributes
    ----------
    network, layer : Network and str
        Whose activations were factorised.
    basis : ndarray of float32, (concept, channel)
        Of all classes.
    chosen : ndarray of int64, (logit, rank)
        The concepts of each logit's class; -1 where it has none.
    """

    network: Network
    layer: str
    basis: NDArray[np.float32]
    chosen: NDArray[np.int64]

    def known(self, predictions: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return which images are predicted as a class that has concepts."""
        return np.asarray(self.chosen[predictions, 0] != UNKNOWN)

    def concepts(self, positions: Tensor, predictions: NDArray[np.int64]) -> Concepts:
        """Return the concepts of each image's class."""
        return CraftConcepts(self.layer, self.basis, self.chosen[predictions])

    @classmethod
    def of(
        cls, network: Network, layer: str, craft: xr.Dataset, match: ClassMatch, n_logits: int
    ) -> CraftModel:
        """Return the concepts of a dataset of the schema ``craft``, each with its logit.

        Parameters
        ----------
        network, layer : Network and str
            Whose activations were factorised.
        craft : Dataset
            Of the schema ``craft``.
        match : ClassMatch
            Which logit each class of the factorised images is.
        n_logits : int
            Logits of the network.
        """
        per_class = int(craft["per_class"])
        class_of = craft["concept"].values // per_class
        chosen = np.full((n_logits, per_class), UNKNOWN, dtype=np.int64)
        for label in np.unique(class_of):
            if (logit := match.logits[label]) != UNKNOWN:
                chosen[logit] = np.flatnonzero(class_of == label)
        return cls(network, layer, craft["basis"].values, chosen)


def open_model(model: Input, config: FidelityConfig) -> ConceptModel:
    """Return an SAE, or CRAFT's concepts, with the network and the layer that they are of."""
    if model.kind == "sae":
        return SAEModel(ConceptSource.of_sae(model, config.device))
    network = open_network(model.origin("network"), config.device)
    fitted: ImageDataset = model.origin("images").load()
    first = fitted.ids(model.config["split"])[:1]
    match = match_classes(network, fitted, first, config.match)
    with model.open(proven=math.inf) as craft:
        n_logits = predict_logits(network, fitted, first).shape[1]
        return CraftModel.of(network, model.config["layer"], craft.load(), match, n_logits)


def fitted_ids(model: Input, images: Input) -> NDArray[np.str_]:
    """Return the ids of the images that concepts were fitted on, of those that are given.

    Parameters
    ----------
    model, images : Input
        Of the schema ``sae`` or ``craft``, and where the images are.
    """
    with suppress(StageError):
        own = model if model.kind == "craft" else model.origin("features")
        if own.origin("images").fingerprint != images.fingerprint:  # ids mean other images there
            return np.array([], dtype=str)
        if model.kind == "sae":
            with own.open() as features:
                return np.unique(features["image"].values.astype(str))
        split, most, seed = (own.config[key] for key in ("split", "images_per_class", "seed"))
        by_class = [ids for _, ids in images_by_class(images.load(), split, most, seed)]
        return np.concatenate(by_class)
    return np.array([], dtype=str)


# --- measuring --------------------------------------------------------------------------------


@torch.no_grad()
def measure_batch(
    model: ConceptModel, encoded: Tensor, labels: NDArray[np.int64], baseline: Tensor
) -> tuple[Columns, Sums]:
    """Return what images say of concepts in a layer's place: their variables, and what is summed.

    Parameters
    ----------
    model : ConceptModel
        What stands in.
    encoded : Tensor
        Images from :meth:`fact.networks.network.Network.encode`.
    labels : ndarray of int64, (image,)
        Index of each image's logit; -1 where it has none.
    baseline : Tensor
        ``(channel,)`` or a scalar: what stands at every position of the ablated layer.

    Raises
    ------
    LayerError
        If there is no such layer, or the network calls it more than once.
    FloatingPointError
        If a logit is not finite.
    """
    network, layer = model.network, model.layer
    with network.explanation_mode():  # every part as in evaluation
        with capture(network.module, layer) as captured:
            logits = network.logits(encoded)
        predictions = logits.argmax(dim=1).cpu().numpy()
        known = model.known(predictions)
        kept = torch.from_numpy(known).to(encoded.device)
        encoded, positions = encoded[kept], captured.positions[kept]
        if not known.any():
            return {"known": known}, {}
        concepts = model.concepts(positions, predictions[known])
        codes = concepts.encode(positions)
        reconstruction = concepts.decode(codes)
        ablated = baseline.to(positions).expand_as(positions)
        cases = {
            "network": logits[kept],
            "spliced": _logits_with(network, layer, encoded, reconstruction),
            "ablated": _logits_with(network, layer, encoded, ablated),
        }
    columns = compare_outputs(cases, labels[known])
    return {"known": known, **columns}, batch_sums(concepts, codes, positions, reconstruction)


def _logits_with(network: Network, layer: str, encoded: Tensor, positions: Tensor) -> Tensor:
    """Return the logits when a layer puts out given ``(image, position, channel)``."""
    calls = 0

    def put(_output: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        if calls > 1:
            raise LayerError(f"layer {layer!r} is called twice in a forward pass; expected once")
        return positions

    with splice(network.module, layer, put):
        return network.logits(encoded)


class Fidelity:
    """What was measured so far, of which a state can be saved."""

    def __init__(self) -> None:
        self.parts: list[Columns] = []
        self.sums: Sums = {}

    def add(self, columns: Columns, sums: Sums) -> None:
        """Add a batch, of at least one image."""
        self.parts.append(columns)
        self.sums = add_sums(self.sums, sums) if sums else self.sums

    @property
    def done(self) -> int:
        """Images so far, those without concepts too."""
        return sum(len(part["known"]) for part in self.parts)

    def columns(self) -> Columns:
        """Return the variables of all images so far."""
        names = dict.fromkeys(name for part in self.parts for name in part)
        return {
            name: np.concatenate([part[name] for part in self.parts if name in part])
            for name in names
        }

    def save(self, checkpoint: Checkpoint) -> None:
        """Write all of it to one file, atomically."""
        arrays: dict[str, Any] = {f"column.{name}": own for name, own in self.columns().items()}
        arrays |= {f"sum.{name}": own for name, own in self.sums.items()}
        with checkpoint.write() as path, path.open("wb") as file:
            np.savez(file, **arrays)

    @classmethod
    def load(cls, checkpoint: Checkpoint) -> Fidelity:
        """Return what was saved; nothing yet, if that is damaged or nothing was."""
        found, own = checkpoint.find(), cls()
        if found is None:
            return own
        with np.load(found) as state:
            parts: dict[str, dict[str, Any]] = {"column": {}, "sum": {}}
            for key in state.files:
                kind, name = key.split(".")
                parts[kind][name] = state[key]
        own.add(parts["column"], parts["sum"])
        return own

    def summarise(
        self, ids: NDArray[Any], ablation: Ablation, n_draws: int, seed: int
    ) -> xr.Dataset:
        """Return all that was measured, of the schema ``fidelity``.

        Parameters
        ----------
        ids : ndarray, (image,)
            Of all images, those without concepts too.
        ablation : str
            What stood in the layer's place.
        n_draws, seed : int
            Of the bootstrap over images.

        Raises
        ------
        NoImagesError
            If no image has concepts.
        """
        columns = self.columns()
        known = columns.pop("known", np.array([], dtype=bool))
        if not known.any():
            raise NoImagesError(f"{counted(len(ids), 'image')}, none of a class that has concepts")
        scalars = summarise_outputs(columns, n_draws, seed)
        of_image = {
            name: (("image", "case") if values.ndim == 2 else ("image",), values)
            for name, values in columns.items()
        }
        whole = of_image | scalars | summarise_reconstruction(self.sums, int(known.sum()))
        whole |= {"n_without_concepts": int((~known).sum()), "ablation": ablation}
        coords = {"image": ids[known].astype(object), "case": np.array(CASES, dtype=object)}
        told = undefined_note(scalars, ablation)
        found = xr.Dataset(whole, coords)
        found = found.assign_coords(concept=np.arange(found.sizes["concept"]))
        return found.assign_attrs({"undefined_fractions": told} if told else {})


# --- over a whole dataset ---------------------------------------------------------------------


def measure_fidelity(config: FidelityConfig, inputs: Inputs, run: Run) -> xr.Dataset:
    """Measure on a split; a measurement that was stopped goes on where its state was saved.

    Returns
    -------
    Dataset
        Of the schema ``fidelity``.

    Raises
    ------
    NoImagesError
        If the concepts were fitted on all images of the split, or there are none.
    LayerError
        If the network calls the layer more than once.
    """
    images: ImageDataset = inputs["images"].load()
    model = open_model(inputs["model"], config)
    every_id = images.ids(config.split)
    is_seen = np.isin(every_id, fitted_ids(inputs["model"], inputs["images"]))
    kept = np.ones_like(is_seen) if config.seen_images == "allow" else ~is_seen
    _require_images(kept, is_seen, config.split)
    ids = every_id[kept]
    match = match_classes(model.network, images, ids, config.match)
    labels = match.of_labels(images.labels(config.split))[kept]
    match.tell()
    found = _measure(model, images, ids, labels, config, run)
    summary = found.summarise(ids, config.ablation, config.n_bootstrap, config.seed)
    summary["n_fitted"], summary["n_omitted"] = int(is_seen[kept].sum()), int((~kept).sum())
    sys.stdout.write(fidelity_table(summary))
    return summary.assign_attrs(match.attributes())


def _require_images(kept: NDArray[np.bool_], is_seen: NDArray[np.bool_], split: str) -> None:
    if kept.any():
        return
    if not len(kept):
        raise NoImagesError(f"split {split!r} has no images")
    raise NoImagesError(
        f"the concepts were fitted on all {counted(int(is_seen.sum()), 'image')} of split "
        f"{split!r}: name "
        'another split, or say seen_images = "allow"'
    )


def _measure(
    model: ConceptModel,
    images: ImageDataset,
    ids: Ids,
    labels: NDArray[np.int64],
    config: FidelityConfig,
    run: Run,
) -> Fidelity:
    """Measure what is not measured yet, batch by batch."""

    def encoded(rest: Ids) -> Iterator[Tensor]:
        for _, pixels in batches(images, rest, config.batch, model.network.geometry):
            yield model.network.encode(pixels)

    checkpoint = run.checkpoint(STATE)
    found, saved = Fidelity.load(checkpoint), time.monotonic()
    baseline = find_baseline(model, encoded(ids), config.ablation)
    for some in encoded(ids[found.done :]):
        own = labels[found.done : found.done + len(some)]
        found.add(*measure_batch(model, some, own, baseline))
        run.progress(found.done, len(ids), "images")
        if time.monotonic() - saved > config.checkpoint_seconds:
            found.save(checkpoint)
            saved = time.monotonic()
    return found


def find_baseline(model: ConceptModel, encoded: Iterator[Tensor], ablation: Ablation) -> Tensor:
    """Return what stands at every position of the ablated layer.

    Parameters
    ----------
    model : ConceptModel
        Whose layer is ablated.
    encoded : iterator of Tensor
        The images, in batches; read by the mean alone.
    ablation : str
        ``zero`` or ``mean``.

    Returns
    -------
    Tensor
        0, or the mean of each channel over all positions, ``(channel,)`` float64 on the CPU.
    """
    if ablation == "zero":
        return torch.zeros(())
    sums: Sums = {}
    for some in encoded:
        with torch.no_grad(), model.network.explanation_mode():
            output = run_until(model.network.module, model.layer, some).output
        values = to_positions(output).flatten(0, 1).cpu()
        own = {"total": values.sum(dim=0, dtype=torch.float64).numpy(), "count": len(values)}
        sums = add_sums(sums, {name: np.asarray(value) for name, value in own.items()})
    return torch.from_numpy(sums["total"] / sums["count"])


def concept_fidelity(
    network: Network | nn.Module,
    layer: str,
    sae: SAE | None,
    images: AnyArray,
    labels: AnyArray | None = None,
    *,
    ablation: Ablation = "zero",
    batch_size: int = 32,
    n_draws: int = 500,
) -> xr.Dataset:
    """Put concepts in a layer's place, and compare what the network says with what it said.

    Parameters
    ----------
    network : Network or Module
        B-cos or not; it is spliced only while this function runs.
    layer : str
        Name of the layer whose output the concepts replace, as ``features.2``.
    sae : SAE or None
        The concepts; None takes the layer's own channels, which lose nothing.
    images : array
        As for :func:`fact.traces.contributions.trace_concepts`.
    labels : array or None
        ``(image,)``, class index of every image; without them there is no cross-entropy.
    ablation : str
        The baseline that counts as nothing recovered: ``zero`` in the layer's place, or the
        ``mean`` of each channel over all positions of the images.
    batch_size : int
        Images at a time; bounds the memory, and changes no result.
    n_draws : int
        Draws of the bootstrap over images.

    Returns
    -------
    Dataset
        Of the schema ``fidelity``: by case (network, spliced, ablated) ``kl_divergence``,
        ``cross_entropy`` and ``prediction`` of each image; ``kl``, ``kl_recovered``, ``ce``,
        ``ce_recovered``, ``agreement`` over images, with intervals; densities of concepts.

    Raises
    ------
    LayerError
        If there is no such layer, or the network calls it more than once.
    ValueError
        If labels are not one per image.
    """
    model = SAEModel(ConceptSource(as_network(network), layer, sae))
    ids, found = image_ids(images), Fidelity()
    known = np.full(len(ids), UNKNOWN) if labels is None else checked_labels(labels, images)
    rows = list(slices(len(ids), batch_size))
    encoded = (model.network.encode(take(images, some)) for some in rows)
    baseline = find_baseline(model, encoded, ablation)
    for some in rows:
        own = model.network.encode(take(images, some))
        found.add(*measure_batch(model, own, known[some], baseline))
    return found.summarise(ids, ablation, n_draws, seed=0)
