"""Benchmarks take longer than tests may, and tell what they measure in one table."""

from __future__ import annotations

import os
from collections.abc import Generator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from tests.benchmarks.table import Result, Table, keep, text

SECONDS = 3600
ROWS = pytest.StashKey[Table]()
RESULTS: dict[str, Result] = {}
"""Of the benchmarks that ran, by their names."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.timeout(SECONDS))


@pytest.fixture
def table(request: pytest.FixtureRequest) -> Table:
    """Rows of this benchmark, which fails where one is beyond its bound."""
    return request.node.stash.setdefault(ROWS, Table())


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, Any, Any]:
    """Hold a benchmark's rows by their bounds, once it has measured all of them."""
    returned = yield
    if ROWS in pyfuncitem.stash and (missed := pyfuncitem.stash[ROWS].failures()):
        pytest.fail("\n".join(missed), pytrace=False)
    return returned


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Note what became of a benchmark after each of its phases; keep it when it is over."""
    report = yield
    if item.get_closest_marker("benchmark") is None:
        return report
    result = RESULTS.setdefault(named(item), Result())
    result.seconds += report.duration
    if ROWS in item.stash:
        result.rows = [asdict(row) for row in item.stash[ROWS].rows]
    if not report.passed and result.outcome != "failed":
        result.outcome, result.why = report.outcome, reason(report)
    if report.when == "teardown":
        result.load = os.getloadavg()[0]
        keep({named(item): result})
    return report


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print the table of what ran."""
    if RESULTS:
        terminalreporter.section("benchmarks")
        terminalreporter.write_line(text(RESULTS, terminalreporter._tw.fullwidth))


def named(item: pytest.Item) -> str:
    """Return the name of a benchmark: its module and function."""
    return item.nodeid.rpartition("/")[2].replace(".py::", "::")


def reason(report: pytest.TestReport) -> str:
    """Return in a line why a benchmark failed or was skipped."""
    if isinstance(report.longrepr, tuple):
        return report.longrepr[2].removeprefix("Skipped: ")
    told = getattr(getattr(report.longrepr, "reprcrash", None), "message", str(report.longrepr))
    return " ".join(told.split())[:200]
