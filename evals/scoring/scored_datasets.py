"""Scores of the neurons of a dataset, in parts where there are many."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import xarray as xr

import registry
from evals.kernels.blocks import most_neurons
from evals.kernels.contingency import LABEL_THRESHOLD
from evals.metrics.registered import find_metrics
from evals.scoring.config import ScoringConfig
from evals.scoring.labelled import pair_datasets
from evals.scoring.scoring import bounds_of, score_blocks, stack_metrics
from registry.store.shards import Shards

SHARDED_FROM = 1 << 25
"""Pairs, over all metrics, above which the scores are written in parts."""


def score_explanations(
    config: ScoringConfig, inputs: registry.Inputs, run: registry.Run
) -> xr.Dataset | Shards:
    """Score every pair, in parts where there are many."""
    opened = inputs["activations"].open(), inputs["labels"].open()
    activations, labels = pair_datasets(*opened, config.variable, config.split)
    n_pairs = activations.sizes["neuron"] * labels.sizes["concept"] * len(config.metrics)
    if n_pairs <= SHARDED_FROM:
        parts = list(_score_parts(config, activations, labels, run))
        return xr.concat(parts, "neuron").merge(_summarise(config, labels, parts))
    writer = run.shards()
    for part in _score_parts(config, activations, labels, run, first=writer.next_index):
        writer.append(part)
    paths = sorted(writer.folder.glob("part-*.nc"))
    finished: Shards = writer.finish(_summarise(config, labels, map(registry.open_dataset, paths)))
    return finished


def _score_parts(
    config: ScoringConfig,
    activations: xr.DataArray,
    labels: xr.DataArray,
    run: registry.Run,
    first: int = 0,
) -> Iterator[xr.Dataset]:
    """Yield the scores of consecutive blocks of neurons, the same ones however often resumed."""
    size = most_neurons(activations.sizes["input"])
    done, total = first * size, activations.sizes["neuron"]
    if done >= total:
        return
    alphas = () if config.alpha is None else (config.alpha,)
    arrays = activations.isel(neuron=slice(done, None)), labels
    blocks = score_blocks(
        *arrays,
        config.metrics,
        alphas,
        lams=(config.lam,),
        seed=config.seed,
        block_size=size,
        workers=config.workers,
    )
    for block in blocks:
        done += block.sizes["neuron"]
        yield stack_metrics(block)
        run.progress(done, total, "neurons")


def _summarise(
    config: ScoringConfig, labels: xr.DataArray, parts: Iterable[xr.Dataset]
) -> xr.Dataset:
    """Return what is said of all neurons together."""
    undefined = [(part["undefined"].sum().item(), part["score"].size) for part in parts]
    n_undefined, n_pairs = map(sum, zip(*undefined, strict=True))
    return xr.Dataset(
        {
            "labelled_share": (labels >= LABEL_THRESHOLD).mean("input").compute(),
            "n_inputs": labels.sizes["input"],
            "undefined_share": n_undefined / n_pairs,
            **bounds_of(find_metrics(config.metrics)),
        },
        {"metric": list(config.metrics)},
    )
