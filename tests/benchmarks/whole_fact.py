"""Runs what is due of a project in one process, and tells its memory."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from registry.execute.schedule import run_plan
from registry.plan.project import open_project
from registry.record.states import State
from tests.benchmarks.memory import peak


def main(root: Path) -> dict[str, float]:
    project = open_project(root / "experiments.toml")
    outcomes = run_plan(project, project.plan(), runner="here", journal_only=True)
    assert all(own.ending is State.COMPLETED for own in outcomes), outcomes
    return {"peak": peak()}


if __name__ == "__main__":
    sys.stdout.write("\n" + json.dumps(main(Path(sys.argv[1]))) + "\n")
