"""The disk of the journals is full: what is small and matters is kept, and what is lost is told."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from registry.record.journal import Journal, journal_root, journal_uids, read_journal
from tests.faults.conftest import Site, write_own_stage
from tests.forked import Forked
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
PRIVATE = """
    import ctypes, os, subprocess, sys
    from tests.forked import be

    NEW_MOUNTS, NEW_USERS = 0x00020000, 0x10000000  # of sched.h
    identities = {"uid_map": f"0 {os.getuid()} 1", "gid_map": f"0 {os.getgid()} 1"}
    if ctypes.CDLL(None).unshare(NEW_MOUNTS | NEW_USERS):
        raise OSError("no file system can be mounted here")
    for name, text in {"setgroups": "deny", **identities}.items():
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)

    def run(*words):
        child = os.fork()
        if not child:
            be(*words)
            sys.exit()
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    def mount(folder, size):
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], check=True)

    def fill(path):
        with open(path, "wb", buffering=0) as filler:
            try:
                while True:
                    filler.write(bytes(4096))
            except OSError:
                pass
"""
"""A process that mounts something for itself alone, and what it does there."""
JOURNALS = """
    mount(".factbook/journal", "1m")
    status = run(*sys.argv[2:])
    os.remove(".factbook/journal/filler")
    subprocess.run(["cp", "-r", ".factbook/journal", sys.argv[1]], check=True)
    sys.exit(status)
"""
SMALL = """
    mount(small := sys.argv[1], "16m")
    subprocess.run(["cp", "-a", ".", small], check=True)
    os.chdir(small)
    fill("filler")
    run("factbook", "gc", "--yes")
    os.remove("filler")
    sys.exit(run("factbook", "doctor"))
"""


@pytest.mark.slow
@pytest.mark.parametrize("door", ["factbook", "module"])
def test_a_run_whose_journal_lacks_something_has_not_gone_well(tmp_path: Path, door: str) -> None:
    site = Site(write_project(tmp_path / "project", DECLARATION))
    write_own_stage(site.root, "log", WORK)
    (site.root / ".factbook" / "journal").mkdir(parents=True)
    # The small file system is seen within the command alone: its journals are copied at the end.
    words = {
        "factbook": ["factbook", "run", "own", "--here"],
        "module": ["own_stages.log", "with", "own"],
    }[door]
    status, printed = within(site, JOURNALS, str(tmp_path), *words)
    assert status == 1, printed
    journal = only_journal(site.root, tmp_path)
    kept = journal.metrics["loss"].count if "loss" in journal.metrics else 0
    missing = f"{60_000 - kept:,} logged points"
    assert f"the disk of the journal was full: {missing}" in printed
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
    status, printed = within(site, SMALL, str(small))
    assert status == 0, printed
    assert "removed" in printed
    assert printed.endswith("all is well\n"), printed


def within(site: Site, script: str, *words: str) -> tuple[int, str]:
    """Run a script that mounts something, for itself alone; return its status and what it says."""
    namespace = ["unshare", "--mount", "--map-root-user", "sh", "-c"]
    can_mount = [*namespace, "mount -t tmpfs x /mnt"]
    if not shutil.which("unshare") or subprocess.run(can_mount).returncode:
        pytest.skip("no file system can be mounted here")
    environment = {"FACTBOOK_MONGO": "off"}
    program = Forked(PRIVATE + script, *words, folder=site.root, environment=environment)
    printed = program.finish()
    return program.wait(), printed


def only_journal(root: Path, copied: Path) -> Journal:
    """Put the copied journals in their place, and read the one that there is."""
    shutil.copytree(copied / "journal", journal_root(root), dirs_exist_ok=True)
    [uid] = journal_uids(root)
    return read_journal(journal_root(root) / uid)
