"""Measure all that is measured: ``python -m tests.benchmarks [MODULE …]``, as ``make bench`` does.

Each module of benchmarks runs in a process of its own, one after another, so that none sees the
memory of another, and one that fails, or is killed, does not stop the rest. What was measured is
printed at the end as one table, and lies in ``tests/output/benchmarks.json`` and ``….md``.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.benchmarks.table import PAGE, RESULTS, Result, keep, read, text

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


def modules() -> list[str]:
    """Return the names of all modules of benchmarks."""
    return sorted(path.stem.removeprefix("test_") for path in HERE.glob("test_*.py"))


def measure(module: str, timeout: float) -> None:
    """Run the benchmarks of one module, and note if their process came to no end of its own."""
    path = HERE / f"test_{module}.py"
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-m",
        "benchmark",
        "-q",
        "--no-header",
        "--show-capture=no",
        str(path),
    ]
    try:
        code = subprocess.run(command, cwd=ROOT, timeout=timeout).returncode
    except subprocess.TimeoutExpired:
        code = -9
    if code not in (0, 1, 5):
        ended = (
            f"its process was ended by signal {-code}" if code < 0 else f"pytest ended by {code}"
        )
        keep({f"test_{module}": Result("failed", why=ended, load=os.getloadavg()[0])})


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("modules", nargs="*", help="as sae_step; all by default")
    parser.add_argument("--timeout", type=float, default=3600, help="seconds that each may take")
    asked = parser.parse_args()
    if unknown := set(asked.modules) - set(modules()):
        parser.error(f"no benchmarks {sorted(unknown)}; there are {', '.join(modules())}")
    RESULTS.unlink(missing_ok=True)
    for module in asked.modules or modules():
        measure(module, asked.timeout)
    results = read()
    sys.stdout.write(f"\n{text(results, shutil.get_terminal_size().columns)}\n\n{PAGE}\n")
    return int(any(result.outcome == "failed" for result in results.values()))


if __name__ == "__main__":
    sys.exit(main())
