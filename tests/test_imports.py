"""Importing a package, or planning, loads nothing that only running needs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ("torch", "sacred", "streamlit", "matplotlib")
ROOT = Path(__file__).parent.parent


STEPS = (
    *(f"import {name}" for name in ("registry", "fact", "evals", "dashboards", "fact.kinds")),
    "from registry.plan.project import open_project; assert open_project().plan().tasks",
    "from fact import TopKSAE",
)
PROGRAM = f"""
import sys
for step in {STEPS}:
    exec(step)
    print(*(name for name in {HEAVY} if name in sys.modules))
"""


@pytest.mark.slow
def test_importing_a_package_or_planning_every_experiment_loads_nothing_heavy() -> None:
    """One after the other in a process; and what needs torch loads it, so that it is seen."""
    command = [sys.executable, "-c", PROGRAM]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    *loaded, last = zip(STEPS, done.stdout.splitlines(), strict=True)
    assert dict(loaded) == dict.fromkeys(STEPS[:-1], "")
    assert "torch" in last[1].split()


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
import json, sys

class Missing:
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] in {EXTRAS}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Missing)
from click.testing import CliRunner
from registry.cli import main

told = {{}}
for command in sys.argv[1:]:
    done = CliRunner().invoke(main, command.split())
    raised = "" if done.exception is None else repr(done.exception)
    told[command] = (done.exit_code, done.output, raised)
print(json.dumps(told))
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


SAID = {
    "metrics": "auprc",
    "plan all": "2 tasks to run",
    "run labels --here": "completed",
    "run classifier --here": "safetensors: pip install -U 'factbook[networks]'",
    "c2 .": "needs torch: pip install 'factbook[networks]'",
    "report all": "pip install 'factbook[dashboard]'",
}


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[int, str, str]]:
    """Status and output of each command, and what it raised, in an environment without extras."""
    folder = tmp_path_factory.mktemp("without")
    (folder / "experiments.toml").write_text(DECLARATION)
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_EXTRAS, *SAID],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "FACTBOOK_MONGO": "off"},
        capture_output=True,
        text=True,
        check=True,
    )
    found: dict[str, tuple[int, str, str]] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.slow
@pytest.mark.parametrize("command", SAID)
def test_what_no_extra_is_needed_for_works_and_the_rest_says_how_to_install_it(
    told: dict[str, tuple[int, str, str]], command: str
) -> None:
    status, printed, raised = told[command]
    assert SAID[command] in printed
    assert status == int("pip install" in SAID[command]), printed
    assert raised.partition("(")[0] == ("", "SystemExit")[status]
    assert "Traceback" not in printed
