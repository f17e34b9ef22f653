"""The server that workers are forked from, killed: what was asked is done, or said not to be."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress

import psutil

from tests.faults.conftest import OWN, Reference, Site, has_status, write_own_stage
from tests.faults.test_outages import program
from tests.forked import Forked

SLOW = """
def work(config, inputs, run):
    import xarray as xr
    time.sleep(2.5)
    return xr.Dataset({"value": 1.0})
"""


def servers(process: Forked) -> Iterator[psutil.Process]:
    """Yield the fork server of a command each time that there is a new one, until it ends."""
    known = set()
    while not process.has_ended:
        found = []
        with suppress(psutil.NoSuchProcess):  # it may end just now
            found = psutil.Process(process.pid).children()
        for child in found:
            line = ""
            with suppress(psutil.Error):  # it may be gone by now
                line = " ".join(child.cmdline())
            if child.pid not in known and "multiprocessing.forkserver" in line:
                known.add(child.pid)
                yield child
        time.sleep(0.02)


def killing(process: Forked, moment: Callable[[int], bool]) -> str:
    """Kill each fork server of a command that a moment is waited for; return what it printed."""
    number = 0
    for number, server in enumerate(servers(process)):
        while not moment(number):
            time.sleep(0.01)
            if process.has_ended:
                break
        with suppress(psutil.NoSuchProcess):
            server.kill()
    assert number
    return process.finish()


def test_it_is_started_anew_and_workers_go_on(site: Site, reference: Reference) -> None:
    """Killed while it loads, and again while a worker is at its task; other code then is told."""
    stage = write_own_stage(site.root, "slow", SLOW + "# first", OWN)
    status = ".factbook/journal/*/status.json"

    def moment(number: int) -> bool:
        if number == 1 and any(site.root.glob(status)):
            stage.write_text(stage.read_text().replace("# first", "# edited"))
            return True
        return number == 0 or number > 5

    with program(site, "run", "own", "twice", "--workers", "1") as process:
        printed = killing(process, moment)
    assert process.wait() == 0, printed
    assert printed.count("✓") == 2
    has_status(set(site.runs()), {("own", "COMPLETED"), ("twice", "COMPLETED")}, why=printed)
    assert site.contents()["twice"] == reference.contents["twice"]
    told = "code that was edited since the suite began: own_stages/slow.py"
    assert printed.count(told) == 1, printed


def test_what_cannot_be_started_is_said(site: Site) -> None:
    with program(site, "run", "twice", "mean", "parts") as process:
        printed = killing(process, lambda number: True)
    assert process.wait() == 1, printed
    assert "Aborted" not in printed
    assert "Traceback" not in printed
    for name in ("twice", "parts"):
        assert f"✗ {name}  failed\n    the server that starts workers was killed" in printed
    assert "– mean  blocked" in printed
    assert site.runs() == []
