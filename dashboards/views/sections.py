"""What a report shows of each experiment: its run, and what its dataset is shown as."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from dashboards.views.concepts.concept_model import channels_note, model_parts
from dashboards.views.concepts.concepts import (
    SUMMARY,
    TABLE_COLUMNS,
    concept_table,
    concepts_frame,
    drawn,
    noun,
    pictures_of,
    strongest,
    summary,
    tiles,
    with_noted,
)
from dashboards.views.concepts.decisions import report_parts
from dashboards.views.concepts.exactness import meaning_of_maps, shown_below
from dashboards.views.concepts.labels import (
    NEXT_LABELS,
    best_names,
    called_by_readers,
    namers_of,
    preferred_namer,
    with_called,
    with_names,
)
from dashboards.views.concepts.neurons import (
    as_concepts,
    is_of_neurons,
    neurons_note,
    with_statistics,
)
from dashboards.views.concepts.passages import (
    neurons_frame,
    strongest_passages,
    strongest_texts,
)
from dashboards.views.concepts.training import sae_parts
from dashboards.views.parts.charts import bars, lines
from dashboards.views.parts.measured import beside_commonest, commonest_of, of_labelled
from dashboards.views.parts.parts import (
    Figure,
    Heading,
    Note,
    Number,
    Numbers,
    Part,
    Pictures,
    Table,
    beside_accuracies,
    file_name,
    numbers_of,
)
from dashboards.views.parts.text import share_text, time_text
from dashboards.views.results.menu import MENU, view_of
from dashboards.views.runs.advice import EXPECTED, advise
from dashboards.views.runs.curve_charts import curve_chart
from dashboards.views.runs.curves import curve_note, curves
from dashboards.views.runs.datasets import WEIGHTS, open_made, read_small, scalar_table
from dashboards.views.runs.one_run import facts_frame, repeat_command, settings_frame
from dashboards.views.runs.pipeline import graph_figure, plan_numbers, task_table, tasks_of
from dashboards.views.runs.settings import (
    autoencoder_of,
    cells_of,
    chosen_of,
    fidelities_of,
    made_of,
)
from fact.traces.plots import titled
from registry.catalog.access import Catalog, UnknownRunError
from registry.catalog.lineage import Entry, Lineage
from registry.catalog.runs import RunView, is_run
from registry.declare.cells import Cell
from registry.wording import counted


@dataclass(frozen=True)
class Section:
    """What is reported of one cell.

    Attributes
    ----------
    title : str
        As the cell is called.
    parts : sequence of Part
        What is shown.
    meaning : str
        A line on what the numbers mean.
    """

    title: str
    parts: Sequence[Part]
    meaning: str = ""


RESULTS = tuple(map(view_of, MENU))
"""All kinds of results, in the order of the menu: a page each, and a section of a report."""


def sections_of(catalog: Catalog, names: Sequence[str]) -> list[Section]:
    """Return a section for each cell that names, patterns or suites mean, and for each named run.

    Several cells are preceded by how far they are.

    Raises
    ------
    SelectionError
        If a name means nothing.
    UnknownRunError
        If there is no such run.
    """
    runs = [catalog.run(name) for name in names if is_run(name)]
    names = [name for name in names if not is_run(name)]
    cells = catalog.project.graph.select(names) if names or not runs else ()
    first = [_pipeline(catalog, names)] if len(cells) > 1 else []
    declared = (section_of(catalog, cell) for cell in cells)
    return [*first, *declared, *(section_of_run(catalog, run) for run in runs)]


def _pipeline(catalog: Catalog, names: Sequence[str]) -> Section:
    plan = catalog.plan(names)
    tasks = tasks_of(plan)
    parts: list[Part] = [Numbers(plan_numbers(plan)), graph_figure(tasks), task_table(tasks)]
    return Section("Pipeline", parts, "Every task, what it needs, and why it would run.")


def section_of(catalog: Catalog, cell: Cell) -> Section:
    """Return the section of one cell; in place of what cannot be read it has the reason."""
    try:
        found = dataset_parts(catalog, cell.name, catalog.path(cell.name), cell)
    except EXPECTED as error:
        found = [_warning(error, cell.name)]
    try:
        about = about_run(catalog, catalog.run(cell.name), cell.config)
    except UnknownRunError:
        about = []
    return Section(cell.name, [*found, *about], meaning_of(cell.provides))


def section_of_run(catalog: Catalog, run: RunView) -> Section:
    """Return the section of one run, whatever is declared by now; see :func:`section_of`."""
    try:
        folder, entry = catalog.path(run), catalog.lineage().of_run(run.uid)
        if entry is None:
            raise UnknownRunError(f"the dataset of run {run.key} is of another project")
        found = dataset_parts(catalog, entry.name, folder, entry)
        provides, config = entry.provides, entry.config
    except EXPECTED as error:
        found, provides, config = [_warning(error)], "", run.config
    about = about_run(catalog, run, config)
    return Section(f"{run.cell}, run {run.key}", [*found, *about], meaning_of(provides))


def meaning_of(schema: str) -> str:
    """Return a line on what the numbers of a kind of result mean, "" of other datasets."""
    return next((row.meaning for row in RESULTS if row.schema == schema), "")


def dataset_parts(catalog: Catalog, name: str, folder: Path, made: Cell | Entry) -> list[Part]:
    """Return what is shown of a dataset.

    Parameters
    ----------
    catalog : Catalog
        Of the project.
    name : str
        What its lineage knows the dataset by.
    folder : Path
        Where it is.
    made : Cell or Entry
        Of which stage and schema it is.
    """
    dataset = read_small(folder, made.stage)
    row = next((row for row in RESULTS if row.schema == made.provides), None)
    if row is not None:
        if "concept" in dataset.indexes:
            lineage = catalog.lineage()
            dataset = with_called(lineage, name, dataset, partial(called_by_readers, catalog))
            if row.is_named:
                dataset = with_names(lineage, name, dataset, partial(_read, lineage))
        found = row.parts({name: dataset})
    else:
        found = OTHERS.get(made.provides, _scalars)(catalog, name, dataset)
    told = str(dataset.attrs.get("unmatched_classes", ""))
    return [Note(told), *found] if told else found


def _warning(error: Exception, cell: str = "") -> Note:
    advice = advise(error, cell)
    return Note(" ".join([f"{advice.title}: {advice.reason}.", *advice.commands]), "warning")


def _read(lineage: Lineage, name: str) -> xr.Dataset:
    entry = lineage.entries[name]
    return read_small(str(entry.folder), entry.stage)


def subtitle_of(catalog: Catalog) -> str:
    """Return where a report comes from, and when it was written."""
    return f"{catalog.project.root.name}, {time_text(datetime.now(UTC))}"


def _scalars(_catalog: Catalog, cell: str, dataset: xr.Dataset) -> list[Part]:
    return [scalar_table(f"{cell}-numbers", dataset)]


def about_run(catalog: Catalog, run: RunView, config: Mapping[str, Any]) -> list[Part]:
    """Return what was asked of a run, and what identifies it."""
    command = repeat_command(run)
    again = f"To run it again: {command}" if command else ""
    figures = [
        Figure(f"{run.cell}-{one.name}", curve_chart(one), one.name, curve_note(one))
        for one in curves(catalog.metrics(run))
        if not one.points.empty
    ]
    return [
        Heading("Configuration and record"),
        Table(f"{run.cell}-configuration", settings_frame(config), "Configuration"),
        Table(f"{run.cell}-record", facts_frame(run), "Record", again),
        *([Heading("Metrics")] if figures else []),
        *figures,
    ]


# -- concepts and their pictures -----------------------------------------------------------------

LISTED = 100
"""Concepts of the table of a report."""

DRAWN, TILES = 24, 8
"""Concepts of a gallery that a report shows, and images of each."""


def concepts_parts(catalog: Catalog, cell: str, concepts: xr.Dataset) -> list[Part]:
    """Return what a report shows of a concept model: its figures, and its first concepts.

    Parameters
    ----------
    catalog : Catalog
        Where names, pictures and C2-scores are found.
    cell : str
        What made the concepts.
    concepts : xr.Dataset
        Of the schema ``concepts``.
    """
    lineage = catalog.lineage()
    makers = cells_of(lineage, "names", made_from=cell)
    names = _found(lineage, makers, drop_variables=NEXT_LABELS)
    gallery = _found(lineage, cells_of(lineage, "gallery", made_from=cell))
    scores = _found(lineage, made_of(lineage, cell, "consistency"))
    autoencoder = autoencoder_of(lineage, cell)
    sae = _found(lineage, [autoencoder] if autoencoder else [], drop_variables=WEIGHTS)
    fidelity = _found(lineage, fidelities_of(lineage, autoencoder))
    namer, best = "", None
    if names is not None:
        namers = namers_of(names)
        namer = namers[preferred_namer(namers)]
        best = best_names(names, namer)
    frame = with_noted(
        concepts_frame(concepts, best, scores),
        "called",
        called_by_readers(catalog, lineage.entries[cell].run),
    )
    parts: list[Part] = [Numbers(summary(concepts))]
    if not autoencoder:
        is_none = is_of_neurons(concepts)
        parts.append(Note(neurons_note(cell, concepts) if is_none else channels_note(cell)))
    if gallery is not None:
        parts.append(strongest(frame, gallery))
    parts += model_parts(cell, concepts, names, scores, best, fidelity=fidelity, sae=sae)
    listed, title = frame.head(LISTED), f"{noun(frame)}s"
    if len(frame) > LISTED:
        title = f"The {LISTED} of {len(frame):,} concepts that contribute most"
        if is_of_neurons(concepts):
            title = f"The first {LISTED} of {len(frame):,} neurons"
    if gallery is not None:
        pictures = pictures_of(gallery, listed["concept"].tolist())
        listed = listed.assign(picture=[pictures.get(one, "") for one in listed["concept"]])
    return [*parts, concept_table(cell, listed, namer, title)]


def neurons_parts(catalog: Catalog, cell: str, activations: xr.Dataset) -> list[Part]:
    """Return what a report shows of neurons that are no concepts; see :func:`concepts_parts`."""
    return concepts_parts(catalog, cell, with_statistics(as_concepts(activations)))


def _found(lineage: Lineage, names: Sequence[str], **options: Any) -> xr.Dataset | None:
    """Return the first dataset of some; None where there is none that can be read."""
    entry = lineage.entries.get(chosen_of(lineage, names))
    with suppress(*EXPECTED):
        if entry is not None and entry.folder is not None:
            return open_made(entry.folder, entry.stage, **options)
    return None


def gallery_parts(_catalog: Catalog, cell: str, gallery: xr.Dataset) -> list[Part]:
    """Return what a report shows of a gallery: images of the first concepts, and their colours."""
    concepts = gallery["concept"].values.tolist()
    left_out = len(concepts) - DRAWN
    what, kind = ("activation", "neuron") if "name" in gallery else ("presence", "concept")
    more = f"{left_out:,} more {kind}s are on the dashboard page of {cell}."
    layers = shown_below(gallery)
    below = next(iter(layers), "")
    about = " ".join(filter(None, (meaning_of_maps(below, layers), more if left_out > 0 else "")))
    parts: list[Part] = [Note(f"Images with the largest {what}. {about}")]
    for concept in concepts[:DRAWN]:
        shown = tiles(gallery, concept, TILES)
        pictures = [drawn(one, layers, what) for one in shown]
        title = titled(gallery.sel(concept=concept), concept)
        parts += [Heading(title[0].upper() + title[1:]), Pictures(pictures, below=below)]
    return parts


def texts_parts(_catalog: Catalog, cell: str, tokens: xr.Dataset) -> list[Part]:
    """Return what a report shows of next tokens: their neurons, and texts where they are strong."""
    frame = neurons_frame(tokens)
    listed = frame.head(LISTED)
    passages = strongest_texts(tokens, listed["concept"].tolist())
    listed = listed.assign(passage=[passages.get(one, "") for one in listed["concept"]])
    title = f"The first {LISTED} of {len(frame):,} neurons" if len(frame) > LISTED else "Neurons"
    return [
        Numbers(numbers_of(tokens, SUMMARY, ())),
        strongest_passages(tokens, frame),
        Table(file_name(cell, "neurons"), listed, title, columns=TABLE_COLUMNS),
    ]


# -- what training left --------------------------------------------------------------------------

CLASSES_SHOWN = 40


def network_parts(cell: str, network: xr.Dataset) -> list[Part]:
    """Return the loss of a network's training, and its accuracy on the test images by class.

    Parameters
    ----------
    cell : str
        What made it.
    network : xr.Dataset
        Of the schema ``network``.
    """
    of = of_labelled(network)
    numbers = [
        Number("accuracy", share_text(float(network["test_accuracy"])), "fraction", of),
        Number("test images", f"{network.sizes['image']:,}"),
        Number("classes", f"{network.sizes['class']:,}"),
        Number("parameters", f"{int(network['parameters']):,}", "trained values"),
    ]
    loss = network["loss"].values
    epochs = np.arange(1, len(loss) + 1)
    frame = pd.DataFrame({"epoch": epochs, "loss": loss.astype(np.float64)})
    curve = lines(frame, x="epoch", y="loss", x_title="epoch", y_title="mean loss", height=220)
    accuracy = class_accuracy(network)
    by_class = bars(
        accuracy.head(CLASSES_SHOWN), x_title="fraction of its images", domain=(0, 1), form=".1%"
    )
    more = len(accuracy) - CLASSES_SHOWN
    note = "Lowest first." + (f" {counted(more, 'more class')} left out." if more > 0 else "")
    return [
        Numbers(beside_accuracies(numbers, commonest_of(network))),
        Figure(file_name(cell, "loss"), curve, "Training loss"),
        Figure(file_name(cell, "accuracy"), by_class, "Accuracy by class", note),
        *_conversion(cell, network),
    ]


def _conversion(cell: str, network: xr.Dataset) -> list[Part]:
    """Return the accuracy on the way of a network that was B-cosified; nothing for others."""
    if "conversion" not in network:
        return []
    steps = [f"then {step}" for step in network["conversion"].values.astype(str)]
    ends = [[float(network[name])] for name in ("original_accuracy", "test_accuracy")]
    frame = pd.DataFrame(
        {
            "label": ["the original", *steps, "fine-tuned"],
            "value": np.concatenate([ends[0], network["conversion_accuracy"].values, ends[1]]),
        }
    )
    chart = bars(frame, x_title="accuracy", domain=(0, 1), form=".1%")
    note = f"Accuracies {beside_commonest(of_labelled(network), network)}."
    accuracy = network["epoch_accuracy"].values.astype(np.float64)
    by_epoch = pd.DataFrame({"epoch": np.arange(1, len(accuracy) + 1), "accuracy": accuracy})
    curve = lines(
        by_epoch, x="epoch", y="accuracy", x_title="epoch", y_title="accuracy", height=220
    )
    return [
        Figure(file_name(cell, "conversion"), chart, "From the original to a B-cos network", note),
        Figure(file_name(cell, "epochs"), curve, "Accuracy while it is fine-tuned", note),
    ]


def class_accuracy(network: xr.Dataset) -> pd.DataFrame:
    """Return ``label``, ``value``, the fraction of correct predictions, and ``images`` by class.

    The lowest comes first; classes without a labelled image are left out.
    """
    frame = network[["label", "prediction"]].to_dataframe().query("label >= 0")
    by_class = (frame["prediction"] == frame["label"]).groupby(frame["label"])
    found = by_class.agg(value="mean", images="count").reset_index()
    found["label"] = network["class"].values.astype(str)[found["label"]]
    return found.sort_values("value", kind="stable", ignore_index=True)


Shown = Callable[[Catalog, str, xr.Dataset], list[Part]]
"""From a catalog, a cell and its dataset to what is shown of it."""

OTHERS: Mapping[str, Shown] = {
    "activations": neurons_parts,
    "concepts": concepts_parts,
    "decisions": report_parts,
    "gallery": gallery_parts,
    "next_tokens": texts_parts,
    "network": lambda _, cell, dataset: network_parts(cell, dataset),
    "sae": lambda _, cell, dataset: sae_parts(cell, dataset),
}
"""By schema, what is shown of datasets that have no page of results of their own."""
