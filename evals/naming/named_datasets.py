"""Names of the concepts of a dataset, in parts where there are many."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

import registry
from evals.metrics.table import Parameters
from evals.metrics.tolerance import FAULTY, Tolerance, faults_of_parts
from evals.naming.config import NamingConfig
from evals.naming.halves import halve_inputs, sequences_of
from evals.naming.naming import Namer, NamingOptions, join_names
from evals.naming.tables import names_table
from evals.sanity.protocol import DECISIVE, NOT_RUN, THEORETICAL
from evals.scoring.labelled import pair_datasets
from evals.scoring.seen_images import SeenImages
from registry.store.checkpoint import Checkpoint
from registry.store.shards import Shards, ShardWriter
from registry.terminal import duration

WORTH_TELLING = 10.0
"""Seconds from which on it is told how long permutations take."""


def name_concepts(
    config: NamingConfig, inputs: registry.Inputs, run: registry.Run
) -> xr.Dataset | Shards:
    """Name every concept by every metric, in parts where there are many."""
    sanity, forms = _read_sanity(inputs)
    activations, labels = inputs["activations"].open(), inputs["labels"].open()
    of_texts = any("sequence" in each.coords for each in (activations, labels))
    if of_texts and not config.by_sequence:
        raise ValueError(
            "inputs are positions of texts, and those of one text are alike by chance: "
            "by_sequence = true keeps each text whole, as halves and permutations must"
        )
    naming = Namer.of(
        *pair_datasets(activations, labels, config.variable, config.split, config.neurons),
        config.metrics,
        NamingOptions(
            parameters=Parameters(
                alpha=config.alpha, lam=config.lam, seed=config.seed, drawing=config.drawing
            ),
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
    choosing, scoring = (ids[half] for half in naming.halves)
    seen = SeenImages.of(inputs["activations"], scoring, choosing)
    if seen is not None:
        seen.require_unseen(config.seen_images)

    def summarise(names: xr.Dataset) -> xr.Dataset:
        summary = naming.summarise(names, chance).assign(sanity_forms=", ".join(forms))
        summary = summary.assign(seen.variables() if seen is not None else {})
        sys.stdout.write(names_table(names.merge(summary, combine_attrs="override")))
        return summary.assign_attrs(faults_of_parts([names]))

    keep = KeptTests(run, naming.tolerance)
    progress = partial(run.progress, what="concepts")
    if naming.n_concepts <= naming.part_size:
        chance = naming.test(partial(run.progress, what="permutations"), keep, _tell_time)
        names = join_names(naming.parts(progress=progress, chance=chance))
        return names.merge(summarise(names), combine_attrs="override")
    writer = run.shards()
    for path in _parts(writer)[: writer.next_index]:
        naming.tolerance.recall(registry.open_dataset(path).attrs)
    chance = naming.test(partial(run.progress, what="permutations"), keep, _tell_time)
    with writer:
        for part in naming.parts(writer.next_index, progress, chance):
            writer.submit(part)
    opened = map(registry.open_dataset, _parts(writer))
    return writer.finish(summarise(join_names(part.drop_dims("rank").load() for part in opened)))


def _tell_time(seconds: float) -> None:
    """Write how long permutations take, where that is worth a line."""
    if seconds >= WORTH_TELLING:
        sys.stdout.write(
            f"Permutations take {duration(seconds)} more; permutation_budget bounds them.\n"
        )
        sys.stdout.flush()


def _parts(writer: ShardWriter) -> list[Path]:
    return sorted(writer.folder.glob("part-*.nc"))


@dataclass(frozen=True)
class KeptTests:
    """What chance gives of some concepts at a time, and which metrics failed, in files of a run.

    Parameters
    ----------
    run : Run
        That may be stopped and resumed.
    tolerance : Tolerance
        Of its metrics; one that failed before is left out.
    """

    run: registry.Run
    tolerance: Tolerance

    def read(self, number: int) -> dict[str, np.ndarray] | None:
        """Return what was written of the chunk of that number; None where nothing was."""
        path = self._file(number).find()
        if path is None:
            return None
        with np.load(path) as held:
            tested = {name: held[name] for name in held}
        self.tolerance.recall({FAULTY: tested.pop(FAULTY).item()})
        return tested

    def write(self, number: int, tested: dict[str, np.ndarray]) -> None:
        """Write what is known of a chunk."""
        told = np.array(self.tolerance.attributes().get(FAULTY, ""))
        held: dict[str, Any] = {**tested, FAULTY: told}
        with self._file(number).write() as path, path.open("wb") as file:
            np.savez(file, **held)

    def _file(self, number: int) -> Checkpoint:
        return self.run.checkpoint(f"chance-{number:06d}.npz")


def choosing_ids(names: registry.Input) -> np.ndarray | None:
    """Return the ids of the inputs that chose names, None where they are not known.

    Parameters
    ----------
    names : Input
        A dataset of names, with its past.
    """
    if not getattr(names, "inputs", None):
        return None
    config = names.config
    with names.origin("activations").open() as opened:
        held = opened["image" if "image" in opened.coords else "input"].values
    ids: np.ndarray = np.asarray(held, dtype=str)
    ids = ids[np.char.startswith(ids, f"{config['split']}/")] if config["split"] else ids
    groups = sequences_of(ids) if config["by_sequence"] else None
    return np.asarray(ids[halve_inputs(ids, config["seed"], groups)[0]])


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
