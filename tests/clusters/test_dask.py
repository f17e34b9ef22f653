"""Tasks on Dask's workers, which are killed while they run them."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests.clusters.conftest import LAB, Place
from tests.faults.children import OFF, Child, Fault
from tests.faults.conftest import Site, has_status
from tests.registry.lab.project import write_project

pytest.importorskip("distributed")

DECLARATION = """
[executors.dask]
kind = "dask"
address = "{address}"
poll = "1 s"

[executors.own]
kind = "dask"
cluster = "distributed:LocalCluster"
arguments = {{ n_workers = 1, threads_per_worker = 1, dashboard_address = "127.0.0.1:0" }}
poll = "1 s"

[experiments.parts]
stage = "tests.registry.lab.collect"
needs = {{ numbers = "few" }}
config = {{ n_parts = 8, part_size = 4, sleep = 0.5 }}

[experiments.long]
stage = "tests.registry.lab.scale"
needs = {{ numbers = "few" }}
config = {{ sleep = 15.0 }}
"""


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a scheduler with two workers of one thread each."""
    folder = tmp_path_factory.mktemp("dask")
    file = folder / "scheduler.json"
    common = ["--no-dashboard", "--scheduler-file", str(file)]
    programs = [
        ["scheduler", "--host", "127.0.0.1", "--port", "0", *common],
        *(
            ["worker", "--nthreads", "1", "--local-directory", str(folder / n), *common]
            for n in "ab"
        ),
    ]
    started = []
    try:
        for words in programs:
            with (folder / "log").open("ab") as log:
                started.append(
                    subprocess.Popen(
                        [sys.executable, "-m", "dask", *words],
                        stdout=log,
                        stderr=log,
                        cwd=folder,
                        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
                    )
                )
        deadline = time.monotonic() + 60
        while not file.exists() or not file.read_text():
            assert time.monotonic() < deadline, (folder / "log").read_text()
            time.sleep(0.1)
        yield json.loads(file.read_text())["address"]
    finally:
        for process in reversed(started):
            for each in (*psutil.Process(process.pid).children(recursive=True), process):
                each.terminate()
        for process in started:
            process.wait(20)


class OnDask(Place):
    """A project whose tasks run on Dask's workers."""

    def start(self, *targets: str, fault: Fault | None = None, on: str = "dask") -> Child:
        words = ("factbook", "run", *targets, "--on", on)
        child = self.site.start(*words, fault=fault, environment={**OFF, **LAB})
        self.drivers.append(child)
        return child


@pytest.fixture
def place(address: str, tmp_path: Path) -> Iterator[Place]:
    site = Site(write_project(tmp_path / "project", DECLARATION.format(address=address)))
    place = OnDask(site, None)
    yield place
    for child in place.drivers:
        child.process.kill()


def jobs_of(root: Path) -> list[psutil.Process]:
    """Return the processes that run the jobs of a project."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if "registry.cli" in words and "--lifeline" in words and str(root) in words:
            found.append(process)
    return found


def workers_of(root: Path) -> psutil.Process:
    """Return the worker's process that has started a job of a project."""
    parent = jobs_of(root)[0].parent() if jobs_of(root) else None
    if parent is None:
        raise LookupError("no job runs")
    return parent


def test_tasks_run_on_workers(place: Place) -> None:
    place.end(place.start("mean"))
    assert place.complete("mean") == {"complete"}
    assert place.statuses("twice") == place.statuses("mean") == ["COMPLETED"]
    assert not place.tickets()


def test_a_worker_of_dask_is_killed(place: Place, chance: random.Random, trial: int) -> None:
    driver = place.start("parts")
    place.moment(chance)
    had_part = place.has_part()
    with suppress(LookupError, psutil.Error):
        workers_of(place.root).kill()
    place.ends(driver, 0)
    place.is_made_once("parts", "INTERRUPTED")
    if len(place.statuses("parts")) > 1 and had_part:
        assert place.resumed("parts") > 0


def test_a_driver_of_dask_is_killed_and_started_again(
    place: Place, chance: random.Random, trial: int
) -> None:
    driver = place.start("parts")
    place.moment(chance)
    os.kill(driver.process.pid or 0, signal.SIGKILL)
    driver.wait()
    place.ends(place.start("parts"), 0)
    place.is_made_once("parts")


def test_a_driver_of_dask_is_interrupted(place: Place, chance: random.Random, trial: int) -> None:
    driver = place.start("long")
    place.moment(chance)
    os.kill(driver.process.pid or 0, chance.choice([signal.SIGINT, signal.SIGTERM]))
    place.ends(driver, 130)
    has_status(place.statuses("long"), [], ["INTERRUPTED"], why=driver.printed)
    assert not place.tickets()


def test_the_process_of_a_job_of_dask_is_killed(
    place: Place, chance: random.Random, trial: int
) -> None:
    driver = place.start("parts")
    place.moment(chance)
    for process in jobs_of(place.root):
        with suppress(psutil.Error):
            process.kill()
    is_made = place.ends(driver, 0, 1) == 0
    expected = [["COMPLETED"]] if is_made else [[], ["DIED"]]
    has_status(place.statuses("parts"), *expected, why=driver.printed)
    place.end(place.start("parts"))
    place.is_made_once("parts", "DIED")


def test_what_no_worker_can_run_says_why(place: Place) -> None:
    place.declare("[resources.twice]\ngpus = 1\n")
    driver = place.start("twice")
    place.until(lambda: "no worker has 1 GPU" in driver.printed)
    os.kill(driver.process.pid or 0, signal.SIGINT)
    place.end(driver, 130)
    assert not place.statuses("twice")


def test_a_cluster_is_started_for_a_suite(place: Place) -> None:
    place.end(place.start("twice", on="own"))
    assert place.complete("twice") == {"complete"}
