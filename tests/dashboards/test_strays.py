"""Files that nobody of us wrote, and words that nobody should have typed, on every page."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from dashboards.views.sections import RESULTS
from registry.plan.project import Project
from tests.dashboards import test_pages, test_result_pages, test_run_pages
from tests.dashboards.test_run_pages import Open, frames, told
from tests.faults.test_strays import nest, strew, strew_journals
from tests.registry.test_hostile import DEEPEST, HUGE, ODD

open_page = test_run_pages.open_page
open_concepts = test_pages.open_page
open_result = test_result_pages.open_page


@pytest.mark.parametrize("leave", [strew, strew_journals, nest])
def test_pages_of_runs_read_over_them(
    open_page: Open, lived_in: Project, leave: Callable[[Path], None]
) -> None:
    before = [len(frame) for frame in frames(open_page(lived_in, "", {"limit": "50"}))]
    leave(lived_in.root)
    for name in ("", "compare", "pipeline"):
        page = open_page(lived_in, name)
        assert not page.exception, name
    after = [len(frame) for frame in frames(open_page(lived_in, "", {"limit": "50"}))]
    assert after[0] >= before[0]


@pytest.mark.slow
def test_pages_of_datasets_read_over_them(
    open_concepts: Open, open_result: Open, mine: Project
) -> None:
    for leave in (strew_journals, nest, strew):
        leave(mine.root)
    for section in ("Concepts", "The whole model"):
        page = open_concepts(mine, "concepts", {"concept": "0", "section": section})
        assert not page.exception, section
        assert "damaged" not in told(page)
    for row in RESULTS:
        assert not open_result(mine, row.schema).exception, row.schema


@pytest.mark.parametrize("word", [HUGE[2], DEEPEST[0], ODD[0]])
def test_no_word_in_an_address_ends_in_a_traceback(
    open_page: Open, template: Path, word: str
) -> None:
    word = word.encode("utf-8", "replace").decode()  # as a browser sends it
    for key in ("where", "runs", "sort", "since", "limit", "columns", "experiment"):
        assert not open_page(template, "", {key: word}).exception, key
    assert not open_page(template, "", {"where": f"config.k>={word}"}).exception
    assert not open_page(template, "compare", {"runs": word}).exception
