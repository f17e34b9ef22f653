"""Readers of records and datasets: by the database, and by the journals alone."""

from __future__ import annotations

import secrets
import shutil
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, timedelta
from pathlib import Path
from typing import Any

import pytest

from registry.catalog.access import Catalog, UnknownRunError, open_catalog
from registry.catalog.conditions import QueryError
from registry.catalog.runs import RunView, is_run
from registry.declare.declared import SelectionError
from registry.declare.faults import DeclarationError
from registry.execute.schedule import run_plan
from registry.mongo.database import DatabaseError
from registry.plan.project import MissingInputsError, open_project
from registry.record.journal import journal_root
from registry.record.plain import decode_event, encode_event
from tests.registry.conftest import Lab
from tests.registry.lab.project import edit

SCALE = "tests.registry.lab.scale"


@pytest.fixture(params=["database", "journals"])
def catalog(lab: Lab, request: pytest.FixtureRequest) -> Iterator[Catalog]:
    with open_catalog(url=None if request.param == "database" else "off") as opened:
        assert (opened.database is None) == (request.param == "journals")
        yield opened


@pytest.fixture
def stored(lab: Lab) -> Iterator[Catalog]:
    with open_catalog() as opened:
        yield opened


def of_the_lab(catalog: Catalog, lab: Lab, **query: Any) -> list[RunView]:
    """Return those runs that the first plan made; other tests add more."""
    uids = {outcome.uid for outcome in lab.outcomes.values()}
    return [run for run in catalog.runs(**query) if run.uid in uids]


def test_runs_are_found_by_what_they_are(catalog: Catalog, lab: Lab) -> None:
    assert len(of_the_lab(catalog, lab)) == 10
    assert len(of_the_lab(catalog, lab, stage=SCALE)) == 5
    assert len(of_the_lab(catalog, lab, experiment="sweep")) == 4
    [cell] = of_the_lab(catalog, lab, experiment="sweep[factor=2.0,seed=1]")
    assert cell.uid == lab.outcomes["sweep[factor=2.0,seed=1]"].uid
    assert len(of_the_lab(catalog, lab, where={"config.factor": 2.0, "config.seed": 1})) == 1
    assert len(of_the_lab(catalog, lab, where={"config.seed": [0, 1]}, stage=SCALE)) == 5
    assert of_the_lab(catalog, lab, status="FAILED") == []
    assert of_the_lab(catalog, lab, experiment="nothing") == []


@pytest.mark.parametrize(
    ("where", "count"),
    [
        ("config.factor>=2", 3),
        ("config.factor>=2, config.seed=1", 1),
        ("config.factor=2.0", 3),
        ("config.factor=2", 3),
        ("config.factor!=2", 2),
        ("cell=sweep[factor=2.0,seed=1]", 1),
        ("experiment=sweep, result.total>6", 4),
        ("stage~average", 5),
        ("status=COMPLETED", 10),
        ("config.needs.numbers=few", 5),
        ("info.factbook.output.schema=scaled", 5),
        ("command=scale", 5),
        ("seconds>=0", 10),
        ("started>2026-01-01", 10),
        ("started>9999-01-01", 0),
        (f"config.seed={2**70}", 0),
        ("config.factor=nan", 0),
        (("config.factor>1", "config.seed<1"), 2),
        ("", 10),
    ],
)
def test_runs_are_compared(catalog: Catalog, lab: Lab, where: Any, count: int) -> None:
    assert len(of_the_lab(catalog, lab, where=where)) == count


def test_the_first_that_fulfil_comparisons_are_found(catalog: Catalog, lab: Lab) -> None:
    wanted = [run.uid for run in catalog.runs(where="config.seed=0")]
    assert [run.uid for run in catalog.runs(where="config.seed=0", limit=1)] == wanted[:1]
    assert [run.uid for run in catalog.runs(where="cell=twice", limit=1, sort="started")]
    assert catalog.runs(where="config.seed=0", limit=0) == []


def test_what_no_run_has_is_told(catalog: Catalog, lab: Lab) -> None:
    with pytest.raises(
        QueryError, match=r"no run has 'config\.facto'; did you mean 'config\.factor'"
    ):
        catalog.runs(where="config.facto>=2")
    for where in ("config.$factor=2", "config..factor=2", "$where=1"):
        with pytest.raises(ValueError, match=r"no run has|not a dotted key"):
            catalog.runs(where=where)


def test_runs_come_newest_first_or_as_asked(catalog: Catalog, lab: Lab) -> None:
    starts = [run.started for run in catalog.runs()]
    assert starts == sorted(starts, reverse=True)
    assert [run.started for run in catalog.runs(sort="started")] == starts[::-1]
    took = [run.seconds for run in catalog.runs(sort="-seconds", limit=2)]
    assert took == sorted((run.seconds or 0 for run in catalog.runs()), reverse=True)[:2]
    with pytest.raises(QueryError, match=r"no run has 'result.totl' .* mean 'result.total'"):
        catalog.runs(sort="-result.totl")
    assert catalog.runs(sort="host.hostname", limit=1)
    totals = [run.result["total"] for run in catalog.runs(experiment="sweep", sort="result.total")]
    assert totals == sorted(totals)
    assert [run.started for run in catalog.runs(limit=2)] == starts[:2]
    assert len(catalog.runs(limit=0)) == 0
    with pytest.raises(ValueError, match="limit -1; expected at least 0"):
        catalog.runs(limit=-1)


@pytest.mark.parametrize("name", [2**70, -(2**70), str(2**70), "9" * 5000, "\udcff", "a\0b"])
def test_names_that_no_run_can_have(catalog: Catalog, lab: Lab, name: Any) -> None:
    with pytest.raises(UnknownRunError, match="no run"):
        catalog.run(name)
    assert catalog.runs(where={"config.seed": name}) == []


def test_a_run_is_plain_values(catalog: Catalog, lab: Lab) -> None:
    run = catalog.run(str(lab.outcomes["twice"].uid))
    assert (run.experiment, run.cell, run.stage, run.status) == (
        "twice",
        "twice",
        SCALE,
        "COMPLETED",
    )
    assert run.config["factor"] == 2.0
    assert run.result == {"total": 13.0}
    assert run.inputs["numbers"]["name"] == "few"
    assert run.output["schema"] == "scaled"
    assert run.overrides == {}
    assert run.seconds is not None
    assert run.started is not None
    assert run.stopped is not None
    assert run.stopped - run.started == timedelta(seconds=run.seconds)
    assert run.started.tzinfo is UTC
    assert run.fingerprint == lab.project.fingerprints(lab.project.graph, "twice")["twice"]


def test_runs_are_a_table(catalog: Catalog, lab: Lab) -> None:
    frame = catalog.runs(experiment="sweep").to_frame()
    assert {"id", "cell", "status", "config.factor", "config.needs.numbers", "result.total"} <= set(
        frame.columns
    )
    best = frame.sort_values("result.total").iloc[-1]
    assert best["config.factor"] == 2.0
    shown = catalog.runs(experiment="sweep")._repr_html_()
    assert f"<p>{len(frame)} runs</p>" in shown
    assert all(uid in shown for uid in frame["uid"])
    empty = catalog.runs(experiment="nothing").to_frame()
    assert len(empty) == 0
    assert "status" in empty.columns


def test_runs_are_a_sequence(stored: Catalog) -> None:
    runs = stored.runs()
    assert runs[0] == next(iter(runs))
    assert list(runs[:2]) == [runs[0], runs[1]]
    assert repr(runs[:1]) == f"1 run: {runs[0].id} {runs[0].cell}"


def test_curves_console_sources_and_traces(catalog: Catalog, lab: Lab) -> None:
    run = catalog.run(str(lab.outcomes["twice"].uid))
    curve = catalog.metrics(run)["training.loss"]
    assert curve["steps"] == [0, 1, 2]
    assert curve["values"] == [1, 1 / 2, 1 / 3]
    assert all(run.started <= time <= run.stopped for time in curve["timestamps"])
    assert catalog.console(run) == "scaling by 2.0\n"
    assert "def scale(" in catalog.sources(run)["lab/scale.py"]
    assert catalog.trace(run) == ""


def test_the_database_and_the_journals_say_the_same(lab: Lab) -> None:
    with open_catalog() as stored, open_catalog(url="off") as journals:
        for outcome in lab.outcomes.values():
            one, other = (catalog.run(str(outcome.uid)) for catalog in (stored, journals))
            assert one.id is not None
            assert other.id is None
            facts = {key: value for key, value in one.facts.items() if key != "journal_bytes"}
            assert facts == other.facts
            for name in ("config", "result", "status", "started", "stopped", "inputs", "output"):
                assert getattr(one, name) == getattr(other, name), name
            assert catalog_metrics(stored, one) == catalog_metrics(journals, other)
            assert stored.sources(one) == journals.sources(other)


def catalog_metrics(catalog: Catalog, run: RunView) -> dict[str, Any]:
    return {
        name: [curve[column] for column in ("steps", "values", "timestamps")]
        for name, curve in catalog.metrics(run).items()
    }


def test_a_run_is_named_by_number_identifier_or_cell(stored: Catalog, lab: Lab) -> None:
    uid = str(lab.outcomes["sweep[factor=1.0,seed=1]"].uid)
    run = stored.run(uid)
    assert run.id is not None
    assert stored.run(run.id) == stored.run(str(run.id)) == run
    assert stored.run("sweep[factor=1.0,seed=1]").cell == "sweep[factor=1.0,seed=1]"
    newest = stored.runs(experiment="sweep", limit=1)[0]
    assert stored.run("sweep").uid == newest.uid


@pytest.mark.parametrize(
    "name", ["99999", "20990101T000000-00000000", "", "../twice", "twice[x=1]"]
)
def test_a_run_that_is_not_there(catalog: Catalog, name: str) -> None:
    with pytest.raises(UnknownRunError, match="no run "):
        catalog.run(name)


def test_a_name_never_leads_out_of_the_journals(lab: Lab, catalog: Catalog) -> None:
    outside = lab.root / "outside"
    shutil.copytree(journal_root(lab.root) / str(lab.outcomes["twice"].uid), outside)
    stray = replace(catalog.run("twice"), id=None, uid="../../outside")
    try:
        assert catalog.console(stray) == ""
        assert catalog.metrics(stray) == catalog.sources(stray) == {}
        with pytest.raises(UnknownRunError):
            catalog.run("../../outside")
    finally:
        shutil.rmtree(outside)


def test_a_misspelt_run_is_told_the_nearest(catalog: Catalog) -> None:
    with pytest.raises(UnknownRunError, match=r"no run 'twise'; did you mean 'twice'\?"):
        catalog.run("twise")


def test_what_is_declared_and_never_ran_is_told_how_to_run(tmp_path: Path) -> None:
    (tmp_path / "experiments.toml").write_text(
        '[project]\ndatabase = "lab"\n[experiments.new]\nstage = "tests.registry.toy.begin"\n'
    )
    with pytest.raises(UnknownRunError, match=r"never run; factbook run new"):
        open_catalog(tmp_path, "off").run("new")


def test_what_names_a_run() -> None:
    assert is_run("17")
    assert is_run("20261122T031047-a9bbe467")
    assert not any(is_run(name) for name in ("twice", "T-shirts", "20261122T031047", "-1", ""))


@pytest.mark.parametrize(
    "value", [{"$gt": ""}, {"$ne": None}, {"a": 1}, [{"$gt": ""}], object(), b"x", list(range(101))]
)
def test_a_value_is_compared_and_never_acts(catalog: Catalog, value: Any) -> None:
    with pytest.raises(ValueError, match=r"config\.factor"):
        catalog.runs(where={"config.factor": value})
    for name in ("experiment", "stage", "status"):
        with pytest.raises((ValueError, TypeError)):
            catalog.runs(**{name: value})


@pytest.mark.parametrize("key", ["$where", "config.$gt", "", "a..b", "config\0", ".a", "a."])
def test_a_key_is_a_key(catalog: Catalog, key: str) -> None:
    with pytest.raises(ValueError, match="is not a dotted key"):
        catalog.runs(where={key: 1})
    with pytest.raises(ValueError, match="is not a dotted key"):
        catalog.runs(sort=f"-{key}")


def test_text_that_looks_like_an_operator_is_text(catalog: Catalog) -> None:
    assert len(catalog.runs(where={"config.then": '{"$gt": ""}'})) == 0


def test_datasets_are_opened_by_the_names_that_work_everywhere(catalog: Catalog, lab: Lab) -> None:
    with catalog.dataset("sweep[factor=2.0,seed=0]") as dataset:
        assert dataset["value"].dims == ("sample",)
        assert dataset.attrs["experiment"] == "sweep[factor=2.0,seed=0]"
    uid = str(lab.outcomes["twice"].uid)
    assert catalog.path(uid).name == uid
    assert catalog.path("twice") == lab.project.current("twice")
    with catalog.dataset(uid) as dataset:
        assert dataset["value"].values.tolist() == [2, 4, 7]


def test_through_a_dataset_what_it_was_made_from_is_reached(catalog: Catalog, lab: Lab) -> None:
    mean = catalog.input("mean")
    assert mean.origin("scaled").path == catalog.path("twice")
    assert mean.origin("numbers").load() == [1, 2, 3.5]


def test_the_dataset_of_any_run_is_reached_whatever_is_declared_by_now(
    fresh: Path, mongo_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    address, _, options = mongo_server.partition("?")
    url = f"{address.rstrip('/')}/factbook_old_{secrets.token_hex(6)}?{options}"
    monkeypatch.setenv("FACTBOOK_MONGO", url)
    old = run_plan(open_project(fresh), open_project(fresh).plan(["mean"]), runner="here")
    end = "}\n\n[experiments.mean]"
    again = edit(fresh, end, end.replace("}", "}\nconfig = { factor = 4.0 }"))
    new = run_plan(again, again.plan(["mean"]), runner="here")
    values = {"twice": ([2, 4, 7], [4, 8, 14]), "mean": (13 / 3, 26 / 3)}
    declared = (fresh / "experiments.toml").read_text()
    for declaration in (declared, declared.partition("[experiments")[0]):  # then of nothing
        (fresh / "experiments.toml").write_text(declaration)
        for url in (None, "off"):
            with open_catalog(fresh, url=url) as catalog:
                for outcomes, index in ((old, 0), (new, 1)):
                    for outcome in outcomes:
                        run = catalog.run(str(outcome.uid))
                        check_addresses(catalog, run, values[outcome.name][index])
                mean, twice = (catalog.input(str(o.uid)) for o in reversed(old))
                assert (mean.name, mean.kind, mean.slot) == ("mean", "averaged", "averaged")
                assert mean.origin("scaled") == replace(twice, slot="scaled")
                assert mean.origin("numbers").load() == [1, 2, 3.5]
                assert mean.config["offset"] == 0.0
                assert float(mean.open()["mean"]) == pytest.approx(13 / 3)


def test_data_that_is_the_same_still_is_read_where_it_lies_by_now(fresh: Path) -> None:
    (fresh / "here.txt").write_text("1 2 3.5")
    few = 'kind = "numbers"\nvalues = [1, 2, 3.5]'
    project = edit(fresh, few, 'kind = "placed-numbers"\nplace = "here.txt"')
    [old] = run_plan(project, project.plan(["twice"]), runner="here", journal_only=True)
    (fresh / "here.txt").rename(fresh / "there.txt")
    edit(fresh, "here.txt", "there.txt")
    edit(fresh, "}\n\n[experiments.mean]", "}\nconfig = { factor = 4.0 }\n\n[experiments.mean]")
    with open_catalog(fresh, url="off") as catalog:
        assert catalog.input(str(old.uid)).origin("numbers").load() == [1, 2, 3.5]
    (fresh / "there.txt").write_text("5 6")
    with open_catalog(fresh, url="off") as catalog:
        assert catalog.input(str(old.uid)).inputs == {}


def check_addresses(catalog: Catalog, run: RunView, values: Any) -> None:
    """Check every way to name a run's dataset."""
    for name in filter(None, (run, run.uid, run.id, run.id and str(run.id))):
        assert catalog.path(name).name == run.uid
        with catalog.dataset(name) as dataset:
            found = dataset["value" if run.cell == "twice" else "mean"].values
            assert found.tolist() == pytest.approx(values)
        assert catalog.input(name).run == run.uid


@pytest.mark.slow
def test_what_is_gone_behind_a_run_is_left_out(fresh: Path) -> None:
    project = open_project(fresh)
    twice, mean = run_plan(project, project.plan(["mean"]), runner="here", journal_only=True)
    with open_catalog(fresh, url="off") as catalog:
        shutil.rmtree(catalog.path(str(twice.uid)))
        assert catalog.input(str(mean.uid)).inputs == {}
        with pytest.raises(MissingInputsError, match="is gone from"):
            catalog.input(str(twice.uid))


def test_a_dataset_of_several_cells_is_ambiguous(catalog: Catalog) -> None:
    with pytest.raises(SelectionError, match="'sweep' means 4 cells; name one of\n  sweep"):
        catalog.dataset("sweep")
    with pytest.raises(SelectionError, match="did you mean 'twice'"):
        catalog.dataset("twise")
    with pytest.raises(UnknownRunError, match="no run '99999'"):
        catalog.dataset("99999")


def test_a_dataset_that_is_gone_is_told(fresh: Path, lab: Lab) -> None:
    root = fresh.parent / "copy"
    shutil.copytree(lab.root, root, symlinks=True)
    uid = str(lab.outcomes["twice"].uid)
    with open_catalog(root, url="off") as catalog:
        shutil.rmtree(catalog.path(uid))
        with pytest.raises(MissingInputsError, match=f"dataset of run {uid} is gone from"):
            catalog.path(uid)


def test_without_a_database_the_reason_is_told_and_journals_are_read(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalog = open_catalog(url="mongodb://me:s3cret@127.0.0.1:1")
    assert catalog.database is None
    assert "mongodb://me:***@127.0.0.1:1" in catalog.trouble
    assert len(of_the_lab(catalog, lab)) == 10
    catalog.close()


def test_a_database_that_goes_away_is_an_error(stored: Catalog) -> None:
    stored.close()
    with pytest.raises(DatabaseError):
        stored.runs()


def test_a_catalog_needs_a_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DeclarationError, match=r"no experiments\.toml"):
        open_catalog()


def test_a_run_whose_process_is_gone_is_shown_as_died(lab: Lab, tmp_path: Path) -> None:
    source = journal_root(lab.root) / str(lab.outcomes["twice"].uid)
    root = tmp_path / "project"
    shutil.copytree(lab.root, root, ignore=shutil.ignore_patterns(".factbook", "artifacts"))
    folder = journal_root(root) / source.name
    folder.mkdir(parents=True)
    begin = decode_event((source / "events.jsonl").read_bytes().splitlines()[0], source.name)
    begin["facts"]["create_time"] = 0.01
    (folder / "events.jsonl").write_text(f"{encode_event(begin)}\n")
    with open_catalog(root, url="off") as catalog:
        assert [run.status for run in catalog.runs()] == ["DIED"]
        assert len(catalog.runs(status="DIED")) == 1
        assert len(catalog.runs(status="RUNNING")) == 0


def test_records_are_read_while_they_are_written(lab: Lab) -> None:
    """Readers see whole runs: every one that says it is completed has its result and output."""
    stop, seen, broken = threading.Event(), 0, []

    def read() -> None:
        nonlocal seen
        with open_catalog() as catalog:
            while not stop.is_set():
                for run in catalog.runs(limit=20):
                    seen += 1
                    if run.status == "COMPLETED" and not (run.result and run.output):
                        broken.append(run)

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    try:
        for _ in range(3):
            run_plan(lab.project, lab.project.plan(["twice"], force=True), runner="here")
    finally:
        stop.set()
        for reader in readers:
            reader.join()
    assert seen > 0
    assert broken == []


def test_sacreds_own_records_are_shown_too() -> None:
    record = {"_id": 3, "experiment": {"name": "other"}, "status": "COMPLETED", "result": 0.5}
    run = RunView.from_record(record)
    assert (run.experiment, run.stage, run.uid) == ("other", "", "")
    assert run.result == {"": 0.5}
    assert RunView.from_record({"_id": 4, "status": "QUEUED"}).status == "QUEUED"
    strange = {"_id": 5, "info": None, "experiment": None, "result": None, "config": 3}
    assert RunView.from_record(strange).result == {}
