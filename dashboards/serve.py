"""The server of the dashboard: ``factbook dashboard`` starts it with ``streamlit run``.

It serves ``app.py``, and imports while nobody looks yet what the pages need.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import streamlit as st

from dashboards.server.preparation import PREPARATION


@asynccontextmanager
async def _prepared(_: st.App) -> AsyncIterator[dict[str, Any]]:
    PREPARATION.start()
    yield {}


app = st.App(Path(__file__).with_name("app.py"), lifespan=_prepared)
