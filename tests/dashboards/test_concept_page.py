"""The page of concepts, with all that can stand beside them, and with some of it gone."""

from __future__ import annotations

import re
import shutil
import threading
from collections.abc import Mapping
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from dashboards.server import presence_index
from dashboards.views.concepts import evidence as ask
from dashboards.views.concepts.concepts import not_meant
from fact.traces import by_concept
from fact.traces.by_concept import Block
from registry.plan.project import Project
from tests.dashboards import fabricate, fabricate_concepts
from tests.dashboards.fabricate import CONCEPTS, HOSTILE, run_uid
from tests.dashboards.numerals import badly_written, badly_written_of
from tests.dashboards.test_pages import Open, app_test, figures, frames, open_page, tiles, told

__all__ = ["app_test", "open_page"]
DEAD = CONCEPTS - 1


def answers(page: AppTest) -> dict[str, str]:
    """Return what the answer to each question speaks for, by the question's first word."""
    signs = [one.value for one in page.markdown if "-badge[" in one.value]
    return {sign.partition("**")[2].split("?")[0]: sign.partition("**")[0] for sign in signs}


def table(page: AppTest, column: str) -> Any:
    return next(frame for frame in frames(page) if column in frame)


def test_a_concept_has_answers_for_its_name_and_all_that_is_known_of_it(
    open_page: Open, judged: Path
) -> None:
    page = open_page(judged, "concepts", {"concept": "0"})
    assert not page.exception
    found = answers(page)
    assert len(found) == 7
    for question in (ask.FITS, ask.CHANCE):  # auprc was not asked, and nothing permuted
        assert "open" in found.pop(question.rstrip("?"))
    assert [("for" in sign, "against" in sign) for sign in found.values()] == [(True, False)] * 5
    assert "7 answers: 5 for it, 0 against it, 2 open" in told(page).replace("\\", "")
    titles = told(page)
    assert not badly_written(titles)
    assert badly_written_of(page) == []
    for title in (
        "How strongly it is present",
        "Classes it is present in",
        "Classes it contributes to",
        "Present in the same images",
        "Similar directions in the layer",
    ):
        assert title in titles
    folds = [fold.label for fold in page.expander]
    for title in ("Best label by every metric", ask.THERE, "Decisions that use this concept"):
        assert title in folds, "what is asked for rarely takes no screen"
    assert len(page.dataframe) == 1, "nor is it drawn before it is opened"
    for fold in ("every-label", f"location-{ask.THERE}-1", "its-decisions"):
        page.session_state[fold] = True
    page = page.run()
    assert badly_written_of(page) == []
    assert table(page, "metric")["metric"].tolist()
    assert table(page, "explained")["image"].tolist() == ["test/00000", f"test/{HOSTILE}"]
    assert table(page, "measure")["measure"].tolist() == ["pointing", "energy"]
    concepts = frames(page)[0].set_index("concept")
    assert concepts.loc[0, "c2"] == 0.8
    dataset = fabricate.concepts()
    present = int((dataset["presence"].sel(concept=0) > 0).sum())
    assert f"Present in {present} of 30 images" in told(page).replace("\\", "")


def test_a_name_of_ones_own_stands_beside_the_measured_one_and_is_found(
    open_page: Open, mine: Project
) -> None:
    page = open_page(mine, "concepts", {"concept": "0"})
    measured = page.subheader[0].value
    boxes = {box.label: box for box in page.text_input}
    boxes["Name"].set_value("[round](http://evil) ones")
    boxes["Who"].set_value("ana")
    next(button for button in page.button if button.label == "Save").click().run()
    assert not page.exception
    number, _, label = measured.replace("\\", "").partition(": ")
    heading = page.subheader[0].value.replace("\\", "")
    assert heading == f"{number}: “[round](http://evil) ones” ({label})"
    assert "“[round](http://evil) ones”" in told(page).replace("\\", "")
    assert "By ana" in told(page)
    assert "Can this name be trusted?" in told(page)
    page = open_page(mine, "concepts", {"label": "ROUND ones"})
    assert frames(page)[0]["concept"].tolist() == [0]
    assert frames(page)[0]["called"].tolist() == ["[round](http://evil) ones"]
    page.text_input(key="label").set_value("nobody").run()
    assert "No concept matches" in told(page)


def test_what_speaks_against_a_name_is_told(open_page: Open, judged: Path) -> None:
    page = open_page(judged, "concepts", {"concept": "1"})
    found = answers(page)
    assert "against" in found[ask.THERE.rstrip("?")]
    assert "open" in found[ask.AGAIN.rstrip("?")]
    assert HOSTILE not in told(page)
    assert HOSTILE in told(page).replace("\\", "")


def test_similar_concepts_are_a_click_away(open_page: Open, judged: Path) -> None:
    page = open_page(judged, "concepts", {"concept": "0"})
    first = links_to_similar(page, "cosine")[0]
    found = re.findall(r'href="concepts\?([^"]+)" data-keep aria-label="Compare', figures(page))
    both = [parse_qs(unescape(address)) for address in found]
    assert (["0"], ["1"]) in [(one["concept"], one["with"]) for one in both]
    assert first["concept"] == ["1"], "which was made to point almost there"
    page = open_page(judged, "concepts", {key: first[key][0] for key in ("cell", "run", "concept")})
    assert page.subheader[0].value.startswith("Concept 1")
    presence = fabricate.concepts()["presence"].values.astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        correlation = np.corrcoef(presence, rowvar=False)[1]
    correlation[1] = -np.inf
    first = links_to_similar(page, "correlation")[0]
    assert first["concept"] == [f"{int(np.nanargmax(correlation))}"]


def links_to_similar(page: AppTest, what: str) -> list[dict[str, list[str]]]:
    """Return where the concepts lead that are like one, by cosine or correlation."""
    [row] = (
        element.proto.body
        for element in page.get("html")
        if element.proto.body.startswith('<div class="fb-pictures">')
        and f"<span>{what} " in element.proto.body
    )
    found = re.findall(r'<strong><a class="fb-go" href="concepts\?([^"]+)"', row)
    return [parse_qs(unescape(address)) for address in found]


def test_a_dead_concept_says_that_it_is_nowhere(open_page: Open, judged: Path) -> None:
    page = open_page(judged, "concepts", {"concept": str(DEAD)})
    assert not page.exception
    assert not tiles(page)
    words = told(page).replace("\\", "")
    assert "Present in 0 of 30 images; its presence is 0 in 100\N{NO-BREAK SPACE}%." in words
    assert "this concept is constant" in words
    assert "it has no name" in words
    assert "no C2-score" in words


def test_the_whole_model(open_page: Open, judged: Path) -> None:
    page = open_page(judged, "concepts", {"section": "The whole model"})
    assert not page.exception
    words = told(page)
    for title in (
        "What the network knows",
        "How often concepts are present",
        "Concepts per decision",
        "What the concepts are named",
        "Do concepts mean one thing",
        "Who names them",
    ):
        assert title in words
    assert table(page, "votes")["metric"].tolist() == ["iou", "auprc"]
    assert figures(page).count("<figure") == CONCEPTS - 1
    assert badly_written_of(page) == []


def test_a_layers_own_channels_are_called_so(open_page: Open, mine: Project) -> None:
    uid = run_uid("toy-channels", 0)
    schema = fabricate.schemas.CONCEPTS
    fabricate.store(mine, "toy-channels", fabricate.concepts(), schema, uid)
    address = {"cell": "toy-channels", "section": "The whole model"}
    page = open_page(mine, "concepts", address)
    assert "the layer's own channels" in told(page).replace("\\", "")
    page = open_page(mine, "concepts", {"cell": "toy-channels", "concept": "0"})
    assert not page.exception
    assert "Similar directions in the layer" not in told(page)
    assert "Present in the same images" in told(page)


def test_the_other_set_of_a_matching_has_it_backwards(open_page: Open, mine: Project) -> None:
    dataset, uid = fabricate.concepts(), run_uid("toy-again", 0)
    fabricate.store(mine, "toy-again", dataset, fabricate.schemas.CONCEPTS, uid)
    page = open_page(mine, "concepts", {"cell": "toy-again", "concept": "3"})
    assert not page.exception
    assert page.subheader[0].value == "Concept 3"


@pytest.mark.parametrize("name", ["dataset.nc", "manifest.json"])
def test_what_is_damaged_beside_concepts_is_told_and_the_rest_shown(
    open_page: Open, mine: Project, name: str
) -> None:
    schemas = ("consistency", "localisation", "matching", "decisions")
    for schema in schemas:
        (mine.current(f"toy-{schema}") / name).unlink()
    page = open_page(mine, "concepts", {"concept": "0"})
    assert not page.exception
    assert told(page).count("damaged") >= len(schemas)
    advised = {code.value.replace("'", "") for code in page.code}
    assert advised >= {f"factbook run toy-{schema}" for schema in schemas}
    assert page.subheader[0].value.startswith("Concept 0")
    assert len(tiles(page)) == fabricate.RANKS


def test_a_damaged_autoencoder_leaves_the_rest(open_page: Open, mine: Project) -> None:
    file = mine.current("toy-sae[k=8]") / "dataset.nc"
    file.write_bytes(file.read_bytes()[:-100])
    page = open_page(mine, "concepts", {"concept": "0"})
    assert not page.exception
    assert "damaged" in told(page)
    assert "Present in the same images" in told(page)


def test_without_scores_the_answers_say_what_to_run(
    open_page: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = fabricate_concepts.declare(tmp_path / "few")
    for cell, dataset, schema in fabricate.outputs():
        fabricate.store(project, cell, dataset, schema, run_uid(cell, 0))
    page = open_page(project, "concepts", {"concept": "0"})
    assert not page.exception
    words = told(page).replace("\\", "")
    for name in ("consistency", "localisation", "matching"):
        assert f"factbook run toy-{name}" in words
    assert "2 for it, 0 against it, 5 open" in words


def test_a_concept_without_names_still_has_answers(open_page: Open, mine: Project) -> None:
    shutil.rmtree(mine.store.root / "toy-names")
    page = open_page(mine, "concepts", {"concept": "0"})
    assert not page.exception
    assert "Can this concept be trusted?" in told(page)
    assert "3 answers: 3 for it, 0 against it, 0 open" in told(page).replace("\\", "")


def test_labels_are_shown_letter_by_letter(open_page: Open, mine: Project) -> None:
    hostile = fabricate.names()
    label = "[x](http://evil) ![y](http://evil) <img src=x> $a$ :red[b] `c`"
    for name in ("name", "consensus", "top_label"):
        hostile[name] = hostile[name].where(hostile[name] != "colour: red", label)
    schema = fabricate_concepts.evals_schemas.NAMES
    fabricate.store(mine, "toy-names", hostile, schema, run_uid("toy-names", 99))
    page = open_page(mine, "concepts", {"concept": "0"})
    assert not page.exception
    assert label in frames(page)[0]["name"].tolist()
    bare = re.sub(r"\\.", "", told(page))  # without what is escaped
    assert not re.search(r"]\(|!\[|<img|\$|:red\[|`", bare)
    assert label in told(page).replace("\\", "")


@pytest.mark.parametrize(
    "address",
    [
        {"sort": "__class__", "page": "-1"},
        {"sort": "C2-score", "page": "99999999999999999999"},
        {"page": "NaN", "section": HOSTILE, "below": "$where", "images": "maybe"},
        {"section": "The whole model", "page": "2", "metric": HOSTILE},
    ],
)
def test_hostile_addresses(open_page: Open, judged: Path, address: Mapping[str, str]) -> None:
    page = open_page(judged, "concepts", address)
    assert not page.exception
    assert page.header[0].value == "Concepts"


def test_a_table_of_several_pages(
    open_page: Open, judged: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dashboards.views.concepts.concepts.PAGE", 2)
    for function in ("page_count", "page_with"):
        from dashboards.views.concepts import concepts

        monkeypatch.setattr(getattr(concepts, function), "__defaults__", (2,))
    page = open_page(judged, "concepts", {"sort": "number"})
    assert frames(page)[0]["concept"].tolist() == [0, 1]
    page = open_page(judged, "concepts", {"sort": "number", "concept": "3"})
    assert frames(page)[0]["concept"].tolist() == [2, 3]
    page.number_input(key="page").set_value(3).run()
    assert frames(page)[0]["concept"].tolist() == [4, 5]
    assert page.subheader[0].value.startswith("Concept 3")
    page.number_input(key="page").set_value(77).run()
    assert frames(page)[0]["concept"].tolist() == [4, 5]


def test_where_a_concept_is_and_all_its_images(
    open_page: Open, judged: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dashboards.screens.concept.FIRST_TILES", 3)
    page = open_page(judged, "concepts", {"concept": "0", "below": "Place"})
    assert len(tiles(page)) == 3
    assert "faded where the concept is absent" in told(page)
    page.toggle(key="images").set_value(True).run()
    assert len(tiles(page)) == fabricate.RANKS


def test_a_large_dataset_is_shown_as_far_as_it_was_read(
    open_page: Open, mine: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(presence_index, "SMALL_CELLS", 0)
    monkeypatch.setattr(by_concept.read_blocks, "__defaults__", (10 * CONCEPTS,))
    more, write = threading.Event(), by_concept._on_disk

    def wait(block: Block, path: Path, start: int) -> Block:
        if block.start == 20:
            assert more.wait(60)
        return write(block, path, start)

    monkeypatch.setattr(by_concept, "_on_disk", wait)
    try:
        page = open_page(mine, "concepts", {"concept": "0"})
        while "20 of 30 images" not in told(page):
            page.run()
        assert not page.exception
        assert page.get("progress")
        assert "Present in the same images" in told(page)
    finally:
        more.set()
    while "images read so far" in told(page):
        page.run()
    assert "of 30 images; its presence is 0" in told(page).replace("\\", "")
    assert list((mine.root / ".factbook" / "cache").glob("presences-*"))


def test_presences_that_cannot_be_kept_are_told(
    open_page: Open, mine: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(presence_index, "SMALL_CELLS", 0)
    (mine.root / ".factbook").mkdir(exist_ok=True)
    (mine.root / ".factbook" / "cache").write_text("in the way")
    page = open_page(mine, "concepts", {"concept": "0"})
    while page.get("progress"):
        page.run()
    page.run()
    assert not page.exception
    assert "Presences over all images cannot be shown" in page.warning[0].value


def test_presences_that_are_too_many_to_be_kept_are_read_one_by_one(
    open_page: Open, mine: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(presence_index, "SMALL_CELLS", 0)
    monkeypatch.setattr(by_concept, "MOST_ENTRIES", 1)
    page = open_page(mine, "concepts", {"concept": "0"})
    while page.get("progress"):
        page.run()
    page.run()
    assert not page.exception
    present = int((fabricate.concepts()["presence"].sel(concept=0) > 0).sum())
    assert f"Present in {present} of 30 images" in told(page)
    assert "Present in the same images" not in told(page)


def test_the_address_names_the_set_that_is_shown_at_first(open_page: Open, judged: Path) -> None:
    page = open_page(judged, "concepts")
    assert page.query_params["cell"] == "toy-concepts"
    assert page.selectbox(key="cell").value == "toy-concepts"
    page = open_page(judged, "concepts", {"cell": "toy-channels"})
    assert page.query_params["cell"] == "toy-channels"
    assert "factbook run toy-channels" in [code.value.replace("'", "") for code in page.code]
    page = open_page(judged, "concepts", {"cell": "not-declared"})
    assert "'not-declared'" in told(page).replace("\\", "")
    page.run()
    assert page.query_params["cell"] == "toy-concepts"


@pytest.mark.parametrize("asked", ["999", "star", "[x](http://evil)"])
def test_a_concept_that_is_not_there_is_told(open_page: Open, judged: Path, asked: str) -> None:
    page = open_page(judged, "concepts", {"concept": asked})
    told_so = told(page).replace("\\", "")
    shown = page.subheader[0].value.split(":")[0].removeprefix("Concept ").strip("\\\n .")
    assert not_meant(asked, int(shown)) in told_so
