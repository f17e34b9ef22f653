"""All concepts of a set in two dimensions, those near each other that are alike.

Laid out by t-SNE (van der Maaten and Hinton, JMLR 2008) of their cosines, with the interpolated
forces of Linderman et al. (Nature Methods 2019), as openTSNE computes them. Near ones are alike;
how far apart others are means nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import altair as alt
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dashboards.views.parts.charts import BLUE
from dashboards.views.parts.parts import Figure
from fact.traces.by_concept import Presences
from registry.suggest import needs_extras

MARKED = "point"
"""Name of the selection that a click on a concept makes."""

LEAST = 16
"""Concepts with a direction below which there is nothing to lay out."""

MANY = 4096
"""Concepts from which on fewer neighbours of each count."""

NEIGHBOURS = {"few": 90, "many": 45}
"""Three times the perplexity."""

EARLY, LATER = 200, 400
"""Iterations with exaggerated attraction, and without."""

ROWS = 1024
"""Concepts whose cosines with all are in memory at a time: 64 MB of 16,384."""


NEAREST = 0.3
"""Share of the time of laying out that it takes to find which are alike."""

TOLD = 20
"""Iterations after which it is told how far laying out is."""

SWEEPS, FEW_SWEEPS = 12, 6
"""Of the subspace that comes near the two main directions; where they are shown only roughly."""


def nearest(
    directions: NDArray[np.float32],
    count: int,
    progress: Callable[[float], None] = lambda share: None,
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return the most similar others of each of some directions.

    Parameters
    ----------
    directions : ndarray of float32, (channel, concept)
        Each of length 1.
    count : int
        Others of each; below the number of concepts.
    progress : callable
        Called with the share that is done.

    Returns
    -------
    (indices, cosines), each (concept, count)
        The most similar first.
    """
    concepts = directions.shape[1]
    indices = np.empty((concepts, count), np.int64)
    found = np.empty((concepts, count), np.float32)
    for start in range(0, concepts, ROWS):
        own = np.arange(start, min(start + ROWS, concepts))
        cosines = directions[:, own].T @ directions
        cosines[np.arange(len(own)), own] = -np.inf  # not itself
        first = np.argpartition(cosines, -count, axis=1)[:, -count:]
        values = np.take_along_axis(cosines, first, axis=1)
        order = np.argsort(-values, axis=1, kind="stable")
        indices[own] = np.take_along_axis(first, order, axis=1)
        found[own] = np.take_along_axis(values, order, axis=1)
        progress((start + len(own)) / concepts)
    return indices, found


def rough_map(directions: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return where the two main directions of all put concepts, (concept, 2), in a second.

    NaN of those without a direction, and of all where they are too few.
    """
    known = np.isfinite(directions).all(axis=0)
    found = np.full((directions.shape[1], 2), np.nan, np.float32)
    if known.sum() >= LEAST:
        own = directions if known.all() else np.ascontiguousarray(directions[:, known])
        found[known] = _main_directions(own, FEW_SWEEPS)
    return found


def _main_directions(directions: NDArray[np.float32], sweeps: int = SWEEPS) -> NDArray[np.float32]:
    """Return the two principal components of each concept, (concept, 2), by subspace iteration."""
    mean = directions.mean(axis=1, keepdims=True)
    base = np.random.default_rng(0).standard_normal((len(directions), 8)).astype(np.float32)
    for _ in range(sweeps):
        along = directions.T @ base - mean.T @ base
        base, _ = np.linalg.qr(directions @ along - mean * along.sum(axis=0))
    along = directions.T @ base - mean.T @ base
    _, _, turns = np.linalg.svd(along, full_matrices=False)
    return np.asarray(along @ turns[:2].T, np.float32)


def laid_out(
    directions: NDArray[np.float32], progress: Callable[[float], None] = lambda share: None
) -> NDArray[np.float32]:
    """Return where concepts lie, (concept, 2); NaN of those without a direction.

    Parameters
    ----------
    directions : ndarray of float32, (channel, concept)
        Each of length 1, or NaN; two concepts are as alike as the cosine of theirs.
    progress : callable
        Called with the share that is done.

    Raises
    ------
    RefusalError
        If openTSNE is not installed, with the command that installs it.
    """
    with needs_extras():
        from openTSNE import TSNEEmbedding, affinity, initialization, nearest_neighbors
    known = np.isfinite(directions).all(axis=0)
    found = np.full((directions.shape[1], 2), np.nan, np.float32)
    own = np.ascontiguousarray(directions[:, known])
    size = own.shape[1]
    if size < LEAST:
        return found
    count = min(NEIGHBOURS["many" if size > MANY else "few"], size - 1)
    indices, cosines = nearest(own, count, lambda share: progress(NEAREST * share))
    distances = np.sqrt(np.maximum(2 - 2 * cosines.astype(np.float64), 0))  # of ends of length 1
    affinities = affinity.PerplexityBasedNN(
        knn_index=nearest_neighbors.PrecomputedNeighbors(indices, distances),
        perplexity=max(2.0, count / 3),
        n_jobs=-1,
    )
    begin = initialization.rescale(_main_directions(own).astype(np.float64))
    begin = initialization.jitter(begin, random_state=0)  # equal ones would stay together
    forces = "fft" if size > MANY else "bh"
    points = TSNEEmbedding(
        begin, affinities, negative_gradient_method=forces, n_jobs=-1, random_state=0
    )

    def tell(begun: int) -> dict[str, Any]:
        def done(iteration: int, _error: float, _points: object) -> None:
            progress(NEAREST + (1 - NEAREST) * (begun + iteration) / (EARLY + LATER))

        return {"callbacks": done, "callbacks_every_iters": TOLD}

    points = points.optimize(n_iter=EARLY, exaggeration=12, momentum=0.5, **tell(0))
    points = points.optimize(n_iter=LATER, exaggeration=1, momentum=0.8, **tell(EARLY))
    found[known] = np.asarray(points)
    return found


def by_presence(presences: Presences) -> NDArray[np.float32]:
    """Return directions of concepts over images, whose cosines are correlations of presences.

    Parameters
    ----------
    presences : Presences
        All of them in memory: few images times few concepts.

    Returns
    -------
    ndarray of float32, (image, concept)
        Of length 1; NaN of a concept that is the same in all images.
    """
    concepts = len(presences.blocks[0].pointer) - 1 if presences.blocks else 0
    dense = np.zeros((presences.n_read, concepts), np.float32)
    for concept in range(concepts):
        column = presences.column(concept)
        dense[column["row"], concept] = column["presence"]
    dense -= dense.mean(axis=0)
    length = np.sqrt(np.einsum("ij,ij->j", dense, dense, dtype=np.float64))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(length > 1e-6, dense / length, np.nan), np.float32)


def _on_a_sheet(points: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return both coordinates in thousandths of the sheet that all fill, rounded: short to send."""
    known = points[np.isfinite(points).all(axis=1)].astype(np.float64)
    if not len(known):
        return points.T.astype(np.float64)
    width = np.maximum(np.ptp(known, axis=0), 1e-12)
    return np.asarray(((points - known.min(axis=0)) / width * 1000).round(1).T)


def map_figure(
    name: str, frame: pd.DataFrame, points: NDArray[np.float32], noun: str, by: str
) -> Figure:
    """Return the map of a set, whose points are its concepts.

    Parameters
    ----------
    name : str
        Of the file.
    frame : pd.DataFrame
        A row per concept: ``concept``, ``name``, and ``called`` where readers call some.
    points : ndarray, (row, 2)
        Where each lies; NaN where it lies nowhere.
    noun : str
        What one is called.
    by : str
        What it is by that near ones are alike, in words; "" of a map that is rough, on which they
        need not be.
    """
    told = frame["name"].astype(str).where(frame["name"].astype(str) != "", "no name")
    if "called" in frame:
        told += frame["called"].map(lambda own: f" “{own}”" if own else "")
    shown = pd.DataFrame(
        {
            "concept": frame["concept"].to_numpy(),
            "told": told.to_numpy(),
            **dict(zip("xy", _on_a_sheet(points), strict=True)),
        }
    ).dropna()
    hidden: dict[str, Any] = {
        "axis": None,
        "scale": alt.Scale(zero=False, nice=False, padding=12),
    }
    most = 30 if len(shown) > 2000 else 90
    chart: Any = alt.Chart(shown, height=560).mark_circle(
        color=BLUE,
        stroke="white",
        strokeWidth=0.5,
        opacity=0.75,
        size=most,
        cursor="pointer",
        aria=False,
    )
    chart = chart.encode(
        x=alt.X("x:Q", **hidden),
        y=alt.Y("y:Q", **hidden),
        tooltip=[alt.Tooltip("told:N", title="name"), alt.Tooltip("concept:Q", title=noun)],
    )
    chart = chart.add_params(alt.selection_point(name=MARKED, fields=["concept"]))
    means = (
        f"near ones are alike {by}. Distances between far ones mean nothing (t-SNE)."
        if by
        else "it lies where the two main directions of all put it, and near ones need not be alike."
    )
    note = (
        f"A point is a {noun.lower()}; {means} Click one to open it. The list of concepts has the "
        "same by name."
    )
    left_out = len(frame) - len(shown)
    if left_out:
        note += f" {left_out:,} that are the same everywhere lie nowhere."
    return Figure(name, chart, "", note)
