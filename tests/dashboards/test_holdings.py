"""What a store holds, summed up by experiment."""

from __future__ import annotations

from pathlib import Path

import pytest

from dashboards.views.parts.parts import Numbers, Table
from dashboards.views.runs.holdings import store_parts
from registry.plan.project import open_project
from registry.upkeep.garbage import find_garbage
from registry.upkeep.inventory import take_inventory
from tests.registry.conftest import fresh  # noqa: F401
from tests.registry.upkeep.conftest import run


def held(root: Path) -> tuple[Numbers, Table]:
    project = open_project(root)
    numbers, table = store_parts(take_inventory(project), find_garbage(project))
    assert isinstance(numbers, Numbers)
    assert isinstance(table, Table)
    return numbers, table


def test_an_empty_store(fresh: Path) -> None:  # noqa: F811
    numbers, table = held(fresh)
    assert [number.value for number in numbers.numbers] == ["0", "0 B", "0 B"]
    assert table.frame.empty


def test_sums_by_experiment(fresh: Path) -> None:  # noqa: F811
    run(fresh, "twice", "sweep")
    run(fresh, "twice", force=True)
    numbers, table = held(fresh)
    assert numbers.numbers[0].value == "6"
    rows = table.frame.set_index("experiment")
    assert rows.loc["sweep", ["datasets", "current", "garbage"]].tolist() == [4, 4, 0]
    assert rows.loc["twice", ["datasets", "current"]].tolist() == [2, 1]
    assert rows.loc["twice", "garbage"] == pytest.approx(rows.loc["twice", "size"] / 2, rel=0.01)
    assert table.csv().startswith("experiment,datasets,current,size,garbage,newest")
