"""Measure all that is measured: ``python -m tests.benchmarks [MODULE …]``, as ``make bench`` does.

Each module of benchmarks runs in a process of its own, one after another, so that none sees the
memory of another, and one that fails, or is killed, does not stop the rest. What was measured is
printed at the end as one table, and lies in ``tests/output/benchmarks.json`` and ``….md``.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from tests.benchmarks.table import PAGE, RESULTS, Result, keep, read, text

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PATIENCE = 30.0
"""Seconds that benchmarks have to stop what they started, once they are to end."""


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
    process = subprocess.Popen(command, cwd=ROOT, start_new_session=True)
    try:
        code = wait(process, timeout)
    except subprocess.TimeoutExpired:
        code = -9
    finally:
        end(process)
    if code not in (0, 1, 5):
        ended = (
            f"its process was ended by signal {-code}" if code < 0 else f"pytest ended by {code}"
        )
        keep({f"test_{module}": Result("failed", why=ended, load=os.getloadavg()[0])})


def wait(process: subprocess.Popen[bytes], timeout: float) -> int:
    """Return the exit code of a process, which has so many seconds."""
    return process.wait(timeout)


def end(process: subprocess.Popen[bytes]) -> None:
    """End a process, which may stop what it started, and what is left of its session then."""
    with suppress(subprocess.TimeoutExpired):
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        process.wait(PATIENCE)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("modules", nargs="*", help="as sae_step; all by default")
    parser.add_argument("--timeout", type=float, default=3600, help="seconds that each may take")
    asked = parser.parse_args()
    if unknown := set(asked.modules) - set(modules()):
        parser.error(f"no benchmarks {sorted(unknown)}; there are {', '.join(modules())}")
    RESULTS.unlink(missing_ok=True)
    interrupted = False
    try:
        for module in asked.modules or modules():
            measure(module, asked.timeout)
    except KeyboardInterrupt:
        interrupted = True  # what was measured by then is told
    results = read()
    sys.stdout.write(f"\n{text(results, shutil.get_terminal_size().columns)}\n\n{PAGE}\n")
    if interrupted:
        return 130
    return int(any(result.outcome == "failed" for result in results.values()))


if __name__ == "__main__":
    sys.exit(main())
