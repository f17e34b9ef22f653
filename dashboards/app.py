"""The server of the dashboard.

``factbook dashboard`` starts it, or ``streamlit run dashboards/app.py``, then with
``-- --allow-host NAME`` for a name that it is known by elsewhere, ``--allow-delete`` to let whoever
reaches it delete runs.
It serves ``pages.py`` to those who ask for it by a name of its own, and imports while nobody looks
yet what the pages need. How it is set up by default stands in ``.streamlit/config.toml`` beside it.
"""

from __future__ import annotations

import argparse
import asyncio
import socket
import sys
import webbrowser
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import streamlit as st
from starlette.middleware import Middleware
from streamlit import config
from streamlit.file_util import get_static_dir

from dashboards.server.at_once import answer_at_once
from dashboards.server.documents import Documents
from dashboards.server.hosts import OwnHosts, is_loopback
from dashboards.server.old_addresses import OldAddresses
from dashboards.server.preparation import PREPARATION

ADDRESS = str(config.get_option("server.address") or "0.0.0.0")
"""Where it listens."""

BASE = str(config.get_option("server.baseUrlPath"))
"""The path below which it is served, "" for none."""

_OPTIONS = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
_OPTIONS.add_argument("--allow-host", action="append", default=[], metavar="NAME")
_OPTIONS.add_argument("--allow-delete", action="store_true")  # see screens/removal.py


@asynccontextmanager
async def _prepared(_: st.App) -> AsyncIterator[dict[str, Any]]:
    answer_at_once(int(config.get_option("server.port")))
    PREPARATION.start()
    url = _url()
    sys.stdout.write(f"The dashboard is at {url}\n")
    sys.stdout.flush()
    if not config.get_option("server.headless"):
        asyncio.get_running_loop().run_in_executor(None, webbrowser.open, url)
    yield {}


def _url() -> str:
    """Return where to look, without asking anybody outside how this machine is called there."""
    scheme = "https" if config.get_option("server.sslCertFile") else "http"
    host = ADDRESS if ADDRESS not in ("0.0.0.0", "::") else socket.gethostname()
    host = f"[{host}]" if ":" in host else host
    path = BASE.strip("/")
    return f"{scheme}://{host}:{config.get_option('server.port')}{f'/{path}' if path else ''}"


def _machine() -> tuple[str, ...]:
    """Return what this machine is called where others reach the address."""
    return (ADDRESS,) if is_loopback(ADDRESS) else (ADDRESS, socket.gethostname())


app = st.App(
    Path(__file__).with_name("pages.py"),
    lifespan=_prepared,
    middleware=[
        Middleware(OwnHosts, own=_machine(), allowed=_OPTIONS.parse_known_args()[0].allow_host),
        Middleware(OldAddresses, base=BASE),
        Middleware(Documents, scripts=Path(get_static_dir()) / "static" / "js", base=BASE),
    ],
)
