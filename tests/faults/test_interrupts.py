"""Ctrl-C in a terminal, which every process of a command hears, at any moment."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.faults.conftest import Site

SOURCE = Path(__file__).parents[2]
BEGUN = "… twice (run "


def run(site: Site, *words: str) -> subprocess.Popen[str]:
    path = os.pathsep.join([str(SOURCE), *filter(None, sys.path)])
    return subprocess.Popen(
        [sys.executable, "-m", "registry.cli", "run", *words],
        cwd=site.root,
        env={**os.environ, "FACTBOOK_MONGO": "off", "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


@pytest.mark.slow
def test_no_process_prints_a_traceback(site: Site, chance: random.Random, trial: int) -> None:
    """The fork server imports for a second or two after the first task was announced."""
    process = run(site, "--workers", "2")
    assert process.stdout is not None
    told = []
    for line in process.stdout:
        told.append(line)
        if BEGUN in line:
            break
    time.sleep(chance.uniform(0.0, 3.0))
    os.killpg(process.pid, signal.SIGINT)
    began = time.monotonic()
    rest = process.stdout.read()  # until nobody can print any more
    process.wait(60)
    printed = "".join(told) + rest
    assert "Traceback" not in printed
    assert "KeyboardInterrupt" not in printed
    assert len(rest.splitlines()) <= 2 * 8, printed  # a line for each task, two for results
    assert process.returncode in (0, 130), printed
    assert time.monotonic() - began < 30
    for _ in range(100):  # a worker that came too late ends by itself
        statuses = {status for _, status in site.runs()}
        if "RUNNING" not in statuses:
            break
        time.sleep(0.1)
    assert statuses <= {"COMPLETED", "INTERRUPTED", "DIED"}
    if process.returncode == 130:
        assert "interrupted" in printed


INTERRUPTED_IMPORT = """
import os, signal, sys

class Finder:
    def find_spec(name, path=None, target=None):
        if name == sys.argv[1]:
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Finder)
sys.argv[2:] = ["plan"]
import registry.cli
"""


@pytest.mark.parametrize("module", ["click", "rich.markup", "registry.commands.tasks"])
def test_not_even_while_the_command_is_imported(module: str) -> None:
    command = [sys.executable, "-c", INTERRUPTED_IMPORT, module]
    done = subprocess.run(command, cwd=SOURCE, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("", "")
    assert done.returncode == -signal.SIGINT
