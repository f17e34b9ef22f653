"""A small project as it is after some runs: journals, datasets, no computation."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from evals import schemas as evals_schemas
from fact import schemas
from registry.declare.cells import Cell
from registry.plan.project import Project, open_project
from registry.record.journal import CONSOLE, EVENTS, journal_root, timestamp
from registry.record.liveness import ProcessIdentity
from registry.store.manifest import Provenance
from registry.store.schema import Schema

DECLARATION = """
[project]
database = "factbook"

[experiments.toy-sae]
stage = "tests.dashboards.toy.train"
matrix = { k = [8, 16] }

[experiments.toy-concepts]
stage = "tests.dashboards.toy.measure"
needs = { sae = "toy-sae[k=8]" }

[experiments.toy-gallery]
stage = "tests.dashboards.toy.draw"
needs = { concepts = "toy-concepts" }

[experiments.toy-names]
stage = "tests.dashboards.toy.name"
needs = { activations = "toy-concepts" }

[suites]
demo = ["toy-*"]
"""
START = datetime(2026, 11, 22, 1, 33, 55, tzinfo=UTC)
CLASSES = ("circle", "square", "<b>star</b>")
CONCEPTS = 6
IMAGES = 30
RANKS = 4
SIDE = 16


def declare(folder: Path, text: str = DECLARATION) -> Project:
    """Write the declaration of a project and open it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "experiments.toml").write_text(text)
    return open_project(folder)


# -- runs -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Told:
    """What a fabricated run has to tell."""

    cell: str
    status: str = "COMPLETED"
    minutes: float = 0.0
    seconds: float = 90.0
    result: Mapping[str, Any] | None = None
    metrics: Mapping[str, Sequence[float]] | None = None
    console: str = ""
    trace: str = ""
    process: ProcessIdentity | None = None
    output: Mapping[str, Any] | None = None
    overrides: Mapping[str, Any] | None = None


def record(project: Project, told: Told) -> str:
    """Write the journal of a run and return its uid."""
    start = START + timedelta(minutes=told.minutes)
    uid = run_uid(told.cell, told.minutes)
    folder = journal_root(project.root) / uid
    (folder / "sources").mkdir(parents=True)
    source = "def main():\n    return 1\n"
    md5 = hashlib.md5(source.encode()).hexdigest()
    (folder / "sources" / md5).write_text(source)
    (folder / CONSOLE).write_text(told.console)
    lines = [json.dumps(event) for event in _events(project, told, uid, start, md5)]
    (folder / EVENTS).write_text("".join(f"{line}\n" for line in lines))
    return uid


def run_uid(cell: str, minutes: float) -> str:
    """Return the identifier of the run of a cell that began so many minutes after the start."""
    digest = hashlib.sha256(f"{cell} {float(minutes)}".encode()).hexdigest()[:8]
    return f"{START + timedelta(minutes=minutes):%Y%m%dT%H%M%S}-{digest}"


def _events(
    project: Project, told: Told, uid: str, start: datetime, md5: str
) -> list[dict[str, Any]]:
    end = start + timedelta(seconds=told.seconds)
    beat = {"console": len(told.console), "result": told.result}
    return [
        _started(project, told, uid, start, md5),
        *([_metrics(told, start, end)] if told.metrics else []),
        {"event": "heartbeat", "time": timestamp(end), **beat},
        *([_ended(told, end)] if told.status != "RUNNING" else []),
    ]


def _started(project: Project, told: Told, uid: str, start: datetime, md5: str) -> dict[str, Any]:
    cell = project.graph.cells.get(told.cell)
    facts: dict[str, Any] = {"uid": uid, **(told.process or ProcessIdentity.current()).facts()}
    config: dict[str, Any] = {"seed": 0}
    if cell is not None:
        facts |= _facts_of(project, cell) | {"overrides": dict(told.overrides or {})}
        config |= {**cell.config, "experiment": cell.experiment, "needs": dict(cell.needs)}
    name = cell.stage if cell else told.cell
    return {
        "event": "started",
        "time": timestamp(start),
        "command": "main",
        "experiment": {"name": name, "base_dir": "/", "sources": [["toy/stage.py", md5]]},
        "host": {"hostname": "lab"},
        "config": config,
        "meta": {},
        "facts": facts,
    }


def _facts_of(project: Project, cell: Cell) -> dict[str, Any]:
    cells = project.graph.cells
    inputs = {
        slot: {"name": name, "kind": cells[name].provides, "run": f"run-{name}"}
        for slot, name in cell.needs.items()
    }
    return {
        "experiment": cell.experiment,
        "cell": cell.name,
        "stage": cell.stage,
        "stage_version": cell.version,
        "fingerprint": project.fingerprints(project.graph, cell.name)[cell.name],
        "inputs": inputs,
        "packages": {"numpy": "2.4.6"},
    }


def _ended(told: Told, end: datetime) -> dict[str, Any]:
    kinds = {"COMPLETED": "completed", "FAILED": "failed", "DIED": "died"}
    last: dict[str, Any] = {"status": told.status, "console": len(told.console)}
    if told.trace:
        last["trace"] = told.trace.splitlines(keepends=True)
    if told.output:
        last["facts"] = {"output": dict(told.output)}
    kind = kinds.get(told.status, "interrupted")
    return {"event": kind, "time": timestamp(end), **last}


def _metrics(told: Told, start: datetime, end: datetime) -> dict[str, Any]:
    first = round(start.timestamp() * 1000)
    points = [
        {
            "name": name,
            "steps": list(range(len(values))),
            "values": list(values),
            "timestamps": [first + 10 * step for step in range(len(values))],
        }
        for name, values in (told.metrics or {}).items()
    ]
    return {"event": "metrics", "time": timestamp(end), "metrics": points}


def gone() -> ProcessIdentity:
    """Identity of a process of this host that is not there any more."""
    own = ProcessIdentity.current()
    return ProcessIdentity(own.pid, own.create_time - 1000, own.boot, own.host)


# -- datasets ---------------------------------------------------------------------------------


def store(project: Project, name: str, dataset: xr.Dataset, schema: Schema, uid: str) -> Path:
    """Write the output of a cell as a run would, and make it current."""
    cell = project.cell(name)
    known = project.fingerprints(project.graph, cell.name)
    fingerprint = known[cell.name]
    task = {
        "experiment": cell.experiment,
        "cell": cell.name,
        "stage": cell.stage,
        "version": cell.version,
        "config": dict(cell.config),
        "needs": {
            slot: {"name": name, "fingerprint": known[name]} for slot, name in cell.needs.items()
        },
        "fingerprint": fingerprint,
    }
    inputs = {slot: _read(project, name, known[name]) for slot, name in cell.needs.items()}
    provenance = Provenance(
        cell.name,
        uid,
        fingerprint,
        cell.stage,
        cell.version,
        dict(cell.config),
        inputs,
        started=START,
    )
    with project.store.begin(cell.experiment, fingerprint, task, uid) as attempt:
        return attempt.publish(dataset, schema, provenance).folder


def _read(project: Project, name: str, fingerprint: str) -> dict[str, Any]:
    """Return what a run says of an input: whose dataset it read, if there was one."""
    cell = project.graph.cells.get(name)
    if cell is None:  # a data set
        return {"name": name, "fingerprint": fingerprint}
    facts = {"name": name, "kind": cell.provides, "fingerprint": fingerprint}
    state = project.store.state(cell.experiment, fingerprint)
    return facts | ({"run": state.run, "content": state.content} if state.content else {})


def concepts(seed: int = 0) -> xr.Dataset:
    """Return statistics of a few concepts: concept 0 is the strongest, the last is dead."""
    random = np.random.default_rng(seed)
    presence = random.gamma(1.0, 1.0, (IMAGES, CONCEPTS)).astype(np.float32)
    presence *= (np.arange(CONCEPTS)[::-1] > 0) * (random.random((IMAGES, CONCEPTS)) < 0.6)
    contribution = presence * np.arange(CONCEPTS, 0, -1, dtype=np.float32)
    images = [f"test/{index:05d}" for index in range(IMAGES)]
    arrays: dict[str, Any] = {}
    for name, variable in schemas.CONCEPTS.variables.items():
        shape = [
            {"image": IMAGES, "class": len(CLASSES), "concept": CONCEPTS, "rank": CONCEPTS}[dim]
            for dim in variable.dims
        ]
        kind = "int64" if variable.dtype == "int64" else "float32"
        arrays[name] = (variable.dims, np.zeros(shape, kind))
    arrays["exact"] = ((), True)
    arrays["label"] = (("image",), np.arange(IMAGES) % len(CLASSES))
    arrays["presence"] = (("image", "concept"), presence.astype(np.float32))
    arrays["contribution"] = (("image", "concept"), contribution.astype(np.float32))
    arrays["image_share"] = (("concept",), (presence > 0).mean(0))
    arrays["contributing_share"] = (("concept",), (contribution != 0).mean(0))
    arrays["mean_contribution"] = (("concept",), contribution.mean(0))
    arrays["accuracy"] = ((), 0.8125)
    arrays["alive_share"] = ((), 5 / 6)
    coords = {"image": images, "class": list(CLASSES), "concept": np.arange(CONCEPTS)}
    return xr.Dataset(arrays, coords)


def gallery() -> xr.Dataset:
    """Return pictures of every concept but the last, which is dead; concept 1 has fewer."""
    random = np.random.default_rng(1)
    shape = (CONCEPTS - 1, RANKS)
    places = np.arange(shape[0] * RANKS).reshape(shape) % IMAGES
    there = np.ones(shape, bool)
    there[1, 2:] = False
    label = np.where(there, places % len(CLASSES), -1)
    by_rank = ("concept", "rank")
    names = np.where(there, [[f"test/{place:05d}" for place in row] for row in places], "")
    pixels = random.integers(0, 255, (*shape, SIDE, SIDE, 4)).astype(np.uint8)
    presence = np.sort(random.gamma(2.0, 1.0, shape))[:, ::-1].astype(np.float32)
    return xr.Dataset(
        {
            "image": (by_rank, names.astype(object)),
            "presence": (by_rank, np.where(there, presence, np.nan)),
            "label": (by_rank, label),
            "prediction": (by_rank, np.where(there, (label + (places == 0)) % len(CLASSES), -1)),
            "picture": ((*by_rank, "y", "x", "colour"), pixels[..., :3]),
            "explanation": ((*by_rank, "y", "x", "rgba"), pixels),
        },
        {
            "concept": np.arange(shape[0]),
            "rank": np.arange(RANKS),
            "class": np.array(CLASSES, dtype=object),
            "colour": ["red", "green", "blue"],
            "rgba": ["red", "green", "blue", "opacity"],
        },
    )


def names() -> xr.Dataset:
    """Return names by two metrics; the last concept has none."""
    metrics, ranks = ["iou", "auprc"], 3
    labels = ["colour: red", "shape: <b>star</b>", "texture: dots", "place: left"]
    top = np.empty((CONCEPTS, len(metrics), ranks), dtype=object)
    score = np.full(top.shape, np.nan)
    for concept in range(CONCEPTS):
        for metric in range(len(metrics)):
            for rank in range(ranks):
                top[concept, metric, rank] = labels[(concept + metric + rank) % len(labels)]
                score[concept, metric, rank] = 0.9 - 0.1 * concept - 0.2 * rank
    top[-1], score[-1] = "", np.nan
    by_metric, by_rank = ("concept", "metric"), ("concept", "metric", "rank")
    return xr.Dataset(
        {
            "name": (by_metric, top[..., 0]),
            "score": (by_metric, score[..., 0]),
            "interval_low": (by_metric, score[..., 0] - 0.05),
            "interval_high": (by_metric, score[..., 0] + 0.04),
            "margin": (by_metric, score[..., 0] - score[..., 1]),
            "top_label": (by_rank, top),
            "top_score": (by_rank, score),
            "chosen_score": (by_rank, score + 0.01),
            "tied": (by_metric, np.zeros(top.shape[:2], dtype=np.int64)),
            "undefined": (by_metric, np.full(top.shape[:2], 2)),
            "silent": ("concept", np.arange(CONCEPTS) == CONCEPTS - 1),
            "consensus": ("concept", top[:, 0, 0]),
            "consensus_votes": ("concept", (top[:, 0, 0] != "").astype(np.int64)),
            "consensus_score": (by_metric, score[..., 0]),
            "verdict": ("metric", np.array(["passes", "undecided"], dtype=object)),
            "votes": ("metric", np.array([True, False])),
            "undefined_share": ("metric", np.array([0.1, 0.1])),
            "lower": ("metric", [0.0, 0.0]),
            "upper": ("metric", [1.0, 1.0]),
            "n_choosing": 15,
            "n_scoring": 15,
            "named_share": 5 / 6,
            "agreeing_share": 0.0,
            "n_names": 4,
            "n_silent": 1,
            "tied_share": 0.0,
            "n_voting": 1,
            "consensus_share": 5 / 6,
            "unanimous_share": 1.0,
            "majority_share": 1.0,
            "mean_votes": 1.0,
            "n_consensus_names": 4,
        },
        {"concept": np.arange(CONCEPTS), "metric": metrics, "rank": np.arange(1, ranks + 1)},
    )


def with_chance(names: xr.Dataset) -> xr.Dataset:
    """Return names with what permutations of labels say of the first half of the concepts."""
    concepts, by_metric = names.sizes["concept"], ("concept", "metric")
    shape = (concepts, names.sizes["metric"])
    verdicts = ["above chance", "at chance", "undecided"]
    told = np.array(verdicts + ["untested"] * (concepts - 4) + [""], dtype=object)
    p = np.array([0.005, 0.4, 0.03] + [np.nan] * (concepts - 3))
    family_p = np.array([0.005, 0.9, 0.3] + [np.nan] * (concepts - 3))
    by_chance = np.where(np.isnan(p), np.nan, 0.3)
    of_metrics = {"p": p, "family_p": family_p, "by_chance": by_chance}
    known: dict[str, object] = {
        f"{name}_{what}": (by_metric, np.broadcast_to(values[:, None], shape))
        for what, values in of_metrics.items()
        for name in ("score", "margin", "consensus_score")
    }
    known |= {f"{name}_p": ("concept", p) for name in ("votes", "consensus")}
    known |= {f"{name}_family_p": ("concept", family_p) for name in ("votes", "consensus")}
    return names.assign(known).assign(
        votes_by_chance=("concept", np.where(np.isnan(p), np.nan, 1.0)),
        chance=(by_metric, np.broadcast_to(told[:, None], shape)),
        consensus_chance=("concept", told),
        few_active=("concept", np.zeros(concepts, dtype=bool)),
        above_chance_share=("metric", np.full(shape[1], 1 / 3)),
        at_chance_share=("metric", np.full(shape[1], 1 / 3)),
        consensus_above_chance_share=1 / 3,
        consensus_at_chance_share=1 / 3,
        confidence=0.95,
        n_permutations=199,
        n_tested=3,
        min_positives=10,
        min_active=10,
        n_rare_labels=2,
        n_few_active=0,
    )


# -- all together -----------------------------------------------------------------------------

TRACE = """Traceback (most recent call last):
  File "stage.py", line 3, in main
ValueError: no *such* layer 'features.9' <script>alert(1)</script>
"""
HOSTILE = "<script>alert(1)</script>"
LOSS = np.exp(-np.arange(6000) / 2000)


def live_in(project: Project) -> None:
    """Fill a project with runs of every ending, and with datasets."""
    console = "\n".join(f"pass {number}: loss {1 / (number + 1):.3f}" for number in range(600))
    metrics = {"training.loss": LOSS.tolist(), "accuracy": [0.1, 0.5, 0.8]}
    result = {"best_accuracy": 0.8125, "final_dead": 3}
    runs = [
        Told("toy-sae[k=8]", result=result, metrics=metrics, console=console),
        Told("toy-sae[k=16]", "FAILED", minutes=1, seconds=4, trace=TRACE),
        Told("toy-sae[k=16]", "RUNNING", minutes=2, process=gone()),
        Told("toy-sae[k=16]", "INTERRUPTED", minutes=3),
        Told("toy-sae[k=16]", "RUNNING", minutes=4, metrics={"training.loss": [1.0, 0.5]}),
        Told(HOSTILE, minutes=5),
    ]
    for told in runs:
        record(project, told)
    for minute, (cell, dataset, schema) in enumerate(outputs(), start=6):
        uid = run_uid(cell, minute)
        folder = store(project, cell, dataset, schema, uid)
        output = {
            "path": str(folder.relative_to(project.root)),
            "schema": schema.name,
            "schema_version": schema.version,
            "sizes": {name: int(size) for name, size in dataset.sizes.items()},
            "bytes": 123_456,
            "files": 1,
        }
        record(project, Told(cell, minutes=minute, output=output))


def outputs() -> list[tuple[str, xr.Dataset, Schema]]:
    """Return the datasets of a project, each with the cell that makes it."""
    return [
        ("toy-concepts", concepts(), schemas.CONCEPTS),
        ("toy-gallery", gallery(), schemas.GALLERY),
        ("toy-names", names(), evals_schemas.NAMES),
    ]
