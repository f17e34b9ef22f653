"""A stage that names its function by path, and one that has another name than it had."""

from __future__ import annotations

import importlib
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from registry.catalog.access import open_catalog
from registry.declare import plugins, stage
from registry.declare.faults import RenamedWarning, StageError
from registry.declare.stage import Stage, known_stages, load_stage
from registry.execute.schedule import run_plan
from registry.plan import sources
from registry.plan.project import Project, open_project
from tests.registry.lab import scale
from tests.registry.lab.project import edit, write_project

STAGE = '''"""Add numbers up."""
from dataclasses import dataclass

import registry
from tests.registry.lab.scale import SCALED


@dataclass(frozen=True)
class Config:
    factor: float = 2.0


stage = registry.Stage(
    "lately.{name}",
    version=1,
    config=Config,
    needs={{"numbers": "numbers"}},
    output=SCALED,
    main="lately.adding:add",{more}
)

if __name__ == "__main__":
    registry.run_module(__spec__.name)
'''

MAIN = '''"""What the stage does, in a module that may be heavy."""
import numpy as np
import xarray as xr


def add(config, inputs, run):
    values = np.array(inputs["numbers"].load()) * config.factor
    coords = {"sample": np.arange(len(values))}
    return xr.Dataset({"value": ("sample", values), "total": values.sum()}, coords)
'''

FORMER = '''"""The former name of lately.sums."""
import registry
from lately.sums import stage

if __name__ == "__main__":
    registry.run_module(__spec__.name)
'''

EXPERIMENT = """
[experiments.added]
stage = "lately.adding_up"
needs = { numbers = "few" }
"""


def forget() -> None:
    """Let the package be imported anew, as another process would."""
    for name in [name for name in sys.modules if name.split(".")[0] == "lately"]:
        del sys.modules[name]
    importlib.invalidate_caches()
    for cached in (load_stage, stage._stage_names, sources.stage_sources, sources.sources_hash):
        cached.cache_clear()
    sources.code_of.cache_clear()


@pytest.fixture
def before(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A project with a stage of its own, under the name that it has at first."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(plugins, "_IMPORTED", set())
    package = fresh / "lately"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "adding.py").write_text(MAIN)
    (package / "adding_up.py").write_text(STAGE.format(name="adding_up", more=""))
    forget()
    write_project(fresh, EXPERIMENT)
    return edit(fresh, 'lab.kinds"', 'lab.kinds", "lately"')


def rename(root: Path) -> None:
    more = '\n    formerly=("lately.adding_up",),'
    (root / "lately" / "sums.py").write_text(STAGE.format(name="sums", more=more))
    (root / "lately" / "adding_up.py").write_text(FORMER)
    forget()


def test_the_function_is_imported_when_it_is_needed(before: Project) -> None:
    adding = load_stage("lately.adding_up")
    assert adding.main_modules == ("lately.adding",)
    assert "lately.adding" not in sys.modules
    files = sources.stage_sources(adding.name, adding.code_modules())
    own = [path.name for path in files if path.parent.name == "lately"]
    assert own == ["adding.py", "adding_up.py"], "its code counts as the stage's own"
    [here] = run_plan(before, before.plan(["added"]), here=True)
    assert here.is_good, here
    assert "lately.adding" in sys.modules


def test_workers_import_it_too(before: Project) -> None:
    [outcome] = run_plan(before, before.plan(["added"]), workers=1)
    assert outcome.is_good, outcome


def test_a_path_that_leads_nowhere() -> None:
    def made(main: str) -> Stage:
        config, output = scale.Config, scale.SCALED
        return Stage("tests.nothing", version=1, config=config, needs={}, output=output, main=main)

    with pytest.raises(StageError, match=r"expected main as 'module:function'; got 'fact\.sae'"):
        made("fact.sae")
    with pytest.raises(StageError, match=r"'tests\.registry\.lab\.scale' has no function 'scan'"):
        made("tests.registry.lab.scale:scan")(scale.Config(), {}, None)  # type: ignore[arg-type]


def test_under_a_new_name_nothing_runs_again(before: Project) -> None:
    [ran] = run_plan(before, before.plan(["added"]), here=True)
    fingerprint = before.plan(["added"]).task("added").fingerprint
    rename(before.root)
    with pytest.warns(RenamedWarning, match=r"toml:\d+: experiments\.added\.stage: 'lately\.addi"):
        project = open_project(before.root)
    task = project.plan(["added"]).task("added")
    assert (task.due, task.fingerprint, task.stage) == (False, fingerprint, "lately.sums")
    with open_catalog() as catalog:
        for name in ("lately.sums", "lately.adding_up"):
            [run] = catalog.runs(stage=name)
            assert (run.uid, run.stage) == (ran.uid, "lately.sums")
            assert len(catalog.runs(where={"stage": [name]})) == 1
        assert catalog.dataset("added")["total"] == 13
    assert "lately.sums" in known_stages("lately")
    assert "lately.adding_up" not in known_stages("lately")


def test_a_changed_key_is_the_only_reason_after_a_new_name(before: Project) -> None:
    run_plan(before, before.plan(["added"]), here=True)
    rename(before.root)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        project = edit(
            before.root,
            '"lately.adding_up"\n',
            '"lately.sums"\nconfig = { factor = 3.0 }\n',
        )
    task = project.plan(["added"]).task("added")
    assert task.reason == "configuration changed: factor 2.0 -> 3.0"


def test_the_former_name_works_on_the_command_line(before: Project) -> None:
    rename(before.root)
    command = [sys.executable, "-m", "lately.adding_up", "with", "added", "factor=4"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with open_catalog() as catalog:
        [run] = catalog.runs(stage="lately.sums")
        assert run.result["total"] == 26
    done = subprocess.run(
        [sys.executable, "-m", "registry.cli", "list"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "warning: " in done.stderr
    assert "'lately.adding_up' was renamed 'lately.sums'" in done.stderr
