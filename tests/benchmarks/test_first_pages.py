"""The first page that anybody asks of a server: seconds in a browser until nothing changes more.

The server has just said that it is there; nothing is imported, opened or drawn yet.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from registry.mongo.database import OFF
from tests.benchmarks.table import Table
from tests.dashboards import conftest, test_browser
from tests.dashboards.test_browser import IDLE, serve

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.benchmark
browser = test_browser.browser
explained_template = conftest.explained_template

COLD, WARM = 5.0, 2.0
PREPARED = 6.0  # seconds in which a server has imported what the other pages need
SEEN = {
    "": "Latest runs",
    "runs": "Filters and columns",
    "concepts": "Best label",
    "decisions": "Every concept present in the image",
}
"""What stands near the end of a page, below what is computed."""


@pytest.mark.parametrize("path", SEEN)
def test_the_first_page_of_a_server(
    browser: Browser, explained_template: Path, path: str, table: Table
) -> None:
    with serve(explained_template, OFF) as address:
        cold = seconds(browser, f"{address}/{path}", SEEN[path])
        time.sleep(PREPARED)
        warm = seconds(browser, f"{address}/{path}", SEEN[path])
    note = "a new browser's window included"
    table.within(f"/{path} as the first page of all", cold, COLD, "s", asked=COLD, note=note)
    table.within(f"/{path} of a server that is ready", warm, WARM, "s", asked=WARM)


def seconds(browser: Browser, address: str, seen: str) -> float:
    """Return how long a fresh visitor waits for a page to be whole."""
    context = browser.new_context(viewport={"width": 1400, "height": 1100})
    page = context.new_page()
    begun = time.perf_counter()
    page.goto(address)
    page.get_by_text(seen).first.wait_for(timeout=60_000)
    page.wait_for_selector(IDLE, timeout=60_000)
    taken = time.perf_counter() - begun
    context.close()
    return taken
