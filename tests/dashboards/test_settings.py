"""Which settings pages of results offer, and how they are put together."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from dashboards.views.concepts.labels import LABEL, label_concepts, naming_cell, with_names
from dashboards.views.parts.parts import Answer, Heading, Note
from dashboards.views.results.view import MOST_IN_FULL, ResultView, options_of, over_seeds
from dashboards.views.runs.settings import behind, cells_meant, first_settings, settings_of
from registry.catalog.access import open_catalog
from registry.catalog.lineage import Lineage, lineage_of
from registry.plan.project import open_project
from registry.store.durable import StoreError
from tests.dashboards import fabricate, fabricate_results


@pytest.fixture(scope="module")
def lineage(results: Path) -> Lineage:
    return open_catalog(results, "off").lineage()


SWEEP = [f"toy-matching[k={k},seed={seed}]" for k in (8, 16) for seed in (0, 1)]


@pytest.mark.slow
def test_settings_are_cells_and_experiments_of_several(lineage: Lineage) -> None:
    assert settings_of(lineage, "matching") == ["toy-matching", *SWEEP]
    assert settings_of(lineage, "sanity") == ["toy-sanity"]
    assert settings_of(lineage, "decisions") == []


def test_an_experiment_means_all_of_its_cells_each_once(lineage: Lineage) -> None:
    meant = cells_meant(lineage, [SWEEP[2], "toy-matching", "toy-sanity"])
    assert meant == [SWEEP[2], SWEEP[0], SWEEP[1], SWEEP[3], "toy-sanity"]


def test_a_page_begins_with_what_is_made_of_the_same_inputs(lineage: Lineage) -> None:
    settings = settings_of(lineage, "identification")
    assert settings[-1] == fabricate_results.UNMADE
    assert first_settings(lineage, settings) == ["toy-identify"]
    together = ["toy-identify", "toy-identify-shifted"]
    assert first_settings(lineage, settings, 3) == together
    assert first_settings(lineage, settings[::-1], 2) == together[::-1]
    assert first_settings(lineage, [fabricate_results.UNMADE]) == [fabricate_results.UNMADE]
    others = ["toy-localisation", "toy-scores", "toy-consistency"]
    assert first_settings(lineage, others, 3) == ["toy-localisation", "toy-consistency"]


def test_names_are_found_behind_a_result(lineage: Lineage) -> None:
    assert naming_cell(lineage, "toy-consistency") == "toy-names"
    assert naming_cell(lineage, SWEEP[0]) == "toy-names"
    assert naming_cell(lineage, "toy-scores") == ""


def test_concepts_are_labelled_by_number_not_by_place() -> None:
    numbers = [2, 0, 99]
    dataset = xr.Dataset(coords={"concept": numbers})
    names = fabricate.names()
    consensus = names["consensus"].to_series()
    labels = label_concepts(dataset, names)[LABEL].values.tolist()
    assert labels == [consensus[2], consensus[0], ""]


def test_without_readable_names_a_dataset_stays_as_it_is(lineage: Lineage) -> None:
    def fail(cell: str) -> xr.Dataset:
        raise StoreError(f"{cell} is damaged")

    dataset = fabricate_results.consistency()
    assert with_names(lineage, "toy-consistency", dataset, fail) is dataset


def test_means_over_seeds_are_those_of_numpy() -> None:
    values = {"a[k=8,seed=0]": 1.0, "a[k=8,seed=1]": 4.0, "a[k=16,seed=0]": 5.0, "b": 9.0}
    rows = over_seeds({cell: {"x": value} for cell, value in values.items()}).means()
    rows = rows.set_index("setting")
    assert rows.index.tolist() == ["a[k=8]", "a[k=16]"]
    assert rows.loc["a[k=8]", "mean"] == 2.5
    assert rows.loc["a[k=8]", "deviation"] == pytest.approx(np.std([1, 4], ddof=1))
    assert np.isnan(rows.loc["a[k=16]", "deviation"])
    assert rows["n"].tolist() == [2, 1]


def test_inherited_seeds_are_seeds_and_other_names_are_not() -> None:
    found = over_seeds({"a[sae.seed=1]": {"x": 1.0}, "b[seeds=2]": {"x": 1.0}, "c[": {"x": 1.0}})
    assert [own.name for own in found.settings] == ["a"]


def test_no_seed_no_rows() -> None:
    assert not over_seeds({"a": {"x": 1.0}}).settings
    assert not over_seeds({}).settings


def test_only_a_few_settings_are_told_in_full() -> None:
    view = ResultView(
        *("x", "X", "x", "", ""),
        blocks=lambda at: [Note(f"about {at.cell}")],
        sentence=lambda at: f"{at.cell} says it",
        figure=lambda settings: [],
    )
    one = view.parts({"a": xr.Dataset()})
    assert one == [Answer("a says it"), Note("about a")]
    cells = [f"c{place}" for place in range(MOST_IN_FULL + 2)]
    parts = view.parts(dict.fromkeys(cells, xr.Dataset()))
    headings = [part.text for part in parts if isinstance(part, Heading)]
    assert headings == cells[:MOST_IN_FULL]
    assert [part.text for part in parts if isinstance(part, Answer)] == [
        f"{cell}: {cell} says it" for cell in cells[:MOST_IN_FULL]
    ]
    notes = [part.text for part in parts if isinstance(part, Note)]
    assert notes[0].startswith("2 more settings")
    assert notes[1:] == [f"about {cell}" for cell in cells[:MOST_IN_FULL]]


def test_options_are_those_of_all_datasets_once() -> None:
    one = xr.Dataset(coords={"metric": ["iou", "auprc"]})
    other = xr.Dataset(coords={"metric": ["mine", "iou"]})
    assert options_of({"a": one, "b": other}, "metric") == ["iou", "auprc", "mine"]


def test_what_others_rest_on_comes_first(lineage: Lineage) -> None:
    assert first_settings(lineage, ["toy-identify", "toy-concepts"]) == ["toy-concepts"]
    assert first_settings(lineage, ["toy-identify", "toy-sanity"]) == ["toy-identify"]


def test_what_lies_behind_a_cell(template: Path) -> None:
    lineage = lineage_of(open_project(template))
    assert behind(lineage, "toy-names", "concepts") == "toy-concepts"
    assert behind(lineage, "toy-names", "sae") == "toy-sae[k=8]"
    assert behind(lineage, "toy-names", "sanity") == ""
    assert behind(lineage, "nowhere", "sae") == ""
