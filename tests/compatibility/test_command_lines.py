"""Every stage through Sacred's own command line: the same task, and the same record."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from registry.declare.stage import Stage, load_stage
from registry.execute.experiment import StageExperiment, command_line
from registry.execute.resolved import ResolvedTask
from registry.mongo.database import OFF, URL_VARIABLE
from registry.plan.project import Project, open_project
from registry.record.journal import Journal, journal_root, journal_uids, read_journal
from tests.compatibility.conftest import ROOT

HERE = Path(__file__).parent
SUITE = tomllib.loads((HERE / "suite" / "experiments.toml").read_text("utf-8"))
NOT_IN_SUITE = {
    "fact.score_labels",  # it needs the weights of an image-text model
    "fact.import_sae",  # these are younger than the suite
    "fact.measure_fidelity",
    "fact.bcosify_network",
    "fact.measure_pointing",
    "fact.collect_next_tokens",
    "fact.encode_images",
    "fact.train_probe",
    "fact.apply_probe",
    "evals.compare_published",
}
FORMERLY = {"evals.test_metrics": "evals.sanity_check"}
RUNS = {
    FORMERLY.get(entry["stage"], entry["stage"]): name
    for name, entry in reversed(SUITE["experiments"].items())
    if "matrix" not in entry and name not in ("failing", "interrupted", "killed")
} | {"evals.match_concepts": "sweep-matching[k=2]"}
"""A declared experiment of each stage."""
STAGES = sorted(
    f"{package}.{path.stem}"
    for package in ("fact", "evals")
    for path in (ROOT / package).glob("*.py")
    if "registry.run_module(" in path.read_text("utf-8") and path.stem != "test_metrics"
)


@pytest.fixture(scope="module")
def project(
    tmp_path_factory: pytest.TempPathFactory, unpacked: Callable[[Path], Path]
) -> Iterator[Project]:
    """The suite that commit cdf6b02 ran by ``factbook run``, with all its datasets."""
    root = unpacked(tmp_path_factory.mktemp("typed"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(URL_VARIABLE, OFF)
        patch.chdir(root)
        yield open_project(root)


def typed(stage: str, *words: str) -> None:
    """Run a stage's command line, which must end well."""
    with pytest.raises(SystemExit) as end:
        command_line(load_stage(stage), [stage, *words])
    assert not end.value.code, end.value.code


def journal_of(project: Project, uid: str) -> Journal:
    """Return a run's journal."""
    return read_journal(journal_root(project.root) / uid, with_metrics=False)


@pytest.fixture(scope="module")
def first_runs(project: Project) -> dict[str, Journal]:
    """The first journal of each cell that was left behind."""
    found = [journal_of(project, uid) for uid in journal_uids(project.root)]
    return {str(journal.facts.get("cell")): journal for journal in reversed(found)}


def test_every_stage_is_walked() -> None:
    assert set(STAGES) - NOT_IN_SUITE <= RUNS.keys()
    assert len(STAGES) == 35


@pytest.mark.slow
@pytest.mark.usefixtures("encoder_built_once")
@pytest.mark.parametrize("stage", sorted(RUNS))
def test_what_is_typed_is_the_task_that_factbook_ran(
    project: Project, first_runs: dict[str, Journal], stage: str
) -> None:
    name = RUNS[stage]
    then = first_runs[name]
    before = set(journal_uids(project.root))
    typed(stage, "with", name)
    [uid] = set(journal_uids(project.root)) - before
    now = journal_of(project, uid)
    assert now.status == then.status == "COMPLETED"
    assert now.facts["overrides"] == {}
    assert now.facts["fingerprint"] == project.fingerprints(project.graph, name)[name]
    for fact in ("fingerprint", "experiment", "cell", "stage", "stage_version"):
        assert FORMERLY.get(now.facts[fact], now.facts[fact]) == FORMERLY.get(
            then.facts[fact], then.facts[fact]
        )
    assert {slot: given["fingerprint"] for slot, given in now.facts["inputs"].items()} == {
        slot: given["fingerprint"] for slot, given in then.facts["inputs"].items()
    }
    assert now.facts["output"]["sizes"] == then.facts["output"]["sizes"]
    rules = load_stage(stage).settings.rules
    own = ("seed", "experiment", "needs")
    completed = rules.completed({k: v for k, v in then.config.items() if k not in own})
    assert {k: v for k, v in now.config.items() if k not in own} == completed
    for key in ("seed", "experiment"):
        assert now.config[key] == then.config[key]
    filled = {slot: name for slot, name in now.config["needs"].items() if name}
    assert filled == {slot: name for slot, name in then.config["needs"].items() if name}
    assert now.result.keys() >= then.result.keys()


class Prepared(Exception):
    """What a command line has come to, in place of the work."""

    def __init__(self, task: ResolvedTask | None):
        self.task = task


def prepared(stage: Stage, *words: str) -> ResolvedTask:
    """Return the task that a command line would run, unobserved."""

    def stop(run: StageExperiment, sacred_run: Any) -> Mapping[str, Any]:
        raise Prepared(run.task)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(StageExperiment, "work", stop)
        with pytest.raises(Prepared) as reached:
            command_line(stage, [stage.name, "-u", "--debug", "with", *words])
    assert reached.value.task is not None
    return reached.value.task


@pytest.mark.slow
@pytest.mark.parametrize("stage", sorted(RUNS))
def test_an_override_of_each_type_is_taken(project: Project, stage: str) -> None:
    loaded, name = load_stage(stage), RUNS[stage]
    config, of_type = project.cell(name).config, {}
    for key, value in config.items():
        of_type.setdefault(type(value), key)
    # As they are, typed: what Sacred makes of the texts are the very values, and no override.
    task = prepared(loaded, name, *(f"{key}={config[key]!r}" for key in of_type.values()))
    assert task.cell.config == config
    assert task.overrides == {}
    assert task.fingerprint == project.fingerprints(project.graph, name)[name]


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_prints_its_configuration(
    project: Project, stage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    typed(stage, "print_config", *(("with", RUNS[stage]) if stage in RUNS else ()))
    printed = capsys.readouterr().out
    for key in load_stage(stage).settings.keys:
        assert f"{key} = " in printed or f"{key}:" in printed
