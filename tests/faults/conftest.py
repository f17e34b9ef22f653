"""A project whose commands run in children, what it makes when nothing goes wrong, and chance."""

from __future__ import annotations

import os
import pickle
import random
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import xarray as xr

import registry
from tests.conftest import MakeOnce
from tests.faults.children import OFF, Call, Child, Command, Fault
from tests.registry.lab.project import write_project

DECLARATION = """
[experiments.parts]
stage = "tests.registry.lab.collect"
needs = { numbers = "few" }
config = { n_parts = 4, part_size = 4 }

[experiments.training]
stage = "tests.faults.descend"
needs = { numbers = "few" }
"""
ALL = ("twice", "mean", "parts", "training")
TRIALS = int(os.environ.get("FACTBOOK_FAULT_TRIALS") or 1)
DRAWN = random.SystemRandom().randrange(10**6) if TRIALS > 1 else 0
SEED = int(os.environ.get("FACTBOOK_FAULT_SEED") or DRAWN)
os.environ["FACTBOOK_FAULT_SEED"] = str(SEED)  # of all processes of this session


def pytest_report_header() -> str:
    return f"faults: {TRIALS} trials of each kind at random moments, FACTBOOK_FAULT_SEED={SEED}"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give a test that asks for a `trial` as many as the form has."""
    if "trial" in metafunc.fixturenames:
        metafunc.parametrize("trial", range(TRIALS))


class WrongStatusError(AssertionError):
    """Nothing is lost, and what is said of it is wrong."""


def has_status(found: Any, *expected: Any, why: str = "") -> None:
    """Check how something stands."""
    if found not in expected:
        raise WrongStatusError(f"{found}; expected {' or '.join(map(str, expected))}\n{why}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Note what became of a trial."""
    report = yield
    if call.when == "call" and "trial" in getattr(item, "fixturenames", ()):
        error = call.excinfo.value if call.excinfo else None
        verdict = "well" if error is None else "lost"
        verdict = "wrong status" if isinstance(error, WrongStatusError) else verdict
        kind = item.originalname if isinstance(item, pytest.Function) else item.name
        report.user_properties.append(("fault", (kind, verdict)))
    return report


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print a table of the trials, for the docs."""
    reports = [r for kind in ("passed", "failed") for r in terminalreporter.stats.get(kind, ())]
    found = Counter(
        v for r in reports for name, v in map(tuple, r.user_properties) if name == "fault"
    )
    kinds = sorted({kind for kind, _ in found})
    if TRIALS == 1 or not kinds:
        return
    terminalreporter.section("faults")
    verdicts = ("lost", "wrong status")
    terminalreporter.write_line("| fault | trials | lost | wrong status |")
    terminalreporter.write_line("|---|---:|---:|---:|")
    for kind in kinds:
        name = kind.removeprefix("test_").replace("_", " ")
        counts = [found[kind, verdict] for verdict in ("well", *verdicts)]
        row = " | ".join(map(str, (name, sum(counts), *counts[1:])))
        terminalreporter.write_line(f"| {row} |")


@pytest.fixture
def chance(request: pytest.FixtureRequest) -> random.Random:
    """Numbers of this test and this session's seed alone; printed if the test fails."""
    sys.stdout.write(f"FACTBOOK_FAULT_SEED={SEED}\n")
    return random.Random(f"{SEED} {request.node.nodeid}")


@dataclass
class Site:
    """A project where something goes wrong.

    Attributes
    ----------
    root : Path
        The folder of ``experiments.toml``.
    """

    root: Path
    _numbers: Iterator[int] = field(default_factory=count)

    def start(
        self,
        *words: str,
        fault: Fault | None = None,
        barrier: Any = None,
        environment: Mapping[str, str | None] = OFF,
    ) -> Child:
        """Start ``factbook …``, or a stage as a module."""
        beside = self.root.with_name(f"{self.root.name}-{next(self._numbers)}")
        log, trace = beside.with_suffix(".log"), beside.with_suffix(".trace")
        return Child(Command(self.root, words, fault, log, trace, environment), barrier)

    def run(self, *targets: str, fault: Fault | None = None) -> Child:
        """Run ``factbook run`` in one process, with its end awaited."""
        child = self.start("factbook", "run", *targets, "--here", fault=fault)
        child.wait()
        return child

    def factbook(self, *words: str, status: int = 0) -> str:
        """Return what a command prints that ends with the expected status."""
        child = self.start("factbook", *words)
        assert child.wait() == status, child.printed
        return child.printed

    def copy(self, folder: Path) -> Site:
        """Copy the project into a folder, and return the copy."""
        return Site(shutil.copytree(self.root, folder / "project", symlinks=True))

    def catalog(self) -> registry.Catalog:
        """Return the catalog, without a database."""
        return registry.open_catalog(self.root, "off")

    def states(self) -> dict[str, Any]:
        """Return how each task stands, and with which content."""
        with self.catalog() as catalog:
            made = catalog.plan(ALL, verify=True)
        return {task.name: task.state for task in (*made.tasks, *made.settled)}

    def statuses(self) -> dict[str, str]:
        """Return how each task stands."""
        return {name: str(state.status) for name, state in self.states().items()}

    def contents(self) -> dict[str, str | None]:
        """Return the content digest of each task's dataset."""
        return {name: state.content for name, state in self.states().items()}

    def runs(self) -> list[tuple[str, str]]:
        """Return the experiment and the status of each run, oldest first."""
        with self.catalog() as catalog:
            return [(view.cell, view.status) for view in reversed(catalog.runs())]

    def values(self, name: str) -> xr.Dataset:
        """Return the dataset of a task as xarray itself reads it."""
        return values_of(self.output(name))

    def output(self, name: str) -> Path:
        """Return the folder of a task's current dataset."""
        with self.catalog() as catalog:
            return Path(catalog.path(name))

    def leftovers(self, name: str = "*") -> list[str]:
        """Return what runs use on the way, where it still lies in the store, or an experiment's."""
        found = self.root.glob(f"artifacts/{name}/*/*")
        return [path.name for path in found if path.name.endswith(".tmp") or "partial" in path.name]


def values_of(folder: Path) -> xr.Dataset:
    """Return the dataset in a folder as xarray itself reads it; the same bytes are read once."""
    key = tuple((path.name, path.read_bytes()) for path in sorted(folder.iterdir()))
    if key not in _READ:
        with xr.open_dataset(folder) as dataset:
            _READ[key] = dataset.load().drop_attrs()
    return _READ[key]


_READ: dict[tuple[tuple[str, bytes], ...], xr.Dataset] = {}

OWN = """
[experiments.own]
stage = "own_stages.{name}"
"""


def write_own_stage(root: Path, name: str, work: str, declared: str = "") -> Path:
    """Give a project a stage ``own_stages.NAME`` of one scalar, and declare; return its file."""
    declaration, plugins = root / "experiments.toml", '"tests.registry.lab.kinds"'
    text = declaration.read_text()
    text = text.replace(plugins, f'{plugins}, "own_stages"') + declared.format(name=name)
    declaration.write_text(text)
    stage = root / "own_stages" / f"{name}.py"
    stage.parent.mkdir()  # without a module of its own: other projects have folders of this name
    stage.write_text(OWN_STAGE.format(name=name, work=work))
    return stage


OWN_STAGE = '''
"""A stage of the user's own."""
import time
from dataclasses import dataclass
import registry

MADE = registry.Schema("made", 1, "Made", coords={{}}, variables={{
    "value": registry.Variable((), "float", "value"),
}})

@dataclass(frozen=True)
class Config:
    number: float = 0.0

stage = registry.Stage("own_stages.{name}", version=1, config=Config, needs={{}}, output=MADE)

@stage.main
{work}

if __name__ == "__main__":
    registry.run_module(__spec__.name)
'''


@dataclass(frozen=True)
class Reference:
    """A project whose tasks have all run, and nothing went wrong.

    Attributes
    ----------
    site : Site
        The project, to be copied and not to be changed.
    contents : mapping of str to str
        Content digest of each dataset.
    calls : mapping of str to list of Call
        The calls of the file system that each task made.
    datasets : mapping of str to xr.Dataset
        What was made.
    results : mapping of str to mapping
        What each run's record says that it found.
    """

    site: Site
    contents: Mapping[str, str | None]
    calls: Mapping[str, list[Call]]
    datasets: Mapping[str, xr.Dataset]
    results: Mapping[str, Mapping[str, Any]]


@pytest.fixture(scope="session")
def reference(make_once: MakeOnce) -> Reference:
    """All tasks, run one after the other."""

    def fill(folder: Path) -> None:
        site = Site(write_project(folder / "project", DECLARATION))
        calls = {}
        for name in ALL:
            child = site.run(name)
            assert child.wait() == 0, child.printed
            calls[name] = child.calls
        (folder / "calls").write_bytes(pickle.dumps(calls))

    folder = make_once("whole", fill)
    site = Site(folder / "project")
    datasets = {name: site.values(name) for name in ALL}
    with site.catalog() as catalog:
        results = {name: catalog.run(name).result for name in ALL}
    calls = pickle.loads((folder / "calls").read_bytes())
    return Reference(site, site.contents(), calls, datasets, results)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A project where nothing ran."""
    return Site(write_project(tmp_path / "project", DECLARATION))


@pytest.fixture
def complete(reference: Reference, tmp_path: Path) -> Site:
    """A copy of the project whose tasks have all run."""
    return reference.site.copy(tmp_path)


@pytest.fixture
def holds(reference: Reference) -> Callable[[Site], dict[str, str]]:
    """Check what must hold at any moment: a task is whole, with the right values, or not there.

    It returns how each stands.
    """

    def check(site: Site) -> dict[str, str]:
        states = site.states()
        statuses = {name: str(state.status) for name, state in states.items()}
        has_status({"running", "damaged"} & set(statuses.values()), set(), why=str(statuses))
        with site.catalog() as catalog:
            for name, status in statuses.items():
                if status == "complete":
                    output = Path(catalog.path(name))
                    assert states[name].content == reference.contents[name]
                    xr.testing.assert_identical(values_of(output), reference.datasets[name])
                    made = catalog.run(output.name)
                    has_status(made.status, "COMPLETED", why="its dataset is published")
                    assert made.result.keys() == reference.results[name].keys()
            has_status({view.status for view in catalog.runs()} & {"RUNNING"}, set())
        return statuses

    return check
