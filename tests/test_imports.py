"""Importing a package, or planning, loads nothing that only running needs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ("torch", "sacred", "streamlit", "matplotlib")
ROOT = Path(__file__).parent.parent


def loaded_by(code: str) -> set[str]:
    program = f"import sys\n{code}\nprint(*(name for name in {HEAVY} if name in sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


@pytest.mark.parametrize("package", ["registry", "fact", "evals", "dashboards", "fact.kinds"])
def test_importing_a_package_loads_nothing_heavy(package: str) -> None:
    assert loaded_by(f"import {package}") == set()


@pytest.mark.slow
def test_planning_every_experiment_loads_nothing_heavy() -> None:
    code = "from registry.plan.project import open_project; assert open_project().plan().tasks"
    assert loaded_by(code) == set()


@pytest.mark.slow
def test_the_check_itself_sees_torch() -> None:
    assert "torch" in loaded_by("from fact import TopKSAE")


@pytest.mark.slow
def test_a_run_begins_without_warnings() -> None:
    command = [sys.executable, "-c", "import registry.execute.experiment"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stderr == ""
