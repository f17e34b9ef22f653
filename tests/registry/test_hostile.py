"""Words and declarations that nobody should have typed: told in a line, never a traceback."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from registry.catalog import access
from registry.cli import main
from registry.mongo.database import Database, connect
from tests.registry.conftest import Lab


def typed(*words: str) -> tuple[int, str]:
    """Type a command; return its exit status and all that it prints. It raises nothing."""
    result = CliRunner().invoke(main, words)
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


@pytest.fixture(scope="module")
def _one_connection() -> Iterator[None]:
    """Let all commands share what they connect to."""
    known: dict[Any, Database | None] = {}

    def connected(root: Path, url: str | None = None, *, name: str) -> Database | None:
        key = (root, url, name)
        if key not in known:
            known[key] = connect(root, url, name=name)
        return known[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(access, "connect", connected)
        patch.setattr(Database, "close", lambda database: None)
        yield
    for database in filter(None, known.values()):
        database.close()


HUGE = (str(2**63), str(-(2**70)), "9" * 5000, "1e400", "0x" + "F" * 5000)
DEEPEST = ("[" * 60 + "]" * 60, "[" * 90_000, '{"a":' * 70 + "1" + "}" * 70, "-" * 5000 + "1")
ODD = ("\udcff", "\U0001f600", "[", "]", "=", ",", '"', "a=b", "$where", "..", "-x", "\x7f\x1b[31m")


@pytest.mark.usefixtures("_one_connection")
@pytest.mark.parametrize("word", [*HUGE, *DEEPEST, *ODD])
def test_no_word_of_any_command_ends_in_a_traceback(lab: Lab, word: str) -> None:
    commands = (
        *(["runs", "--where", f"config.factor{sign}{word}"] for sign in ("=", ">=", "~", "!=")),
        ["runs", "--where", word],
        ["runs", "--where", f"{word}=1"],
        ["runs", "--sort", word],
        ["runs", "--stage", word],
        ["runs", "--status", word],
        ["runs", "-n", word],
        *([command, word] for command in ("runs", "show", "path", "plan", "status", "list", "run")),
        *([command, f"sweep[seed={word}]"] for command in ("plan", "path", "show")),
        ["diff", word, word],
        ["delete", word],
        ["dashboard", "--port", word],
    )
    for words in commands:
        status, printed = typed(*words)
        assert status in (0, 1, 2), words
        assert "Traceback" not in printed


@pytest.mark.parametrize("host", ["", "\udcff", "x" * 300, "256.1.1.1", "a b", "::zz", "192.0.2.1"])
def test_where_nobody_can_listen_is_told(lab: Lab, host: str) -> None:
    status, printed = typed("dashboard", "--port", "0", "--host", host)
    assert status in (1, 2)
    assert "Error: cannot listen on" in printed or "expected an address" in printed


TABLES = (
    '[experiments.a]\nstage = "tests.registry.lab.scale"\n[experiments.a.config]',
    '[project]\nplugins = ["tests.registry.lab.kinds"]\n[datasets.few]\nkind = "numbers"',
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"k = {2**63}", "expected an integer of at most 64 bits; got an integer of 64 bits"),
        (f"k = {-(2**70)}", "expected an integer of at most 64 bits"),
        ("k = 0x" + "F" * 5000, "expected an integer of at most 64 bits; got an integer of 20,000"),
        ("k = " + "9" * 5000, "not valid TOML"),
        ("k = " + "[" * 50 + "]" * 50, "more than 40 levels inside each other"),
        ("k = " + "[" * 5000, "more than 40 levels inside each other"),
        ("k = " + "{a=" * 200 + "1" + "}" * 200, "more than 40 levels inside each other"),
        (".".join("a" * 5000) + " = 1", "more than 40 levels inside each other"),
        ('k = "\\u0000"', "expected a text without the letter NUL"),
        ("k = \0", "not valid TOML"),
        ("k = 1e999", "expected a finite number"),
        ("k = nan", "expected a finite number"),
        ("k = 2026-99-99", "not valid TOML"),
        ("k = 1\rl = 2", "not valid TOML"),
    ],
)
def test_what_a_declaration_cannot_hold_is_told_with_its_key(
    text: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for table in TABLES:
        (tmp_path / "experiments.toml").write_text(f"{table}\n{text}\n", newline="")
        status, printed = typed("plan")
        assert status == 1
        told = [line for line in printed.splitlines() if message in line]
        assert len(told) == 1, printed
        assert len(told[0]) < 400


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xff\xfe[\0p\0]\0", "is not UTF-8 text"),
        (b"[project]\nname = '\xe4'\n", "is not UTF-8 text: invalid continuation byte at byte 18"),
        (b"\0" * 4096, "not valid TOML"),
    ],
)
def test_what_is_no_text_is_told(
    content: bytes, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "experiments.toml").write_bytes(content)
    status, printed = typed("plan")
    assert status == 1
    assert message in printed
    assert len(printed.splitlines()) == 1
