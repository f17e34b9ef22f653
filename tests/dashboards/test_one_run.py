"""One run: settings, inputs, output, progress, and how to run it again."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace

import pytest

from dashboards.views.runs import one_run as view
from registry.catalog.access import Catalog, UnknownRunError, open_catalog
from registry.catalog.runs import RunView
from registry.plan.project import Project
from registry.record.journal import journal_root
from tests.dashboards.fabricate import HOSTILE, run_uid

EMPTY = RunView(None, "", "", "", "", "RUNNING", None, None, None, None, "")


def settings(frame: object) -> dict[str, str]:
    return dict(zip(frame["key"], frame["value"], strict=True))  # type: ignore[index]


def test_a_run_is_found_by_identifier_and_by_cell(catalog: Catalog) -> None:
    uid = run_uid("toy-sae[k=8]", 0)
    assert view.find_run(catalog, uid).uid == uid
    assert view.find_run(catalog, "toy-sae[k=8]").uid == uid
    assert view.find_run(catalog, "toy-sae").uid == run_uid("toy-sae[k=16]", 4)


@pytest.mark.parametrize(
    "name",
    [
        "../..",
        "/etc/passwd",
        "..\\..",
        "a\0b",
        "9" * 40,
        '{"$gt": ""}',
        "",
        "no-such",
        HOSTILE,
        ".",
    ],
)
def test_what_names_no_run_is_unknown_and_leads_nowhere(catalog: Catalog, name: str) -> None:
    with pytest.raises(UnknownRunError, match="no run"):
        view.find_run(catalog, name)


def test_configuration_shows_the_keys_of_the_stage(catalog: Catalog) -> None:
    run = view.find_run(catalog, "toy-concepts")
    assert settings(view.config_frame(run)) == {"seed": "0", "k": "8", "layer": "features.2"}
    changed = replace(run, overrides={"k": 9})
    frame = view.config_frame(changed)
    assert frame.loc[frame["overridden"], "key"].tolist() == ["k"]


def test_configuration_of_another_client_is_shown_whole() -> None:
    run = replace(EMPTY, config={"needs": {"a": 1}, "experiment": "x", "lr": 0.1})
    assert settings(view.config_frame(run)) == {"needs.a": "1", "experiment": "x", "lr": "0.1"}


def test_a_result_that_is_one_value_has_a_name() -> None:
    assert settings(view.settings_frame({"": 0.5})) == {"result": "0.5"}
    assert settings(view.settings_frame({"most": None})) == {"most": "None"}
    assert view.settings_frame({}).empty


def test_inputs_and_output(catalog: Catalog) -> None:
    run = view.find_run(catalog, "toy-concepts")
    assert view.run_inputs(run) == [view.RunInput("sae", "toy-sae[k=8]", "sae", "run-toy-sae[k=8]")]
    output = settings(view.output_frame(run))
    assert output["dataset"] == "concepts"
    assert "concept 6" in output["dimensions"]
    assert output["bytes"] == "121 KiB"
    assert view.output_frame(EMPTY).empty
    assert view.run_inputs(replace(EMPTY, inputs={"slot": "nonsense"})) == []


def test_facts_leave_out_what_is_not_known(catalog: Catalog) -> None:
    facts = settings(view.facts_frame(view.find_run(catalog, "toy-concepts")))
    assert facts["run"] == "not in MongoDB yet"
    assert facts["stage"] == "tests.dashboards.toy.measure, version 1"
    assert "commit" not in facts
    assert set(settings(view.facts_frame(EMPTY))) == {"run"}


def test_the_command_that_repeats_a_run_is_safe_to_paste() -> None:
    run = replace(EMPTY, stage="fact.train_sae", experiment="sae", cell="sae[k=8,seed=1]")
    assert shlex.split(view.repeat_command(run)) == [
        "factbook",
        "run",
        "--force",
        "sae[k=8,seed=1]",
    ]
    changed = replace(run, overrides={"lr": 0.1, "needs.images": "$(reboot)"})
    assert shlex.split(view.repeat_command(changed)) == [
        *("python", "-m", "fact.train_sae", "with", "sae", "lr=0.1"),
        "needs.images=$(reboot)",
    ]
    assert "'needs.images=$(reboot)'" in view.repeat_command(changed)
    assert view.repeat_command(EMPTY) == ""


def test_status_is_told_in_words(catalog: Catalog) -> None:
    completed = view.find_run(catalog, "toy-sae[k=8]")
    line = view.status_line(completed)
    assert "started 2026-11-22 01:33:55 UTC" in line
    assert "took 1 min 30 s" in line
    assert view.status_note(completed) == ""
    died = view.find_run(catalog, run_uid("toy-sae[k=16]", 2))
    assert died.status == "DIED"
    assert "last sign of life after" in view.status_line(died)
    assert "killed, out of memory" in view.status_note(died)
    assert view.status_line(EMPTY) == "not started"


def write_progress(project: Project, uid: str, text: str) -> None:
    (journal_root(project.root) / uid / "progress.json").write_text(text)


def test_progress_of_a_run_that_runs(lived_in: Project) -> None:
    catalog = open_catalog(lived_in.root, "off")
    run = view.find_run(catalog, run_uid("toy-sae[k=16]", 4))
    assert run.status == "RUNNING"
    assert view.progress(catalog, run) is None
    write_progress(lived_in, run.uid, json.dumps({"done": 3, "total": 4, "what": "passes"}))
    done = view.progress(catalog, run)
    assert done == view.Progress(3, 4, "passes")
    assert done.share == 0.75
    assert view.progress(catalog, replace(run, status="COMPLETED")) is None


@pytest.mark.parametrize("text", ["", "[]", '{"done": "x", "total": 4}', '{"done": 1}', "torn {"])
def test_progress_that_cannot_be_read_is_none(lived_in: Project, text: str) -> None:
    catalog = open_catalog(lived_in.root, "off")
    run = view.find_run(catalog, run_uid("toy-sae[k=16]", 4))
    write_progress(lived_in, run.uid, text)
    assert view.progress(catalog, run) is None


@pytest.mark.parametrize(("done", "share"), [(0, 0), (5, 1), (-1, 0)])
def test_progress_is_a_share(done: float, share: float) -> None:
    assert view.Progress(done, 4, "").share == share
    assert view.Progress(done, 0, "").share == 0


def test_the_end_of_a_console() -> None:
    text = "".join(f"line {number}\n" for number in range(10))
    assert view.console_end(text, 3) == ("line 7\nline 8\nline 9", 7)
    assert view.console_end(text, 100) == (text.rstrip("\n"), 0)
