"""Importing a package, or planning, loads nothing that only running needs."""

from __future__ import annotations

import os
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
@pytest.mark.slow
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


EXTRAS = (
    *("torch", "torchvision", "bcos", "einops", "safetensors", "streamlit", "altair", "jinja2"),
    *("vl_convert", "zennit", "sklearn", "open_clip"),
)
WITHOUT_EXTRAS = f"""
import sys

class Missing:
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] in {EXTRAS}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Missing)
from registry.cli import main
main(sys.argv[1:])
"""
DECLARATION = """
[datasets.shapes]
kind = "shapes"
n_train = 8
n_test = 8
size = 24

[experiments.labels]
stage = "fact.label_inputs"
needs = { images = "shapes" }

[experiments.classifier]
stage = "fact.train_classifier"
needs = { images = "shapes" }

[suites]
all = ["labels", "classifier"]
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("metrics", "auprc"),
        ("plan all", "2 tasks to run"),
        ("run labels --here", "completed"),
        ("run classifier --here", "safetensors: pip install -U 'factbook[networks]'"),
        ("c2 .", "needs torch: pip install 'factbook[networks]'"),
        ("report all", "pip install 'factbook[dashboard]'"),
    ],
)
def test_what_no_extra_is_needed_for_works_and_the_rest_says_how_to_install_it(
    tmp_path: Path, command: str, says: str
) -> None:
    (tmp_path / "experiments.toml").write_text(DECLARATION)
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_EXTRAS, *command.split()],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "FACTBOOK_MONGO": "off"},
        capture_output=True,
        text=True,
    )
    printed = done.stdout + done.stderr
    assert says in printed
    assert done.returncode == int("pip install" in says), printed
    assert "Traceback" not in printed
