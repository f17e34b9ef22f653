"""The pages as a server runs them, without a browser."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from dashboards import pages
from registry.mongo.database import URL_VARIABLE
from registry.plan.project import Project
from registry.store.manifest import MANIFEST
from tests.dashboards import fabricate
from tests.dashboards.fabricate import HOSTILE, run_uid
from tests.dashboards.numerals import badly_written_of

Open = Callable[..., AppTest]
COMPLETED, FAILED, DIED = (
    run_uid(cell, minute)
    for cell, minute in (("toy-sae[k=8]", 0), ("toy-sae[k=16]", 1), ("toy-sae[k=16]", 2))
)


def show_concepts() -> None:
    """Run the page of concepts by itself: pages that are functions cannot be switched to."""
    from dashboards.screens import concepts

    concepts.show()


NEWEST = {"limit": "50"}
"""What an address may say to get the runs where they stood once, without a path."""


def app_test(page: str) -> AppTest:
    if page == "concepts":
        return AppTest.from_function(show_concepts, default_timeout=60)
    return AppTest.from_file(pages.__file__, default_timeout=60)


@pytest.fixture
def open_page(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Open:
    """Open a page of a project, with values in the address."""
    monkeypatch.setenv(URL_VARIABLE, "off")
    monkeypatch.chdir(tmp_path)

    def open_it(
        project: Project | Path, page: str = "runs", address: Mapping[str, Any] | None = None
    ) -> AppTest:
        root = project if isinstance(project, Path) else project.root
        monkeypatch.setenv("FACTBOOK_PROJECT", str(root))
        test = app_test(page)
        for key, value in {**(NEWEST if page == "runs" else {}), **(address or {})}.items():
            test.query_params[key] = value
        return test.run()

    return open_it


def told(test: AppTest) -> str:
    """Return all that a page says in words."""
    kinds = ("header", "subheader", "markdown", "caption", "info", "warning", "error", "code")
    return "\n".join(str(element.value) for kind in kinds for element in getattr(test, kind))


def frames(test: AppTest) -> list[Any]:
    return [frame.value for frame in test.dataframe]


# -- runs -------------------------------------------------------------------------------------


def test_scripts_that_are_loaded_ahead_are_those_of_streamlit() -> None:
    assert [file.partition(".")[0] for file in pages.ahead_files()] == list(pages.AHEAD)


def test_runs_are_listed(open_page: Open, template: Path) -> None:
    page = open_page(template)
    assert not page.exception
    assert page.header[0].value == "Runs"
    assert "Sacred" in page.caption[0].value
    table = frames(page)[0]
    assert len(table) == 9
    assert table["status"].value_counts()["DIED"] == 1
    assert HOSTILE in table["cell"].tolist()


def test_filters_stand_in_the_address(open_page: Open, template: Path) -> None:
    address = {"experiment": "toy-sae", "status": "FAILED", "columns": ["cell", "config.k"]}
    page = open_page(template, address=address)
    assert not page.exception
    table = frames(page)[0]
    assert table["cell"].tolist() == ["toy-sae[k=16]"]
    assert list(table.columns) == ["cell", "config.k"]
    page.selectbox(key="status").set_value("DIED").run()
    assert len(frames(page)[0]) == 1
    page.selectbox(key="status").set_value(None).run()
    assert len(frames(page)[0]) == 5


def test_order_and_length(open_page: Open, template: Path) -> None:
    page = open_page(template, address={"sort": "-seconds", "limit": "50"})
    seconds = frames(page)[0]["seconds"].tolist()
    assert seconds == sorted(seconds, reverse=True)
    assert badly_written_of(page) == []


@pytest.mark.parametrize(
    "address",
    [
        {"experiment": HOSTILE, "stage": "../..", "status": '{"$gt": ""}'},
        {"text": "[(*", "sort": "$where", "limit": "-1", "columns": ["__class__", "$x"]},
        {"run": '{"$gt": ""}'},
        {"run": "../../etc/passwd"},
        {"run": "9" * 60, "section": "nowhere", "log": "maybe"},
        {"where": "$where=1"},
        {"where": "config.k"},
        {"where": 'config.k={"$gt": 0}'},
        {"where": "config.k=" + "9" * 60},
    ],
)
def test_hostile_addresses_break_nothing(
    open_page: Open, template: Path, address: dict[str, Any]
) -> None:
    page = open_page(template, address=address)
    assert not page.exception
    assert page.header[0].value == "Runs"


def test_a_question_that_cannot_be_read_is_told(open_page: Open, template: Path) -> None:
    page = open_page(template, address={"where": "config.k"})
    assert "expected a key" in page.error[0].value


def test_no_run_matches(open_page: Open, template: Path) -> None:
    page = open_page(template, address={"text": "nothing like it"})
    assert not page.dataframe
    assert page.info


def test_nothing_has_run_yet(open_page: Open, project: Project) -> None:
    page = open_page(project)
    assert not page.exception
    assert "Nothing has run yet" in page.info[0].value
    assert page.code[0].value == "factbook run demo"


def test_a_run_by_its_address(open_page: Open, template: Path) -> None:
    page = open_page(template, address={"run": COMPLETED, "as": "table"})
    assert not page.exception
    tables = [frame for frame in frames(page)[1:] if "key" in frame]
    values = {key: value for frame in tables for key, value in frame[["key", "value"]].values}
    assert values["best_accuracy"] == "0.812"
    assert values["layer"] == "features.2"
    assert values["identifier"] == COMPLETED
    assert any("factbook run --force 'toy-sae[k=8]'" in code.value for code in page.code)


def test_inputs_lead_to_the_run_that_made_them(open_page: Open, template: Path) -> None:
    page = open_page(template, address={"run": "toy-concepts"})
    assert page.button(key="input-sae").label == r"sae: toy\-sae\[k\=8\] \(sae\)".replace(
        ":", r"\:"
    )
    page.button(key="input-sae").click().run()
    assert page.session_state["run"] == "run-toy-sae[k=8]"
    assert "No such run" in told(page)


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ("Curves", ["training\\.loss", "accuracy", "6,000 points, thinned"]),
        ("Console", ["pass 599", "200 earlier lines"]),
        ("Sources", ["def main()"]),
    ],
)
def test_sections_of_a_run(open_page: Open, template: Path, section: str, words: list[str]) -> None:
    page = open_page(template, address={"run": COMPLETED, "section": section})
    assert not page.exception
    for word in words:
        assert word in told(page)
    assert section == "Console" or badly_written_of(page) == []


def test_a_run_without_curves_console_and_output_says_so(open_page: Open, template: Path) -> None:
    page = open_page(template, address={"run": HOSTILE})
    assert "No such run" in told(page)
    uid = run_uid(HOSTILE, 5)
    for section, words in (
        ("Curves", "No metrics"),
        ("Console", "No console"),
        ("Overview", "No dataset"),
    ):
        page = open_page(template, address={"run": uid, "section": section})
        assert not page.exception
        assert words in told(page)


def test_a_failed_run_shows_its_traceback_as_text(open_page: Open, template: Path) -> None:
    page = open_page(template, address={"run": FAILED})
    assert "It failed" in page.error[0].value
    assert "<script>" not in page.error[0].value.replace(r"\<script\>", "")
    assert any("Traceback (most recent call last)" in code.value for code in page.code)


def test_a_run_that_died_says_what_that_means(open_page: Open, template: Path) -> None:
    page = open_page(template, address={"run": DIED})
    assert "DIED" in told(page)
    assert "killed, out of memory" in page.info[0].value


# -- concepts ---------------------------------------------------------------------------------


def test_concepts_begin_with_the_strongest(open_page: Open, template: Path) -> None:
    page = open_page(template, "concepts")
    assert not page.exception
    assert page.header[0].value == "Concepts"
    [table] = frames(page)
    first = int(table["concept"].iloc[0])
    assert table["mean_contribution"].is_monotonic_decreasing
    assert page.subheader[0].value.startswith(f"Concept {first}")
    assert len(tiles(page)) == fabricate.RANKS
    assert "presence" in told(page)
    page.session_state["every-label"] = True
    labels = frames(page.run())[1]
    assert labels["metric"].tolist() == ["iou", "auprc"]


def tiles(page: AppTest) -> list[str]:
    """Return what stands below the images of a concept."""
    return re.findall(r"<figcaption>.*?presence [0-9.,e+-]+.*?</figcaption>", figures(page))


def figures(page: AppTest) -> str:
    """Return the HTML of all pictures that a page lays out."""
    bodies = (element.proto.body for element in page.get("html"))
    return "".join(body for body in bodies if body.startswith('<div class="fb-pictures">'))


def test_a_concept_and_a_metric_by_address(open_page: Open, template: Path) -> None:
    address = {"concept": "1", "metric": "iou", "cell": "toy-concepts"}
    page = open_page(template, "concepts", address)
    assert not page.exception
    name = str(fabricate.names()["name"].sel(concept=1, metric="iou").values)
    row = frames(page)[0].set_index("concept").loc[1]
    assert row["name"] == name
    assert page.subheader[0].value.startswith("Concept 1")
    assert len(tiles(page)) == 2
    page.text_input(key="concept").set_value("0").run()
    assert page.subheader[0].value.startswith("Concept 0")


def test_concepts_are_walked_through_in_the_order_of_the_table(
    open_page: Open, template: Path
) -> None:
    page = open_page(template, "concepts")
    order = frames(page)[0]["concept"].tolist()
    previous, following = page.button[:2]
    assert previous.disabled
    following.click().run()
    assert page.subheader[0].value.startswith(f"Concept {order[1]}")
    page.button[0].click().run()
    assert page.subheader[0].value.startswith(f"Concept {order[0]}")


def test_a_dead_concept_has_no_pictures(open_page: Open, template: Path) -> None:
    page = open_page(template, "concepts", {"concept": str(fabricate.CONCEPTS - 1)})
    assert not tiles(page)
    assert "No images were drawn" in told(page)


def test_a_search_that_finds_nothing_shows_no_concept(open_page: Open, template: Path) -> None:
    page = open_page(template, "concepts", {"label": "colour red", "metric": "iou"})
    assert set(frames(page)[0]["name"]) == {"colour: red"}
    page.text_input(key="label").set_value("no such name").run()
    assert not page.exception
    assert "No concept matches" in told(page)
    assert not page.subheader


@pytest.mark.parametrize(
    "address",
    [
        {"cell": HOSTILE, "metric": "__class__", "concept": "99999"},
        {"concept": "-5", "label": "[(*"},
        {"concept": "1e400"},
        {"concept": '{"$gt": 0}', "cell": "../.."},
    ],
)
def test_hostile_addresses_of_concepts(
    open_page: Open, template: Path, address: dict[str, str]
) -> None:
    page = open_page(template, "concepts", address)
    assert not page.exception
    assert page.subheader[0].value.startswith("Concept")


def test_no_concepts_yet(open_page: Open, project: Project) -> None:
    page = open_page(project, "concepts")
    assert not page.exception
    assert "No dataset yet" in told(page)
    assert page.code[0].value == "factbook run toy-concepts"


def test_no_experiment_makes_concepts(open_page: Open, tmp_path: Path) -> None:
    text = fabricate.DECLARATION.partition("[experiments.toy-concepts]")[0]
    page = open_page(fabricate.declare(tmp_path / "other", text), "concepts")
    assert 'stage = "fact.measure_concepts"' in page.code[0].value


def test_concepts_without_gallery_and_names(open_page: Open, project: Project) -> None:
    uid = run_uid("toy-concepts", 0)
    fabricate.store(project, "toy-concepts", fabricate.concepts(), fabricate.schemas.CONCEPTS, uid)
    page = open_page(project, "concepts")
    assert not page.exception
    assert len(frames(page)[0]) == fabricate.CONCEPTS
    commands = [code.value for code in page.code if code.language != "toml"]
    assert commands == ["factbook run toy-names", "factbook run toy-gallery"]


def damage(project: Project, cell: str, name: str) -> None:
    folder = project.current(cell)
    (folder / name).unlink()


@pytest.mark.parametrize("name", ["dataset.nc", MANIFEST])
@pytest.mark.parametrize("cell", ["toy-gallery", "toy-names", "toy-concepts"])
def test_a_damaged_dataset_is_told(
    open_page: Open, lived_in: Project, cell: str, name: str
) -> None:
    damage(lived_in, cell, name)
    page = open_page(lived_in, "concepts")
    assert not page.exception
    assert "damaged" in told(page)
    assert f"factbook run {cell}" in [code.value for code in page.code]


@pytest.mark.parametrize("cell", ["toy-gallery", "toy-names", "toy-concepts"])
def test_damage_is_not_called_an_absence(open_page: Open, lived_in: Project, cell: str) -> None:
    damage(lived_in, cell, "manifest.json")
    words = told(open_page(lived_in, "concepts"))
    assert "The dataset is damaged" in words
    assert "No dataset yet" not in words


def test_what_is_searched_for_is_shown(open_page: Open, template: Path) -> None:
    page = open_page(template, "concepts")
    first = page.subheader[0].value
    page.text_input(key="label").set_value("texture").run()
    assert page.subheader[0].value != first
    assert "texture" in page.subheader[0].value
    page.text_input(key="label").set_value("no concept is called so").run()
    assert not page.subheader, "none of them is shown"
    assert "No concept matches" in told(page)


def test_of_what_is_not_among_those_that_are_found_the_first_is_next(
    open_page: Open, template: Path
) -> None:
    page = open_page(template, "concepts", {"label": "texture", "concept": "0"})
    assert "Concept 0" in page.subheader[0].value, "named by the address"
    next(button for button in page.button if button.label == "Next").click().run()
    assert "texture" in page.subheader[0].value


@pytest.mark.parametrize(
    ("page", "address"),
    [("concepts", {"metric": "nothing"}), ("runs", {"limit": "-5"}), ("runs", {"run": "77"})],
)
def test_what_an_address_names_and_is_not_there_is_told(
    open_page: Open, template: Path, page: str, address: dict[str, str]
) -> None:
    shown = open_page(template, page, address)
    assert not shown.exception
    words = told(shown).replace("\\", "")
    if "run" in address:  # of a project without its database
        assert "numbers are MongoDB's, which is away" in words
    else:
        assert f"No {next(iter(address.values()))!r} here" in words


def test_bytes_that_are_no_dataset_are_told(open_page: Open, lived_in: Project) -> None:
    file = lived_in.current("toy-gallery") / "dataset.nc"
    file.write_bytes(os.urandom(file.stat().st_size))
    page = open_page(lived_in, "concepts")
    assert not page.exception
    assert "has another checksum than when it was written" in told(page)


# -- every page -------------------------------------------------------------------------------


@pytest.mark.parametrize("page", ["", "concepts"])
def test_a_faulty_declaration_is_told_with_all_faults(
    open_page: Open, tmp_path: Path, page: str
) -> None:
    folder = tmp_path / "faulty"
    folder.mkdir()
    (folder / "experiments.toml").write_text("[experiments.a]\nstage = 3\n[suite]\nx = 1\n")
    shown = open_page(folder, page)
    assert not shown.exception
    assert "experiments.toml" in told(shown).replace("\\", "")
    assert "suites" in told(shown)


@pytest.mark.parametrize("page", ["", "concepts"])
def test_without_a_database_the_reason_stands_above(
    open_page: Open, template: Path, page: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = "mongodb://user:secret@127.0.0.1:9/x?serverSelectionTimeoutMS=200"
    monkeypatch.setenv(URL_VARIABLE, url)
    from dashboards.screens import frame

    frame.connection.clear()
    monkeypatch.setenv("FACTBOOK_PROJECT", str(template))
    test = app_test(page).run()
    frame.connection.clear()
    assert "MongoDB cannot be reached" in test.warning[0].value
    assert "secret" not in told(test)
    assert figures(test)
