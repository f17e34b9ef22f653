"""What the packages offer is typed for their users: mypy knows wrong calls, and the README's."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow  # mypy reads three packages

ROOT = Path(__file__).parent.parent

# Of other packages nothing is read, which takes a minute: what they offer counts as Any.
CONFIGURATION = f"""
[mypy]
mypy_path = {ROOT}
follow_imports = skip
cache_dir = {os.devnull}
[mypy-registry.*,fact.*,evals.*]
follow_imports = silent
"""

WRONG = {
    "fact": [
        "fact.trace_concepts(1, 2)",
        'fact.TopKSAE("encoder", "decoder", "k")',
        "fact.small_bcos(classes=3)",
        "fact.no_such_name",
    ],
    "evals": [
        "evals.score(1)",
        'evals.score_matrix("activations", 2, alphas="all")',
        "evals.no_such_name",
    ],
}

GIVEN = """
from typing import Any
from numpy.typing import NDArray
import fact
network: fact.Network
k: int
encoder: NDArray[Any]
decoder: NDArray[Any]
images: NDArray[Any]
picture: NDArray[Any]
activations: NDArray[Any]
labels: NDArray[Any]
encodings: NDArray[Any]
presence: NDArray[Any]
"""
"""What the calls of the README are given."""


@pytest.fixture(scope="module")
def faults(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What mypy has against the wrong calls, ``fact0.py:2: error: …``, and against the README."""
    folder = tmp_path_factory.mktemp("typing")
    (folder / "mypy.ini").write_text(CONFIGURATION)
    for package, calls in WRONG.items():
        for number, call in enumerate(calls):
            (folder / f"{package}{number}.py").write_text(f"import {package}\n{call}\n")
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    for number, block in enumerate(block for block in blocks if "catalog = " in block):
        (folder / f"catalog{number}.py").write_text(block)
    (calls_of_readme,) = (block for block in blocks if "fact.trace_concepts" in block)
    (folder / "readme.py").write_text(f"{GIVEN}\n{calls_of_readme}")
    names = sorted(path.name for path in folder.glob("*.py"))
    command = [sys.executable, "-m", "mypy", "--config-file", "mypy.ini", *names]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode in (0, 1), done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("package", "number"), [(name, n) for name, calls in WRONG.items() for n in range(len(calls))]
)
@pytest.mark.slow
def test_a_wrong_call_is_an_error(package: str, number: int, faults: str) -> None:
    assert f"{package}{number}.py:2: error: " in faults, WRONG[package][number]


@pytest.mark.parametrize("name", ["readme", "catalog"])
def test_the_calls_of_the_readme_are_right(name: str, faults: str) -> None:
    assert [line for line in faults.splitlines() if line.startswith(name)] == []
