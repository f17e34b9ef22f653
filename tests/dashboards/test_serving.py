"""``factbook dashboard``: it tells where it listens, and ends by the signal it is sent."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from registry.mongo.database import OFF
from tests.dashboards.test_browser import PATIENCE, stop, surroundings


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.slow
def test_the_server_ends_with_the_command(template: Path, number: signal.Signals) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "registry.cli", "dashboard", "--port", "0"],
        cwd=template,
        env=surroundings(template, OFF),
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        told = iter(process.stdout.readline, "")
        address = next(found[0] for line in told if (found := re.search(r"http://\S+", line)))
        assert address.startswith("http://127.0.0.1:")
        with urllib.request.urlopen(f"{address}/_stcore/health", timeout=PATIENCE / 1000) as answer:
            assert answer.read() == b"ok"
        process.send_signal(number)  # to this process alone: it is the server itself
        process.wait(30)
        with pytest.raises(OSError, match="refused"):
            urllib.request.urlopen(f"{address}/_stcore/health", timeout=5)
    finally:
        stop(process)  # type: ignore[arg-type]
