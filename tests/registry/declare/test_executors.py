"""Executors and what tasks ask for: read with every fault, and in no fingerprint."""

from __future__ import annotations

from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path

import pytest

from registry.declare.declaration import parse_declaration
from registry.declare.executors import EXECUTOR_GROUP, Demand, Local
from registry.declare.faults import DeclarationError
from registry.plan.project import open_project
from tests.registry.lab.project import DECLARATION, write_project

WHOLE = """
[executors.big]
kind = "slurm"
partition = "gpu"
notice = "2 min"
resources = { cpus = 4, memory = "8 GB" }

[resources.tests.registry.lab.scale]
memory = "1.5 GiB"
time = "1.5 h"

[resources.twice]
gpus = 1
time = "2 d"
"""


def test_what_a_task_asks_for_is_its_experiments_before_its_stages() -> None:
    declaration = parse_declaration(DECLARATION + WHOLE)
    big = declaration.executors["big"]
    assert (big.settings.partition, big.settings.notice, big.settings.requeues) == ("gpu", 120, 3)
    asked = [
        declaration.demand("big", name, "tests.registry.lab.scale") for name in ("twice", "sweep")
    ]
    memory = 3 * 2**29
    assert asked == [Demand(1, 4, memory, 172800), Demand(None, 4, memory, 5400)]


FAULTS = {
    'executors.a]\nkind = "slrm"': "unknown kind 'slrm'; did you mean 'slurm'?",
    "executors.a]\nworkers = 3": "key 'kind' is missing; expected one of 'dask', 'local', 'slurm'",
    'executors.a]\nkind = "slurm"\npartion = "x"': "unknown key; did you mean 'partition'?",
    'executors.a]\nkind = "dask"': "expected either `address` or `cluster`",
    'executors.a]\nkind = "local"\nresources = { cpu = 2 }': "unknown key; did you mean 'cpus'?",
    "resources.twise]\ngpus = 1": "unknown experiment or stage 'twise'; did you mean 'twice'?",
    "resources.tests.registry.lab.scales]\ngpus = 1": "did you mean 'tests.registry.lab.scale'?",
    "resources.twice]\ngpus = -1": "greater than or equal to 0; got -1",
    "resources.twice]\nmemory = 16": "expected a number with its unit, as '16 GB'; got 16",
    'resources.twice]\nmemory = "16 Gb"': "unknown unit 'Gb'; did you mean 'GB'?",
    'resources.twice]\ntime = "2"': "expected a number with its unit, as '2 h'; got '2'",
    'resources.twice]\ntime = "0 h"': "expected more than nothing; got '0 h'",
    'executors.a]\nkind = "slurm"\nnotice = "2 min"\nresources = { time = "120 s" }': (
        "executors.a.resources.time: 120 s is not above the notice of 'a', 120 s"
    ),
    'executors.a]\nkind = "slurm"\n[resources.twice]\ntime = "1 min"': (
        "resources.twice.time: 60 s is not above the notice of 'a', 60 s"
    ),
}


@pytest.mark.parametrize("table", list(FAULTS))
def test_faults_are_told_with_what_is_near(table: str) -> None:
    with pytest.raises(DeclarationError) as caught:
        parse_declaration(f"{DECLARATION}\n[{table}\n")
    assert FAULTS[table] in str(caught.value)
    assert len(caught.value.faults) == 1


def test_neither_enters_a_fingerprint(tmp_path: Path) -> None:
    bare, whole = write_project(tmp_path / "bare"), write_project(tmp_path / "whole", WHOLE)
    known = [open_project(root).declared_fingerprints()[0] for root in (bare, whole)]
    assert known[0] == known[1]


def test_packages_add_kinds(monkeypatch: pytest.MonkeyPatch) -> None:
    points = EntryPoints([EntryPoint("own", "registry.declare.executors:Local", EXECUTOR_GROUP)])
    monkeypatch.setattr("registry.declare.executors.entry_points", lambda group: points)
    declaration = parse_declaration(f'{DECLARATION}[executors.a]\nkind = "own"\nworkers = 2\n')
    assert declaration.executors["a"].settings == Local(2)
