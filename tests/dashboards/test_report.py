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
from dashboards.views.parts.parts import Heading, Note, Number, Numbers, Picture, Pictures, Table
from dashboards.views.sections import Section
from registry.cli import main
from registry.mongo.database import URL_VARIABLE

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


def test_long_tables_say_what_is_left_out() -> None:
    table = Table("long", pd.DataFrame({"x": range(MOST_ROWS + 7)}))
    tags = read(render("t", "", [Section("s", [table])]))
    assert [tag for tag, _ in tags.tags].count("td") == MOST_ROWS
    assert "7 of them left out" in tags.text


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


def test_a_folder_that_is_not_there_is_told_before_the_work(  # type: ignore[no-untyped-def]
    run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dashboards.views.sections.sections_of", None)  # not called
    told = run("demo", "--out", str(tmp_path / "missing" / "demo.html"))
    assert told.exit_code == 2
    assert "there is no folder" in told.output
    assert "Traceback" not in told.output
