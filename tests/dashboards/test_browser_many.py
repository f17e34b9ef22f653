"""Several readers at once in a real Chromium, while experiments run and publish."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from registry.execute.schedule import Watcher, run_plan
from registry.mongo.database import connect
from registry.plan.project import open_project
from registry.record.states import State
from tests.dashboards import test_browser
from tests.dashboards.test_browser import PATIENCE, Served, idle, picture, see, serve, surroundings

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = [pytest.mark.browser, test_browser.AGAIN]
browser = test_browser.browser

# `make faults` is the long form.
READERS, ROUNDS = (8, 4) if "FACTBOOK_FAULT_TRIALS" in os.environ else (2, 1)
PAGES = (
    *("", "concepts?concept=1", "decisions", "pipeline", "names", "compare"),
    *("concepts?section=The+whole+model", "?experiment=sae&run=sae&section=Dataset"),
)
BROKEN = ("damaged", "Cannot read", "did not answer", "Traceback")


def train_again_and_again(root: Path, rounds: int) -> None:
    """Change the declaration, and run all that is due then: an SAE, and what was made of it."""
    declaration = root / "experiments.toml"
    declared = declaration.read_text()
    for turn in range(rounds):
        changed = root / "changed.toml"
        changed.write_text(declared.replace("k = 4,", f"k = 4, seed = {turn + 1},"))
        os.replace(changed, declaration)
        project = open_project(root)
        outcomes = run_plan(project, project.plan(), runner="here", watcher=Watcher())
        assert len(outcomes) == 5, outcomes
        assert all(one.ending is State.COMPLETED for one in outcomes), outcomes


@pytest.fixture
def served(
    explained_template: Path, mongo_server: str, tmp_path: Path
) -> Iterator[tuple[Served, str]]:
    """A server of the dashboard for a project that can run, and its database."""
    root = shutil.copytree(explained_template, tmp_path / "project", symlinks=True)
    url = mongo_server.replace("/?", "/factbook_test_many?", 1)
    try:
        with serve(root, url) as address:
            yield Served(address, root), url
    finally:
        if database := connect(root, url):
            database.handle.client.drop_database(database.handle.name)
            database.close()


def test_readers_read_on_while_experiments_write(
    browser: Browser, served: tuple[Served, str]
) -> None:
    server, url = served
    program = "import sys; from pathlib import Path; from tests.dashboards import test_browser_many"
    program += "; test_browser_many.train_again_and_again(Path(sys.argv[1]), int(sys.argv[2]))"
    writer = subprocess.Popen(
        [sys.executable, "-c", program, str(server.root), str(ROUNDS)],
        env=surroundings(server.root, url),
        start_new_session=True,
    )
    with ExitStack() as stack:
        stack.callback(test_browser.stop, writer)
        contexts = [browser.new_context(reduced_motion="reduce") for _ in range(READERS)]
        for context in contexts:
            stack.callback(context.close)
        pages = [context.new_page() for context in contexts]
        turns = 0
        while writer.poll() is None:
            for place, page in enumerate(pages):
                path = PAGES[(place + turns) % len(PAGES)]
                page.goto(f"{server.address}/{path}", timeout=PATIENCE)
            for page in pages:
                check(page)
            turns += 1
        assert writer.returncode == 0
        assert turns >= 2, "readers did not read while it wrote"
        print(f"{turns} turns of {READERS} readers")
        page = pages[0]
        page.goto(f"{server.address}/?stage=fact.train_sae")
        see(page, f"{ROUNDS + 1} runs.")
        page.goto(f"{server.address}/concepts?concept=1")
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
