"""``factbook compare``: results as means over seeds, and the settings of a matrix by them."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping

import click
import pandas as pd
from rich.markup import escape

from registry.catalog.seeds import over_seeds
from registry.columns import Column
from registry.commands.tasks import HELP, project_here
from registry.replicates import CONFIDENCE, DIFFERENCES, MEANS, SEED, Replicates, without_zeros
from registry.terminal import latex_table, out, text_table

TABLES = click.Choice(["means", "differences"])
TEXTS = ("result", "setting", "against")
"""Columns that come first, and stand at the left."""


@click.command(context_settings=HELP)
@click.argument("names", nargs=-1, required=True)
@click.option(
    "--over",
    default=SEED,
    show_default=True,
    help="Axis whose values are replicates; `experiment`: those of each name.",
)
@click.option(
    "--result",
    "results",
    multiple=True,
    metavar="PATTERN",
    help="As accuracy, or 'score.*' of a stage's table by row; repeatable. By default every scalar "
    "that is not the same in all cells.",
)
@click.option("--against", default="", metavar="SETTING", help="Compare with this, not the first.")
@click.option("--confidence", default=CONFIDENCE, show_default=True, help="Of the intervals.")
@click.option("--csv", "as_csv", type=TABLES, help="Print this table as CSV, numbers in full.")
@click.option("--latex", "as_latex", type=TABLES, help="Print this table as LaTeX.")
def compare(
    names: tuple[str, ...],
    over: str,
    results: tuple[str, ...],
    against: str,
    confidence: float,
    as_csv: str | None,
    as_latex: str | None,
) -> None:
    """Compare settings over seeds: means and differences.

    NAMES are experiments, cells, patterns or suites. Cells that differ in their seed alone are one
    setting, wherever in what they were made from the seed was varied. Settings are compared seed by
    seed (paired t) where they have seeds in common, else by Welch's test; `differ` is by Holm's p
    over all comparisons that are printed: --result narrows them down.
    """
    if as_csv and as_latex:
        raise click.UsageError("expected one of --csv and --latex")
    found = over_seeds(project_here(), names, over=over, results=results, confidence=confidence)
    differences = found.differences(against)
    tables = {"means": (found.means(), MEANS), "differences": (differences, DIFFERENCES)}
    if as_csv:
        click.echo(tables[as_csv][0].to_csv(index=False, lineterminator="\n"), nl=False)
    elif as_latex:
        click.echo(_latex(*tables[as_latex]), nl=False)
    else:
        _print(found, differences)


def _print(found: Replicates, differences: pd.DataFrame) -> None:
    click.echo(_text(found.means(), MEANS), nl=False)
    _print_notes(found.mean_notes())
    missing = [name for setting in found.settings for name in setting.missing]
    if missing:
        out.print(escape(f"factbook run {' '.join(map(shlex.quote, missing))}"), style="dim")
    if len(differences):
        out.print()
        click.echo(_text(differences, DIFFERENCES), nl=False)
        _print_notes(found.difference_notes(differences))


def _print_notes(notes: Iterable[str]) -> None:
    for note in notes:
        out.print(escape(note), style="dim")


def _cells(frame: pd.DataFrame, columns: Mapping[str, Column]) -> tuple[list[str], list[list[str]]]:
    """Return the header and the rows of a table as texts; columns of zeros that tell nothing go."""
    shown = without_zeros(frame)
    header = [columns[name].header or name for name in shown]
    texts = [[columns[name].text(value, "–") for value in shown[name].tolist()] for name in shown]
    return header, [list(row) for row in zip(*texts, strict=True)]


def _text(frame: pd.DataFrame, columns: Mapping[str, Column]) -> str:
    return text_table(*_cells(frame, columns), left=frame.columns.isin(TEXTS).sum())


def _latex(frame: pd.DataFrame, columns: Mapping[str, Column]) -> str:
    header, rows = _cells(frame, columns)
    return latex_table(header, rows, "".join("l" if n in TEXTS else "r" for n in header))
