"""The first page that anybody asks of a server: seconds in a browser until nothing changes more.

The server has just said that it is there; nothing is imported, opened or drawn yet. Then the same
in another new window, when the server has imported what it needs.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from registry.mongo.database import OFF
from tests.benchmarks.table import Table
from tests.benchmarks.windows import DRAWN, PATIENCE, SIZE, until_idle, until_ready
from tests.dashboards import conftest, test_browser
from tests.dashboards.test_browser import serve

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.benchmark
browser = test_browser.browser
explained_template = conftest.explained_template

COLD, WARM = 5.0, 2.0
LIVE = 12.0
"""Seconds until a network answers that no server has loaded yet."""

SEEN = {
    "": "Latest runs",
    "runs": "Filters and columns",
    "concepts": "Best label",
    "decisions": "All others, how exact the sum is",
}
"""What stands near the end of a page, below what is computed."""

ANSWERED = {"decisions": "Every concept present in the image"}
"""What is seen once the network has answered, where a decision was stored before."""


@pytest.mark.parametrize("path", SEEN)
def test_the_first_page_of_a_server(
    browser: Browser, explained_template: Path, path: str, table: Table
) -> None:
    texts = [SEEN[path], *filter(None, [ANSWERED.get(path)])]
    with serve(explained_template, OFF) as address:
        cold, *live = seconds(browser, f"{address}/{path}", texts)
        until_ready(address)
        *_, warm = seconds(browser, f"{address}/{path}", texts)
    note = "a new browser's window included"
    table.within(f"/{path} as the first page of all", cold, COLD, "s", asked=COLD, note=note)
    for taken in live:
        note = "until then the decision that was explained in advance is shown"
        table.within(f"/{path}, the network's first answer", taken, LIVE, "s", note=note)
    table.within(f"/{path} of a server that is ready", warm, WARM, "s", asked=WARM)


def seconds(browser: Browser, address: str, texts: list[str]) -> list[float]:
    """Return how long a fresh visitor waits for a page to be whole, with each of these texts."""
    page = browser.new_context(viewport=SIZE).new_page()
    begun = time.perf_counter()
    page.goto(address)
    taken = []
    for text in texts[:-1]:
        page.get_by_text(text).first.wait_for(timeout=PATIENCE)
        page.evaluate(DRAWN)
        taken.append(time.perf_counter() - begun)
    until_idle(page, texts[-1])
    taken.append(time.perf_counter() - begun)
    page.context.close()
    return taken
