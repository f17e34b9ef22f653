"""Clicks in an open window, until all that they led to is drawn: less than a second each.

The server has imported all that it needs, and the window has shown the page. Each click leads to
something that this window has not shown yet; of several the median counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import pytest

from registry.mongo.database import OFF
from tests.benchmarks.table import Table
from tests.benchmarks.windows import click, open_window, until_idle, until_ready
from tests.dashboards import conftest, test_browser
from tests.dashboards.test_browser import CONCEPT_ROW, serve

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.benchmark
browser = test_browser.browser
explained_template = conftest.explained_template

CLICK = 1.0
"""Seconds."""
TIMES = 3
TRUSTED = "Can this name be trusted?"


@pytest.fixture(scope="module")
def address(explained_template: Path, browser: Browser) -> Iterator[str]:
    """A server that is ready, and has shown each page once."""
    with serve(explained_template, OFF) as address:
        for path, seen in (("", "Latest runs"), ("decisions", "Every concept present")):
            open_window(browser, f"{address}/{path}", seen).context.close()
        until_ready(address)
        yield address


def tell(table: Table, name: str, taken: list[float]) -> None:
    note = f"{', '.join(f'{one:.2f}' for one in taken)} s" if len(taken) > 1 else ""
    table.within(f"click: {name}", median(taken), CLICK, "s", asked=CLICK, note=note)


def press(page: Page, name: str, exact: bool = False) -> Callable[[], None]:
    """Return what clicks a button."""
    return lambda: page.get_by_role("button", name=name, exact=exact).first.click()


def choose(page: Page, box: str, option: int) -> Callable[[], None]:
    """Return what chooses one of the options of a box that is open."""
    page.get_by_role("combobox", name=box).click()
    return lambda: page.get_by_role("option").nth(option).click()


def title(page: Page) -> str:
    """Return what the page is about."""
    return str(page.locator("[data-testid=stMain] h3").first.inner_text())


def test_clicks_on_concepts(browser: Browser, address: str, table: Table) -> None:
    page = open_window(browser, f"{address}/concepts", "Best label")
    seen = {title(page)}
    taken = []
    for _ in range(TIMES):
        taken.append(click(page, press(page, "Next", exact=True)))
        seen.add(title(page))
    tell(table, "the next concept", taken)
    taken = []
    rows = page.locator("[data-testid=stDataFrame]").first
    for row in (7, 9, 8):
        place = {"x": 18, "y": 35 + CONCEPT_ROW * row + CONCEPT_ROW // 2}
        taken.append(click(page, lambda place=place: rows.click(position=place)))
        seen.add(title(page))
    tell(table, "a concept of the table", taken)
    assert len(seen) == 1 + 2 * TIMES, "each click shows another concept"
    taken = [click(page, choose(page, "Named by", metric)) for metric in (1, 2, 3)]
    tell(table, "concepts named by another metric", taken)
    box = page.get_by_label("Search", exact=True)
    taken = []
    for text in ("1", "2", "3"):
        box.fill(text)
        taken.append(click(page, lambda: box.press("Enter")))
    tell(table, "concepts searched", taken)
    page.context.close()


def test_clicks_on_decisions(browser: Browser, address: str, table: Table) -> None:
    page = open_window(browser, f"{address}/decisions", "Every concept present in the image")
    images = page.get_by_placeholder("(1 of")
    seen = []
    taken = []
    for _ in range(TIMES):
        taken.append(click(page, press(page, "Next", exact=True)))
        seen.append(images.input_value())
    assert len(set(seen)) == TIMES
    tell(table, "the next image", taken)
    taken = []
    for _ in range(TIMES):
        taken.append(click(page, press(page, "Why not"), ", and not "))
        click(page, press(page, "Why not"))  # asks no more
        click(page, press(page, "Next", exact=True))
    tell(table, "why not another class", taken)
    taken = [click(page, choose(page, "Explain the logit of", one)) for one in (1, 2, 3)]
    tell(table, "another class explained", taken)
    click(page, choose(page, "Explain the logit of", 0))
    taken = []
    for key in ("Home", "End", "Home"):
        slider = page.get_by_role("slider").first
        slider.focus()
        taken.append(click(page, lambda slider=slider, key=key: slider.press(key)))
    tell(table, "a concept scaled", taken)
    folds = ("All others, how exact", "Every concept present")
    taken = [click(page, lambda fold=fold: page.get_by_text(fold).click()) for fold in folds]
    tell(table, "what is behind a decision, opened", taken)
    page.context.close()


def test_clicks_on_runs(browser: Browser, address: str, table: Table) -> None:
    page = open_window(browser, f"{address}/runs", "Filters and columns")
    box = page.get_by_role("textbox", name="Text")
    taken = []
    for text in ("sae", "names", "concepts"):
        box.fill(text)
        taken.append(click(page, lambda: box.press("Enter")))
    tell(table, "runs filtered by words", taken)
    box.fill("")
    click(page, lambda: box.press("Enter"))
    taken = [click(page, press(page, "Completed")) for _ in range(TIMES)]
    tell(table, "runs of a status", taken)
    page.context.close()


def test_from_the_first_page_to_a_concept(browser: Browser, address: str, table: Table) -> None:
    first, again = [], []
    for place in range(TIMES):
        page = open_window(browser, address, "Latest runs")
        page.wait_for_function("window.factbookAhead === 'loaded'")  # while somebody reads it
        concepts = page.locator("figcaption a")
        first.append(click(page, concepts.nth(place).click, TRUSTED))
        page.go_back()
        until_idle(page, "Latest runs")
        again.append(click(page, concepts.nth(place + TIMES).click, TRUSTED))
        page.context.close()
    tell(table, "a concept of the first page, the first in a window", first)
    tell(table, "a concept of the first page, not the first", again)
