"""Asked to stop at any moment: the run is interrupted, or had ended; nothing crashes or is lost."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import cycle
from pathlib import Path

import pytest

from registry.execute.runner import EXIT_FAILED, EXIT_INTERRUPTED
from registry.interrupts import STOPPING
from registry.mongo.database import OFF, URL_VARIABLE
from registry.record.journal import journal_uids
from tests.faults.children import Child
from tests.faults.conftest import OWN, TRIALS, Reference, Site, has_status, write_own_stage
from tests.faults.test_kills import fresh, is_made_whole, kinds_of
from tests.forked import Forked

MODULES = {
    "mean": "tests.registry.lab.average",
    "parts": "tests.registry.lab.collect",
    "training": "tests.faults.descend",
}


def is_recorded_as_it_was(site: Site, child: Child, name: str, before: int, stands: str) -> int:
    """Check the end of a child that was sent a signal, and the record of the run that it began.

    It is told how many runs were before and how the task stands, and returns how many runs are.
    """
    child.wait()
    runs = site.runs()
    begun = runs[before:]
    if stands == "complete":
        has_status(begun, [(name, "COMPLETED")], why=child.printed)
        has_status(child.wait(), EXIT_INTERRUPTED, 0, why=child.printed)
    else:  # a signal before the run began leaves no record, and nothing else
        has_status(begun, [(name, "INTERRUPTED")], [], why=child.printed)
        has_status(child.wait(), EXIT_INTERRUPTED, why=child.printed)
    assert "Traceback" not in child.printed
    assert len(journal_uids(site.root)) == len(runs)
    return len(runs)


@pytest.mark.parametrize(
    ("name", "own"), [("mean", "dataset.nc"), ("parts", ""), ("training", "partial/")]
)
def test_a_signal_at_each_kind_of_call(
    reference: Reference,
    tmp_path: Path,
    holds: Callable[[Site], dict[str, str]],
    name: str,
    own: str,
) -> None:
    """Calls of HDF5 that come back to Python among them.

    The short form leaves a stage's calls that are those of another to that one: ``own`` is in the
    paths of the others.
    """
    signals, site = cycle(STOPPING), fresh(tmp_path / "0")
    calls = [call for call in reference.calls[name] if TRIALS > 1 or own in call.path]
    faults = [replace(f, torn=False, signal=next(signals)) for f in kinds_of(calls)]
    assert any(".nc" in fault.path and fault.call == "os.pwrite" for fault in faults)
    if name == "mean":
        assert site.run("twice").wait() == 0
    before = first = len(site.runs())
    for number, fault in enumerate(faults, 1):
        child = site.run(name, fault=fault)
        stands = holds(site)[name]
        before = is_recorded_as_it_was(site, child, name, before, stands)
        if stands == "complete":
            site, before = fresh(tmp_path / str(number)), first
            if name == "mean":
                assert site.run("twice").wait() == 0


LAZY = """
def make(config, inputs, run):
    import dask.array, xarray as xr
    folder = run.partial.parents[3]
    def compute():
        time.sleep(0.2)  # until Python has noted its thread: at its exit it waits for it
        (folder / "computing").touch()
        while not (folder / "go").exists():
            time.sleep(0.02)
        return 1.0
    value = dask.array.from_delayed(dask.delayed(compute)(), (), float)
    return xr.Dataset({"value": value})
"""


def test_a_signal_while_what_is_written_is_computed(site: Site) -> None:
    """It is not waited for."""
    write_own_stage(site.root, "lazy", LAZY, OWN)
    child = site.start("factbook", "run", "own", "--here")
    while not (site.root / "computing").exists() and not child.has_ended:
        time.sleep(0.01)
    assert child.process.pid is not None
    try:
        os.kill(child.process.pid, STOPPING[1])
        deadline = time.monotonic() + 60
        while site.runs() == [("own", "RUNNING")] and time.monotonic() < deadline:
            time.sleep(0.05)
        has_status(site.runs(), [("own", "INTERRUPTED")], why=child.printed)
    finally:
        (site.root / "go").touch()  # a thread goes on with it
    assert child.wait() == EXIT_INTERRUPTED
    assert "! own  interrupted" in child.printed
    assert "Traceback" not in child.printed


STUCK = """
def make(config, inputs, run):
    import threading, xarray as xr
    import registry.interrupts
    registry.interrupts._LEAVING_SECONDS = 0.2
    threading.Thread(target=threading.Event().wait).start()  # nobody will tell it to end
    (run.partial.parents[3] / "working").touch()
    while True:
        time.sleep(0.02)
"""


@pytest.mark.parametrize(
    "words",
    [
        ("factbook", "run", "own", "--here"),
        ("factbook", "run", "own", "--workers", "1"),
        ("own_stages.stuck", "with", "own"),
    ],
    ids=["here", "workers", "sacred"],
)
def test_a_thread_that_never_ends_keeps_no_process(site: Site, words: tuple[str, ...]) -> None:
    write_own_stage(site.root, "stuck", STUCK, OWN)
    child = site.start(*words)
    while not (site.root / "working").exists() and not child.has_ended:
        time.sleep(0.01)
    assert child.process.pid is not None
    os.kill(child.process.pid, STOPPING[1])
    assert child.wait(20.0) == EXIT_INTERRUPTED, child.printed
    has_status(site.runs(), [("own", "INTERRUPTED")], why=child.printed)
    assert "Traceback" not in child.printed


def test_a_signal_at_a_random_moment(
    site: Site,
    reference: Reference,
    holds: Callable[[Site], dict[str, str]],
    chance: random.Random,
    trial: int,
) -> None:
    name = chance.choice(["parts", "training"])
    door = chance.choice([("factbook", "run", name, "--here"), (MODULES[name], "with", name)])
    child = site.start(*door)
    number = chance.choice(STOPPING)
    deadline = time.monotonic() + 60
    while not list(site.root.glob(".factbook/journal/*/status.json")) and not child.has_ended:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    time.sleep(chance.uniform(0, 0.3))
    if not child.has_ended and child.process.pid is not None:
        os.kill(child.process.pid, number)
    child.wait()
    is_recorded_as_it_was(site, child, name, 0, holds(site)[name])
    is_made_whole(site, name, reference)


SIGNALLED = """
import os, signal, sys
from sacred.run import Run
from sacred.utils import IntervalTimer
from tests import forked

kind, name = {"start": IntervalTimer, "_emit_failed": Run}[sys.argv[1]], sys.argv[1]
method = getattr(kind, name)

def signalled(self, *given):
    os.kill(os.getpid(), signal.SIGTERM)
    return method(self, *given)

setattr(kind, name, signalled)
forked.be(*sys.argv[2:])
"""


def signalled(site: Site, method: str, *words: str) -> tuple[int, str]:
    """Return the exit status, and what is printed, if SIGTERM comes as Sacred calls a method."""
    off = {URL_VARIABLE: OFF}
    child = Forked(SIGNALLED, method, *words, folder=site.root, environment=off)
    printed = child.finish()
    return child.wait(), printed


@pytest.mark.parametrize(
    "words", [("factbook", "run", "twice", "--here"), ("tests.registry.lab.scale", "with", "twice")]
)
def test_a_signal_while_sacred_begins_a_run(site: Site, words: tuple[str, ...]) -> None:
    """It is interrupted, not failed: the heartbeat, for whose end Sacred waits, has not begun."""
    status, printed = signalled(site, "start", *words)
    has_status(site.runs(), [("twice", "INTERRUPTED")], why=printed)
    has_status(status, EXIT_INTERRUPTED, why=printed)
    assert "Traceback" not in printed


def test_a_signal_while_sacred_records_a_failure(site: Site) -> None:
    words = "tests.registry.lab.scale", "with", "twice", "then=fail"
    status, printed = signalled(site, "_emit_failed", *words)
    has_status(site.runs(), [("twice", "FAILED")], why=printed)
    has_status(status, EXIT_FAILED, why=printed)
