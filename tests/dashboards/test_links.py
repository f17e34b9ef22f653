"""Yesterday's links: what they show after experiments.toml has changed, and what they say of it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from evals import schemas as evals_schemas
from fact import schemas
from registry.catalog.access import REMOVED, open_catalog
from registry.declare.declaration import PROJECT_VARIABLE
from registry.mongo.database import URL_VARIABLE
from registry.plan.project import Project, open_project
from registry.record.journal import journal_root
from registry.store.durable import write_json
from registry.upkeep.deletion import delete_run, plan_deletion
from tests.dashboards import fabricate
from tests.dashboards.fabricate import run_uid
from tests.dashboards.test_pages import app_test, show_concepts, told
from tests.dashboards.test_result_pages import show_result

Open = Callable[..., AppTest]
CONCEPTS, GALLERY, NAMES = (
    run_uid(cell, minute)
    for cell, minute in (("toy-concepts", 6), ("toy-gallery", 7), ("toy-names", 8))
)
YESTERDAY = {
    "cell": "toy-concepts",
    "run": CONCEPTS,
    "beside": [NAMES, GALLERY],
    "concept": "1",
    "metric": "iou",
}
"""The address of a concept, as the page itself has written it."""


CHANGE = 'needs = { sae = "toy-sae[k=8]" }', 'needs = { sae = "toy-sae[k=8]" }\nconfig.k=9'


def declare_anew(project: Project, old: str, new: str) -> Project:
    """Change a few words of a declaration."""
    path = project.root / "experiments.toml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    return open_project(project.root)


@pytest.fixture
def open_page(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Open:
    """Open the page of concepts of a project, or of names, with values in the address."""
    monkeypatch.setenv(URL_VARIABLE, "off")
    monkeypatch.chdir(tmp_path)

    def open_it(
        project: Project | Path, page: str, address: Mapping[str, Any] | None = None
    ) -> AppTest:
        root = project if isinstance(project, Path) else project.root
        monkeypatch.setenv(PROJECT_VARIABLE, str(root))
        if page == "runs":
            test = app_test(page)
        elif page == "concepts":
            test = AppTest.from_function(show_concepts, default_timeout=60)
        else:
            given = {"schema": page}
            test = AppTest.from_function(show_result, kwargs=given, default_timeout=60)
        for key, value in (address or {}).items():
            test.query_params[key] = value
        return test.run()

    return open_it


@pytest.fixture
def changed(lived_in: Project) -> Project:
    """A project with one changed value: what was measured of the concepts."""
    return declare_anew(lived_in, *CHANGE)


def plain(page: AppTest) -> str:
    return told(page).replace("\\", "")


def named(page: AppTest, key: str) -> list[str]:
    """Return what the address of a page names."""
    value = page.query_params[key]
    return [value] if isinstance(value, str) else list(value)


def buttons(page: AppTest) -> dict[str, Any]:
    return {button.label.replace("\\", ""): button for button in page.button}


def shown(page: AppTest) -> tuple[str, str]:
    assert not page.exception
    return page.subheader[0].value, page.dataframe[0].value.to_json()


def test_a_page_writes_into_its_address_which_runs_it_shows(
    open_page: Open,
    template: Path,
) -> None:
    page = open_page(template, "concepts", {"concept": "1", "metric": "iou"})
    assert dict(page.query_params) == YESTERDAY


@pytest.mark.parametrize("address", [YESTERDAY, {"cell": "toy-concepts", "concept": "1"}, {}])
def test_what_was_made_before_a_value_changed_is_shown_with_both_sides(
    open_page: Open,
    template: Path,
    changed: Project,
    address: Mapping[str, Any],
) -> None:
    before = open_page(template, "concepts", address)
    page = open_page(changed, "concepts", address)
    assert shown(page) == shown(before)
    [banner] = [warning.value.replace("\\", "") for warning in page.warning]
    assert "not what experiments.toml now asks for as toy-concepts" in banner
    assert "k: 8 in this run, 9 now" in banner
    assert page.code[0].value == "factbook run toy-concepts"
    assert named(page, "run") == [CONCEPTS]
    assert "toy-concepts (2026-11-22 01:39:55)" in page.selectbox(key="cell").options


def test_the_page_of_a_run_says_what_has_changed_since(
    open_page: Open, template: Path, changed: Project
) -> None:
    before = open_page(template, "runs", {"run": CONCEPTS})
    assert not before.warning
    assert "Run it again" in plain(before)
    page = open_page(changed, "runs", {"run": CONCEPTS})
    assert not page.exception
    [banner] = [warning.value.replace("\\", "") for warning in page.warning]
    assert "not what experiments.toml now asks for as toy-concepts" in banner
    assert "k: 8 in this run, 9 now" in banner
    assert "factbook run toy-concepts" in [code.value for code in page.code]
    assert "Run it again" not in plain(page), "another configuration would run"
    assert "Run it as it is declared now" in plain(page)
    uid = run_uid("toy-concepts", 20)
    fabricate.store(changed, "toy-concepts", fabricate.concepts(1), schemas.CONCEPTS, uid)
    page = open_page(changed, "runs", {"run": CONCEPTS})
    assert "Show the run of what is asked for now: toy-concepts" in buttons(page)


def test_of_a_changed_value_both_runs_can_be_chosen(open_page: Open, changed: Project) -> None:
    uid = run_uid("toy-concepts", 20)
    fabricate.store(changed, "toy-concepts", fabricate.concepts(1), schemas.CONCEPTS, uid)
    now = open_page(changed, "concepts")
    assert not now.warning
    assert named(now, "run") == [uid]
    assert "No gallery dataset yet" in plain(now) or "No dataset yet" in plain(now)

    page = open_page(changed, "concepts", YESTERDAY)
    assert named(page, "run") == [CONCEPTS]
    buttons(page)["Show what is asked for now: toy-concepts"].click().run()
    assert named(page, "run") == [uid]
    assert page.selectbox(key="cell").value == "toy-concepts"
    page.selectbox(key="cell").set_value(CONCEPTS).run()
    assert named(page, "run") == [CONCEPTS]
    assert named(page, "beside") == [NAMES, GALLERY]


def test_names_stay_until_those_of_the_changed_experiment_are_there(
    open_page: Open,
    template: Path,
    lived_in: Project,
) -> None:
    needs = 'needs = { activations = "toy-concepts" }'
    project = declare_anew(lived_in, needs, f"{needs}\nconfig.k = 9")
    page = open_page(project, "concepts", {"metric": "iou"})
    assert shown(page) == shown(open_page(template, "concepts", {"metric": "iou"}))
    assert not page.warning
    assert "Names: of an earlier run of toy-names" in plain(page)
    assert "k: 8 in this run, 9 now" in plain(page)
    assert "factbook run toy-names" in [code.value for code in page.code]

    uid = run_uid("toy-names", 20)
    fabricate.store(project, "toy-names", fabricate.names(), evals_schemas.NAMES, uid)
    assert uid in named(open_page(project, "concepts"), "beside")
    page = open_page(project, "concepts", YESTERDAY)
    assert NAMES in named(page, "beside"), "a link shows the names that it was sent with"
    buttons(page)["Names: show those of the newer run"].click().run()
    assert uid in named(page, "beside")
    assert "earlier run" not in plain(page)


def test_what_is_declared_no_more_can_be_looked_at(open_page: Open, lived_in: Project) -> None:
    path = lived_in.root / "experiments.toml"
    path.write_text(fabricate.DECLARATION.partition("[experiments.toy-concepts]")[0])
    page = open_page(lived_in.root, "concepts")
    assert page.subheader
    assert named(page, "run") == [CONCEPTS]
    assert "does not declare toy-concepts any more" in page.warning[0].value.replace("\\", "")
    assert not [code for code in page.code if code.language != "toml"]


def test_an_experiment_with_another_name_is_found_again(open_page: Open, lived_in: Project) -> None:
    project = declare_anew(lived_in, "toy-concepts", "my-concepts")
    page = open_page(project, "concepts", YESTERDAY)
    assert "my-concepts now asks for the same" in page.warning[0].value.replace("\\", "")
    assert page.code[0].value == "factbook run my-concepts"
    assert named(page, "beside") == [NAMES, GALLERY]


def test_a_link_to_a_deleted_run_says_who_deleted_it(open_page: Open, lived_in: Project) -> None:
    catalog = open_catalog(lived_in.root, "off")
    deletion = plan_deletion(catalog, CONCEPTS)
    delete_run(catalog, deletion)
    page = open_page(lived_in, "concepts", YESTERDAY)
    assert not page.exception
    assert not page.subheader, "nothing else is shown in its place"
    words = plain(page)
    assert "This run was deleted" in words
    assert f"by {deletion.tombstone.by}" in words
    assert named(page, "run") == [CONCEPTS]
    buttons(page)["Show toy-concepts as it is now"].click().run()
    assert "No dataset yet" in plain(page)


@pytest.mark.parametrize("is_changed", [False, True])
def test_a_link_to_what_gc_removed_says_when_and_how_to_make_it_again(
    open_page: Open, lived_in: Project, is_changed: bool
) -> None:
    project = declare_anew(lived_in, *CHANGE) if is_changed else lived_in
    shutil.rmtree(next((project.root / "artifacts").glob(f"toy-concepts/*/{CONCEPTS}")))
    note = {"removed": "2026-11-30T21:40:09+00:00", "by": "factbook gc"}
    write_json(journal_root(project.root) / CONCEPTS / REMOVED, note)
    page = open_page(project, "concepts", YESTERDAY)
    assert not page.exception
    assert not page.subheader, "nothing else is shown in its place"
    words = plain(page)
    assert "The dataset of this run is gone" in words
    assert "was removed by factbook gc at 2026-11-30 21:40 UTC" in words
    assert ("k: 8 in this run, 9 now" in words) == is_changed
    way = "To make it again, declare what it was made by" if is_changed else "This makes it again"
    assert way in words
    assert "One command is enough" in words, "its SAE may be gone too"
    assert page.code[0].value == "factbook run toy-concepts"


def test_what_a_link_names_beside_and_gc_removed_is_told(
    open_page: Open, lived_in: Project
) -> None:
    shutil.rmtree(next((lived_in.root / "artifacts").glob(f"toy-names/*/{NAMES}")))
    write_json(journal_root(lived_in.root) / NAMES / REMOVED, {"removed": "", "by": "factbook gc"})
    page = open_page(lived_in, "concepts", YESTERDAY)
    assert page.subheader, "the concepts are there"
    assert f"the dataset of run {NAMES} was removed by factbook gc" in plain(page)
    page.run()
    assert f"the dataset of run {NAMES} was removed" in plain(page), "also when it is drawn again"
    assert "was removed" not in plain(open_page(lived_in, "concepts", {"cell": "toy-concepts"}))


@pytest.mark.parametrize("run", ["20200101T000000-aaaaaaaa", "../../etc/passwd", '{"$gt": ""}'])
def test_a_link_to_no_run_says_so(open_page: Open, template: Path, run: str) -> None:
    page = open_page(template, "concepts", {"run": run, "cell": "<script>"})
    assert not page.exception
    assert "No such run" in plain(page)
    assert not page.subheader


def test_a_run_that_made_something_else_is_led_to(open_page: Open, template: Path) -> None:
    page = open_page(template, "concepts", {"run": NAMES})
    assert f"Run {NAMES} made names" in plain(page)


# -- pages of results -------------------------------------------------------------------------


def test_results_of_before_and_of_now_stand_side_by_side(open_page: Open, changed: Project) -> None:
    page = open_page(changed, "names", {"cell": "toy-names"})
    assert named(page, "run") == [NAMES]
    cause = "input activations changed (toy-concepts: configuration changed: k 8 -> 9)"
    assert cause in plain(page)
    uid, later = run_uid("toy-concepts", 20), run_uid("toy-names", 21)
    fabricate.store(changed, "toy-concepts", fabricate.concepts(1), schemas.CONCEPTS, uid)
    fabricate.store(changed, "toy-names", fabricate.names(), evals_schemas.NAMES, later)
    page = open_page(changed, "names", {"cell": "toy-names", "run": NAMES})
    assert page.multiselect(key="cell").value == [NAMES]
    page.multiselect(key="cell").set_value(["toy-names", NAMES]).run()
    assert not page.exception
    assert named(page, "run") == [later, NAMES]
    assert named(page, "cell") == ["toy-names", "toy-names"]
    again = open_page(changed, "names", {"cell": ["toy-names"] * 2, "run": [later, NAMES]})
    assert again.multiselect(key="cell").value == ["toy-names", NAMES]


def test_of_several_runs_that_a_link_names_one_may_be_gone(
    open_page: Open, changed: Project
) -> None:
    gone = "20200101T000000-aaaaaaaa"
    page = open_page(changed, "names", {"cell": "toy-names", "run": [NAMES, gone]})
    assert f"no run '{gone}'" in plain(page)
    assert page.expander
    shutil.rmtree(changed.root / "artifacts" / "toy-names")
    page = open_page(changed, "names", {"cell": "toy-names", "run": [NAMES]})
    assert "The dataset of this run is gone" in plain(page)
    assert not page.expander
