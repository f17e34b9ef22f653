"""Neurons of language models: positions of texts in which they are strongest, in place of images.

They are probabilities of tokens, or channels of a layer.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import xarray as xr

from dashboards.views.concepts.neurons import MARK
from dashboards.views.parts.parts import Passage, Passages
from dashboards.views.parts.text import number_text, visible
from registry.wording import counted

AROUND = 24
"""Tokens that are shown before a position, and behind it."""

AROUND_IN_TABLE = 6

RENAMED = {"name": "token", "token": "token_id"}
"""Variables that are called otherwise beside names of concepts."""


def is_of_texts(dataset: xr.Dataset) -> bool:
    """Return whether the inputs of a dataset are positions of texts."""
    return "top_input" in dataset


def is_of_channels(dataset: xr.Dataset) -> bool:
    """Return whether neurons of a dataset of the schema ``next_tokens`` are channels of a layer."""
    return bool((dataset["token"] < 0).all())


def as_concepts(dataset: xr.Dataset) -> xr.Dataset:
    """Return what is said of neurons in a dataset of the schema ``next_tokens``, by ``concept``.

    Channels of a layer have their largest activation, others their token. Any other dataset is
    returned as it is.
    """
    if not is_of_texts(dataset):
        return dataset
    own = dataset.drop_dims(["input", "label", "rank"]).drop_vars("right_concept")
    if is_of_channels(dataset):
        largest = dataset["top_activation"].isel(rank=0, drop=True)
        own = own.drop_vars(["name", "token", "count"]).assign({MARK: largest})
        return own.rename(neuron="concept")
    return own.rename({**RENAMED, "neuron": "concept"})


def texts_note(cell: str, statistics: xr.Dataset) -> str:
    """Return what the neurons of a cell are."""
    what = "Channels of a layer" if MARK in statistics else "Probabilities of next tokens"
    variant = statistics["variant"].item()
    return f"{what}, of {cell}: {variant}. They have no contributions to a decision."


def passages_of(
    dataset: xr.Dataset, neuron: int, most: int | None = None, around: int = AROUND
) -> list[Passage]:
    """Return the positions of texts in which a neuron is strongest, the strongest first.

    Parameters
    ----------
    dataset : xr.Dataset
        Of the schema ``next_tokens``; only some rows of it are read.
    neuron : int
        Its index; one that is not there has no positions.
    most : int, optional
        Positions at most; all that are kept by default.
    around : int
        Tokens before a position and behind it, of the same sequence.
    """
    if neuron not in dataset.indexes["neuron"]:
        return []
    own = dataset[["top_input", "top_activation"]].sel(neuron=neuron).isel(rank=slice(most)).load()
    shown = zip(own["top_input"].values.tolist(), own["top_activation"].values, strict=True)
    return [_passage(dataset, row, neuron, value, around) for row, value in shown if row >= 0]


def _passage(dataset: xr.Dataset, row: int, neuron: int, value: float, around: int) -> Passage:
    """Return the text around a row, which those of its sequence stand beside."""
    first = max(0, row - around)
    names = ["sequence", "position", "text", "next_text"]
    rows = dataset[names].reset_coords(names).isel(input=slice(first, row + around))
    own = rows.compute(scheduler="synchronous")
    at = row - first
    is_same = own["sequence"].values == own["sequence"].values[at]
    texts, following = (own[name].values.astype(str) for name in ("text", "next_text"))
    behind = following[at:][is_same[at:]]
    starts = int(own["position"].values[is_same][0]) == 0
    ends = len(behind) < around
    return Passage(
        ("" if starts else "…") + visible("".join(texts[:at][is_same[:at]])),
        visible(texts[at]),
        visible(behind[0]),
        visible("".join(behind[1:])) + ("" if ends else "…"),
        f"{own['input'].values[at]}: {_strength(dataset, row, neuron, value)}",
    )


def _strength(dataset: xr.Dataset, row: int, neuron: int, value: float) -> str:
    """Return how strong a neuron is in a row; of a token, whether that comes next."""
    if is_of_channels(dataset):
        return f"activation {number_text(float(value))}"
    came = bool(dataset["value"][row, dataset.indexes["neuron"].get_loc(neuron)])
    comes = "and it comes next" if came else "and another one comes next"
    return f"probability {number_text(float(value))}, {comes}"


def passages_part(
    passages: Sequence[Passage], title: str = "", of_channels: bool = False
) -> Passages:
    """Return positions of texts as they are shown, with what the marks mean."""
    what = "activation" if of_channels else "probability of the neuron's token"
    note = (
        f"Positions with the largest {what}. Marked: the last token that the model sees; "
        "underlined: the one that comes next. ↵ is a new line."
    )
    return Passages(passages, title, note)


def strongest_texts(dataset: xr.Dataset, neurons: Sequence[int]) -> dict[int, str]:
    """Return the strongest position of some neurons in one line, with the token in ⟦ ⟧."""
    found = {one: passages_of(dataset, one, 1, AROUND_IN_TABLE) for one in neurons}
    return {one: passages[0].line for one, passages in found.items() if passages}


def strongest_passages(dataset: xr.Dataset, frame: pd.DataFrame, count: int = 12) -> Passages:
    """Return the strongest position of the first neurons.

    Parameters
    ----------
    dataset : xr.Dataset
        Of the schema ``next_tokens``.
    frame : pd.DataFrame
        ``concept`` in order, and ``token`` of neurons that have one.
    count : int
        How many.
    """
    first = frame.head(count)
    called = first["token"] if "token" in first else "neuron " + first["concept"].astype(str)
    drawn = [
        Passage(*one.texts, f"{name}, {one.caption}")
        for neuron, name in zip(first["concept"], called, strict=True)
        for one in passages_of(dataset, int(neuron), 1)
    ]
    title = f"The strongest position of each of the first {counted(len(drawn), 'neuron')}"
    return passages_part(drawn, title, is_of_channels(dataset))


def neurons_frame(dataset: xr.Dataset) -> pd.DataFrame:
    """Return a row per neuron of the schema ``next_tokens``, as it stands in the dataset."""
    own = as_concepts(dataset)
    frame = pd.DataFrame({"concept": own["concept"].values.astype(np.int64)})
    if is_of_channels(dataset):
        return frame.assign(**{MARK: own[MARK].values})
    return frame.assign(token=own["token"].values.astype(str), count=own["count"].values)
