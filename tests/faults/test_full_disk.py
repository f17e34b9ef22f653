"""The disk of the journals is full: what is small and matters is kept, and what is lost is told."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from registry.record.journal import Journal, journal_root, journal_uids, read_journal
from tests.faults.conftest import Site, write_own_stage
from tests.faults.test_outages import SOURCE
from tests.registry.lab.project import write_project

WORK = """
def make(config, inputs, run):
    import xarray as xr
    with open(run.partial.parents[3] / ".factbook/journal/filler", "wb", buffering=0) as filler:
        try:
            while True:
                filler.write(bytes(4096))
        except OSError:
            pass
    for step in range(60_000):
        run.log("loss", 1.0 / (step + 1), step)
    return xr.Dataset({"value": 0.5})
"""
DECLARATION = """
[experiments.own]
stage = "own_stages.log"
"""
MOUNT = 'mount -t tmpfs -o size=1m tmpfs .factbook/journal && "$@"; status=$?; {copy}; exit $status'


@pytest.mark.slow
@pytest.mark.parametrize("door", ["factbook", "module"])
def test_a_run_whose_journal_lacks_something_has_not_gone_well(tmp_path: Path, door: str) -> None:
    site = Site(write_project(tmp_path / "project", DECLARATION))
    write_own_stage(site.root, "log", WORK)
    (site.root / ".factbook" / "journal").mkdir(parents=True)
    # The small file system is seen within the command alone: its journals are copied at the end.
    script = MOUNT.format(copy=f"rm .factbook/journal/filler; cp -r .factbook/journal {tmp_path}")
    words = {
        "factbook": ["-m", "registry.cli", "run", "own", "--here"],
        "module": ["-m", "own_stages.log", "with", "own"],
    }[door]
    done = within(site, script, *words)
    assert done.returncode == 1, done.stdout + done.stderr
    journal = only_journal(site.root, tmp_path)
    kept = journal.metrics["loss"].count if "loss" in journal.metrics else 0
    missing = f"{60_000 - kept:,} logged points"
    assert f"the disk of the journal was full: {missing}" in done.stdout + done.stderr
    assert kept < 60_000
    assert journal.status == "FAILED"
    assert journal.fail_trace is not None
    assert missing in journal.fail_trace[0]
    assert journal.result == {"value": 0.5}
    assert journal.facts["lost"]["points"] == 60_000 - kept
    assert journal.announced == 60_000
    assert (site.root / journal.facts["output"]["path"] / "manifest.json").exists()
    assert site.values("own")["value"] == 0.5


@pytest.mark.slow
def test_what_gc_removes_from_a_full_disk_is_noted(site: Site, tmp_path: Path) -> None:
    """The first removal makes the room for its own note."""
    for _ in range(2):
        site.factbook("run", "twice", "--here", "--force")
    small = tmp_path / "small"
    small.mkdir()
    script = (
        f"mount -t tmpfs -o size=16m tmpfs {small} && cp -a . {small} && cd {small} && "
        '(cat /dev/zero > filler; true) && "$@" gc --yes; rm filler; "$@" doctor'
    )
    done = within(site, script, "-m", "registry.cli")
    assert "removed" in done.stdout, done.stdout + done.stderr
    assert done.stdout.endswith("all is well\n"), done.stdout + done.stderr


def within(site: Site, script: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a script that mounts something, for itself alone; its arguments are Python and words."""
    namespace = ["unshare", "--mount", "--map-root-user", "sh", "-c"]
    can_mount = [*namespace, "mount -t tmpfs x /mnt"]
    if not shutil.which("unshare") or subprocess.run(can_mount).returncode:
        pytest.skip("no file system can be mounted here")
    paths = os.pathsep.join([str(SOURCE), str(site.root)])
    return subprocess.run(
        [*namespace, script, "sh", sys.executable, *words],
        cwd=site.root,
        env={**os.environ, "PYTHONPATH": paths, "FACTBOOK_MONGO": "off"},
        capture_output=True,
        text=True,
    )


def only_journal(root: Path, copied: Path) -> Journal:
    """Put the copied journals in their place, and read the one that there is."""
    shutil.copytree(copied / "journal", journal_root(root), dirs_exist_ok=True)
    [uid] = journal_uids(root)
    return read_journal(journal_root(root) / uid)
