"""Figures of concepts and decisions for scripts and notebooks, of matplotlib.

Source: Parchami-Araghi et al., "FaCT", NeurIPS 2025, arXiv 2510.25512, figures 1 and 4.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from fact.traces.plots import EMPTY, class_name, filled, is_exact, over_white, pick, titled
from registry.figures import new_figure, require_variables
from registry.wording import counted

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FOR, AGAINST, WHOLE = "#4c72b0", "#c83732", "#6e6e73"
SIDE = 1.1  # inches of a picture


def plot_gallery(gallery: xr.Dataset, concept: int, *, title: str = "", most: int = 8) -> Figure:
    """Show the images in which a concept is strongest, each above what the concept looks for.

    Parameters
    ----------
    gallery : Dataset
        Of the schema ``gallery``.
    concept : int
        Which one.
    title : str
        A name for it.
    most : int
        Most images.

    Raises
    ------
    KeyError
        If the gallery does not hold the concept.
    RefusalError
        If matplotlib is not installed.
    ValueError
        If the dataset is of another schema.
    """
    require_variables(gallery, "gallery", "picture", "image", "presence")
    entry = pick(gallery, "concept", concept)
    shown = filled(entry)[:most]
    rows = 1 + ("explanation" in entry)
    figure = new_figure(SIDE * max(len(shown), 3), rows * SIDE + 0.8)
    figure.suptitle(titled(entry, concept, title) + ("" if shown else ": present in no image"))
    if shown:
        _draw_gallery(figure.subplots(rows, len(shown), squeeze=False), entry, gallery, shown)
    return figure


def plot_concept(
    concepts: xr.Dataset,
    concept: int,
    gallery: xr.Dataset | None = None,
    *,
    title: str = "",
    most: int = 8,
) -> Figure:
    """Show one concept: how present it is, which predictions it speaks for, and where it is.

    Parameters
    ----------
    concepts : Dataset
        Of the schema ``concepts``. May be larger than memory: one concept is read.
    concept : int
        Which one.
    gallery : Dataset, optional
        Of the schema ``gallery``.
    title : str
        A name for it.
    most : int
        Most images, and most classes.

    Raises
    ------
    KeyError
        If there is no such concept.
    RefusalError
        If matplotlib is not installed.
    ValueError
        If the dataset is of another schema.
    """
    require_variables(concepts, "concepts", "presence", "contribution", "prediction")
    own = pick(concepts[["presence", "contribution", "prediction"]], "concept", concept)
    has_gallery = gallery is not None
    figure = new_figure(SIDE * max(most, 6), (2 * SIDE + 0.8 if has_gallery else 0) + 2.6)
    figure.suptitle(_titled(concept, title))
    above, *below = figure.subfigures(1 + has_gallery, 1, squeeze=False)[:, 0]
    left, right = above.subplots(1, 2)
    _draw_presence(left, own["presence"].values)
    _draw_classes(right, own, concepts, most)
    if gallery is not None:
        entry = pick(gallery, "concept", concept)
        if shown := filled(entry)[:most]:
            axes = below[0].subplots(2, len(shown), squeeze=False)
            _draw_gallery(axes, entry, gallery, shown)
    return figure


def plot_decision(
    decisions: xr.Dataset, image: str, *, names: Mapping[int, str] | None = None
) -> Figure:
    """Show a decision: the image, and the contributions of its concepts, which add to the logit.

    Parameters
    ----------
    decisions : Dataset
        Of the schema ``decisions``, or what :func:`fact.explain_image` returns.
    image : str
        Id of the image.
    names : mapping of int to str, optional
        Names of concepts.

    Raises
    ------
    KeyError
        If there is no such image among the decisions.
    RefusalError
        If matplotlib is not installed.
    ValueError
        If the dataset is of another schema.
    """
    require_variables(decisions, "decisions", "picture", "top_concept", "contribution", "others")
    entry = pick(decisions, "image", image)
    rows = decision_rows(entry, names or {})
    figure = new_figure(8.5, max(3.2, 0.3 * len(rows) + 1.4))
    left, right = figure.subplots(1, 2, width_ratios=(1, 2))
    _draw_picture(left, entry["picture"].values)
    label, prediction = (class_name(int(entry[n]), decisions) for n in ("label", "prediction"))
    left.set_title(f"{image}\nlabel: {label}\nprediction: {prediction}", fontsize=9)
    _draw_waterfall(right, rows)
    target = int(entry["target"]) if "target" in entry else int(entry["prediction"])
    about = "" if is_exact(entry) else "; contributions are approximate"
    right.set_xlabel(f"logit of {class_name(target, decisions)}{about}")
    return figure


def gallery_figures(gallery: xr.Dataset, most: int = 4) -> Iterator[Figure]:
    """Yield the figures of the first concepts of a gallery, at most so many."""
    for concept in gallery["concept"].values[:most].tolist():
        yield plot_gallery(gallery, concept)


def decision_figures(decisions: xr.Dataset, most: int = 4) -> Iterator[Figure]:
    """Yield the figures of the first decisions, at most so many."""
    for image in decisions["image"].values[:most].tolist():
        yield plot_decision(decisions, image)


def decision_rows(entry: xr.Dataset, names: Mapping[int, str]) -> list[tuple[str, float]]:
    """Return what adds up to the logit of a decision: each concept, all others, an offset.

    Contributions that are an approximation miss the logit, by what is not accounted for.

    Parameters
    ----------
    entry : Dataset
        One image of the decisions.
    names : mapping of int to str
        Names of concepts.

    Returns
    -------
    list of (str, float)
        What it is, and its contribution to the logit.
    """
    concepts, values = (entry[name].values.tolist() for name in ("top_concept", "contribution"))
    rows = [
        (_titled(concept, names.get(concept, "")), value)
        for concept, value in zip(concepts, values, strict=True)
        if concept != EMPTY
    ]
    rows.append(("all others", float(entry["others"])))
    if "offset" in entry:
        rows.append(("offset", float(entry["offset"])))
    if not is_exact(entry):
        missed = float(entry["logit"]) - sum(value for _, value in rows)
        rows.append(("not accounted for", missed))
    return rows


def _titled(concept: int, title: str) -> str:
    return f"concept {concept}" + (f": {title}" if title else "")


def _draw_gallery(axes: Any, entry: xr.Dataset, gallery: xr.Dataset, shown: list[int]) -> None:
    labels = entry["label"].values if "label" in entry else None
    for column, rank in enumerate(shown):
        _draw_picture(axes[0, column], entry["picture"].values[rank])
        if "explanation" in entry:
            _draw_picture(axes[1, column], over_white(entry["explanation"].values[rank]))
        name = str(entry["image"].values[rank])
        text = name if labels is None else class_name(int(labels[rank]), gallery)
        axes[0, column].set_title(text, fontsize=7)
        axes[-1, column].set_xlabel(f"{float(entry['presence'].values[rank]):.3g}", fontsize=7)


def _draw_picture(axes: Axes, pixels: np.ndarray) -> None:
    axes.imshow(pixels)
    axes.set_xticks([])
    axes.set_yticks([])


def _draw_presence(axes: Axes, presence: np.ndarray) -> None:
    present = presence[presence > 0]
    axes.hist(present, bins=min(30, max(len(present), 1)), color=FOR)
    axes.set_xlabel("presence")
    axes.set_ylabel("images")
    axes.set_title(f"present in {len(present)} of {counted(len(presence), 'image')}", fontsize=9)


def _draw_classes(axes: Axes, own: xr.Dataset, concepts: xr.Dataset, most: int) -> None:
    """Draw the mean contribution to the logits of the classes that it is largest for."""
    means = own["contribution"].groupby(own["prediction"]).mean()
    chosen = means.isel(prediction=np.argsort(-np.abs(means.values), kind="stable")[:most])
    values = chosen.values[::-1]
    names = [class_name(int(c), concepts) for c in chosen["prediction"].values[::-1]]
    axes.barh(names, values, color=np.where(values < 0, AGAINST, FOR).tolist())
    axes.tick_params(axis="y", labelsize=8)
    about = "mean contribution" if is_exact(concepts) else "≈ mean contribution (approximate)"
    axes.set_title(f"{about} to the explained logit, by prediction", fontsize=9)
    axes.axvline(0, color=WHOLE, linewidth=0.8)


def _draw_waterfall(axes: Axes, rows: list[tuple[str, float]]) -> None:
    """Draw each contribution from where the one before it ended, and their sum."""
    values = np.array([value for _, value in rows])
    ends = values.cumsum()
    places = np.arange(len(rows))
    colours = np.where(values < 0, AGAINST, FOR).tolist()
    axes.barh(places, values, left=ends - values, color=colours)
    axes.barh(len(rows), ends[-1], color=WHOLE)
    starts, lengths = [*(ends - values), 0.0], [*values, ends[-1]]
    for place, (start, value) in enumerate(zip(starts, lengths, strict=True)):
        axes.annotate(
            f"{value:+.3g}",
            (max(start, start + value), place),
            xytext=(3, 0),
            textcoords="offset points",
            va="center",
            fontsize=7,
        )
    axes.set_yticks([*places, len(rows)], [*(name for name, _ in rows), "logit"], fontsize=8)
    axes.margins(x=0.12)
    axes.invert_yaxis()
    axes.axvline(0, color=WHOLE, linewidth=0.8)
