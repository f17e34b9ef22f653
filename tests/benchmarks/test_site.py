"""A published site of 16,384 concepts: under 500 MB, a page under 2 s, a search under 0.3 s.

The model is fabricated. Its pictures, 224 pixels wide and each another one, have the spectrum of
photographs, so that they take the room of photographs. They are made as they are published, for
want of the 20 GB of such a gallery. It is looked at in Chromium, from a plain file server and
from the disk.
"""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import xarray as xr

from dashboards.site.choice import Chosen
from dashboards.site.folder import taking_the_place_of
from dashboards.site.publish import publish
from dashboards.views.concepts import concepts as view
from dashboards.views.concepts.concepts import Tile
from registry.catalog.access import open_catalog
from registry.declare.licences import Permission
from registry.mongo.database import OFF
from registry.plan.project import Project
from tests.benchmarks.memory import forget_peak, peak
from tests.benchmarks.table import Table
from tests.dashboards import fabricate_large as large
from tests.dashboards import test_browser

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.benchmark
browser = test_browser.browser

SIZE, SIDE = large.Size(images=2000, side=8), 224
MOST, FIRST, SEARCH = 500.0, 2.0, 0.3
MEMORY = 1500.0
"""MiB of the process that publishes."""

GIVEN = Permission("photos", "CC0-1.0", True, "asks nothing")


def photographs(side: int) -> Callable[..., list[Tile]]:
    """Return what gives images of a concept that have energy at every scale, as 1 / f."""
    random, whole = np.random.default_rng(3), 512
    grid = np.hypot(*np.meshgrid(*2 * [np.fft.fftfreq(whole)]))
    noise = np.fft.fft2(random.standard_normal((3, whole, whole)))
    field = np.fft.ifft2(noise / np.maximum(grid, 1 / whole)).real
    field /= field.std(axis=(1, 2), keepdims=True)
    ground = np.moveaxis(np.clip(128 + 55 * field, 0, 255).astype(np.uint8), 0, 2)
    y, x = np.mgrid[:side, :side] / side - 0.5

    def tiles(_gallery: xr.Dataset, concept: int, most: int) -> list[Tile]:
        found = []
        for rank in range(most):
            place = (concept * 7919 + rank * 104729) % (whole - side) ** 2
            top, left = divmod(place, whole - side)
            picture = ground[top : top + side, left : left + side]
            away = np.hypot(y - (concept % 7 - 3) / 10, x - (rank % 5 - 2) / 8)
            opacity = 255 * np.exp(-20 * away**2) * (picture[..., 0] > 90)
            drawn = np.concatenate([picture, opacity[..., None].astype(np.uint8)], axis=2)
            name = f"class {concept % 1000}"
            found.append(Tile(f"test/{place:06d}", name, name, 1.0, picture, drawn))
        return found

    return tiles


class Silent(SimpleHTTPRequestHandler):
    """Serves files and says nothing of it."""

    def log_message(self, format: str, *args: object) -> None:
        pass


@dataclass(frozen=True)
class Published:
    """A site, where a server shows it, and how long and how much memory (MiB) it took to write."""

    folder: Path
    address: str
    run: str
    seconds: float
    memory: float


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Published]:
    root = tmp_path_factory.mktemp("site")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(view, "tiles", photographs(SIDE))
        yield from shown(root, large.live_in(root / "project", SIZE))


def shown(root: Path, project: Project) -> Iterator[Published]:
    with open_catalog(project.root, OFF) as catalog:
        lineage = catalog.lineage()
        entry = lineage.entries["large-concepts"]
        forget_peak()
        begun = time.perf_counter()
        with taking_the_place_of(root / "site") as new:
            publish(catalog, lineage, [Chosen(entry, "set", GIVEN)], new)
        took, memory = time.perf_counter() - begun, peak()
    handler = functools.partial(Silent, directory=str(root / "site"))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield Published(
        root / "site", f"http://127.0.0.1:{server.server_port}", entry.run, took, memory
    )
    server.shutdown()
    server.server_close()


SHOWN = """async () => {
  const begun = performance.timeOrigin
  const content = ".card, .evidence, .fb-pictures"
  while (!document.querySelector(content)) await new Promise(requestAnimationFrame)
  const inSight = [...document.querySelectorAll("main img")].filter(one =>
    one.getBoundingClientRect().top < innerHeight && one.offsetParent)
  await Promise.all(inSight.map(one => one.decode()))
  return (performance.timeOrigin + performance.now() - begun) / 1000
}"""
ASK = """async text => {
  const box = document.querySelector("input[type=search]"), said = document.getElementById("said")
  said.textContent = ""
  const begun = performance.now()
  box.value = text
  box.dispatchEvent(new Event("input"))
  while (!said.textContent) await new Promise(requestAnimationFrame)
  await new Promise(requestAnimationFrame)
  return (performance.now() - begun) / 1000
}"""


def test_a_site_of_16_384_concepts(published: Published, browser: Any, table: Table) -> None:
    size = sum(path.stat().st_size for path in published.folder.rglob("*") if path.is_file())
    table.within("site of 16,384 concepts", size / 1e6, MOST, "MB", asked=MOST)
    table.within("the site, written", published.seconds, None, "s")
    table.within("memory of publishing it", published.memory, MEMORY, "MiB")
    for address in (published.address, published.folder.as_uri()):
        taken = look_around(browser, f"{address}/index.html", published.run)
        for name, seconds in taken.items():
            most = SEARCH if "search" in name else FIRST
            name = f"site by {address.partition(':')[0]}: {name}"
            table.within(name, seconds, most, "s", asked=most)


def look_around(browser: Any, address: str, run: str) -> dict[str, float]:
    """Return the seconds of each visit by a browser that has kept nothing."""
    taken = {}
    visits = {
        "first page": "#/",
        "a concept": f"#/concept/{run}/9000",
        "all concepts": f"#/set/{run}",
    }
    for name, path in visits.items():
        page: Page = browser.new_page(viewport={"width": 1400, "height": 1000})
        page.goto(f"{address}{path}")
        taken[name] = page.evaluate(SHOWN)
        if name != "a concept":
            page.locator("input[type=search]").first.focus()
            page.wait_for_timeout(1000)  # what is searched comes while one types
            for text in ("label 77", "lab", "zzz", "12345"):
                taken[f"search for {text!r} from {name}"] = page.evaluate(ASK, text)
        if name == "all concepts":
            begun = time.perf_counter()
            page.select_option("select >> nth=0", "name")
            taken["search: another order"] = time.perf_counter() - begun
        page.close()
    return taken
