"""``factbook list``, ``plan`` and ``status``: what is declared, and how it stands."""

from __future__ import annotations

import json
from typing import Any

import click

from registry.commands.here import (
    HELP,
    choice_of_tasks,
    plan_of,
    print_notes,
    project_here,
    summary_of,
)
from registry.terminal import count, duration, out, print_table


@click.command("list", context_settings=HELP)
@click.argument("what", nargs=-1)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_(what: tuple[str, ...], as_json: bool) -> None:
    """List what is declared: datasets, networks, experiments, suites.

    WHAT narrows it down to names or patterns, as 'fashion-*'.
    """
    project = project_here()
    described = project.declaration.describe()
    if what:
        chosen = {cell.experiment for cell in project.graph.select(what)}
        described = {
            "experiments": [e for e in described["experiments"] if e["name"] in chosen],
        }
    if as_json:
        click.echo(json.dumps(described, indent=2))
        return
    for group, rows in described.items():
        _print_group(group, rows)
        out.print()


def _print_group(group: str, rows: list[dict[str, Any]]) -> None:
    if group == "resources":
        resources = [(row["name"], row["family"], row["kind"], row["config"]) for row in rows]
        print_table(("resource", "table", "kind", "settings"), resources)
    elif group == "suites":
        members = [(row["name"], ", ".join(row["experiments"])) for row in rows]
        print_table(("suite", "experiments"), members)
    else:
        needs = [", ".join(f"{k}={v}" for k, v in row["needs"].items()) for row in rows]
        keys = ("name", "stage", "cells")
        lines = [(*(row[key] for key in keys), need) for row, need in zip(rows, needs, strict=True)]
        print_table(("experiment", "stage", "cells", "needs"), lines)


@click.command(context_settings=HELP)
@choice_of_tasks
def plan(targets: tuple[str, ...], **options: bool) -> None:
    """Show what would run, why, and about how long it takes.

    TARGETS are experiments, cells ('fashion-sae[k=8]'), patterns ('fashion-*') or suites; all that
    is declared if none is given. What they need is planned too. Durations are from earlier runs.
    """
    made = plan_of(project_here(), targets, **options)
    if made.due:
        rows = ((task.name, duration(task.seconds), task.reason) for task in made.due)
        print_table(("would run", "about", "because"), rows)
        out.print()
    complete = sum(not task.is_open for task in (*made.tasks, *made.settled))
    out.print(f"{summary_of(made)}; {count(complete, 'task')} up to date")
    print_notes(made.tasks)


@click.command(context_settings=HELP)
@click.argument("targets", nargs=-1)
@click.option("--verify", is_flag=True, help="Compare checksums: reads every byte on disk.")
def status(targets: tuple[str, ...], verify: bool) -> None:
    """Show the status of every task, and why it would run.

    TARGETS are as for `factbook plan`.
    """
    project = project_here()
    made = plan_of(project, targets, verify=verify)
    chosen = {cell.name for cell in project.graph.select(targets)}
    tasks = {task.name: task for task in (*made.tasks, *made.settled)}
    rows = (
        (task.name, str(task.state.status), task.state.run, task.reason)
        for task in tasks.values()
        if task.name in chosen or task.due
    )
    print_table(("task", "status", "last run", "would run because"), rows)
    print_notes(made.tasks)
