"""Code that is edited while a suite runs: a record says what ran, not what stands there by now."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

import pytest

from registry.record.journal import journal_root, journal_uids, read_journal
from tests.faults.conftest import Site, write_own_stage
from tests.faults.test_outages import program
from tests.registry.lab.project import write_project

WORK = """
def make(config, inputs, run):
    import xarray as xr
    run.progress(0, 1)
    while not (run.partial.parents[3] / "go").exists():
        time.sleep(0.02)
    return xr.Dataset({"value": 1.0})
"""
DECLARATION = """
[experiments.own]
stage = "own_stages.make"
matrix = { number = [1.0, 2.0] }
"""


@pytest.mark.parametrize("runner", ["workers", "here"])
def test_records_keep_the_code_that_was_loaded(tmp_path: Path, runner: str) -> None:
    root = write_project(tmp_path / "project", DECLARATION)
    stage = write_own_stage(root, "make", WORK)
    text = stage.read_bytes()
    site = Site(root)
    with program(site, "run", "own", "--runner", runner, path=root) as run:
        deadline = time.monotonic() + 60
        while not list(root.glob(".factbook/journal/*/progress.json")):
            assert time.monotonic() < deadline
            assert run.poll() is None
            time.sleep(0.02)
        scratch = root / "edited"
        scratch.write_bytes(text.replace(b"1.0})", b"2.0})  # edited"))
        os.replace(scratch, stage)
        (root / "go").touch()
        printed, _ = run.communicate(timeout=120)
    assert run.returncode == 0, printed
    md5 = hashlib.md5(text).hexdigest()
    for uid in journal_uids(root):
        journal = read_journal(journal_root(root) / uid)
        assert journal.status == "COMPLETED"
        assert journal.result == {"value": 1.0}
        assert md5 in [digest for _, digest in journal.experiment["sources"]]
        assert (journal.folder / "sources" / md5).read_bytes() == text
    assert len(journal_uids(root)) == 2
