"""The commands that evaluators add to ``factbook``."""

from __future__ import annotations

import csv
import sys
from collections.abc import Sequence

import click

from evals.metrics.registered import find_metric, list_metrics
from evals.metrics.table import Metric
from registry.declare.declaration import find_declaration
from registry.declare.faults import DeclarationError
from registry.plan.project import open_project
from registry.terminal import latex_table, print_table
from registry.wording import counted

HELP = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
COLUMNS = ("metric", "bounds", "needs", "family", "partner", "source")


@click.command("metrics", context_settings=HELP)
@click.argument("names", nargs=-1)
@click.option("--csv", "form", flag_value="csv", help="Print comma-separated values.")
@click.option("--latex", "form", flag_value="latex", help="Print a LaTeX table (booktabs).")
@click.option(
    "--check", "form", flag_value="check", help="Check them against the contract of metrics."
)
def metrics(names: tuple[str, ...], form: str | None) -> None:
    """List the metrics: built in, installed, and the project's own.

    With NAMES, say in full what each of these is.
    """
    _load_project_plugins()
    rows = [_find(name) for name in names] or list(list_metrics().values())
    if form == "check":
        sys.exit(_check(rows))
    elif form == "csv":
        _print_csv(rows)
    elif form == "latex":
        click.echo(latex_table(COLUMNS, map(cells, rows), "l" * len(COLUMNS)), nl=False)
    elif names:
        click.echo("\n\n".join(map(describe, rows)))
    else:
        print_table(COLUMNS, [cells(row) for row in rows])


def _load_project_plugins() -> None:
    """Load the metrics of the project, if this is one."""
    try:
        find_declaration()
    except DeclarationError:
        return
    open_project()


def _find(name: str) -> Metric:
    try:
        return find_metric(name)
    except KeyError as error:
        raise click.BadParameter(str(error), param_hint="NAMES") from None


def _check(rows: Sequence[Metric]) -> int:
    """Print what is wrong with each metric, and return 1 if anything is, else 0."""
    from evals.metrics.conformance import examine

    n_faults = 0
    for row in rows:
        faults = examine(row)
        n_faults += len(faults)
        click.echo(
            "\n  ".join(
                [f"{row.name}: {counted(len(faults), 'fault') if faults else 'no faults'}", *faults]
            )
        )
    return min(n_faults, 1)


def cells(row: Metric) -> list[str]:
    """Return a metric as text, in the order of `COLUMNS`."""
    needs = ", ".join(row.needs)
    return [row.name, bounds_of(row), needs, row.family, row.partner or "", row.source]


def bounds_of(row: Metric) -> str:
    """Return the bounds of a metric as ``0, 1``, or ``by data``."""
    return "by data" if row.bounds is None else ", ".join(f"{bound:g}" for bound in row.bounds)


def describe(row: Metric) -> str:
    """Return all that is known of a metric, as a paragraph and a list."""
    facts = {
        "bounds": bounds_of(row),
        "units": row.units,
        "needs": ", ".join(row.needs) or "nothing",
        "family": row.family,
        "partner": row.partner or "none",
        "source": row.source or "not given",
    }
    indented = (row.description or row.title).replace("\n", "\n  ").replace("\n  \n", "\n\n")
    lines = [f"  {name + ':':<8} {fact}" for name, fact in facts.items()]
    return "\n".join([row.name, f"  {indented}", "", *lines])


def _print_csv(rows: Sequence[Metric]) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow([*COLUMNS, "units", "title"])
    writer.writerows([*cells(row), row.units, row.title] for row in rows)
