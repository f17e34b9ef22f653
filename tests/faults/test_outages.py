"""MongoDB killed, or the connection to it cut, in the middle of a run; and a worker killed."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

import registry
from tests.faults.conftest import DECLARATION, Site, has_status
from tests.faults.proxy import Proxy
from tests.forked import PROGRAM, Forked
from tests.registry.lab.project import write_project

SLOW = """
[experiments.slow]
stage = "tests.registry.lab.scale"
needs = { numbers = "few" }
config = { factor = 5.0, sleep = 1.5 }

[experiments.slow-mean]
stage = "tests.registry.lab.average"
needs = { scaled = "slow" }

[experiments.slow-too]
stage = "tests.registry.lab.scale"
needs = { numbers = "few" }
config = { factor = 6.0, sleep = 1.5 }
"""
STEPS = list(range(15))
"""Of the curve that a slow run logs, ten in a second."""


@pytest.fixture
def slow(own_server: Path) -> Site:
    """A project with runs of 1.5 seconds, and an embedded server of its own if it wants one."""
    return Site(write_project(own_server, DECLARATION + SLOW))


def at(url: str | None) -> dict[str, str | None]:
    """Return the environment that names a database; None means the embedded server."""
    return {"FACTBOOK_MONGO": url}


def sync(site: Site, url: str | None) -> None:
    child = site.start("factbook", "sync", environment=at(url))
    assert child.wait() == 0, child.printed


@contextmanager
def program(site: Site, *words: str) -> Iterator[Forked]:
    """Run ``factbook …`` as a program, which starts workers."""
    environment = {"FACTBOOK_MONGO": "off"}
    process = Forked(PROGRAM, "factbook", *words, folder=site.root, environment=environment)
    try:
        yield process
    finally:
        process.kill()


def wait_for(what: Callable[[], Any], seconds: float = 60.0) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := what()):
        if time.monotonic() > deadline:
            raise TimeoutError("nothing happened")
        time.sleep(0.02)
    return found


def journals(site: Site) -> list[Path]:
    return sorted(site.root.glob(".factbook/journal/2*"))


def in_the_middle(site: Site, count: int = 1) -> bool:
    """Whether so many runs are in their main function by now."""
    return sum((folder / "progress.json").exists() for folder in journals(site)) >= count


def is_recorded_whole(root: Path, url: str | None, *cells: str) -> None:
    """Check what the database holds of runs: their ends, their results, every point, once."""
    with registry.open_catalog(root, url) as catalog:
        assert catalog.database is not None, catalog.trouble
        views = {view.cell: view for view in catalog.runs()}
        assert len(catalog.runs()) == len(views)
        for cell in cells:
            has_status(views[cell].status, "COMPLETED")
            assert views[cell].id is not None
            assert views[cell].result
        points = catalog.metrics(views["slow"])["training.loss"]
        assert points["steps"] == STEPS
        assert points["values"] == [1 / (step + 1) for step in STEPS]
        assert catalog.console(views["slow"]).count("scaling by 5.0") == 1


def kill_server(site: Site) -> None:
    facts = json.loads((site.root / ".factbook" / "mongo" / "server.json").read_text())
    os.kill(int(facts["pid"]), signal.SIGKILL)


def test_an_embedded_server_killed_within_a_run(
    slow: Site, chance: random.Random, trial: int
) -> None:
    run = slow.start("factbook", "run", "slow", "--here", environment=at(None))
    wait_for(lambda: in_the_middle(slow) or run.has_ended)
    time.sleep(chance.uniform(0, 1.0))
    kill_server(slow)
    assert run.wait() in (0, 3), run.printed
    sync(slow, None)
    is_recorded_whole(slow.root, None, "slow")


def address(url: str, port: int) -> str:
    """Return a URL of MongoDB that goes through another port of this machine."""
    parts = urlsplit(url)
    login, at, _ = parts.netloc.rpartition("@")
    return parts._replace(netloc=f"{login}{at}127.0.0.1:{port}").geturl()


@pytest.fixture
def proxied(database_url: str) -> Iterator[tuple[Proxy, str]]:
    """A proxy before the server, and the URL of the database through it."""
    server = urlsplit(database_url)
    assert server.hostname
    assert server.port
    with Proxy(server.hostname, server.port) as proxy:
        yield proxy, address(database_url, proxy.port)


@pytest.mark.parametrize("for_good", [False, True], ids=["for a second", "for good"])
def test_a_connection_cut_within_a_run(
    slow: Site,
    database_url: str,
    proxied: tuple[Proxy, str],
    chance: random.Random,
    trial: int,
    for_good: bool,
) -> None:
    proxy, url = proxied
    run = slow.start("factbook", "run", "slow", "--here", environment=at(url))
    wait_for(lambda: in_the_middle(slow) or run.has_ended)
    time.sleep(chance.uniform(0, 0.5))
    assert proxy.accepted
    proxy.cut()
    if not for_good:
        time.sleep(1)
        proxy.mend()
    assert run.wait() == (3 if for_good else 0), run.printed
    assert ("factbook sync" in run.printed) == for_good
    assert slow.catalog().plan(["slow"]).due == ()
    sync(slow, database_url)
    is_recorded_whole(slow.root, database_url, "slow")


@pytest.mark.parametrize("for_good", [False, True], ids=["for a second", "for good"])
def test_a_connection_cut_between_two_runs(
    slow: Site,
    database_url: str,
    proxied: tuple[Proxy, str],
    chance: random.Random,
    trial: int,
    for_good: bool,
) -> None:
    proxy, url = proxied
    targets = ("slow", "slow-mean", "slow-too", "twice")
    run = slow.start("factbook", "run", *targets, "--here", environment=at(url))
    wait_for(lambda: in_the_middle(slow) or run.has_ended)
    time.sleep(chance.uniform(0, 1.5))
    proxy.cut()
    wait_for(lambda: len(journals(slow)) > 1 or run.has_ended)
    if not for_good:
        time.sleep(chance.uniform(0, 2))
        proxy.mend()
    assert run.wait() == (3 if for_good else 0), run.printed
    assert run.printed.count("factbook sync") == for_good
    assert run.printed.count("MongoDB is away") <= 1
    assert slow.catalog().plan(targets).due == ()
    sync(slow, database_url)
    is_recorded_whole(slow.root, database_url, *targets)


def test_ctrl_c_while_the_database_is_waited_for_spoils_no_run_that_went_well(
    slow: Site, proxied: tuple[Proxy, str]
) -> None:
    """By both doors, once and again: nobody waits any longer, and the run stays completed."""
    proxy, url = proxied
    words = (
        ("factbook", "run", "slow", "slow-too", "--here"),
        ("tests.registry.lab.scale", "with", "slow", "factor=7.0"),
    )
    suite, module = runs = [slow.start(*each, environment=at(url)) for each in words]
    wait_for(lambda: in_the_middle(slow, 2) or suite.has_ended or module.has_ended)
    proxy.cut()
    wait_for(lambda: [status for _, status in slow.runs()].count("COMPLETED") == 2)
    for _ in range(2):
        for run in runs:
            if not run.has_ended and run.process.pid is not None:
                os.kill(run.process.pid, signal.SIGINT)
        time.sleep(0.1)
    has_status((suite.wait(), module.wait()), (130, 3), why=suite.printed + module.printed)
    assert "✓ slow  completed" in suite.printed
    assert "! slow-too  interrupted" in suite.printed
    assert "did not answer until interrupted" in module.printed
    assert "Traceback" not in suite.printed + module.printed
    has_status([status for _, status in slow.runs()], ["COMPLETED"] * 2)


def test_a_killed_worker_is_noted_and_its_task_due_again(slow: Site, database_url: str) -> None:
    targets = ("slow", "slow-mean", "slow-too")
    declaration = slow.root / "experiments.toml"
    declared = declaration.read_text()
    # It is killed long before its end, however busy the machine is.
    declaration.write_text(
        declared.replace("factor = 5.0, sleep = 1.5", "factor = 5.0, sleep = 60")
    )
    with program(slow, "run", *targets, "--workers", "2") as run:
        wait_for(lambda: in_the_middle(slow, 2) or run.has_ended)
        with slow.catalog() as catalog:
            uid = catalog.run("slow").uid
        status = json.loads((slow.root / ".factbook" / "journal" / uid / "status.json").read_text())
        assert status["process"]["pid"] != run.pid
        os.kill(status["process"]["pid"], signal.SIGKILL)
        printed = run.finish()
    declaration.write_text(declared)
    assert run.wait() == 1, printed
    assert "the process was killed by SIGKILL" in printed
    with slow.catalog() as catalog:
        stands = {task.name: str(task.state.status) for task in catalog.plan(targets).tasks}
        assert {task.name for task in catalog.plan(targets).due} == {"slow", "slow-mean"}
        assert catalog.run(uid).status == "DIED"
    assert stands == {"slow": "died", "slow-mean": "never", "slow-too": "complete"}
    again = slow.run(*targets)
    assert again.wait() == 0, again.printed
    sync(slow, database_url)
    with registry.open_catalog(slow.root, database_url) as catalog:
        runs = sorted((view.cell, view.status) for view in catalog.runs())
    assert runs == [
        ("slow", "COMPLETED"),
        ("slow", "DIED"),
        ("slow-mean", "COMPLETED"),
        ("slow-too", "COMPLETED"),
    ]
