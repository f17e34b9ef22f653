"""A stage that names its function by path, and what has another name than it had."""

from __future__ import annotations

import importlib
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
from tests import forked
from tests.registry.lab import scale
from tests.registry.lab.project import edit, write_project

STAGE = '''"""Add numbers up."""
from dataclasses import dataclass
from typing import Annotated

import registry
from tests.registry.lab.scale import SCALED


@dataclass(frozen=True)
class Config:
    {keys}


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
    factor = getattr(config, "factor", None) or config.times
    values = np.array(inputs["numbers"].load()) * factor + getattr(config, "offset", 0)
    coords = {"sample": np.arange(len(values))}
    return xr.Dataset({"value": ("sample", values), "total": values.sum()}, coords)
'''

FACTOR = "factor: float = 2.0"

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
    for cached in (load_stage, stage._find_stage, sources.stage_sources, sources.sources_hash):
        cached.cache_clear()
    sources.code_of.cache_clear()


@pytest.fixture
def before(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A project with a stage of its own, under the name that it has at first."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[3]))
    monkeypatch.setattr(plugins, "_IMPORTED", set())
    package = fresh / "lately"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "adding.py").write_text(MAIN)
    (package / "adding_up.py").write_text(STAGE.format(name="adding_up", more="", keys=FACTOR))
    forget()
    write_project(fresh, EXPERIMENT)
    return edit(fresh, 'lab.kinds"', 'lab.kinds", "lately"')


def rename(root: Path) -> None:
    more = '\n    formerly=("lately.adding_up",),'
    (root / "lately" / "sums.py").write_text(STAGE.format(name="sums", more=more, keys=FACTOR))
    (root / "lately" / "adding_up.py").write_text(FORMER)
    forget()


def test_the_function_is_imported_when_it_is_needed(before: Project) -> None:
    adding = load_stage("lately.adding_up")
    assert adding.main_modules == ("lately.adding",)
    assert "lately.adding" not in sys.modules
    files = sources.stage_sources(adding.name, adding.code_modules())
    own = [path.name for path in files if path.parent.name == "lately"]
    assert own == ["adding.py", "adding_up.py"], "its code counts as the stage's own"
    [here] = run_plan(before, before.plan(["added"]), runner="here")
    assert here.is_good, here
    assert "lately.adding" in sys.modules


@pytest.mark.slow
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


@pytest.mark.slow
def test_under_a_new_name_nothing_runs_again(before: Project) -> None:
    [ran] = run_plan(before, before.plan(["added"]), runner="here")
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


@pytest.mark.slow
def test_a_changed_key_is_the_only_reason_after_a_new_name(before: Project) -> None:
    run_plan(before, before.plan(["added"]), runner="here")
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


@pytest.mark.slow
def test_the_former_name_works_on_the_command_line(before: Project) -> None:
    rename(before.root)
    done = forked.run("lately.adding_up", "with", "added", "factor=4")
    assert done.returncode == 0, done.stderr
    with open_catalog() as catalog:
        [run] = catalog.runs(stage="lately.sums")
        assert run.result["total"] == 26
    done = forked.run("factbook", "list")
    assert done.returncode == 0, done.stderr
    assert "warning: " in done.stderr
    assert "'lately.adding_up' was renamed 'lately.sums'" in done.stderr


KEYS = """times: Annotated[float, registry.Formerly("factor")] = 2.0
    offset: Annotated[int, registry.Since(0)] = 0"""


def rename_key(root: Path) -> None:
    (root / "lately" / "adding_up.py").write_text(
        STAGE.format(name="adding_up", more="", keys=KEYS)
    )
    forget()


@pytest.fixture
def swept(before: Project) -> Project:
    """The project, with a matrix over the key that is renamed later."""
    return edit(
        before.root,
        'lately.adding_up"\nneeds = { numbers = "few" }\n',
        'lately.adding_up"\nneeds = { numbers = "few" }\nmatrix = { factor = [2.0, 4.0] }\n',
    )


@pytest.mark.slow
def test_a_renamed_and_an_added_key_rerun_nothing(swept: Project) -> None:
    run_plan(swept, swept.plan(["added"]), runner="here")
    before = {task.fingerprint for task in swept.plan(["added"]).tasks}
    rename_key(swept.root)
    with pytest.warns(RenamedWarning, match=r"toml:\d+: experiments\.added\.matrix\.factor: 'fac"):
        project = open_project(swept.root)
    plan = project.plan(["added"])
    assert [task.name for task in plan.tasks] == ["added[times=2.0]", "added[times=4.0]"]
    assert {task.fingerprint for task in plan.tasks} == before
    assert not plan.due
    assert project.cell("added[factor=4.0]").name == "added[times=4.0]", "references go on"
    with open_catalog() as catalog:
        for key in ("config.times", "config.factor"):
            [run] = catalog.runs(where={key: 4.0})
            assert (run.config["times"], run.config["offset"]) == (4.0, 0)
        assert len(catalog.runs(experiment="added[times=4.0]")) == 1
        assert catalog.input("added[times=4.0]").config["times"] == 4.0


@pytest.mark.slow
def test_only_what_changed_is_a_reason_after_a_new_name(swept: Project) -> None:
    run_plan(swept, swept.plan(["added"]), runner="here")
    rename_key(swept.root)
    project = edit(
        swept.root,
        "matrix = { factor = [2.0, 4.0] }",
        "matrix = { times = [2.0, 4.0] }\nconfig = { offset = 1 }",
    )
    reasons = {task.reason for task in project.plan(["added"]).due}
    assert reasons == {"configuration changed: offset 0 -> 1"}


@pytest.mark.slow
def test_the_former_name_of_a_key_works_on_the_command_line(before: Project) -> None:
    rename_key(before.root)
    done = forked.run("lately.adding_up", "with", "added", "factor=4")
    assert done.returncode == 0, done.stderr
    assert "'factor' was renamed 'times'" in done.stderr
    with open_catalog() as catalog:
        [run] = catalog.runs(where={"config.times": 4})
        assert run.result["total"] == 26
        assert "factor" not in run.config
