"""The command ``factbook``, as somebody types it."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from importlib.metadata import EntryPoint, EntryPoints, entry_points
from pathlib import Path

import click
import pymongo
import pytest
from click.testing import CliRunner, Result

from registry import cli
from registry.catalog.access import open_catalog
from registry.catalog.notes import ARCHIVED, Note, run_subject
from registry.cli import COMMAND_GROUP, main
from registry.commands.records import both_ends
from registry.mongo import server
from registry.mongo.database import URL_VARIABLE, connect
from registry.record.journal import journal_uids
from registry.terminal import duration, print_table, text_of
from registry.wording import counted
from tests.registry.conftest import Lab
from tests.registry.lab.project import edit, write_project

SOURCE = Path(__file__).parents[2]
COMMANDS = (
    "list",
    "kinds",
    "stages",
    "plan",
    "run",
    "job",
    "status",
    "runs",
    "show",
    "diff",
    "compare",
    "data",
    "data check",
    "path",
    "sync",
    "gc",
    "delete",
    "doctor",
    "backup",
    "restore",
    "mongo",
    "mongo start",
    "mongo stop",
    "mongo uri",
    "dashboard",
)
FAILING = """
[experiments.failing]
stage = "tests.registry.lab.scale"
needs = { numbers = "few" }
config = { factor = 3.0, then = "fail" }

[experiments.failing-mean]
stage = "tests.registry.lab.average"
needs = { scaled = "failing" }
"""
FAULTY = """
[project]
plugins = ["tests.registry.lab.kinds"]
databse = "x"

[datasets.few]
kind = "numbes"

[experiments.a]
stage = "tests.registry.lab.scal"

[experiments.b]
stage = "tests.registry.lab.scale"
needs = { numbers = "fex" }
config = { factr = 1, seed = "a" }
"""


def typed(*words: str) -> Result:
    """Type a command; what it raises beyond an exit status is a defect."""
    result = CliRunner().invoke(main, words)
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def printed(*words: str) -> str:
    result = typed(*words)
    assert result.exit_code == 0, result.output
    return result.stdout


def refused(*words: str, status: int = 1) -> str:
    result = typed(*words)
    assert result.exit_code == status, result.output
    assert result.stdout == "" or status == 2
    return result.stderr


def rows(text: str) -> list[list[str]]:
    """Return a printed table, cut where two spaces are."""
    return [
        [c.strip() for c in line.split("  ") if c.strip()] for line in text.splitlines() if line
    ]


# -- help and refusals ------------------------------------------------------------------------


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str) -> None:
    told = printed(*command.split(), "--help")
    assert told == printed(*command.split(), "-h")
    first = told.split("\n\n")[1].strip()
    assert len(first) > 20
    assert first.endswith(".")


@click.command()
@click.option("--name")
def greet(name: str) -> None:
    """Greet somebody."""
    click.echo(f"hello {name}")


def test_installed_packages_bring_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    points = EntryPoints(
        [
            EntryPoint("greet", "tests.registry.test_cli:greet", "factbook.commands"),
            EntryPoint("gone", "tests.registry.test_cli:gone", "factbook.commands"),
        ]
    )
    monkeypatch.setattr(cli, "entry_points", lambda **chosen: points.select(**chosen))
    assert printed("greet", "--name", "you") == "hello you\n"
    assert "command 'gone' cannot be loaded" in refused("gone")
    assert {"greet", "gone", "run"} <= {row[0] for row in rows(printed("--help"))}


def test_the_overview_has_every_command_in_full() -> None:
    told = printed("--help")
    for command in COMMANDS:
        assert f"  {command.split()[0]} " in told
    assert "..." not in told.partition("Commands:")[2]
    assert "\n  factbook plan demo           what would run, why, and about how long\n" in told
    assert printed("--version").startswith("factbook, version ")


ALL = (
    *("list", "plan", "status", "run", "runs", "show 1", "path a", "diff 1 2", "sync"),
    "compare a",
)


@pytest.mark.parametrize("command", ALL)
def test_every_fault_of_a_declaration_is_told_before_anything_runs(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "experiments.toml").write_text(FAULTY)
    monkeypatch.chdir(tmp_path)
    told = refused(*command.split())
    for fault in (
        "experiments.toml:4: project.databse: unknown key; did you mean 'database'?",
        "unknown kind 'numbes'; did you mean 'numbers'?",
        "unknown stage 'tests.registry.lab.scal'; did you mean 'tests.registry.lab.scale'?",
        "unknown dataset, network or experiment 'fex'; did you mean 'few'?",
        "config.factr: unknown key; did you mean 'factor'?",
        "config.seed: Input should be a valid integer; got 'a'",
        "6 faults; nothing was run",
    ):
        assert fault in told
    assert not (tmp_path / ".factbook").exists()
    assert refused("mongo", "uri").startswith("not running")  # it can be stopped all the same


@pytest.mark.parametrize("command", [*ALL, "mongo uri", "mongo start", "mongo stop"])
def test_a_project_is_needed(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    told = refused(*command.split())
    assert "no experiments.toml in" in told
    assert "factbook init" in told.replace("\n", " ")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("plan nothing", "unknown experiment 'nothing'"),
        ("plan twise", "did you mean 'twice'?"),
        ("plan sweep[factor=9]", "'sweep' has no cell with factor=9; expected one of 1.0, 2.0"),
        ("plan twise sweep[factor=9]", "did you mean 'twice'?\n'sweep' has no cell"),
        ("run twise", "did you mean 'twice'?"),
        ("status twise", "did you mean 'twice'?"),
        ("list twise", "did you mean 'twice'?"),
        ("path sweep", "'sweep' means 4 cells; name one of\n  sweep[factor=1.0,seed=0]"),
        ("path twise", "did you mean 'twice'?"),
        ("path 99999", "no run '99999'"),
        ("show twise", "no run 'twise'; did you mean 'twice'?"),
        ("diff twice 99999", "no run '99999'"),
        ("compare twise", "did you mean 'twice'?"),
        ("compare sweep --result totel", "no result 'totel'; did you mean 'total'?"),
        ("compare sweep --over sed", "no axis 'sed' in what was named; did you mean 'seed'?"),
        ("compare sweep --against twice", "no setting 'twice'; expected one of 'sweep[factor="),
        ("compare sweep --confidence 95", "confidence 95.0; expected a number between 0 and 1"),
    ],
)
def test_what_is_not_there_is_told_with_the_nearest(lab: Lab, words: str, message: str) -> None:
    assert message in refused(*words.split())


@pytest.mark.parametrize(
    "words",
    [
        "nothing",
        "run -w 0",
        "runs -n -1",
        "runs --where config.k",
        "runs --where config.$x=1",
        "runs --where config.facto>1",
        "runs --where config.factor=>1",
        "dashboard --port 65536",
        "runs --sort $x",
        "show",
        "plan --no-such-option",
        "compare",
        "compare sweep --csv means --latex means",
    ],
)
def test_what_cannot_be_meant_is_a_usage_error(lab: Lab, words: str) -> None:
    assert "Error: " in refused(*words.split(), status=2)


# -- over seeds -------------------------------------------------------------------------------


def test_compare_prints_means_and_differences(lab: Lab) -> None:
    told = rows(printed("compare", "sweep-mean"))
    assert told[0] == ["result", "setting", "mean", "low", "high", "deviation", "n"]
    assert told[1][:2] == ["mean", "sweep-mean[factor=1.0]"]
    assert told[1][-1] == "2"
    assert told[4][:4] == ["result", "setting", "against", "difference"]
    assert told[5][-1] == "no spread"
    assert told[6][0].startswith("Intervals (95 %) and p are of each comparison alone")
    means = list(csv.DictReader(io.StringIO(printed("compare", "sweep-mean", "--csv", "means"))))
    assert float(told[1][2]) == pytest.approx(float(means[0]["mean"]), rel=1e-3)
    assert printed("compare", "sweep-mean", "--latex", "differences").count(r" \\") == 2


def test_compare_names_what_is_missing_and_how_it_is_run(fresh: Path) -> None:
    told = printed("compare", "sweep[factor=1.0]", "twice")
    assert "Missing of twice: twice." in told
    assert told.endswith(
        "\nfactbook run 'sweep[factor=1.0,seed=0]' 'sweep[factor=1.0,seed=1]' twice\n"
    )


# -- what is declared and due -----------------------------------------------------------------


def test_list(lab: Lab) -> None:
    told = printed("list")
    assert ["few", "datasets", "numbers", '{"values": [1.0, 2.0, 3.5], "file": null}'] in rows(told)
    assert ["sweep-mean", "tests.registry.lab.average", "4", "scaled=sweep"] in rows(told)
    assert ["pair", "twice, mean"] in rows(told)
    assert [row[0] for row in rows(printed("list", "sweep*"))[1:]] == ["sweep", "sweep-mean"]
    described = json.loads(printed("list", "--json"))
    assert [entry["name"] for entry in described["experiments"]][:2] == ["twice", "mean"]


def test_plan_names_what_changed(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert printed("plan") == "nothing to run; 10 tasks up to date\n"
    root = tmp_path / "copy"
    shutil.copytree(lab.root, root, symlinks=True)
    monkeypatch.chdir(root)
    edit(root, "noise = 0.1", "noise = 0.2")
    told = rows(printed("plan"))
    assert len(told) == 1 + 8 + 1
    assert told[1][0] == "sweep[factor=1.0,seed=0]"
    assert told[1][2] == "configuration changed: noise 0.1 -> 0.2"
    assert told[-1][0].startswith("8 tasks to run, about ")
    assert told[-1][0].endswith("; 2 tasks up to date")
    assert len(rows(printed("plan", "sweep[factor=1.0,seed=0]"))) == 3
    edit(root, "noise = 0.2", "noise = 0.1 ")
    assert printed("plan") == "nothing to run; 10 tasks up to date\n"
    assert "forced" in printed("plan", "twice", "--force")


def test_what_is_complete_as_it_was_declared_before_is_not_called_never(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "copy"
    shutil.copytree(lab.root, root, symlinks=True)
    monkeypatch.chdir(root)
    edit(root, "noise = 0.1", "noise = 0.2")
    cell = "sweep[factor=1.0,seed=0]"
    run = os.readlink(lab.project.current(cell).parent / "current")
    told = rows(printed("status", "sweep"))
    reason = "configuration changed: noise 0.1 -> 0.2"
    assert [cell, "complete before", run, reason] in told


def test_experiments_that_are_declared_no_more_are_listed(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "copy"
    shutil.copytree(lab.root, root, symlinks=True)
    monkeypatch.chdir(root)
    assert "not declared any more" not in printed("list")
    (root / "artifacts" / "twice").rename(root / "artifacts" / "thrice")
    told = rows(printed("list"))
    assert ["not declared any more", "finished runs", "newest"] in told
    manifests = (root / "artifacts" / "thrice").glob("*/*/manifest.json")
    finished = sum(not path.parent.is_symlink() for path in manifests)  # `current` is one
    assert [row[:2] for row in told if row[0] == "thrice"] == [["thrice", str(finished)]]
    assert "not declared any more" not in printed("list", "sweep")


def test_status(lab: Lab, fresh: Path) -> None:
    assert ["twice", "never", "never ran"] in rows(printed("status", "twice"))
    os.chdir(lab.root)
    [head, row] = rows(printed("status", "twice"))
    assert head == ["task", "status", "last run", "would run because"]
    assert row[:2] == ["twice", "complete"]
    assert row[2] in journal_uids(lab.root)


# -- run --------------------------------------------------------------------------------------


@pytest.mark.slow
def test_run_to_the_end_and_not_again(fresh: Path) -> None:
    told = printed("run", "pair", "--here")
    assert "2 tasks to run, 2 of unknown duration\n" in told
    assert "✓ twice  completed" in told
    assert ["mean", "mean 4.333"] in [[row[0], row[-1]] for row in rows(told)]
    assert printed("run", "pair") == "nothing to run: 2 tasks up to date\n"


@pytest.mark.slow
def test_run_in_a_worker(fresh: Path) -> None:
    told = printed("run", "twice", "--workers", "2")
    assert re.search(r"… starting twice \(run \S+\), because it never ran", told)
    assert "✓ twice  completed" in told
    assert list((fresh / ".factbook" / "workers").iterdir()) == []


@pytest.mark.slow
def test_a_failure_is_told_and_gives_status_1(fresh: Path) -> None:
    write_project(fresh, FAILING)
    result = typed("run", "failing", "failing-mean", "twice", "--here")
    assert result.exit_code == 1
    assert "✗ failing  failed" in result.stdout
    assert "\n    RuntimeError: asked to fail\n" in result.stdout
    assert "– failing-mean  blocked\n    needs failing\n" in result.stdout
    assert "✓ twice  completed" in result.stdout
    shown = printed("show", "failing")
    assert "RuntimeError: asked to fail" in shown
    assert ["status", "FAILED"] in rows(shown)
    assert rows(printed("runs", "--status", "failed"))[1][1] == "failing"


@pytest.mark.slow
def test_an_unreachable_database_stops_before_anything_begins(
    fresh: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(URL_VARIABLE, "mongodb://me:s3cret@127.0.0.1:1")
    result = typed("run", "twice")
    assert result.exit_code == 1
    assert "MongoDB at mongodb://me:***@127.0.0.1:1" in result.stderr
    assert "s3cret" not in result.output
    assert journal_uids(fresh) == []
    assert "✓ twice" in printed("run", "twice", "--journal-only", "--here")
    assert "reading the journals instead" in typed("runs").stderr


@pytest.mark.parametrize(
    "password", ["s3cret s3cret", "s3cret/s3cret", "1/s3cret", "s3cret@s3cret"]
)
def test_no_command_prints_a_password(
    fresh: Path, monkeypatch: pytest.MonkeyPatch, password: str
) -> None:
    os.chdir(fresh)
    url = f"mongodb://me:{password}@127.0.0.1:1/db?serverSelectionTimeoutMS=50"
    monkeypatch.setenv(URL_VARIABLE, url)
    for command in ("plan", "run twice --here", "runs", "sync"):
        result = typed(*command.split())
        assert "s3cret" not in result.output
    assert URL_VARIABLE in result.stderr or "MongoDB at mongodb://me:***@" in result.stderr


def test_journals_are_synced_when_there_is_a_database_again(
    fresh: Path, lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.chdir(fresh)
    monkeypatch.setenv(URL_VARIABLE, "off")
    printed("run", "twice", "--here")
    assert "no database to sync to" in refused("sync")
    monkeypatch.setenv(URL_VARIABLE, lab.url)
    told = rows(printed("sync"))
    assert told[1][0] == journal_uids(fresh)[0]
    assert told[1][2] == "COMPLETED"
    assert told[-1][0].startswith("1 journal brought to mongodb://")
    assert printed("sync").startswith("0 journals brought to ")
    database = connect(fresh, lab.url)
    assert database is not None
    mine = {"info.factbook.uid": told[1][0]}
    database.runs.update_one(mine, {"$set": {"status": "FAILED", "omniboard": {"tags": ["a"]}}})
    put_back = rows(printed("sync"))
    assert put_back[1] == [*told[1][:3], "put back: status"]
    assert put_back[2] == ["1 record put back to what the journal says"]
    record = database.runs.find_one(mine)
    assert record is not None
    assert (record["status"], record["omniboard"]) == ("COMPLETED", {"tags": ["a"]})
    database.close()
    assert rows(printed("show", told[1][1]))[0][0] == "run"


# -- records ----------------------------------------------------------------------------------


def test_runs(lab: Lab) -> None:
    told = rows(
        printed("runs", "sweep", "--where", "config.factor=2.0", "--where", "config.seed=1")
    )
    assert told[0] == ["run", "cell", "stage", "status", "started", "took", "result"]
    assert {row[1] for row in told[1:]} == {"sweep[factor=2.0,seed=1]"}
    assert told == rows(printed("runs", "sweep", "--where", "config.factor>1, config.seed>0"))
    assert len(rows(printed("runs", "-n", "3"))) == 4
    numbers = [int(row[0]) for row in rows(printed("runs", "--sort", "id", "-n", "0"))[1:]]
    assert numbers == sorted(numbers)
    nothing = typed("runs", "twise")
    assert (nothing.exit_code, nothing.stdout) == (0, "")
    assert nothing.stderr == "No runs match; did you mean 'twice'?\n"


def test_archived_runs_are_left_out_and_counted(lab: Lab) -> None:
    every = rows(printed("runs", "sweep", "-n", "0"))[1:]
    with open_catalog(lab.root) as catalog:
        run = catalog.runs(experiment="sweep")[0]
        kept = catalog.note_book.write(Note(run_subject(run), tags=(ARCHIVED,)))
        try:
            told = typed("runs", "sweep", "-n", "2")
            assert [row[0] for row in rows(told.stdout)[1:]] == [row[0] for row in every[1:3]]
            assert told.stderr == "1 archived run left out; --archived shows all\n"
            assert len(rows(typed("runs", "sweep", "--csv", "-n", "0").stdout)) == len(every)
            for words in (("--archived",), ("--where", "tags~archived, config.seed>=0")):
                shown = typed("runs", "sweep", "-n", "0", *words)
                assert every[0][0] in {row[0] for row in rows(shown.stdout)[1:]}
                assert shown.stderr == ""
        finally:
            catalog.note_book.write(replace(kept, tags=()))


def test_runs_as_csv(lab: Lab) -> None:
    told = list(csv.DictReader(io.StringIO(printed("runs", "sweep", "--csv", "-n", "0"))))
    assert len(told) >= 4
    for row in told:
        assert row["status"] == "COMPLETED"
        assert float(row["config.noise"]) == 0.1
        assert float(row["result.total"]) > 6
        assert row["config.needs.numbers"] == "few"


def test_show(lab: Lab) -> None:
    uid = str(lab.outcomes["mean"].uid)
    told = rows(printed("show", uid))
    assert ["cell", "mean"] in told
    assert ["inputs", f"scaled: twice ({lab.outcomes['twice'].uid})"] in told
    assert ["offset", "0.0"] in told
    assert ["mean", "4.333333333333333", "mean of all values"] in told
    twice = str(lab.outcomes["twice"].uid)
    assert printed("show", twice, "--console") == "scaling by 2.0\n"
    assert printed("show", twice).endswith("\nconsole\nscaling by 2.0\n")
    described = json.loads(printed("show", twice, "--json"))
    assert described["facts"]["cell"] == "twice"


def test_diff(lab: Lab) -> None:
    cells = ("sweep[factor=1.0,seed=0]", "sweep[factor=2.0,seed=0]")
    left, right = (str(lab.outcomes[cell].uid) for cell in cells)
    told = rows(printed("diff", left, right))
    assert ["configuration"] in told
    assert ["factor", "1.0", "2.0"] in told
    assert [row[0] for row in told if row[0] in ("noise", "seed")] == []
    assert ["result"] in told
    assert ["the code is identical"] in told
    assert printed("diff", left, left) == "the code is identical\n"


def test_path(lab: Lab) -> None:
    assert printed("path", "twice") == f"{lab.project.current('twice')}\n"
    uid = str(lab.outcomes["twice"].uid)
    assert Path(printed("path", uid).strip()).name == uid
    [number] = [row[0] for row in rows(printed("runs", "--where", f"uid={uid}"))[1:]]
    assert printed("path", number) == printed("path", uid)


# -- the database -----------------------------------------------------------------------------


def test_the_embedded_database_is_started_found_and_stopped(
    own_server: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_project(own_server)
    monkeypatch.chdir(own_server)
    assert refused("mongo", "uri") == "not running; `factbook mongo start` starts it\n"
    uri = printed("mongo", "start")
    found = server.find(own_server)
    assert found is not None
    assert uri == f"{found.url('factbook')}\n"
    with pymongo.MongoClient(uri.strip()) as client:
        records = client.get_default_database()
        assert records.name == "factbook"
        assert records["runs"].insert_one({"_id": 1}).acknowledged
    assert printed("mongo", "uri") == printed("mongo", "start") == uri
    assert printed("mongo", "stop") == "stopped\n"
    assert printed("mongo", "stop") == "not running\n"


# -- printing ---------------------------------------------------------------------------------


def test_a_reader_that_has_enough_is_no_error(lab: Lab) -> None:
    command = f"{sys.executable} -m registry.cli runs -n 0 --csv | head -1"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command],
        cwd=lab.root,
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
        capture_output=True,
        text=True,
    )
    assert done.stdout.startswith("id,experiment,cell")
    assert "Traceback" not in done.stderr


def test_a_long_console_is_shown_at_both_ends() -> None:
    lines = [f"line {i}" for i in range(60)]
    shown = both_ends(lines)
    assert shown[:12] == lines[:12]
    assert shown[12] == "… 20 lines more; --console prints all"
    assert shown[13:] == lines[32:]
    assert both_ends(lines[:40]) == lines[:40]


def test_a_table_keeps_a_row_in_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("a", "b"), [("x" * 300, "two\nlines"), ("日本", None), ("[red]", 0.123456)])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "a" + " " * 301 + "b"
    assert lines[1] == "x" * 300 + "  two lines"
    assert lines[2] == "日本"
    assert lines[3].split() == ["[red]", "0.1235"]
    print_table(("", ""), [("k", 1)])
    assert capsys.readouterr().out == "k  1\n"
    print_table(("a",), [])
    assert capsys.readouterr().out == "a\n"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""),
        (1.0, "1"),
        (12345.678, "1.235e+04"),
        (True, "true"),
        ([1, "é"], '[1, "é"]'),
        ("a", "a"),
        (12, "12"),
    ],
)
def test_values_as_text(value: object, text: str) -> None:
    assert text_of(value) == text


def test_durations_and_counts() -> None:
    told = [duration(seconds) for seconds in (None, 0.04, 89.94, 90, 5399, 5400)]
    assert told == ["?", "0.0 s", "89.9 s", "1.5 min", "90.0 min", "1.5 h"]
    assert [counted(n, "task") for n in (0, 1, 2, 12345)] == [
        "0 tasks",
        "1 task",
        "2 tasks",
        "12,345 tasks",
    ]


def test_commands_are_those_that_are_tested() -> None:
    context, plugged = click.Context(main), entry_points(group=COMMAND_GROUP).names
    own = {
        name: main.get_command(context, name)
        for name in main.list_commands(context)
        if name not in plugged
    }
    groups = set(own) | {
        f"{name} {inner}"
        for name, command in own.items()
        if isinstance(command, click.Group)
        for inner in command.commands
    }
    assert groups == set(COMMANDS)
