"""A run in another PID namespace of the same host, as in a container: no process of it is seen."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
import pytest

from registry.record.journal import EVENTS, journal_root, journal_uids, read_journal
from registry.record.liveness import ProcessIdentity, journal_status, note_death
from tests.faults.conftest import Site

UNSHARE = ("unshare", "--pid", "--fork", "--mount-proc")


def can_unshare() -> bool:
    known = shutil.which(UNSHARE[0])
    return bool(known) and subprocess.run([*UNSHARE, "true"], capture_output=True).returncode == 0


@pytest.fixture
def contained(site: Site) -> Iterator[tuple[Site, subprocess.Popen[bytes]]]:
    """A project with a long run that has begun in a namespace of its own."""
    if not can_unshare():
        pytest.skip("needs `unshare --pid --mount-proc`, which this user of this machine may not")
    words = (sys.executable, "-m", "tests.registry.lab.scale", "with", "twice", "sleep=100.0")
    environment = {**os.environ, "FACTBOOK_MONGO": "off", "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen(
        [*UNSHARE, *words], cwd=site.root, env=environment, stdout=subprocess.DEVNULL
    )
    while not any(read_journal(folder).status for folder in journals(site)):
        assert process.poll() is None, "it ended before it began"
        time.sleep(0.02)
    yield site, process
    for child in psutil.Process(process.pid).children() if process.poll() is None else ():
        child.kill()
    process.wait(60)


def journals(site: Site) -> list[Path]:
    return [journal_root(site.root) / uid for uid in journal_uids(site.root)]


@pytest.mark.slow
def test_a_run_in_a_container_lives_until_its_heart_stops(
    contained: tuple[Site, subprocess.Popen[bytes]],
) -> None:
    site, process = contained
    [folder] = journals(site)
    owner = ProcessIdentity.from_facts(read_journal(folder).facts)
    assert owner is not None
    assert owner.host == socket.gethostname()
    assert owner.pid < 10  # its number there, which another process has here
    assert owner.state() == "elsewhere"
    assert owner.place == f"{owner.host}, in another container"
    assert site.runs() == [("twice", "RUNNING")]
    assert not note_death(folder)  # which is for those who can see it
    later = datetime.now(UTC) + timedelta(minutes=5)
    assert journal_status(folder, later).status == "DIED"
    assert "running" in site.factbook("status", "twice")
    [child] = psutil.Process(process.pid).children()
    child.terminate()
    process.wait(60)
    assert site.runs() == [("twice", "INTERRUPTED")]


@pytest.mark.slow
def test_a_container_sees_no_process_outside_either(site: Site, tmp_path: Path) -> None:
    if not can_unshare():
        pytest.skip("needs `unshare --pid --mount-proc`, which this user of this machine may not")
    known = ProcessIdentity.current().facts()
    before = {name: value for name, value in known.items() if name != "pid_namespace"}
    program = (
        "from registry.record.liveness import ProcessIdentity as P\n"
        f"print(P.from_facts({known!r}).state(), P.from_facts({before!r}).state())\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [*UNSHARE, sys.executable, "-c", program]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["elsewhere", "gone"]  # records so far do not say where
    assert ProcessIdentity.from_facts(before) is not None
    assert ProcessIdentity.from_facts(before).state() == "alive"  # type: ignore[union-attr]


def test_the_journal_names_the_namespace(complete: Site) -> None:
    namespace = os.readlink("/proc/self/ns/pid")
    for folder in journals(complete):
        assert read_journal(folder).facts["pid_namespace"] == namespace
        assert (folder / EVENTS).is_file()


@pytest.mark.slow
def test_a_run_of_another_machine_of_this_name_lives_until_its_heart_stops(site: Site) -> None:
    """The machine is one that started at another time."""
    script = 'mount --bind boot /proc/sys/kernel/random/boot_id && exec "$@"'
    namespace = ["unshare", "--mount", "--map-root-user", "sh", "-c", script, "sh"]
    (site.root / "boot").write_text("another\n")
    if subprocess.run([*namespace, "true"], cwd=site.root, capture_output=True).returncode:
        pytest.skip("nothing can be mounted here")
    words = (sys.executable, "-m", "tests.registry.lab.scale", "with", "twice", "sleep=100.0")
    environment = {**os.environ, "FACTBOOK_MONGO": "off", "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen([*namespace, *words], cwd=site.root, env=environment) as process:
        try:
            while not any(read_journal(folder).status for folder in journals(site)):
                assert process.poll() is None, "it ended before it began"
                time.sleep(0.02)
            [folder] = journals(site)
            assert read_journal(folder).facts["boot"] == "another"
            assert site.runs() == [("twice", "RUNNING")]
            assert not note_death(folder)
        finally:
            process.kill()
    os.utime(folder / EVENTS, (0, 0))
    assert note_death(folder)
    assert site.runs() == [("twice", "DIED")]
