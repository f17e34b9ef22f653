"""What first looks have found of tasks and of resources, kept beside the journals.

They are of a fingerprint each, so that they hold for as long as that does.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from registry.declare.stage import load_stage
from registry.plan.project import Project
from registry.plan.task import Task
from registry.store.durable import make_state_folder, read_json, write_json

FILE = "probes.json"
MOST = 2000
"""Looks that are kept; of more, the latest."""


@dataclass(frozen=True)
class Probes:
    """What was found, by fingerprint.

    Attributes
    ----------
    found : mapping of str to mapping
        Of tasks.
    """

    found: Mapping[str, Mapping[str, Any]]

    @classmethod
    def of(cls, project: Project) -> Probes:
        """Read what a project has kept; a file that is damaged only costs another look."""
        kept = read_json(project.state / FILE)
        return cls({k: v for k, v in (kept or {}).items() if isinstance(v, dict)})

    def keep(self, project: Project, more: Mapping[str, Mapping[str, Any]]) -> Probes:
        """Keep more of them."""
        found = dict([*{**self.found, **more}.items()][-MOST:])
        with suppress(OSError):
            make_state_folder(project.state)
            write_json(project.state / FILE, found)
        return Probes(found)

    def of_resource(self, fingerprint: str) -> Mapping[str, Any]:
        """Return what was found of a resource, by whichever task."""
        looks = (found.get("resources", {}) for found in self.found.values())
        return next((look[fingerprint] for look in looks if fingerprint in look), {})


def unprobed(project: Project, tasks: Iterable[Task]) -> tuple[Task, ...]:
    """Return the tasks whose resources a first look should be taken at, and was not yet."""
    known = Probes.of(project).found
    resources = project.declaration.resources
    return tuple(
        task
        for task in tasks
        if (stage := load_stage(task.stage)).probe_path
        and task.fingerprint not in known
        and all(task.cell.needs.get(slot) in resources for slot in stage.probed)
    )
