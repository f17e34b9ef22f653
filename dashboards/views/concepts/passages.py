"""Neurons of language models: positions of texts in which they are strongest, in place of images.

They are probabilities of tokens, or channels of a layer.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from dashboards.views.concepts.concepts import told
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

    That is the largest activation, of channels of a layer, or the largest probability, of tokens,
    which have their text too. Any other dataset is returned as it is.
    """
    if not is_of_texts(dataset):
        return dataset
    own = dataset.drop_dims(["input", "label", "rank"]).drop_vars("right_concept")
    own = own.assign({MARK: dataset["top_activation"].isel(rank=0, drop=True)})
    if is_of_channels(dataset):
        return own.drop_vars(["name", "token", "count"]).rename(neuron="concept")
    return own.rename({**RENAMED, "neuron": "concept"})


def with_presence(dataset: xr.Dataset) -> xr.Dataset:
    """Return what :func:`as_concepts` does, with the activation at every position as ``presence``.

    Positions stand for images, (image, concept), and have no coordinate: what is read of concepts
    image by image is read of neurons position by position. Any other dataset is returned as it is.
    """
    if not is_of_texts(dataset):
        return dataset
    own = dataset["activation"].reset_coords(drop=True).drop_vars("input")
    return as_concepts(dataset).assign(presence=own.rename(input="image", neuron="concept"))


def texts_note(cell: str, statistics: xr.Dataset) -> str:
    """Return what the neurons of a cell are."""
    what = "Probabilities of next tokens" if "token" in statistics else "Channels of a layer"
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
    return [passage_at(dataset, row, value, neuron, around) for row, value in shown if row >= 0]


def passage_at(
    dataset: xr.Dataset, row: int, value: float, neuron: int | None = None, around: int = AROUND
) -> Passage:
    """Return the text around a position.

    Parameters
    ----------
    dataset : xr.Dataset
        Of the schema ``next_tokens``; only some rows of it are read.
    row : int
        Index of the position, which others of its sequence stand beside.
    value : float
        How strong a neuron is there.
    neuron : int, optional
        Its index, of which is told whether its token comes next.
    around : int
        Tokens before the position and behind it, of the same sequence.
    """
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


def _strength(dataset: xr.Dataset, row: int, neuron: int | None, value: float) -> str:
    """Return how strong a neuron is in a row; of a token, whether that comes next."""
    if is_of_channels(dataset):
        return f"activation {number_text(float(value))}"
    if neuron is None:
        return f"probability {number_text(float(value))}"
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


def strongest_passages(
    dataset: xr.Dataset,
    frame: pd.DataFrame,
    count: int = 12,
    link: Callable[[int], str] = lambda _: "",
) -> Passages:
    """Return the strongest position of the first neurons, with their names where they have some.

    Parameters
    ----------
    dataset : xr.Dataset
        Of the schema ``next_tokens``.
    frame : pd.DataFrame
        ``concept`` in order, ``token`` of neurons that have one, and ``name`` where they are named,
        as :func:`dashboards.views.concepts.concepts.concepts_frame` returns them.
    count : int
        How many.
    link : callable
        The address of a neuron.
    """
    drawn = [
        _headed(one, row, link(int(row["concept"])))
        for row in frame.head(count).to_dict("records")
        for one in passages_of(dataset, int(row["concept"]), 1)
    ]
    title = f"The strongest position of each of the first {counted(len(drawn), 'neuron')}"
    return passages_part(drawn, title, is_of_channels(dataset))


def _headed(passage: Passage, row: Mapping[Hashable, Any], link: str) -> Passage:
    """Return a text with what is told of its neuron."""
    if "name" in row:
        return replace(passage, title=" · ".join(told(row)), link=link)
    called = row.get("token") or f"neuron {row['concept']}"
    return replace(passage, caption=f"{called}, {passage.caption}")


def neurons_frame(dataset: xr.Dataset) -> pd.DataFrame:
    """Return a row per neuron of the schema ``next_tokens``, as it stands in the dataset."""
    own = as_concepts(dataset)
    frame = pd.DataFrame({"concept": own["concept"].values.astype(np.int64)})
    frame = frame.assign(**{MARK: own[MARK].values})
    if is_of_channels(dataset):
        return frame
    return frame.assign(token=own["token"].values.astype(str), count=own["count"].values)
