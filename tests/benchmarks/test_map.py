"""A map of 16,384 concepts in Chromium: seconds until it is drawn, and until a click is answered.

And the memory that it takes: of the server, and of the window. Concepts have random directions,
which is the worst for what lays them out. That is done once, behind a rough map, and kept.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import psutil
import pytest

from registry.mongo.database import OFF
from tests.benchmarks.table import Table
from tests.benchmarks.windows import click, open_window, server_of, until_idle, until_ready
from tests.dashboards import fabricate_large as large
from tests.dashboards import test_browser
from tests.dashboards.test_browser import serve

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.benchmark
browser = test_browser.browser

SIZE = large.Size(images=2000, side=8)
FIRST, LAID_OUT, WARM, CLICK = 5.0, 120.0, 2.0, 1.0
"""Seconds: the first time ever, roughly, and until all are laid out; later in a new window; of a
click."""
LAYING = "The map is being laid out"
SERVER, WINDOW = 1500.0, 500.0
"""MB."""

PADDING, MARGIN = (5, 5, 14, 5), 12
"""Pixels around the chart, from the left clockwise, and within its axes; as the map has them."""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("openTSNE", reason="what lays concepts out is not installed")
    return large.live_in(tmp_path_factory.mktemp("map"), SIZE).root


def test_a_map_of_16_384_concepts(root: Path, browser: Browser, table: Table) -> None:
    with serve(root, OFF) as address:
        until_ready(address)
        page, first = shown(browser, address)
        page.get_by_text(LAYING).first.wait_for(state="detached", timeout=1000 * LAID_OUT)
        until_idle(page)
        laid_out = page.evaluate("performance.now()") / 1000
        page.context.close()
        [kept] = (root / ".factbook" / "cache").glob("map-*.npy")
        until_ready(address)
        before = window_memory()
        page, again = shown(browser, address)
        heap = page.evaluate("performance.memory.usedJSHeapSize") / 1e6
        memory = window_memory() - before
        name = f"map of {SIZE.concepts:,} concepts"
        table.within(f"{name}, roughly, the first time", first, FIRST, "s", asked=FIRST)
        table.within(f"{name}, laid out once", laid_out, LAID_OUT, "s")
        table.within(f"{name}, in a new window", again, WARM, "s", asked=WARM)
        table.within(
            f"{name}, memory of the window", memory, WINDOW, "MB", note=f"{heap:.0f} of JS"
        )
        taken = click(page, lambda: click_on(page, np.load(kept)), "Can this name be trusted?")
        assert "concept=" in page.url
        table.within(f"{name}: a concept of it opened", taken, CLICK, "s", asked=CLICK)
        button = page.get_by_role("button", name="Next", exact=True)
        taken = click(page, button.click)
        table.within(f"click: the next of {SIZE.concepts:,}", taken, CLICK, "s", asked=CLICK)
        memory = server_of(address).memory_info().rss / 1e6
        table.within(f"{name}, memory of the server", memory, SERVER, "MB", asked=SERVER)
        page.context.close()


def shown(browser: Browser, address: str) -> tuple[Page, float]:
    """Return a new window with the map, and how many seconds it took to be drawn."""
    page = open_window(browser, f"{address}/concepts?section=Map", "Click one to open it")
    page.locator("[data-testid=stVegaLiteChart] canvas").wait_for()
    until_idle(page)
    return page, page.evaluate("performance.now()") / 1000


def window_memory() -> float:
    """Return the megabytes of all processes of the browser that show pages."""
    every = psutil.Process().children(recursive=True)
    found = [one for one in every if "--type=renderer" in one.cmdline()]
    return sum(one.memory_info().rss for one in found) / 1e6


def click_on(page: Page, points: np.ndarray) -> None:
    """Click on the concept in the middle of the map, whose points (concept, 2) are kept."""
    canvas = page.locator("[data-testid=stVegaLiteChart] canvas")
    box = canvas.bounding_box()
    assert box is not None
    left, top, right, bottom = PADDING
    lengths = np.array([box["width"] - left - right, box["height"] - top - bottom]) - 2 * MARGIN
    share = (points - points.min(axis=0)) / np.ptp(points, axis=0)
    x, y = share[np.argmin(np.abs(share - 0.5).sum(axis=1))]
    place = np.array([x, 1 - y]) * lengths + MARGIN + np.array([left, top])
    canvas.click(position={"x": float(place[0]), "y": float(place[1])})
