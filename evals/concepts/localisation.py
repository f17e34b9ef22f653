"""Is a concept where its label is? Maps of concepts against masks of objects.

Three measures of one map and one mask, each in [0, 1]:

- *pointing*: whether the map's maximum falls into the mask, or within a tolerance of it (the
  pointing game; Zhang et al., "Top-down Neural Attention by Excitation Backprop", IJCV 126, 2018);
- *energy*: the fraction of the map's positive part that lies in the mask (Wang et al., "Score-CAM",
  CVPR workshops 2020, call it the energy-based pointing game);
- *iou*: intersection over union of the mask and the fewest cells that hold a stated fraction of the
  positive part.

Each is compared with chance: with a map that carries no location (of uniform value, of one random
cell, of as many random cells), and with the concept's own maps on the masks of its other images,
which know where such objects usually are, and nothing else.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import xarray as xr
from scipy.ndimage import distance_transform_edt

import registry
from evals.concepts.approximate import approximate_maps, maps_note
from evals.concepts.config import (
    CONSENSUS,
    KEEP,
    LOCALISATION_OPTIONS,
    LocalisationConfig,
    LocalisationOptions,
)
from evals.kernels.arrays import to_dataset, to_labelled
from evals.kernels.statistics import Shaped, divide, mean_defined
from evals.naming.named_datasets import choosing_ids
from evals.naming.verdicts import AT_CHANCE, UNTESTED, chance_of
from evals.scoring.labelled import quote_some
from evals.scoring.seen_images import count_seen, seen_line
from registry.columns import Column, ResultTable
from registry.suggest import nearest
from registry.terminal import text_table
from registry.wording import counted, verb

MEASURES = ("pointing", "energy", "iou")
MAPS = {"map": ("concept", "rank", "y", "x"), "image": ("concept", "rank")}
MASKS = {
    "mask": ("image", "object", "y", "x"),
    "carries": ("image", "object", "label"),
    "image": ("image",),
    "label": ("label",),
}
"""Dimensions of what `localise` is given, where it comes as plain arrays."""

BLOCK = 32  # concepts whose maps, and the masks of whose images, are in memory at once


@dataclass(frozen=True)
class Locations:
    """Where one concept is in each of its images, cells in a row; each array is (image, cell).

    Attributes
    ----------
    peak : ndarray
        Fraction of each cell in the maximum: 1 in the largest, divided among equal ones.
    energy : ndarray
        Fraction of each cell in the positive part.
    top : ndarray of bool
        The fewest cells that hold the stated fraction of it, and those equal to the least of them.
    """

    peak: np.ndarray
    energy: np.ndarray
    top: np.ndarray

    @classmethod
    def of(cls, maps: np.ndarray, mass: float) -> Locations:
        """Read maps (image, y, x), every one with a positive part."""
        positive = np.maximum(maps.reshape(len(maps), -1), 0).astype(np.float64)
        largest = positive == positive.max(axis=1, keepdims=True)
        energy = positive / positive.sum(axis=1, keepdims=True)
        return cls(largest / largest.sum(axis=1, keepdims=True), energy, _fewest(energy, mass))


def _fewest(energy: np.ndarray, mass: float) -> np.ndarray:
    """Return the fewest cells (image, cell) that hold a fraction of the energy."""
    descending = -np.sort(-energy, axis=1)
    held = np.cumsum(descending, axis=1)
    enough = (held < mass * held[:, -1:] * (1 - 1e-12)).sum(axis=1)  # cells but one
    least = descending[np.arange(len(energy)), np.minimum(enough, energy.shape[1] - 1)]
    return np.asarray((energy >= least[:, None]) & (energy > 0))


def compare(
    locations: Locations, masks: np.ndarray, tolerance: float = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Measure every map of a concept against every mask.

    Parameters
    ----------
    locations : Locations
        Of maps (map, y, x).
    masks : ndarray of bool
        (mask, y, x), none of them empty.
    tolerance : float
        Distance from a mask, in cells, up to which a maximum counts as in it.

    Returns
    -------
    score, chance : ndarray
        (measure, map, mask), in the order of `MEASURES`: what is measured, and the same for a map
        that carries no location. The chance of an IoU is that of the expected overlap, which lies
        a little below the expected IoU.
    """
    flat = masks.reshape(len(masks), -1).astype(np.float64)
    near = flat if not tolerance else np.stack([_near(mask, tolerance) for mask in masks])
    n_cells, area = flat.shape[1], flat.sum(axis=1)
    size = locations.top.sum(axis=1)[:, None]
    both = locations.top.astype(np.float64) @ flat.T
    expected = size * area / n_cells
    score = [locations.peak @ near.T, locations.energy @ flat.T, both / (size + area - both)]
    chance = [near.mean(axis=1), area / n_cells, expected / (size + area - expected)]
    return np.stack(score), np.stack([np.broadcast_to(one, both.shape) for one in chance])


def _near(mask: np.ndarray, tolerance: float) -> np.ndarray:
    return np.asarray((distance_transform_edt(~mask) <= tolerance).astype(np.float64).ravel())


def localise(
    maps: xr.Dataset | Mapping[str, Any],
    masks: xr.Dataset | Mapping[str, Any],
    names: Shaped | Sequence[str] | None = None,
    options: LocalisationOptions = LOCALISATION_OPTIONS,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> xr.Dataset:
    """Measure whether concepts are where their labels are.

    Parameters
    ----------
    maps : xr.Dataset, or mapping of str to array
        ``map`` (concept, rank, y, x) and ``image`` (concept, rank): ids, "" for none. May be lazy.
    masks : xr.Dataset, or mapping of str to array
        ``mask`` (image, object, y, x) bool and ``carries`` (image, object, label) bool, of these
        images at least, in the same cells; the names of these, ``image`` and ``label``.
    names : array or sequence of str, optional
        (concept,) the label of each concept, "" for none; those of other concepts are passed over.
    options : LocalisationOptions
        How.
    progress : callable
        Called with the number of concepts done and their total.

    Returns
    -------
    xr.Dataset
        Of schema ``localisation``. Scores of a name are means over those of the concept's images
        that show it with a mask; NaN where there is none. The best labels are those of the
        largest gain: score above chance, averaged over all of the concept's images, 0 where the
        label is not shown: a label gains from every image that shows it, broad ones from more.

    Raises
    ------
    ValueError
        If masks are missing for an image, or have other cells than the maps.
    """
    maps, masks = to_dataset(maps, MAPS, "maps"), to_dataset(masks, MASKS, "masks")
    if "concept" not in maps.coords:
        maps = maps.assign_coords(concept=np.arange(maps.sizes["concept"]))
    cells = [f"{data.sizes['y']} x {data.sizes['x']}" for data in (maps, masks)]
    if cells[0] != cells[1]:
        raise ValueError(f"maps have {cells[0]} cells, masks {cells[1]}")
    name_of = _names_of(maps["concept"].values, names)
    rows = []
    for start in range(0, len(name_of), BLOCK):
        some = maps[["map", "image"]].isel(concept=slice(start, start + BLOCK)).load()
        own = _read_masks(masks, some["image"].values)
        for index in range(some.sizes["concept"]):
            one, name = some.isel(concept=index), name_of[start + index]
            generator = np.random.default_rng([options.seed, int(one["concept"])])
            rows.append(_localise_one(one, own, name, options, generator))
        progress(start + some.sizes["concept"], len(name_of))
    dims = ("concept", "measure", "rank")
    found = {key: np.stack([row[key] for row in rows]) for key in rows[0]}
    named = xr.Dataset(
        {
            "name": ("concept", np.array(name_of, dtype=object)),
            **{key: (dims[: values.ndim], values) for key, values in found.items()},
        },
        {
            "concept": maps["concept"].values,
            "measure": list(MEASURES),
            "rank": np.arange(options.n_ranks),
        },
    )
    return named.merge(_summarise(named, set(masks["label"].values.astype(str).tolist())))


def _read_masks(masks: xr.Dataset, images: np.ndarray) -> xr.Dataset:
    """Return the masks of images in memory, "" passed over."""
    ids = sorted(set(images.astype(str).ravel().tolist()) - {""})
    indices = masks.indexes["image"].get_indexer(ids)
    if (indices < 0).any():
        missing = [name for name, index in zip(ids, indices, strict=True) if index < 0]
        raise ValueError(f"masks lack {counted(len(missing), 'image')}, as {missing[0]!r}")
    own = masks[["mask", "carries"]].isel(image=indices).load().astype(bool)
    return own.transpose("image", "object", "label", "y", "x")


def _masks_by_label(
    masks: xr.Dataset, images: np.ndarray
) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Yield every label, which of the images show it, and its masks in them.

    An image's mask of a label is the union of those of the objects that carry it.
    """
    rows = masks.indexes["image"].get_indexer(images)
    objects, carries = masks["mask"].values[rows], masks["carries"].values[rows]
    labels = masks["label"].values.astype(str).tolist()
    for label in np.flatnonzero(carries.any(axis=(0, 1))).tolist():
        own = (objects & carries[:, :, label, None, None]).any(axis=1)
        shown = np.flatnonzero(own.any(axis=(1, 2)))
        if len(shown):
            yield labels[label], shown, own[shown]


def _names_of(concepts: np.ndarray, given: Shaped | Sequence[str] | None) -> list[str]:
    if given is None:
        return [""] * len(concepts)
    names = to_labelled(given, ("concept",), "names")
    named = names["concept"].values if "concept" in names.coords else concepts
    if len(named) != names.size:
        raise ValueError(f"expected names of {counted(len(named), 'concept')}; got {names.size}")
    known = dict(zip(named.tolist(), names.values.astype(str).tolist(), strict=True))
    return [str(known.get(concept, "")) for concept in concepts.tolist()]


def _localise_one(
    one: xr.Dataset,
    masks: xr.Dataset,
    name: str,
    options: LocalisationOptions,
    generator: np.random.Generator,
) -> dict[str, Any]:
    """Return what is known of one concept."""
    images, maps = one["image"].values.astype(str), one["map"].values
    is_mapped = images != ""
    kept = is_mapped & (maps > 0).any(axis=(1, 2))
    n_measures = len(MEASURES)
    nothing = np.empty((n_measures, 0, 0)), np.empty((n_measures, 0))
    found: dict[str, Any] = {
        "n_images": int(is_mapped.sum()),
        "n_empty": int((is_mapped & ~kept).sum()),
        "n_shown": 0,
        "gain": np.full(n_measures, np.nan),
        **_describe(*nothing, options, generator),
    }
    gains: dict[str, np.ndarray] = {}
    if kept.any():
        locations = Locations.of(maps[kept], options.mass)
        for label, shown, own_masks in _masks_by_label(masks, images[kept]):
            own = Locations(locations.peak[shown], locations.energy[shown], locations.top[shown])
            score, chance = compare(own, own_masks, options.tolerance)
            own_score, own_chance = (np.diagonal(one, axis1=1, axis2=2) for one in (score, chance))
            gains[label] = (own_score - own_chance).sum(axis=1) / kept.sum()
            if label == name:
                found |= _describe(score, own_chance, options, generator)
                found |= {"n_shown": len(shown), "gain": gains[label]}
    return found | _rank(gains, options.n_ranks)


def _describe(
    score: np.ndarray,
    own_chance: np.ndarray,
    options: LocalisationOptions,
    generator: np.random.Generator,
) -> dict[str, np.ndarray]:
    """Return what is known of a concept's name (measure,), from (measure, map, mask)."""
    own_score = np.diagonal(score, axis1=1, axis2=2)
    n_images = own_score.shape[1]
    others = score.sum(axis=(1, 2)) - own_score.sum(axis=1)
    lift = own_score - own_chance
    low, high = _interval(own_score, options, generator)
    lift_low, lift_high = _interval(lift, options, generator)
    return {
        "score": mean_defined(own_score, axis=1),
        "interval_low": low,
        "interval_high": high,
        "chance": mean_defined(own_chance, axis=1),
        "elsewhere": divide(others, np.array(n_images * (n_images - 1))),
        "lift": mean_defined(lift, axis=1),
        "lift_low": lift_low,
        "lift_high": lift_high,
    }


def _interval(
    values: np.ndarray, options: LocalisationOptions, generator: np.random.Generator
) -> np.ndarray:
    """Return the bootstrap interval (2, measure) of the mean over images of (measure, image)."""
    n_images = values.shape[1]
    if not options.n_bootstrap or n_images < 2:
        return np.full((2, len(values)), np.nan)
    shares = np.full(n_images, 1 / n_images)
    drawn = generator.multinomial(n_images, shares, size=options.n_bootstrap)
    tail = (1 - options.confidence) / 2
    return np.asarray(np.quantile(values @ drawn.T / n_images, [tail, 1 - tail], axis=1))


def _rank(gains: dict[str, np.ndarray], n_ranks: int) -> dict[str, np.ndarray]:
    """Return the labels of the largest gain (measure, rank) and that gain."""
    top = np.full((len(MEASURES), n_ranks), "", dtype=object)
    gain = np.full(top.shape, np.nan)
    labels = list(gains)
    for measure in range(len(MEASURES)):
        values = np.array([gains[label][measure] for label in labels])
        best = np.argsort(-values, kind="stable")[:n_ranks]
        top[measure, : len(best)] = [labels[index] for index in best]
        gain[measure, : len(best)] = values[best]
    return {"top_label": top, "top_gain": gain}


def _summarise(named: xr.Dataset, masked: set[str]) -> xr.Dataset:
    """Return what is said of all concepts together."""
    names = named["name"].values
    has_name, has_mask = names != "", np.array([name in masked for name in names], dtype=bool)
    shown = named["n_shown"].values > 0
    judged = ~np.isnan(named["lift_low"].values[:, 0])
    above = (named["lift_low"].values > 0)[judged]
    same = (named["gain"].values >= named["top_gain"].values[:, :, 0] - 1e-12)[shown]
    means = {
        f"mean_{key}": ("measure", mean_defined(named[key].values, axis=0))
        for key in ("score", "chance", "elsewhere", "lift")
    }
    return xr.Dataset(
        {
            **means,
            "located_share": ("measure", mean_defined(above, axis=0)),
            "best_share": ("measure", mean_defined(same, axis=0)),
            "n_named": int(has_name.sum()),
            "n_without_mask": int((has_name & ~has_mask).sum()),
            "n_not_shown": int((has_name & has_mask & ~shown).sum()),
            "n_judged": int(judged.sum()),
            "shown_share": divide(
                named["n_shown"].values[has_mask].sum(), named["n_images"].values[has_mask].sum()
            ).item(),
        }
    )


def localise_concepts(
    config: LocalisationConfig, inputs: registry.Inputs, run: registry.Run
) -> xr.Dataset:
    """Localise every concept, with the label that names it where there are names."""
    names, verdicts = None, None
    if "names" in inputs:
        with inputs["names"].open() as named:
            names = _choose_names(named, config.names_by)
            by = "" if config.names_by == CONSENSUS else config.names_by
            verdicts = names.copy(data=chance_of(named, by))
            if config.names_at_chance != KEEP:
                names = names.where(verdicts != AT_CHANCE, "")
    with inputs["maps"].open() as maps, inputs["masks"].open() as masks:
        seen, mapped_by = _count_seen(config, inputs, maps), approximate_maps(maps)
        progress = partial(run.progress, what="concepts")
        localised = localise(maps, masks, names, config, progress)
        labels = masks["label"].values.astype(str).tolist()
    if verdicts is not None:
        localised = localised.merge(_judge_names(localised, verdicts))
    localised = localised.assign(seen | ({"maps": mapped_by} if mapped_by else {}))
    sys.stdout.write(localisation_table(localised) + tell_labels(localised, labels))
    return localised


def tell_labels(localised: xr.Dataset, labels: Sequence[str]) -> str:
    """Return a line on what masks and names are of, where no name has any; "" where one has.

    Parameters
    ----------
    localised : Dataset
        Of the schema ``localisation``.
    labels : sequence of str
        Of the masks.
    """
    names = np.unique(localised["name"].values.astype(str))
    names = names[names != ""]
    if not len(names) or set(names) & set(labels):
        return ""
    return (
        f"No name has a mask: names are as {quote_some(names)}, masks as {quote_some(labels)}; "
        "masks belong to names that are written alike.\n"
    )


def _count_seen(
    config: LocalisationConfig, inputs: registry.Inputs, maps: xr.Dataset
) -> dict[str, Any]:
    """Return how many of the mapped images the concepts were trained on, and how many chose names.

    Raises
    ------
    SeenImagesError
        If they were trained on some, unless that is allowed.
    """
    ids = np.unique(maps["image"].values.astype(str))
    ids = ids[ids != ""]
    seen = dict(count_seen(inputs["maps"], ids, config.seen_images, "localise the concepts"))
    chose = choosing_ids(inputs["names"]) if "names" in inputs else None
    return seen if chose is None else seen | {"n_chose_names": int(np.isin(ids, chose).sum())}


def _judge_names(localised: xr.Dataset, verdicts: xr.DataArray) -> xr.Dataset:
    """Return what chance gives for the names of concepts, and how many are no better."""
    own = np.array(_names_of(localised["concept"].values, verdicts), dtype=object)
    is_at_chance, has_name = own == AT_CHANCE, localised["name"].values != ""
    return xr.Dataset(
        {
            "name_chance": ("concept", own),
            "n_at_chance": int((is_at_chance & has_name).sum()),
            "n_left_out": int((is_at_chance & ~has_name).sum()),
        }
    )


def _choose_names(named: xr.Dataset, names_by: str) -> xr.DataArray:
    """Return the names (concept,) of the consensus or of a metric, by which they were named."""
    if names_by == CONSENSUS:
        return named["consensus"].load()
    metrics = named["metric"].values.astype(str).tolist()
    if names_by not in metrics:
        raise ValueError(f"no names by {names_by!r}{nearest(names_by, [CONSENSUS, *metrics])}")
    return named["name"].isel(metric=metrics.index(names_by)).load()


BY_MEASURE = ResultTable(
    "measure",
    {
        "mean_score": Column(".3f", "score", "mean over concepts, on the masks of their names"),
        "mean_chance": Column(".3f", "chance", "the same for a uniform map"),
        "mean_elsewhere": Column(".3f", "elsewhere", "the same maps on the masks of other images"),
        "mean_lift": Column("+.3f", "above chance", "mean over concepts", short=None),
        "located_share": Column(
            ".1%", "located", "fraction of judged concepts whose interval lies above chance"
        ),
        "best_share": Column(
            ".1%", "best label", "fraction of shown names that no label exceeds", short="best"
        ),
    },
)
"""A row for each measure; of schema ``localisation``."""


def localisation_table(localised: xr.Dataset, most: int = 15) -> str:
    """Return what is true of all concepts, by each measure, and the concepts of the largest lift.

    Parameters
    ----------
    localised : Dataset
        Of the schema ``localisation``.
    most : int
        Concepts shown: those whose energy lies furthest above chance.

    Returns
    -------
    str
        A line for each measure: mean score of names in the images that show them, the same for a
        map that carries no location, the same maps on the masks of other images, the fraction of
        concepts whose interval lies above chance, and of those whose name no label exceeds. Then a
        line for each concept.
    """
    return "\n".join([BY_MEASURE.text(localised), _concepts(localised, most), _remarks(localised)])


def _concepts(localised: xr.Dataset, most: int) -> str:
    measures = localised["measure"].values.tolist()
    energy = measures.index("energy")
    lift = localised["lift"].values[:, energy]
    order = [row for row in np.argsort(-lift, kind="stable") if not np.isnan(lift[row])][:most]
    rows = []
    for own in (localised.isel(concept=row) for row in order):
        shown = f"{int(own['n_shown'])}/{int(own['n_images'])}"
        pairs = zip(own["score"].values, own["chance"].values, strict=True)
        scores = [f"{score:.2f} ({chance:.2f})" for score, chance in pairs]
        best = str(own["top_label"].values[energy, 0])
        rows.append([str(own["name"].item()), best, str(int(own["concept"])), shown, *scores])
    header = ["name", "best by energy", "concept", "shown", *(f"{m} (chance)" for m in measures)]
    if "name_chance" in localised:
        header.insert(1, "of the name")
        for row, index in zip(rows, order, strict=True):
            row.insert(1, str(localised["name_chance"].values[index]))
    return text_table(header, rows, left=2 + ("name_chance" in localised))


def _remarks(localised: xr.Dataset) -> str:
    named, hidden, judged = (int(localised[n]) for n in ("n_named", "n_not_shown", "n_judged"))
    return (
        f"{named} of {counted(localised.sizes['concept'], 'concept')} "
        f"{verb(named, 'has', 'have')} a name; "
        f"{counted(int(localised['n_without_mask']), 'name has', 'names have')} no masks, "
        f"{hidden} {verb(hidden, 'is', 'are')} shown in no image of the concept; "
        f"{judged} {verb(judged, 'is', 'are')} judged.\n{_chance_remark(localised)}"
        f"{seen_line(localised)}" + (f"{note}\n" if (note := maps_note(localised)) else "")
    )


def _chance_remark(localised: xr.Dataset) -> str:
    """Return what chance gives for names, a line or none."""
    if "name_chance" not in localised:
        return ""
    verdicts = localised["name_chance"].values.astype(str)
    if not np.isin(verdicts, ["", UNTESTED]).all():
        kept, left_out = int(localised["n_at_chance"]), int(localised["n_left_out"])
        more = f"; {left_out} more were left out" if left_out else ""
        return f"{counted(kept, 'name')} at chance{more}.\n"
    return "The names were not tested against chance.\n"
