"""From the first page to an answer by clicks alone: concept, decision, run, comparison."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.dashboards import test_browser, test_browser_decisions
from tests.dashboards.test_browser import (
    CONCEPT_ROW,
    ROW,
    choose_row,
    idle,
    picture,
    see,
    visit,
)

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = [pytest.mark.browser, test_browser.AGAIN]
browser, context = test_browser.browser, test_browser.context
page = test_browser.page
address = test_browser_decisions.address


def test_from_the_first_page_to_a_comparison(page: Page, address: str) -> None:
    visit(page, address)
    see(page, "What does the network know?")
    picture(page, "walk-1-first-page")

    page.get_by_text("What does the network know?").click()
    see(page, "Can this name be trusted?")
    choose_row(page, 1, CONCEPT_ROW)
    assert "concept=" in page.url
    picture(page, "walk-2-concept")

    page.get_by_role("link", name="Decisions").click()
    see(page, "which is exactly what")
    idle(page)
    picture(page, "walk-3-decision")
    page.get_by_role("button", name="Next").click()
    idle(page)
    page.get_by_text("Why not").first.click()
    idle(page)
    asked = parse_qs(urlsplit(page.url).query)
    question = page.locator("h3").first.inner_text()
    assert asked.keys() >= {"cell", "image", "against"}
    steps = page.evaluate("history.length")
    page.get_by_text("About this concept").first.click()
    see(page, "Can this name be trusted?")
    idle(page)
    assert "concept=" in page.url
    assert page.evaluate("history.length") == steps + 1, "a page is one step"

    page.go_back()
    see(page, question)
    idle(page)
    assert parse_qs(urlsplit(page.url).query) == asked

    page.get_by_text("The run that measured these concepts").click()
    see(page, "Configuration")
    idle(page)
    assert "run=" in page.url
    order = page.get_by_role("combobox", name="Sort by")
    assert order.input_value() == "-started", "not what concepts are sorted by"
    picture(page, "walk-4-run")

    choose_row(page, 0, ROW)
    page.get_by_text("Compare these 2 runs").click()
    see(page, "Smaller is better")
    idle(page)
    assert "/compare" in page.url
    picture(page, "walk-5-comparison")


@pytest.mark.parametrize(
    ("path", "title"), [("", "Runs"), ("runs", "Runs"), ("concepts", "Concepts")]
)
def test_every_page_has_its_own_title_and_readable_help(
    page: Page, address: str, path: str, title: str
) -> None:
    from playwright.sync_api import expect

    visit(page, f"{address}/{path}")
    expect(page).to_have_title(f"{title} · factbook")
    assert page.get_by_role("dialog").count() == 0
    expect(page.locator("[data-testid=stMain] h2").first).to_have_text(title)
    line = page.locator("[data-testid=stCaptionContainer]").first
    expect(line).to_have_css("opacity", "0.85")  # at last: what is drawn anew is pale for a while
    assert "WCAG" not in page.locator("body").inner_text()
