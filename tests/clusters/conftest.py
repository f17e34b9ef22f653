"""A Slurm for all tests of a process, and projects that run on it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.clusters.slurm import Slurm, missing, running
from tests.faults.children import OFF, Child, Fault
from tests.faults.conftest import Site, chance, pytest_generate_tests  # noqa: F401
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

    def until(self, ready: Callable[[], object], seconds: float = 200.0) -> None:
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
