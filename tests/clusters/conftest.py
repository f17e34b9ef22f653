"""A Slurm for all tests of a process, and projects that run on it."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from tests.clusters.slurm import Slurm, missing, running
from tests.faults.children import OFF, Child, Fault
from tests.faults.conftest import (  # noqa: F401
    TRIALS,
    Site,
    chance,
    has_status,
    pytest_generate_tests,
    pytest_report_header,
    pytest_runtest_makereport,
    pytest_terminal_summary,
)
from tests.registry.lab.project import edit, write_project

LAB = {"PYTHONPATH": str(Path(__file__).parents[2])}
"""Jobs are programs of their own, which import the stages of the tests too."""

DECLARATION = """
[executors.slurm]
kind = "slurm"
partition = "low"
poll = "1 s"

[experiments.parts]
stage = "tests.registry.lab.collect"
needs = { numbers = "few" }
config = { n_parts = 8, part_size = 4, sleep = 0.5 }

[experiments.long]
stage = "tests.registry.lab.scale"
needs = { numbers = "few" }
config = { sleep = 25.0 }
"""


@pytest.fixture(scope="session")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    """A Slurm of two nodes. Its folder is short: sockets have no long names."""
    if lacking := missing():
        if os.environ.get("FACTBOOK_REQUIRE_SLURM"):
            raise RuntimeError(f"not installed: {', '.join(lacking)}")
        pytest.skip(f"not installed: {', '.join(lacking)} (slurm-wlm and munge bring them)")
    with running(tmp_path_factory.mktemp("slurm")) as slurm:
        yield slurm


PATIENCE_SECONDS = 200.0 if TRIALS == 1 else 500.0
"""Many trials run for an hour, beside whatever else a machine does meanwhile."""


@dataclass
class Place:
    """A project, and the Slurm that runs its tasks."""

    site: Site
    slurm: Slurm | None
    drivers: list[Child] = field(default_factory=list)

    @property
    def root(self) -> Path:
        return self.site.root

    def start(self, *targets: str, fault: Fault | None = None, on: str = "slurm") -> Child:
        """Start ``factbook run … --on``."""
        environment = {**OFF, **LAB, "SLURM_CONF": str(self.slurm.config)}
        words = ("factbook", "run", *targets, "--on", on)
        child = self.site.start(*words, fault=fault, environment=environment)
        self.drivers.append(child)
        return child

    def run(self, *targets: str, status: int = 0) -> str:
        """Run to the end; return what was printed."""
        child = self.start(*targets)
        assert child.wait() == status, child.printed
        return child.printed

    def factbook(self, *words: str) -> str:
        environment = {**OFF, **LAB, "SLURM_CONF": str(self.slurm.config)}
        child = self.site.start("factbook", *words, environment=environment)
        assert child.wait() == 0, child.printed
        return child.printed

    def until(self, ready: Callable[[], object], seconds: float = PATIENCE_SECONDS) -> None:
        """Wait until something is so; requeued jobs need not wait for Slurm's two minutes."""
        deadline = time.monotonic() + seconds
        while not ready():
            if time.monotonic() > deadline:
                printed = "\n".join(child.printed for child in self.drivers)
                raise TimeoutError(f"{printed}\n{self.slurm.queue() if self.slurm else ''}")
            if self.slurm:
                self.slurm.hurry()
            time.sleep(0.2)

    def end(self, child: Child, status: int = 0) -> str:
        """Wait for the end of a driver; return what it printed."""
        self.until(lambda: child.has_ended)
        assert child.wait() == status, child.printed
        return child.printed

    def edit(self, old: str, new: str) -> None:
        edit(self.root, old, new)

    def declare(self, more: str) -> None:
        with (self.root / "experiments.toml").open("a") as file:
            file.write(more)

    def resumed(self, name: str) -> float:
        """Return how many parts the last run at a cell found."""
        with self.site.catalog() as catalog:
            found = catalog.metrics(catalog.run(name))["resumed"]["values"]
        return float(found[0])

    def complete(self, *names: str) -> set[str]:
        """Return the states of cells."""
        with self.site.catalog() as catalog:
            made = catalog.plan(names)
        return {str(task.state.status) for task in (*made.tasks, *made.settled)}

    def tickets(self) -> list[str]:
        """Return what drivers use on the way, where it still lies in the project."""
        jobs = self.root / ".factbook" / "jobs"
        return [path.name for path in jobs.iterdir() if path.is_dir()]

    def moment(self, numbers: random.Random, seconds: float = 9.0) -> None:
        """Wait until some moment of a job's life, from when it is in the queue."""
        jobs = self.root / ".factbook" / "jobs"
        self.until(lambda: list(jobs.glob("*/id")) or self.drivers[-1].has_ended)
        time.sleep(numbers.uniform(0.0, seconds))

    def node_of(self, name: str) -> str:
        """Return the node that runs a cell's job; "" if none does."""
        asked = ("squeue", "-h", f"--name={name}", "--states=R,CG", "-o", "%N")
        return next(iter(self.slurm.ask(*asked).split()), "") if self.slurm else ""

    def has_part(self) -> bool:
        """Whether a run at ``parts`` has written one that the next one finds."""
        return bool(list(self.root.glob("artifacts/parts/*/partial/output/part-000001.nc")))

    def is_made_once(self, name: str, *before: str) -> None:
        """Check that a cell is made, by the last of its runs, and how those before it ended."""
        *others, last = self.statuses(name) or [""]
        why = "\n".join(child.printed for child in self.drivers)
        has_status(last, "COMPLETED", why=why)
        has_status(set(others) - set(before), set(), why=why)
        assert self.complete(name) == {"complete"}, why
        assert not self.tickets(), why
        assert not self.site.leftovers(name), why
        if name == "parts":
            made = self.site.values(name)
            numbers = np.resize([1, 2, 3.5], 4 * int(made["n_parts"]))
            np.testing.assert_array_equal(made["value"], numbers)

    def ends(self, child: Child, *expected: int) -> int:
        """Wait for the end of a driver; check its status, and return it."""
        self.until(lambda: child.has_ended)
        has_status(child.wait(), *expected, why=child.printed)
        return child.wait()

    def statuses(self, name: str) -> list[str]:
        """Return the statuses of the runs at a cell, oldest first."""
        return [status for cell, status in self.site.runs() if cell == name]


@pytest.fixture
def place(slurm: Slurm, tmp_path: Path) -> Iterator[Place]:
    slurm.clear()
    place = Place(Site(write_project(tmp_path / "project", DECLARATION)), slurm)
    yield place
    for child in place.drivers:
        child.process.kill()
