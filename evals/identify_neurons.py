"""Measure how well each metric finds the known concept of a neuron among all labels."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

import registry
from evals import schemas
from evals.identification.published_auprc import published_auprc
from evals.metrics.registered import metric_modules, resolve_metrics
from evals.metrics.table import ALPHAS, LAMBDAS

if TYPE_CHECKING:
    import xarray as xr

Alpha = Annotated[float, Field(gt=0, le=1)]


@dataclass(frozen=True)
class Config:
    """Configuration of ``evals.identify_neurons``.

    Parameters
    ----------
    metrics : tuple of str
        Names in the table of metrics; all of it where none is named.
    alphas : tuple of float
        Fractions of inputs at which a neuron may be active, in (0, 1]; the best is chosen for
        each metric. None where activations are 0 or 1 already.
    lams : tuple of float
        Weights that ``wpmi`` may give to how common a label is; the best is chosen.
    n_splits : int
        Splits of the neurons into those that choose and those that are tested.
    share : float
        Share of neurons that choose, in (0, 1); at least 2 do.
    seed : int
        Of the first split, and of inputs that some metrics draw by neuron.
    shift : float
        Added to all activations, in units of theirs: what is learned of a neuron should not depend
        on it, and by cosine it does (appendix E.2 adds 1).
    split : str
        Use the inputs of this split alone; all by default.
    confidence : float
        Of the intervals, in (0, 1).
    published : str
        Setting whose published figures stand beside, where the inputs are those: ``cub-cbm``,
        ``cub-cbm-shifted``.
    workers : int
        Threads.
    """

    metrics: tuple[str, ...] = ()
    alphas: tuple[Alpha, ...] = ALPHAS
    lams: tuple[float, ...] = LAMBDAS
    n_splits: Annotated[int, Field(ge=1)] = 10
    share: Annotated[float, Field(gt=0, lt=1)] = 0.05
    seed: Annotated[int, Field(ge=0)] = 0
    shift: float = 0.0
    split: str = ""
    confidence: Annotated[float, Field(gt=0, lt=1)] = 0.95
    published: str = ""
    workers: registry.Runtime[Annotated[int, Field(ge=1)]] = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "metrics", resolve_metrics(self.metrics))
        published_auprc(self.published)


stage = registry.Stage(
    "evals.identify_neurons",
    version=1,
    config=Config,
    needs={"activations": "activations", "labels": "labels"},
    output=schemas.IDENTIFICATION,
    preload=("evals.identification.identification", "evals.identification.identification_table"),
    plugged=metric_modules,
)


@stage.main
def identify_neurons(config: Config, inputs: registry.Inputs, run: registry.Run) -> xr.Dataset:
    """Identify the neurons whose concept is known."""
    from evals.identification.identification import IdentificationOptions, identify
    from evals.identification.identification_table import identification_table
    from evals.scoring.ground_truth import right_places
    from evals.scoring.labelled import pair_datasets

    dataset = inputs["activations"].open()
    opened = dataset, inputs["labels"].open()
    activations, labels = pair_datasets(*opened, "activation", config.split)
    options = IdentificationOptions(
        alphas=config.alphas,
        lams=config.lams,
        n_splits=config.n_splits,
        share=config.share,
        seed=config.seed,
        confidence=config.confidence,
        published=config.published,
        workers=config.workers,
    )

    def tell(done: int, total: int) -> None:
        run.progress(done, total, "steps")

    found = identify(
        activations.astype("float64") + config.shift,  # in float32 the sum would lose digits
        labels,
        right_places(dataset["right_concept"], labels),
        config.metrics,
        options,
        tell,
    )
    names = dataset["name"].sel(neuron=found["neuron"])
    found = found.assign(
        name=("neuron", names.values.astype(str)),
        shift=config.shift,
        confidence=config.confidence,
    )
    sys.stdout.write(identification_table(found))
    return found


if __name__ == "__main__":
    registry.run_module(__spec__.name)
