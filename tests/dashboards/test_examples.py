"""Images of a concept beyond the strongest, and what is proposed where evidence is missing."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashboards.views.concepts import examples as ask
from dashboards.views.concepts.neurons import Words
from dashboards.views.concepts.one_concept import marked_range
from dashboards.views.concepts.snippets import missing_evidence
from fact.data.folder import ImageFolder
from fact.networks.foresight import refuse_masks
from fact.traces.by_concept import ENTRY
from registry.catalog.lineage import FinishedRuns, lineage_of
from registry.declare.declaration import read_declaration
from registry.plan.project import open_project
from tests.dashboards.test_pages import Open, app_test, open_page, tiles, told

__all__ = ["app_test", "open_page"]


def column(presence: list[float]) -> np.ndarray:
    """Return entries of a concept in images that follow each other; where it is 0, none."""
    entries = np.zeros(len(presence), ENTRY)
    entries["row"], entries["presence"] = np.arange(len(presence)), presence
    return entries[entries["presence"] != 0]


@given(st.lists(st.floats(0, 100, width=32), max_size=60), st.integers(0, 5))
def test_quarters_hold_every_image_once_and_do_not_overlap(
    presence: list[float], seed: int
) -> None:
    every = ask.across(column(presence), seed, count=len(presence))
    rows = [row for group in every for row in group.rows]
    assert sorted(rows) == [row for row, value in enumerate(presence) if value]
    for higher, lower in pairwise(every):
        assert higher.presence.min() >= lower.presence.max()
        assert len(higher.rows) - len(lower.rows) in (0, 1)
    some = ask.across(column(presence), seed)
    assert all(set(few.rows) <= set(all_of.rows) for few, all_of in zip(some, every, strict=True))


def test_what_is_drawn_at_random_says_its_seed_and_comes_again() -> None:
    entries = column([0, 1, 2, 3, 0, 5, 6, 7] * 5)
    one, again, other = (ask.at_random(entries, seed) for seed in (3, 3, 4))
    assert one.rows.tolist() == again.rows.tolist() != other.rows.tolist()
    assert len(set(one.rows)) == ask.AT_ONCE
    assert "30 images in which it is present" in one.note
    assert "seed 3" in one.note


def test_a_range_that_was_marked() -> None:
    found = ask.in_range(column([0, 1, 2, 3, 4, 5]), 2, 4, seed=0)
    assert (found.rows.tolist(), found.title) == ([4, 3, 2], "Presence 2 to 4: 3 images")
    assert marked_range({"selection": {"range": {"low": [4.5, 2.5]}}}) == (2.5, 4.5)
    assert marked_range({"selection": {"range": {}}}) is None
    assert marked_range(None) is None


def test_images_with_the_label_that_lack_the_concept() -> None:
    entries = column([0, 1, 0, 3, 2])
    lacking = ask.without(entries, np.array([0, 1, 2]), "red", seed=0)
    assert sorted(lacking.rows) == [0, 2]
    assert "Of the 3 images that show 'red', 2 lack the concept" in lacking.note
    weakest = ask.without(entries, np.array([3, 4]), "red", seed=0)
    assert (weakest.rows.tolist(), weakest.presence.tolist()) == ([4, 3], [2, 3])
    assert "present in each" in weakest.note
    assert "No image" in ask.without(entries, np.array([], int), "red", seed=0).note


def test_a_neuron_is_nowhere_absent() -> None:
    words = Words("neuron", "activation", "position")
    entries = column([0, 1, -2, 3, 2, 5, 4, 9, 8, 7, 6])
    lowest = ask.without(entries, np.array([0, 1, 2, 3]), '" the"', seed=0, words=words)
    assert (lowest.rows.tolist(), lowest.presence.tolist()) == ([2, 0, 1, 3], [-2, 0, 1, 3])
    assert lowest.note.startswith("Of the 4 positions that show '\" the\"', those in which")
    both, first, second = ask.pair(entries, entries, ("a", "b"), words=words)
    assert (both.rows.tolist(), len(first.rows), len(second.rows)) == ([7], 0, 0)
    assert "Strong: in its first 10 %" in both.note
    assert "activation" in ask.across(entries, 0, words=words)[0].title
    assert ask.strongest(entries, words=words).note == "Positions with the largest activation."


def test_images_are_read_where_they_are(open_page: Open, explained_template: Path) -> None:
    address = {"cell": "concepts", "side": ask.ACROSS}
    page = open_page(explained_template, "concepts", address)
    assert not page.exception
    assert "quarter: presence" in told(page).replace("\\", "")
    assert tiles(page)
    page = open_page(explained_template, "concepts", address | {"side": ask.RANDOM})
    assert "Drawn from the" in told(page)
    assert tiles(page)


def test_images_that_are_not_here_are_told(open_page: Open, judged: Path) -> None:
    page = open_page(judged, "concepts", {"concept": "0", "side": ask.RANDOM})
    assert not page.exception
    assert "Images cannot be shown" in told(page)
    assert "Can this name be trusted?" in told(page)


@pytest.mark.parametrize("known", [(), ("names",), ("names", "consistency", "matching")])
def test_what_is_proposed_can_be_declared(
    explained_template: Path, tmp_path: Path, known: tuple[str, ...]
) -> None:
    project = open_project(explained_template)
    lineage = lineage_of(project, FinishedRuns(project.store.root))
    text = missing_evidence(lineage, "concepts", known)
    proposed = tomllib.loads(text)["experiments"]
    made = {one["stage"] for one in proposed.values()}
    assert ("evals.match_concepts" in made) == ("matching" not in known)
    assert "evals.localise_concepts" in made
    file = tmp_path / "experiments.toml"
    file.write_text(f"{(explained_template / 'experiments.toml').read_text()}\n{text}\n")
    declared = read_declaration(file)
    assert set(proposed) <= set(declared.experiments)


def test_masks_come_first_where_a_folder_of_images_has_none(
    explained_template: Path, tmp_path: Path
) -> None:
    project, first = open_project(explained_template), "# First masks of what labels name"
    lineage = lineage_of(project, FinishedRuns(project.store.root))
    assert first not in missing_evidence(lineage, "concepts", ())  # of shapes, which have masks
    resource = lineage.graph.declaration.resources["shapes"]
    folder = ImageFolder(str(tmp_path))
    for masks, is_told in ((None, True), ("masks", False)):
        given = replace(resource, settings=replace(folder, masks=masks))
        declared = replace(lineage.graph.declaration, resources={"shapes": given})
        asked = replace(lineage, graph=replace(lineage.graph, declaration=declared))
        assert (first in missing_evidence(asked, "concepts", ())) == is_told
        assert bool(list(refuse_masks({}, {"images": given}))) == is_told


def test_two_concepts_side_by_side(open_page: Open, explained_template: Path) -> None:
    one, other = column([5, 0, 3, 2, 0]), column([1, 4, 0, 2, 0])
    both, first, second = ask.pair(one, other, ("a", "b"))
    assert (both.rows.tolist(), first.rows.tolist(), second.rows.tolist()) == ([0, 3], [2], [1])
    assert first.title == "Only a: 1 image"
    page = open_page(explained_template, "concepts", {"cell": "concepts", "with": "2"})
    assert not page.exception
    numbers = {number.label for number in page.metric}
    assert numbers >= {"cosine", "correlation"}
    assert "Both: " in told(page).replace("\\", "")
    page.button(key="close-pair").click().run()
    assert not page.metric
