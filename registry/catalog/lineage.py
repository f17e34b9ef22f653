"""A finished run's dataset and all that it was made from, by what lies on disk.

The present declaration has no say: what was superseded, or is declared no more, is found as it was.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from registry.declare.faults import ConfigError
from registry.declare.inputs import Input
from registry.declare.kinds import kinds
from registry.declare.stage import find_stage
from registry.plan.artifacts import ExperimentStore
from registry.store.durable import read_json
from registry.store.manifest import MANIFEST
from registry.store.schema import Schema


def recorded_schema(folder: Path) -> Schema | None:
    """Return the schema of a run's dataset as it is today; None where its stage is gone."""
    stage = find_stage(str((read_json(folder / MANIFEST) or {}).get("stage", "")))
    return stage.output if stage else None


def recorded_input(store: ExperimentStore, folder: Path, slot: str = "") -> Input | None:
    """Return the dataset of a run as a stage would be given it, with what is behind it.

    Parameters
    ----------
    store : ExperimentStore
        Where the datasets behind it lie.
    folder : Path
        The folder of the run.
    slot : str
        The slot that it fills; by default one of the name of its schema.

    Returns
    -------
    Input or None
        None if there is no whole dataset. What is gone of all behind it is left out.
    """
    manifest = read_json(folder / MANIFEST)
    if manifest is None:
        return None
    needs = (read_json(folder.parent / "task.json") or {}).get("needs", {})
    found = {
        name: _behind(store, name, facts, needs.get(name, {}))
        for name, facts in manifest["inputs"].items()
    }
    return Input(
        slot or manifest["schema"],
        manifest["experiment"],
        manifest["schema"],
        manifest["fingerprint"],
        path=folder,
        inputs={name: given for name, given in found.items() if given is not None},
        run=folder.name,
        content=manifest["content"],
    )


def _behind(
    store: ExperimentStore, slot: str, facts: Mapping[str, Any], need: Mapping[str, Any]
) -> Input | None:
    """Return what filled a slot: the dataset of a run, or what was declared then."""
    name, fingerprint, run = facts["name"], facts["fingerprint"], facts.get("run")
    if run is not None:
        return recorded_input(store, store.folder(name.partition("[")[0], fingerprint) / run, slot)
    kind = kinds(need.get("family", "")).get(need.get("kind", ""))
    if kind is None:
        return None
    try:
        settings = kind.settings.validate(kind.settings.rules.completed(need["settings"]))
    except ConfigError:  # declared in a form that this code does not know
        return None
    return Input(slot, name, facts["kind"], fingerprint, settings=settings)
