"""The pages of results as a server runs them, and the same in reports."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from dashboards.report import render
from dashboards.screens import datasets, parts
from dashboards.views.parts.parts import Figure
from dashboards.views.parts.text import literal
from dashboards.views.runs.drafts import MAKERS
from dashboards.views.sections import RESULTS, sections_of
from registry.catalog.access import Catalog, open_catalog
from registry.mongo.database import URL_VARIABLE
from registry.plan.project import Project, open_project
from tests.dashboards import fabricate, fabricate_results
from tests.dashboards.fabricate_results import METRICS, UNMADE
from tests.dashboards.numerals import badly_written, badly_written_of, words_of

Open = Callable[..., AppTest]
SCHEMAS = [row.schema for row in RESULTS]
HOSTILE = METRICS[2]


def show_result(schema: str) -> None:
    """Run one page by itself: pages that are functions cannot be switched to."""
    from dashboards.screens.result import show_result
    from dashboards.views.sections import RESULTS

    show_result({row.schema: row for row in RESULTS}[schema])


@pytest.fixture
def open_page(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Open:
    """Open the page of a schema, with values in the address, and all that it folds."""
    monkeypatch.setenv(URL_VARIABLE, "off")
    monkeypatch.chdir(tmp_path)

    def open_it(
        root: Project | Path,
        schema: str,
        address: Mapping[str, Any] | None = None,
        is_unfolded: bool = True,
    ) -> AppTest:
        root = root if isinstance(root, Path) else root.root
        monkeypatch.setenv("FACTBOOK_PROJECT", str(root))
        page = AppTest.from_function(show_result, kwargs={"schema": schema}, default_timeout=60)
        for key, value in (address or {}).items():
            page.query_params[key] = value
        if is_unfolded:
            monkeypatch.setattr(parts, "show_when_open", lambda title, key, show: show())
        return page.run()

    return open_it


def told(test: AppTest) -> str:
    """Return all that a page says in words."""
    kinds = ("header", "subheader", "markdown", "caption", "info", "warning", "error", "code")
    return "\n".join(str(element.value) for kind in kinds for element in getattr(test, kind))


def read(test: AppTest) -> str:
    """Return the same with the numbers that stand side by side."""
    return "\n".join([told(test), *(str(number.value) for number in test.metric)])


def figures(test: AppTest) -> int:
    return len(test.get("vega_lite_chart")) + len(test.get("arrow_vega_lite_chart"))


@pytest.mark.parametrize("schema", SCHEMAS)
def test_every_page_shows_tables_and_figures(open_page: Open, results: Path, schema: str) -> None:
    page = open_page(results, schema)
    assert not page.exception
    assert not page.error
    assert page.header[0].value
    assert len(page.caption[0].value) > 80
    assert page.dataframe
    assert figures(page) > 0
    assert not badly_written(read(page))
    assert badly_written_of(page) == []
    assert all(len(frame.value) for frame in page.dataframe)
    assert np.ravel(page.query_params["cell"]).tolist() == page.multiselect(key="cell").value
    for box in page.selectbox:  # and takes what is chosen
        for option in box.options:
            page.selectbox(key=box.key).set_value(option).run()
            assert not page.exception, (box.key, option)


@pytest.mark.parametrize("schema", SCHEMAS)
def test_what_is_folded_is_drawn_when_it_is_opened(
    open_page: Open, results: Path, schema: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys: list[str] = []
    folded = parts.show_when_open
    monkeypatch.setattr(parts, "show_when_open", lambda *of: (keys.append(of[1]), folded(*of)))
    page = open_page(results, schema, is_unfolded=False)
    assert page.expander
    assert not page.dataframe
    page.session_state[keys[0]] = True
    assert not page.run().exception
    assert [bool(fold.children) for fold in page.expander].count(True) == 1


def show_folds() -> None:
    """Run folds of the titles that a session has, of which one ends with what is chosen."""
    import streamlit as st

    from dashboards.screens.parts import show_folds
    from dashboards.views.parts.parts import Fold, Note

    titles = st.session_state["titles"]
    show_folds([Fold(title, [Note("drawn")]) for title in titles], "fold", [titles[-1][-3:]])


def test_folds_stay_open_whatever_stands_before_them_or_is_chosen() -> None:
    page = AppTest.from_function(show_folds)
    page.session_state["titles"] = ["Alike", "Alike", "By iou"]
    page.session_state["fold-Alike-2"] = page.session_state["fold-By -1"] = True
    page.run()
    assert [bool(fold.children) for fold in page.expander] == [False, True, True]
    page.session_state["titles"] = ["Another", "Alike", "Alike", "By auc"]
    page.run()
    assert [bool(fold.children) for fold in page.expander] == [False, False, True, True]


@pytest.mark.parametrize("schema", SCHEMAS)
@pytest.mark.parametrize(
    "address",
    [
        {"cell": HOSTILE, "metric": "__class__", "basis": "../..", "measure": '{"$gt": ""}'},
        {"cell": ["../..", "toy-sae"], "metric": "1e400", "neurons": "-1 to 5"},
    ],
)
def test_hostile_addresses_break_nothing(
    open_page: Open, results: Path, schema: str, address: dict[str, Any]
) -> None:
    page = open_page(results, schema, address)
    assert not page.exception
    assert not page.error
    assert page.dataframe


@pytest.mark.parametrize("schema", SCHEMAS)
def test_without_datasets_a_page_says_what_to_run(
    open_page: Open, tmp_path: Path, schema: str
) -> None:
    project = fabricate.declare(tmp_path / "new", fabricate_results.DECLARATION)
    page = open_page(project, schema)
    assert not page.exception
    assert "No dataset yet" in told(page)
    assert "factbook run" in page.code[0].value


@pytest.mark.parametrize("schema", SCHEMAS)
def test_where_nothing_is_declared_a_page_says_so(
    open_page: Open, tmp_path: Path, schema: str
) -> None:
    text = '[experiments.toy-sae]\nstage = "tests.dashboards.toy.train"\n'
    page = open_page(fabricate.declare(tmp_path / "other", text), schema)
    assert f"No {schema} experiment" in told(page)
    assert MAKERS[schema] in page.code[0].value


@pytest.mark.parametrize("schema", SCHEMAS)
def test_a_damaged_dataset_is_told(
    open_page: Open, results: Path, tmp_path: Path, schema: str
) -> None:
    project = open_project(shutil.copytree(results, tmp_path / "copy", symlinks=True))
    cells = [cell.name for cell in project.graph.cells.values() if cell.provides == schema]
    for cell in cells:
        if cell != UNMADE:
            (project.current(cell) / "dataset.nc").unlink()
    page = open_page(project, schema)
    assert not page.exception
    assert "damaged" in told(page)
    assert page.code[0].value.startswith("factbook run")


def test_names_that_are_damaged_cost_the_names_alone(
    open_page: Open, results: Path, tmp_path: Path
) -> None:
    project = open_project(shutil.copytree(results, tmp_path / "copy", symlinks=True))
    before = open_page(project, "consistency")
    assert "name" in before.dataframe[0].value
    (project.current("toy-names") / "dataset.nc").unlink()
    datasets.whole.clear()
    after = open_page(project, "consistency")
    assert not after.exception
    assert not after.error
    assert "name" not in after.dataframe[0].value


def test_known_neurons_begin_with_all_settings_of_the_same_inputs(
    open_page: Open, results: Path
) -> None:
    page = open_page(results, "identification")
    assert page.multiselect(key="cell").value == ["toy-identify", "toy-identify-shifted"]
    assert "cosine 0.990 → 0.090" in page.info[0].value.replace("\\", "")


def test_an_experiment_stands_for_the_cells_of_its_matrix(open_page: Open, results: Path) -> None:
    page = open_page(results, "matching", {"cell": "toy-matching"})
    assert not page.exception
    assert page.multiselect(key="cell").value == ["toy-matching"]
    seeds = page.dataframe[0].value
    assert set(seeds["setting"]) == {"toy-matching[k=8]", "toy-matching[k=16]"}
    assert (seeds["n"] == 2).all()


def test_settings_that_are_not_made_are_told_beside_those_that_are(
    open_page: Open, results: Path
) -> None:
    page = open_page(results, "identification", {"cell": ["toy-identify", UNMADE]})
    assert not page.exception
    assert any(UNMADE in code.value for code in page.code)
    assert page.dataframe


def test_a_metric_is_looked_at_by_address(open_page: Open, results: Path) -> None:
    page = open_page(results, "sanity", {"metric": HOSTILE})
    assert not page.exception
    assert page.selectbox(key="metric").value == HOSTILE
    heading = page.subheader[0].value
    assert heading.replace("\\", "").startswith(f"{HOSTILE}: ? undecided")
    assert "\\<script\\>" in heading


@pytest.mark.slow
def test_stored_words_in_numbers_are_no_markdown() -> None:
    def show() -> None:
        from dashboards.screens.parts import show_numbers
        from dashboards.views.parts.parts import Number

        show_numbers([Number("**one**", "<b>2</b>", "[first](http://example.org)")])

    (shown,) = AppTest.from_function(show).run().metric
    assert shown.label == r"\*\*one\*\*"
    assert shown.value == literal("<b>2</b>") != "<b>2</b>"
    assert "](" not in shown.help


# -- reports ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def catalog(results: Path) -> Catalog:
    """The catalog of the project, without a database."""
    return open_catalog(results, "off")


@pytest.mark.parametrize("schema", SCHEMAS)
@pytest.mark.slow
def test_reports_show_the_same_parts(catalog: Catalog, schema: str) -> None:
    cells = [cell for cell in catalog.project.graph.cells.values() if cell.provides == schema]
    (section,) = sections_of(catalog, [cells[0].name])
    for figure in (part for part in section.parts if isinstance(part, Figure)):
        figure.chart.to_dict()  # validates: pages and reports draw what they are given
    text = render("a report", "", [section])
    assert section.meaning == {row.schema: row for row in RESULTS}[schema].meaning
    assert not badly_written(words_of(text))
    assert text.count("<svg") > 0
    assert text.count("<table>") > 0
    assert "<script" not in text


@pytest.mark.slow
def test_concepts_in_reports_have_their_names(catalog: Catalog) -> None:
    (section,) = sections_of(catalog, ["toy-consistency"])
    text = render("a report", "", [section])
    assert "shape: &lt;b&gt;star&lt;/b&gt;" in text


@pytest.mark.parametrize("schema", SCHEMAS)
def test_the_address_names_what_is_shown_at_first(
    open_page: Open, results: Path, schema: str
) -> None:
    address = {"cell": ["not-declared", "toy-concepts"], "metric": "[(*", "measure": "$where"}
    page = open_page(results, schema, address)
    assert not page.exception
    assert not page.error
    assert page.dataframe
    assert "No 'not-declared', 'toy-concepts' here" in told(page).replace("\\", "")
    page.run()
    assert np.ravel(page.query_params["cell"]).tolist() == page.multiselect(key="cell").value
