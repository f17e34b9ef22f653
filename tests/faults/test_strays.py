"""Files that nobody of us wrote, in every folder of a project: no command stumbles over them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from registry.catalog.access import open_catalog
from registry.cli import main
from registry.record.journal import EVENTS, STATUS_FILE, journal_root, journal_uids
from tests.faults.conftest import Site

STRAY_FILES = (".DS_Store", "Thumbs.db", "desktop.ini", "._x", "ä \n\udcff")
DEEP = '{"a":' * 5000 + "1" + "}" * 5000
WRONG_EVENTS = (
    b'{"event": "started"}\n',
    b'{"event": "started", "command": 1, "experiment": 2, "host": 3, "config": 4, "meta": 5, '
    b'"facts": 6, "time": 7}\n',
    b'{"event": "heartbeat", "time": "2026"}\n',
    b'{"event": ["completed"]}\n{"event": null}\n[]\n3\n"x"\n{}\n\n\x00\n',
    b'{"event": "completed", "status": {}, "time": []}\n',
    b'{"event": "metrics", "metrics": [{"name": [], "steps": 3}]}\n',
    b"\xff\xfe\x00" * 100 + b"\n",
    DEEP.encode() + b"\n",
    b"9" * 10_000 + b"\n",
)
COMMANDS = (
    "list",
    "plan",
    "plan --verify",
    "status",
    "runs",
    "runs --csv",
    "runs --where config.factor>=1",
    "runs --status DIED",
    "show twice",
    "show mean --json",
    "diff twice mean",
    "path twice",
    "run twice mean",
    "gc",
    "doctor",
    "mongo uri",
    "mongo stop",
    "metrics",
    "report twice mean --out ../report.html",
    "c2 artifacts",
)


def typed(*words: str) -> tuple[int, str]:
    """Type a command; return its exit status and all that it prints. It raises nothing."""
    result = CliRunner().invoke(main, words)
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


def folders_of(root: Path) -> list[Path]:
    """Every folder that a project has by now, the journals and the store included."""
    return [Path(folder) for folder, _, _ in os.walk(root)]


def strew(root: Path) -> None:
    """Leave in every folder what file managers and people do."""
    for folder in folders_of(root):
        for name in STRAY_FILES:
            (folder / name).write_bytes(b"\x00\x00\x00\x01Bud1")
        (folder / "New folder").mkdir()
        (folder / "ring").symlink_to("ring")
        (folder / "nowhere").symlink_to("no/such/file")


def strew_journals(root: Path) -> None:
    """Leave folders among the journals that are none, and events of other forms."""
    journals = journal_root(root)
    (journals / "20261122T013355-0000000a" / EVENTS).mkdir(parents=True)
    (journals / "20261122T013355-0000000b").mkdir()
    for number, events in enumerate(WRONG_EVENTS):
        folder = journals / f"20261122T013356-{number:08x}"
        folder.mkdir()
        (folder / EVENTS).write_bytes(events)
    for number, status in enumerate((DEEP, "[]", "{}", '{"status": 3, "start_time": 4}', "\xff")):
        folder = journals / f"20261122T013357-{number:08x}"
        folder.mkdir()
        (folder / STATUS_FILE).write_text(status)
    last = journals / journal_uids(root)[-1]
    with open(last / EVENTS, "ab") as file:
        file.write(b"".join(WRONG_EVENTS))


def nest(root: Path) -> None:
    """Nest deeply what is only kept to save time."""
    (root / ".factbook").mkdir(exist_ok=True)
    for name in ("identities.json", "projects.json"):
        (root / ".factbook" / name).write_text(DEEP)
    for folder in (root / ".factbook" / "projected", *journal_root(root).glob("*")):
        if folder.is_dir():
            for name in ("projected.json", "progress.json", "removed.json"):
                (folder / name).write_text(DEEP)
    for task in ("artifacts/twice/0123456789abcdef", "artifacts/stray/stray"):
        (root / task / "20261122T013355-0000000a").mkdir(parents=True)
        (root / task / "current").symlink_to("20261122T013355-0000000a")
        for name in ("task.json", "partial/origin.json", "current/manifest.json"):
            (root / task / name).parent.mkdir(exist_ok=True)
            (root / task / name).write_text(DEEP)


@pytest.mark.parametrize("leave", [strew, strew_journals, nest])
@pytest.mark.slow
def test_every_command_reads_over_them(
    complete: Site, leave: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(complete.root)
    monkeypatch.setenv("FACTBOOK_MONGO", "off")
    before = {command: typed(*command.split()) for command in COMMANDS}
    leave(complete.root)
    for command, (status, printed) in before.items():
        after = typed(*command.split())
        assert "Traceback" not in after[1]
        if command not in ("gc", "doctor"):  # which are about what lies about
            assert after[0] == status, (command, after)
        if command.split()[0] in ("list", "plan", "status", "path", "run"):
            assert after[1] == printed, command
    with open_catalog(complete.root, "off") as catalog:
        known = {run.uid: run.status for run in catalog.runs()}
    assert {"COMPLETED"} <= set(known.values()) <= {"COMPLETED", "DIED"}
    assert [(cell, status) for cell, status in complete.runs() if status == "COMPLETED"]


@pytest.mark.parametrize("leave", [strew, strew_journals, nest])
def test_journals_are_synced_all_the_same(
    complete: Site,
    leave: Callable[[Path], None],
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Those of a form that no run writes are named, one a line."""
    monkeypatch.chdir(complete.root)
    monkeypatch.setenv("FACTBOOK_MONGO", database_url)
    uids = journal_uids(complete.root)
    leave(complete.root)
    _, printed = typed("sync")
    assert "Traceback" not in printed
    with open_catalog(complete.root) as catalog:
        stored = {run.uid: run.status for run in catalog.runs()}
    assert {uid: stored.get(uid) for uid in uids} == dict.fromkeys(uids, "COMPLETED")
    assert typed("runs")[0] == typed("show", "twice")[0] == 0


def test_a_journal_that_may_not_be_read_is_told(complete: Site) -> None:
    """Root may read everything, unless it gives that up."""
    folder = journal_root(complete.root) / journal_uids(complete.root)[0]
    folder.chmod(0)
    give_up = "-dac_override,-dac_read_search"
    drop = ["setpriv", f"--bounding-set={give_up}", f"--inh-caps={give_up}"]
    if os.geteuid() == 0 and shutil.which("setpriv") is None:
        pytest.skip("root reads everything here, and there is no `setpriv` to give that up")
    environment = {**os.environ, "FACTBOOK_MONGO": "off", "PYTHONPATH": os.pathsep.join(sys.path)}

    def told(*words: str) -> subprocess.CompletedProcess[str]:
        command = [*(drop if os.geteuid() == 0 else []), sys.executable, "-m", "registry.cli"]
        return subprocess.run(
            [*command, *words], cwd=complete.root, env=environment, capture_output=True, text=True
        )

    try:
        done = told("runs")
        assert done.returncode == 0, done.stderr
        assert done.stderr.splitlines() == [f"warning: {folder} cannot be read: Permission denied"]
        assert len(done.stdout.splitlines()) == len(journal_uids(complete.root))
        assert told("plan").returncode == 0
        folder.parent.chmod(0)
        done = told("runs")
        assert done.returncode == 1
        assert done.stderr == f"{folder.parent}: Permission denied\n"
    finally:
        folder.parent.chmod(0o755)
        folder.chmod(0o755)


def test_how_editors_save_a_declaration_makes_no_difference(complete: Site) -> None:
    """A mark before it, and lines that end as on Windows."""
    file = complete.root / "experiments.toml"
    plain = file.read_bytes()
    before = complete.statuses()
    file.write_bytes(b"\xef\xbb\xbf" + plain.replace(b"\n", b"\r\n"))
    assert complete.statuses() == before
    child = complete.start("tests.registry.lab.scale", "with", "twice", "factor=3.0")
    assert child.wait() == 0, child.printed


@pytest.mark.parametrize(
    ("word", "message"),
    [
        (f"seed={2**70}", "seed: expected an integer of at most 64 bits"),
        ("seed=" + "9" * 5000, "seed: Input should be a valid integer; got '999"),
        ("seed=" + "[" * 60 + "]" * 60, "seed: values lie more than 40 levels inside each other"),
        ("seed=" + "-" * 90_000 + "1", "seed: values lie more than 40 levels inside each other"),
        ("seed=" + "[" * 300, "seed: Input should be a valid integer"),
        ("a." * 50 + "b=1", "values lie more than 40 levels inside each other"),
        ("deep.json", "deep.json: values lie more than 40 levels inside each other"),
        ("half.json", "half.json cannot be read as settings"),
        ("list.json", "list.json: expected keys with values; got list"),
        ("text.txt", "text.txt cannot be read as settings"),
        ("code.pickle", "code.pickle is a pickle, which may hold code; expected a .json file"),
    ],
)
def test_what_sacreds_command_line_cannot_take_is_told(
    word: str, message: str, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {"deep.json": DEEP, "half.json": "{", "list.json": "[1]", "text.txt": "seed=1"}
    for name, text in (files | {"code.pickle": "cos\nsystem\n(S'touch ran'\ntR."}).items():
        (site.root / name).write_text(text)
    child = site.start("tests.registry.lab.scale", "with", "twice", word)
    assert child.wait() == 1
    [told] = child.printed.splitlines()[-1:]
    assert message in told
    assert "Traceback" not in child.printed
    assert not (site.root / "ran").exists()
    assert site.runs() == []
