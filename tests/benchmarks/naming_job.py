"""Names sparse concepts of many images in a process of its own, and tells time and memory.

``python -m tests.benchmarks.naming_job FOLDER N_IMAGES N_CONCEPTS`` makes presences and labels in
the folder; with ``name`` before it, names them and prints what that took.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xarray as xr

from registry import Schema, Variable
from registry.store.shards import ShardWriter, open_parts
from tests.benchmarks.memory import peak

N_LABELS = (1000, 400)  # classes, and groups of classes
DENSITY = 0.02  # share of concepts that an image has
PART = 512  # images of a part

PRESENCES = Schema(
    name="presences",
    version=1,
    title="Presences alone",
    coords={
        "image": Variable(("image",), "str", "image"),
        "concept": Variable(("concept",), "int64", "index of the concept"),
    },
    variables={"presence": Variable(("image", "concept"), "float32", "presence")},
    sharded_along="image",
)


def ids(n_images: int) -> np.ndarray:
    return np.array([f"val/{i:06d}" for i in range(n_images)], dtype=object)


def make(folder: Path, n_images: int, n_concepts: int) -> None:
    """Write presences in parts, as a measurement does, and labels of shuffled images."""
    rng = np.random.default_rng(0)
    classes = rng.integers(0, N_LABELS[0], n_images)
    favourite = rng.integers(0, N_LABELS[0], n_concepts)
    writer = ShardWriter(folder / "concepts", PRESENCES)
    for start in range(0, n_images, PART):
        own = slice(start, min(start + PART, n_images))
        chance = np.where(classes[own, None] == favourite, 0.8, DENSITY)
        shape = (own.stop - start, n_concepts)
        there = rng.random(shape, dtype=np.float32) < chance
        presence = np.where(there, rng.standard_exponential(shape, dtype=np.float32), 0)
        part = xr.Dataset(
            {"presence": (("image", "concept"), presence)},
            {"image": ids(n_images)[own], "concept": np.arange(n_concepts)},
        )
        writer.append(part)
    writer.finish()
    labels(n_images, classes, rng).to_netcdf(
        folder / "labels.nc",
        engine="h5netcdf",
        encoding={"value": {"zlib": True, "complevel": 1, "chunksizes": (512, sum(N_LABELS))}},
    )


def labels(n_images: int, classes: np.ndarray, rng: np.random.Generator) -> xr.Dataset:
    groups = rng.random((N_LABELS[1], N_LABELS[0])) < 0.03
    value = np.zeros((n_images, sum(N_LABELS)), dtype=np.float32)
    value[np.arange(n_images), classes] = 1
    value[:, N_LABELS[0] :] = groups[:, classes].T
    names = [f"label {i}" for i in range(sum(N_LABELS))]
    whole = xr.Dataset(
        {"value": (("image", "label"), value)}, {"image": ids(n_images), "label": names}
    )
    return whole.isel(image=rng.permutation(n_images))


@dataclass(frozen=True)
class Parts:
    """Presences that were made before, as an input of a stage."""

    folder: Path

    def open(self) -> xr.Dataset:
        rows = [
            xr.open_dataset(path, engine="h5netcdf").sizes["image"]
            for path in sorted(self.folder.glob("part-*.nc"))
        ]
        return open_parts(self.folder, rows, "image")


def name(folder: Path, n_bootstrap: int, metrics: tuple[str, ...] | None) -> dict[str, float]:
    """Run the stage; return seconds and the largest memory."""
    from evals import name_concepts, schemas
    from evals.metrics.registered import list_metrics
    from tests.evals.runs import FakeInput, FakeRun

    loaded = peak()
    config = name_concepts.Config(
        metrics=metrics or tuple(list_metrics()), n_bootstrap=n_bootstrap, n_permutations=0
    )
    inputs = {"activations": Parts(folder / "concepts"), "labels": FakeInput(folder / "labels.nc")}
    started = time.perf_counter()
    name_concepts.stage(config, inputs, FakeRun(folder / "names", schemas.NAMES))
    seconds = time.perf_counter() - started
    return {"seconds": seconds, "peak_mb": peak(), "loaded_mb": loaded}


if __name__ == "__main__":
    if sys.argv[1] == "name":
        wanted = tuple(sys.argv[4].split(",")) if len(sys.argv) > 4 else None
        told = name(Path(sys.argv[2]), int(sys.argv[3]), wanted)
        sys.stderr.write(json.dumps(told) + "\n")
    else:
        make(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
