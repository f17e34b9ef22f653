"""``factbook dashboard``: it tells where it listens, and ends by the signal it is sent."""

from __future__ import annotations

import asyncio
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from streamlit import config

from dashboards import app
from dashboards.server.preparation import PREPARATION
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


def test_answers_leave_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as listening:  # names no protocol, as Streamlit's
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        port = listening.getsockname()[1]
        options = {"server.port": port, "server.headless": True}
        monkeypatch.setattr(config, "get_option", options.get)
        monkeypatch.setattr(PREPARATION, "start", lambda: None)

        async def begin() -> None:
            async with app._prepared(app.app):
                pass

        asyncio.run(begin())
        with socket.create_connection(("127.0.0.1", port)):
            accepted, _ = listening.accept()
            with accepted:
                assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
