"""A project of the lab's stages, as a folder."""

from __future__ import annotations

from pathlib import Path

from registry.plan.project import Project, open_project

DECLARATION = """
[project]
plugins = ["tests.registry.lab.kinds"]

[datasets.few]
kind = "numbers"
values = [1, 2, 3.5]

[experiments.twice]
stage = "tests.registry.lab.scale"
needs = { numbers = "few" }

[experiments.mean]
stage = "tests.registry.lab.average"
needs = { scaled = "twice" }

[experiments.sweep]
stage = "tests.registry.lab.scale"
needs = { numbers = "few" }
config = { noise = 0.1 }
matrix = { factor = [1.0, 2.0], seed = [0, 1] }

[experiments.sweep-mean]
stage = "tests.registry.lab.average"
needs = { scaled = "sweep" }

[suites]
pair = ["twice", "mean"]
"""


def write_project(root: Path, more: str = "") -> Path:
    """Write the declaration, with more of it at its end; return the folder."""
    root.mkdir(parents=True, exist_ok=True)
    (root / "experiments.toml").write_text(DECLARATION + more)
    return root


def edit(root: Path, old: str, new: str) -> Project:
    """Replace a text that stands in the declaration; return the project as it is then."""
    file = root / "experiments.toml"
    text = file.read_text()
    if old not in text:
        raise ValueError(f"{old!r} is not in the declaration")
    file.write_text(text.replace(old, new))
    return open_project(root)
