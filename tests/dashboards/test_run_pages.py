"""The pages that compare runs, draw the pipeline and keep notes, as a server runs them."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from dashboards import pages
from dashboards.screens import frame
from dashboards.screens.notes import concept_notes
from registry.catalog.notes import (
    Note,
    concept_subject,
    find_notes,
    read_note,
    run_subject,
    write_note,
)
from registry.catalog.runs import is_run
from registry.mongo.database import URL_VARIABLE, Database, connect
from registry.mongo.projector import sync
from registry.plan.project import Project, open_project
from registry.record.journal import EVENTS, journal_root
from tests.conftest import fresh_database
from tests.dashboards import fabricate
from tests.dashboards.fabricate import HOSTILE, run_uid
from tests.dashboards.numerals import badly_written_of
from tests.dashboards.test_preview import png

Open = Callable[..., AppTest]
COMPLETED = run_uid("toy-sae[k=8]", 0)


def show_compare() -> None:
    from dashboards.screens import compare

    compare.show()


def show_pipeline() -> None:
    from dashboards.screens import pipeline

    pipeline.show()


PAGES: dict[str, Callable[[], None]] = {"compare": show_compare, "pipeline": show_pipeline}


@pytest.fixture
def open_page(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Open]:
    """Open a page of a project, with values in the address; journals only unless told."""
    monkeypatch.chdir(tmp_path)

    def open_it(
        project: Project | Path,
        page: str = "",
        address: Mapping[str, Any] | None = None,
        url: str = "off",
    ) -> AppTest:
        root = project if isinstance(project, Path) else project.root
        monkeypatch.setenv(URL_VARIABLE, url)
        monkeypatch.setenv("FACTBOOK_PROJECT", str(root))
        if page in PAGES:
            test = AppTest.from_function(PAGES[page], default_timeout=60)
        else:
            test = AppTest.from_file(pages.__file__, default_timeout=60)
        for key, value in (address or {}).items():
            test.query_params[key] = value
        return test.run()

    yield open_it
    frame.connection.clear()
    frame._index.clear()


def told(test: AppTest) -> str:
    kinds = ("header", "subheader", "markdown", "caption", "info", "warning", "error", "code")
    said = [str(element.value) for kind in kinds for element in getattr(test, kind)]
    return "\n".join([*said, *(str(text.value) for text in test.text)])


def frames(test: AppTest) -> list[Any]:
    return [frame.value for frame in test.dataframe]


# -- runs -------------------------------------------------------------------------------------


def test_comparisons_times_and_columns_stand_in_the_address(
    open_page: Open, template: Path
) -> None:
    address = {
        "where": "config.k>=16, seconds<90",
        "since": "2026-11-22",
        "sort": "-config.k",
        "columns": ["cell", "config.k", "seconds"],
    }
    page = open_page(template, address=address)
    assert not page.exception
    [table] = frames(page)
    assert table["cell"].tolist() == ["toy-sae[k=16]"]
    assert list(table.columns) == ["cell", "config.k", "seconds"]
    page.text_input(key="where").set_value("").run()
    assert len(frames(page)[0]) == 9


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ({"where": "config.kk=3"}, "did you mean 'config.k'"),
        ({"where": '{"$gt": ""}'}, "expected a key"),
        ({"since": "yesterday"}, "is no time"),
        ({"until": HOSTILE}, "is no time"),
    ],
)
def test_what_cannot_be_asked_says_how_to_ask(
    open_page: Open, template: Path, address: dict[str, str], words: str
) -> None:
    page = open_page(template, address=address)
    assert not page.exception
    assert words in page.error[0].value.replace("\\", "")


def test_several_chosen_runs_are_offered_for_comparison(open_page: Open, template: Path) -> None:
    uids = [COMPLETED, run_uid("toy-sae[k=16]", 1)]
    page = open_page(template, address={"run": " ".join(uids)})
    assert not page.exception
    assert page.subheader[0].value == r"toy\-sae\[k\=16\]"  # the last of them is shown
    marked = page.session_state["table-of-runs"]["selection"]["rows"]
    assert len(marked) == 2
    labels = [link.proto.label for link in page.get("page_link")]
    assert "Compare these 2 runs" in labels
    assert "What does the network know?" in labels


def test_a_run_that_was_read_leads_to_who_read_it(open_page: Open, lived_in: Project) -> None:
    for uid in (run_uid("toy-gallery", 7), run_uid("toy-names", 8)):
        events = journal_root(lived_in.root) / uid / EVENTS
        source = run_uid("toy-concepts", 6)
        events.write_text(events.read_text().replace("run-toy-concepts", source))
    page = open_page(lived_in, address={"run": "toy-concepts"})
    labels = [button.label.replace("\\", "") for button in page.button]
    assert "toy-gallery, completed" in labels
    page.button(key=f"user-{run_uid('toy-names', 8)}").click().run()
    assert page.session_state["run"] == run_uid("toy-names", 8)
    assert page.subheader[0].value == r"toy\-names"


def test_runs_of_parts_are_reached_from_the_run_that_closed(
    open_page: Open, lived_in: Project
) -> None:
    closed, wrote = run_uid("toy-concepts", 6), run_uid("toy-gallery", 7)
    own = {"number": 2, "of": 3}
    for uid, facts in ((closed, {"parts": [{**own, "run": wrote}]}), (wrote, {"part": own})):
        events = journal_root(lived_in.root) / uid / EVENTS
        first, rest = events.read_text().split("\n", 1)
        begun = json.loads(first)
        begun["facts"] |= facts
        events.write_text(f"{json.dumps(begun)}\n{rest}")
    page = open_page(lived_in, address={"run": closed})
    link = page.button(key=f"part-{wrote}")
    assert link.label == "part 2 of 3"
    link.click().run()
    assert page.session_state["run"] == wrote
    assert page.subheader[0].value == r"toy\-gallery part 2 of 3"


def test_the_configuration_is_a_tree(open_page: Open, template: Path) -> None:
    page = open_page(template, address={"run": COMPLETED})
    assert json.loads(page.json[0].value) == {"seed": 0, "k": 8, "layer": "features.2"}


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ("Environment", "No repository"),
        ("Dataset", "made no dataset"),
        ("Files", "No files"),
    ],
)
def test_sections_that_are_empty_say_so(
    open_page: Open, template: Path, section: str, words: str
) -> None:
    page = open_page(template, address={"run": COMPLETED, "section": section})
    assert not page.exception
    assert words in told(page)


def test_the_environment_of_a_run(open_page: Open, lived_in: Project) -> None:
    events = journal_root(lived_in.root) / COMPLETED / EVENTS
    text = events.read_text()
    repository = '"repositories": [{"url": "/x", "commit": "abc", "dirty": true}], '
    told_by_sacred = repository + '"dependencies": ["numpy==2.4.6", "other==1.0"], "sources"'
    events.write_text(text.replace('"sources"', told_by_sacred, 1))
    page = open_page(lived_in, address={"run": COMPLETED, "section": "Environment"})
    assert not page.exception
    tables = {tuple(table.columns): table for table in frames(page)[1:]}
    code = tables["repository", "commit", "state"]
    assert code.values.tolist() == [["/x", "abc", "uncommitted changes"]]
    packages = tables["package", "version"].set_index("package")["version"].to_dict()
    assert packages == {"numpy": "2.4.6", "other": "1.0"}
    assert tables["key", "value"].set_index("key").loc["hostname", "value"]


def test_a_dataset_is_shown_in_a_sandbox(open_page: Open, template: Path) -> None:
    page = open_page(template, address={"run": "toy-concepts", "section": "Dataset"})
    assert not page.exception
    [shown] = page.get("iframe")
    assert 'sandbox=""' in shown.proto.srcdoc
    assert "xarray.Dataset" in shown.proto.srcdoc


def test_a_dataset_that_is_gone_is_told(open_page: Open, lived_in: Project) -> None:
    shutil.rmtree(lived_in.current("toy-concepts").resolve())
    page = open_page(lived_in, address={"run": run_uid("toy-concepts", 6), "section": "Dataset"})
    assert not page.exception
    assert "is gone from" in told(page).replace("\\", "")


def add_artifact(project: Project, uid: str, name: str, content: bytes) -> None:
    folder = journal_root(project.root) / uid
    (folder / "artifacts").mkdir(exist_ok=True)
    md5 = hashlib.md5(content).hexdigest()
    (folder / "artifacts" / md5).write_bytes(content)
    event = {
        **{"event": "artifact", "time": "2026-11-22T01:34:00.000Z", "name": name, "path": name},
        **{"md5": md5, "bytes": len(content), "kept": True},
        **{"content_type": None, "metadata": None},
    }
    with open(folder / EVENTS, "a") as events:
        events.write(json.dumps(event) + "\n")


def test_files_of_a_run(open_page: Open, lived_in: Project) -> None:
    add_artifact(lived_in, COMPLETED, "plots/loss.png", png())
    add_artifact(lived_in, COMPLETED, "fake.png", b"<svg onload='alert(1)'/>")
    address = {"run": COMPLETED, "section": "Files"}
    page = open_page(lived_in, address=address)
    assert not page.exception
    assert len(page.image) == 1
    page.selectbox(key="artifact").set_value("fake.png").run()
    assert not page.exception
    assert len(page.image) == 0


# -- notes ------------------------------------------------------------------------------------


@pytest.fixture
def recorded(
    template: Path, tmp_path: Path, database_url: str
) -> Iterator[tuple[Project, Database]]:
    """A copy of the project that is lived in, all of it in a database of its own."""
    with brought(template, tmp_path, database_url) as recorded:
        yield recorded


@contextmanager
def brought(template: Path, folder: Path, url: str) -> Iterator[tuple[Project, Database]]:
    """Bring all of a copy of a project to a database."""
    project = open_project(shutil.copytree(template, folder / "copy", symlinks=True))
    database = connect(project.root, url)
    assert database is not None
    sync(project.root, database)
    yield project, database
    database.close()


def test_notes_need_no_database(open_page: Open, template: Path, tmp_path: Path) -> None:
    root = shutil.copytree(template, tmp_path / "copy", symlinks=True)
    page = open_page(root, address={"run": COMPLETED})
    key = f"note run {COMPLETED} 0"
    page.text_area(key=f"{key} text").set_value("the best")
    [save] = [button for button in page.button if button.label == "Save"]
    save.click().run()
    assert not page.exception
    assert page.text[0].value == "the best"
    page = open_page(root, address={"run": COMPLETED})
    assert page.text[0].value == "the best"


def test_a_note_is_kept_found_and_survives_a_sync(
    open_page: Open, recorded: tuple[Project, Database], database_url: str
) -> None:
    project, database = recorded
    page = open_page(project, address={"run": COMPLETED}, url=database_url)
    assert not page.exception
    key = f"note run {COMPLETED} 0"
    page.text_area(key=f"{key} text").set_value(f"the best\n{HOSTILE}")
    page.text_input(key=f"{key} tags").set_value("baseline, best")
    [save] = [button for button in page.button if button.label == "Save"]
    save.click().run()
    assert not page.exception
    assert page.text[0].value == f"the best\n{HOSTILE}"
    assert "baseline" in told(page)
    sync(project.root, database, again=True)
    [note] = find_notes(database)
    assert note.tags == ("baseline", "best")

    for address in ({"tags": ["best"]}, {"text": "THE BEST baseline"}, {"where": "tags~best"}):
        found = open_page(project, address=address, url=database_url)
        assert frames(found)[0]["cell"].tolist() == ["toy-sae[k=8]"]
        assert frames(found)[0]["tags"].tolist() == ["baseline best"]


def test_a_run_is_archived_and_brought_back(
    open_page: Open, recorded: tuple[Project, Database], database_url: str
) -> None:
    project, database = recorded
    page = open_page(project, address={"run": COMPLETED}, url=database_url)
    page.button(key=f"archive-{COMPLETED}").click().run()
    assert not page.exception
    assert page.button(key=f"archive-{COMPLETED}").label == "Bring back"
    [note] = find_notes(database)
    assert note.tags == ("archived",)
    listed = open_page(project, address={"text": "best_accuracy"}, url=database_url)
    assert "No runs match" in told(listed)
    listed.toggle(key="archived").set_value(True).run()
    assert frames(listed)[0]["cell"].tolist() == ["toy-sae[k=8]"]
    assert project.store.root.is_dir()
    page.button(key=f"archive-{COMPLETED}").click().run()
    assert find_notes(database)[0].tags == ()


def test_a_run_is_deleted_when_that_is_meant(
    open_page: Open, lived_in: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    uid = run_uid("toy-concepts", 6)
    page = open_page(lived_in, address={"run": uid, "limit": "50"})
    page.button(key=f"delete-{uid}").click().run()
    assert f"factbook delete {uid}" in told(page)  # of a server that others may reach
    assert f"really-{uid}" not in [button.key for button in page.button]
    page.button(key=f"keep-{uid}").click().run()
    monkeypatch.setattr(sys, "argv", [*sys.argv, "--allow-delete"])
    page.button(key=f"delete-{uid}").click().run()
    assert not page.exception
    assert "toy\\-concepts" in told(page)
    assert page.button(key=f"really-{uid}").disabled
    assert (journal_root(lived_in.root) / uid).is_dir()
    page.button(key=f"keep-{uid}").click().run()
    assert (journal_root(lived_in.root) / uid).is_dir()
    page.button(key=f"delete-{uid}").click().run()
    page.checkbox(key=f"meant-{uid}").check().run()
    page.button(key=f"really-{uid}").click().run()
    assert not page.exception
    assert "Deleted run" in page.success[0].value
    assert not (journal_root(lived_in.root) / uid).exists()
    assert page.text_input(key="run").value == ""
    assert len(frames(page)[0]) == 8


def test_a_click_on_a_chip_shows_the_runs_of_a_status(open_page: Open, template: Path) -> None:
    page = open_page(template, address={"limit": "50"})
    page.run()  # all runs have been read by now
    chip = page.button(key="chip-FAILED")
    assert chip.label == "Failed 1"
    chip.click().run()
    assert frames(page)[0]["status"].unique().tolist() == ["FAILED"]
    page.button(key="chip-FAILED").click().run()
    assert len(frames(page)[0]) == 9


@pytest.mark.parametrize(
    ("text", "tags", "words"),
    [("kept aside", HOSTILE, "no tag"), ("bell \x07", "", "control characters")],
)
def test_what_cannot_be_noted_is_told_and_not_lost(
    open_page: Open,
    recorded: tuple[Project, Database],
    database_url: str,
    text: str,
    tags: str,
    words: str,
) -> None:
    project, database = recorded
    page = open_page(project, address={"run": COMPLETED}, url=database_url)
    key = f"note run {COMPLETED} 0"
    page.text_area(key=f"{key} text").set_value(text)
    page.text_input(key=f"{key} tags").set_value(tags)
    [save] = [button for button in page.button if button.label == "Save"]
    save.click().run()
    assert not page.exception
    assert words in page.error[0].value
    assert text in [code.value for code in page.code]
    assert find_notes(database) == []


def test_two_readers_do_not_overwrite_each_other(
    open_page: Open, recorded: tuple[Project, Database], database_url: str
) -> None:
    project, database = recorded
    page = open_page(project, address={"run": COMPLETED}, url=database_url)
    subject = run_subject(frame.open_catalog().run(COMPLETED))
    write_note(database, Note(subject, "theirs"))
    page.text_area(key=f"note run {COMPLETED} 0 text").set_value("mine")
    [save] = [button for button in page.button if button.label == "Save"]
    save.click().run()
    assert "meanwhile" in page.error[0].value
    assert "mine" in [code.value for code in page.code]
    assert read_note(database, subject).text == "theirs"


def show_concept() -> None:
    from dashboards.screens.frame import begin
    from dashboards.screens.notes import show_concept_note
    from tests.dashboards.fabricate import run_uid

    run = run_uid("toy-concepts", 6)
    show_concept_note(begin("Concept", ""), run, "toy-concepts", 1)


def test_a_concept_has_a_note_of_its_own(
    open_page: Open,
    recorded: tuple[Project, Database],
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    project, database = recorded
    monkeypatch.setitem(PAGES, "concept", show_concept)
    page = open_page(project, "concept", url=database_url)
    key = f"note concept {run_uid('toy-concepts', 6)} 1 0"
    page.text_area(key=f"{key} text").set_value("red ones")
    [save] = [button for button in page.button if button.label == "Save"]
    save.click().run()
    assert not page.exception
    assert page.text[0].value == "red ones"
    subject = concept_subject(run_uid("toy-concepts", 6), 1)
    assert read_note(database, subject).text == "red ones"
    noted = concept_notes(frame.open_catalog(), run_uid("toy-concepts", 6))
    assert {concept: note.text for concept, note in noted.items()} == {1: "red ones"}


OTHER = {
    "_id": 77,
    "experiment": {
        "name": HOSTILE,
        "base_dir": "/",
        "sources": [],
        "dependencies": ["numpy==1.0", "<b>==2"],
        "repositories": [{"url": "git@x", "commit": "abc", "dirty": False}],
    },
    "format": "MongoObserver-0.7.0",
    "command": "main",
    "host": {"hostname": "far", "os": ["Linux", "x"], "gpus": {"gpus": [{"model": "A100"}]}},
    "config": {"lr": 0.1, "text": HOSTILE, "seed": 2**60, "nan": float("nan")},
    "meta": {},
    "status": "COMPLETED",
    "resources": [["/data/x.csv", "id"]],
    "artifacts": [],
    "captured_out": "hello from elsewhere",
    "info": {},
    "result": 0.75,
}


@pytest.fixture(scope="module")
def foreign(
    template: Path, mongo_server: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Project, Database, str]]:
    """A copy of the project, whose database has a run of another client too."""
    moment = datetime(2026, 11, 22, 2, tzinfo=UTC)
    with (
        fresh_database(mongo_server) as url,
        brought(template, tmp_path_factory.mktemp("foreign"), url) as (project, database),
    ):
        database.runs.insert_one({**OTHER, "start_time": moment, "stop_time": moment})
        yield project, database, url


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ("Overview", ""),
        ("Curves", "No metrics"),
        ("Console", "hello from elsewhere"),
        ("Sources", "No source"),
        ("Environment", "Packages"),
        ("Dataset", "made no dataset"),
        ("Files", "No files"),
    ],
)
def test_a_run_of_another_client_is_shown_too(
    open_page: Open, foreign: tuple[Project, Database, str], section: str, words: str
) -> None:
    project, _, url = foreign
    page = open_page(project, address={"run": "77", "section": section}, url=url)
    assert not page.exception
    assert HOSTILE in frames(page)[0]["cell"].tolist()
    if section == "Overview":
        tree = json.loads(page.json[0].value)
        assert tree == {"lr": 0.1, "text": HOSTILE, "seed": str(2**60), "nan": "nan"}
        assert [["result", "0.75"]] in [frame.values.tolist() for frame in frames(page)]
    else:
        assert words in told(page)


def test_a_run_of_another_client_is_found_by_its_note(
    open_page: Open, foreign: tuple[Project, Database, str]
) -> None:
    project, database, url = foreign
    open_page(project, address={"run": "77"}, url=url)
    write_note(database, Note(run_subject(frame.open_catalog().run(77)), "from far"))
    frame.run_index(frame.open_catalog()).hurry()
    found = open_page(project, address={"text": "from far"}, url=url)
    assert frames(found)[0]["id"].tolist() == [77]


# -- compare ----------------------------------------------------------------------------------

SAES = "toy-sae[k=8] " + run_uid("toy-sae[k=16]", 4)


def test_runs_side_by_side(open_page: Open, template: Path) -> None:
    page = open_page(template, "compare", {"runs": SAES})
    assert not page.exception
    settings, results = frames(page)
    assert settings["setting"].tolist() == ["k"]
    assert settings.iloc[0].tolist() == ["k", "8", "16"]
    assert results["result"].tolist() == ["best_accuracy", "final_dead"]
    page.toggle(key="all").set_value(True).run()
    assert set(frames(page)[0]["setting"]) >= {"k", "layer", "seed"}


@pytest.mark.parametrize("section", ["Side by side", "Curves", "Groups", "Code", "Pictures"])
@pytest.mark.parametrize("runs", [SAES, "toy-concepts toy-gallery", HOSTILE, "demo"])
def test_every_section_of_any_runs(
    open_page: Open, template: Path, section: str, runs: str
) -> None:
    page = open_page(template, "compare", {"runs": runs, "compared": section})
    assert not page.exception
    assert page.header[0].value == "Compare"
    assert badly_written_of(page) == []


def test_curves_are_overlaid(open_page: Open, template: Path) -> None:
    page = open_page(template, "compare", {"runs": SAES, "compared": "Curves", "smooth": "0.9"})
    assert not page.exception
    titles = [text.value for text in page.markdown]
    assert r"**training\.loss**" in titles
    assert len(page.get("vega_lite_chart")) == 2


def test_groups_by_what_is_asked(open_page: Open, template: Path) -> None:
    address = {"runs": "toy-sae", "compared": "Groups", "result": "final_dead"}
    page = open_page(template, "compare", address)
    assert not page.exception
    assert page.multiselect(key="by").value == ["k"]
    [line] = frames(page)[0].to_dict("records")
    assert (line["setting"], line["n"]) == ("k 8", 1)  # the other one has not ended
    page.multiselect(key="by").set_value([]).run()
    [line] = frames(page)[0].to_dict("records")
    assert (line["n"], line["missing"]) == (1, 1)
    page.multiselect(key="by").set_value(["k"]).run()
    page.selectbox(key="against").set_value("k 16").run()
    assert not page.exception


def test_the_code_of_two_runs(open_page: Open, lived_in: Project) -> None:
    journal = journal_root(lived_in.root) / run_uid("toy-sae[k=16]", 4)
    [file] = (journal / "sources").iterdir()
    text = "def main():\n    return 2\n"
    md5 = hashlib.md5(text.encode()).hexdigest()
    (journal / "sources" / md5).write_text(text)
    events = (journal / EVENTS).read_text()
    (journal / EVENTS).write_text(events.replace(file.name, md5))
    page = open_page(lived_in, "compare", {"runs": SAES, "compared": "Code"})
    assert not page.exception
    assert "-    return 1\n+    return 2" in page.code[0].value


def test_pictures_of_the_same_concept(open_page: Open, lived_in: Project) -> None:
    events = journal_root(lived_in.root) / run_uid("toy-gallery", 7) / EVENTS
    events.write_text(events.read_text().replace("run-toy-concepts", run_uid("toy-concepts", 6)))
    add_artifact(lived_in, COMPLETED, "loss.png", png())
    address = {"runs": "toy-concepts toy-sae[k=8]", "compared": "Pictures", "index": "1"}
    page = open_page(lived_in, "compare", address)
    assert not page.exception
    assert "No pictures of toy\\-sae" in told(page)
    shown = "".join(element.proto.body for element in page.get("html"))
    assert shown.count("<figure") == 2 + 1  # concept 1 has two pictures; one attached
    assert shown.count("fb-below") == 2


@pytest.mark.parametrize("runs", ["../..", '{"$gt": ""}', "9" * 60, "nothing-like-it"])
def test_what_is_no_run_is_told(open_page: Open, template: Path, runs: str) -> None:
    page = open_page(template, "compare", {"runs": runs})
    assert not page.exception
    title = "not available now" if runs.isdecimal() else "No such run"
    assert title in page.warning[0].value


def test_nothing_to_compare_says_what_to_do(open_page: Open, template: Path) -> None:
    page = open_page(template, "compare")
    assert "Runs page" in page.info[0].value
    page.selectbox(key="one").set_value("toy-sae").run()
    other = page.selectbox(key="other")
    assert other.options
    picked = next(button for button in page.button if button.label == "Compare")
    assert picked.disabled
    other.select_index(0).run()
    next(button for button in page.button if button.label == "Compare").click().run()
    assert not page.exception
    named = page.text_input(key="runs").value.split()
    assert len(named) > 1
    assert all(map(is_run, named)), "so that the address shows these for ever"
    assert page.dataframe


# -- pipeline ---------------------------------------------------------------------------------


def test_the_pipeline_tells_what_is_due_and_why(open_page: Open, template: Path) -> None:
    page = open_page(template, "pipeline")
    assert not page.exception
    assert page.multiselect(key="of").value == ["demo"]
    [table] = frames(page)
    assert table["task"].tolist()[:2] == ["toy-sae[k=8]", "toy-sae[k=16]"]
    assert "factbook run demo" in [code.value for code in page.code]
    assert len(page.get("vega_lite_chart")) == 1
    assert badly_written_of(page) == []


def test_what_the_store_holds(open_page: Open, template: Path) -> None:
    page = open_page(template, "pipeline", {"store": "true"})
    assert not page.exception
    numbers = {metric.label: metric.value for metric in page.metric}
    assert int(numbers["datasets"]) > 0
    assert numbers["size"].endswith("B")
    _, held = frames(page)
    assert held["datasets"].sum() == int(numbers["datasets"])
    assert held["size"].is_monotonic_decreasing
    assert badly_written_of(page) == []


def test_a_task_of_the_pipeline(open_page: Open, template: Path) -> None:
    page = open_page(template, "pipeline", {"task": "toy-concepts", "of": ["toy-concepts"]})
    assert not page.exception
    assert page.subheader[0].value == r"toy\-concepts"
    assert "factbook run toy-concepts" in [code.value for code in page.code]


@pytest.mark.parametrize("target", [HOSTILE, "../..", '{"$gt": ""}', "no-such-*"])
def test_a_target_that_selects_nothing_is_told(
    open_page: Open, template: Path, target: str
) -> None:
    page = open_page(template, "pipeline", {"of": [target], "task": target})
    assert not page.exception
    assert "No such experiment" in page.error[0].value


def test_nothing_is_declared(open_page: Open, tmp_path: Path) -> None:
    page = open_page(fabricate.declare(tmp_path / "empty", ""), "pipeline")
    assert not page.exception
    assert "Nothing is declared" in page.info[0].value


@pytest.mark.parametrize("page", ["compare", "pipeline"])
def test_a_dead_database_is_told_and_journals_are_read(
    open_page: Open, template: Path, page: str
) -> None:
    url = "mongodb://user:secret@127.0.0.1:9/x?serverSelectionTimeoutMS=200"
    shown = open_page(template, page, {"runs": "toy-sae"}, url=url)
    assert not shown.exception
    assert "MongoDB cannot be reached" in shown.warning[0].value
    assert "secret" not in told(shown)
    assert frames(shown)


def test_long_curves_lose_no_peak(open_page: Open, lived_in: Project) -> None:
    values = np.zeros(20_000)
    values[12_345] = 7.0
    told_of = fabricate.Told("toy-sae[k=8]", minutes=60, metrics={"spike": values.tolist()})
    uid = fabricate.record(lived_in, told_of)
    page = open_page(lived_in, address={"run": uid, "section": "Curves"})
    assert not page.exception
    assert "20,000 points, thinned" in told(page)
