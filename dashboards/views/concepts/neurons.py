"""Neurons that are no concepts of an SAE, in the form of concepts, so that pages show them alike.

They are channels of a layer, logits, or columns of a file: datasets of the schema ``activations``.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
import xarray as xr

from dashboards.views.runs.advice import Advice
from dashboards.views.runs.drafts import MAKERS
from fact.traces.by_concept import READ_CELLS, read_rows
from registry.catalog.lineage import Entry, Lineage

MARK = "largest_activation"
"""What statistics and tables have of neurons alone."""


@dataclass(frozen=True)
class Words:
    """How pages call the members of a set, their strength, and what that was measured on.

    Attributes
    ----------
    noun, strength, input : str
        Each in the singular.
    """

    noun: str = "concept"
    strength: str = "presence"
    input: str = "image"

    @property
    def is_concept(self) -> bool:
        """Whether it is absent where its strength is 0; a neuron is nowhere absent."""
        return self.noun == "concept"

    @property
    def where(self) -> str:
        """Of which inputs there are entries."""
        if self.is_concept:
            return "in which it is present"
        return f"where its {self.strength} is not 0"

    @property
    def together(self) -> str:
        """What others have in common with one that they correlate with."""
        if self.is_concept:
            return f"Present in the same {self.input}s"
        return f"Strong {'at' if self.input == 'position' else 'in'} the same {self.input}s"

    @property
    def entries(self) -> str:
        """What is kept of it over all inputs, in the plural."""
        return {"presence": "presences", "probability": "probabilities"}.get(
            self.strength, f"{self.strength}s"
        )


CONCEPTS = Words()


def words_of(statistics: xr.Dataset) -> Words:
    """Return the words for a set, of which small parts are enough."""
    if "n_sequences" in statistics:
        return Words("neuron", "probability" if "token" in statistics else "activation", "position")
    return Words("neuron", "activation") if is_of_neurons(statistics) else CONCEPTS


def as_concepts(dataset: xr.Dataset) -> xr.Dataset:
    """Return activations of neurons as presences of concepts; what are concepts, as it is."""
    if "activation" not in dataset:
        return dataset
    return dataset.rename(neuron="concept", activation="presence", name="own_name")


def with_statistics(neurons: xr.Dataset) -> xr.Dataset:
    """Return neurons with their mean and largest activation over images; each image is read once.

    Parameters
    ----------
    neurons : xr.Dataset
        As :func:`as_concepts` returns them.

    Returns
    -------
    xr.Dataset
        With ``mean_activation`` and ``largest_activation`` (concept); NaN where all are.
    """
    presence, count = neurons["presence"], neurons.sizes["concept"]
    total, known = np.zeros(count), np.zeros(count, dtype=np.int64)
    largest = np.full(count, -np.inf)
    step = max(1, READ_CELLS // max(count, 1))
    for start in range(0, neurons.sizes["image"], step):
        values = read_rows(presence, start, start + step).astype(np.float64)
        there = ~np.isnan(values)
        total += np.where(there, values, 0).sum(axis=0)
        known += there.sum(axis=0)
        largest = np.maximum(largest, np.where(there, values, -np.inf).max(axis=0, initial=-np.inf))
    with np.errstate(invalid="ignore"):
        mean = total / known
    return neurons.assign(
        {
            "mean_activation": ("concept", mean),
            MARK: ("concept", np.where(known > 0, largest, np.nan)),
        }
    )


def is_of_neurons(statistics: xr.Dataset) -> bool:
    """Return whether a set is of neurons that are no concepts of an SAE."""
    return "own_name" in statistics


def neurons_note(cell: str, statistics: xr.Dataset) -> str:
    """Return what the neurons of a cell are."""
    return (
        f"Neurons of {cell}: {statistics['variant'].item()}. They are no concepts of an SAE: they "
        "have activations, which may be negative, and no contributions."
    )


def without_pictures_line(drawer: str, words: Words) -> str:
    """Return why a set shows no pictures of its members, and where they are to be seen.

    Parameters
    ----------
    drawer : str
        What draws them; "" where nothing is declared to.
    words : Words
        For the set.
    """
    why = (
        f"{drawer} has not drawn them yet"
        if drawer
        else f"nothing draws them ({MAKERS['gallery']} does)"
    )
    images = f"the {words.input}s of its largest {words.entries}"
    return f"No pictures here: {why}. The page of each {words.noun} shows {images}:"


CONTRIBUTES = "fact.measure_channels"
"""The stage that takes channels of a layer for concepts, which contribute to logits."""


def why_no_decisions(entry: Entry, lineage: Lineage) -> Advice:
    """Return why neurons explain no decisions, and the lines of what does.

    Parameters
    ----------
    entry : Entry
        Activations, or what a language model gives to tokens.
    lineage : Lineage
        What was made from what.
    """
    title = f"{entry.title} has activations, and no contributions"
    if entry.provides == "next_tokens":
        return _of_a_language_model(entry, title)
    network, images = entry.needs.get("network", ""), entry.needs.get("images", "")
    if not (network and images):
        told = "Decisions are logits of a network of images, as sums over concepts of a layer."
        return Advice(title, told)
    layers = [str(one.config.get("layer", "")) for one in _of_network(lineage, network)]
    layer = str(entry.config.get("layer", "")) or next(filter(None, layers), "NAME OF A LAYER")
    split = entry.config.get("split")
    config = f"layer = {json.dumps(layer)}" + (f", split = {json.dumps(split)}" if split else "")
    lines = (
        f"[experiments.{entry.experiment}-contributions]",
        f'stage = "{CONTRIBUTES}"',
        f"needs = {{ network = {json.dumps(network)}, images = {json.dumps(images)} }}",
        f"config = {{ {config} }}",
    )
    what = "Channels of a layer, taken for concepts, add up to logits"
    told = f"{what}, exactly or in an approximation. In experiments.toml:"
    return Advice(title, told, lines=lines)


OF_TEXTS = (
    "Decisions are logits of a network of images, as sums over concepts of a layer; of a language "
    "model nothing measures such sums, with an SAE in it or without. What can be had of it: the "
    "texts where each neuron is strongest, across its range and at random, its label and names "
    "scored on texts that were held out, with the checks of these names."
)


def _of_a_language_model(entry: Entry, title: str) -> Advice:
    """Return why no logit of a language model is a sum, and what there is instead."""
    if entry.config.get("layer"):
        return Advice(title, OF_TEXTS)
    needs = ", ".join(f"{slot} = {json.dumps(name)}" for slot, name in entry.needs.items())
    lines = (
        f"[experiments.{entry.experiment}-channels]",
        f"stage = {json.dumps(entry.stage)}",
        f"needs = {{ {needs} }}",
        'config = { layer = "NAME OF A LAYER" }',
    )
    return Advice(title, f"{OF_TEXTS} Channels of a layer are neurons too:", lines=lines)


def _of_network(lineage: Lineage, network: str) -> list[Entry]:
    """Return what was made from a network."""
    return [one for one in lineage.entries.values() if one.needs.get("network") == network]


OF_IMAGES = ("label", "prediction", "target")
"""What is small although images have it."""


def small_part(dataset: xr.Dataset) -> xr.Dataset:
    """Return what is small of concepts or neurons: scalars, and what each and each image have."""
    left_out = [
        name
        for name, variable in dataset.data_vars.items()
        if variable.ndim > 1 or ("image" in variable.dims and name not in OF_IMAGES)
    ]
    counted = with_statistics(dataset) if is_of_neurons(dataset) else dataset
    return counted.drop_vars(left_out).load()
