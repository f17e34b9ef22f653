"""Score how well each label explains each neuron, by every chosen metric."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

import registry
from evals import schemas
from evals.metrics.registered import find_metric, metric_modules, resolve_metrics

if TYPE_CHECKING:
    import xarray as xr

    from registry.store.shards import Shards

SHARDED_FROM = 1 << 25
"""Pairs, over all metrics, above which the scores are written in parts."""


@dataclass(frozen=True)
class Config:
    """Configuration of ``evals.score_explanations``.

    Parameters
    ----------
    metrics : tuple of str
        Names in the table of metrics; all of it where none is named.
    alpha : float or None
        Fraction of inputs at which a neuron is active, in (0, 1]; None where activations are 0 or
        1 already.
    lam : float
        Weight of how common a concept is, in ``wpmi``.
    seed : int
        Of the inputs that some metrics draw by neuron.
    variable : str
        What of the activations' dataset is scored; by default ``presence`` of concepts,
        ``activation`` of neurons.
    split : str
        Score on the inputs of this split alone; all by default.
    workers : int
        Threads.
    """

    metrics: tuple[str, ...] = ()
    alpha: Annotated[float, Field(gt=0, le=1)] | None = 0.02
    lam: float = 1.0
    seed: Annotated[int, Field(ge=0)] = 0
    variable: str = ""
    split: str = ""
    workers: registry.Runtime[Annotated[int, Field(ge=1)]] = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "metrics", resolve_metrics(self.metrics))


stage = registry.Stage(
    "evals.score_explanations",
    version=1,
    config=Config,
    needs={"activations": "concepts | activations", "labels": "labels"},
    output=schemas.SCORES,
    preload=("evals.scoring.scoring",),
    plugged=metric_modules,
)


@stage.main
def score_explanations(
    config: Config, inputs: registry.Inputs, run: registry.Run
) -> xr.Dataset | Shards:
    """Score every pair, in parts where there are many."""
    import xarray as xr

    from evals.scoring.labelled import pair_datasets

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
    return writer.finish(_summarise(config, labels, map(registry.open_dataset, paths)))


def _score_parts(
    config: Config,
    activations: xr.DataArray,
    labels: xr.DataArray,
    run: registry.Run,
    first: int = 0,
) -> Iterator[xr.Dataset]:
    """Yield the scores of consecutive blocks of neurons, the same ones however often resumed."""
    from evals.kernels.blocks import most_neurons
    from evals.scoring.scoring import score_blocks, stack_metrics

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


def _summarise(config: Config, labels: xr.DataArray, parts: Iterable[xr.Dataset]) -> xr.Dataset:
    """Return what is said of all neurons together."""
    import xarray as xr

    from evals.kernels.contingency import LABEL_THRESHOLD
    from evals.scoring.scoring import bounds_of

    undefined = [(part["undefined"].sum().item(), part["score"].size) for part in parts]
    n_undefined, n_pairs = map(sum, zip(*undefined, strict=True))
    return xr.Dataset(
        {
            "labelled_share": (labels >= LABEL_THRESHOLD).mean("input").compute(),
            "n_inputs": labels.sizes["input"],
            "undefined_share": n_undefined / n_pairs,
            **bounds_of([find_metric(name) for name in config.metrics]),
        },
        {"metric": list(config.metrics)},
    )


if __name__ == "__main__":
    registry.run_module(__spec__.name)
