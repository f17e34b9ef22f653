"""Reports: one file that shows what pages show, and does nothing else."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from dashboards.report import MOST_ROWS, render
from dashboards.site.content import plain
from dashboards.views.parts.parts import Heading, Note, Number, Numbers, Picture, Pictures, Table
from dashboards.views.sections import Section
from registry.cli import main
from registry.mongo.database import URL_VARIABLE
from tests.dashboards.fabricate import run_uid

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>\" onclick='alert(3)"


class Tags(HTMLParser):
    """Notes every tag with its attributes, and all text."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def read(html: str) -> Tags:
    tags = Tags()
    tags.feed(html)
    return tags


def assert_inert(tags: Tags) -> None:
    """Nothing in it runs, and nothing is fetched."""
    assert "script" not in {tag for tag, _ in tags.tags}
    for _, attributes in tags.tags:
        assert not [name for name in attributes if name.startswith("on")]
        for name in ("src", "href", "xlink:href"):
            assert re.match(r"data:image/(png|webp);base64,|#", attributes.get(name) or "#")


def test_stored_texts_are_shown_and_do_nothing() -> None:
    picture = Picture(np.zeros((2, 2, 3), np.uint8), HOSTILE)
    parts = [
        Heading(HOSTILE),
        Note(HOSTILE, "warning"),
        Numbers([Number(HOSTILE, HOSTILE, HOSTILE)]),
        Table(HOSTILE, pd.DataFrame({HOSTILE: [HOSTILE]}), HOSTILE, HOSTILE),
        Pictures([picture], title=HOSTILE),
    ]
    tags = read(render(HOSTILE, HOSTILE, [Section(HOSTILE, parts, HOSTILE)]))
    assert_inert(tags)
    assert tags.text.count(HOSTILE) >= 12
    assert [tag for tag, _ in tags.tags].count("img") == 1


def test_reports_and_sites_say_of_what_a_number_is() -> None:
    part = Numbers([Number("accuracy", "90 %", "fraction", "of 100 test images")])
    shown = "accuracy, of 100 test images<b>90\N{NO-BREAK SPACE}%</b>"
    assert shown in render("t", "", [Section("s", [part])])
    assert list(plain([part])) == [
        {"numbers": [{"name": "accuracy, of 100 test images", "value": "90 %", "is": "fraction"}]}
    ]


def test_what_results_mean_is_told_of_the_first_of_several() -> None:
    sections = [
        Section(name, [Heading(name)], meaning)
        for name, meaning in (
            ("one", "Alike?"),
            ("two", "Alike?"),
            ("three", "Sure?"),
            ("four", ""),
        )
    ]
    text = render("a report", "", sections)
    assert text.count("Alike?") == 1
    assert text.index("Alike?") < text.index(">two</h2>") < text.index("Sure?")


def test_long_tables_say_what_is_left_out() -> None:
    table = Table("long", pd.DataFrame({"x": range(MOST_ROWS + 7)}))
    tags = read(render("t", "", [Section("s", [table])]))
    assert [tag for tag, _ in tags.tags].count("td") == MOST_ROWS
    assert "7 of them left out" in tags.text


def test_contents_lead_to_what_is_folded() -> None:
    figures = [Table(f"t{n}", pd.DataFrame({"x": [n]}), f"table {n}") for n in range(3)]
    parts = [Note("first"), *figures, Heading("one"), Note("a"), Heading("none"), Heading("two")]
    tags = read(render("t", "", [Section("s", [*parts, Note("b")]), Section("other", [])]))
    assert_inert(tags)
    ids = {attributes.get("id") for _, attributes in tags.tags}
    links = [attributes["href"] for tag, attributes in tags.tags if tag == "a"]
    assert len(links) == 5, "two sections, and of the first what follows its table, one, two"
    assert {str(link)[1:] for link in links} <= ids
    names = [tag for tag, _ in tags.tags]
    assert names.index("h3") < names.index("section") + 5, "the first table is seen at once"
    assert names.count("details") == 1 + 3
    assert "More: table 1, table 2" in tags.text


def test_many_folds_are_folded_together() -> None:
    parts = [part for n in range(20) for part in (Heading(f"image {n}"), Note("a"))]
    tags = read(render("t", "", [Section("s", parts)]))
    assert [tag for tag, _ in tags.tags].count("details") == 1 + 1 + 20


@pytest.fixture
def run(template: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):  # type: ignore[no-untyped-def]
    monkeypatch.setenv(URL_VARIABLE, "off")
    monkeypatch.setenv("FACTBOOK_PROJECT", str(template))
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: CliRunner().invoke(main, ["report", *arguments])


@pytest.mark.slow
def test_a_suite_as_one_file(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    told = run("demo", "--out", str(tmp_path / "demo.html"))
    assert told.exit_code == 0, told.output
    tags = read((tmp_path / "demo.html").read_text())
    assert_inert(tags)
    assert "waiting for upstream" in tags.text, "of the pipeline, with which it begins"
    titles = ["toy-sae[k=8]", "toy-concepts", "toy-gallery", "toy-names"]
    assert all(title in tags.text for title in titles)
    assert "factbook run --force toy-concepts" in tags.text
    assert "No dataset yet" in tags.text, "of the trained SAEs, which were never made"


@pytest.mark.slow
def test_unknown_experiments_are_told(run) -> None:  # type: ignore[no-untyped-def]
    told = run("toy-concept")
    assert told.exit_code == 1
    assert "toy-concepts" in told.output


@pytest.mark.slow
def test_a_run_that_is_named(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    old, failed = run_uid("toy-concepts", 6), run_uid("toy-sae[k=16]", 1)
    told = run(old, failed, "--out", str(tmp_path / "runs.html"))
    assert told.exit_code == 0, told.output
    tags = read((tmp_path / "runs.html").read_text())
    assert_inert(tags)
    assert f"toy-concepts, run {old}" in tags.text
    assert "mean number behind 80\N{NO-BREAK SPACE}%" in " ".join(
        str(a.get("title")) for _, a in tags.tags
    )
    assert f"run {failed} made no dataset: it is FAILED" in tags.text
    told = run("20200101T000000-00000000")
    assert told.exit_code == 1
    assert "no run '20200101T000000-00000000'" in told.output


def test_a_folder_that_is_not_there_is_told_before_the_work(  # type: ignore[no-untyped-def]
    run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dashboards.views.sections.sections_of", None)  # not called
    told = run("demo", "--out", str(tmp_path / "missing" / "demo.html"))
    assert told.exit_code == 2
    assert "there is no folder" in told.output
    assert "Traceback" not in told.output
