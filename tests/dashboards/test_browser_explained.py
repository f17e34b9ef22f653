"""A project whose stages really ran, in a real Chromium.

Decisions: choose an image, ask why not another class, bring a picture. A walk by clicks alone,
from the first page to an answer: concept, decision, run, comparison. And several readers at once,
while experiments run and publish.
"""

from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from dashboards.commands import publish
from dashboards.views.parts.text import unbroken
from registry.catalog.access import open_catalog
from registry.mongo.database import OFF, URL_VARIABLE
from tests.dashboards import explained, test_browser
from tests.dashboards.audit import audit
from tests.dashboards.test_browser import (
    CONCEPT_ROW,
    PATIENCE,
    PICTURES,
    ROW,
    Served,
    asked,
    assert_dark,
    choose_row,
    idle,
    picture,
    see,
    serve_recorded,
    surroundings,
    titled_and_readable,
    visit,
)

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, Page

pytestmark = [pytest.mark.browser, test_browser.AGAIN]
browser, context = test_browser.browser, test_browser.context
address, page = test_browser.address, test_browser.page


@pytest.fixture(scope="module")
def served(
    explained_template: Path, mongo_server: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    """A server of the dashboard for a project whose stages really ran, and can run again."""
    root = tmp_path_factory.mktemp("explained") / "project"
    shutil.copytree(explained_template, root, symlinks=True)
    with serve_recorded(root, mongo_server) as served:
        yield served


def test_bring_a_picture_and_what_is_none(page: Page, address: str) -> None:
    page.emulate_media(color_scheme="dark")
    visit(page, f"{address}/decisions?from=Wrong")
    see(page, "and is wrong: the label is")
    idle(page)
    assert_dark(page)
    picture(page, "decision-dark")
    audit(page)

    page.emulate_media(color_scheme="light")
    page.get_by_text("Upload", exact=True).click()
    asked(page, "from=Upload")
    see(page, "Choose a PNG, JPEG or WebP image")
    chooser = page.locator("input[type=file]")
    chooser.set_input_files({"name": "mine.png", "mimeType": "image/png", "buffer": b"no picture"})
    see(page, "Cannot explain this file")
    idle(page)
    photo = np.random.default_rng(0).integers(0, 256, (90, 160, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(photo).save(file, "JPEG")
    chooser.set_input_files(
        {"name": "photo.jpg", "mimeType": "image/jpeg", "buffer": file.getvalue()}
    )
    see(page, "photo.jpg")
    see(page, "as the network sees it")
    idle(page)
    assert page.get_by_text("Cannot explain this file").count() == 0
    picture(page, "upload")


# -- a walk --------------------------------------------------------------------------------------


def test_from_the_first_page_to_a_comparison(page: Page, address: str) -> None:
    visit(page, address)
    see(page, "Latest runs")
    picture(page, "walk-1-first-page")

    page.get_by_text("All its concepts").first.click()
    see(page, "Can this name be trusted?")
    idle(page)  # a click on what is just drawn anew may be lost
    choose_row(page, 1, CONCEPT_ROW)
    asked(page, "concept=")
    page.get_by_text("Decisions that use this concept").wait_for()
    idle(page)
    assert page.get_by_test_id("stMain").evaluate("e => e.scrollHeight") <= 3300, "three screens"
    picture(page, "walk-2-concept")

    page.get_by_role("link", name="Decisions").click()
    see(page, "which is exactly what")
    idle(page)
    page.locator("[data-testid=stVegaLiteChart]").first.wait_for()
    picture(page, "walk-3-decision")
    audit(page)
    for width in (900, 1400):
        page.set_viewport_size({"width": width, "height": 1100})
        idle(page)
        page.wait_for_function("width => window.innerWidth === width", arg=width)
        height = page.get_by_test_id("stMain").evaluate("e => e.scrollHeight")
        assert height < 2500, "a decision is one screen, and what is behind it a little more"
    map_of_a_concept = page.locator(".fb-pictures").nth(1).locator(".fb-look").first.bounding_box()
    assert map_of_a_concept
    assert map_of_a_concept["y"] + map_of_a_concept["height"] < 1100, "in the first screen"

    weaker = page.get_by_role("slider").first
    weaker.focus()
    begun = time.monotonic()
    weaker.press("Home")
    see(page, "Promised: ")
    assert time.monotonic() - begun < 5
    see(page, "It becomes ")
    idle(page)
    picture(page, "what-if")

    page.get_by_role("button", name="Next", exact=True).click()
    idle(page)
    asked(page, "image=test/00001")
    assert page.get_by_placeholder("(1 of").input_value() == "test/00001"
    begun = time.monotonic()
    page.get_by_role("button", name="Why not").click()
    see(page, ", and not ")
    see(page, "The difference, concept by concept")
    assert time.monotonic() - begun < 10
    idle(page)
    picture(page, "why-not")
    stands = asked(page, "cell=", "image=", "against=")
    question = page.locator("h3").first.inner_text()
    visit(page, page.url)
    see(page, ", and not ")
    steps = page.evaluate("history.length")
    page.locator(".fb-pictures .fb-go").first.click()
    page.wait_for_url("**/concepts?*concept=*")
    see(page, "accuracy, spliced")
    see(page, "Can this name be trusted?")
    idle(page)
    assert page.evaluate("history.length") == steps + 1, "a page is one step"

    page.go_back()
    see(page, question)
    idle(page)
    assert asked(page, "cell=", "image=", "against=") == stands

    page.get_by_text("The run that measured these concepts").click()
    see(page, "Configuration")
    idle(page)
    asked(page, "run=")
    page.get_by_text("Filters and columns").click()
    order = page.get_by_role("combobox", name="Sort by")
    assert order.input_value() == "-started", "not what concepts are sorted by"
    page.get_by_text("Filters and columns").click()
    order.wait_for(state="hidden")
    picture(page, "walk-4-run")

    choose_row(page, 0, ROW)
    page.get_by_text("Compare these 2 runs").click()
    see(page, "Smaller is better")
    idle(page)
    asked(page, "/compare")
    picture(page, "walk-5-comparison")

    visit(page, f"{address}/runs")
    titled_and_readable(page, "Runs")


def reach(page: Page, name: str) -> None:
    """Press Tab until what has a name has the focus, which is seen."""
    said = "(one => one.getAttribute('aria-label') || one.innerText)(document.activeElement).trim()"
    for _ in range(200):
        page.keyboard.press("Tab")
        if str(page.evaluate(said)).startswith(name):
            break
    else:
        pytest.fail(f"no key leads to {name!r}")
    look = "(one => [one.outlineStyle, one.boxShadow])(getComputedStyle(document.activeElement))"
    style = page.evaluate(look)
    assert style != ["none", "none"], f"{name!r} does not show that it has the focus"


def test_keys_alone_lead_from_the_first_page_to_a_decision(page: Page, address: str) -> None:
    visit(page, address)
    see(page, "Latest runs")
    idle(page)
    reach(page, "Enlarge")
    page.keyboard.press("Enter")
    page.get_by_role("dialog").wait_for()
    page.keyboard.press("Escape")
    reach(page, "All its concepts")
    page.keyboard.press("Enter")
    see(page, "Can this name be trusted?")
    idle(page)
    reach(page, "Decisions")
    page.keyboard.press("Enter")
    see(page, "which is exactly what")
    asked(page, "/decisions?", "cell=")


# -- all concepts at once --------------------------------------------------------------------------


def test_a_click_on_the_map_opens_a_concept(page: Page, address: str) -> None:
    pytest.importorskip("openTSNE", reason="what lays concepts out is not installed")
    visit(page, f"{address}/concepts?section=Map")
    points = page.locator("[data-testid=stVegaLiteChart] .mark-symbol path")
    points.first.wait_for()
    assert points.count() == 24
    see(page, "near ones are alike by their directions in the layer")
    picture(page, "map")
    audit(page)
    highest = points.last  # what is drawn last is covered by none
    highest.hover()
    told = page.locator("#vg-tooltip-element")
    told.get_by_text("Concept", exact=True).wait_for()
    number = told.locator("tr").filter(has_text="Concept").locator(".value").inner_text()
    highest.click()
    see(page, "Can this name be trusted?")
    assert asked(page, "concept=")["concept"] == [number]
    see(page, f"Concept {number}")


# -- the same, published ---------------------------------------------------------------------------


def test_a_published_site_needs_no_server(
    context: BrowserContext, explained_template: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setenv("FACTBOOK_PROJECT", str(explained_template))
    monkeypatch.setenv(URL_VARIABLE, OFF)
    words = [str(tmp_path / "site"), "concepts", "decisions", "names", "--yes"]
    told = CliRunner().invoke(publish, words)
    assert told.exit_code == 0, told.output
    assert "shapes: Apache-2.0" in told.output
    page = context.new_page()
    elsewhere: list[str] = []
    local = (tmp_path.as_uri(), "data:")
    page.on("request", lambda r: None if r.url.startswith(local) else elsewhere.append(r.url))
    index = (tmp_path / "site" / "index.html").as_uri()
    page.goto(index)
    look_at_site(page, "published")
    [number] = re.findall(r"concept (\d+)", page.locator(".card").first.inner_text())
    page.get_by_label("Find a concept by its name or number").fill(number)
    page.get_by_text(re.compile("^1 concept of")).wait_for()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="be trusted?").wait_for()
    concept = page.url
    assert re.search(rf"#/concept/\d{{8}}T\d{{6}}-\w{{8}}/{number}$", concept)
    look_at_site(page, "published-concept")
    page.locator(".fb-look").first.click()
    page.get_by_role("dialog").get_by_label("Opacity of the map").wait_for()
    page.keyboard.press("Escape")
    page.keyboard.press("ArrowRight")
    page.wait_for_function(f"location.href !== {concept!r}")
    page.goto(index)
    page.get_by_role("heading", name="decisions").get_by_role("link").click()
    page.get_by_label("Wrong ones alone").wait_for()
    page.locator(".card a").first.click()
    page.get_by_text("which is exactly what").wait_for()
    look_at_site(page, "published-decision")
    page.locator("ul.links a").first.click()
    page.get_by_role("heading", name="be trusted?").wait_for()
    page.goto(f"{index}#/concept/nothing/1")
    page.get_by_text("Nothing is published at").wait_for()
    page.goto(f"{index}#/about")
    page.get_by_text("images; asks for its notice").first.wait_for()
    page.close()
    assert elsewhere == []


def look_at_site(page: Page, name: str) -> None:
    """Check a page of a site in light and dark, and in a narrow window."""
    page.locator(".card, .fb-pictures").first.wait_for()
    words = page.locator("main").inner_text()
    assert "\N{NO-BREAK SPACE}%" in words
    assert unbroken(words) == words
    audit(page)
    for scheme in ("dark", "light"):
        page.emulate_media(color_scheme=scheme)
        page.set_viewport_size({"width": 400 if scheme == "dark" else 1400, "height": 1100})
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        audit(page, "color-contrast")
        PICTURES.mkdir(exist_ok=True)
        page.screenshot(path=PICTURES / f"{name}-{scheme}.png")


# -- readers and a writer: last, since what they look at changes -----------------------------------

# `make faults` is the long form.
READERS, ROUNDS = (8, 4) if "FACTBOOK_FAULT_TRIALS" in os.environ else (2, 1)
PAGES = (
    *("", "concepts?concept=1", "decisions", "pipeline", "names", "compare"),
    *("concepts?section=The+whole+model", "?experiment=sae&run=sae&section=Dataset"),
)
BROKEN = ("damaged", "Cannot read", "did not answer", "Traceback")
LOOK = 3000
"""Milliseconds that readers look at a page."""


def test_readers_read_on_while_experiments_write(context: BrowserContext, served: Served) -> None:
    writer = subprocess.Popen(
        [sys.executable, "-m", explained.__name__, str(served.root), str(ROUNDS)],
        env=surroundings(served.root, served.url),
        start_new_session=True,
    )
    with ExitStack() as stack:
        stack.callback(test_browser.stop, writer)
        pages = [context.new_page() for _ in range(READERS)]
        for page in pages:
            stack.callback(page.close)
        turns = 0
        while writer.poll() is None:
            for place, page in enumerate(pages):
                path = PAGES[(place + turns) % len(PAGES)]
                page.goto(f"{served.address}/{path}", timeout=PATIENCE)
            for page in pages:
                check(page)
            turns += 1
            page.wait_for_timeout(LOOK)
        assert writer.returncode == 0
        assert turns >= 2, "readers did not read while it wrote"
        print(f"{turns} turns of {READERS} readers")
        page = pages[0]
        with open_catalog(served.root, OFF) as catalog:
            trained = len(catalog.runs(stage="fact.train_sae"))
        assert trained > ROUNDS
        page.goto(f"{served.address}/?stage=fact.train_sae")
        see(page, f"{trained} runs.")
        page.goto(f"{served.address}/concepts")  # the first; others may be silent
        see(page, "Can this name be trusted?")
        check(page)
        picture(page, "after-many-readers")


def check(page: Page) -> None:
    """Wait until a page is whole; it may tell what is not made yet, never that it broke."""
    idle(page)
    assert page.locator("[data-testid=stException]").count() == 0
    words = page.locator("[data-testid=stMain]").inner_text()
    assert page.locator("[data-testid=stHeading]").count(), words
    assert not [word for word in BROKEN if word in words], (page.url, words)
