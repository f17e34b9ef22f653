"""A stranger's metric, one function, in everything that walks the table of metrics."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from click.testing import CliRunner

import evals
from dashboards.views.concepts.labels import label_frame
from evals.commands import metrics
from evals.metrics import table
from evals.naming.naming import NamingOptions
from registry.execute.schedule import run_plan
from registry.mongo.database import URL_VARIABLE
from registry.plan import sources
from registry.plan.project import open_project
from registry.record.states import State

NAME = "stranger_gap"
SOURCE = Path(__file__).parents[2]
N_INPUTS, N_NEURONS, N_LABELS = 200, 6, 8
DECLARATION = """
[project]
plugins = ["tests.evals.stranger"]

[datasets.neurons]
kind = "array-file"
path = "neurons.nc"

[datasets.attributes]
kind = "array-file"
path = "attributes.nc"

[experiments.logits]
stage = "fact.import_activations"
needs = { arrays = "neurons" }
config = { known = "name" }

[experiments.labels]
stage = "fact.import_labels"
needs = { arrays = "attributes" }

[experiments.scores]
stage = "evals.score_explanations"
needs = { activations = "logits", labels = "labels" }

[experiments.identification]
stage = "evals.identify_neurons"
needs = { activations = "logits", labels = "labels" }
config = { n_splits = 2 }

[experiments.sanity]
stage = "evals.test_metrics"
needs = { activations = "logits", labels = "labels" }
config = { n_inputs = 2000, frequencies = [0.1] }

[experiments.names]
stage = "evals.name_concepts"
needs = { activations = "logits", labels = "labels", sanity = "sanity" }
config = { n_bootstrap = 3, n_permutations = 19 }
"""


def make_arrays() -> tuple[xr.DataArray, xr.DataArray]:
    """Neurons called as the label that each of them detects."""
    rng = np.random.default_rng(0)
    labels = rng.random((N_INPUTS, N_LABELS)) < np.linspace(0.2, 0.6, N_LABELS)
    neurons = labels[:, :N_NEURONS] + 0.3 * rng.normal(size=(N_INPUTS, N_NEURONS))
    ids = {"input": [f"test/{i:05d}" for i in range(N_INPUTS)]}
    names = [f"attribute {m}" for m in range(N_LABELS)]
    return (
        xr.DataArray(neurons, dims=("input", "neuron"), coords=ids),
        xr.DataArray(
            labels.astype(float), dims=("input", "concept"), coords={**ids, "concept": names}
        ),
    )


NEURONS, LABELS = make_arrays()
RIGHT = np.arange(N_NEURONS)


@pytest.fixture
def stranger(monkeypatch):
    """The metric, and a table that forgets it again."""
    monkeypatch.setattr(table, "_TABLE", dict(evals.list_metrics()))
    from tests.evals.stranger import stranger_gap  # registers it, if nothing did so before

    table._TABLE[NAME] = stranger_gap
    return stranger_gap


def expected() -> np.ndarray:
    gaps = []
    for neuron in NEURONS.values.T:
        active = neuron > np.median(neuron)
        gaps.append(LABELS.values[active].mean(axis=0) - LABELS.values.mean(axis=0))
    return np.array(gaps)


@pytest.mark.usefixtures("stranger")
def test_in_the_library():
    np.testing.assert_allclose(evals.score(NAME, NEURONS, LABELS), expected(), rtol=1e-12)
    together = evals.score_matrix(NEURONS, LABELS, alphas=[0.1], block_size=2, workers=2)
    np.testing.assert_allclose(together[NAME], expected(), rtol=1e-12)
    chosen = evals.choose_parameters(NEURONS, LABELS, RIGHT, [NAME, "iou"])
    assert chosen.alpha.isnull().values.tolist() == [True, False]
    assert chosen.auprc.sel(metric=NAME) == evals.identification_auprc(expected(), RIGHT)
    found = evals.identify(NEURONS, LABELS, RIGHT, [NAME])
    assert found.auprc.notnull().all()
    options = NamingOptions(n_bootstrap=3, n_permutations=19)
    named = evals.choose_names(NEURONS, LABELS, [NAME], options)
    assert (named.name[:, 0] == LABELS.concept.values[:N_NEURONS]).all()
    assert named.interval_low.notnull().all()
    tested = evals.theoretical_sanity([NAME], frequencies=[0.1], n_inputs=1000, simulated_draws=20)
    assert tested.decrease_accuracy.notnull().all()
    assert evals.examine(NAME) == []


@pytest.mark.usefixtures("stranger")
def test_in_the_command(monkeypatch, tmp_path):
    monkeypatch.delenv("FACTBOOK_PROJECT", raising=False)
    monkeypatch.chdir(tmp_path)
    told = CliRunner().invoke(metrics, [NAME]).output
    assert "Mean label at the larger half of activations" in told
    assert NAME in CliRunner().invoke(metrics, []).output


def write_project(root: Path) -> None:
    (root / "experiments.toml").write_text(DECLARATION)
    neurons = NEURONS.assign_coords(
        neuron=[str(name) for name in LABELS.concept[:N_NEURONS].values]
    )
    neurons.to_dataset(name="activation").to_netcdf(root / "neurons.nc", engine="h5netcdf")
    LABELS.to_dataset(name="value").to_netcdf(root / "attributes.nc", engine="h5netcdf")


@pytest.mark.slow
def test_in_a_project_that_names_it(monkeypatch, tmp_path, stranger):
    """Every stage: scores in a worker process that loads the project's plug-ins by itself."""
    monkeypatch.setenv("PYTHONPATH", str(SOURCE))
    monkeypatch.setenv(URL_VARIABLE, "off")
    monkeypatch.chdir(tmp_path)
    write_project(tmp_path)
    project = open_project(tmp_path)
    outcomes = run_plan(project, project.plan(["scores"]), journal_only=True)
    outcomes += run_plan(project, project.plan(), journal_only=True, runner="here")
    assert [outcome.message for outcome in outcomes if outcome.ending != State.COMPLETED] == []
    assert len(outcomes) == 6
    for name in ("scores", "identification", "sanity", "names"):
        [path] = (tmp_path / "artifacts" / name).glob("*/current")
        with xr.open_dataset(path, engine="factbook") as dataset:
            assert NAME in dataset.metric.values, name
            if name == "names":
                assert NAME in label_frame(dataset, 0)["metric"].tolist()  # of the dashboard


PLUGIN = """
import evals
from .parts import gap

@evals.metric("project_gap", source="a project")
def project_gap(activations, labels):
    return gap(activations, labels)
"""
PARTS = "def gap(activations, labels):\n    return {factor} * (activations.T @ labels)\n"


def forget_code() -> None:
    for cached in (sources.stage_sources, sources.sources_hash, sources.code_of):
        cached.cache_clear()
    sources._known_texts.cache_clear()


@pytest.mark.usefixtures("stranger")  # for a table that forgets
@pytest.mark.slow
def test_a_change_of_a_projects_metric_is_noticed_where_it_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    package = tmp_path / f"gap{abs(hash(tmp_path))}"
    package.mkdir()
    write_project(tmp_path)
    (package / "plugin.py").write_text(PLUGIN)
    (package / "parts.py").write_text(PARTS.format(factor=1))
    declared, _, _ = DECLARATION.partition("[experiments.scores]")
    declared = declared.replace("tests.evals.stranger", f"{package.name}.plugin")
    for name, named in (("one", ["iou"]), ("two", ["iou", "project_gap"])):
        declared += (
            f'[experiments.{name}]\nstage = "evals.score_explanations"\n'
            f'needs = {{ activations = "logits", labels = "labels" }}\n'
            f"config = {{ metrics = {named} }}\n"
        )
    (tmp_path / "experiments.toml").write_text(declared)
    project = open_project(tmp_path)
    forget_code()
    outcomes = run_plan(project, project.plan(), runner="here", journal_only=True)
    assert {outcome.ending for outcome in outcomes} == {State.COMPLETED}
    assert not [task.notes for task in project.plan().tasks if task.notes]
    (package / "parts.py").write_text(PARTS.format(factor=22))
    forget_code()
    noted = {task.name: task.notes for task in project.plan().tasks if task.notes}
    assert noted.keys() == {"two"}
    assert noted["two"][0].startswith("the code of evals.score_explanations changed since run")
    assert [task.name for task in project.plan(rerun_changed_code=True).due] == ["two"]
    forget_code()


@pytest.mark.slow
def test_in_an_installed_package(tmp_path):
    """Found by its entry point, by who has never heard of it."""
    (tmp_path / "gap_metric.py").write_text("from tests.evals import stranger  # noqa: F401\n")
    told = tmp_path / "gap_metric-1.0.dist-info"
    told.mkdir()
    (told / "METADATA").write_text("Metadata-Version: 2.1\nName: gap-metric\nVersion: 1.0\n")
    (told / "entry_points.txt").write_text("[factbook.plugins]\ngap = gap_metric\n")
    code = f"""
import evals
from evals.metrics import table
from registry.cli import main
assert "{NAME}" not in table._TABLE
assert evals.find_metric("{NAME}").bounds == (-1, 1)
assert "{NAME}" in evals.list_metrics()
main(["metrics", "{NAME}", "--check"])
"""
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{SOURCE}"}
    environment.pop("FACTBOOK_PROJECT", None)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{NAME}: no faults\n"
