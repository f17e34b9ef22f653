"""First looks at what a suite's tasks load, in a process of its own: ``python -m`` this module.

Whoever plans loads no network. Each resource is loaded once for all tasks that rest on it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from registry.declare.stage import Input, load_stage
from registry.plan.probes import Probes, unprobed
from registry.plan.project import Project, open_project
from registry.plan.task import Task
from registry.store.durable import read_json, write_json

LINES = 3


def take_first_looks(project: Project, tasks: Sequence[Task]) -> dict[str, str]:
    """Look at the resources of tasks that nobody has looked at yet, and keep what was found.

    Parameters
    ----------
    project : Project
        Where they were planned.
    tasks : sequence of Task
        Those that are to run.

    Returns
    -------
    dict of str to str
        What is wrong, by the task's name.
    """
    new = unprobed(project, tasks)
    if not new:
        return {}
    with tempfile.TemporaryDirectory(prefix="factbook-probe-") as folder:
        answers = Path(folder, "found.json")
        command = [sys.executable, "-m", __name__, str(project.root), str(answers)]
        names = json.dumps([task.name for task in new])
        # What can be imported here can be there, as in a worker.
        paths = os.pathsep.join(path or os.getcwd() for path in sys.path)
        env = os.environ | {"PYTHONPATH": paths}
        done = subprocess.run(command, input=names, capture_output=True, text=True, env=env)
        found = read_json(answers)
    if found is None:
        said = " ".join(done.stderr.strip().splitlines()[-LINES:])
        wrong = f"a first look ended with status {done.returncode}: {said}"
        return {task.name: wrong for task in new}
    good = {task.fingerprint: found[task.name] for task in new if "wrong" not in found[task.name]}
    Probes.of(project).keep(project, good)
    return {name: each["wrong"] for name, each in found.items() if "wrong" in each}


def _look(project: Project, names: Iterable[str]) -> dict[str, dict[str, Any]]:
    loaded: dict[str, _Once] = {}
    return {name: _look_at(project, name, loaded) for name in names}


def _look_at(project: Project, name: str, loaded: dict[str, _Once]) -> dict[str, Any]:
    cell = project.graph.cells[name]
    stage = load_stage(cell.stage)
    known = project.fingerprints(project.graph, name)
    inputs = {}
    for slot in stage.probed:
        resource = project.declaration.resources[cell.needs[slot]]
        settings = loaded.setdefault(resource.name, _Once(resource.settings))
        inputs[slot] = Input(
            slot, resource.name, resource.provides, known[resource.name], settings=settings
        )
    try:
        found = stage.probe(cell.config, inputs)
    except Exception as error:  # whatever would end the task
        text = "".join(traceback.format_exception_only(error)).strip()
        return {"wrong": " ".join(text.partition(": ")[2].split()) or text}
    of_resources = {known[cell.needs[slot]]: found.pop(slot, {}) for slot in stage.probed}
    return {**found, "resources": of_resources}


class _Once:
    """Settings of a resource that is loaded once."""

    def __init__(self, settings: Any):
        self._settings = settings

    def __getattr__(self, name: str) -> Any:
        return getattr(self._settings, name)

    def load(self) -> Any:
        if "_loaded" not in vars(self):
            self._loaded = self._settings.load()
        return self._loaded


def main(arguments: Sequence[str]) -> None:
    """Look at the tasks whose names stand on the standard input."""
    root, answers = arguments
    found: Mapping[str, Any] = _look(open_project(root), json.load(sys.stdin))
    write_json(Path(answers), found)


if __name__ == "__main__":
    main(sys.argv[1:])
