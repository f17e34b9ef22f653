"""What a plan's tasks need and is not there, found before the first of them is run.

Stages and kinds say what they need (:mod:`registry.declare.requirements`); data from outside is
found by its identity. Each missing thing is told once, with the tasks that need it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

from registry.declare.cells import Cell, Graph
from registry.declare.declared import Resource
from registry.declare.requirements import (
    Estimate,
    Finding,
    Requirement,
    free_bytes,
    memory_bytes,
)
from registry.declare.stage import load_stage
from registry.plan.looking import looked_at_once
from registry.plan.probes import Probes
from registry.plan.project import Project
from registry.plan.task import Task
from registry.store.manifest import CURRENT, read_manifest
from registry.suggest import RefusalError
from registry.wording import size_text

WORTH_TELLING = 10**9
"""Bytes to be written from which on a plan says how many."""

MOST_NAMED = 3
"""Tasks that are named with what they need; of more, their number."""


@dataclass(frozen=True)
class Need:
    """What was found of something that tasks need.

    Attributes
    ----------
    finding : Finding
        What is missing, or worth knowing.
    tasks : tuple of str
        Names of the tasks that cannot run without it, in order; none of what is an estimate.
    """

    finding: Finding
    tasks: tuple[str, ...]

    def __str__(self) -> str:
        if not self.finding.is_missing:
            return str(self.finding)
        if not self.tasks:
            return str(self.finding)
        more = len(self.tasks) - MOST_NAMED
        listed = ", ".join(self.tasks[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
        return f"{self.finding} (for {listed})"


@dataclass(frozen=True)
class Preflight:
    """What is to be said before a plan's first task is run.

    Attributes
    ----------
    needs : tuple of Need
        Each thing once.
    """

    needs: tuple[Need, ...] = ()

    @property
    def missing(self) -> tuple[Need, ...]:
        """What has to be there and is not."""
        return tuple(need for need in self.needs if need.finding.is_missing)

    @property
    def notes(self) -> tuple[Need, ...]:
        """What should be known."""
        return tuple(need for need in self.needs if not need.finding.is_missing)

    @property
    def lacking(self) -> dict[str, str]:
        """What each task lacks that cannot be run, by the task's name."""
        found: dict[str, list[str]] = {}
        for need in self.missing:
            for task in need.tasks:
                found.setdefault(task, []).append(str(need.finding))
        return {task: "\n".join(lacks) for task, lacks in found.items()}


class UnmetNeedsError(RefusalError):
    """Tasks that cannot run.

    Parameters
    ----------
    ahead : Preflight
        What is missing.
    outcome : str
        What was done about it.
    """

    def __init__(self, ahead: Preflight, outcome: str = ""):
        lines = [f"missing: {need}" for need in ahead.missing]
        super().__init__("\n".join([*lines, *filter(None, [outcome])]))


@looked_at_once()
def look_ahead(
    project: Project,
    tasks: Collection[Task],
    graph: Graph | None = None,
    wrong: Mapping[str, str] | None = None,
) -> Preflight:
    """Look for all that tasks need.

    Parameters
    ----------
    project : Project
        Where they were planned.
    tasks : collection of Task
        Those that are to run, each after those that it needs.
    graph : Graph, optional
        The cells that they are of, where they are not the declared ones.
    wrong : mapping of str to str, optional
        What first looks have found wrong, by the task's name.
    """
    graph = graph or project.graph
    of_resources: dict[str, tuple[Requirement, ...]] = {}
    needing: dict[Requirement, dict[str, None]] = {}
    for task in tasks:
        if task.experiment not in of_resources:
            loaded = what_is_loaded(graph, task.cell).values()
            of_resources[task.experiment] = tuple(
                n for it in loaded if isinstance(it, Resource) for n in _required_by(it)
            )
        own = load_stage(task.stage).requires(task.cell.config)
        for requirement in (*own, *of_resources[task.experiment]):
            needing.setdefault(requirement, {})[task.name] = None
    found: dict[Finding, dict[str, None]] = {}
    with contextlib.chdir(project.root):  # where relative paths begin
        for name, text in _refused(project, graph, tasks):
            found.setdefault(Finding(text), {})[name] = None
        for requirement, finding in _looked(needing):
            if finding is not None:
                found.setdefault(finding, {}).update(needing[requirement])
        for finding, name in _unfit(project, graph, tasks):
            found.setdefault(finding, {})[name] = None
        for finding, names in _unreadable(project, tasks):
            found.setdefault(finding, {}).update(dict.fromkeys(names))
    for name, text in (wrong or {}).items():
        found.setdefault(Finding(text), {})[name] = None
    found |= {finding: {} for finding in _room(project, tasks)}
    return Preflight(tuple(Need(finding, tuple(names)) for finding, names in found.items()))


def _looked(needed: Collection[Requirement]) -> Iterator[tuple[Requirement, Finding | None]]:
    """Yield what was found of each requirement; servers that do not answer are waited for once."""
    with ThreadPoolExecutor(len(needed) or 1, thread_name_prefix="look") as pool:
        yield from zip(
            needed, pool.map(lambda requirement: requirement.look(), needed), strict=True
        )


def what_is_loaded(graph: Graph, cell: Cell) -> dict[str, Resource | Cell]:
    """Return what a cell's stage loads, by slot: what it needs itself, and what it reaches for.

    Parameters
    ----------
    graph : Graph
        Where the cell belongs.
    cell : Cell
        The cell.
    """
    resources = graph.declaration.resources
    names = dict(cell.needs)
    for slot in load_stage(cell.stage).reaches:
        if name := _origin(graph, cell, slot):
            names.setdefault(slot, name)
    return {slot: resources.get(name) or graph.cells[name] for slot, name in names.items()}


def _refused(project: Project, graph: Graph, tasks: Iterable[Task]) -> Iterator[tuple[str, str]]:
    """Yield the names of tasks whose stage refuses what it would load, each with the reason."""
    asked = [task for task in tasks if load_stage(task.stage).refuses]
    if not asked:
        return
    known, probes = project.fingerprints(graph, *(task.name for task in asked)), Probes.of(project)
    for task in asked:
        loaded = {
            slot: replace(it, found=probes.of_resource(known[it.name]))
            if isinstance(it, Resource)
            else it
            for slot, it in what_is_loaded(graph, task.cell).items()
        }
        for text in load_stage(task.stage).refuse(task.cell.config, loaded):
            yield task.name, text


def _unfit(project: Project, graph: Graph, tasks: Iterable[Task]) -> Iterator[tuple[Finding, str]]:
    """Yield what tasks would fail for in the data that they load, which is looked at once each."""
    looks: dict[str, Callable[[Mapping[str, Any]], Iterable[str]] | None] = {}
    for task in tasks:
        for it in what_is_loaded(graph, task.cell).values():
            if not isinstance(it, Resource):
                continue
            if it.name not in looks:
                lacks = getattr(it.settings, "lacks", None)
                looks[it.name] = None
                if lacks and project.identity(it)[0] is not None and _is_readable(it):
                    looks[it.name] = lacks()
            if look := looks[it.name]:
                for text in look(task.cell.config):
                    yield Finding(f"[{it.family}.{it.name}] {text}"), task.name


def _origin(graph: Graph, cell: Cell, slot: str) -> str | None:
    """Return the name of the nearest thing behind a cell that fills a slot."""
    layer: list[Mapping[str, str]] = [cell.needs]
    while layer:
        for needs in layer:
            if slot in needs:
                return needs[slot]
        names = dict.fromkeys(name for needs in layer for name in needs.values())
        layer = [graph.cells[name].needs for name in names if name in graph.cells]
    return None


def _required_by(resource: Resource) -> tuple[Requirement, ...]:
    requires = getattr(resource.settings, "requires", None)
    return tuple(requires()) if callable(requires) else ()


def _is_readable(resource: Resource) -> bool:
    """Whether nothing is missing that reads a resource, as a package."""
    found = (requirement.look() for requirement in _required_by(resource))
    return not any(each is not None and each.is_missing for each in found)


def _unreadable(project: Project, due: Iterable[Task]) -> Iterator[tuple[Finding, list[str]]]:
    """Yield what is wrong with data that cannot be read, with the tasks that rest on it."""
    tasks: dict[str, list[str]] = {}
    behind: dict[str, set[str]] = {}
    for task in due:
        needs = task.cell.needs
        names = {needs[slot] for slot, it in task.resources.items() if it["identity"] is None}
        behind[task.name] = names.union(*(behind.get(name, ()) for name in needs.values()))
        for name in sorted(behind[task.name]):
            tasks.setdefault(name, []).append(task.name)
    for name, needing in tasks.items():
        yield _of_data(project, project.declaration.resources[name]), needing


def _of_data(project: Project, resource: Resource) -> Finding:
    """Return why data cannot be read: for want of a package, or where it was looked for."""
    looks = (requirement.look() for requirement in _required_by(resource))
    if lack := next((found for found in looks if found and found.is_missing), None):
        return lack
    why = project.identity(resource)[1] or "it cannot be read"
    table = f"[{resource.family}.{resource.name}]"
    source = getattr(resource.settings, "source", "")
    remedy = f"put it there, or change {table}" + (f"; {source}" if source else "")
    return Finding(f"the data of {resource.name!r} cannot be read: {why}", remedy)


def _room(project: Project, tasks: Iterable[Task]) -> Iterator[Finding]:
    """Yield what is estimated of disk and memory, and whether there is as much."""
    known = estimates(project, tasks)
    disk = {name: found.disk for name, found in known.items() if found.disk}
    memory = {name: found.memory for name, found in known.items() if found.memory}
    total, root = sum(disk.values()), project.store.root
    if total > (free := free_bytes(root)):
        largest = max(disk, key=disk.__getitem__)
        text = f"disk: about {size_text(total)} will be written, most by {largest}, and "
        yield Finding(
            f"{text}{size_text(free)} are free at {root}", "make room, or another `store`"
        )
    elif total > WORTH_TELLING:
        text = f"about {size_text(total)} will be written, {size_text(free)} are free at {root}"
        yield Finding(text, is_missing=False)
    if memory and max(memory.values()) > (held := memory_bytes()):
        largest = max(memory, key=memory.__getitem__)
        text = f"memory: {largest} takes about {size_text(memory[largest])}, of {size_text(held)}"
        yield Finding(text, "make it smaller, or run it on another machine")


def estimates(project: Project, tasks: Iterable[Task]) -> dict[str, Estimate]:
    """Return what tasks take of which that is known, by name.

    Parameters
    ----------
    project : Project
        Where they were planned.
    tasks : iterable of Task
        Each after those that it needs.
    """
    probes = Probes.of(project).found
    known: dict[str, Estimate] = {}
    for task in tasks:
        stage = load_stage(task.stage)
        sizes = {
            slot: known[name].sizes if name in known else _sizes(project, name, task.inputs[slot])
            for slot, name in task.cell.needs.items()
        }
        found = stage.estimate(task.cell.config, sizes, probes.get(task.fingerprint, {}))
        if found is not None:
            known[task.name] = found
    return known


def _sizes(project: Project, name: str, fingerprint: str) -> Mapping[str, int]:
    """Return the sizes of a dataset that is there; none of what is not."""
    experiment = name.partition("[")[0]
    manifest = read_manifest(project.store.folder(experiment, fingerprint) / CURRENT)
    return manifest["sizes"] if manifest else {}
