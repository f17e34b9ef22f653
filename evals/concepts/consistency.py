"""Is a concept consistent? The C2-score: how similar its regions look to another model.

Each image of a concept has an encoding: the mean of a foundation model's feature map, weighted by
where the concept is. The score is the mean cosine over pairs of images, weighted by how present
the concept is in both. Source: Parchami-Araghi et al., "FaCT", NeurIPS 2025, arXiv 2510.25512,
section 5.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import xarray as xr
from numpy.typing import NDArray

import registry
from evals.concepts.config import ConsistencyConfig
from evals.kernels.arrays import to_labelled
from evals.kernels.statistics import AnyArray, divide, mean_defined
from registry.arrays import to_numpy
from registry.columns import Column, ResultTable
from registry.suggest import nearest
from registry.wording import counted

Floats = NDArray[np.float64]

CONCEPT, WHOLE, RANDOM = MAPS = "concept", "whole", "random"
"""What weighted an encoding: a concept's map, the whole image equally, or random numbers."""

ROWS = 8192  # encodings that are read at once


def c2_score(encodings: AnyArray, presence: AnyArray, centre: AnyArray | None = None) -> float:
    """Return the C2-score of one concept: the mean cosine between its encodings.

    Parameters
    ----------
    encodings : array
        ``(image, feature)``, by image the mean feature where the concept is. A row with NaN is an
        image without an encoding, and left out.
    presence : array
        ``(image,)``, at least 0: pairs of images are weighted by the product of theirs.
    centre : array, optional
        ``(feature,)``, subtracted from every encoding first; by default nothing is.

    Returns
    -------
    float
        ``sum_(i != j) p_i p_j cos(e_i, e_j) / sum_(i != j) p_i p_j``, in [-1, 1], in double
        precision and in time linear in the number of images. NaN for fewer than two encodings,
        where all pairs weigh nothing, or where an encoding is the centre itself and has no
        direction.

    Raises
    ------
    ValueError
        If shapes do not fit, a presence is negative or no number, or an encoding is infinite.
    """
    rows, weights = _checked(encodings, presence)
    if centre is not None:
        middle = to_numpy(centre).astype(np.float64)
        if middle.shape != rows.shape[1:]:
            raise ValueError(f"centre {middle.shape}; expected {rows.shape[1:]}, (feature,)")
        rows = rows - middle
    largest = weights.max(initial=0)
    sums = PairSums(np.zeros(1, dtype=np.int64), rows.shape[1])
    sums.add(np.zeros(len(rows), dtype=np.int64), rows, weights / largest if largest else weights)
    return float(sums.scores[0])


def _checked(encodings: AnyArray, presence: AnyArray) -> tuple[Floats, Floats]:
    """Return the rows that are encodings, and their presences."""
    arrays = to_numpy(encodings), to_numpy(presence)
    if arrays[0].ndim == 2 and arrays[1].ndim == 1:
        labelled = to_labelled(encodings, ("image", "feature"), "encodings")
        weighed = to_labelled(presence, ("image",), "presence")
        if "image" in labelled.dims:
            labelled = labelled.transpose("image", ...)
            if "image" in labelled.coords and "image" in weighed.coords:
                labelled, weighed = xr.align(labelled, weighed, join="exact")  # by name
        arrays = to_numpy(labelled), to_numpy(weighed)
    rows, weights = (array.astype(np.float64) for array in arrays)
    if rows.ndim != 2 or weights.shape != rows.shape[:1]:
        raise ValueError(
            f"encodings {rows.shape} and presence {weights.shape}; "
            "expected (image, feature) and (image,)"
        )
    known = ~np.isnan(rows).any(axis=1)
    rows, weights = rows[known], weights[known]
    if not (weights >= 0).all() or np.isinf(weights).any():
        raise ValueError(f"presences of {weights.min()} to {weights.max()}; expected at least 0")
    if np.isinf(rows).any():
        raise ValueError("encodings hold infinite values")
    return rows, weights


class PairSums:
    """Sums over all pairs of encodings of each of many groups, in one pass over the encodings.

    With unit vectors u and weights p, the pairs of encoding i with those before it add
    ``p_i u_i . sum_(j < i) p_j u_j``: no pair is ever looked at, the diagonal never enters, and
    nothing is subtracted that could cancel.

    Parameters
    ----------
    groups : ndarray
        (group,) ascending numbers of the groups (concepts).
    n_features : int
        Length of an encoding.

    Attributes
    ----------
    counts, empty : ndarray
        (group,) encodings, and maps without a positive part, which have none.
    pixels : ndarray
        (group,) sum over the encodings of the pixels of their maps.
    """

    def __init__(self, groups: NDArray[np.integer], n_features: int):
        self.groups = groups
        self.counts, self.empty = np.zeros((2, len(groups)), dtype=np.int64)
        self.pixels, self._weights, self._cosines, self._products = np.zeros((4, len(groups)))
        self._directions = np.zeros((len(groups), n_features))

    def add_block(self, block: xr.Dataset, centre: Floats) -> None:
        """Add encodings of these groups minus the centre; those of NaN are of empty maps."""
        group = block["group"].values
        index = np.searchsorted(self.groups, group).clip(max=max(len(self.groups) - 1, 0))
        if not np.array_equal(self.groups[index], group):
            unknown = sorted(set(group.tolist()) - set(self.groups.tolist()))
            raise ValueError(f"encodings of {unknown[:3]}, which are no coordinates")
        rows = block["encoding"].values.astype(np.float64) - centre
        encoded = ~np.isnan(rows).any(axis=1)
        np.add.at(self.empty, index[~encoded], 1)
        np.add.at(self.pixels, index[encoded], block["pixels"].values[encoded])
        self.add(index[encoded], rows[encoded], block["presence"].values[encoded].astype(float))

    def add(self, index: NDArray[np.integer], encodings: Floats, presence: Floats) -> None:
        """Add encodings (sample, feature) of groups by their index (sample,), in any order."""
        if not len(index):
            return
        order = np.argsort(index, kind="stable")
        starts = np.flatnonzero(np.diff(index[order])) + 1
        for rows in np.split(order, starts):
            self._add_group(int(index[rows[0]]), encodings[rows], presence[rows])

    def _add_group(self, group: int, encodings: Floats, presence: Floats) -> None:
        with np.errstate(invalid="ignore", divide="ignore"):
            # Divided by its largest value first, so that no square is lost to the exponent.
            scaled = encodings / np.abs(encodings).max(axis=1, keepdims=True, initial=0)
            units = scaled / np.linalg.norm(scaled, axis=1, keepdims=True)
        directions = presence[:, None] * units
        before = _sums_before(directions, self._directions[group])
        weights_before = _sums_before(presence, self._weights[group])
        self._cosines[group] += np.einsum("if,if->", directions, before)
        self._products[group] += presence @ weights_before
        self._directions[group] += directions.sum(axis=0)
        self._weights[group] += presence.sum()
        self.counts[group] += len(presence)

    @property
    def scores(self) -> Floats:
        """Mean weighted cosine (group,); NaN where no pair has a weight."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.clip(self._cosines / self._products, -1, 1)


def _sums_before(values: Floats, start: Floats | float) -> Floats:
    """Return by row the sum of ``start`` and of all rows before it."""
    sums = np.empty_like(values)
    sums[0] = 0
    np.cumsum(values[:-1], axis=0, out=sums[1:])
    return sums + start


# --- datasets ---------------------------------------------------------------------------------


def score_encodings(
    encodings: xr.Dataset,
    *,
    centred: bool = True,
    least_images: int = ConsistencyConfig.least_images,
    n_bins: int = ConsistencyConfig.n_bins,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> xr.Dataset:
    """Score every concept of a dataset of encodings, beside a baseline of random maps.

    Parameters
    ----------
    encodings : Dataset
        ``encoding`` (sample, channel), ``presence``, ``pixels``, ``group`` and ``map`` (sample),
        where ``map`` is "concept", "random" or "whole"; a coordinate ``concept``. May be lazy: it
        is read in blocks, and the sums take ``concept x channel`` numbers.
    centred : bool
        Subtract the mean over images of the encodings of the whole image.
    least_images : int
        Concepts with fewer encodings are scored, but not in the mean.
    n_bins : int
        Bins of the histogram over [-1, 1].
    progress : callable
        Called with samples done and in total.

    Returns
    -------
    Dataset
        ``score``, ``n_images``, ``empty_maps``, ``pixels`` (concept); ``baseline_score``
        (baseline_class), one or one per class; ``share`` (bin); ``mean_score``, ``baseline``,
        ``difference`` and counts. A score is NaN for fewer than two encodings. Where it is known
        which images the published code selects, ``reference_score`` and ``reference_n_images``
        (concept), ``reference_mean_score`` and ``reference_difference`` are of those.

    Raises
    ------
    ValueError
        If a map is of an unknown kind, or centring is asked for and no image was encoded whole.
    """
    concepts, n_channels = encodings["concept"].values, encodings.sizes["channel"]
    centre = _dataset_mean(encodings) if centred else np.zeros(n_channels)
    of_concepts = PairSums(concepts, n_channels)
    baselines = encodings["group"].values[encodings["map"].values == RANDOM]
    of_random = PairSums(np.unique(baselines).astype(np.int64), n_channels)
    published = _published_thresholds(encodings)
    of_published = None if published is None else PairSums(concepts, n_channels)
    for done, block in _blocks(encodings):
        kind = block["map"].values
        of_concepts.add_block(block.isel(sample=kind == CONCEPT), centre)
        if published is not None and of_published is not None:
            own = np.flatnonzero(kind == CONCEPT)
            cut = published[np.searchsorted(concepts, block["group"].values[own])]
            above = own[block["presence"].values[own] > cut]
            of_published.add_block(block.isel(sample=above), centre)
        of_random.add_block(block.isel(sample=kind == RANDOM), centre)
        progress(done, encodings.sizes["sample"])
    scores, counts, baseline = of_concepts.scores, of_concepts.counts, of_random.scores
    described = [name for name in ("concept_name", "concept_class") if name in encodings]
    return xr.Dataset(
        {
            "score": ("concept", scores),
            "n_images": ("concept", counts),
            "empty_maps": ("concept", of_concepts.empty),
            "pixels": ("concept", divide(of_concepts.pixels, counts)),
            **{name: ("concept", encodings[name].values) for name in described},
            "baseline_score": ("baseline_class", baseline),
            **_name_baselines(encodings, of_random.groups, baseline),
            **_summary(scores, counts, baseline, least_images, n_bins),
            **({} if of_published is None else _reference(of_published, baseline, least_images)),
            "empty_total": int(of_concepts.empty.sum()),
            "centred": int(centred),
        },
        {
            "concept": concepts,
            "baseline_class": of_random.groups,
            "bin": np.linspace(-1, 1, n_bins + 1)[:-1],
        },
    )


def _published_thresholds(encodings: xr.Dataset) -> Floats | None:
    """Return the presence above which the published code selects (concept,), if it is known."""
    if "published_threshold" not in encodings:
        return None
    return np.asarray(encodings["published_threshold"].values, dtype=np.float64)


def _reference(sums: PairSums, baseline: Floats, least_images: int) -> dict[str, object]:
    """Return what the published choice of images gives, which is strictly above the quantile."""
    scored = (sums.counts >= least_images) & ~np.isnan(sums.scores)
    mean = mean_defined(sums.scores[scored])
    return {
        "reference_score": ("concept", sums.scores),
        "reference_n_images": ("concept", sums.counts),
        "reference_mean_score": mean,
        "reference_difference": mean - mean_defined(baseline),
    }


def _blocks(encodings: xr.Dataset) -> Iterator[tuple[int, xr.Dataset]]:
    """Yield the samples in blocks, in memory, each with the number of samples done with it."""
    names = ["encoding", "presence", "pixels", "group", "map"]
    total = encodings.sizes["sample"]
    for start in range(0, total, ROWS):
        block = encodings[names].isel(sample=slice(start, start + ROWS)).load()
        if unknown := sorted(set(block["map"].values.tolist()) - set(MAPS)):
            raise ValueError(f"unknown map {unknown[0]!r}{nearest(str(unknown[0]), MAPS)}")
        yield min(start + ROWS, total), block


def _name_baselines(
    encodings: xr.Dataset, classes: NDArray[np.integer], baseline: Floats
) -> dict[str, object]:
    """Return names of the classes of baselines, and which is whose, where classes have names."""
    if "class_name" not in encodings:
        return {}
    names = encodings["class_name"].values.astype(str)[classes]
    known = dict(zip(names.tolist(), baseline.tolist(), strict=True))
    own = encodings["concept_class"].values.astype(str).tolist()
    return {
        "baseline_name": ("baseline_class", names.astype(object)),
        "concept_baseline": ("concept", np.array([known.get(name, np.nan) for name in own])),
    }


def _dataset_mean(encodings: xr.Dataset) -> Floats:
    """Return the mean (channel,) over all images of the mean of their feature map."""
    total, count = np.zeros(encodings.sizes["channel"]), 0
    for _, block in _blocks(encodings):
        rows = block["encoding"].values[block["map"].values == WHOLE]
        total += rows.sum(axis=0, dtype=np.float64)
        count += len(rows)
    if not count:
        raise ValueError("no image was encoded as a whole; without them nothing can be centred")
    return total / count


def _summary(
    scores: Floats, counts: NDArray[np.int64], baseline: Floats, least_images: int, n_bins: int
) -> dict[str, object]:
    scored = (counts >= least_images) & ~np.isnan(scores)
    mean, random = mean_defined(scores[scored]), mean_defined(baseline)
    found, _ = np.histogram(scores[scored], bins=n_bins, range=(-1, 1))
    return {
        "share": ("bin", divide(found, scored.sum())),
        "mean_score": mean,
        "baseline": random,
        "difference": mean - random,
        "n_scored": int(scored.sum()),
        "n_few_images": int(((counts > 1) & (counts < least_images)).sum()),
        "least_images": least_images,
    }


def measure_consistency(
    config: ConsistencyConfig, inputs: registry.Inputs, run: registry.Run
) -> xr.Dataset:
    """Score every concept."""
    encodings = inputs["encodings"].open()
    progress = partial(run.progress, what="encodings")
    measured = score_encodings(encodings, **vars(config), progress=progress)
    centring = "centred" if config.centred else "not centred"
    measured = measured.assign(variant=f"{encodings['variant'].item()}; {centring}")
    sys.stdout.write(consistency_table(measured))
    return measured


BY_CONCEPT = ResultTable(
    "concept",
    {
        "score": Column(".3f"),
        "concept_baseline": Column(".3f", "random"),
        "n_images": Column("d", "images"),
        "pixels": Column(".0f"),
        "empty_maps": Column("d", "without map"),
    },
)


def consistency_table(consistency: xr.Dataset, most: int = 10) -> str:
    """Return the summary, then the most and the least consistent concepts, a line each.

    Beside the score of a concept stands that of random maps of its class, where there are classes.

    Parameters
    ----------
    consistency : Dataset
        Of the schema ``consistency``.
    most : int
        Concepts shown; all of them where they are no more.
    """
    known = {str(name): value.item() for name, value in consistency.items() if not value.dims}
    summary = (
        f"C2-score {known['mean_score']:.3f} over {counted(known['n_scored'], 'concept')} with at "
        "least "
        f"{counted(known['least_images'], 'image')}; random maps {known['baseline']:.3f}, "
        f"difference {known['difference']:+.3f}\n"
    )
    if "reference_mean_score" in known:
        summary += (
            "by the images of the published code, strictly above the quantile, "
            f"{known['reference_mean_score']:.3f}, difference "
            f"{known['reference_difference']:+.3f}\n"
        )
    if "variant" in known:
        summary += f"{known['variant']}\n"
    names = consistency.get("concept_name", consistency["concept"]).values.astype(str)
    score = consistency["score"].values
    order = np.argsort(-np.where(np.isnan(score), -np.inf, score), kind="stable")
    order = order[~np.isnan(score[order])]
    shown = order if len(order) <= most else np.append(order[: most // 2], order[-(most // 2) :])
    lines = BY_CONCEPT.text(
        consistency.assign_coords(concept=names).isel(concept=shown)
    ).splitlines()
    if len(order) > most:
        lines.insert(1 + most // 2, "…")
    return summary + "\n".join(lines) + "\n"
