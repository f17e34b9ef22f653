"""The dashboard in a real Chromium: what a reader sees and clicks. Pictures: ``tests/output/``."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, unquote_plus, urlsplit

import pytest

from dashboards import app as server
from dashboards.pages import ahead_files
from registry.execute.resolved import PROGRESS
from registry.mongo.database import URL_VARIABLE, connect
from registry.mongo.projector import sync
from registry.plan.project import open_project
from registry.record.journal import EVENTS, journal_root
from tests.dashboards import fabricate
from tests.dashboards.audit import audit, contrast, luminance
from tests.dashboards.fabricate import run_uid

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

AGAIN = pytest.mark.flaky(reruns=3, only_rerun=["TimeoutError"])
"""A click on what is being drawn anew can be lost on a busy machine; what is wrong is not tried
again, only what never came."""

pytestmark = [pytest.mark.browser, AGAIN]

PICTURES = Path(__file__).parent.parent / "output"
IDLE = (
    "[data-testid=stApp][data-test-script-state=notRunning][data-test-connection-state=CONNECTED]"
)
PATIENCE = 60_000  # milliseconds
ROW, CONCEPT_ROW = 35, 52  # pixels


def chromium() -> str | None:
    # the first draws pages alone, without a browser's own windows: 40 % less work
    names = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
    return os.environ.get("FACTBOOK_BROWSER") or next(filter(None, map(shutil.which, names)), None)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A Chromium; without one the tests are skipped, unless ``FACTBOOK_REQUIRE_BROWSER`` is 1."""
    path = chromium()
    if path is None:
        why = "no Chromium found; install one, or name it in FACTBOOK_BROWSER"
        if os.environ.get("FACTBOOK_REQUIRE_BROWSER") == "1":
            pytest.fail(why)
        pytest.skip(why)
    from playwright.sync_api import sync_playwright

    options = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
    # scripts stay compiled from page to page, and are not optimised for the second that one lasts
    options += ["--process-per-site", "--js-flags=--no-opt"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=options)
        yield browser
        browser.close()


@dataclass(frozen=True)
class Served:
    """A server of the dashboard: where it listens, the project that it shows, its database."""

    address: str
    root: Path
    url: str


@pytest.fixture(scope="module")
def served(
    template: Path, mongo_server: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    """A server of the dashboard, for a project whose runs are in MongoDB; it explains nothing."""
    root = shutil.copytree(template, tmp_path_factory.mktemp("served") / "project", symlinks=True)
    with serve_recorded(root, mongo_server, EXPLAINING_NOTHING, "--allow-delete") as served:
        yield served


@contextmanager
def serve_recorded(
    root: Path, mongo_server: str, before: str = "", *options: str
) -> Iterator[Served]:
    """Serve a project whose runs are brought to a database of its own; options as of `serve`."""
    url = mongo_server.replace("/?", f"/factbook_test_{secrets.token_hex(6)}?", 1)
    database = connect(root, url)
    assert database is not None
    sync(root, database)
    try:
        with serve(root, url, before, *options) as address:
            yield Served(address, root, url)
    finally:
        database.handle.client.drop_database(database.handle.name)
        database.close()


@pytest.fixture(scope="module")
def address(served: Served) -> str:
    return served.address


EXPLAINING_NOTHING = """
from dashboards.server.preparation import PREPARATION
PREPARATION._steps = {"dashboards.pages": 0.0, "dask.array": 0.0}
"""
"""What a server does before it starts that leaves out the import of torch, which takes seconds."""


@contextmanager
def serve(root: Path, url: str, before: str = "", *options: str) -> Iterator[str]:
    """Serve the dashboard of a project, whose database is at an address; yields where.

    Options are those of ``dashboards/app.py``.
    """
    port = free_port()
    process = subprocess.Popen(
        [*command(port, before), "--", *options],
        cwd=root,
        env=surroundings(root, url),
        start_new_session=True,
    )
    try:
        wait_for(f"http://127.0.0.1:{port}/_stcore/health", process)
        yield f"http://127.0.0.1:{port}"
    finally:
        stop(process)


def surroundings(root: Path, url: str) -> dict[str, str]:
    """Return the environment of a process that works on a project."""
    path = os.pathsep.join(filter(None, sys.path))
    return {**os.environ, "FACTBOOK_PROJECT": str(root), URL_VARIABLE: url, "PYTHONPATH": path}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def command(port: int, before: str) -> list[str]:
    options = {
        "server.address": "127.0.0.1",
        "server.port": port,
        "server.headless": "true",
        "server.fileWatcherType": "none",
        "browser.gatherUsageStats": "false",
    }
    arguments = [f"--{key}={value}" for key, value in options.items()]
    streamlit = f"{before}\nfrom streamlit.web.cli import main\nmain()"
    return [sys.executable, "-c", streamlit, "run", str(server.__file__), *arguments]


def stop(process: subprocess.Popen[bytes]) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(10)
            return


def wait_for(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + PATIENCE / 1000
    while time.monotonic() < deadline:
        assert process.poll() is None, "the server ended"
        with suppress(OSError), urllib.request.urlopen(url, timeout=1):
            return
        time.sleep(0.1)
    pytest.fail(f"no answer from {url}")


@pytest.fixture(scope="module")
def context(browser: Browser, address: str) -> Iterator[BrowserContext]:
    """What keeps Streamlit's scripts, fetched and compiled once for all visitors."""
    context = browser.new_context(viewport={"width": 1400, "height": 1100}, reduced_motion="reduce")
    context.new_page().goto(f"{address}/_stcore/health")  # keeps the process of all pages
    yield context
    context.close()


@pytest.fixture
def page(context: BrowserContext, address: str) -> Iterator[Page]:
    """A page of a fresh visitor. At its end: no other host was asked, no stored script has run."""
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    elsewhere: list[str] = []
    local = (address, address.replace("http", "ws"), "data:", "blob:")
    page.on("request", lambda r: None if r.url.startswith(local) else elsewhere.append(r.url))
    dialogs: list[str] = []
    page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
    yield page
    page.evaluate("localStorage.clear()")
    context.clear_cookies()
    page.close()
    assert elsewhere == []
    assert dialogs == []


def visit(page: Page, url: str) -> None:
    page.goto(url)
    idle(page)


def idle(page: Page) -> None:
    page.wait_for_selector(IDLE, timeout=PATIENCE)
    page.wait_for_timeout(400)  # what was asked for may only begin now
    page.wait_for_selector(IDLE, timeout=PATIENCE)


def choose_row(page: Page, row: int, height: int) -> None:
    """Click the box of a row of the first table, which is drawn on a canvas."""
    table = page.locator("[data-testid=stDataFrame]").first
    table.wait_for()
    table.click(position={"x": 18, "y": 35 + height * row + height // 2})
    idle(page)


def see(page: Page, text: str) -> None:
    """Wait for a text that can be seen; cells of a table are hidden behind its canvas."""
    page.get_by_text(text).locator("visible=true").first.wait_for()


def asked(page: Page, *parts: str) -> dict[str, list[str]]:
    """Wait until all parts stand in the address, and return what it asks for.

    A page writes into its address after it has drawn what is seen.
    """
    page.wait_for_url(lambda url: all(part in unquote_plus(url) for part in parts))
    return parse_qs(urlsplit(page.url).query)


def titled_and_readable(page: Page, title: str) -> None:
    """A page has its own title, and its help lines can be read."""
    from playwright.sync_api import expect

    expect(page).to_have_title(f"{title} · factbook")
    assert page.get_by_role("dialog").count() == 0
    expect(page.locator("[data-testid=stMain] h2").first).to_have_text(title)
    line = page.locator("[data-testid=stCaptionContainer]").first
    expect(line).to_have_css("opacity", "0.85")  # at last: what is drawn anew is pale for a while
    assert "WCAG" not in page.locator("body").inner_text()
    audit(page)


def tiles(page: Page) -> int:
    """Return how many images of a concept are shown."""
    return page.locator("figcaption").filter(has_text=re.compile(r"presence \d")).count()


def picture(page: Page, name: str) -> None:
    PICTURES.mkdir(exist_ok=True)
    page.wait_for_function("!document.querySelector('[data-testid=stSkeleton]')")
    page.screenshot(path=PICTURES / f"{name}.png")


def assert_dark(page: Page) -> None:
    """The ground is dark, and words stand out from it as WCAG 2.2, 1.4.3 asks."""
    style = "e => [getComputedStyle(e).backgroundColor, getComputedStyle(e).color]"
    ground, ink = page.locator("[data-testid=stApp]").evaluate(style)
    assert luminance(ground) < 0.05
    assert contrast(ink, ground) >= 4.5


def look_at_it_dark(page: Page, name: str) -> None:
    """Turn a page dark while it is looked at, check it, and turn it back."""
    page.emulate_media(color_scheme="dark")
    idle(page)
    assert_dark(page)
    picture(page, name)
    audit(page, "color-contrast")
    page.emulate_media(color_scheme="light")
    idle(page)


WORDS_WITHIN = """() => {
  const right = one => one.getBoundingClientRect().right
  const words = document.querySelectorAll(".role-legend text, .role-axis-label text")
  return [...words].every(one => right(one) <= right(one.closest("svg")))
}"""


def look_at_it_narrow(page: Page, name: str) -> None:
    """Look at a page, dark, in a window of 400 pixels: nothing is wider, no word of a chart cut."""
    page.emulate_media(color_scheme="dark")
    page.set_viewport_size({"width": 400, "height": 1100})
    page.wait_for_function(NOTHING_BEYOND)
    page.wait_for_function(WORDS_WITHIN)
    picture(page, f"{name}-dark-400")
    page.set_viewport_size({"width": 1400, "height": 1100})
    page.emulate_media(color_scheme="light")


def look_by_all(page: Page, name: str) -> None:
    """Audit a page, in light and dark."""
    audit(page)
    look_at_it_dark(page, f"{name}-dark")


def test_the_first_visit_may_be_a_link_to_a_concept(page: Page, address: str) -> None:
    visit(page, f"{address}/concepts?concept=1&metric=iou")
    see(page, "Concept 1: shape: <b>star</b>")
    assert tiles(page) == 2
    picture(page, "concept-by-link")
    titled_and_readable(page, "Concepts")
    texts = page.locator(".fb-face, .fb-below").evaluate_all("all => all.map(one => one.alt)")
    assert texts
    assert all(texts)


WIDTHS = {1400: 160, 900: 120, 400: 120}
"""Of a window, and of a picture in it at least, in pixels."""
SIZES = """() => ({
  pictures: [...document.querySelectorAll(".fb-pictures img")].filter(one => one.offsetParent)
    .map(one => one.getBoundingClientRect().width),
  cut: [...document.querySelectorAll(".fb-pictures figcaption *")]
    .filter(one => one.scrollWidth > one.clientWidth + 1 && one.clientWidth).length,
})"""


NOTHING_BEYOND = "document.querySelector('[data-testid=stMain]').scrollWidth <= innerWidth"


def measure_pictures(page: Page, path: str) -> None:
    """Every picture is as wide as it should be in every window, and nothing is wider than it."""
    for width, least in WIDTHS.items():
        page.set_viewport_size({"width": width, "height": 1100})
        page.wait_for_function(NOTHING_BEYOND)
        sizes = page.evaluate(SIZES)
        assert min(sizes["pictures"]) >= least - 0.5, (path, width, sizes)
        assert sizes["cut"] == 0, (path, width)
        picture(page, f"pictures-{path}-{width}")
    page.set_viewport_size({"width": 1400, "height": 1100})


def test_pictures_are_large_and_a_click_enlarges_one(page: Page, address: str) -> None:
    visit(page, f"{address}/concepts?concept=0&metric=iou")
    see(page, "Exact weights show dots where a layer has strides")
    measure_pictures(page, "concept")
    page.locator(".fb-look").first.click()
    dialog = page.get_by_role("dialog")
    over, beside = dialog.locator(".fb-stack img").nth(1), dialog.locator("figcaption")
    assert dialog.locator("small").inner_text() == "test/00000"
    assert beside.inner_text() == "Colours"
    slider = dialog.get_by_label("Opacity of the map")
    slider.fill("25")
    assert over.evaluate("one => one.style.opacity") == "0.25"
    smooth = over.get_attribute("src")
    dialog.get_by_role("button", name="Exact weights").click()
    assert beside.inner_text() == "Exact weights"
    assert over.get_attribute("src") != smooth
    picture(page, "enlarged")
    dialog.get_by_role("button", name="Close").focus()
    page.keyboard.press("ArrowRight")
    assert dialog.locator("small").inner_text() == "test/00001"
    page.keyboard.press("Escape")
    dialog.wait_for(state="detached")
    assert page.evaluate("document.activeElement.className").startswith("fb-look")


def test_a_page_knows_where_its_server_is(page: Page, address: str) -> None:
    visit(page, f"{address}/runs")
    see(page, "Filters and columns")
    loaded = page.evaluate("performance.getEntriesByType('resource').map(entry => entry.name)")
    assert f"{address}/_stcore/health" in loaded
    assert not [name for name in loaded if "/runs/" in name], "it looked elsewhere"


def test_the_first_page_leads_to_a_concept_and_to_a_run(page: Page, address: str) -> None:
    visit(page, address)
    see(page, "Latest runs")
    titled_and_readable(page, "Overview")
    measure_pictures(page, "overview")
    look_at_it_dark(page, "overview-dark")
    page.wait_for_function("window.factbookAhead === 'loaded'")
    loaded = page.evaluate("performance.getEntriesByType('resource').map(entry => entry.name)")
    assert {name.rpartition("/")[2] for name in loaded} >= set(ahead_files())
    steps = page.evaluate("history.length")
    page.locator("figcaption a").first.click()
    see(page, "Can this name be trusted?")
    asked(page, "/concepts?", "cell=toy-concepts", "concept=0")
    assert page.evaluate("history.length") == steps + 1
    page.go_back()
    see(page, "Latest runs")
    idle(page)
    page.get_by_role("listitem").get_by_role("link", name="toy-names").last.click()
    see(page, "Configuration")
    asked(page, "/runs?", "run=")
    visit(page, f"{address}/?experiment=toy-sae&status=COMPLETED")
    assert asked(page, "/runs?", "experiment=toy-sae")["status"] == ["COMPLETED"]


def test_from_runs_to_a_run_to_its_concepts(page: Page, address: str) -> None:
    visit(page, f"{address}/runs")
    see(page, "9 runs.")
    picture(page, "runs")
    titled_and_readable(page, "Runs")
    assert page.get_by_text("MongoDB cannot be reached").count() == 0

    choose_row(page, 2, ROW)  # the newest runs are names, gallery, concepts
    see(page, "Open")
    asked(page, f"run={run_uid('toy-concepts', 8)[:8]}")
    picture(page, "run")
    audit(page)

    page.get_by_text("Open", exact=True).click()
    see(page, "accuracy, spliced")
    idle(page)
    asked(page, "/concepts")

    page.get_by_role("link", name="Concepts").first.click()
    see(page, "accuracy, spliced")
    idle(page)
    see(page, "Concept 0")
    picture(page, "concepts")
    look_at_it_dark(page, "concepts-dark")
    choose_row(page, 1, CONCEPT_ROW)
    see(page, "Concept 3")
    asked(page, "concept=3")
    assert tiles(page) == fabricate.RANKS
    page.get_by_role("button", name="Next", exact=True).click()
    see(page, "Concept 1: shape: <b>star</b>")
    idle(page)
    picture(page, "concept")
    look_at_it_dark(page, "concept-dark")


def test_curves_console_and_sources_of_a_run(page: Page, address: str) -> None:
    visit(page, f"{address}/?experiment=toy-sae&status=COMPLETED")
    see(page, "1 run.")
    choose_row(page, 0, ROW)
    page.get_by_text("Curves").first.click()
    see(page, "thinned to")
    idle(page)
    page.get_by_text("Logarithmic scale").click()
    asked(page, "log=true")
    idle(page)
    assert page.locator("[data-testid=stVegaLiteChart]").count() == 2
    picture(page, "curves")
    idle(page)
    look_by_all(page, "curves")
    page.get_by_text("Console").first.click()
    see(page, "pass 599")
    idle(page)  # a click on what is just drawn anew may be lost
    look_by_all(page, "console")
    page.get_by_text("Sources").first.click()
    see(page, "def")
    asked(page, "section=Sources")
    idle(page)
    look_by_all(page, "sources")
    reloaded = page.url
    visit(page, reloaded)
    see(page, "def")


def test_two_runs_are_chosen_compared_and_drawn_over_each_other(page: Page, address: str) -> None:
    visit(page, f"{address}/?experiment=toy-sae")
    see(page, "5 runs.")
    choose_row(page, 0, ROW)
    choose_row(page, 4, ROW)
    page.get_by_text("Compare these 2 runs").click()
    see(page, "Smaller is better")
    idle(page)
    asked(page, "/compare", run_uid("toy-sae[k=8]", 0))
    picture(page, "compare")
    audit(page)
    look_at_it_dark(page, "compare-dark")
    page.get_by_text("Curves", exact=True).click()
    see(page, "training.loss")
    idle(page)
    picture(page, "compare-curves")
    look_by_all(page, "compare-curves")
    page.get_by_text("Groups", exact=True).click()
    asked(page, "compared=Groups")
    idle(page)
    look_by_all(page, "compare-groups")
    page.get_by_text("Code", exact=True).click()
    see(page, "Same code")
    asked(page, "compared=Code")
    look_by_all(page, "compare-code")
    reloaded = page.url
    visit(page, reloaded)
    see(page, "Same code")


def test_the_pipeline_is_drawn_and_leads_to_a_run(page: Page, address: str) -> None:
    visit(page, f"{address}/pipeline")
    see(page, "Run what is due")
    page.locator(
        "[data-testid=stVegaLiteChart] canvas, [data-testid=stVegaLiteChart] svg"
    ).wait_for()
    for kind, text in (("stVegaLiteChart", "pipeline"), ("stDataFrame", "Tasks")):
        page.locator(f"[data-testid={kind}]").first.wait_for()
        assert page.get_by_label(text, exact=True).count(), "told to who does not see it"
    picture(page, "pipeline")
    audit(page)
    look_at_it_dark(page, "pipeline-dark")
    idle(page)
    choose_row(page, 2, ROW)
    see(page, "Latest run")
    idle(page)
    asked(page, "task=toy-concepts")
    page.get_by_text("Latest run", exact=True).first.click()
    see(page, "COMPLETED")
    idle(page)
    asked(page, f"run={run_uid('toy-concepts', 6)}")


def test_a_box_of_the_pipeline_can_be_clicked(page: Page, address: str) -> None:
    visit(page, f"{address}/pipeline?of=toy-concepts")
    graph = page.locator("[data-testid=stVegaLiteChart]")
    for box, task in (("toy-sae", "toy-sae[k=8]"), ("toy-concepts", "toy-concepts")):
        graph.get_by_text(re.compile(rf"{box}$")).click()
        page.get_by_role("heading", name=task, exact=True).wait_for()
        idle(page)
        assert asked(page, f"task={task}")["task"] == [task]


def test_a_dataset_stands_in_a_frame_in_which_nothing_runs(page: Page, address: str) -> None:
    visit(page, f"{address}/?run={run_uid('toy-concepts', 6)}&section=Dataset")
    outer = page.frame_locator("[data-testid=stIFrame]")
    dataset = outer.frame_locator("iframe[sandbox='']")
    dataset.get_by_text("xarray.Dataset", exact=True).wait_for()
    dataset.locator("label", has_text="Data variables:").click()
    dataset.locator(".xr-var-name", has_text="mean_contribution").wait_for()
    picture(page, "dataset")
    look_by_all(page, "dataset")
    see(page, "As xarray shows it")


def test_a_note_is_written_and_found_again(page: Page, address: str) -> None:
    visit(page, f"{address}/?run={run_uid('toy-sae[k=8]', 0)}")
    page.get_by_text("Add a note").click()
    page.get_by_label("Note", exact=True).fill("<script>alert(1)</script> the best one")
    page.get_by_role("textbox", name="Tags").fill("baseline")
    page.get_by_role("button", name="Save").click()
    see(page, "the best one")
    idle(page)
    picture(page, "note")
    visit(page, f"{address}/?tags=baseline")
    see(page, "1 run.")


def test_the_end_of_a_console_is_followed(page: Page, address: str) -> None:
    visit(page, f"{address}/?run={run_uid('toy-sae[k=8]', 0)}&section=Console&follow=true")
    see(page, "pass 599")
    box = page.get_by_text("pass 599").bounding_box()
    console = page.locator("[data-testid=stCode]").last.bounding_box()
    assert box is not None
    assert console is not None
    assert console["y"] < box["y"]


def press_keys(page: Page) -> None:
    """Go on and back by keys, which do nothing where one types."""
    [first] = asked(page)["concept"]
    page.keyboard.press("j")
    page.wait_for_url(lambda url: not re.search(rf"concept={first}\b", url))
    idle(page)
    page.keyboard.press("/")
    search = page.get_by_label("Search", exact=True)
    assert search.evaluate("box => box === document.activeElement")
    [there] = asked(page)["concept"]
    search.press("j")
    search.press("ArrowLeft")
    assert search.input_value() == "j"
    search.press("Delete")
    search.evaluate("box => box.blur()")
    idle(page)
    assert asked(page)["concept"] == [there]
    page.keyboard.press("?")
    page.get_by_label("Keys").get_by_text("next concept").wait_for()
    page.keyboard.press("k")  # behind a dialog
    page.keyboard.press("Escape")
    page.keyboard.press("ArrowLeft")
    page.wait_for_url(lambda url: re.search(rf"concept={first}\b", url))
    idle(page)


def mark_a_range(page: Page) -> None:
    """Drag over a part of the histogram of presences, whose images are not here."""
    chart = page.locator("[data-testid=stVegaLiteChart] canvas, [data-testid=stVegaLiteChart] svg")
    chart.first.scroll_into_view_if_needed()
    box = chart.first.bounding_box()
    assert box is not None
    middle = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + 0.4 * box["width"], middle)
    page.mouse.down()
    page.mouse.move(box["x"] + 0.9 * box["width"], middle, steps=4)
    page.mouse.up()
    see(page, "Images cannot be shown")


def test_from_a_concept_to_a_similar_one_and_to_the_whole_model(page: Page, address: str) -> None:
    visit(page, f"{address}/concepts?concept=0&metric=iou")
    see(page, "Can this name be trusted?")
    see(page, "Present in the same images")
    press_keys(page)
    mark_a_range(page)
    page.get_by_role("link", name=re.compile("^Concept ")).first.click()
    page.wait_for_url(lambda url: not re.search(r"concept=0\b", url))
    asked(page, "metric=iou")
    idle(page)
    [concept] = asked(page)["concept"]
    see(page, f"Concept {concept}")
    page.get_by_text("Place", exact=True).click()
    see(page, "faded where the concept is absent")
    asked(page, "below=Place")
    page.get_by_text("The whole model").click()
    see(page, "What the concepts are named")
    idle(page)
    asked(page, "section=The")
    assert page.locator("[data-testid=stVegaLiteChart]").count() == 3
    picture(page, "concept-model")
    audit(page)


def test_dark(page: Page, address: str) -> None:
    page.emulate_media(color_scheme="dark")
    visit(page, f"{address}/?run={run_uid('toy-sae[k=16]', 1)}")
    see(page, "It failed")
    assert_dark(page)
    picture(page, "failed-dark")
    audit(page)


def test_a_run_that_ends_is_shown_without_a_click(page: Page, served: Served) -> None:
    uid = run_uid("toy-sae[k=16]", 4)
    visit(page, f"{served.address}/?run={uid}&section=Console")
    see(page, "last sign of life after")
    assert badge(page) == "RUNNING"
    journal = journal_root(served.root) / uid
    (journal / PROGRESS).write_text('{"done": 3, "total": 4, "what": "passes"}')
    see(page, "passes 3 of 4")
    picture(page, "running")
    end = {"event": "completed", "time": "2026-11-22T01:50:00.000Z", "status": "COMPLETED"}
    with open(journal / EVENTS, "a") as events:
        events.write(json.dumps(end) + "\n")
    see(page, "took 12 min 5 s")
    assert badge(page) == "COMPLETED"


def test_a_run_is_archived_brought_back_and_deleted(page: Page, served: Served) -> None:
    minutes = 60 + secrets.randbelow(10_000)  # another run where this is tried again
    told = fabricate.Told("toy-sae[k=8]", minutes=minutes)
    uid = fabricate.record(open_project(served.root), told)
    visit(page, f"{served.address}/runs?text={uid}&run={uid}")
    see(page, "1 run.")
    page.get_by_role("button", name="Archive", exact=True).click()
    see(page, "No runs match")
    page.get_by_text("Filters and columns").click()
    page.get_by_text("Archived runs too").click()
    see(page, "1 run.")
    page.get_by_role("button", name="Bring back").click()
    page.get_by_role("button", name="Archive", exact=True).wait_for()
    page.get_by_text("Archived runs too").click()
    idle(page)
    see(page, "1 run.")
    page.get_by_role("button", name="Delete …").click()
    page.get_by_text("it cannot be brought back").click()
    picture(page, "deletion")
    page.get_by_role("button", name="Delete for good").click()
    see(page, f"Deleted run {uid}")
    see(page, "No runs match")
    assert not (journal_root(served.root) / uid).exists()


def badge(page: Page) -> str:
    """Return the status that stands at the head of a run, without its sign."""
    return str(page.locator(".stMarkdownBadge").first.inner_text()).split()[-1]
