"""What goes beside fabricated concepts: an SAE, C2-scores, places, matches, decisions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from evals import schemas as evals_schemas
from fact import schemas
from registry.plan.project import Project
from registry.store.schema import Schema
from tests.dashboards import fabricate
from tests.dashboards.fabricate import CLASSES, CONCEPTS, HOSTILE, run_uid

BESIDE = """
[experiments.toy-again]
stage = "tests.dashboards.toy.measure"
needs = { sae = "toy-sae[k=16]" }

[experiments.toy-channels]
stage = "tests.dashboards.toy.measure_channels"

[experiments.toy-consistency]
stage = "tests.dashboards.toy.consist"
needs = { concepts = "toy-concepts" }

[experiments.toy-localisation]
stage = "tests.dashboards.toy.localise"
needs = { concepts = "toy-concepts" }

[experiments.toy-matching]
stage = "tests.dashboards.toy.match_two"
needs = { one = "toy-concepts", other = "toy-again" }

[experiments.toy-decisions]
stage = "tests.dashboards.toy.explain"
needs = { concepts = "toy-concepts" }
"""
CHANNELS = 5


def declare(folder: Path) -> Project:
    """Declare the toy project with what goes beside its concepts."""
    text = fabricate.DECLARATION.replace("[suites]", f"{BESIDE}\n[suites]")
    return fabricate.declare(folder, text)


def live_in(project: Project) -> None:
    """Write the datasets of the page of concepts, and what goes beside them; no journals."""
    for minute, (cell, dataset, schema) in enumerate([*fabricate.outputs(), *outputs()]):
        fabricate.store(project, cell, dataset, schema, run_uid(cell, minute))


def outputs() -> list[tuple[str, xr.Dataset, Schema]]:
    """Return the datasets beside the concepts, each with the cell that makes it."""
    return [
        ("toy-sae[k=8]", sae(), schemas.SAE),
        ("toy-consistency", consistency(), evals_schemas.CONSISTENCY),
        ("toy-localisation", localisation(), evals_schemas.LOCALISATION),
        ("toy-matching", matching(), evals_schemas.MATCHING),
        ("toy-decisions", decisions(), schemas.DECISIONS),
    ]


def _scalars(schema: Schema) -> dict[str, Any]:
    kinds = {"int64": np.int64(1), "str": "as it is"}
    return {
        name: kinds.get(variable.dtype, 0.5)
        for name, variable in schema.variables.items()
        if not variable.dims and not variable.optional
    }


def sae() -> xr.Dataset:
    """Return an SAE; concept 1 points almost where concept 0 does, the last nowhere."""
    random = np.random.default_rng(3)
    decoder = random.standard_normal((CHANNELS, CONCEPTS)).astype(np.float32)
    decoder[:, 1] = decoder[:, 0] + 0.1 * decoder[:, 1]
    decoder[:, -1] = 0
    curve = np.linspace(1.0, 0.1, 9)
    return xr.Dataset(
        {
            **_scalars(schemas.SAE),
            "encoder": (("concept", "channel"), np.ascontiguousarray(decoder.T)),
            "decoder": (("channel", "concept"), decoder),
            "reconstruction_loss": ("step", curve),
            "auxiliary_loss": ("step", np.where(np.arange(9) == 4, np.nan, curve)),
            "explained_variance": ("step", 1 - curve),
            "dead": ("step", np.arange(9)),
            "held_out_accuracy": ("evaluation", np.array([0.5, 0.75])),
            "evaluated_step": ("evaluation", np.array([4, 8])),
            "best_accuracy": 0.75,
            "k": np.int64(8),
        },
        {"concept": np.arange(CONCEPTS), "step": np.arange(9)},
    )


def network() -> xr.Dataset:
    """Return a network that takes each circle for a square, and errs nowhere else."""
    label = np.array([0, 0, 1, 1, 1, -1])
    return xr.Dataset(
        {
            "logit": (("image", "class"), np.zeros((6, len(CLASSES)), np.float32)),
            "label": ("image", label),
            "prediction": ("image", np.array([1, 0, 1, 1, 1, 2])),
            "loss": ("pass", np.array([1.0, 0.5])),
            "test_accuracy": 0.8,
            "parameters": np.int64(12_345),
        },
        {"image": [f"test/{row}" for row in range(6)], "class": list(CLASSES)},
    )


def consistency() -> xr.Dataset:
    """Return C2-scores that fall with the concept; 4 has few images, the last no score."""
    score = np.linspace(0.8, -0.2, CONCEPTS)
    score[-1] = np.nan
    return xr.Dataset(
        {
            **_scalars(evals_schemas.CONSISTENCY),
            "score": ("concept", score),
            "n_images": ("concept", np.where(np.arange(CONCEPTS) == 4, 3, 20)),
            "empty_maps": ("concept", np.zeros(CONCEPTS, np.int64)),
            "pixels": ("concept", np.full(CONCEPTS, 9.0)),
            "baseline_score": ("baseline_class", np.array([0.01])),
            "share": ("bin", np.array([0.0, 0.2, 0.8, 0.0])),
            "mean_score": 0.4,
            "baseline": 0.01,
            "least_images": np.int64(5),
        },
        {
            "concept": np.arange(CONCEPTS),
            "baseline_class": [0],
            "bin": np.array([-1.0, -0.5, 0.0, 0.5]),
        },
    )


def localisation() -> xr.Dataset:
    """Return where concepts 0 (on its name), 1 (off it) and 2 (unknown) are."""
    by_measure, by_rank = ("concept", "measure"), ("concept", "measure", "rank")
    lift = np.array([[0.3, 0.2], [-0.3, 0.2], [np.nan, np.nan]])
    return xr.Dataset(
        {
            **_scalars(evals_schemas.LOCALISATION),
            "interval_low": (by_measure, lift + 0.3),
            "interval_high": (by_measure, lift + 0.5),
            "elsewhere": (by_measure, np.full((3, 2), 0.45)),
            "gain": (by_measure, lift - 0.05),
            "name": ("concept", np.array(["colour: red", HOSTILE, "place: left"], dtype=object)),
            "n_images": ("concept", np.array([8, 8, 2])),
            "n_empty": ("concept", np.zeros(3, np.int64)),
            "n_shown": ("concept", np.array([7, 6, 0])),
            "score": (by_measure, lift + 0.4),
            "chance": (by_measure, np.full((3, 2), 0.4)),
            "lift": (by_measure, lift),
            "lift_low": (by_measure, lift - 0.1),
            "lift_high": (by_measure, lift + 0.1),
            "top_label": (by_rank, np.full((3, 2, 1), "colour: red", dtype=object)),
            "top_gain": (by_rank, np.zeros((3, 2, 1))),
            **{
                name: ("measure", np.full(2, 0.5))
                for name, variable in evals_schemas.LOCALISATION.variables.items()
                if variable.dims == ("measure",)
            },
        },
        {"concept": np.arange(3), "measure": ["pointing", "energy"], "rank": [0]},
    )


def matching() -> xr.Dataset:
    """Return matches: 0 and 3 come back, 1 not quite, 2 by chance, the last two not at all."""
    match = np.array([[3, 3], [1, 1], [2, -1], [0, 0], [-1, -1], [-1, -1]])
    similarity = np.array([[0.9, 0.8], [0.5, 0.9], [0.2, 0], [0.7, 0.7], [0, 0], [0, 0]])
    by_basis, at = ("concept", "basis"), ("basis", "threshold")
    similarity[match < 0] = np.nan
    return xr.Dataset(
        {
            **_scalars(evals_schemas.MATCHING),
            "match": (by_basis, match),
            "similarity": (by_basis, similarity),
            "nearest": (by_basis, match),
            "nearest_similarity": (by_basis, similarity),
            "mutual": (by_basis, match >= 0),
            **{
                name: (variable.dims, np.full([2, 3][: len(variable.dims)], 0.3))
                for name, variable in evals_schemas.MATCHING.variables.items()
                if variable.dims in (("basis",), at)
            },
        },
        {
            "concept": np.arange(CONCEPTS),
            "basis": ["decoder", "presence"],
            "threshold": [0.5, 0.7, 0.9],
        },
    )


def decisions() -> xr.Dataset:
    """Return three decisions: concept 0 is first in one and second in another."""
    sizes = {"image": 3, "rank": 2, "y": 4, "x": 4, "rgba": 4, "colour": 3, "class": len(CLASSES)}
    arrays: dict[str, Any] = {
        name: (variable.dims, np.zeros([sizes[d] for d in variable.dims], variable.dtype))
        for name, variable in schemas.DECISIONS.variables.items()
    }
    by_rank = ("image", "rank")
    arrays["top_concept"] = (by_rank, np.array([[0, 2], [3, 0], [1, -1]]))
    arrays["share"] = (by_rank, np.array([[0.5, 0.2], [0.6, 0.1], [1, 0]], np.float32))
    arrays["contribution"] = (by_rank, np.array([[5, 2], [6, 1], [9, 0]], np.float32))
    arrays["target"] = (("image",), np.array([0, 1, 2]))
    return xr.Dataset(
        arrays,
        {
            "image": ["test/00000", f"test/{HOSTILE}", "test/00002"],
            "class": list(CLASSES),
            "rank": [0, 1],
            "colour": ["red", "green", "blue"],
            "rgba": ["red", "green", "blue", "opacity"],
        },
    )
