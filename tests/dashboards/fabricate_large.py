"""A concept model as large as those of ResNet-50 on ImageNet, without any network behind it.

Presences are sparse, as those of a TopK SAE are; everything is written through the store, part by
part, as ``fact.measure_concepts`` writes it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from evals import schemas as evals_schemas
from fact import schemas
from registry.plan.project import Project
from registry.store.manifest import Provenance
from registry.store.schema import Schema
from registry.store.shards import ShardWriter
from tests.dashboards import fabricate
from tests.dashboards.fabricate import START, run_uid

DECLARATION = """
[experiments.large-sae]
stage = "tests.dashboards.toy.train"

[experiments.large-concepts]
stage = "tests.dashboards.toy.measure"
needs = { sae = "large-sae" }

[experiments.large-gallery]
stage = "tests.dashboards.toy.draw"
needs = { concepts = "large-concepts" }

[experiments.large-names]
stage = "tests.dashboards.toy.name"
needs = { activations = "large-concepts" }
"""


@dataclass(frozen=True)
class Size:
    """How large a model is; the default is the largest that the dashboard promises to show."""

    images: int = 50_000
    concepts: int = 16_384
    active: int = 300
    channels: int = 2048
    classes: int = 1000
    metrics: int = 24
    ranks: int = 2
    side: int = 96
    images_of_part: int = 512


def live_in(folder: Path, size: Size = Size()) -> Project:
    """Declare a project with a large model, and write its SAE, concepts, gallery and names."""
    project = fabricate.declare(folder, DECLARATION)
    _publish(project, "large-sae", sae(size), schemas.SAE)
    _publish(project, "large-concepts", size, schemas.CONCEPTS)
    _publish(project, "large-gallery", gallery(size), schemas.GALLERY)
    _publish(project, "large-names", names(size), evals_schemas.NAMES)
    return project


def concepts_only(folder: Path, size: Size) -> Project:
    """Declare a project with a large model, and write its concepts alone."""
    project = fabricate.declare(folder, DECLARATION)
    _publish(project, "large-concepts", size, schemas.CONCEPTS)
    return project


def _publish(project: Project, name: str, what: xr.Dataset | Size, schema: Schema) -> None:
    cell, uid = project.cell(name), run_uid(name, 0)
    fingerprint = project.fingerprints(project.graph, cell.name)[cell.name]
    task = {"experiment": cell.experiment, "cell": cell.name, "fingerprint": fingerprint}
    told = {"stage": cell.stage, "version": cell.version, "config": dict(cell.config), "needs": {}}
    provenance = Provenance(cell.name, uid, fingerprint, cell.stage, cell.version, started=START)
    with project.store.begin(cell.experiment, fingerprint, task | told, uid) as attempt:
        made: Any = what
        if isinstance(what, Size):
            writer = ShardWriter(attempt.output, schema, provenance.attributes)
            total = Total(what)
            for part in parts(what):
                writer.append(part)
                total.add(part)
            made = writer.finish(total.summary())
        attempt.publish(made, schema, provenance)


# -- concepts ---------------------------------------------------------------------------------


def parts(size: Size) -> Iterator[xr.Dataset]:
    """Yield the parts of a concepts dataset; a few concepts are common, most are rare, one dead."""
    random = np.random.default_rng(0)
    weight = 1 / (5 + np.arange(size.concepts)) ** 0.7
    weight[-1] = 0.0
    cumulative = np.cumsum(weight / weight.sum())
    for start in range(0, size.images, size.images_of_part):
        count = min(size.images_of_part, size.images - start)
        presence = np.zeros((count, size.concepts), np.float32)
        chosen = np.searchsorted(cumulative, random.random((count, size.active)), side="right")
        values = random.gamma(1.0, 1.0, chosen.shape).astype(np.float32) + 0.01
        np.put_along_axis(presence, np.minimum(chosen, size.concepts - 2), values, axis=1)
        slope = np.sin(np.arange(size.concepts, dtype=np.float32))
        label = (start + np.arange(count)) % size.classes
        yield part_of(size, start, presence, presence * slope, label)


def part_of(
    size: Size, start: int, presence: np.ndarray, contribution: np.ndarray, label: np.ndarray
) -> xr.Dataset:
    """Return one part, with what every image has."""
    zero = np.zeros(len(label), np.float32)
    by_image = {
        **dict.fromkeys(("label", "prediction", "network_prediction", "target"), label),
        **dict.fromkeys(("residual", "input_residual", "residual_energy"), zero),
    }
    images = np.array([f"test/{start + row:06d}" for row in range(len(label))], dtype=object)
    classes = np.array([f"class {index}" for index in range(size.classes)], dtype=object)
    return xr.Dataset(
        {
            "presence": (("image", "concept"), presence),
            "contribution": (("image", "concept"), contribution),
            "logit": (("image", "class"), np.zeros((len(label), size.classes), np.float32)),
            **{name: (("image",), values) for name, values in by_image.items()},
        },
        {"image": images, "class": classes, "concept": np.arange(size.concepts)},
    )


class Total:
    """Statistics over all parts, without the coverage, which would take minutes to sort."""

    def __init__(self, size: Size):
        self.size = size
        self.present = np.zeros(size.concepts)
        self.contribution = np.zeros(size.concepts)

    def add(self, part: xr.Dataset) -> None:
        self.present += (part["presence"].values > 0).sum(axis=0)
        self.contribution += part["contribution"].values.sum(axis=0)

    def summary(self) -> xr.Dataset:
        share = self.present / self.size.images
        curve = 1 - np.exp(-np.arange(1, self.size.concepts + 1) / 40)
        scalars = {
            name: 0.0
            for name, variable in schemas.CONCEPTS.variables.items()
            if not variable.dims and variable.dtype.startswith("float")
        }
        return xr.Dataset(
            {
                "image_share": ("concept", share),
                "contributing_share": ("concept", share),
                "mean_contribution": ("concept", self.contribution / self.size.images),
                "coverage": ("rank", curve),
                **scalars,
                "accuracy": 0.76,
                "network_accuracy": 0.77,
                "alive_share": float((share > 0).mean()),
                "common_concepts": np.int64(0),
            }
        )


# -- what goes with them ----------------------------------------------------------------------


def sae(size: Size) -> xr.Dataset:
    """Return an SAE of random directions; concept 1 is close to concept 0."""
    random = np.random.default_rng(1)
    decoder = random.standard_normal((size.channels, size.concepts), np.float32)
    decoder[:, 1] = decoder[:, 0] + 0.3 * decoder[:, 1]
    decoder /= np.linalg.norm(decoder, axis=0)
    by_step = {"reconstruction_loss", "auxiliary_loss", "explained_variance"}
    curve = np.linspace(1.0, 0.1, 2000)
    scalars = {
        name: np.int64(1) if variable.dtype == "int64" else 1.0
        for name, variable in schemas.SAE.variables.items()
        if not variable.dims and not variable.optional
    }
    return xr.Dataset(
        {
            "encoder": (("concept", "channel"), np.ascontiguousarray(decoder.T)),
            "decoder": (("channel", "concept"), decoder),
            **dict.fromkeys(by_step, ("step", curve)),
            "dead": ("step", np.arange(2000)),
            "held_out_accuracy": ("evaluation", np.array([0.7, 0.75])),
            "evaluated_step": ("evaluation", np.array([1000, 2000])),
            **scalars,
        },
        {"concept": np.arange(size.concepts), "step": np.arange(2000)},
    )


def gallery(size: Size) -> xr.Dataset:
    """Return pictures of one colour each, made when they are written: they are 2 GB."""
    import dask.array as da

    shape = (size.concepts, size.ranks, size.side, size.side)
    by_rank = ("concept", "rank")

    def paint(channels: int) -> Any:
        def block(block_info: Any = None) -> np.ndarray:
            (start, stop), *_ = block_info[None]["array-location"]
            colour = np.arange(start, stop, dtype=np.int64) * 37 % 251
            whole = np.empty((stop - start, *shape[1:], channels), np.uint8)
            whole[...] = colour[:, None, None, None, None]
            return whole

        sizes = [min(128, size.concepts)] * (size.concepts // min(128, size.concepts))
        if rest := size.concepts - sum(sizes):
            sizes.append(rest)
        chunks = (tuple(sizes), *((n,) for n in (*shape[1:], channels)))
        return da.map_blocks(block, chunks=chunks, dtype=np.uint8)

    place = np.arange(size.concepts * size.ranks).reshape(shape[:2]) % size.images
    image = np.array([f"test/{index:06d}" for index in place.ravel()], dtype=object)
    return xr.Dataset(
        {
            "image": (by_rank, image.reshape(shape[:2])),
            "presence": (by_rank, np.ones(shape[:2], np.float32)),
            "label": (by_rank, place % size.classes),
            "prediction": (by_rank, place % size.classes),
            "picture": ((*by_rank, "y", "x", "colour"), paint(3)),
            "explanation": ((*by_rank, "y", "x", "rgba"), paint(4)),
        },
        {
            "concept": np.arange(size.concepts),
            "rank": np.arange(size.ranks),
            "class": np.array([f"class {index}" for index in range(size.classes)], dtype=object),
            "colour": ["red", "green", "blue"],
            "rgba": ["red", "green", "blue", "opacity"],
        },
    )


def names(size: Size) -> xr.Dataset:
    """Return names by many metrics; all but a quarter pass, and vote."""
    random = np.random.default_rng(2)
    shape, ranks = (size.concepts, size.metrics), 10
    labels = np.array([f"label {number}" for number in range(1400)], dtype=object)
    top = labels[random.integers(0, len(labels), (*shape, ranks))]
    score = -np.sort(-random.random((*shape, ranks)), axis=2)
    votes = np.arange(size.metrics) % 4 > 0
    by_metric, by_rank = ("concept", "metric"), ("concept", "metric", "rank")
    zero = np.zeros(shape, np.int64)
    known = {
        "name": (by_metric, top[..., 0]),
        "score": (by_metric, score[..., 0]),
        "interval_low": (by_metric, score[..., 0] - 0.05),
        "interval_high": (by_metric, score[..., 0] + 0.05),
        "margin": (by_metric, score[..., 0] - score[..., 1]),
        "top_label": (by_rank, top),
        "top_score": (by_rank, score),
        "chosen_score": (by_rank, score),
        "tied": (by_metric, zero),
        "undefined": (by_metric, zero),
        "silent": ("concept", np.zeros(size.concepts, bool)),
        "consensus": ("concept", top[:, 1, 0]),
        "consensus_votes": ("concept", np.full(size.concepts, 3)),
        "consensus_score": (by_metric, score[..., 0]),
        "verdict": ("metric", np.where(votes, "passes", "fails").astype(object)),
        "votes": ("metric", votes),
        "undefined_share": ("metric", np.zeros(size.metrics)),
        "lower": ("metric", np.zeros(size.metrics)),
        "upper": ("metric", np.ones(size.metrics)),
    }
    scalars = {
        name: np.int64(size.metrics // 2) if variable.dtype == "int64" else 0.5
        for name, variable in evals_schemas.NAMES.variables.items()
        if not variable.dims and not variable.optional
    }
    coords = {
        "concept": np.arange(size.concepts),
        "metric": np.array([f"metric {index}" for index in range(size.metrics)], dtype=object),
        "rank": np.arange(1, ranks + 1),
    }
    return xr.Dataset(known | scalars, coords)
