"""Names of the concepts of a dataset, in parts where there are many."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import partial

import xarray as xr

import registry
from evals.metrics.table import Parameters
from evals.naming.config import NamingConfig
from evals.naming.naming import Namer, NamingOptions, join_names
from evals.naming.seen_images import SeenImages
from evals.naming.tables import names_table
from evals.sanity.protocol import DECISIVE, NOT_RUN, THEORETICAL
from evals.scoring.labelled import pair_datasets
from registry.store.shards import Shards


def name_concepts(
    config: NamingConfig, inputs: registry.Inputs, run: registry.Run
) -> xr.Dataset | Shards:
    """Name every concept by every metric, in parts where there are many."""
    sanity, forms = _read_sanity(inputs)
    activations, labels = inputs["activations"].open(), inputs["labels"].open()
    naming = Namer.of(
        *pair_datasets(activations, labels, config.variable, config.split),
        config.metrics,
        NamingOptions(
            parameters=Parameters(alpha=config.alpha, lam=config.lam, seed=config.seed),
            n_ranks=config.n_ranks,
            n_bootstrap=config.n_bootstrap,
            confidence=config.confidence,
            seed=config.seed,
            n_permutations=config.n_permutations,
            permutation_budget=config.permutation_budget,
            min_positives=config.min_positives,
            min_active=config.min_active,
            by_sequence=config.by_sequence,
            leave_out=config.leave_out,
            prefer=config.prefer,
            workers=config.workers,
        ),
        sanity=sanity,
        right=activations.get("right_concept"),
        classes=activations["class"].values if "class" in activations.coords else (),
    )

    ids = naming.presence["input"].values
    seen = SeenImages.of(inputs["activations"], [ids[half] for half in naming.halves])
    if seen is not None:
        seen.require_unseen(config.seen_images)

    def summarise(names: xr.Dataset) -> xr.Dataset:
        summary = naming.summarise(names, chance).assign(sanity_forms=", ".join(forms))
        summary = summary.assign(seen.variables() if seen is not None else {})
        told = naming.tolerance.attributes()
        sys.stdout.write(names_table(names.merge(summary).assign_attrs(told)))
        return summary.assign_attrs(told)

    chance = naming.test(partial(run.progress, what="permutations"))
    progress = partial(run.progress, what="concepts")
    if naming.n_concepts <= naming.part_size:
        names = join_names(naming.parts(progress=progress, chance=chance))
        return names.merge(summarise(names), combine_attrs="no_conflicts")
    writer = run.shards()
    for part in naming.parts(writer.next_index, progress, chance):
        writer.append(part)
    opened = map(registry.open_dataset, sorted(writer.folder.glob("part-*.nc")))
    return writer.finish(summarise(join_names(part.drop_dims("rank").load() for part in opened)))


def _read_sanity(inputs: registry.Inputs) -> tuple[Mapping[str, str] | None, list[str]]:
    """Return the verdict on each metric, None where no tests are given, and the forms behind it.

    Without, the exact theoretical tests are run on the spot.
    """
    if "sanity" not in inputs:
        return None, [THEORETICAL]
    with inputs["sanity"].open() as tested:
        passed, cells = tested["passed"].load(), tested["verdict"].load()
    names, verdicts = passed["metric"].values.astype(str), passed.values.astype(str)
    forms = [form for form in DECISIVE if (cells.sel(form=form) != NOT_RUN).any()]
    return dict(zip(names, verdicts, strict=True)), forms
