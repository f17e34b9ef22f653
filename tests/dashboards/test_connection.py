"""The connection: a project that changes, a database that comes and goes."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from dashboards.server.connection import Connection
from registry.declare.faults import DeclarationError
from registry.mongo import server
from registry.mongo.database import Database, DatabaseError
from registry.plan.project import Project
from tests.dashboards import fabricate

PATIENCE = 30.0


def eventually(true: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + PATIENCE
    while not true() and time.monotonic() < deadline:
        time.sleep(0.05)
    return true()


def test_without_a_project_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DeclarationError):
        Connection(tmp_path, "off").catalog()


def test_a_changed_declaration_is_read_again(project: Project) -> None:
    connection = Connection(project.root, "off")
    before = connection.catalog()
    assert connection.catalog() is not None
    assert connection.catalog().project is before.project
    path = project.root / "experiments.toml"
    path.write_text(fabricate.DECLARATION.replace("toy-names", "toy-labels"))
    os.utime(path, ns=(1, 1))
    assert "toy-labels" in connection.catalog().project.declaration.experiments
    path.write_text("[experiments.x]\nstage = 'no.such'")
    os.utime(path, ns=(2, 2))
    with pytest.raises(DeclarationError):
        connection.catalog()
    path.write_text(fabricate.DECLARATION)
    os.utime(path, ns=(3, 3))
    assert "toy-names" in connection.catalog().project.declaration.experiments


@pytest.mark.slow
def test_a_database_that_cannot_be_reached_is_told_and_journals_are_read(
    lived_in: Project,
) -> None:
    url = "mongodb://user:secret@127.0.0.1:9/x?serverSelectionTimeoutMS=200"
    catalog = Connection(lived_in.root, url).catalog()
    assert catalog.database is None
    assert "127.0.0.1:9" in catalog.trouble
    assert "secret" not in catalog.trouble
    assert len(catalog.runs()) == 9


def test_journals_reach_the_database_while_somebody_looks(
    lived_in: Project, database_url: str
) -> None:
    connection = Connection(lived_in.root, database_url, period=0.1)
    assert eventually(lambda: len(connection.catalog().runs()) == 9)
    runs = connection.catalog().runs(status="DIED")
    assert [run.cell for run in runs] == ["toy-sae[k=16]"]
    assert isinstance(runs[0].id, int)


def test_a_reader_that_lost_the_database_reads_journals_until_it_is_back(
    lived_in: Project, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = Connection(lived_in.root, database_url, period=0.1)
    assert connection.catalog().database is not None
    is_away = threading.Event()
    check = Database.check

    def check_unless_away(database: Database) -> None:
        if is_away.is_set():
            raise DatabaseError("MongoDB at x: refused")
        check(database)

    monkeypatch.setattr(Database, "check", check_unless_away)
    is_away.set()
    assert connection.lost()
    assert connection.catalog().trouble == "MongoDB at x: refused"
    assert len(connection.catalog().runs()) == 9
    assert connection.lost()  # a second reader, a moment later
    is_away.clear()
    assert eventually(lambda: connection.catalog().database is not None)
    assert connection.catalog().trouble == ""


def test_a_database_that_only_refused_something_is_not_lost(
    project: Project, database_url: str
) -> None:
    connection = Connection(project.root, database_url)
    database = connection.catalog().database
    assert not connection.lost()
    assert connection.catalog().database is database


def test_a_stopped_embedded_server_is_told_and_found_again(
    own_server: Path,
) -> None:
    project = fabricate.declare(own_server)
    fabricate.record(project, fabricate.Told("toy-sae[k=8]"))
    connection = Connection(project.root, period=0.1)
    assert eventually(lambda: len(connection.catalog().runs()) == 1)
    server.stop(project.root)
    assert eventually(lambda: connection.catalog().database is None)
    assert connection.catalog().trouble
    assert len(connection.catalog().runs()) == 1
    server.start(project.root)
    assert eventually(lambda: connection.catalog().database is not None)


def test_threads_share_one_catalog(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []
    from dashboards.server import connection as module

    real = module.open_catalog
    monkeypatch.setattr(module, "open_catalog", lambda *a, **k: opened.append(1) or real(*a, **k))
    connection = Connection(project.root, "off")
    threads = [threading.Thread(target=connection.catalog) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(opened) == 1
