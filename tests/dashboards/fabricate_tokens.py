"""A project with next tokens of a language model, as a run would have left them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import xarray as xr

from fact import schemas
from registry.plan.project import Project
from tests.dashboards import fabricate
from tests.dashboards.fabricate import HOSTILE

DECLARATION = """
[project]
database = "factbook"

[datasets.stories]
kind = "token-sequences"
path = "stories.txt"

[networks.gpt2]
kind = "language-model"
folder = "gpt2"

[experiments.tokens]
stage = "fact.collect_next_tokens"
needs = { texts = "stories", model = "gpt2" }

[experiments.units]
stage = "fact.collect_next_tokens"
needs = { texts = "stories", model = "gpt2" }
config = { layer = "transformer.h.0.mlp.act" }
"""
SEQUENCES = (
    ["Once", " upon", " a", " time", ",", " the", "\n", "cat", " saw", " the", HOSTILE],
    [" a", " dog", " saw", " the", " cat"],
)
NEURONS = (" the", " a", HOSTILE)
RANKS = 4


def next_tokens() -> xr.Dataset:
    """Return positions of two texts, with drawn probabilities of three tokens."""
    rows = [
        (sequence, position, own[position], own[position + 1])
        for sequence, own in enumerate(SEQUENCES)
        for position in range(len(own) - 1)
    ]
    sequence, position, text, next_text = map(list, zip(*rows, strict=True))
    activation = np.random.default_rng(0).random((len(rows), len(NEURONS))).astype(np.float32)
    names = np.array([f'"{token}"' for token in NEURONS], dtype=object)
    order = np.argsort(-activation, axis=0, kind="stable")[:RANKS].T
    top = np.take_along_axis(activation.T, order, axis=1)
    order[2, 2:], top[2, 2:] = -1, np.nan
    inputs = [f"test/{s:05d}/{p:04d}" for s, p in zip(sequence, position, strict=True)]
    return xr.Dataset(
        {
            "activation": (("input", "neuron"), activation),
            "value": (
                ("input", "label"),
                (np.array(next_text)[:, None] == np.array(NEURONS)).astype(np.uint8),
            ),
            "loss": ("input", np.ones(len(rows), np.float32)),
            "name": ("neuron", names),
            "right_concept": ("neuron", names),
            "token": ("neuron", np.arange(len(NEURONS)) + 5),
            "count": ("neuron", np.array([4, 2, 1])),
            "top_input": (("neuron", "rank"), order),
            "top_activation": (("neuron", "rank"), top),
            "variant": "gpt2, commonest tokens",
            "mean_loss": 1.0,
            "n_inputs": len(rows),
            "n_sequences": len(SEQUENCES),
            "n_neurons": len(NEURONS),
            "n_known": len(NEURONS),
        },
        {
            "input": np.array(inputs, dtype=object),
            "sequence": ("input", np.array(sequence, np.int32)),
            "position": ("input", np.array(position, np.int32)),
            "text": ("input", np.array(text, dtype=object)),
            "next_text": ("input", np.array(next_text, dtype=object)),
            "neuron": np.arange(len(NEURONS)),
            "label": names,
            "rank": np.arange(RANKS),
        },
    )


def channels() -> xr.Dataset:
    """Return the same positions, with channels of a layer for neurons: of both signs."""
    tokens = next_tokens()
    count = tokens.sizes["neuron"]
    return tokens.assign(
        activation=10 * tokens["activation"] - 5,
        top_activation=10 * tokens["top_activation"] - 5,
        name=("neuron", np.array([str(one) for one in range(count)], dtype=object)),
        right_concept=("neuron", np.array([""] * count, dtype=object)),
        token=("neuron", np.full(count, -1)),
        count=("neuron", np.zeros(count, dtype=np.int64)),
        variant="gpt2, transformer.h.0.mlp.act, labels commonest tokens",
        n_known=0,
    )


def made_of(cell: str) -> xr.Dataset:
    """Return the dataset of a cell of the project."""
    return {"tokens": next_tokens, "units": channels}[cell]()


def made(folder: Path) -> Project:
    """Declare the project, and leave its dataset."""
    project = fabricate.declare(folder, DECLARATION)
    (folder / "stories.txt").write_text("Once upon a time")
    (folder / "gpt2").mkdir()
    (folder / "gpt2/config.json").write_text("{}")
    for minute, (cell, dataset) in enumerate((("tokens", next_tokens()), ("units", channels()))):
        uid = fabricate.run_uid(cell, minute)
        fabricate.store(project, cell, dataset, schemas.NEXT_TOKENS, uid)
    return project
