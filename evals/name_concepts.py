"""Name each concept by the label that explains it best, scored on inputs it was not chosen on."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

import registry
from evals import schemas
from evals.metrics.registered import metric_modules, resolve_metrics
from evals.metrics.table import Parameters
from evals.sanity.protocol import DECISIVE
from evals.sanity.verdicts import NOT_RUN

if TYPE_CHECKING:
    import xarray as xr

    from evals.naming.naming import Namer
    from registry.store.shards import Shards


@dataclass(frozen=True)
class Config:
    """Configuration of ``evals.name_concepts``.

    Parameters
    ----------
    metrics : tuple of str
        Names in the table of metrics, all of it where none is named; a concept gets a name by
        each.
    alpha : float or None
        Fraction of inputs at which a concept is active, in (0, 1]; None where it is 0 or 1.
    lam : float
        Weight of how common a label is, in ``wpmi``.
    variable : str
        What of the concepts is explained: ``presence`` or ``contribution``, or ``activation`` of
        neurons; by default the first of them that there is.
    split : str
        Use the inputs of this split alone; all by default.
    n_ranks : int
        Best labels that are kept for each concept and metric, at least 1.
    n_bootstrap : int
        Draws of an interval; 0 for none. With 200 draws from 25,000 inputs, all metrics take
        some 20 ms for a sparse concept and a rare label, and a second where both are dense.
    confidence : float
        Share of draws within an interval, in (0, 1).
    seed : int
        Draws the two halves of the inputs, the bootstrap, and inputs for metrics that draw some.
    workers : int
        Threads.
    """

    metrics: tuple[str, ...] = ()
    alpha: Annotated[float, Field(gt=0, le=1)] | None = 0.02
    lam: float = 1.0
    variable: str = ""
    split: str = ""
    n_ranks: Annotated[int, Field(ge=1)] = 5
    n_bootstrap: Annotated[int, Field(ge=0)] = 200
    confidence: Annotated[float, Field(gt=0, lt=1)] = 0.95
    seed: Annotated[int, Field(ge=0)] = 0
    workers: registry.Runtime[Annotated[int, Field(ge=1)]] = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "metrics", resolve_metrics(self.metrics))


stage = registry.Stage(
    "evals.name_concepts",
    version=2,
    config=Config,
    needs={"activations": "concepts | activations", "labels": "labels", "sanity": "sanity?"},
    output=schemas.NAMES,
    preload=("evals.naming.naming",),
    plugged=metric_modules,
)


@stage.main
def name_concepts(
    config: Config, inputs: registry.Inputs, run: registry.Run
) -> xr.Dataset | Shards:
    """Name every concept by every metric, in parts where there are many."""
    import xarray as xr

    from evals.naming.tables import names_table

    sanity, forms = _read_sanity(inputs)
    naming = _prepare(config, inputs, sanity)

    def summarise(parts: Iterable[xr.Dataset]) -> xr.Dataset:
        told = {} if sanity is None else {"sanity_forms": ", ".join(forms)}
        return naming.summarise(parts).assign(told)

    def tell(done: int, total: int) -> None:
        run.progress(done, total, "concepts")

    if naming.n_concepts <= naming.part_size:
        parts = list(naming.parts(progress=tell))
        names = parts[0].merge(summarise(parts))
        sys.stdout.write(names_table(names))
        return names
    writer = run.shards()
    for part in naming.parts(writer.next_index, tell):
        writer.append(part)
    opened = [registry.open_dataset(path) for path in sorted(writer.folder.glob("part-*.nc"))]
    summary = summarise(opened)
    shown = ["name", "score", "margin", "tied", "consensus", "consensus_votes", "consensus_score"]
    whole = xr.concat([part[shown].load() for part in opened], "concept", data_vars="all")
    sys.stdout.write(names_table(whole.merge(summary)))
    return writer.finish(summary)


def _prepare(config: Config, inputs: registry.Inputs, sanity: Mapping[str, str] | None) -> Namer:
    from evals.naming.naming import Namer, NamingOptions
    from evals.scoring.labelled import pair_datasets

    activations, labels = inputs["activations"].open(), inputs["labels"].open()
    pair = pair_datasets(activations, labels, config.variable, config.split)
    options = NamingOptions(
        parameters=Parameters(alpha=config.alpha, lam=config.lam, seed=config.seed),
        n_ranks=config.n_ranks,
        n_bootstrap=config.n_bootstrap,
        confidence=config.confidence,
        seed=config.seed,
        workers=config.workers,
    )
    return Namer.of(
        *pair,
        config.metrics,
        options,
        sanity=sanity,
        right=activations.get("right_concept"),
    )


def _read_sanity(inputs: registry.Inputs) -> tuple[Mapping[str, str] | None, list[str]]:
    """Return the verdict on each metric, None where no tests are given, and the forms behind it."""
    if "sanity" not in inputs:
        return None, []
    with inputs["sanity"].open() as tested:
        passed, cells = tested["passed"].load(), tested["verdict"].load()
    names, verdicts = passed["metric"].values.astype(str), passed.values.astype(str)
    forms = [form for form in DECISIVE if (cells.sel(form=form) != NOT_RUN).any()]
    return dict(zip(names, verdicts, strict=True)), forms


if __name__ == "__main__":
    registry.run_module(__spec__.name)
