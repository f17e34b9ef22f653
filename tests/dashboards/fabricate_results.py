"""Small datasets of every kind of result, and a project that has made them; no computation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from evals import schemas
from evals.sanity.published_tables import compare_cells
from fact import schemas as fact_schemas
from registry.declare.stage import load_stage
from registry.plan.project import Project
from registry.store.schema import Schema
from tests.dashboards import fabricate
from tests.dashboards.fabricate import CONCEPTS, run_uid, store

DECLARATION = """
[project]
database = "factbook"

[experiments.toy-sae]
stage = "tests.dashboards.toy.train"

[experiments.toy-concepts]
stage = "tests.dashboards.toy.measure"
needs = { sae = "toy-sae" }

[experiments.toy-names]
stage = "tests.dashboards.toy.name"
needs = { activations = "toy-concepts" }

[experiments.toy-sanity]
stage = "tests.dashboards.toy.check"

[experiments.toy-identify]
stage = "tests.dashboards.toy.identify"

[experiments.toy-identify-shifted]
stage = "tests.dashboards.toy.identify"
config = { seed = 1 }

[experiments.toy-identify-later]
stage = "tests.dashboards.toy.identify"
config = { seed = 2 }

[experiments.toy-comparison]
stage = "tests.dashboards.toy.compare"

[experiments.toy-consistency]
stage = "tests.dashboards.toy.consist"
needs = { concepts = "toy-concepts" }

[experiments.toy-intervention]
stage = "tests.dashboards.toy.intervene"
needs = { concepts = "toy-concepts" }

[experiments.toy-fidelity]
stage = "tests.dashboards.toy.fidelity"
needs = { model = "toy-sae" }
matrix = { k = [8, 16], seed = [0, 1] }

[experiments.toy-matching]
stage = "tests.dashboards.toy.match"
needs = { one = "toy-concepts" }
matrix = { k = [8, 16], seed = [0, 1] }

[experiments.toy-localisation]
stage = "tests.dashboards.toy.localise"
needs = { concepts = "toy-concepts" }

[experiments.toy-scores]
stage = "tests.dashboards.toy.score"
"""
METRICS = ("recall", "iou", "<script>alert(1)</script>", "cosine")
"""The third is a stranger's, and means no good."""

UNMADE = "toy-identify-later"


def filled(schema: Schema, coords: Mapping[str, Any], sizes: Mapping[str, int] = {}) -> xr.Dataset:
    """Return a dataset with every variable that a schema wants: 0.5, 0, "" or False."""
    lengths = {name: len(values) for name, values in coords.items()} | dict(sizes)
    blank: dict[str, Any] = {"str": "", "bool": False, "int64": 0}
    arrays = {
        name: (
            variable.dims,
            np.full(
                [lengths[dim] for dim in variable.dims],
                blank.get(variable.dtype, 0.5),
                object if variable.dtype == "str" else variable.dtype,
            ),
        )
        for name, variable in schema.variables.items()
        if not variable.optional
    }
    return xr.Dataset(arrays, dict(coords))


def texts(dims: Sequence[str], values: Any) -> tuple[Sequence[str], np.ndarray]:
    """Return a variable of texts."""
    return dims, np.array(values, dtype=object)


def sanity(real: bool = True) -> xr.Dataset:
    """Return tests of four metrics: recall fails, iou passes, the stranger's is undecided."""
    forms, tests = ["theoretical", "experimental", "semantic"], ["missing", "extra"]
    coords = {
        "metric": np.array(METRICS, dtype=object),
        "form": forms,
        "test": tests,
        "frequency": [0.499, 0.01],
        "seed": [0, 1],
    }
    made = filled(schemas.SANITY, coords)
    accuracy = np.full((4, 3, 2), np.nan)
    accuracy[:, 0] = [[1.0, 0.0], [1.0, 1.0], [1.0, 0.9], [1.0, 1.0]]
    if real:
        accuracy[:, 1] = [[0.9866, 0.1], [1.0, 1.0], [0.95, 0.95], [1.0, 0.97]]
    verdict = np.where(np.isnan(accuracy), "", np.where(accuracy >= 0.9, "passes", "fails"))
    verdict = verdict.astype(object)
    verdict[2, 0, 1] = "undecided"
    published = np.full((4, 3, 2), np.nan)
    published[[0, 1, 3], 0] = [[1.0, 0.0], [1.0, 1.0], [1.0, 0.6]]
    difference = np.full((4, 3, 2), "", dtype=object)
    difference[3, 0, 1] = "a coin toss"
    by_test, by_frequency = ("metric", "form", "test"), ("metric", "test", "frequency")
    rate = np.arange(16).reshape(4, 2, 2) / 15
    return made.assign(
        decrease_accuracy=(by_test, accuracy),
        decrease_accuracy_low=(by_test, accuracy - 0.02),
        decrease_accuracy_high=(by_test, np.minimum(accuracy + 0.02, 1)),
        published=(by_test, published),
        verdict=texts(by_test, verdict),
        difference=texts(by_test, difference),
        passed=texts(("metric",), ["fails", "passes", "undecided", "passes"]),
        decrease_rate=(by_frequency, rate),
        score_change=(by_frequency, -rate / 2),
        undefined_share=(by_frequency, rate / 10),
        seed_accuracy=((*by_test, "seed"), np.stack([accuracy, accuracy], axis=-1)),
        n_neurons=(("form", "test"), [[0, 0], [7, 7], [0, 7]] if real else np.zeros((3, 2), int)),
        n_passing=2,
        n_failing=1,
        n_undecided=1,
        epsilon=0.001,
        required=0.9,
        n_draws=1000,
        variant="kept 0.5, extra 2",
    )


def identification(shift: float = 0.0) -> xr.Dataset:
    """Return four metrics on three neurons in two splits; a shift lets cosine fail."""
    random = np.random.default_rng(0)
    coords = {
        "metric": np.array(METRICS, dtype=object),
        "seed": [0, 1],
        "neuron": [3, 5, 8],
    }
    made = filled(schemas.IDENTIFICATION, coords)
    split = np.array([[0.3, 0.5], [0.8, 0.9], [0.6, 0.6], [0.98, 1.0]])
    split[3] -= 0.9 if shift else 0
    alpha = np.array([[0.1, 0.1], [0.02, 0.05], [np.nan, np.nan], [np.nan, np.nan]])
    best = np.array([["a", "b", "c", "c"], ["b", "b", "b", "b"], ["", "c", "c", "c"]])
    mean = split.mean(axis=1)
    return made.assign(
        split_auprc=(("metric", "seed"), split),
        split_rank=(("metric", "seed"), split.argsort(axis=0).argsort(axis=0) + 1.0),
        validation_auprc=(("metric", "seed"), random.random((4, 2))),
        alpha=(("metric", "seed"), alpha),
        lam=(("metric", "seed"), np.full((4, 2), np.nan)),
        auprc=("metric", mean),
        auprc_low=("metric", mean - 0.05),
        auprc_high=("metric", np.minimum(mean + 0.05, 1)),
        published=("metric", [np.nan, 0.7, np.nan, 0.9]),
        name=texts(("neuron",), ["three", "<b>five</b>", "eight"]),
        right_concept=texts(("neuron",), ["a", "b", "c"]),
        best_concept=texts(("neuron", "metric"), best),
        right_rank=(("neuron", "metric"), [[1, 2, 9, 4], [1, 1, 1, 1], [np.nan, 1, 1, 1]]),
        n_neurons=3,
        n_choosing=1,
        n_concepts=12,
        n_inputs=100,
        best_auprc=mean.max(),
        shift=shift,
        confidence=0.95,
    )


def comparison() -> xr.Dataset:
    """Return the published cells of two metrics beside ours: one is explained, one is open."""
    ours = identification()
    theirs = ours.assign(auprc=("metric", [0.1, 0.7, 0.1, 0.2]))
    return filled(schemas.COMPARISON, {"cell": ["iou", "cosine"]}).assign(
        compare_cells(ours, theirs)
    )


def consistency(n_concepts: int = CONCEPTS, n_classes: int = 1, score: float = 0.5) -> xr.Dataset:
    """Return scores around a mean; the last concept has none, the one before too few images."""
    random = np.random.default_rng(1)
    edges = np.linspace(-1, 1, 11)
    scores = np.clip(score + random.normal(0, 0.1, n_concepts), -1, 1)
    scores[-1] = np.nan
    images = np.full(n_concepts, 10)
    images[-2:] = [3, 1]
    counted = scores[:-2]
    shares = np.histogram(counted, bins=edges)[0] / len(counted)
    coords = {
        "concept": np.arange(n_concepts),
        "baseline_class": np.arange(n_classes),
        "bin": edges[:-1],
    }
    baseline = np.linspace(0, 0.2, n_classes)
    return filled(schemas.CONSISTENCY, coords).assign(
        score=("concept", scores),
        n_images=("concept", images),
        pixels=("concept", random.integers(1, 400, n_concepts).astype(float)),
        baseline_score=("baseline_class", baseline),
        share=("bin", shares),
        mean_score=counted.mean(),
        baseline=baseline.mean(),
        difference=counted.mean() - baseline.mean(),
        n_scored=len(counted),
        n_few_images=1,
        least_images=5,
        centred=1,
        variant="toy, centred",
    )


def intervention(n_images: int = 20, labelled: bool = True) -> xr.Dataset:
    """Return curves by two orders, and changes that are one and a half times what was promised."""
    random = np.random.default_rng(2)
    coords = {
        "image": np.array([f"test/{place:05d}" for place in range(n_images)], dtype=object),
        "curve": ["deletion", "insertion"],
        "order": ["contribution", "random"],
        "step": np.arange(3),
        "rank": np.arange(2),
        "quantile": [0.25, 0.75],
    }
    made = filled(fact_schemas.INTERVENTION, coords)
    curve = np.array([[[1, 0.1, 0], [1, 0.5, 0]], [[0, 0.9, 1], [0, 0.5, 1]]])
    area = (curve[..., 0] / 2 + curve[..., 1] + curve[..., 2] / 2) / 2
    named = {}
    for name in ("logit", "probability", "accuracy"):
        known = 1.0 if labelled or name != "accuracy" else np.nan
        for end, apart in (("", 0.0), ("_low", -0.05), ("_high", 0.05)):
            named[f"{name}{end}"] = (("curve", "order", "step"), known * (curve + apart))
            named[f"{name}_area{end}"] = (("curve", "order"), known * (area + apart))
    promised = -random.gamma(1.0, 1.0, (n_images, 2))
    promised[0, 1] = np.nan
    return made.assign(named).assign(
        exact=True,
        share=("step", [0.0, 0.5, 1.0]),
        promised_logit=(("curve", "order", "step"), curve * 0.8),
        removed=(("image", "rank"), np.where(np.isnan(promised), -1, 4)),
        promised_change=(("image", "rank"), promised),
        measured_change=(("image", "rank"), 1.5 * promised),
        error_quantile=("quantile", [-1.0, -0.1]),
        correlation=1.0,
        correlation_low=0.9,
        correlation_high=1.0,
        slope=1.5,
        slope_low=1.4,
        slope_high=1.6,
        relative_error=0.5,
        n_images=n_images,
        scale=0.0,
    )


def fidelity(n_concepts: int = CONCEPTS, l0: float = 8.0, defined: bool = True) -> xr.Dataset:
    """Return what concepts recover, by which the first is dead and the last two dense."""
    coords = {
        "image": np.array([f"test/{place:05d}" for place in range(6)], dtype=object),
        "case": np.array(["network", "spliced", "ablated"], dtype=object),
        "concept": np.arange(n_concepts),
    }
    density = np.geomspace(1e-4, 0.5, n_concepts)
    density[0] = 0
    recovered = 0.9 if defined else np.nan
    made = filled(fact_schemas.FIDELITY, coords).assign(
        position_density=("concept", density),
        image_density=("concept", np.sqrt(density)),
        kl=0.05,
        ablated_kl=0.5 if defined else 0.0,
        network_ce=0.3,
        ce=0.35,
        ablated_ce=0.8 if defined else 0.2,
        kl_recovered=recovered,
        kl_recovered_low=recovered - 0.05,
        kl_recovered_high=recovered + 0.05,
        ce_recovered=recovered,
        ce_recovered_low=recovered - 0.1,
        ce_recovered_high=recovered + 0.1,
        network_accuracy=0.9,
        accuracy=0.875,
        ablated_accuracy=0.1,
        l0=l0,
        dead_concepts=1,
        dense_concepts=int((density > 0.1).sum()),
        n_concepts=n_concepts,
        n_positions=100_000,
        n_images=6,
        n_labelled=6,
        n_omitted=3,
        n_fitted=0,
        ablation="zero",
    )
    return made if defined else made.assign_attrs(undefined_fractions="Not defined, since.")


def matching(share: float = 0.5, n_concepts: int = CONCEPTS) -> xr.Dataset:
    """Return matches of concepts by both bases; the first has none."""
    coords = {
        "concept": np.arange(n_concepts),
        "basis": ["decoder", "presence"],
        "threshold": [0.5, 0.9],
    }
    at = ("basis", "threshold")
    shares = np.array([[share, share / 2], [share, share / 4]])
    similarity = np.linspace(-0.2, 1, 2 * n_concepts).reshape(n_concepts, 2)
    match = np.stack([np.arange(n_concepts) - 1] * 2, axis=1)
    return filled(schemas.MATCHING, coords).assign(
        match=(("concept", "basis"), match),
        similarity=(("concept", "basis"), similarity),
        nearest=(("concept", "basis"), np.zeros_like(match)),
        nearest_similarity=(("concept", "basis"), similarity),
        mutual=(("concept", "basis"), match == 0),
        matched_share=(at, shares),
        matched_share_low=(at, shares - 0.1),
        matched_share_high=(at, shares + 0.1),
        null_matched_share=(at, np.zeros_like(shares)),
        mutual_share=("basis", [0.25, 0.75]),
        same_match_share=np.nan,
        n_one=n_concepts,
        n_other=n_concepts,
        n_alive_one=n_concepts - 1,
        n_alive_other=n_concepts,
    )


def localisation(n_concepts: int = CONCEPTS) -> xr.Dataset:
    """Return lifts that fall from concept to concept; the last two are open, the last unnamed."""
    coords = {
        "concept": np.arange(n_concepts),
        "measure": ["pointing", "energy", "iou"],
        "rank": np.arange(2),
    }
    made = filled(schemas.LOCALISATION, coords)
    by = ("concept", "measure")
    score = np.linspace(0.9, 0.1, n_concepts)[:, None] * np.array([1, 0.8, 0.5])
    chance = np.full_like(score, 0.3)
    low, high = score - 0.1, score + 0.1
    low[-2:] = high[-2:] = np.nan
    score[-1] = np.nan
    lift = score - chance
    names = [f"shape: {place}" for place in range(n_concepts - 1)] + [""]
    top = np.array([[[name, "other"]] * 3 for name in names], dtype=object)
    return made.assign(
        name=texts(("concept",), names),
        n_images=("concept", np.full(n_concepts, 8)),
        n_shown=("concept", np.arange(n_concepts)[::-1]),
        score=(by, score),
        interval_low=(by, low),
        interval_high=(by, high),
        chance=(by, chance),
        elsewhere=(by, chance + 0.05),
        lift=(by, lift),
        lift_low=(by, low - chance),
        lift_high=(by, high - chance),
        top_label=(("concept", "measure", "rank"), top),
        n_named=n_concepts - 1,
        n_judged=n_concepts - 2,
    )


def scores(n_neurons: int = 5, n_concepts: int = 4) -> xr.Dataset:
    """Return random scores by three metrics; the last neuron has none, one metric has no bounds."""
    random = np.random.default_rng(3)
    coords = {
        "neuron": np.arange(n_neurons) * 2,
        "metric": np.array(METRICS[:3], dtype=object),
        "concept": np.array([f"label: {place}" for place in range(n_concepts)], dtype=object),
    }
    values = random.random((n_neurons, 3, n_concepts))
    values[-1] = np.nan
    undefined = np.isnan(values).sum(axis=2)
    return filled(schemas.SCORES, coords).assign(
        score=(("neuron", "metric", "concept"), values),
        undefined=(("neuron", "metric"), undefined),
        labelled_share=("concept", np.linspace(0.1, 0.4, n_concepts)),
        lower=("metric", [0.0, 0.0, np.nan]),
        upper=("metric", [1.0, 1.0, np.nan]),
        n_inputs=100,
        undefined_share=1 / n_neurons,
    )


def outputs() -> list[tuple[str, xr.Dataset]]:
    """Return the datasets of a project, each with the cell that makes it."""
    sweep = [
        (f"toy-matching[k={k},seed={seed}]", matching((k + 2 * seed) / 32))
        for k in (8, 16)
        for seed in (0, 1)
    ]
    return [
        ("toy-concepts", fabricate.concepts()),
        ("toy-names", fabricate.names()),
        ("toy-sanity", sanity()),
        ("toy-identify", identification()),
        ("toy-identify-shifted", identification(1.0)),
        ("toy-comparison", comparison()),
        ("toy-consistency", consistency()),
        ("toy-intervention", intervention()),
        *sweep,
        *(
            (f"toy-fidelity[k={k},seed={seed}]", fidelity(l0=float(k - seed)))
            for k in (8, 16)
            for seed in (0, 1)
        ),
        ("toy-localisation", localisation()),
        ("toy-scores", scores()),
    ]


def made(folder: Path) -> Project:
    """Declare a project and store all of its results."""
    project = fabricate.declare(folder, DECLARATION)
    for minute, (cell, dataset) in enumerate(outputs()):
        schema = load_stage(project.cell(cell).stage).output
        store(project, cell, dataset, schema, run_uid(cell, minute))
    return project
