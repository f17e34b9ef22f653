"""The map of all concepts: near ones are alike, and it is computed once."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import streamlit as st
from numpy.testing import assert_allclose
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.manifold import trustworthiness
from sklearn.metrics.pairwise import cosine_similarity

from dashboards.server import map_cache
from dashboards.server.map_cache import ConceptMap, Points
from dashboards.views.concepts import concept_map
from dashboards.views.concepts.concept_map import (
    by_presence,
    laid_out,
    map_figure,
    nearest,
    rough_map,
)
from fact.traces.by_concept import Block, Presences
from registry.plan.project import Project
from tests.dashboards.fabricate import HOSTILE
from tests.dashboards.numerals import badly_written
from tests.dashboards.test_pages import Open, open_page, told

__all__ = ["open_page"]


@pytest.fixture(scope="module")
def families() -> NDArray[np.float32]:
    """Directions of 240 concepts in 20 families, (channel, concept)."""
    random = np.random.default_rng(0)
    centres = random.standard_normal((20, 48))
    own = centres[np.arange(240) % 20] + 0.6 * random.standard_normal((240, 48))
    return (own / np.linalg.norm(own, axis=1, keepdims=True)).T.astype(np.float32)


def test_the_nearest_are_those_of_all_cosines(
    families: NDArray[np.float32], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(concept_map, "ROWS", 100)
    indices, cosines = nearest(families, 7)
    every = cosine_similarity(families.T)
    np.fill_diagonal(every, -2)
    assert_allclose(cosines, -np.sort(-every, axis=1)[:, :7], atol=1e-6)
    assert_allclose(np.take_along_axis(every, indices, axis=1), cosines, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("many", [concept_map.MANY, 100], ids=["few", "many"])
def test_near_ones_are_alike_and_silent_ones_lie_nowhere(
    families: NDArray[np.float32], many: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(concept_map, "MANY", many)  # above it the forces are interpolated
    monkeypatch.setattr(concept_map, "EARLY", 60)
    monkeypatch.setattr(concept_map, "LATER", 60 if many == 100 else 200)
    directions = families.copy()
    directions[:, 5] = np.nan
    points = laid_out(directions)
    assert np.isnan(points[5]).all()
    known = np.arange(240) != 5
    kept = trustworthiness(directions.T[known], points[known], n_neighbors=8, metric="cosine")
    assert kept > 0.9, "scikit-learn counts which neighbours on the map are none in the layer"
    assert_allclose(laid_out(directions), points, err_msg="the same each time")
    assert np.isnan(laid_out(directions[:, :15])).all(), "too few to lay out"


def test_presences_are_alike_by_their_correlation() -> None:
    random = np.random.default_rng(1)
    dense = random.gamma(1.0, 1.0, (50, 9)) * (random.random((50, 9)) < 0.5)
    dense[:, 4] = 0
    blocks = [Block.of(a, dense[a : a + 20].astype(np.float32)) for a in (0, 20, 40)]
    found = by_presence(Presences(50, blocks))
    assert np.isnan(found[:, 4]).all()
    with np.errstate(invalid="ignore"):
        expected = np.corrcoef(dense, rowvar=False)
    known = np.arange(9) != 4
    assert_allclose((found.T @ found)[known][:, known], expected[known][:, known], atol=1e-5)


def test_the_rough_map_is_by_the_two_main_directions(families: NDArray[np.float32]) -> None:
    directions = families.copy()
    directions[:, 5] = np.nan
    known = np.arange(240) != 5
    found = rough_map(directions)
    assert np.isnan(found[5]).all()
    expected = PCA(2).fit_transform(directions.T[known])
    alike = np.abs(cosine_similarity(found[known].T, expected.T))
    assert_allclose(alike, np.eye(2), atol=0.02)  # either sign
    assert np.isnan(rough_map(directions[:, :15])).all(), "too few to lay out"


def a_map(folder: Path, calls: list[int], waited: threading.Event) -> ConceptMap:
    """Return a map of three concepts, rough until an event is set."""

    def lay_out(directions: Points, progress: Callable[[float], None]) -> Points:
        calls.append(1)
        progress(0.5)
        assert waited.wait(60)
        return 2 * directions

    points = np.arange(6, dtype=np.float32).reshape(3, 2)
    return ConceptMap(folder, "digest", 3, lambda: points, lambda own: own, lay_out)


def test_a_map_is_laid_out_once_and_again_where_it_is_damaged(tmp_path: Path) -> None:
    calls: list[int] = []
    waited = threading.Event()
    first = a_map(tmp_path, calls, waited)
    for _ in range(2):
        assert first.look(patience=0).tolist() == [[0, 1], [2, 3], [4, 5]]
        assert first.is_busy, "nobody waits for it"
    waited.set()
    laid = [[0, 2], [4, 6], [8, 10]]
    assert first.look(60).tolist() == laid
    assert first.share == 0.5, "as it was told"
    assert a_map(tmp_path, calls, waited).look(60).tolist() == laid
    assert len(calls) == 1
    [path] = (tmp_path / ".factbook" / "cache").glob("map-*.npy")
    path.write_bytes(path.read_bytes()[:-5])
    assert a_map(tmp_path, calls, waited).look(60).tolist() == laid
    assert len(calls) == 2


def test_many_are_laid_out_when_their_rough_map_was_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(map_cache, "SOON", 2)
    monkeypatch.setattr(map_cache, "AFTER", 3600.0)
    waited = threading.Event()
    waited.set()
    known = a_map(tmp_path, [], waited)
    for _ in range(2):
        assert known.is_rough(known.look(60))
        known.begin()
        assert not known.is_busy
        assert not known.is_over
    monkeypatch.setattr(map_cache, "AFTER", 0.0)
    known.begin()
    assert not known.is_rough(known.look(60))
    assert known.is_over


def test_what_laying_out_raises_is_raised_to_who_looks(tmp_path: Path) -> None:
    def refuse(directions: Points, progress: Callable[[float], None]) -> Points:
        raise ValueError("not installed")

    nowhere = np.zeros((3, 2), np.float32)
    known = ConceptMap(tmp_path, "digest", 3, lambda: nowhere, lambda own: own, refuse)
    for _ in range(2):
        with pytest.raises(ValueError, match="not installed"):
            known.look(60)


def test_the_map_tells_names_and_says_what_it_means() -> None:
    frame = pd.DataFrame({"concept": [4, 2, 7], "name": [HOSTILE, "", "red"]})
    frame["called"] = ["", "mine", ""]
    points = np.array([[0.123456, 1], [2, 3], [np.nan, np.nan]], np.float32)
    figure = map_figure("toy-map", frame, points, "Concept", "by their directions in the layer")
    shown = figure.chart.data
    assert shown["concept"].tolist() == [4, 2]
    assert shown["told"].tolist() == [HOSTILE, "no name “mine”"]
    assert "1 that are the same everywhere" in figure.note
    assert badly_written(figure.note) == []
    assert "near ones are alike by their directions" in figure.note
    rough = map_figure("toy-map", frame, points, "Concept", "")
    assert "near ones need not be alike" in rough.note
    assert badly_written(rough.note) == []
    assert "<svg" in figure.svg()


def test_the_page_shows_the_map(
    open_page: Open, mine: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(concept_map, "LEAST", 5)
    page = open_page(mine, "concepts", {"section": "Map"})
    assert not page.exception
    assert "near ones are alike by their directions in the layer" in told(page).replace("\\", "")
    assert len(page.get("vega_lite_chart")) == 1
    monkeypatch.setattr(concept_map, "LEAST", 16)
    st.cache_resource.clear()
    shutil.rmtree(mine.root / ".factbook" / "cache", ignore_errors=True)
    page = open_page(mine, "concepts", {"section": "Map"})
    assert "Too few concepts" in page.info[0].value
