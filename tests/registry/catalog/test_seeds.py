"""Cells of a matrix that differ in their seed alone: as one setting, from what is on the disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from registry.catalog.access import open_catalog
from registry.catalog.seeds import over_seeds, seeded_name
from registry.execute.schedule import run_plan
from registry.plan.project import open_project
from registry.replicates import ReplicatesError
from tests.registry.conftest import Lab
from tests.registry.lab.project import edit, write_project


@pytest.mark.parametrize(
    ("cell", "setting", "unit"),
    [
        ("a[k=8,seed=1]", "a[k=8]", 1),
        ("a[seed=1]", "a", 1),
        ("a[sae.seed=1,k=8,seed=0]", "a[k=8]", 1),
        ("a[k=8]", "a[k=8]", ""),
        ("b[seeds=2]", "b[seeds=2]", ""),
        ("c[", "c[", ""),
    ],
)
def test_a_cell_is_a_setting_and_its_seeds(cell: str, setting: str, unit: object) -> None:
    found = seeded_name(cell)
    assert (found.setting, found.unit) == (setting, unit)


def test_results_over_seeds_are_those_of_the_runs(lab: Lab) -> None:
    with open_catalog() as catalog:
        found = catalog.over_seeds("sweep", "sweep-mean")
        means = found.means().set_index("setting")
        assert means.index.tolist() == [
            *(f"sweep[factor={factor}]" for factor in (1.0, 2.0)),
            *(f"sweep-mean[factor={factor}]" for factor in (1.0, 2.0)),
        ]
        for setting in ("sweep[factor=1.0]", "sweep-mean[factor=2.0]"):
            cells = [setting.replace("]", f",seed={seed}]") for seed in (0, 1)]
            [result] = catalog.run(cells[0]).result
            held = [catalog.run(cell).result[result] for cell in cells]
            row = means.loc[setting]
            assert (row["result"], row["mean"]) == (result, pytest.approx(np.mean(held)))
            assert row["deviation"] == pytest.approx(np.std(held, ddof=1))
            assert row["n"] == 2
    differences = found.differences()
    assert differences["setting"].tolist() == ["sweep[factor=2.0]", "sweep-mean[factor=2.0]"]
    assert (differences["test"] == "paired").all()
    assert (differences["verdict"] == "no spread").all()  # the seed adds the same to both


def test_no_database_is_needed_and_none_is_started(lab: Lab) -> None:
    found = over_seeds(lab.project, ["sweep[factor=1.0]"])
    assert [own.name for own in found.settings] == ["sweep[factor=1.0]"]
    assert found.settings[0].values.index.tolist() == [0, 1]


def test_an_experiment_without_seeds_is_one_run(lab: Lab) -> None:
    [row] = over_seeds(lab.project, ["twice"]).means().to_dict("records")
    assert row["result"] == "total"
    assert row["n"] == 1
    assert np.isnan(row["low"])


def test_any_axis_can_be_the_replicates(lab: Lab) -> None:
    found = over_seeds(lab.project, ["sweep"], over="factor")
    assert [own.name for own in found.settings] == ["sweep[seed=0]", "sweep[seed=1]"]
    with pytest.raises(ReplicatesError, match=r"no axis 'sed'.*did you mean 'seed'"):
        over_seeds(lab.project, ["sweep"], over="sed")


THRICE = """
[experiments.thrice]
stage = "tests.registry.lab.scale"
needs = { numbers = "few" }
config = { factor = 3.0 }
"""


def test_experiments_can_be_the_replicates(fresh: Path) -> None:
    write_project(fresh, THRICE)
    project = open_project(fresh)
    run_plan(project, project.plan(["twice", "thrice", "mean"]), runner="here")
    totals = [over_seeds(project, [name]).means()["mean"].item() for name in ("twice", "thrice")]
    found = over_seeds(project, ["t*ice", "mean"], over="experiment", results=["total"])
    [both, alone] = found.settings
    assert (both.name, both.values.index.tolist()) == ("t*ice", ["twice", "thrice"])
    assert both.values["total"].tolist() == totals
    assert found.means().set_index("setting").loc["t*ice", "mean"] == pytest.approx(np.mean(totals))
    assert (alone.name, alone.values.index.tolist()) == ("mean", ["mean"])
    assert "mean over experiments, 95 %" in "".join(found.mean_notes())
    swept = over_seeds(project, ["sweep"], over="experiment")
    assert [own.name for own in swept.settings][:2] == [
        "sweep[factor=1.0,seed=0]",
        "sweep[factor=1.0,seed=1]",
    ]
    with pytest.raises(ReplicatesError, match=r"pair: of tests.registry.lab.average and tests"):
        over_seeds(project, ["pair"], over="experiment")


def test_results_are_chosen_by_name_or_pattern(lab: Lab) -> None:
    found = over_seeds(lab.project, ["sweep", "sweep-mean"], results=["tot*"])
    assert set(found.means()["result"]) == {"total"}
    with pytest.raises(ReplicatesError, match="no result 'totel'; did you mean 'total'"):
        over_seeds(lab.project, ["sweep"], results=["totel"])


def test_what_has_not_run_as_it_is_declared_now_is_missing(fresh: Path) -> None:
    project = open_project(fresh)
    run_plan(project, project.plan(["sweep"]), runner="here")
    changed = edit(fresh, "seed = [0, 1]", "seed = [0, 1, 2]")
    [one, _] = over_seeds(changed, ["sweep"]).settings
    assert one.missing == ("sweep[factor=1.0,seed=2]",)
    assert one.values.index.tolist() == [0, 1]
    edited = edit(fresh, "noise = 0.1", "noise = 0.2")  # what ran before is of another setting
    found = over_seeds(edited, ["sweep"])
    assert found.means().empty
    assert [len(own.missing) for own in found.settings] == [3, 3]
