"""10,000 cells from the text of a declaration to a plan, in under two seconds of the processor."""

from __future__ import annotations

import time

import pytest

from registry.declare import plugins
from registry.declare.cells import expand
from registry.declare.declaration import parse_declaration
from registry.plan.plan import make_plan
from registry.plan.task import Plan, TaskState
from registry.record.states import State
from tests.benchmarks.clock import least
from tests.benchmarks.table import Table
from tests.registry.toy import fit

SWEEP = f"""
[project]
plugins = ["tests.registry.toy.kinds"]

[datasets.numbers]
kind = "toy-numbers"

[experiments.network]
stage = "tests.registry.toy.teach"
needs = {{ numbers = "numbers" }}
matrix = {{ seed = {list(range(10))} }}

[experiments.features]
stage = "tests.registry.toy.collect"
needs = {{ numbers = "numbers", network = "network" }}
config = {{ layer = "a" }}

[experiments.sae]
stage = "{fit.stage.name}"
needs = {{ features = "features" }}
matrix = {{ k = {list(range(1, 26))}, seed = {list(range(20))} }}

[experiments.concepts]
stage = "tests.registry.toy.measure"
needs = {{ features = "features", network = "network", sae = "sae" }}
"""

WIDE = f"""
[project]
plugins = ["tests.registry.toy.kinds"]

[datasets.numbers]
kind = "toy-numbers"

[networks.line]
kind = "toy-line"
slope = 2.0

[experiments.features]
stage = "tests.registry.toy.collect"
needs = {{ numbers = "numbers", network = "line" }}
config = {{ layer = "a" }}

[experiments.sae]
stage = "{fit.stage.name}"
needs = {{ features = "features" }}
matrix = {{ k = {list(range(1, 101))}, seed = {list(range(100))} }}
"""


def plan_cells(text: str, status: State) -> Plan:
    graph = expand(parse_declaration(text))
    state = TaskState(status, "20261122T013355-1a2b3c4d", durations=(2.0,))
    identities = dict.fromkeys(graph.declaration.resources, "")
    return make_plan(graph, identities=identities, states=lambda cell, fingerprint: state)


@pytest.mark.benchmark
@pytest.mark.parametrize("status", [State.NEVER, State.COMPLETE, State.DIED])
@pytest.mark.parametrize("text", [SWEEP, WIDE], ids=["chain", "wide"])
def test_ten_thousand_cells_are_planned_in_two_seconds(
    text: str, status: State, monkeypatch: pytest.MonkeyPatch, table: Table
) -> None:
    monkeypatch.setattr(plugins, "plugin_modules", tuple)
    plan = plan_cells(text, status)  # imports and validators are made once
    [taken] = least(lambda: plan_cells(text, status), rounds=2, clock=time.process_time)
    assert len(plan.tasks) >= 10_000
    assert len({task.fingerprint for task in plan.tasks}) == len(plan.tasks)
    name = f"{len(plan.tasks):,} cells planned, {status}"
    table.within(name, taken, 2, "s", note="processor time")
