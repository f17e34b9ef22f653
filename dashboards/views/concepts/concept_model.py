"""A concept model as a whole: how many concepts there are, how often, how much they explain."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from dashboards.views.concepts.exactness import exactness_note
from dashboards.views.concepts.labels import CONSENSUS
from dashboards.views.concepts.neurons import is_of_neurons
from dashboards.views.concepts.training import training_figures
from dashboards.views.parts.charts import GREY, bars, binned, histogram, layers, lines, named_rule
from dashboards.views.parts.measured import beside_commonest, of_images, split_of
from dashboards.views.parts.parts import Figure, Note, Part, Table, file_name, frame_of
from dashboards.views.parts.text import number_text
from evals.naming.tables import NAMERS
from fact.fidelity.tables import BY_CASE, DENSE
from registry.columns import Column, ResultTable
from registry.wording import counted, verb

FREQUENCY_BINS = 30
MOST_RANKS = 400
LABELS_SHOWN = 20
COVERED = 0.999
DENSITIES = {"position_density": "of positions", "image_density": "of images"}
ABLATIONS = {
    "zero": "0 at every position",
    "mean": "each channel's mean at every position",
}
NAMELESS = "No names by this metric. Choose another under 'Named by'."


def _agreeing(names: xr.Dataset) -> xr.DataArray:
    agrees = ((names["name"] == names[CONSENSUS]) & (names["name"] != "")).sum("concept")
    return agrees / (names["name"] != "").sum("concept").clip(min=1)


METRICS = ResultTable(
    "metric",
    {
        "verdict": NAMERS.columns["verdict"],
        "votes": NAMERS.columns["votes"],
        "named": Column(
            ".1%",
            "named",
            "fraction of concepts that it names",
            lambda names: (names["name"] != "").mean("concept"),
        ),
        "labels": replace(NAMERS.columns["names"], header="labels"),
        "agrees": Column(
            ".1%", "as consensus", "fraction of its names that match the consensus", _agreeing
        ),
    },
)
"""Who names the concepts of a model, and how."""


def model_parts(
    cell: str,
    statistics: xr.Dataset,
    names: xr.Dataset | None = None,
    consistency: xr.Dataset | None = None,
    best: pd.DataFrame | None = None,
    fidelity: xr.Dataset | None = None,
    sae: xr.Dataset | None = None,
) -> list[Part]:
    """Return the figures and tables of a concept model.

    Parameters
    ----------
    cell : str
        The cell of the concepts.
    statistics : xr.Dataset
        Of the schema ``concepts``; (image, concept) is not needed. Neurons that are no concepts
        have neither frequencies nor contributions.
    names : xr.Dataset, optional
        Of the schema ``names``.
    consistency : xr.Dataset, optional
        Of the schema ``consistency``.
    best : pd.DataFrame, optional
        ``name`` by concept, as :func:`dashboards.views.concepts.labels.best_names` returns it.
    fidelity : xr.Dataset, optional
        Of the schema ``fidelity``.
    sae : xr.Dataset, optional
        Of the schema ``sae``; encoder and decoder are not needed.
    """
    parts: list[Part] = []
    if not is_of_neurons(statistics):
        parts += [frequency_figure(cell, statistics), coverage_figure(cell, statistics)]
    if best is not None:
        parts.append(labels_figure(cell, statistics, best))
    if consistency is not None:
        parts.append(consistency_figure(cell, consistency))
    if fidelity is not None:
        parts += [density_figure(cell, fidelity), fidelity_table(cell, fidelity)]
    if sae is not None:
        parts += training_figures(cell, sae)
    if names is not None:
        parts.append(metrics_table(cell, names))
    return parts if is_of_neurons(statistics) else [*parts, residual_note(statistics)]


def channels_note(cell: str) -> str:
    """Return what concepts are that no SAE has learnt."""
    return (
        f"No SAE behind {cell}: its concepts are the layer's own channels, the baseline for "
        "concepts."
    )


def frequency_figure(cell: str, statistics: xr.Dataset) -> Figure:
    """Return the histogram of how often concepts are present, on a logarithmic axis."""
    share = statistics["image_share"].values
    never = int((share == 0).sum())
    chart = histogram(
        frequency_bins(share, statistics.sizes["image"]),
        x_title="fraction of images in which a concept is present",
        y_title="concepts",
        x_log=True,
        x_form="~%",
    )
    note = (
        f"{never:,} of {counted(len(share), 'concept')}, present in no image, "
        f"{verb(never, 'is', 'are')} left out."
    )
    return Figure(file_name(cell, "frequency"), chart, "How often concepts are present", note)


def frequency_bins(
    share: NDArray[np.floating], images: int, bins: int = FREQUENCY_BINS
) -> pd.DataFrame:
    """Return a histogram over logarithmic bins as ``low``, ``high`` and ``value``, a count.

    Parameters
    ----------
    share : ndarray, (concept,)
        Fraction of the images in which each concept is present; zeros are left out.
    images : int
        Number of images: the lowest bin begins at one of them.
    bins : int
        Bins up to 1; fewer where the bins would be narrower than one image.
    """
    edges = np.logspace(np.log10(1 / max(images, 2)), 0, bins + 1)
    edges[-1] = 1.0
    # a share is a count over the images: rounding must not put the rarest below the first edge
    return binned(np.maximum(share[share > 0], edges[0]), edges)


def density_figure(cell: str, fidelity: xr.Dataset) -> Figure:
    """Return the histogram of how often concepts are active, on a logarithmic axis.

    Parameters
    ----------
    cell : str
        What is shown.
    fidelity : xr.Dataset
        Of the schema ``fidelity``.
    """
    count = int(fidelity["n_positions"])
    bins = [
        frequency_bins(fidelity[name].values, count).assign(series=of)
        for name, of in DENSITIES.items()
    ]
    chart = histogram(
        pd.concat(bins, ignore_index=True),
        x_title="fraction at which a concept is active",
        y_title="concepts",
        rules=[("dense", DENSE)],
        series=list(DENSITIES.values()),
        x_log=True,
        x_form="~%",
    )
    dead, dense, every = (
        int(fidelity[name]) for name in ("dead_concepts", "dense_concepts", "n_concepts")
    )
    note = (
        f"Of {counted(every, 'concept')} {dead:,} {verb(dead, 'is', 'are')} dead, active at no "
        f"position, and left out; {dense:,} "
        f"are dense, active at over {100 * DENSE:.0f} % of the positions."
    )
    return Figure(file_name(cell, "density"), chart, "How dense concepts are", note)


def fidelity_table(cell: str, fidelity: xr.Dataset) -> Table:
    """Return what the network says with concepts in the layer's place, beside itself."""
    ablation = fidelity["ablation"].item()
    of = of_images(int(fidelity["n_images"]), split_of(fidelity))
    labelled = f"{int(fidelity['n_labelled']):,} of them with a label"
    labelled = beside_commonest(labelled, fidelity)
    note = (
        f"{of.capitalize()}, {labelled}; ablated: {ABLATIONS.get(ablation, ablation)}. Recovered: "
        "0 % "
        "where concepts do no better than the ablated layer, 100 % where they do as well as the "
        "layer itself."
    )
    title = "What the network says with concepts in the layer's place"
    frame = frame_of(BY_CASE, fidelity)
    return Table(file_name(cell, "fidelity"), frame, title, note, BY_CASE.columns)


def coverage_figure(cell: str, statistics: xr.Dataset) -> Figure:
    """Return how much of the positive contribution the strongest concepts of an image hold."""
    chart = lines(
        coverage_frame(statistics["coverage"].values),
        x="concepts",
        y="share",
        x_title="strongest concepts of an image",
        y_title="fraction of positive contribution",
        x_log=True,
        domain=(0, 1),
        height=260,
    )
    needed = float(statistics["concepts_for_80"])
    whole: Any = chart + layers(*named_rule(f"80 % by {needed:.1f}", max(needed, 1.0), GREY))
    note = f"Mean over images. {number_text(needed)} concepts hold 80 % on average."
    note = f"{note} {exactness_note(statistics)}".strip()
    return Figure(file_name(cell, "coverage"), whole, "Concepts per decision", note)


def coverage_frame(coverage: NDArray[np.floating], most: int = MOST_RANKS) -> pd.DataFrame:
    """Return the curve as ``concepts``, from 1, and ``share``, as far as it rises visibly.

    Parameters
    ----------
    coverage : ndarray, (rank,)
        Share in the ``rank + 1`` strongest.
    most : int
        Points at most, evenly spaced on a logarithmic axis.
    """
    end = min(int((coverage < COVERED).sum()) + 1, len(coverage))
    ranks = np.unique(np.rint(np.geomspace(1, max(end, 1), most)).astype(np.int64))
    return pd.DataFrame({"concepts": ranks, "share": coverage[ranks - 1]})


def consistency_figure(cell: str, consistency: xr.Dataset) -> Figure:
    """Return the histogram of C2-scores, beside that of random maps."""
    random, mean = float(consistency["baseline"]), float(consistency["mean_score"])
    chart = histogram(
        score_bins(consistency),
        x_title="C2-score",
        y_title="fraction of concepts",
        rules=[("random maps", random), ("mean", mean)],
    )
    note = (
        f"{consistency['variant'].item()}. From "
        f"{counted(int(consistency['least_images']), 'image')} on."
    )
    return Figure(file_name(cell, "consistency"), chart, "Do concepts mean one thing?", note)


def score_bins(own: xr.Dataset) -> pd.DataFrame:
    """Return the histogram as ``low``, ``high``, ``value`` (fraction), from the first bin
    that holds a concept to the last, with an empty one on each side.
    """
    low, value = own["bin"].values, own["share"].values
    width = float(np.diff(low).mean()) if len(low) > 1 else 1.0
    frame = pd.DataFrame({"low": low, "high": low + width, "value": value})
    filled = np.flatnonzero(value > 0)
    if not len(filled):
        return frame
    return frame.iloc[max(0, filled[0] - 1) : filled[-1] + 2].reset_index(drop=True)


def labels_figure(cell: str, statistics: xr.Dataset, best: pd.DataFrame) -> Figure | Note:
    """Return which labels name most concepts: what the network tells apart."""
    frame = label_counts(best)
    if frame.empty:
        return Note(NAMELESS, "info")
    chart = bars(frame.head(LABELS_SHOWN), x_title="concepts with this name", form=",.0f")
    unnamed = statistics.sizes["concept"] - int(frame["value"].sum())
    more = f" The first {LABELS_SHOWN} of {len(frame):,}." if len(frame) > LABELS_SHOWN else ""
    note = f"{counted(unnamed, 'concept has', 'concepts have')} no name.{more}"
    return Figure(file_name(cell, "labels"), chart, "What the concepts are named", note)


def label_counts(best: pd.DataFrame) -> pd.DataFrame:
    """Return ``label`` and ``value``, how many concepts it names, the largest first."""
    counts = best.loc[best["name"] != "", "name"].value_counts()
    frame = pd.DataFrame({"label": counts.index.astype(str), "value": counts.to_numpy()})
    return frame.sort_values(["value", "label"], ascending=[False, True]).reset_index(drop=True)


def metrics_table(cell: str, names: xr.Dataset) -> Table:
    """Return what each metric names, and whether the sanity checks let it vote."""
    note = (
        "A metric passes if its score falls when labels of the ground-truth concept are removed, "
        "and when wrong ones are added (Oikarinen et al., ICML 2025)."
    )
    frame = frame_of(METRICS, names)
    return Table(file_name(cell, "metrics"), frame, "Who names them", note, METRICS.columns)


def residual_note(statistics: xr.Dataset) -> Note:
    """Return how exactly contributions add up, or that they are an approximation."""
    known = {
        "residual_mean": "mean {}",
        "residual_std": "standard deviation {}",
        "residual_max": "largest {}",
        "input_residual_max": "largest at the input {}",
    }
    texts = [
        text.format(number_text(float(statistics[name])))
        for name, text in known.items()
        if name in statistics
    ]
    return Note(
        "Residual of an image: |sum of contributions - logit| over the sum of absolute "
        f"contributions. {', '.join(texts).capitalize()}. {exactness_note(statistics)}".strip()
    )
