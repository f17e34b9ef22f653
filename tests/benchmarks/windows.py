"""Windows of a browser: how long what a reader does in one takes until all of it is drawn."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import psutil

from dashboards.server.preparation import STEPS
from tests.dashboards.test_browser import IDLE

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

PATIENCE = 120_000  # milliseconds
SIZE = {"width": 1400, "height": 1100}

WATCH = """() => {
  const app = document.querySelector("[data-testid=stApp]")
  window.ended = 0
  new MutationObserver(() => {
    if (app.dataset.testScriptState === "notRunning") window.ended += 1
  }).observe(app, { attributeFilter: ["data-test-script-state"] })
  for (const kind of ["pointerdown", "keydown"])
    addEventListener(kind, event => { window.begun = event.timeStamp }, true)
}"""
"""Counts how often the server has answered, and notes when a reader did something last."""

WHOLE = """() => !document.querySelector("[data-testid=stSkeleton]")
  && [...document.querySelectorAll("[data-testid=stDataFrame]")]
    .every(table => table.querySelector("canvas"))"""
"""Whether nothing is still to be loaded, and all tables are drawn."""

DRAWN = """async () => {
  const idle = () => new Promise(requestIdleCallback)
  await idle()
  await new Promise(requestAnimationFrame)
  await idle()
  return performance.now()
}"""
"""Milliseconds of the document when the browser has nothing to do after a frame."""


def until_idle(page: Page, *seen: str) -> None:
    """Wait until texts are seen, and nothing changes more."""
    for text in seen:
        page.get_by_text(text).first.wait_for(timeout=PATIENCE)
    page.wait_for_selector(IDLE, timeout=PATIENCE)
    page.wait_for_function(WHOLE, timeout=PATIENCE)
    page.evaluate(DRAWN)


def open_window(browser: Browser, address: str, *seen: str) -> Page:
    """Open an address in a new window, whose clicks :func:`click` can measure then."""
    page = browser.new_context(viewport=SIZE, reduced_motion="reduce").new_page()
    page.set_default_timeout(PATIENCE)
    page.goto(address)
    until_idle(page, *seen)
    page.evaluate(WATCH)
    return page


def click(page: Page, act: Callable[[], object], *seen: str) -> float:
    """Return the seconds from a click, or the last key, until all that it led to is drawn.

    Parameters
    ----------
    page : Page
        Of :func:`open_window`.
    act : callable
        Clicks.
    *seen : str
        Texts to wait for.
    """
    before = page.evaluate("window.ended")
    act()
    page.wait_for_function("before => window.ended > before", arg=before, timeout=PATIENCE)
    for text in seen:
        page.get_by_text(text).first.wait_for()
    page.wait_for_selector(IDLE, timeout=PATIENCE)
    page.wait_for_function(WHOLE, timeout=PATIENCE)
    ended: float = page.evaluate(DRAWN)
    return (ended - float(page.evaluate("window.begun"))) / 1000


def server_of(address: str) -> psutil.Process:
    """Return the process that serves an address, one of this process's own."""
    option = f"--server.port={urlsplit(address).port}"
    [process] = [one for one in psutil.Process().children() if option in one.cmdline()]
    return process


def until_ready(address: str, calm: float = max(STEPS.values()) + 0.5) -> float:
    """Return the seconds until the server at an address does nothing more of its own.

    It is calm for longer than the longest pause between two of its steps.
    """
    process = server_of(address)
    begun, used = time.perf_counter(), -1.0
    while (now := sum(process.cpu_times()[:2])) - used > calm / 20:
        used = now
        time.sleep(calm)
    return time.perf_counter() - begun - calm
