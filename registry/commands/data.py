"""``factbook data``: whether what comes from outside is there, what is wrong, and how to get it."""

from __future__ import annotations

from collections.abc import Iterator

import click
from rich.markup import escape

from registry.commands.tasks import HELP, project_here
from registry.declare.declared import Resource
from registry.declare.plugins import check_of
from registry.declare.requirements import Download, Finding, Requirement
from registry.plan.project import Project
from registry.suggest import RefusalError, nearest
from registry.terminal import out


class UnknownDataError(RefusalError):
    """A name that no table of data sets or networks has."""


class NotReadyError(RefusalError):
    """Data that is missing, or wrong."""


@click.group(context_settings=HELP)
def data() -> None:
    """Look at the data that a project declares."""


@data.command(context_settings=HELP)
@click.argument("names", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="Look at every image, not at some.")
def check(names: tuple[str, ...], everything: bool) -> None:
    """Say of data what is there, what is missing or wrong, and how to get it.

    NAMES are of datasets, networks or others that are declared; by default all datasets, and all
    else that is read from files of yours or fetched. The exit status is 1 if one of them is not
    ready to be used.
    """
    project = project_here()
    looked_at = list(chosen(project, names))
    lacking = [one.name for one in looked_at if not _tell(project, one, everything)]
    if lacking:
        raise NotReadyError(f"not ready: {', '.join(lacking)}")


def chosen(project: Project, names: tuple[str, ...]) -> Iterator[Resource]:
    """Yield the resources that are named, or all datasets and all else that settings do not make.

    Raises
    ------
    UnknownDataError
        If there is none of that name.
    """
    resources = project.declaration.resources
    for name in names:
        if name not in resources:
            raise UnknownDataError(f"no dataset or network {name!r}{nearest(name, resources)}")
        yield resources[name]
    yield from (r for r in resources.values() if not names and _comes_from_outside(project, r))


def _comes_from_outside(project: Project, resource: Resource) -> bool:
    """Return whether a resource is a dataset, or one that settings alone do not make."""
    if resource.family == "datasets" or project.identity(resource)[0] != "":
        return True
    return any(isinstance(need, Download) for need in _needs(resource))


def _tell(project: Project, resource: Resource, every: bool) -> bool:
    """Write what is found of a resource; return whether it is ready."""
    out.print(escape(f"[{resource.family}.{resource.name}] {resource.kind}"), style="bold")
    missing = False
    for finding in examine(project, resource, every):
        missing = missing or finding.is_missing
        mark, style = ("fault", "red") if finding.is_missing else ("found", "")
        out.print(escape(f"  {mark:8}{finding}"), style=style, soft_wrap=True)
    source = getattr(resource.settings, "source", "")
    if missing and source:
        out.print(escape(f"  to get it: {source}"), soft_wrap=True)
    out.print("  ready" if not missing else "  not ready", style="green" if not missing else "red")
    return not missing


def examine(project: Project, resource: Resource, every: bool = False) -> Iterator[Finding]:
    """Yield what is there of the data of a resource, and all that is missing or wrong.

    Parameters
    ----------
    project : Project
        Where it is declared; relative paths begin in the current folder, which is its.
    resource : Resource
        What is looked at.
    every : bool
        Look at every part, which may take long.
    """
    looked = ((need, need.look()) for need in _needs(resource))
    found = [(need, finding) for need, finding in looked if finding is not None]
    yield from (finding for _, finding in found)
    if any(isinstance(need, Download) or finding.is_missing for need, finding in found):
        return  # what is fetched at the first use is not fetched here
    check = getattr(resource.settings, "check", None)
    general = check_of(resource.provides)
    if check is not None:
        yield from check(every)
    elif general is not None:
        yield from general(resource.settings, every)
    else:
        yield _identified(project, resource)


def _needs(resource: Resource) -> Iterator[Requirement]:
    requires = getattr(resource.settings, "requires", None)
    yield from requires() if callable(requires) else ()


def _identified(project: Project, resource: Resource) -> Finding:
    """Return whether the content of data can be read, of what nothing more is known."""
    identity, why = project.identity(resource)
    if identity is None:
        return Finding(why or "it cannot be read")
    return Finding(f"content {identity[:12]}" if identity else "made, not read", is_missing=False)
