"""Presence and contribution of concepts over a whole dataset, shard by shard and gated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray

from fact.data.images import ImageDataset, batches
from fact.networks.network import Network
from fact.sae.model import TopKSAE
from fact.traces.contributions import Trace, check_completeness, trace_batch
from fact.traces.spliced import target_of
from fact.traces.statistics import ConceptStatistics
from registry.store.datasets import open_dataset
from registry.store.shards import part_name

if TYPE_CHECKING:
    from registry import Run

SHARD_BYTES = 64 * 2**20


@dataclass(frozen=True)
class Measurement:
    """What is measured, and where.

    Attributes
    ----------
    network : Network
        A B-cos network.
    layer : str
        The layer that the concepts replace.
    sae : TopKSAE or None
        The concepts; None takes the layer's own channels.
    images : ImageDataset
        Where to read.
    split : str
        What to read.
    target : str
        ``prediction``, ``label``, or the name of a class.
    batch : int
        Images at a time.
    """

    network: Network
    layer: str
    sae: TopKSAE | None
    images: ImageDataset
    split: str
    target: str
    batch: int

    def run(self, run: Run) -> Any:
        """Measure what is not measured yet, and sum up.

        Returns
        -------
        Shards
            Of the schema ``concepts``.

        Raises
        ------
        CompletenessError
            As soon as contributions do not add up to a logit, or presences to their map.
        """
        ids, labels = self.images.ids(self.split), self.images.labels(self.split)
        writer, size = run.shards(), self._images_per_shard(ids)
        statistics = ConceptStatistics(self._n_concepts(ids))
        for index, start in enumerate(range(0, len(ids), size)):
            if index not in writer.done:
                chosen = slice(start, start + size)
                writer.append(self._part(ids[chosen], labels[chosen]), index)
            with open_dataset(writer.folder / part_name(index)) as part:
                statistics.add(part)
            run.progress(min(start + size, len(ids)), len(ids), "images")
        return writer.finish(statistics.summary())

    def _n_concepts(self, ids: NDArray[np.str_]) -> int:
        if self.sae is not None:
            return self.sae.n_concepts
        from fact.sae.sampling import layer_shape

        pixels = self.images.read(ids[:1], self.network.geometry)
        return layer_shape(self.network, self.layer, pixels).channels

    def _images_per_shard(self, ids: NDArray[np.str_]) -> int:
        """Images of a shard: whole batches, so that every batch is the same after a stop."""
        return max(1, SHARD_BYTES // (8 * self._n_concepts(ids) * self.batch)) * self.batch

    def _part(self, ids: NDArray[np.str_], labels: NDArray[np.int64]) -> xr.Dataset:
        columns: list[dict[str, NDArray[Any]]] = []
        done = 0
        for _, pixels in batches(self.images, ids, self.batch, self.network.geometry):
            columns.append(self._columns(pixels, labels[done : done + len(pixels)]))
            done += len(pixels)
        whole = {name: np.concatenate([c[name] for c in columns]) for name in columns[0]}
        dims = {name: _DIMS.get(name, ("image",)) for name in whole}
        coords = {
            "image": ids.astype(object),
            "class": np.array(self.network.class_names(whole["logit"].shape[1]), dtype=object),
            "concept": np.arange(whole["presence"].shape[1]),
        }
        return xr.Dataset({name: (dims[name], whole[name]) for name in whole}, coords)

    def _columns(
        self, pixels: NDArray[np.uint8], labels: NDArray[np.int64]
    ) -> dict[str, NDArray[Any]]:
        encoded = self.network.encode(pixels)
        with torch.no_grad():
            alone = self.network.logits(encoded).argmax(dim=1).cpu().numpy()
        known = torch.from_numpy(labels).to(encoded.device)
        target = target_of(self.network, self.target, known)
        trace = trace_batch(self.network, self.layer, self.sae, encoded, target)
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
