"""Next tokens as neurons: what a language model gives to some tokens at positions of texts.

Source: Oikarinen et al., "Evaluating Neuron Explanations: A Unified Framework with Sanity Checks",
ICML 2025, arXiv 2506.05774, settings 7 and 8. The inputs are all positions of the sequences but
the last, of which nobody knows what comes next; a neuron is the softmax, over all tokens of the
model, of the next token's logits, at one token; its known concept is that this token comes next.
Channels of a layer are neurons too; what they stand for is not known.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray

from fact.data.images import write_parts
from fact.data.token_sequences import Ids
from fact.networks.language_models import LanguageModel, commonest, sequences_of
from fact.networks.network import choose_device
from fact.traces.config import NextTokenConfig
from registry import Inputs, Run, Shards, open_dataset
from registry.store.shards import part_name
from registry.wording import counted

SHARD_BYTES = 32 * 2**20

Sequences = Sequence[NDArray[np.int32]]


def collect_next_tokens(config: NextTokenConfig, inputs: Inputs, run: Run) -> Shards:
    """Collect shard by shard; a stopped collection goes on at its next shard.

    Raises
    ------
    fact.networks.language_models.LanguageModelError
        If the model cannot be loaded, or does not know a token.
    fact.data.token_sequences.TokenSequencesError
        If the sequences cannot be read.
    """
    model: LanguageModel = inputs["model"].load().to(choose_device(config.device))
    sequences = sequences_of(
        model,
        inputs["texts"].load(),
        length=config.length,
        most=config.n_sequences,
        join=config.join,
    )
    return collect(model, sequences, config, run)


def collect(
    model: LanguageModel, sequences: Sequences, config: NextTokenConfig, run: Run
) -> Shards:
    """Collect what is not collected yet: shards of the schema ``next_tokens``.

    Parameters
    ----------
    model : LanguageModel
        On its device.
    sequences : sequence of ndarray of int
        Each (position,), of two positions at least.
    config : NextTokenConfig
        Which tokens are neurons.
    run : Run
        Takes the shards.
    """
    tokens = model.find(config.tokens) if config.tokens else commonest(sequences, config.n_tokens)
    if not config.tokens and len(tokens) < config.n_tokens:
        sys.stdout.write(
            f"{counted(len(tokens), 'different token')}, all taken; {config.n_tokens} asked for\n"
        )
    labels = model.names(tokens)
    texts = TokenTexts(model)
    neurons = _neurons(model, sequences, tokens, labels, config.layer)
    n_neurons = neurons.sizes["neuron"]

    def part(_index: int, rows: slice) -> xr.Dataset:
        parts = [
            token_part(
                model,
                sequences[some],
                some.start,
                tokens,
                labels,
                texts,
                config.split,
                config.layer,
            )
            for some in batches(sequences, rows, config.batch)
        ]
        return xr.concat(parts, "input", data_vars="minimal", coords="minimal", compat="override")

    # Whole batches, so that every batch is the same after a stop.
    longest = max(map(len, sequences))
    size = max(1, SHARD_BYTES // (4 * n_neurons * longest * config.batch)) * config.batch
    writer = write_parts(run, len(sequences), size, part, "sequences")

    def collected() -> Iterator[xr.Dataset]:
        for index in writer.done:
            with open_dataset(writer.folder / part_name(index)) as opened:
                yield opened

    chosen = f"{'named' if config.tokens else 'commonest'} tokens"
    variant = f"{config.layer}, labels {chosen}" if config.layer else chosen
    summary = strongest(collected(), config.n_strongest).merge(neurons)
    summary = summary.assign(
        variant=f"{model.name}, {variant}",
        n_sequences=len(sequences),
        n_neurons=n_neurons,
        n_known=int((neurons["right_concept"] != "").sum()),
    )
    told = f"{float(summary['mean_loss']):.3f} nats at {int(summary['n_inputs']):,} positions"
    sys.stdout.write(
        f"Mean loss of {model.name}: {told} of {counted(len(sequences), 'sequence')}\n"
    )
    return writer.finish(summary)


def _neurons(
    model: LanguageModel, sequences: Sequences, tokens: Ids, labels: Sequence[str], layer: str
) -> xr.Dataset:
    """Return what the schema ``next_tokens`` says along ``neuron``.

    A channel of a layer is called by its number, and stands for no token: -1, which is nowhere.
    """
    if layer:
        first = torch.from_numpy(sequences[0][None, :2].astype(np.int64))
        count = model.channels(first, layer)[0].shape[2]
        names, known = [str(channel) for channel in range(count)], [""] * count
        ids = np.full(count, -1, dtype=np.int64)
        counts = np.zeros(count, dtype=np.int64)
    else:
        names = known = list(labels)
        ids = tokens
        counts = np.bincount(np.concatenate(sequences), minlength=model.n_tokens)[tokens]
    return xr.Dataset(
        {
            "name": ("neuron", np.array(names, dtype=object)),
            "right_concept": ("neuron", np.array(known, dtype=object)),
            "token": ("neuron", ids),
            "count": ("neuron", counts.astype(np.int64)),
        }
    )


def batches(sequences: Sequences, rows: slice, size: int) -> Iterator[slice]:
    """Yield runs of at most ``size`` sequences that are equally long, which need no padding."""
    for first in range(rows.start, rows.stop, size):
        start = first
        lengths = map(len, sequences[first : min(first + size, rows.stop)])
        for _, own in itertools.groupby(lengths):
            stop = start + len(list(own))
            yield slice(start, stop)
            start = stop


class TokenTexts:
    """Texts of tokens, each decoded once.

    Parameters
    ----------
    model : LanguageModel
        Whose tokenizer decodes.
    """

    def __init__(self, model: LanguageModel):
        self._model = model
        self._known: dict[int, str] = {}

    def __call__(self, ids: NDArray[np.integer]) -> NDArray[np.object_]:
        """Return the texts of tokens of any shape."""
        flat = ids.ravel().tolist()
        if new := sorted(set(flat) - self._known.keys()):
            self._known |= dict(zip(new, self._model.texts(new), strict=True))
        return np.array([self._known[token] for token in flat], dtype=object).reshape(ids.shape)


def token_part(
    model: LanguageModel,
    sequences: Sequences,
    first: int,
    tokens: Ids,
    names: Sequence[str],
    texts: TokenTexts,
    split: str,
    layer: str = "",
) -> xr.Dataset:
    """Return what the schema ``next_tokens`` says along ``input``, of equally long sequences.

    Parameters
    ----------
    model : LanguageModel
        That reads.
    sequences : sequence of ndarray of int
        Each (position,).
    first : int
        Number of the first of them.
    tokens, names : array, sequence of str
        (label,) ids and names.
    texts : TokenTexts
        Decodes.
    split : str
        Begins the names of inputs.
    layer : str
        Whose channels are neurons; "" for the probabilities of tokens.
    """
    ids = np.stack(sequences).astype(np.int64)
    given = torch.from_numpy(ids)
    if layer:
        activation, loss = model.channels(given, layer)
    else:
        activation, loss = model.probabilities(given, torch.from_numpy(tokens))
    n_sequences, n_positions = ids.shape[0], ids.shape[1] - 1
    sequence = np.repeat(np.arange(first, first + n_sequences), n_positions)
    position = np.tile(np.arange(n_positions), n_sequences)
    following = ids[:, 1:].ravel()
    inputs = [f"{split}/{s:05d}/{p:04d}" for s, p in zip(sequence, position, strict=True)]
    along: dict[str, Any] = {
        "activation": (("input", "neuron"), activation.flatten(0, 1).cpu().numpy()),
        "value": (("input", "label"), (following[:, None] == tokens).astype(np.uint8)),
        "loss": ("input", loss.flatten().cpu().numpy()),
    }
    coords: dict[str, Any] = {
        "input": np.array(inputs, dtype=object),
        "sequence": ("input", sequence.astype(np.int32)),
        "position": ("input", position.astype(np.int32)),
        "text": ("input", texts(ids[:, :-1]).ravel()),
        "next_text": ("input", texts(following)),
        "neuron": np.arange(activation.shape[2]),
        "label": np.array(names, dtype=object),
    }
    return xr.Dataset(along, coords)


def strongest(parts: Iterable[xr.Dataset], count: int) -> xr.Dataset:
    """Return where each neuron is strongest, and the mean loss, part after part.

    Parameters
    ----------
    parts : iterable of Dataset
        ``activation`` (input, neuron) and ``loss`` (input).
    count : int
        Inputs of each neuron.

    Returns
    -------
    Dataset
        ``top_input`` and ``top_activation`` (neuron, rank), the strongest first, of equals the
        first input; ``mean_loss``, ``n_inputs``.
    """
    values: NDArray[Any] = np.empty((0, 0), np.float32)
    rows: NDArray[Any] = np.empty((0, 0), np.int64)
    n_inputs, loss = 0, 0.0
    for part in parts:
        own = part["activation"].values
        kept = np.argpartition(-own, min(count, len(own)) - 1, axis=0)[:count]
        found = np.take_along_axis(own, kept, axis=0)
        values = np.concatenate([values.reshape(-1, own.shape[1]), found])
        rows = np.concatenate([rows.reshape(-1, own.shape[1]), kept + n_inputs])
        order = np.lexsort((rows, -values), axis=0)[:count]
        values = np.take_along_axis(values, order, axis=0)
        rows = np.take_along_axis(rows, order, axis=0)
        n_inputs += len(own)
        loss += float(part["loss"].values.sum(dtype=np.float64))
    missing = ((0, count - len(values)), (0, 0))
    return xr.Dataset(
        {
            "top_input": (("neuron", "rank"), np.pad(rows, missing, constant_values=-1).T),
            "top_activation": (
                ("neuron", "rank"),
                np.pad(values, missing, constant_values=np.nan).T,
            ),
            "mean_loss": loss / n_inputs,
            "n_inputs": n_inputs,
        },
        {"rank": np.arange(count)},
    )
