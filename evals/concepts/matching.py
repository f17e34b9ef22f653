"""Which concepts are recovered on retraining: two sets of concepts matched one to one.

Concepts of one network's layer that were learnt twice (from another seed, with another k) are
compared by two bases. *decoder*: the cosine of their directions in the layer; *presence*: the
correlation of their presences in the same images. By each basis they are matched one to one so
that the sum of similarities is largest (Kuhn 1955), and apart from that every concept has a
nearest one; the mean similarity to it is the mean maximal cosine similarity of Sharkey et al.
(2022), "Taking features out of superposition with sparse autoencoders".

Similarities of many concepts in few dimensions are never 0, so that beside each number stands a
null: that of random directions with the second moments of the other decoder, and of presences of
the other concepts whose images are shuffled.

A concept *comes back* where its nearest one is more similar than in every draw of a null. Of
presences this null shuffles images within the classes that the network predicts, where these are
known: concepts of one class go together in any two sets, and that is no return. Where nothing comes
back, one in ``n_null + 1`` concepts would be counted by chance (a permutation test, Fisher 1935).
Directions may differ where presences agree: presence says more of what a concept is used for.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from scipy.optimize import linear_sum_assignment

import registry
from evals.concepts.config import MATCHING_OPTIONS, MatchingOptions
from evals.kernels.arrays import is_plain, to_labelled
from evals.kernels.blocks import score_arrays
from evals.kernels.columns import Columns
from evals.kernels.statistics import AnyArray, divide, mean_defined
from evals.metrics.registered import find_metric
from evals.metrics.table import DEFAULTS
from evals.scoring.labelled import share_names, take_neurons
from registry.columns import Column, ResultTable
from registry.terminal import text_table
from registry.wording import counted, share_text

UNMATCHED = -1
SCORE = Column(".3f")


@dataclass(frozen=True)
class Matching:
    """Concepts of one set, each with what it is matched to in the other.

    Attributes
    ----------
    match : ndarray of int
        (concept,) index of the concept it is matched to, one to one; -1 where there is none.
    similarity : ndarray
        (concept,) to it, NaN where there is none.
    nearest : ndarray of int
        (concept,) index of the most similar concept, -1 for one that is like none.
    nearest_similarity : ndarray
        (concept,) to it.
    mutual : ndarray of bool
        (concept,) whether it is the most similar one of its nearest, too.
    """

    match: np.ndarray
    similarity: np.ndarray
    nearest: np.ndarray
    nearest_similarity: np.ndarray
    mutual: np.ndarray

    @classmethod
    def of(cls, similarity: np.ndarray) -> Matching:
        """Match by similarities (concept, other concept), NaN where they are not defined.

        A concept with no similarity at all is matched to none.
        """
        known = ~np.isnan(similarity)
        rows, columns = np.flatnonzero(known.any(axis=1)), np.flatnonzero(known.any(axis=0))
        match = np.full(len(similarity), UNMATCHED)
        nearest, mutual = match.copy(), np.zeros(len(similarity), dtype=bool)
        if len(rows) and len(columns):
            inner = similarity[np.ix_(rows, columns)]
            inner = np.where(np.isnan(inner), -2.0, inner)  # below any similarity
            own, other = linear_sum_assignment(inner, maximize=True)
            match[rows[own]] = columns[other]
            best = inner.argmax(axis=1)
            nearest[rows] = columns[best]
            mutual[rows] = inner.argmax(axis=0)[best] == np.arange(len(rows))
        return cls(match, _pick(similarity, match), nearest, _pick(similarity, nearest), mutual)


def _pick(similarity: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    picked = similarity[np.arange(len(similarity)), chosen]
    return np.where(chosen == UNMATCHED, np.nan, picked)


def compare_decoders(one: AnyArray, other: AnyArray) -> np.ndarray:
    """Return the cosines (concept, other concept) of directions (channel, concept).

    NaN for a direction of length 0.

    Raises
    ------
    ValueError
        If the directions are of different numbers of channels.
    """
    directions = _directions(one), _directions(other)
    n_channels = [rows.shape[1] for rows in directions]
    if n_channels[0] != n_channels[1]:
        raise ValueError(
            f"decoders have {n_channels[0]} and {n_channels[1]} channels; "
            "expected concepts of the same layer"
        )
    units = [divide(rows, np.linalg.norm(rows, axis=1, keepdims=True)) for rows in directions]
    return np.asarray(np.clip(units[0] @ units[1].T, -1, 1))


def _take_decoder(decoder: AnyArray) -> xr.DataArray:
    """Return directions (concept, channel) with named concepts."""
    taken = to_labelled(decoder, ("channel", "concept"), "decoder").transpose("concept", "channel")
    if "concept" not in taken.coords:
        taken = taken.assign_coords(concept=np.arange(taken.sizes["concept"]))
    return taken


def _directions(decoder: AnyArray) -> np.ndarray:
    return _take_decoder(decoder).values.astype(np.float64)


def compare_presences(
    one: AnyArray,
    other: AnyArray,
    workers: int = 1,
    shuffle: int | None = None,
    classes: AnyArray | None = None,
) -> np.ndarray:
    """Return the correlations (concept, other concept) of presences in the same images.

    Parameters
    ----------
    one, other : array
        (image, concept); images are matched by id, those that only one has are left out. Rows
        without names are matched by position.
    workers : int
        Threads.
    shuffle : int, optional
        Seed by which the images of the other are shuffled, all concepts alike.
    classes : array, optional
        (image,) of ``one``: images are shuffled within each.

    Raises
    ------
    ValueError
        If they share fewer than two images.
    """
    sets = "one", "other"
    taken = share_names(
        take_neurons(one), take_neurons(other), (is_plain(one), is_plain(other)), sets
    )
    indexes = [array.get_index("input") for array in taken]
    shared = indexes[0].intersection(indexes[1], sort=False)
    if len(shared) < 2:
        raise ValueError(f"presences share {counted(len(shared), 'image')}; expected at least 2")
    indices = [index.get_indexer(shared) for index in indexes]
    if shuffle is not None:
        within = None if classes is None else np.asarray(classes)[indices[0]]
        indices[1] = _shuffled(indices[1], within, np.random.default_rng([shuffle, 1]))
    columns = [
        Columns(array.isel(input=index), name)
        for array, index, name in zip(taken, indices, sets, strict=True)
    ]
    row = find_metric("correlation")
    return score_arrays([row], columns[0], columns[1], DEFAULTS, workers=workers)[row.name]


def _shuffled(
    rows: np.ndarray, classes: np.ndarray | None, generator: np.random.Generator
) -> np.ndarray:
    if classes is None:
        return generator.permutation(rows)
    shuffled = rows.copy()
    for value in np.unique(classes):
        shuffled[classes == value] = generator.permutation(rows[classes == value])
    return shuffled


def random_decoder(decoder: AnyArray, seed: int) -> xr.DataArray:
    """Return as many random directions with the same second moments (channel, channel).

    They are normally distributed mixtures of the directions that there are, so that they fill the
    same part of the layer to the same degree, and single out no direction in it.
    """
    rows = _directions(decoder)
    mixing = np.random.default_rng([seed, 0]).standard_normal((len(rows), len(rows)))
    mixed = mixing @ rows / np.sqrt(len(rows))
    return _take_decoder(decoder).copy(data=mixed)


@dataclass(frozen=True)
class ConceptSet:
    """What is known of a set of concepts; one of the two at least.

    Attributes
    ----------
    decoder : array or None
        (channel, concept) directions in the layer.
    presence : array or None
        (image, concept).
    classes : array or None
        (image,) class of each image of `presence`, as the network predicts it.
    """

    decoder: AnyArray | None = None
    presence: AnyArray | None = None
    classes: AnyArray | None = None

    @property
    def names(self) -> np.ndarray:
        """(concept,) their names, or numbers."""
        if self.decoder is not None:
            return np.asarray(_take_decoder(self.decoder)["concept"])
        assert self.presence is not None
        return np.asarray(take_neurons(self.presence)["neuron"])

    def alive(self) -> np.ndarray:
        """Return which concepts are not the same in every image, all where that is not known."""
        if self.presence is None:
            return np.ones(len(self.names), dtype=bool)
        presence = take_neurons(self.presence)
        extremes = presence.min("input"), presence.max("input")
        return np.asarray(extremes[0].values != extremes[1].values)


def match_sets(
    one: ConceptSet, other: ConceptSet, options: MatchingOptions = MATCHING_OPTIONS
) -> xr.Dataset:
    """Match the concepts of one set to those of another, by every basis that both have.

    Parameters
    ----------
    one, other : ConceptSet
        Of one layer of one network.
    options : MatchingOptions
        How.

    Returns
    -------
    xr.Dataset
        Of schema ``matching``. Concepts that are the same in every image are matched to none and
        are left out of all fractions, where presences are known. These are of the smaller set's
        size, since no more can be matched; intervals are by redrawing the concepts of ``one``.

    Raises
    ------
    ValueError
        If the sets have no basis in common, or do not go together.
    """
    both = {basis: (vars(one)[basis], vars(other)[basis]) for basis in ("decoder", "presence")}
    pairs = {basis: pair for basis, pair in both.items() if all(a is not None for a in pair)}
    if not pairs:
        raise ValueError("the two sets of concepts share neither decoders nor presences")
    alive = one.alive(), other.alive()
    found = [
        _match(basis, pair, np.outer(*alive), options, one.classes) for basis, pair in pairs.items()
    ]
    names = one.names, other.names
    per_concept = {key: np.stack([f[0][key] for f in found], 1) for key in found[0][0]}
    for key in ("match", "nearest"):
        indices = per_concept[key]
        per_concept[key] = np.where(indices < 0, UNMATCHED, names[1][indices])
    shares = {key: np.stack([f[1][key] for f in found]) for key in found[0][1]}
    dims = {1: ("basis",), 2: ("basis", "threshold")}
    return xr.Dataset(
        {
            **{key: (("concept", "basis"), values) for key, values in per_concept.items()},
            **{key: (dims[values.ndim], values) for key, values in shares.items()},
            "same_match_share": _same(per_concept["match"]),
            "n_one": len(names[0]),
            "n_other": len(names[1]),
            "n_alive_one": int(alive[0].sum()),
            "n_alive_other": int(alive[1].sum()),
        },
        {
            "concept": names[0],
            "basis": list(pairs),
            "threshold": list(map(float, options.thresholds)),
        },
    )


def _match(
    basis: str,
    pair: tuple[AnyArray, AnyArray],
    is_alive: np.ndarray,
    options: MatchingOptions,
    classes: AnyArray | None = None,
) -> tuple[Mapping[str, np.ndarray], Mapping[str, Any]]:
    """Return by one basis (concept,) arrays, and what is said of all concepts together.

    ``is_alive`` (concept, other concept) says which pairs may match.
    """
    similarity = np.where(is_alive, _similarity(basis, pair, options), np.nan)
    matching = Matching.of(similarity)
    own = _statistics(matching, similarity, options)
    values = {**own, **_intervals(matching, options)}

    def drawn(within: AnyArray | None = None) -> list[Matching]:
        similarities = (
            _similarity(basis, pair, options, draw, within) for draw in range(options.n_null)
        )
        return [Matching.of(np.where(is_alive, found, np.nan)) for found in similarities]

    nulls = drawn()
    strict = drawn(classes) if classes is not None and basis == "presence" else nulls
    returned = _returned(matching, strict)
    null_values = [_statistics(null, similarity, options) for null in nulls]
    for key, value in own.items():
        of_null = [null[key] for null in null_values] or [np.full(np.shape(value), np.nan)]
        values[f"null_{key}"] = np.mean(of_null, axis=0)
    is_known = ~np.isnan(matching.nearest_similarity)
    share = divide(returned.sum(), is_known.sum()).item() if nulls else np.nan
    values["returned_share"] = share
    values["null_returned_share"] = 1 / (len(nulls) + 1) if nulls else np.nan
    return {**vars(matching), "returned": returned}, values


def _returned(matching: Matching, nulls: Sequence[Matching]) -> np.ndarray:
    """Return (concept,) which ones are more similar to their nearest than in every draw."""
    if not nulls:
        return np.zeros(len(matching.match), dtype=bool)
    drawn = np.stack([null.nearest_similarity for null in nulls])
    return np.asarray(
        matching.nearest_similarity > np.where(np.isnan(drawn), -2, drawn).max(axis=0)
    )


def _similarity(
    basis: str,
    pair: tuple[AnyArray, AnyArray],
    options: MatchingOptions,
    null: int | None = None,
    classes: AnyArray | None = None,
) -> np.ndarray:
    """Return similarities (concept, other concept), or those of a draw of the null."""
    one, other = pair
    seed = None if null is None else 1000 * options.seed + null
    if basis == "presence":
        return compare_presences(one, other, options.workers, seed, classes)
    return compare_decoders(one, other if seed is None else random_decoder(other, seed))


def _statistics(
    matching: Matching, similarity: np.ndarray, options: MatchingOptions
) -> dict[str, Any]:
    """Return shares and means over the concepts that are alive."""
    known = ~np.isnan(similarity)
    most = min(known.any(axis=1).sum(), known.any(axis=0).sum())
    matched = (matching.similarity[:, None] >= options.thresholds).sum(axis=0)
    return {
        "matched_share": divide(matched, most),
        "mutual_share": divide(matching.mutual.sum(), most).item(),
        "mean_similarity": mean_defined(matching.similarity),
        "mean_nearest": mean_defined(matching.nearest_similarity),
    }


def _intervals(matching: Matching, options: MatchingOptions) -> dict[str, np.ndarray]:
    """Return the intervals of shares and means, by redrawing the matched concepts."""
    near = matching.nearest_similarity
    rows = np.flatnonzero(~np.isnan(near))
    matched, nearest = np.full((2, len(options.thresholds)), np.nan), np.full(2, np.nan)
    if options.n_bootstrap and len(rows) > 1:
        generator = np.random.default_rng([options.seed, 2])
        chances = np.full(len(rows), 1 / len(rows))
        drawn = generator.multinomial(len(rows), chances, size=options.n_bootstrap)
        possible = drawn @ (matching.match[rows] != UNMATCHED)
        above = drawn @ (matching.similarity[rows, None] >= options.thresholds)
        tail = (1 - options.confidence) / 2
        ends = [tail, 1 - tail]
        matched = np.nanquantile(divide(above, possible[:, None]), ends, axis=0)
        nearest = np.quantile(drawn @ near[rows] / len(rows), ends)
    return {
        "matched_share_low": matched[0],
        "matched_share_high": matched[1],
        "mean_nearest_low": nearest[0],
        "mean_nearest_high": nearest[1],
    }


def _same(match: np.ndarray) -> float:
    """Return the fraction of concepts that every basis matches, and all to the same one."""
    if match.shape[1] < 2:
        return np.nan
    both = (match != UNMATCHED).all(axis=1)
    return float(divide((match[both] == match[both, :1]).all(axis=1).sum(), both.sum()))


def match_concepts(
    config: MatchingOptions, inputs: registry.Inputs, run: registry.Run
) -> xr.Dataset:
    """Match by decoders, and by presences where both sets were measured."""
    _require_one_layer(inputs["one"], inputs["other"])
    with ExitStack() as stack:
        sets = [_concepts(inputs[slot], stack) for slot in ("one", "other")]
        matched = match_sets(sets[0], sets[1], config)
    sys.stdout.write(matching_table(matched))
    return matched


def _concepts(given: registry.Input, stack: ExitStack) -> ConceptSet:
    """Return directions and presences of concepts, as far as there are any."""
    if given.kind == "sae":
        return ConceptSet(stack.enter_context(given.open())["decoder"].load())
    dataset = stack.enter_context(given.open())
    classes = dataset.get("network_prediction")
    presence, known = dataset["presence"], None if classes is None else classes.values
    if "sae" not in given.inputs:
        return ConceptSet(None, presence, known)
    decoder = stack.enter_context(given.inputs["sae"].open())["decoder"].load()
    return ConceptSet(decoder, presence, known)


def _require_one_layer(one: registry.Input, other: registry.Input) -> None:
    """Raise ValueError with the two layers unless both sets are of one layer of one network."""
    layers = [_layer(given) for given in (one, other)]
    if layers[0][1:] != layers[1][1:]:
        texts = [f"{name} is of layer {layer} of {network}" for name, layer, network, _ in layers]
        raise ValueError(f"{'; '.join(texts)}: expected concepts of one layer of one network")


def _layer(given: registry.Input) -> tuple[str, str, str, str]:
    """Return the name of a set, its layer, and the name and fingerprint of the network."""
    sae = given if given.kind == "sae" else given.inputs.get("sae")
    source = given if sae is None else sae
    if sae is not None and "layer" not in sae.config:  # one that was trained on features
        source = sae.origin("features")
    network = source.origin("network")
    return given.name, source.config["layer"], network.name, network.fingerprint


BY_BASIS = ResultTable(
    "basis",
    {
        "returned_share": SCORE,
        "null_returned_share": SCORE,
        "mutual_share": SCORE,
        "null_mutual_share": SCORE,
        "mean_nearest": SCORE,
        "null_mean_nearest": SCORE,
        "mean_similarity": SCORE,
        "null_mean_similarity": SCORE,
    },
)
BY_THRESHOLD = ResultTable(
    ("basis", "threshold"), {"matched_share": SCORE, "null_matched_share": SCORE}
)
"""What is said of all concepts by each basis, and at each threshold; of schema ``matching``."""


def matching_table(matched: xr.Dataset) -> str:
    """Return what fraction of concepts is matched, by every basis, beside that of the null.

    Parameters
    ----------
    matched : Dataset
        Of the schema ``matching``.
    """
    kinds = {
        "mutual nearest": "mutual_share",
        "mean nearest": "mean_nearest",
        "mean matched": "mean_similarity",
    }
    rows = []
    for basis in matched["basis"].values.tolist():
        own = matched.sel(basis=basis)
        rows += [
            [basis, f"matched at {float(at['threshold']):g}", *_cells(at, "matched_share")]
            for at in (own.isel(threshold=t) for t in range(own.sizes["threshold"]))
        ]
        rows += [[basis, what, *_cells(own, key)] for what, key in kinds.items()]
    table = text_table(["basis", "what", "value", "interval", "null"], rows, left=2)
    return f"{_headline(matched)}{table}\n{_remarks(matched)}"


def _headline(matched: xr.Dataset) -> str:
    """Return how many concepts come back, by presence first, beside chance."""
    chance = float(matched.get("null_returned_share", xr.DataArray(np.nan)).max())
    if np.isnan(chance):  # also of a dataset that is older
        return ""
    shares = matched["returned_share"].to_series()[::-1]
    told = ", ".join(f"{share_text(share)} by {basis}" for basis, share in shares.items())
    return f"Come back: {told}; by chance {share_text(chance)}.\n\n"


def _cells(own: xr.Dataset, key: str) -> list[str]:
    """Return a value, its interval and the value of the null."""
    names = (key, f"{key}_low", f"{key}_high", f"null_{key}")
    value, low, high, null = (SCORE.text(own[n].item()) if n in own else "" for n in names)
    return [value, f"[{low}, {high}]" if low else "", null]


def _remarks(matched: xr.Dataset) -> str:
    text = (
        f"{int(matched['n_alive_one'])} of {counted(int(matched['n_one']), 'concept')} against "
        f"{int(matched['n_alive_other'])} of {int(matched['n_other'])} that are alive."
    )
    same = float(matched["same_match_share"])
    agree = "" if np.isnan(same) else f" Both bases match {share_text(same)} of concepts alike."
    return f"{text}{agree}\n"
