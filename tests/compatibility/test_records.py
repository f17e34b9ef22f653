"""Journals and documents that commit cdf6b02 left behind say what they said."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from bson import ObjectId

import registry
from dashboards.server.index import RunIndex
from registry.catalog.access import Catalog
from registry.catalog.runs import RunView
from registry.mongo.database import Database
from tests.conftest import fresh_database

Documents = dict[str, list[dict[str, Any]]]
ENDINGS = {"COMPLETED": 34, "FAILED": 1, "INTERRUPTED": 1, "DIED": 1}


@pytest.fixture(scope="module")
def restored(
    tmp_path_factory: pytest.TempPathFactory,
    unpacked: Callable[[Path], Path],
    records: Documents,
    mongo_server: str,
) -> Iterator[Catalog]:
    """The project after its journals were removed, its database moved to another server."""
    project = unpacked(tmp_path_factory.mktemp("restored"))
    (project / ".factbook" / "journal").rename(project / "journals-of-old")
    with fresh_database(mongo_server) as url, registry.open_catalog(project, url=url) as catalog:
        assert catalog.database is not None, catalog.trouble
        for name, documents in records.items():
            catalog.database.handle[name].delete_many({})
            catalog.database.handle[name].insert_many(documents)
        yield catalog


def uid_of(document: Mapping[str, Any]) -> str:
    return str(document["info"]["factbook"]["uid"])


def runs_by_uid(documents: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {uid_of(document): document for document in documents}


def test_the_dump_is_of_runs_that_ended_in_every_way(records: Documents) -> None:
    assert Counter(document["status"] for document in records["runs"]) == ENDINGS
    assert len(records["factbook_notes"]) == 2
    assert {"fs.files", "fs.chunks", "metrics", "factbook"} <= records.keys()


@pytest.mark.slow
def test_journals_list_the_runs_that_the_database_had(catalog: Catalog, records: Documents) -> None:
    found = {run.uid: facts_of(run) for run in catalog.runs()}
    assert found == {
        uid: facts_of(RunView.from_record(document))
        for uid, document in runs_by_uid(records["runs"]).items()
    }


def facts_of(run: RunView) -> dict[str, Any]:
    """Return what is the same wherever a run is read."""
    names = (
        *("experiment", "cell", "stage", "status", "started", "stopped", "host", "config"),
        *("result", "fingerprint", "inputs", "output", "overrides"),
    )
    return {name: getattr(run, name) for name in names}


def test_a_database_that_was_moved_lists_the_same_runs(
    restored: Catalog, records: Documents
) -> None:
    expected = {
        uid: facts_of(RunView.from_record(document))
        for uid, document in runs_by_uid(records["runs"]).items()
    }
    assert {run.uid: facts_of(run) for run in restored.runs()} == expected
    assert len(restored.runs(status="COMPLETED")) == ENDINGS["COMPLETED"]
    assert {run.cell for run in restored.runs(stage="fact.train_sae")} == {
        *("sae", "sweep[k=2]", "sweep[k=4]", "interrupted", "killed")
    }
    assert [run.cell for run in restored.runs(where={"config.k": 4})] == ["sweep[k=4]"]
    (overridden,) = [run for run in restored.runs(experiment="labels") if run.overrides]
    assert overridden.config["split"] == "train"


def test_a_database_that_was_moved_tells_all_of_a_run(
    restored: Catalog, catalog: Catalog, records: Documents
) -> None:
    with_curves = {document["run_id"] for document in records["metrics"]}
    assert with_curves
    for run in restored.runs():
        by_journal = catalog.run(run.uid)
        assert catalog.metrics(by_journal) == restored.metrics(run)
        assert bool(restored.metrics(run)) == (run.id in with_curves)
        assert catalog.sources(by_journal) == restored.sources(run)
        assert catalog.console(by_journal).strip() == restored.console(run).strip()
        assert catalog.trace(by_journal) == restored.trace(run)
        assert catalog.details(by_journal) == restored.details(run)
        assert restored.details(run).host["hostname"] == "factbook-fixture"
    failed = restored.run("failing")
    assert "features.9" in restored.trace(failed)
    stage = restored.sources(restored.run("sae"))
    assert any('"fact.train_sae"' in text for text in stage.values())
    assert restored.console(restored.run("names"))


def test_datasets_are_found_by_the_number_of_a_run(restored: Catalog) -> None:
    run = restored.run("names")
    assert run.id is not None
    with restored.dataset(str(run.id)) as dataset, restored.dataset("names") as current:
        assert dataset.identical(current)


def test_journals_brought_to_a_new_database_give_the_documents_that_there_were(
    project_copy: Path,
    records: Documents,
    database: Database,
    database_url: str,
    factbook: Callable[..., str],
) -> None:
    told = factbook(project_copy, "sync", mongo=database_url)
    assert f"{len(records['runs'])} journals brought" in told
    found = {name: list(database.handle[name].find()) for name in records}
    assert normal_runs(found) == normal_runs(records)
    assert normal_metrics(found) == normal_metrics(records)
    assert normal_files(found) == normal_files(records)
    (last,) = (d for d in found["factbook"] if "last" in d or d["_id"] != "identity")
    assert max(document["_id"] for document in found["runs"]) in last.values()
    again = factbook(project_copy, "sync", mongo=database_url)
    assert "0 journals brought" in again
    assert normal_runs({name: list(database.handle[name].find()) for name in records}) == (
        normal_runs(records)
    )


def normal_runs(found: Documents) -> dict[str, dict[str, Any]]:
    """Return runs by their own identifier, without what a database gives when it stores them."""
    files = {document["_id"]: file_name(document, found) for document in found["fs.files"]}
    metrics = {str(document["_id"]): document["name"] for document in found["metrics"]}

    def normal(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: normal(item) for key, item in value.items()}
        if isinstance(value, list):
            return [normal(item) for item in value]
        if isinstance(value, ObjectId):
            return files[value]
        return metrics.get(value, value) if isinstance(value, str) else value

    return {
        uid: {key: normal(value) for key, value in document.items() if key != "_id"}
        for uid, document in runs_by_uid(found["runs"]).items()
    }


def normal_metrics(found: Documents) -> dict[tuple[str, str], list[Any]]:
    """Return the curves by run and name, parts of one in their order."""
    uids = {document["_id"]: uid for uid, document in runs_by_uid(found["runs"]).items()}
    curves: dict[tuple[str, str], list[Any]] = {}
    for document in sorted(found["metrics"], key=lambda d: d["steps"]):
        curve = curves.setdefault((uids[document["run_id"]], document["name"]), [])
        curve += zip(document["steps"], document["values"], document["timestamps"], strict=True)
    return curves


def normal_files(found: Documents) -> Counter[tuple[str, str, int, int]]:
    """Return the stored files by name, digest and length, with the bytes that are there."""
    stored: Counter[Any] = Counter()
    for chunk in found["fs.chunks"]:
        stored[chunk["files_id"]] += len(chunk["data"])
    return Counter(
        (*file_name(document, found), document["length"], stored[document["_id"]])
        for document in found["fs.files"]
    )


def file_name(document: Mapping[str, Any], found: Documents) -> tuple[str, str]:
    return document["filename"], document["md5"]


def test_notes_and_tags_are_read(restored: Catalog) -> None:
    snapshot = RunIndex(restored).look()
    run = restored.run("concepts")
    note, concept = snapshot.notes[f"run {run.uid}"], snapshot.notes[f"concept {run.uid} 3"]
    assert note.text == "Concept 3 looks odd.\nSee the gallery."
    assert note.tags == ("paper", "seed:0")
    assert note.version == 2
    assert (concept.text, concept.tags) == ("red things", ("colour",))


def test_the_dashboard_lists_every_run(restored: Catalog, records: Documents) -> None:
    snapshot = RunIndex(restored).look()
    shown = {row.run.uid: (row.run.cell, row.run.status, row.run.host) for row in snapshot.rows}
    assert shown == {
        uid: (
            document["info"]["factbook"]["cell"],
            document["status"],
            "factbook-fixture",
        )
        for uid, document in runs_by_uid(records["runs"]).items()
    }
    assert {"config.k", "config.seed", "result.final_explained_variance"} <= set(snapshot.columns)
    hosts, tags = snapshot.hosts_and_tags
    assert (hosts, tags) == (["factbook-fixture"], ["paper", "seed:0"])
