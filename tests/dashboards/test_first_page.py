"""The first page: concepts, chains with how far they are, the next command, and old addresses."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from dashboards.server.old_addresses import OldAddresses
from dashboards.views.parts.text import ago_text, unbroken
from dashboards.views.runs import chain
from dashboards.views.runs.one_run import Progress
from registry.catalog.access import Catalog
from registry.plan.project import Project, open_project
from registry.record.states import State
from tests.dashboards import fabricate
from tests.dashboards.fabricate import HOSTILE
from tests.dashboards.numerals import badly_written_of
from tests.dashboards.test_pages import Open, figures, open_page, told

__all__ = ["open_page"]


def html(page: Any) -> str:
    return "".join(element.proto.body for element in page.get("html"))


def test_a_project_at_a_glance(open_page: Open, template: Path) -> None:
    page = open_page(template, "")
    assert not page.exception
    assert page.header[0].value == "Overview"
    assert figures(page).count("<figure") == fabricate.CONCEPTS - 1, "the dead one has no picture"
    run = fabricate.run_uid("toy-concepts", 6)
    assert f"concepts?cell=toy-concepts&amp;run={run}&amp;concept=0" in figures(page)
    assert ">colour: red</a></strong><span>1 of 1 agree</span><span>concept 0</span>" in figures(
        page
    )
    for link in ("pipeline?task=toy-names", "pipeline?task=toy-sae%5Bk%3D8%5D", "runs?run="):
        assert link in html(page), link
    assert page.code[0].value.startswith("factbook run ")
    assert "Not declared yet: consistency" in told(page).replace("\\", "")
    assert "<b>" not in figures(page)
    assert badly_written_of(page) == []


def test_an_empty_project_gets_three_steps(
    open_page: Open, project: Project, tmp_path: Path
) -> None:
    run = ["factbook plan && factbook run", "factbook status"]
    page = open_page(project, "")
    assert not page.exception
    assert [code.value for code in page.code] == run, "what is declared need not be again"
    empty = fabricate.declare(tmp_path / "empty", "")
    page = open_page(empty, "")
    assert not page.exception
    lines, *others = [code.value for code in page.code]
    assert others == run
    (empty.root / "experiments.toml").write_text(lines)
    plan = open_project(empty.root).plan()
    assert "my-gallery" in [task.name for task in plan.tasks], "they can be pasted as they are"


def test_an_address_from_before_shows_runs(open_page: Open, template: Path) -> None:
    page = open_page(template, "", {"experiment": "toy-sae"})
    assert page.header[0].value == "Runs"
    assert len(page.dataframe[0].value) == 5


# -- the chain ------------------------------------------------------------------------------------


def test_a_chain_is_what_a_model_is_made_from_and_what_is_made_of_it(catalog: Catalog) -> None:
    cells = chain.chain_of(catalog.project, "toy-concepts")
    assert cells == ["toy-sae[k=8]", "toy-concepts", "toy-gallery", "toy-names"]


def test_a_link_says_how_far_it_is_and_what_asks_for_attention(catalog: Catalog) -> None:
    plan = catalog.plan(("toy-sae[k=8]", "toy-concepts", "toy-names"))
    tasks = {task.name: task for task in (*plan.settled, *plan.tasks)}
    sae = tasks["toy-sae[k=8]"]
    cell = replace(sae.cell, name="toy-sae[k=16]")
    running = replace(sae, cell=cell, state=replace(sae.state, status=State.RUNNING), reasons=())
    links = chain.links_of([running, *tasks.values()], lambda _: (Progress(3, 4, "passes"), 30.0))
    assert [link.name for link in links] == ["toy-sae", "toy-concepts", "toy-names"]
    assert (links[0].task, links[0].state, links[0].share) == ("toy-sae[k=16]", "running", 0.75)
    assert links[0].detail.startswith("75 %, about 10 s left · ")
    assert links[1].share is None


@pytest.mark.parametrize(
    ("progress", "seconds", "expected", "text"),
    [
        (Progress(1, 4, "passes"), 30.0, 500.0, "25 %, about 1 min 30 s left"),
        (None, 30.0, 50.0, "about 20 s left"),
        (None, 80.0, 50.0, ""),
        (None, None, None, ""),
        (Progress(0, 4, "passes"), 30.0, None, "0 %"),
    ],
)
def test_progress_in_words(
    progress: Progress | None, seconds: float | None, expected: float | None, text: str
) -> None:
    assert chain.progress_text(progress, seconds, expected) == text


def test_the_next_command_names_only_what_nothing_else_needs(project: Project) -> None:
    tasks = project.plan().tasks
    assert chain.next_command(tasks) == "factbook run 'toy-sae[k=16]' toy-gallery toy-names"
    assert chain.next_command([]) == chain.next_line([]) == ""
    first, second, third = [task for task in tasks if task.due][:3]
    slow = replace(first, seconds=45.0), replace(second, seconds=60.0), third
    told = chain.next_line(slow)
    assert told == "3 tasks: 3 never ran; at least 1 min 45 s, 1 of unknown duration."
    assert chain.next_line(slow[:2]) == "2 tasks: 2 never ran; about 1 min 45 s."
    running = replace(third, state=replace(third.state, status=State.RUNNING), reasons=())
    told = chain.next_line([*slow[:2], running])
    assert told.endswith(f"1 min 45 s. {third.name} is running: its command may go on with them.")


def test_texts_of_a_chain_are_escaped() -> None:
    link = chain.Link(HOSTILE, HOSTILE, "running", HOSTILE, 0.25)
    drawn = chain.chain_html([link] * (chain.MOST_LINKS + 2))
    assert "<b>" not in drawn
    assert "<script" not in drawn
    assert 'value="0.250"' in drawn
    assert "2 more experiments" in drawn


def test_a_running_run_says_how_long_it_has_been_running(catalog: Catalog) -> None:
    now = datetime(2026, 11, 30, 12, tzinfo=UTC)
    run = replace(next(iter(catalog.runs())), started=now - timedelta(seconds=103), seconds=90.0)
    for status, words in [
        ("RUNNING", "running for 1 min 43 s"),
        ("COMPLETED", "took 1 min 30 s"),
        ("DIED", "last sign of life after 1 min 30 s"),
    ]:
        assert unbroken(words) in chain.runs_html([replace(run, status=status)], now)


def test_how_long_ago() -> None:
    now = datetime(2026, 11, 30, 12, tzinfo=UTC)
    for seconds, text in [(0, "now"), (59, "59 s ago"), (7300, "2 h ago"), (200_000, "2 d ago")]:
        assert ago_text(now - timedelta(seconds=seconds), now) == text
    assert ago_text(None, now) == ""


# -- old addresses --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("base", "path", "query", "location"),
    [
        ("", "/", "run=7&section=Curves", "/runs?run=7&section=Curves"),
        ("", "/", "", None),
        ("", "/", "embed=true", None),
        ("", "/concepts", "concept=1", None),
        ("lab", "/lab/", "run=7", "/lab/runs?run=7"),
    ],
)
def test_old_addresses_lead_to_runs(base: str, path: str, query: str, location: str | None) -> None:
    async def served(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})

    sent: list[Mapping[str, Any]] = []

    async def send(message: Mapping[str, Any]) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": path, "query_string": query.encode()}
    asyncio.run(OldAddresses(served, base)({**scope, "headers": []}, None, send))  # type: ignore[arg-type]
    headers = dict(sent[0]["headers"])
    assert (sent[0]["status"], headers.get(b"location", b"").decode() or None) == (
        (307, location) if location else (200, None)
    )
