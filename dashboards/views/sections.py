"""What a report tells of each experiment: its run, and what its dataset is shown as."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import xarray as xr

from dashboards.views.concepts.concept_report import concepts_parts, gallery_parts
from dashboards.views.concepts.decisions import report_parts
from dashboards.views.concepts.labels import with_names
from dashboards.views.parts.parts import Figure, Heading, Note, Numbers, Part, Table
from dashboards.views.parts.text import time_text
from dashboards.views.results.results import RESULTS
from dashboards.views.results.view import ResultView
from dashboards.views.runs.advice import EXPECTED, advise
from dashboards.views.runs.curves import curve_chart, curve_note, curves
from dashboards.views.runs.datasets import read_small, scalar_table
from dashboards.views.runs.one_run import facts_frame, repeat_command, settings_frame
from dashboards.views.runs.pipeline import graph_figure, plan_numbers, task_table, tasks_of
from dashboards.views.runs.training import network_parts, sae_parts
from registry.catalog.access import Catalog, UnknownRunError
from registry.catalog.runs import RunView
from registry.declare.cells import Cell


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


Shown = Callable[[Catalog, str, xr.Dataset], list[Part]]
"""From a catalog, a cell and its dataset to what is shown of it."""

OTHERS: Mapping[str, Shown] = {
    "concepts": concepts_parts,
    "decisions": report_parts,
    "gallery": gallery_parts,
    "network": lambda _, cell, dataset: network_parts(cell, dataset),
    "sae": lambda _, cell, dataset: sae_parts(cell, dataset),
}
"""By schema, what is shown of datasets that have no page of results of their own."""


def sections_of(catalog: Catalog, names: Sequence[str]) -> list[Section]:
    """Return a section for each cell that names, patterns or suites mean.

    Several are preceded by how far they are.

    Raises
    ------
    SelectionError
        If a name means nothing.
    """
    cells = catalog.project.graph.select(names)
    first = [_pipeline(catalog, names)] if len(cells) > 1 else []
    return [*first, *(section_of(catalog, cell) for cell in cells)]


def _pipeline(catalog: Catalog, names: Sequence[str]) -> Section:
    plan = catalog.plan(names)
    tasks = tasks_of(plan)
    parts: list[Part] = [Numbers(plan_numbers(plan)), graph_figure(tasks), task_table(tasks)]
    return Section("Pipeline", parts, "Every task, what it needs, and why it would run.")


def section_of(catalog: Catalog, cell: Cell) -> Section:
    """Return the section of one cell; what cannot be read is told in place of its numbers."""
    results = {row.schema: row for row in RESULTS}
    row = results.get(cell.provides)
    try:
        dataset = _read(catalog, cell.name)
        if row is not None:
            found = row.parts({cell.name: _named(catalog, cell.name, dataset, row)})
        else:
            found = OTHERS.get(cell.provides, _scalars)(catalog, cell.name, dataset)
    except EXPECTED as error:
        advice = advise(error, cell.name)
        text = " ".join([f"{advice.title}: {advice.reason}.", *advice.commands])
        found = [Note(text, "warning")]
    return Section(cell.name, [*found, *_about_run(catalog, cell)], row.meaning if row else "")


def _read(catalog: Catalog, cell: str) -> xr.Dataset:
    return read_small(catalog.path(cell), catalog.project.cell(cell).stage)


def _named(catalog: Catalog, cell: str, dataset: xr.Dataset, row: ResultView) -> xr.Dataset:
    if not row.is_named:
        return dataset
    return with_names(catalog, cell, dataset, lambda name: _read(catalog, name))


def subtitle_of(catalog: Catalog) -> str:
    """Return where a report comes from, and when it was written."""
    return f"{catalog.project.root.name}, {time_text(datetime.now(UTC))}"


def _scalars(_catalog: Catalog, cell: str, dataset: xr.Dataset) -> list[Part]:
    return [scalar_table(f"{cell}-numbers", dataset)]


def _about_run(catalog: Catalog, cell: Cell) -> list[Part]:
    """Return what was asked of the run that made a dataset, and what identifies it."""
    try:
        run = catalog.run(cell.name)
    except UnknownRunError:
        return []
    settings = Table(f"{cell.name}-configuration", settings_frame(cell.config), "Configuration")
    record = Table(f"{cell.name}-record", facts_frame(run), "Record", note=_again(run))
    return [settings, *_curves(catalog, run), record]


def _curves(catalog: Catalog, run: RunView) -> list[Part]:
    drawn = [one for one in curves(catalog.metrics(run)) if not one.points.empty]
    heading: list[Part] = [Heading("Metrics")] if drawn else []
    figures = [
        Figure(f"{run.cell}-{one.name}", curve_chart(one), one.name, curve_note(one))
        for one in drawn
    ]
    return [*heading, *figures]


def _again(run: RunView) -> str:
    command = repeat_command(run)
    return f"To run it again: {command}" if command else ""
