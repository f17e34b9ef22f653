"""How long `make test` takes at several commits, one after another on one machine.

``python tests/benchmarks/suite_times.py cdf6b02 HEAD`` clones each commit, sets up its environment,
runs its tests with nothing beside them, and prints seconds, what was passed, and the ratio of the
first to each. It takes more than an hour.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]


def measure(commit: str, folder: Path) -> tuple[float, str]:
    """Return the seconds of `make test` at a commit, and the last line that it wrote."""
    git = ["git", "-c", "advice.detachedHead=false"]
    subprocess.run([*git, "clone", "--quiet", ROOT, folder], check=True)
    subprocess.run([*git, "checkout", "--quiet", commit], cwd=folder, check=True)
    needed = {"FACTBOOK_REQUIRE_BROWSER": "1", "FACTBOOK_REQUIRE_FASHION": "1"}
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | needed
    with (folder / "setup.log").open("wb") as log:
        subprocess.run(["make", ".venv/.ready"], cwd=folder, check=True, stdout=log, stderr=log)
    started = time.monotonic()
    with (folder / "test.log").open("wb") as log:
        subprocess.run(["make", "test"], cwd=folder, env=environment, stdout=log, stderr=log)
    seconds = time.monotonic() - started
    lines = (folder / "test.log").read_text(errors="replace").splitlines()
    return seconds, next(line for line in reversed(lines) if " passed" in line).strip("= ")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("commits", nargs="+", help="the first is what the others are compared with")
    commits = parser.parse_args().commits
    with tempfile.TemporaryDirectory() as folder:
        first = None
        for number, commit in enumerate(commits):
            seconds, told = measure(commit, Path(folder) / str(number))
            first = first or seconds
            sys.stdout.write(f"{commit}: {seconds:.0f} s, {first / seconds:.2f} x; {told}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
