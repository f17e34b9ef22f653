"""What is published: the sets of concepts, decisions and results of chosen experiments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from dashboards.views.sections import RESULTS
from registry.catalog.access import Catalog
from registry.catalog.lineage import Entry, Lineage
from registry.declare.declared import Resource
from registry.declare.licences import Permission
from registry.declare.plugins import DATASETS
from registry.plan.project import MissingInputsError, Project
from registry.store.manifest import read_manifest

SETS = ("concepts", "activations", "next_tokens")
DECISIONS = "decisions"
SHOWN = ("images", "texts")
"""What datasets provide that pages show pieces of."""

NO_DATA = Permission("", "", False, "it rests on no images")
UNKNOWN = Permission("", "", False, "the data behind it is not known here any more")

KINDS = {**dict.fromkeys(SETS, "set"), DECISIONS: DECISIONS} | {
    row.schema: "result" for row in RESULTS
}
"""By schema, the kind of page; what is of none of these has no page of its own."""


@dataclass(frozen=True)
class Chosen:
    """One run that is published.

    Attributes
    ----------
    entry : Entry
        Its dataset.
    kind : str
        ``set``, ``decisions`` or ``result``.
    permission : Permission
        Whether pieces of the images or texts behind it may be published.
    """

    entry: Entry
    kind: str
    permission: Permission


def chosen_of(catalog: Catalog, lineage: Lineage, names: Sequence[str]) -> list[Chosen]:
    """Return what is published of the cells that names, patterns or suites mean; of all, of none.

    Raises
    ------
    SelectionError
        If a name means nothing.
    MissingInputsError
        If none of it is made, or has a page.
    """
    cells = catalog.project.graph.select(names)
    entries = [lineage.entries[lineage.standing_for(cell.name)] for cell in cells]
    licences = Licences(catalog.project, lineage)
    found = [licences.chosen(entry) for entry in entries if entry.run and entry.provides in KINDS]
    if not found:
        raise MissingInputsError(
            "nothing to publish: none of these experiments has finished with concepts, decisions "
            "or results; factbook status",
            command="factbook status",
        )
    return found


def kept_of(
    catalog: Catalog, lineage: Lineage, before: Mapping[str, Any], now: Sequence[Chosen]
) -> tuple[list[Chosen], list[dict[str, Any]]]:
    """Return the runs that a site has beside those that are chosen now.

    Parameters
    ----------
    catalog, lineage
        What there is.
    before : mapping
        The index of the site.
    now : sequence of Chosen
        What is chosen.

    Returns
    -------
    list of Chosen and list of dict
        Those whose dataset is still there; and those that are gone, as the index has them.
    """
    licences = Licences(catalog.project, lineage)
    chosen = {one.entry.run for one in now}
    kept, gone = [], []
    for page in before.get("pages", ()):
        entry = lineage.of_run(page["run"])
        if page["run"] in chosen:
            continue
        if entry is not None and entry.provides in KINDS:
            kept.append(licences.chosen(entry))
        elif not page["pictures"] or licences.is_still_given(page["dataset"]):
            gone.append(page)
    return kept, gone


@dataclass(frozen=True)
class Licences:
    """Finds out whose images and texts runs show.

    Attributes
    ----------
    project : Project
        What is declared.
    lineage : Lineage
        What was made from what.
    """

    project: Project
    lineage: Lineage

    def chosen(self, entry: Entry) -> Chosen:
        """Return a run with the permission that counts for it."""
        return Chosen(entry, KINDS[entry.provides], self.behind(entry))

    def is_still_given(self, dataset: str) -> bool:
        """Return whether a declared dataset may still be published."""
        resource = self._declared.get(dataset)
        return resource is not None and resource.permission.is_given

    def behind(self, entry: Entry) -> Permission:
        """Return whether the nearest images or texts that a run rests on may be published."""
        level = [entry]
        while level:
            found = [
                (one, slot, self._declared[name])
                for one in level
                for slot, name in one.needs.items()
                if name in self._declared
            ]
            if found:
                permissions = [self._permission(*each) for each in found]
                return next((p for p in permissions if not p.is_given), permissions[0])
            needed = dict.fromkeys(name for one in level for name in one.needs.values())
            if any(name not in self._known for name in needed):
                return UNKNOWN
            level = [self.lineage.entries[name] for name in needed if name in self.lineage.entries]
        return NO_DATA

    @cached_property
    def _declared(self) -> dict[str, Resource]:
        resources = self.project.declaration.resources.values()
        return {
            own.name: own for own in resources if own.family == DATASETS and own.provides in SHOWN
        }

    @cached_property
    def _known(self) -> set[str]:
        return {*self.lineage.entries, *self.project.declaration.resources}

    @cached_property
    def _fingerprints(self) -> Mapping[str, str]:
        return self.project.known_fingerprints(self.project.graph.cells)

    def _permission(self, entry: Entry, slot: str, resource: Resource) -> Permission:
        """Return the permission of a dataset, where it is the one that the run has read."""
        if entry.is_current or entry.folder is None:
            return resource.permission
        read = (read_manifest(entry.folder) or {}).get("inputs", {}).get(slot, {})
        if read.get("fingerprint") == self._fingerprints.get(resource.name):
            return resource.permission
        return Permission(resource.name, "", False, "it was another dataset when the run read it")
