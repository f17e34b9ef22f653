"""Stages through Sacred's own command line, and what is recorded of them."""

from __future__ import annotations

import json
import logging
import math
import os
import shutil
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import pymongo
import pytest

from registry.catalog.access import open_catalog
from registry.declare.stage import load_stage
from registry.execute.experiment import StageExperiment, command_line, sacred_name
from registry.execute.runner import EXIT_NOT_RECORDED
from registry.mongo.database import URL_VARIABLE, connect
from registry.mongo.projector import Projector, sync
from registry.plan.project import open_project
from registry.record.journal import journal_root, journal_uids, read_journal
from registry.store.datasets import Written, open_dataset
from tests import forked
from tests.registry.conftest import Lab
from tests.registry.lab.project import write_project

SCALE, AVERAGE, COLLECT = (f"tests.registry.lab.{name}" for name in ("scale", "average", "collect"))


def typed(stage: str, *words: str) -> Any:
    """Run a stage's command line; return its exit status, or the message that it ends with."""
    with pytest.raises(SystemExit) as end:
        command_line(load_stage(stage), [stage, *words])
    return end.value.code or 0


def begun(root: Path, stage: str, *words: str, status: int = 0) -> str:
    """Run a stage's command line; return the identifier of the run that it began."""
    before = journal_uids(root)
    assert typed(stage, *words) == status
    [uid] = set(journal_uids(root)) - set(before)
    return uid


@pytest.fixture
def runs(lab: Lab) -> Any:
    """The collection of runs, as any client sees it."""
    client: pymongo.MongoClient[dict[str, Any]] = pymongo.MongoClient(lab.url)
    yield client.get_default_database().runs
    client.close()


def by_uid(runs: Any, uid: str) -> dict[str, Any]:
    found = runs.find_one({"info.factbook.uid": uid})
    assert found is not None
    return dict(found)


def flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(value, dict):
        return {prefix: value}
    entries = [flat(item, f"{prefix}.{key}".lstrip(".")) for key, item in value.items()]
    return {key: item for entry in entries for key, item in entry.items()}


OF_THE_RUN = {
    "_id",
    "start_time",
    "stop_time",
    "heartbeat",
    "info.metrics",
    "info.factbook.uid",
    "info.factbook.create_time",
    "info.factbook.pid",
    "info.factbook.output.path",
    "info.factbook.journal_bytes",
}
"""What differs between two runs of the same task."""


def test_what_is_typed_is_recorded_as_what_factbook_runs(lab: Lab, runs: Any) -> None:
    uid = begun(lab.root, SCALE, "with", "twice")
    ours = flat(by_uid(runs, lab.outcomes["twice"].uid or ""))
    theirs = flat(by_uid(runs, uid))
    only_typed = {"meta.options.with", "meta.options.UPDATE", "meta.options.help"}
    assert theirs.keys() - ours.keys() == only_typed | {"meta.options.COMMAND"}
    assert ours.keys() <= theirs.keys()
    assert {key for key in ours if ours[key] != theirs[key]} <= OF_THE_RUN


def test_the_record_says_what_was_run_with_what_on_what(lab: Lab, runs: Any) -> None:
    query = {"info.factbook.experiment": "mean", "status": "COMPLETED"}
    record = runs.find_one(query)
    facts = record["info"]["factbook"]
    project, scaled = lab.project, lab.outcomes["twice"].uid
    known = project.fingerprints(project.graph, "mean")
    folder = project.store.state("twice", known["twice"]).folder
    manifest = json.loads((folder / "manifest.json").read_text())
    assert facts["cell"] == "mean"
    assert facts["stage"] == record["experiment"]["name"] == AVERAGE
    assert facts["fingerprint"] == known["mean"]
    assert facts["overrides"] == {}
    assert facts["inputs"]["scaled"] == {
        "name": "twice",
        "kind": "scaled",
        "fingerprint": known["twice"],
        "run": scaled,
        "content": manifest["content"],
    }
    assert facts["output"]["schema"] == "averaged"
    assert (lab.root / facts["output"]["path"] / "dataset.nc").is_file()
    with open_dataset(lab.root / facts["output"]["path"]) as dataset:
        assert dataset.attrs["content"] == facts["output"]["content"]
        assert record["result"] == {"mean": float(dataset["mean"])}
    assert facts["packages"]["numpy"]
    assert facts["package_hashes"].keys() == facts["packages"].keys()
    assert (len(facts["sources"]), facts["pid"]) == (16, os.getpid())
    assert {"host", "boot", "create_time", "commit", "project"} <= facts.keys()
    assert record["config"] == {
        "offset": 0.0,
        "seed": 0,
        "experiment": "mean",
        "needs": {"scaled": "twice"},
    }
    assert [name for name, _ in record["experiment"]["sources"]] == ["lab/average.py"]


def test_curves_are_where_sacred_keeps_them(lab: Lab, runs: Any) -> None:
    record = by_uid(runs, lab.outcomes["twice"].uid or "")
    [curve] = runs.database.metrics.find({"run_id": record["_id"]})
    assert (curve["name"], curve["steps"]) == ("training.loss", [0, 1, 2])
    assert record["info"]["metrics"] == [{"name": "training.loss", "id": str(curve["_id"])}]


def test_running_what_is_complete_is_a_run_with_a_dataset_of_its_own(lab: Lab, runs: Any) -> None:
    uids = [begun(lab.root, SCALE, "with", "twice") for _ in range(2)]
    first, second = (by_uid(runs, uid)["info"]["factbook"] for uid in uids)
    assert first["fingerprint"] == second["fingerprint"]
    assert first["output"]["path"] != second["output"]["path"]
    for facts in (first, second):
        assert (lab.root / facts["output"]["path"] / "dataset.nc").is_file()
    assert lab.project.current("twice").name == second["uid"]


def test_what_is_overridden_is_recorded_and_leaves_the_declared_task_alone(
    lab: Lab, runs: Any
) -> None:
    before = lab.project.current("twice")
    uid = begun(lab.root, SCALE, "with", "twice", "factor=3.0")
    facts = by_uid(runs, uid)["info"]["factbook"]
    assert facts["experiment"] == facts["cell"] == "twice"
    assert facts["overrides"] == {"factor": 3.0}
    known = lab.project.fingerprints(lab.project.graph, "twice")
    assert facts["fingerprint"] != known["twice"]
    assert lab.project.current("twice") == before
    with open_dataset(lab.root / facts["output"]["path"]) as dataset:
        assert dataset["value"].values.tolist() == [3, 6, 10.5]


def test_what_cannot_change_the_result_is_taken_and_recorded(lab: Lab, runs: Any) -> None:
    uid = begun(lab.root, SCALE, "with", "twice", "then=attach")
    record = by_uid(runs, uid)
    facts = record["info"]["factbook"]
    assert facts["overrides"] == {"then": "attach"}
    assert record["config"]["then"] == "attach"
    assert facts["fingerprint"] == lab.project.fingerprints(lab.project.graph, "twice")["twice"]
    assert (lab.root / facts["output"]["path"] / "notes" / "hello.txt").read_text() == "hello"


@pytest.mark.parametrize(
    "words",
    [("sweep[factor=2.0,seed=1]",), ("sweep", "factor=2.0", "seed=1"), ("sweep[seed=1,factor=2]",)],
)
def test_a_cell_is_named_or_described(lab: Lab, runs: Any, words: tuple[str, ...]) -> None:
    cell = "sweep[factor=2.0,seed=1]"
    uid = begun(lab.root, SCALE, "with", *words)
    facts = by_uid(runs, uid)["info"]["factbook"]
    assert (facts["cell"], facts["experiment"], facts["overrides"]) == (cell, "sweep", {})
    assert facts["fingerprint"] == lab.project.fingerprints(lab.project.graph, cell)[cell]


def test_what_rests_on_a_sweep_is_named_by_cell_or_by_what_it_needs(lab: Lab, runs: Any) -> None:
    cell = "sweep-mean[factor=1.0,seed=1]"
    known = lab.project.fingerprints(lab.project.graph, cell)[cell]
    for words in ((cell,), ("sweep-mean", "needs.scaled=sweep[factor=1.0,seed=1]")):
        uid = begun(lab.root, AVERAGE, "with", *words)
        assert by_uid(runs, uid)["info"]["factbook"]["fingerprint"] == known


def test_a_stage_reads_all_that_fills_a_list(
    lab: Lab, runs: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = shutil.copytree(lab.root, tmp_path / "copy", symlinks=True)
    monkeypatch.chdir(root)
    cells = ["twice", "sweep[factor=1.0,seed=0]"]
    more = f"""
[experiments.both]
stage = "{AVERAGE}"
needs = {{ scaled = {json.dumps(cells)} }}
"""
    write_project(root, more)
    for cell in cells:
        begun(root, SCALE, "with", cell)
    with open_catalog(root, "off") as catalog:
        values = [catalog.dataset(cell)["value"].mean() for cell in cells]
    for words in (("both",), ("both", f"needs.scaled_2={cells[0]}")):
        uid = begun(root, AVERAGE, "with", *words)
        found = by_uid(runs, uid)
        needs = found["config"]["needs"]
        second = cells[0 if words[1:] else 1]
        assert needs == {"scaled": cells[0], "scaled_2": second}
        mean = (values[0] + values[cells.index(second)]) / 2
        assert found["result"]["mean"] == pytest.approx(float(mean))


def test_an_experiment_that_is_not_declared_can_be_typed(lab: Lab, runs: Any) -> None:
    uid = begun(lab.root, SCALE, "with", "needs.numbers=few", "factor=5.0")
    facts = by_uid(runs, uid)["info"]["factbook"]
    assert (facts["experiment"], facts["overrides"]) == ("scale", {})


SWEEP = "'sweep' means 4 cells; name one of\n  sweep[factor=1.0,seed=0]\n"


@pytest.mark.parametrize(
    ("stage", "words", "message"),
    [
        (SCALE, "twice factr=3", "unknown key 'factr'; did you mean 'factor'?"),
        (SCALE, "twice factr=3 seed=a", "seed: Input should be a valid integer; got 'a'"),
        (SCALE, "twice factor=abc", "factor: Input should be a valid number; got 'abc'"),
        (SCALE, "twice factor=None", "factor: Input should be a valid number; got None"),
        (SCALE, "twice factor.x=1", "factor: Input should be a valid number"),
        (SCALE, "twice needs.numbers=fex", "needs.numbers: unknown dataset, network or experiment"),
        (SCALE, "twice needs.nombers=few", "no such slot; did you mean 'numbers'?"),
        (SCALE, "twice needs.numbers=mean", "slot 'numbers' wants 'numbers'; 'mean' provides"),
        (SCALE, "twise", "unknown experiment 'twise'; did you mean 'twice'?"),
        (SCALE, "mean", f"'mean' is made by {AVERAGE}; python -m {AVERAGE} with mean"),
        (SCALE, "sweep", SWEEP),
        (SCALE, "sweep factor=2.0", SWEEP),
        (SCALE, "sweep[factor=2.0]", "means 2 cells; name one of\n  sweep[factor=2.0,seed=0]"),
        (SCALE, "sweep[factor=3.0]", "no cell with factor=3.0; expected one of 1.0, 2.0"),
        (SCALE, "", "needs.numbers: not given"),
        (AVERAGE, "sweep-mean", "'sweep-mean' means 4 cells"),
        (AVERAGE, "mean seed=4", "seed: tests.registry.lab.average draws nothing"),
        (COLLECT, "nothing", f"unknown experiment 'nothing'; none is made by {COLLECT}"),
    ],
)
def test_what_is_wrong_is_told_and_nothing_begins(
    lab: Lab, stage: str, words: str, message: str
) -> None:
    before = journal_uids(lab.root)
    told = typed(stage, *(["with", *words.split()] if words else []))
    assert message in told
    assert "experiments.toml" not in told  # the fault is in what was typed
    assert journal_uids(lab.root) == before


def test_inputs_that_are_missing_are_told_with_the_command_that_makes_them(fresh: Path) -> None:
    assert typed(AVERAGE, "with", "mean") == (
        "scaled: 'twice' has no dataset here as it is declared now; factbook run twice"
    )
    assert journal_uids(fresh) == []
    assert not (fresh / "artifacts").exists()


def test_help_has_the_keys_and_the_inputs(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    assert typed(SCALE, "--help") == 0
    told = capsys.readouterr().out
    assert f"\n  python -m {SCALE} [(with UPDATE...)] [options]" in told
    assert "Multiply numbers by a factor" in told
    assert "factor: 'float' = 2.0" in told
    assert "needs.numbers: numbers" in told
    assert "--journal-only" in told


def test_the_configuration_is_printed_and_not_recorded(
    lab: Lab, capsys: pytest.CaptureFixture[str]
) -> None:
    before = journal_uids(lab.root)
    assert typed(SCALE, "print_config", "with", "sweep[factor=2.0,seed=1]") == 0
    told = capsys.readouterr().out
    for line in ("factor = 2.0", "noise = 0.1", "experiment = 'sweep'", "numbers = 'few'"):
        assert line in told
    assert journal_uids(lab.root) == before


def test_unobserved_runs_leave_nothing_behind_but_their_dataset(
    lab: Lab,
    runs: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    before = journal_uids(lab.root), runs.count_documents({}), lab.project.current("twice")
    assert typed(SCALE, "-u", "with", "twice") == 0
    folder = Path(capsys.readouterr().out.partition("the dataset is in ")[2].split("\n")[0])
    with open_dataset(folder) as dataset:
        assert dataset["value"].values.tolist() == [2, 4, 7]
    assert lab.root not in folder.parents
    kept = set(tmp_path.iterdir())
    assert typed(SCALE, "-u", "with", "twice", "then=fail") == 1
    assert set(tmp_path.iterdir()) == kept
    after = journal_uids(lab.root), runs.count_documents({}), lab.project.current("twice")
    assert after == before


def test_a_failure_is_recorded_with_its_trace(
    lab: Lab, runs: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    uid = begun(lab.root, SCALE, "with", "twice", "factor=9.0", "then=fail", status=1)
    assert "RuntimeError: asked to fail" in capsys.readouterr().err
    record = by_uid(runs, uid)
    assert record["status"] == "FAILED"
    assert record["fail_trace"][-1] == "RuntimeError: asked to fail\n"
    assert "output" not in record["info"]["factbook"]


def test_a_record_may_stay_in_its_journal_until_it_is_asked_for(lab: Lab, runs: Any) -> None:
    uid = begun(lab.root, SCALE, "--journal-only", "with", "twice")
    assert read_journal(journal_root(lab.root) / uid).status == "COMPLETED"
    assert runs.find_one({"info.factbook.uid": uid}) is None
    database = connect(lab.root)
    assert database is not None
    assert [synced.uid for synced in sync(lab.root, database)] == [uid]
    database.close()
    assert by_uid(runs, uid)["status"] == "COMPLETED"


@pytest.mark.slow
def test_a_database_that_is_away_is_told_in_seconds_and_nothing_begins(
    fresh: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(URL_VARIABLE, "mongodb://somebody:s3cret@127.0.0.1:1/x")
    began = time.monotonic()
    told = typed(SCALE, "with", "twice")
    assert time.monotonic() - began < 10
    assert "mongodb://somebody:***@127.0.0.1:1/x" in told
    assert "s3cret" not in told
    assert journal_uids(fresh) == []
    assert not (fresh / "artifacts").exists()


def test_a_database_that_goes_away_costs_the_record_and_not_the_run(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def is_away(*_: Any) -> None:
        raise ConnectionError("gone")

    monkeypatch.setattr("registry.mongo.projector.store_journal", is_away)
    monkeypatch.setattr("registry.execute.experiment.Projector", partial(Projector, grace=1.0))
    uid = begun(lab.root, SCALE, "with", "twice", status=EXIT_NOT_RECORDED)
    assert "complete the record with: factbook sync" in capsys.readouterr().err
    assert lab.project.current("twice").name == uid


def test_what_keeps_a_runs_streams_speaks_in_the_runs_after_it(
    lab: Lab, runs: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A library that is imported within a run does, for its log."""
    kept: list[logging.Handler] = []
    logger = logging.Logger("library")

    def announce(run: StageExperiment, written: Written) -> None:
        if not kept:
            kept.extend(map(logging.StreamHandler, (sys.stdout, sys.stderr)))
            logger.handlers = kept
        logger.warning("from within")

    monkeypatch.setattr(StageExperiment, "_announce", announce)
    uids = [begun(lab.root, SCALE, "with", "twice") for _ in range(2)]
    for uid in uids:
        assert by_uid(runs, uid)["captured_out"].count("from within") == 2
    capsys.readouterr()
    logger.warning("after all")
    told = capsys.readouterr()
    assert (told.out, told.err) == ("after all\n", "after all\n")


def test_names_of_cells_survive_sacred() -> None:
    assert sacred_name("sweep[lr=0.1,seed=1]") == "sweep[lr:0_1,seed:1]"
    assert sacred_name("plain") == "plain"


def test_python_runs_a_stage_from_any_folder_of_the_project(lab: Lab, runs: Any) -> None:
    deep = lab.root / "deep" / "down"
    deep.mkdir(parents=True, exist_ok=True)
    before = journal_uids(lab.root)
    done = forked.run(SCALE, "with", "twice", folder=deep)
    assert done.returncode == 0, done.stderr
    [uid] = set(journal_uids(lab.root)) - set(before)
    facts = by_uid(runs, uid)["info"]["factbook"]
    assert facts["pid"] != os.getpid()
    assert facts["stage"] == SCALE  # not __main__
    assert open_project(lab.root).current("twice").name == facts["uid"]


OVERFLOWING = """
[datasets.huge]
kind = "numbers"
values = [1e308, -1e308]

[datasets.large]
kind = "numbers"
values = [1e308, 1e308]

[experiments.undefined]
stage = "tests.registry.lab.scale"
needs = { numbers = "huge" }
config = { factor = 100.0 }

[experiments.infinite]
stage = "tests.registry.lab.scale"
needs = { numbers = "large" }
config = { factor = 1.5 }
"""


@pytest.mark.filterwarnings("ignore:overflow", "ignore:invalid value")
def test_results_that_are_no_number_are_found_as_numbers(
    lab: Lab, runs: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """JSON has neither NaN nor infinity; MongoDB and what queries it do."""
    monkeypatch.chdir(write_project(tmp_path / "project", OVERFLOWING))
    nan, inf = float("nan"), float("inf")
    uid = begun(Path.cwd(), SCALE, "with", "undefined")
    other = begun(Path.cwd(), SCALE, "with", "infinite")
    for value, wanted in ((nan, uid), (inf, other), ({"$gt": 1e300}, other)):
        found = runs.find({"result.total": value}, {"info.factbook.uid": 1})
        assert [run["info"]["factbook"]["uid"] for run in found] == [wanted]
    assert runs.count_documents({"result.total": {"$type": "string"}}) == 0
    for url in (lab.url, "off"):
        with open_catalog(url=url) as catalog:
            view = catalog.run(uid)
            assert math.isnan(view.result["total"])
            assert view == catalog.run(uid)  # so that nobody takes it for another one
            assert [run.uid for run in catalog.runs(where="result.total=nan")] == [uid]
            assert other in [run.uid for run in catalog.runs(where="result.total>1e300")]
    manifest = open_project().current("undefined") / "manifest.json"
    json.loads(manifest.read_text(), parse_constant=pytest.fail)
