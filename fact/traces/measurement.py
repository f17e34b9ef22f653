"""Presence and contribution of concepts over a whole dataset, shard by shard and gated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray

from fact.data.images import ImageDataset, batches
from fact.networks.files import open_network
from fact.networks.layers import layer_shape
from fact.traces.concept_source import ConceptSource
from fact.traces.config import ChannelConfig, MeasureConfig
from fact.traces.contributions import Trace, check_completeness, trace_batch
from fact.traces.spliced import target_of
from fact.traces.statistics import ConceptStatistics
from registry import Inputs, Run, Shards, open_dataset
from registry.store.shards import part_name

SHARD_BYTES = 64 * 2**20


def measure_concepts(config: MeasureConfig, inputs: Inputs, run: Run) -> Shards:
    """Splice the SAE into the network whose features it was trained on, and measure.

    Raises
    ------
    CompletenessError
        As soon as contributions do not add up to a logit, or presences to their map.
    """
    source = ConceptSource.of_sae(inputs["sae"], config.device)
    return Measurement(source, inputs["images"].load(), config).run(run)


def measure_channels(config: ChannelConfig, inputs: Inputs, run: Run) -> Shards:
    """Take each channel for a concept, and measure as :func:`measure_concepts` does."""
    network = open_network(inputs["network"], config.device)
    source = ConceptSource(network, config.layer, None)
    return Measurement(source, inputs["images"].load(), config).run(run)


@dataclass(frozen=True)
class Measurement:
    """What is measured, and where.

    Attributes
    ----------
    source : ConceptSource
        The concepts, of a B-cos network.
    images : ImageDataset
        Where to read.
    config : MeasureConfig
        Split, target and batch.
    """

    source: ConceptSource
    images: ImageDataset
    config: MeasureConfig

    def run(self, run: Run) -> Shards:
        """Measure what is not measured yet, and sum up: shards of the schema ``concepts``."""
        ids, labels = self.images.ids(self.config.split), self.images.labels(self.config.split)
        writer, n_concepts = run.shards(), self._n_concepts(ids)
        # Whole batches, so that every batch is the same after a stop.
        size = max(1, SHARD_BYTES // (8 * n_concepts * self.config.batch)) * self.config.batch
        statistics = ConceptStatistics(n_concepts)
        for index, start in enumerate(range(0, len(ids), size)):
            if index not in writer.done:
                chosen = slice(start, start + size)
                writer.append(self._part(ids[chosen], labels[chosen]), index)
            with open_dataset(writer.folder / part_name(index)) as part:
                statistics.add(part)
            run.progress(min(start + size, len(ids)), len(ids), "images")
        return writer.finish(statistics.summary())

    def _n_concepts(self, ids: NDArray[np.str_]) -> int:
        source = self.source
        if source.sae is not None:
            return source.sae.n_concepts
        pixels = self.images.read(ids[:1], source.network.geometry)
        return layer_shape(source.network, source.layer, pixels).channels

    def _part(self, ids: NDArray[np.str_], labels: NDArray[np.int64]) -> xr.Dataset:
        columns: list[dict[str, NDArray[Any]]] = []
        done = 0
        for _, pixels in batches(self.images, ids, self.config.batch, self.source.network.geometry):
            columns.append(self._columns(pixels, labels[done : done + len(pixels)]))
            done += len(pixels)
        whole = {name: np.concatenate([c[name] for c in columns]) for name in columns[0]}
        dims = {name: _DIMS.get(name, ("image",)) for name in whole}
        classes = self.source.network.class_names(whole["logit"].shape[1])
        coords = {
            "image": ids.astype(object),
            "class": np.array(classes, dtype=object),
            "concept": np.arange(whole["presence"].shape[1]),
        }
        return xr.Dataset({name: (dims[name], whole[name]) for name in whole}, coords)

    def _columns(
        self, pixels: NDArray[np.uint8], labels: NDArray[np.int64]
    ) -> dict[str, NDArray[Any]]:
        source = self.source
        encoded = source.network.encode(pixels)
        with torch.no_grad():
            alone = source.network.logits(encoded).argmax(dim=1).cpu().numpy()
        known = torch.from_numpy(labels).to(encoded.device)
        target = target_of(source.network, self.config.target, known)
        trace = trace_batch(source.network, source.layer, source.sae, encoded, target)
        check_completeness(trace.residual.cpu().numpy(), trace.input_residual.cpu().numpy())
        return {**_arrays(trace), "label": labels, "network_prediction": alone}


_DIMS = {
    "presence": ("image", "concept"),
    "contribution": ("image", "concept"),
    "logit": ("image", "class"),
}


def _arrays(trace: Trace) -> dict[str, NDArray[Any]]:
    single = {
        "presence": trace.presence,
        "contribution": trace.contribution,
        "logit": trace.logits,
        "residual": trace.residual,
        "input_residual": trace.input_residual,
        "residual_energy": trace.reconstruction_error.flatten(1).mean(dim=1),
    }
    if trace.position_share is not None:
        single["position_share"] = trace.position_share
    arrays: dict[str, NDArray[Any]] = {
        name: tensor.float().cpu().numpy() for name, tensor in single.items()
    }
    for name in ("prediction", "target"):
        arrays[name] = getattr(trace, name).cpu().numpy().astype(np.int64)
    return arrays
