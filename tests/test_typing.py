"""What the packages offer is typed for their users: mypy knows wrong calls, and the README's."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

WRONG = {
    "fact": [
        "fact.trace_concepts(1, 2)",
        'fact.TopKSAE("encoder", "decoder", "k")',
        "fact.small_bcos(classes=3)",
        "fact.no_such_name",
    ],
}


def mypy(folder: Path, *programs: str) -> list[str]:
    """Return what mypy has against programs, each line as ``0.py:2: error: …``."""
    for number, program in enumerate(programs):
        (folder / f"program{number}.py").write_text(program)
    (folder / "mypy.ini").write_text(f"[mypy]\nmypy_path = {ROOT}\nignore_missing_imports = True\n")
    command = [sys.executable, "-m", "mypy", "--config-file", "mypy.ini", "--follow-imports=silent"]
    cache = ["--cache-dir", str(ROOT / ".mypy_cache")]
    files = [f"program{number}.py" for number in range(len(programs))]
    done = subprocess.run([*command, *cache, *files], cwd=folder, capture_output=True, text=True)
    assert done.returncode in (0, 1), done.stderr
    return [line for line in done.stdout.splitlines() if ": error: " in line]


@pytest.mark.slow
@pytest.mark.parametrize("package", WRONG)
def test_wrong_calls_are_errors(package: str, tmp_path: Path) -> None:
    programs = [f"import {package}\n{call}\n" for call in WRONG[package]]
    faults = "\n".join(mypy(tmp_path, *programs))
    for number, call in enumerate(WRONG[package]):
        assert f"program{number}.py:2: error: " in faults, call


@pytest.mark.slow
def test_the_calls_of_the_readme_are_right(tmp_path: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    (calls,) = (block for block in blocks if "fact.trace_concepts" in block)
    given = (
        "from typing import Any\nfrom numpy.typing import NDArray\nimport fact\n"
        "network: fact.Network\nk: int\n"
        + "\n".join(
            f"{name}: NDArray[Any]"
            for name in (
                *("encoder", "decoder", "images", "picture"),
                *("activations", "labels", "encodings", "presence"),
            )
        )
    )
    assert mypy(tmp_path, f"{given}\n{calls}") == []
