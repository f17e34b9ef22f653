"""What was made from what: as it is declared, and as it was."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from registry.catalog.lineage import FinishedRuns, Lineage, lineage_of
from registry.execute.schedule import run_plan
from registry.plan.project import Project, open_project
from registry.plan.task import Why
from registry.record.tombstones import Tombstone, write_tombstone
from tests.registry.conftest import Lab
from tests.registry.lab.project import edit

SCALED = "sweep[factor=1.0,seed=0]"
MEAN = "sweep-mean[factor=1.0,seed=0]"


@pytest.fixture
def root(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the project that has run once, without the runs that other tests added."""
    root = shutil.copytree(lab.root, tmp_path / "copy", symlinks=True)
    first = {outcome.uid for outcome in lab.outcomes.values()}
    for current in (root / "artifacts").glob("*/*/current"):
        current.unlink()
        for manifest in current.parent.glob("*/manifest.json"):
            if manifest.parent.name in first:
                current.symlink_to(manifest.parent.name)
            else:
                shutil.rmtree(manifest.parent)
    monkeypatch.chdir(root)
    return root


def run_of(lineage: Lineage, name: str) -> str:
    return lineage.entries[name].run


def rerun(root: Path, *names: str, force: bool = False) -> Project:
    project = open_project(root)
    outcomes = run_plan(project, project.plan(names, force=force), runner="here")
    assert all(outcome.uid for outcome in outcomes)
    return project


def test_as_long_as_nothing_changes_every_run_is_what_a_cell_asks_for(root: Path) -> None:
    project = open_project(root)
    lineage = lineage_of(project)
    assert list(lineage.entries) == list(project.graph.cells)
    for name, entry in lineage.entries.items():
        assert entry.is_current
        assert entry.title == name
        assert entry.folder == project.current(name)
        assert entry.address == {"cell": name, "run": entry.folder.name}
        assert dict(entry.needs) == dict(project.graph.cells[name].needs)
    assert [entry.name for entry in lineage.made_from(SCALED)] == [MEAN]


def test_what_was_made_before_a_value_changed_keeps_what_it_was_made_from(root: Path) -> None:
    before = lineage_of(open_project(root))
    scaled, mean = run_of(before, SCALED), run_of(before, MEAN)
    edit(root, "noise = 0.1", "noise = 0.2")
    lineage = lineage_of(open_project(root))
    assert run_of(lineage, SCALED) == ""
    assert lineage.standing_for(SCALED) == scaled
    assert [entry.run for entry in lineage.earlier(SCALED)] == [scaled]
    old = lineage.entries[scaled]
    assert (old.cell, old.is_current, old.config["noise"]) == (SCALED, False, 0.1)
    assert old.title.startswith(f"{SCALED} (20")
    assert lineage.entries[mean].needs == {"scaled": scaled}
    assert [entry.name for entry in lineage.made_from(scaled)] == [mean]
    assert [entry.name for entry in lineage.made_from(SCALED)] == [MEAN]

    project = rerun(root, SCALED)
    lineage = lineage_of(project)
    assert lineage.entries[SCALED].folder == project.current(SCALED)
    assert lineage.standing_for(SCALED) == SCALED
    assert lineage.entries[mean].needs == {"scaled": scaled}, "not what is asked for now"


def test_of_what_has_the_same_bits_the_current_run_counts(root: Path) -> None:
    before = lineage_of(open_project(root))
    project = rerun(root, SCALED, force=True)
    lineage = lineage_of(project)
    assert run_of(lineage, SCALED) != run_of(before, SCALED)
    assert run_of(lineage, MEAN) == run_of(before, MEAN)
    assert lineage.entries[MEAN].needs == {"scaled": SCALED}
    assert [entry.run for entry in lineage.earlier(SCALED)] == [run_of(before, SCALED)]


def test_what_is_declared_no_more_is_there(root: Path) -> None:
    before = lineage_of(open_project(root))
    edit(root, "[experiments.sweep-mean]", "[experiments.other-mean]")
    project = open_project(root)
    lineage = lineage_of(project)
    mean = lineage.of_run(run_of(before, MEAN))
    assert mean is not None
    assert (mean.cell, mean.experiment) == (MEAN, "sweep-mean")
    assert mean.needs == {"scaled": SCALED}
    assert lineage.of_run("20200101T000000-aaaaaaaa") is None


def test_preferred_runs_are_kept_apart(root: Path) -> None:
    lineage = lineage_of(open_project(root))
    assert lineage.preferring(["x"]).preferred == {"x"}
    assert lineage.preferred == set()


def test_a_store_is_read_again_as_far_as_it_changed(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = open_project(root)
    store = FinishedRuns(project.store.root)
    assert store.refresh() == store.refresh() == 1
    number = len(store.runs())
    folder = project.current(MEAN)
    os.unlink(folder.parent / "current")
    shutil.rmtree(folder)
    assert store.refresh() == 2
    assert len(store.runs()) == number - 1
    assert store.current("sweep-mean", folder.parent.name) == ""
    assert not lineage_of(project, store).is_made(MEAN)


def test_what_is_damaged_or_deleted_is_not_there(root: Path) -> None:
    project = open_project(root)
    scaled, mean = project.current(SCALED), project.current(MEAN)
    (mean / "manifest.json").write_text("{")
    told = ("x", "s", scaled.parent.name, "COMPLETED", "", "2026-11-30T00:00:00Z", "me", "")
    write_tombstone(root, Tombstone(scaled.name, *told))
    lineage = lineage_of(project)
    assert run_of(lineage, SCALED) == run_of(lineage, MEAN) == ""
    assert lineage.of_run(scaled.name) is None


def test_changes_since_a_run_are_named_by_their_keys(root: Path) -> None:
    before = open_project(root)
    scaled = before.current(SCALED).parent.name
    mean = before.current(MEAN).parent.name
    assert before.changes_since(SCALED, scaled) == ()
    assert before.changes_since(SCALED, "0" * 16) == ()
    edit(root, "noise = 0.1", "noise = 0.2")
    project = open_project(root)
    [reason] = project.changes_since(SCALED, scaled)
    assert reason.why is Why.CONFIG
    assert list(map(str, reason.changes)) == ["noise 0.1 -> 0.2"]
    [reason] = project.changes_since(MEAN, mean)
    assert reason.why is Why.INPUT
    assert "noise 0.1 -> 0.2" in str(reason)
