"""Killed at any call of the file system: every task is whole or not there, and can be run again."""

from __future__ import annotations

import os
import random
import shutil
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import xarray as xr

from registry import open_catalog
from tests.faults.children import Call, Fault
from tests.faults.conftest import DECLARATION, OWN, Reference, Site, has_status, write_own_stage
from tests.registry.lab.project import write_project

WRITES = ("os.write", "os.pwrite")
DECISIVE = ("os.rename", "os.symlink", "os.link", "os.fsync", "os.rmdir", *WRITES)
"""Before these a file is not yet what it will be; the others are left to the random moments."""


def kinds_of(calls: list[Call]) -> Iterator[Fault]:
    """Each kind of decisive call on each kind of file, in the order in which a run makes them."""
    for call in dict.fromkeys(calls):
        if call.name in DECISIVE:
            yield Fault(call.name, call.path, torn=call.name in WRITES)


def fresh(folder: Path) -> Site:
    return Site(write_project(folder / "project", DECLARATION))


def is_made_whole(site: Site, name: str, reference: Reference) -> None:
    """Run what is due, and run it once more: nothing that was left behind is in the way."""
    last = site.run(name)
    assert last.wait() == 0, last.printed
    again = site.run(name, "--force")
    assert again.wait() == 0, again.printed
    assert site.contents()[name] == reference.contents[name]
    xr.testing.assert_identical(site.values(name), reference.datasets[name])
    assert site.leftovers(name) == []
    if site.leftovers():  # of a task before it, which was killed when it had all but ended
        site.factbook("gc", "--yes")
    assert site.leftovers() == []
    has_status({s for _, s in site.runs()} - {"COMPLETED", "DIED", "INTERRUPTED"}, set())


@pytest.mark.parametrize(
    ("name", "where"),
    [("parts", ""), ("mean", "dataset.nc"), ("training", "partial/s")],
    ids=lambda value: value or "anywhere",
)
def test_killed_at_each_kind_of_call(
    reference: Reference,
    tmp_path: Path,
    holds: Callable[[Site], dict[str, str]],
    name: str,
    where: str,
) -> None:
    """One run after the other is killed, each with what all before it have left behind."""
    faults = [fault for fault in kinds_of(reference.calls[name]) if where in fault.path]
    site, killed = fresh(tmp_path / "0"), 0
    for number, fault in enumerate(faults, 1):
        child = site.run(name, fault=fault)
        assert child.was_killed or child.wait() == 0, f"{fault}\n{child.printed}"
        killed += child.was_killed
        if holds(site)[name] == "complete":
            site = fresh(tmp_path / str(number))
    is_made_whole(site, name, reference)
    assert killed > 0.8 * len(faults), f"only {killed} of {len(faults)} moments came"


def test_a_repetition_killed_before_its_link_is_taken(site: Site, reference: Reference) -> None:
    assert site.run("parts").wait() == 0
    first = site.output("parts")
    killed = site.run(
        "parts", "--force", fault=Fault("os.symlink", "artifacts/parts/HASH/.current.tmp")
    )
    assert killed.was_killed, killed.printed
    assert site.output("parts") == first
    both = set(first.parent.glob("2*"))
    assert len(both) == 2
    assert site.run("parts", "--force").wait() == 0
    has_status(site.runs(), [("parts", "COMPLETED")] * 3)
    assert site.output("parts") not in both
    assert site.leftovers() == []


def test_what_a_killed_run_had_finished_is_said_on_sacreds_command_line(
    site: Site, reference: Reference
) -> None:
    killed = site.run("parts", fault=Fault("os.symlink", "artifacts/parts/HASH/.current.tmp"))
    assert killed.was_killed, killed.printed
    typed = site.start("tests.registry.lab.collect", "with", "parts")
    assert typed.wait() == 0, typed.printed
    assert "had finished this task when it was killed" in typed.printed
    has_status(site.runs(), [("parts", "COMPLETED")])
    assert site.contents()["parts"] == reference.contents["parts"]
    again = site.start("tests.registry.lab.collect", "with", "parts", "--repeat")
    assert again.wait() == 0, again.printed
    has_status(site.runs(), [("parts", "COMPLETED")] * 2)


def test_a_record_that_was_taken_for_dead_is_completed_when_its_dataset_is_taken(
    site: Site, reference: Reference, database_url: str
) -> None:
    """And it is, whenever who takes it is killed: before it is current, its run has gone well."""
    environment = {"FACTBOOK_MONGO": database_url}
    named = Fault("os.rename", "artifacts/parts/HASH/RUN")
    noted = Fault("os.write", ".factbook/journal/RUN/events.jsonl")
    assert site.run("parts", fault=named).was_killed
    assert site.start("factbook", "sync", environment=environment).wait() == 0
    has_status(site.runs(), [("parts", "DIED")])
    assert site.run("parts", fault=noted).was_killed
    assert site.run("parts").wait() == 0
    has_status(site.runs(), [("parts", "COMPLETED")])
    assert site.start("factbook", "sync", environment=environment).wait() == 0
    with open_catalog(site.root, database_url) as catalog:
        has_status([view.status for view in catalog.runs()], ["COMPLETED"])


def test_a_record_of_a_run_that_could_not_publish_is_completed_likewise(
    site: Site, reference: Reference, database_url: str
) -> None:
    """Something stands where the link should: a folder, as copies leave that follow links."""
    environment = {"FACTBOOK_MONGO": database_url}
    assert site.run("twice").wait() == 0
    current = site.output("twice").parent / "current"
    shutil.rmtree(site.output("twice"))
    current.unlink()
    (current / "kept").mkdir(parents=True)
    failed = site.start("factbook", "run", "twice", "--here", environment=environment)
    assert failed.wait() == 1, failed.printed
    has_status(site.runs(), [("twice", "COMPLETED"), ("twice", "FAILED")])
    with open_catalog(site.root, database_url) as catalog:
        unpublished = {view.uid for view in catalog.runs() if view.status == "FAILED"}
    shutil.rmtree(current)
    assert site.run("twice").wait() == 0
    assert site.start("factbook", "sync", environment=environment).wait() == 0
    with open_catalog(site.root, database_url) as catalog:
        runs = catalog.runs()
        has_status({view.status for view in runs}, {"COMPLETED"})
        assert catalog.trace(runs[0]) == ""
    assert {site.output("twice").name} == unpublished


HELPERS = """
def make(config, inputs, run):
    import multiprocessing, os, signal, subprocess
    import xarray as xr
    pids = run.partial.parents[3] / "helpers"
    if pids.exists():
        return xr.Dataset({"value": 1.0})
    forked = os.fork()
    if not forked:
        time.sleep(600)
    helper = multiprocessing.get_context("fork").Process(target=time.sleep, args=(600,))
    helper.start()
    program = subprocess.Popen(["sleep", "600"], close_fds=False)
    pids.write_text(f"{forked} {helper.pid} {program.pid}")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_helpers_of_a_killed_run_keep_nobody_out(site: Site) -> None:
    write_own_stage(site.root, "help", HELPERS, OWN)
    try:
        assert site.run("own").was_killed
        again = site.run("own")
        assert again.wait() == 0, again.printed
        assert "waiting" not in again.printed
        has_status(site.runs(), [("own", "DIED"), ("own", "COMPLETED")])
        assert site.leftovers() == []
    finally:
        for pid in map(int, (site.root / "helpers").read_text().split()):
            os.kill(pid, signal.SIGKILL)  # they were all alive


def test_killed_at_a_random_call(
    reference: Reference,
    site: Site,
    holds: Callable[[Site], dict[str, str]],
    chance: random.Random,
    trial: int,
) -> None:
    name = chance.choice(["twice", "mean", "parts", "training"])
    for _ in range(chance.randint(1, 3)):
        number = chance.randint(1, len(reference.calls[name]))
        fault = Fault(number=number, torn=chance.random() < 0.5)
        child = site.run(name, fault=fault)
        assert child.was_killed or child.wait() == 0, f"{fault}\n{child.printed}"
        holds(site)
    is_made_whole(site, name, reference)


def test_records_of_killed_runs_reach_the_database(
    reference: Reference, site: Site, database_url: str
) -> None:
    """Each is there once, with the status that it has; a torn line of a journal does no harm."""
    journal = [call for call in reference.calls["parts"] if call.path.endswith("/events.jsonl")]
    writes = sum(call.name == "os.write" for call in journal)
    path = journal[0].path
    for number in range(1, writes + 1):
        site.run("parts", "--force", fault=Fault("os.write", path, number, torn=True))
    assert site.run("parts").wait() == 0
    for _ in range(2):
        child = site.start("factbook", "sync", environment={"FACTBOOK_MONGO": database_url})
        assert child.wait() == 0, child.printed
    with open_catalog(site.root, database_url) as catalog:
        stored = {view.uid: view.status for view in catalog.runs()}
    with site.catalog() as catalog:
        assert stored == {view.uid: view.status for view in catalog.runs()}
    counted = Counter(stored.values())
    assert counted["DIED"] >= writes - 3
    assert counted["COMPLETED"] == len(stored) - counted["DIED"] >= 1  # it had published
    assert "RUNNING" not in stored.values()
