"""Benchmarks take longer than tests may."""

from __future__ import annotations

from pathlib import Path

import pytest

SECONDS = 3600


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.timeout(SECONDS))
