"""Real stages over the seeds of an SAE two steps before: their scalars, and their tables by row."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import xarray as xr

from dashboards.views.parts.parts import Table
from dashboards.views.results import identification, localisation, names
from dashboards.views.results.view import ResultView
from dashboards.views.results.view import over_seeds as over_seeds_of
from evals.concepts.matching import BY_BASIS, BY_THRESHOLD
from evals.naming.tables import NAMERS
from registry.catalog.seeds import over_seeds
from registry.declare.stage import load_stage
from registry.plan.project import Project
from tests.dashboards import fabricate, fabricate_results
from tests.dashboards.fabricate import run_uid, store

DECLARATION = """
[datasets.shapes]
kind = "shapes"

[experiments.sae]
stage = "tests.dashboards.toy.train"
matrix = { k = [8, 16], seed = [0, 1, 2] }

[experiments.concepts]
stage = "tests.dashboards.toy.measure"
needs = { sae = "sae" }

[experiments.first]
stage = "tests.dashboards.toy.train"

[experiments.first-concepts]
stage = "tests.dashboards.toy.measure"
needs = { sae = "first" }

[experiments.again]
stage = "tests.dashboards.toy.measure"
needs = { sae = "sae[k=8]" }
matrix = { seed = [0, 1] }

[experiments.matching]
stage = "evals.match_concepts"
needs = { one = "first-concepts", other = "concepts" }

[experiments.labels]
stage = "fact.label_inputs"
needs = { images = "shapes" }

[experiments.names]
stage = "evals.name_concepts"
needs = { activations = "concepts", labels = "labels" }
"""


def named(seed: int) -> xr.Dataset:
    made = fabricate.with_chance(fabricate.names())
    share = made["above_chance_share"] + seed / 10
    return made.assign(above_chance_share=share, consensus_share=0.5 + seed / 10)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """All of one k, but for its last seed; of the other k two seeds."""
    project = fabricate.declare(tmp_path_factory.mktemp("seeds") / "project", DECLARATION)
    made = [(f"matching[k=8,seed={s}]", fabricate_results.matching(0.4 + s / 10)) for s in (0, 1)]
    made += [(f"matching[k=16,seed={s}]", fabricate_results.matching(0.6 + s / 5)) for s in (0, 2)]
    made += [(f"names[k=8,seed={seed}]", named(seed)) for seed in (0, 1, 2)]
    accuracy = iter((0.5, 0.7, 0.1, np.nan, 0.4))
    for cell in project.graph.by_experiment["again"][:5]:
        made.append((cell.name, fabricate.concepts().assign(accuracy=next(accuracy))))
    for minute, (cell, dataset) in enumerate(made):
        schema = load_stage(project.cell(cell).stage).output
        store(project, cell, dataset, schema, run_uid(cell, minute))
    return project


def test_names_and_matches_have_their_tables_by_row(project: Project) -> None:
    patterns = ["above_chance.*", "score.iou", "consensus_share"]
    means = over_seeds(project, ["names[k=8]"], results=patterns).means().set_index("result")
    assert sorted(means.index) == [
        "above_chance.auprc",
        "above_chance.iou",
        "consensus_share",
        "score.iou",
    ]
    assert means.loc["above_chance.iou", "mean"] == pytest.approx(1 / 3 + 0.1)
    assert means.loc["consensus_share", "mean"] == pytest.approx(0.6)
    assert np.isnan(means.loc["score.iou", "low"])  # the same for each seed
    found = over_seeds(project, ["matching"], results=["matched_share.decoder.0.5"])
    assert found.means()["mean"].tolist() == pytest.approx([0.45, 0.8])
    assert [own.missing for own in found.settings] == [
        ("matching[k=8,seed=2]",),
        ("matching[k=16,seed=1]",),
    ]
    [row] = found.differences().to_dict("records")
    assert (row["n"], row["left_out"], row["verdict"]) == (1, 2, "untested")
    assert row["difference"] == pytest.approx(0.2)


def test_results_that_are_the_same_everywhere_are_left_out_unless_asked(project: Project) -> None:
    found = over_seeds(project, ["names[k=8]"])
    assert found.means()["result"].tolist() == ["consensus_share"]


def test_seeds_below_a_seed_are_no_replicates(project: Project) -> None:
    """Three SAEs of one k, each measured with two seeds: three replicates at most, not six."""
    found = over_seeds(project, ["again"], results=["accuracy"])
    [setting] = found.settings
    assert setting.name == "again"
    assert setting.missing == ("again[sae.seed=2,seed=1]",)
    assert setting.values["accuracy"].tolist() == pytest.approx([0.6, np.nan, 0.4], nan_ok=True)
    [row] = found.means().to_dict("records")
    assert (row["n"], row["undefined"], row["missing"]) == (2, 1, 1)
    assert found.remarks[0].startswith("again: n counts the values of sae.seed")
    cells = {cell.name: {"x": float(n)} for n, cell in
             enumerate(project.graph.by_experiment["again"])}  # fmt: skip
    assert over_seeds_of(cells).settings[0].values["x"].tolist() == [0.5, 2.5, 4.5]


def test_the_page_of_names_has_the_consensus_or_one_metric_over_seeds() -> None:
    datasets = {f"names[k={k},seed={s}]": named(s + k) for k in (4, 8) for s in (0, 1, 2)}
    tables = {p.title: p.frame for p in names.VIEW.parts(datasets) if isinstance(p, Table)}
    means = tables["Over seeds, by consensus"].set_index(["result", "setting"])["mean"]
    assert means["consensus_share", "names[k=8]"] == pytest.approx(1.4)
    tables = {p.title: p.frame for p in names.VIEW.parts(datasets, metric="iou")
              if isinstance(p, Table)}  # fmt: skip
    means = tables["Over seeds, by iou"].set_index(["result", "setting"])["mean"]
    assert means["above_chance", "names[k=4]"] == pytest.approx(1 / 3 + 0.5)
    assert "score" in means.index.get_level_values("result")
    assert {"Compared over seeds, by iou", "Setting by setting"} <= tables.keys()


@pytest.mark.parametrize(
    ("shown", "dataset", "result"),
    [
        (identification.VIEW, fabricate_results.identification, "auprc.iou"),
        (localisation.VIEW, fabricate_results.localisation, "mean_score.pointing"),
    ],
)
def test_pages_of_tables_have_their_columns_over_seeds(
    shown: ResultView, dataset: Callable[[], xr.Dataset], result: str
) -> None:
    datasets = {f"a[seed={seed}]": dataset() for seed in (0, 1)}
    tables = {p.title: p.frame for p in shown.parts(datasets) if isinstance(p, Table)}
    means = tables["Over seeds"].set_index("result")
    assert means.loc[result, "n"] == 2
    assert "Compared over seeds" not in tables  # there is one setting


def test_numbers_of_a_table_have_the_names_of_their_rows() -> None:
    matching = fabricate_results.matching(0.4)
    numbers = BY_BASIS.numbers(matching) | BY_THRESHOLD.numbers(matching)
    assert numbers["mutual_share.presence"] == 0.75
    assert numbers["matched_share.presence.0.9"] == pytest.approx(0.1)
    own = NAMERS.numbers(fabricate.names())
    assert own["score.iou"] == pytest.approx(0.7)
    assert not any(key.startswith(("verdict", "metric")) for key in own)
