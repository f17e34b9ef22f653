"""How much memory a program has taken, and a limit on what it takes."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

GROUPS = Path("/sys/fs/cgroup")


def peak() -> float:
    """Return the most memory of this process so far, in MiB.

    What ``getrusage`` tells may be that of the process which started it.
    """
    status = Path("/proc/self/status").read_text()
    told = re.search(r"VmHWM:\s*(\d+)", status)
    assert told is not None
    return int(told[1]) / 1024


def forget_peak() -> None:
    """Let :func:`peak` tell of what this process takes from now on."""
    Path("/proc/self/clear_refs").write_text("5")


@contextmanager
def limited(size: int) -> Iterator[bool]:
    """Limit what this process takes from now on, its files' page cache included.

    Parameters
    ----------
    size : int
        Bytes of a control group, within which Linux takes back what it can.

    Yields
    ------
    bool
        Whether that can be had: where it may make control groups.
    """
    is_first = (GROUPS / "memory").exists()  # of the two versions of control groups
    above = GROUPS / "memory" if is_first else GROUPS
    [own] = re.findall(
        r":memory:/(.*)" if is_first else "0::/(.*)", Path("/proc/self/cgroup").read_text()
    )
    group = above / f"factbook-{os.getpid()}"
    try:
        group.mkdir()
        limit = "memory.limit_in_bytes" if is_first else "memory.max"
        (group / limit).write_text(str(size))
        (group / "cgroup.procs").write_text(str(os.getpid()))
    except OSError:
        if group.exists():
            group.rmdir()
        yield False
        return
    try:
        yield True
    finally:
        (above / own / "cgroup.procs").write_text(str(os.getpid()))
        group.rmdir()
