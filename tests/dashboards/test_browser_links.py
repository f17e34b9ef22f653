"""One value of experiments.toml changes under a dashboard, and yesterday's links are clicked."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from dashboards.views.sections import RESULTS
from evals.metrics.registered import list_metrics
from evals.schemas import IDENTIFICATION, SANITY
from registry.declare.stage import load_stage
from registry.mongo.database import OFF
from registry.plan.project import open_project
from tests.dashboards import fabricate, fabricate_results, test_browser
from tests.dashboards.audit import audit
from tests.dashboards.test_browser import (
    EXPLAINING_NOTHING,
    Served,
    asked,
    idle,
    look_at_it_dark,
    look_at_it_narrow,
    picture,
    see,
    serve,
    tiles,
    titled_and_readable,
    visit,
)
from tests.dashboards.test_links import CONCEPTS, GALLERY, NAMES

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = [pytest.mark.browser, test_browser.AGAIN]
browser, context = test_browser.browser, test_browser.context
address, page = test_browser.address, test_browser.page


@pytest.fixture(scope="module")
def served(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server of the dashboard for a project of its own, whose declaration may be changed."""
    root = shutil.copytree(template, tmp_path_factory.mktemp("links") / "project", symlinks=True)
    declare_metrics(root)
    declare_others(root)
    with serve(root, OFF, EXPLAINING_NOTHING) as address:
        yield Served(address, root, OFF)


MEASURED = {"metric-sanity": "check", "metric-known": "identify"}
"""Experiments with results of all metrics, and their stages."""

MEASURED_BY = ("sanity", "identification")
"""Their schemas."""

OTHERS = (
    *("toy-comparison", "toy-consistency", "toy-intervention", "toy-matching"),
    *("toy-fidelity", "toy-localisation", "toy-scores"),
)
"""Experiments with one result of every other kind."""


def declare_metrics(root: Path) -> None:
    """Add results of all metrics that there are to a project."""
    names = [*list_metrics()]
    with (root / "experiments.toml").open("a") as declaration:
        for cell, stage in MEASURED.items():
            declaration.write(f'\n[experiments.{cell}]\nstage = "tests.dashboards.toy.{stage}"\n')
    project = open_project(root)
    few = (fabricate_results.sanity(), fabricate_results.identification())
    for cell, own, schema in zip(MEASURED, few, (SANITY, IDENTIFICATION), strict=True):
        rows = np.arange(len(names)) % own.sizes["metric"]
        every = own.isel(metric=rows).assign_coords(metric=np.array(names, dtype=object))
        fabricate.store(project, cell, every, schema, fabricate.run_uid(cell, 40))


def declare_others(root: Path) -> None:
    """Add results of all other kinds to a project."""
    heads = tuple(f"[experiments.{name}]" for name in OTHERS)
    parts = fabricate_results.DECLARATION.split("\n\n")
    own = [part for part in parts if part.startswith(heads)]
    with (root / "experiments.toml").open("a") as declaration:
        declaration.write("\n" + "\n\n".join(own).replace('"toy-sae"', '"toy-sae[k=8]"') + "\n")
    project = open_project(root)
    for cell, dataset in fabricate_results.outputs():
        if cell.partition("[")[0] in OTHERS:
            schema = load_stage(project.cell(cell).stage).output
            fabricate.store(project, cell, dataset, schema, fabricate.run_uid(cell, 41))


def test_results_of_all_metrics_take_three_screens_at_most(page: Page, address: str) -> None:
    height = "document.querySelector('[data-testid=stMain]').scrollHeight"
    for path, told in (("sanity", "pass the sanity checks"), ("known-neurons", "find the known")):
        visit(page, f"{address}/{path}")
        see(page, told)
        page.locator("[data-testid=stVegaLiteChart] svg, canvas").first.wait_for()
        idle(page)
        assert page.evaluate(height) <= 3300
        picture(page, path)
        audit(page)
        look_at_it_dark(page, f"{path}-dark")
        look_at_it_narrow(page, path)
    page.get_by_text("Split by split").first.click()
    see(page, "Each split lets other neurons choose")


@pytest.mark.parametrize("path", [row.path for row in RESULTS if row.schema not in MEASURED_BY])
def test_results_can_be_read_by_everyone(page: Page, address: str, path: str) -> None:
    [title] = [row.title for row in RESULTS if row.path == path]
    visit(page, f"{address}/{path}")
    titled_and_readable(page, title)
    page.locator("[data-testid=stVegaLiteChart] svg, canvas").first.wait_for()
    for fold in page.locator("[data-testid=stExpander] summary").all():
        fold.click()
    idle(page)
    audit(page)
    look_at_it_dark(page, f"{path}-dark")
    look_at_it_narrow(page, path)


def test_yesterdays_links_open_the_same_with_a_banner(
    page: Page, address: str, served: Served
) -> None:
    visit(page, f"{address}/concepts?concept=1&metric=iou")
    see(page, "Concept 1: shape: <b>star</b>")
    named = asked(page, f"run={CONCEPTS}", f"beside={NAMES}", f"beside={GALLERY}")
    yesterday, number = page.url, tiles(page)
    assert page.get_by_text("not what experiments.toml").count() == 0

    declaration = served.root / "experiments.toml"
    needs = 'needs = { sae = "toy-sae[k=8]" }'
    if "config.k" not in declaration.read_text():
        declaration.write_text(declaration.read_text().replace(needs, f"{needs}\nconfig.k = 9"))

    visit(page, yesterday)
    see(page, "Concept 1: shape: <b>star</b>")
    see(page, "not what experiments.toml now asks for as toy-concepts")
    see(page, "k: 8 in this run, 9 now")
    see(page, "factbook run toy-concepts")
    assert tiles(page) == number
    assert asked(page, f"run={CONCEPTS}") == named
    picture(page, "yesterdays-link")

    page.get_by_text("The run that made this", exact=True).click()
    see(page, "COMPLETED")
    asked(page, f"run={CONCEPTS}")
    idle(page)
    page.get_by_text("Open", exact=True).click()
    see(page, "k: 8 in this run, 9 now")
    asked(page, "/concepts", f"run={CONCEPTS}")
    idle(page)

    page.get_by_role("link", name="Decisions").first.click()
    see(page, "not what experiments.toml now asks for as toy-concepts")
    asked(page, "/decisions", f"run={CONCEPTS}")
