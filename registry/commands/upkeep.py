"""``factbook gc``, ``delete``, ``doctor``, ``backup`` and ``restore``: the upkeep of a project."""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click
from rich.markup import escape

from registry.catalog.access import DeletedRunError
from registry.commands.records import catalog_here
from registry.commands.tasks import HELP, project_here, root_here
from registry.declare.faults import DeclarationError
from registry.mongo.database import DatabaseError, connect
from registry.terminal import duration, out, print_table
from registry.upkeep.backup import (
    Backup,
    database_name,
    require_backup,
    restore_backup,
    write_backup,
)
from registry.upkeep.deletion import Deletion, DeletionError, delete_run, plan_deletion
from registry.upkeep.doctor import examine, mend
from registry.upkeep.garbage import KINDS, Garbage, find_garbage, remove_garbage
from registry.wording import counted, size_text

MOST_LISTED = 40
_AGE = re.compile(r"(\d{1,6})\s*(min|h|d|w)")
_UNITS = {"min": "minutes", "h": "hours", "d": "days", "w": "weeks"}


class _Age(click.ParamType[timedelta]):
    """A span of time: ``30d``, ``12h``, ``2w``, ``90min``."""

    name = "age"

    def convert(self, value: Any, param: Any, ctx: Any) -> timedelta:
        if isinstance(value, timedelta):
            return value
        found = _AGE.fullmatch(str(value).strip())
        if found is None:
            self.fail(f"{value!r}; expected a number and min, h, d or w, as 30d", param, ctx)
        return timedelta(**{_UNITS[found[2]]: int(found[1])})


@click.command(context_settings=HELP)
@click.option(
    "--older-than",
    type=_Age(),
    default=timedelta(0),
    metavar="AGE",
    help="Keep what is younger: 30d, 12h, 2w.",
)
@click.option(
    "--keep",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Keep the newest N datasets of each cell.",
)
@click.option("--yes", is_flag=True, help="Remove it; otherwise it is only shown.")
def gc(older_than: timedelta, keep: int, yes: bool) -> None:
    """Show what nothing refers to, and how large it is, or remove it.

    Old datasets, what dead runs have left to be resumed, temporary files, room that dead journals
    hold back, logs. Never the current dataset of a cell as it is declared, nor what that, or a run
    that runs now, was made from. Records stay.
    """
    project = project_here()
    garbage = find_garbage(project, older_than, keep)
    if not garbage:
        out.print("nothing to remove")
        return
    _print_garbage(garbage)
    if links := _links_lost(garbage):
        out.print(f"\n{links}")
    total = f"{counted(len(garbage), 'item')}, {size_text(sum(each.size for each in garbage))}"
    if not yes:
        again = " ".join(["factbook gc", *_options(), "--yes"])
        out.print(f"\n{total}; nothing was removed; {again} removes it")
        return
    removed = list(remove_garbage(project, garbage))
    kept = f"; {counted(len(garbage) - len(removed), 'item')} in use by now"
    freed = size_text(sum(each.size for each in removed))
    some_kept = kept * (len(removed) < len(garbage))
    out.print(f"\nremoved {counted(len(removed), 'item')}, {freed}{some_kept}")


@click.command(context_settings=HELP)
@click.argument("run")
@click.option(
    "--even-if-needed", is_flag=True, help="Delete it also if a declared cell needs its dataset."
)
@click.option("--yes", is_flag=True, help="Delete it; otherwise what would go is only shown.")
def delete(run: str, even_if_needed: bool, yes: bool) -> None:
    """Show what a run holds and what depends on it, or delete it.

    Its record and its dataset go together. RUN is as for `factbook show`. What a declared cell
    needs is refused: its current dataset, or what that was made from. `show` says afterwards what
    was deleted, when, and what makes it again.
    """
    catalog = catalog_here()
    try:
        deletion = plan_deletion(catalog, run)
    except DeletedRunError as error:
        out.print(escape(error.tombstone.told))
        return
    _print_deletion(deletion)
    if deletion.needed and not even_if_needed:
        command = f"factbook delete {shlex.quote(run)} --even-if-needed"
        raise DeletionError(
            f"the dataset is {deletion.needed}; nothing was deleted; {command}", command=command
        )
    if not yes:
        words = ["factbook delete", shlex.quote(run), *["--even-if-needed"] * even_if_needed]
        out.print(f"\nnothing was deleted; {escape(' '.join(words))} --yes deletes it")
        return
    try:
        delete_run(catalog, deletion)
    except DatabaseError as error:
        raise DeletionError(
            f"run {deletion.tombstone.uid} is deleted; its record goes with the next sync: {error}",
            command="factbook sync",
        ) from error
    again = deletion.tombstone.command
    out.print(escape(f"\ndeleted run {deletion.tombstone.uid}; {again} makes it again"))


def _print_deletion(deletion: Deletion) -> None:
    tombstone, holding = deletion.tombstone, deletion.holding
    facts = {
        "run": tombstone.uid,
        "cell": tombstone.cell,
        "status": tombstone.status,
        "started": tombstone.started,
        "dataset": f"{holding.folder}  {size_text(holding.size)}" if holding else "",
    }
    print_table(("", ""), ((key, value) for key, value in facts.items() if value))
    if deletion.readers:
        out.print("\n[bold]what rests on its dataset[/bold]")
        rows = (
            (each.cell, each.run, "current" if each.run in deletion.current else "")
            for each in deletion.readers
        )
        print_table(("cell", "run", ""), rows)


@click.command(context_settings=HELP)
@click.option("--repair", is_flag=True, help="Mend what can be mended without losing anything.")
@click.option("--verify", is_flag=True, help="Compare checksums: reads every byte on disk.")
@click.pass_context
def doctor(ctx: click.Context, /, repair: bool, verify: bool) -> None:
    """Check a project: environment, records, journals and store.

    What is not as it should be is told with what to do. Exit status: 0 if all is well, or was
    mended; 1 if something is left.
    """
    with catalog_here() as catalog:
        findings = list(examine(catalog, verify=verify))
        if repair and any(finding.repair for finding in findings):
            mend(findings)
            with catalog_here() as mended:  # its database may be another one
                left = list(examine(mended, verify=verify))
            out.print(f"{len(findings) - len(left)} of {counted(len(findings), 'finding')} mended")
            findings = left
    if not findings:
        out.print("all is well")
        return
    print_table(("about", "what", "what to do"), ((f.about, f.what, f.remedy) for f in findings))
    ctx.exit(1)


@click.command(context_settings=HELP)
@click.argument("file", required=False, type=click.Path(dir_okay=False, path_type=Path))
@click.option("--datasets", is_flag=True, help="Back up the whole datasets of the store too.")
def backup(file: Path | None, datasets: bool) -> None:
    """Back up database and journals as one file.

    FILE is a .tar, .tar.gz or .tar.xz that is not there yet, named after project and time if it is
    not given. Datasets are files: back them up yourself, or with --datasets. Runs may be running.
    """
    here = Path.cwd()
    catalog = catalog_here()
    name = catalog.project.declaration.name.replace("/", "-")
    default = f"{name}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.tar{'' if datasets else '.gz'}"
    made = write_backup(catalog, here / (file or default), datasets=datasets)
    size = size_text(made.path.stat().st_size)
    out.print(escape(f"{made.path}: {_held(made)}, {size}"), soft_wrap=True)


@click.command(context_settings=HELP)
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--only-database",
    is_flag=True,
    help="Restore the records alone, into another database; the journals are here.",
)
def restore(file: Path, only_database: bool) -> None:
    """Restore a backup into an empty project and database.

    Into the project of the current folder, and the database that $FACTBOOK_MONGO names, or an
    embedded one. Nothing is overwritten. To move from the embedded database to a MongoDB: make a
    backup, set FACTBOOK_MONGO, and restore with --only-database.
    """
    path = file.absolute()
    try:
        root = root_here()
    except DeclarationError:
        root = Path.cwd()
    require_backup(path)
    database = connect(root, name=database_name(path, root))
    if database is not None:
        click.get_current_context().call_on_close(database.close)
    made = restore_backup(path, root, database, only_database=only_database)
    where = database.address if database is not None else "the journals alone"
    out.print(escape(f"restored {_held(made)}: {root}, {where}"), soft_wrap=True)


def _held(made: Backup) -> str:
    parts = [counted(made.collections.get("runs", 0), "record"), counted(made.journals, "journal")]
    return ", ".join([*parts, *([counted(made.datasets, "dataset")] if made.datasets else [])])


def _links_lost(garbage: Iterable[Garbage]) -> str:
    """Return which links of the dashboard have nothing to show any more; "" where all have."""
    n_runs = sum(each.kind == "dataset" and each.is_shown for each in garbage)
    if not n_runs:
        return ""
    runs = counted(n_runs, "earlier run")
    what = f"links to {runs} will no longer show their data, but when it was removed and what makes"
    return f"{what} it again; --keep N or --older-than AGE keeps some"


def _options() -> Sequence[str]:
    """Return the options of the command that was typed, without ``--yes``."""
    given = click.get_current_context().params
    age: timedelta = given["older_than"]
    minutes = int(age.total_seconds() // 60)
    span = f"{minutes // 1440}d" if minutes % 1440 == 0 else f"{minutes}min"
    return (
        *([f"--older-than {span}"] if minutes else []),
        *([f"--keep {given['keep']}"] if given["keep"] else []),
    )


def _print_garbage(garbage: Sequence[Garbage]) -> None:
    listed = [each for each in garbage if each.kind in ("dataset", "partial")][:MOST_LISTED]
    if listed:
        rows = (_row(each) for each in listed)
        print_table(("what", "of", "run", "age", "size", "because"), rows)
        out.print()
    print_table(("what", "how many", "size"), _sums(garbage))


def _row(garbage: Garbage) -> tuple[str, ...]:
    age = _age(datetime.now(UTC) - garbage.made)
    run = garbage.path.name if garbage.kind == "dataset" else ""
    return garbage.kind, garbage.what, run, age, size_text(garbage.size), garbage.why


def _age(age: timedelta) -> str:
    return f"{age.days} d" if age.days > 1 else duration(age.total_seconds())


def _sums(garbage: Iterable[Garbage]) -> list[tuple[str, str, str]]:
    numbers: Counter[str] = Counter()
    sizes: Counter[str] = Counter()
    for each in garbage:
        numbers[each.kind] += 1
        sizes[each.kind] += each.size
    return [(k, f"{numbers[k]:,}", size_text(sizes[k])) for k in KINDS if numbers[k]]
