"""Ctrl-C in a terminal, which every process of a command hears, at any moment."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from registry.interrupts import STOPPING
from tests.faults.conftest import Site, has_status

SOURCE = Path(__file__).parents[2]
HANDED_OUT = "tasks to run"


def run(site: Site, *words: str) -> subprocess.Popen[str]:
    path = os.pathsep.join([str(SOURCE), *filter(None, sys.path)])
    return subprocess.Popen(
        [sys.executable, "-m", "registry.cli", "run", *words],
        cwd=site.root,
        env={
            **os.environ,
            "FACTBOOK_MONGO": "off",
            "PYTHONPATH": path,
            "PYTHONUNBUFFERED": "1",
            "PADDING": "x" * 100_000,  # so that a pipe does not hold what a worker is told
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


@pytest.mark.slow
def test_no_process_prints_a_traceback(site: Site, chance: random.Random, trial: int) -> None:
    """The fork server imports for a second or two after the first task was handed out."""
    process = run(site, "--workers", "2", *(tasks := ("twice", "mean")))
    assert process.stdout is not None
    told = []
    for line in process.stdout:
        told.append(line)
        if HANDED_OUT in line:
            break
    time.sleep(chance.uniform(0.0, 3.0))
    number = chance.choice(STOPPING)
    for pause in (chance.uniform(0, 0.3), 0)[: chance.choice((1, 2, 2))]:
        with suppress(ProcessLookupError):  # it may have ended
            os.killpg(process.pid, number)
        time.sleep(pause)
    began = time.monotonic()
    rest = process.stdout.read()  # until nobody can print any more
    process.wait(60)
    printed = f"{number.name}\n{''.join(told)}{rest}"
    assert "Traceback" not in printed
    assert "KeyboardInterrupt" not in printed
    assert len(rest.splitlines()) <= 2 * 4, printed  # a line for each task, two for results
    assert process.returncode in (0, 130, -number), printed  # twice, and perhaps at its very end
    assert time.monotonic() - began < 30
    if rest.strip() == "interrupted":  # before anything had begun
        assert process.returncode in (130, -number)  # by the second, at its very end
        assert site.runs() == []
        return
    for _ in range(100):  # a worker that came too late ends by itself
        statuses = {status for _, status in site.runs()}
        if "RUNNING" not in statuses:
            break
        time.sleep(0.1)
    has_status(statuses - {"COMPLETED", "INTERRUPTED"}, set(), why=printed)
    for task in tasks:
        assert any(f"{task}  {end}" in printed for end in ("completed", "interrupted")), printed
    if process.returncode != -number:  # at its very end, when all is said
        assert (process.returncode != 0) == ("  interrupted" in printed), printed


CUSTOMIZE = """
import os, signal, sys

class Finder:
    def find_spec(name, path=None, target=None):
        if name == os.environ["INTERRUPTED_AT"]:
            os.kill(os.getpid(), int(os.environ["SIGNAL"]))

sys.meta_path.insert(0, Finder)
"""
CLI, STAGE = "registry.cli run", "tests.registry.lab.scale print_config"


@pytest.mark.parametrize(
    ("words", "module", "number"),
    [
        (CLI, "lazy_loader", signal.SIGTERM),
        (CLI, "lazy_loader", signal.SIGINT),
        (CLI, "click", signal.SIGHUP),
        (CLI, "registry.commands.run", signal.SIGTERM),
        (CLI, "registry.commands.run", signal.SIGHUP),
        (STAGE, "lazy_loader", signal.SIGINT),
        (STAGE, "registry.declare.stage", signal.SIGINT),
        (STAGE, "sacred", signal.SIGINT),
    ],
)
def test_not_even_while_a_command_is_imported(
    words: str, module: str, number: int, tmp_path: Path
) -> None:
    """The command says that it was interrupted, by whichever signal."""
    (tmp_path / "sitecustomize.py").write_text(CUSTOMIZE)
    path = os.pathsep.join([str(tmp_path), *filter(None, sys.path)])
    done = subprocess.run(
        [sys.executable, "-m", *words.split()],
        cwd=SOURCE,
        env={
            **os.environ,
            "PYTHONPATH": path,
            "INTERRUPTED_AT": module,
            "SIGNAL": str(int(number)),
        },
        capture_output=True,
        text=True,
    )
    is_command = words == CLI
    assert (done.stdout, done.stderr) == ("", "interrupted\n" if is_command else "")
    assert done.returncode in ((130,) if is_command else (-signal.SIGINT, 1))
