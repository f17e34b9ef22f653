"""The deletion of a run: its record, journal and dataset, together.

A tombstone is written first; from then on the run is deleted for every reader. What follows
(MongoDB, dataset, journal, in this order) may be cut short: whoever opens the project next finishes
it on disk, and whoever writes to MongoDB next finishes it there.
"""

from __future__ import annotations

import getpass
import shlex
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from registry.catalog.access import Catalog
from registry.catalog.runs import RunView
from registry.mongo.removal import apply_tombstones
from registry.plan.project import Project, finish_deletions
from registry.record.journal import journal_root, timestamp
from registry.record.tombstones import Tombstone, write_tombstone
from registry.store.durable import read_json
from registry.suggest import RefusalError
from registry.upkeep.inventory import Holding, Inventory, take_inventory

_OPEN = ("RUNNING", "QUEUED")


class DeletionError(RefusalError):
    """A run that is not deleted, and why."""


@dataclass(frozen=True)
class Deletion:
    """What the deletion of a run would remove, and what rests on it.

    Attributes
    ----------
    tombstone : Tombstone
        What would stay.
    holding : Holding or None
        Its dataset.
    readers : tuple of Holding
        Datasets that rest on its own: made from it, or from what was made from it.
    current : frozenset of str
        Their runs whose dataset is the current one of a cell as it is declared now.
    needed : str
        What any declared cell needs its dataset as; "" if none does.
    """

    tombstone: Tombstone
    holding: Holding | None
    readers: tuple[Holding, ...] = ()
    current: frozenset[str] = frozenset()
    needed: str = ""


def plan_deletion(catalog: Catalog, run: str) -> Deletion:
    """Return what the deletion of a run would remove.

    Raises
    ------
    DeletionError
        If it runs, or was recorded elsewhere, or MongoDB is away.
    UnknownRunError
        If there is no such run.
    """
    if catalog.trouble:
        raise DeletionError(f"{catalog.trouble}; nothing was deleted")
    view = catalog.run(run)
    if view.status in _OPEN:
        raise DeletionError(f"run {view.key} is {view.status}; stop it first")
    if not view.uid or not (journal_root(catalog.project.root) / view.uid).is_dir():
        raise DeletionError(f"run {view.key} was recorded {_elsewhere(view)}; delete it there")
    inventory = take_inventory(catalog.project)
    for reader, read in inventory.live.items():
        if view.uid in read:
            raise DeletionError(f"run {reader}, which is running, reads the dataset of {view.key}")
    holding = inventory.holdings.get(view.uid)
    readers = tuple(inventory.readers(view.uid))
    current = frozenset(each.run for each in readers if each.run in inventory.current)
    needed = inventory.needed_by_declared().get(view.uid, "")
    return Deletion(_tombstone(catalog, view, inventory), holding, readers, current, needed)


def _elsewhere(view: RunView) -> str:
    if not view.uid:
        return "by another client of Sacred"
    return f"in {view.facts.get('root', 'another folder')} on {view.host}"


def _tombstone(catalog: Catalog, view: RunView, inventory: Inventory) -> Tombstone:
    known = read_json(journal_root(catalog.project.root) / view.uid / "projected.json") or {}
    numbers = {each: note["run"] for each, note in known.items() if isinstance(note, Mapping)}
    if catalog.database is not None and view.id is not None:
        numbers[catalog.database.identity] = view.id
    return Tombstone(
        view.uid,
        view.cell,
        view.stage,
        view.fingerprint,
        view.status,
        timestamp(view.started) if view.started else "",
        timestamp(datetime.now(UTC)),
        f"{_user()}@{socket.gethostname()}",
        command_for(catalog.project, inventory, view),
        dict(view.config),
        str(view.output.get("path") or ""),
        numbers,
    )


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a user without a name, as in some containers
        return "somebody"


def command_for(project: Project, inventory: Inventory, view: RunView) -> str:
    """Return what makes a run's dataset again: as it is declared, or by Sacred's command line."""
    cell = inventory.declared.get((view.experiment, view.fingerprint))
    if cell is not None:
        others = (each for each in inventory.holdings.values() if each.is_whole)
        stays = any(e.fingerprint == view.fingerprint and e.run != view.uid for e in others)
        return f"factbook run {shlex.quote(cell)}{' --force' * stays}"
    nearest = project.graph.by_experiment.get(view.experiment, ())
    declared: Mapping[str, Any] = nearest[0].config if nearest else {}
    given = [
        f"{key}={value!r}"
        for key, value in _settings(view).items()
        if key not in declared or declared[key] != value
    ]
    needs = view.config.get("needs")
    if isinstance(needs, Mapping):
        own = nearest[0].needs if nearest else {}
        given += [f"needs.{slot}={name}" for slot, name in needs.items() if own.get(slot) != name]
    words = [*([view.experiment] if nearest else [f"experiment={view.experiment}"]), *given]
    return " ".join([f"python -m {view.stage} with", *map(shlex.quote, words)])


def _settings(view: RunView) -> dict[str, Any]:
    return {k: v for k, v in view.config.items() if k not in ("needs", "experiment")}


def delete_run(catalog: Catalog, deletion: Deletion) -> None:
    """Delete a run; killed at any moment, nothing has happened or the next command finishes it.

    Raises
    ------
    DatabaseError
        If MongoDB went away: the run is deleted, and `factbook sync` removes it there.
    """
    write_tombstone(catalog.project.root, deletion.tombstone)
    try:
        if catalog.database is not None:
            apply_tombstones(catalog.project.root, catalog.database)
    finally:
        finish_deletions(catalog.project)
