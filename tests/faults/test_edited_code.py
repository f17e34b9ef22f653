"""Code that is edited while a suite runs: a record says what ran, not what stands there by now."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from registry.record.journal import journal_root, journal_uids, read_journal
from tests.faults.conftest import Site, write_own_stage
from tests.faults.test_outages import program, wait_for
from tests.registry.lab.project import write_project

CODE = {
    "early": "VALUE = 1.0\n",
    "heavy": """
import time
from pathlib import Path
from own_stages.early import VALUE as EARLY

Path("loading").touch()
while not Path("load").exists():
    time.sleep(0.01)
from own_stages.late import VALUE as LATE

def make(config, inputs, run):
    import xarray as xr
    run.progress(0, 1)
    while not Path("go").exists():
        time.sleep(0.02)
    return xr.Dataset({"value": EARLY + LATE})
""",
    "late": "VALUE = 10.0\n",
}
DECLARATION = """
[experiments.own]
stage = "own_stages.make"
matrix = { number = [1.0, 2.0] }
"""
DOORS = {
    "workers": ("run", "own"),
    "here": ("factbook", "run", "own", "--here"),
    "module": ("own_stages.make", "with", "own[number=1.0]"),
}
CHANGED = "changed since run"


def write(folder: Path, code: dict[str, str]) -> None:
    """Write modules as editors do."""
    for name, text in code.items():
        (folder / "edited").write_text(text)
        os.replace(folder / "edited", folder / f"{name}.py")


@pytest.mark.slow
@pytest.mark.parametrize("door", DOORS)
def test_records_keep_the_code_that_was_loaded(tmp_path: Path, door: str) -> None:
    """Edited while modules are imported, before and after their turn, and while it runs."""
    root = write_project(tmp_path / "project", DECLARATION)
    stage = write_own_stage(root, "make", "")
    text = stage.read_text().replace("@stage.main", "")
    stage.write_text(text.replace("output=MADE", 'output=MADE, main="own_stages.heavy:make"'))
    write(stage.parent, CODE)
    loaded = CODE | {"late": "VALUE = 20.0\n"}
    site = Site(root)

    def edit_meanwhile() -> None:
        wait_for((root / "loading").exists)
        write(stage.parent, {"early": "VALUE = 2.0\n", "late": loaded["late"]})
        (root / "load").touch()
        wait_for(lambda: list(root.glob(".factbook/journal/*/progress.json")))
        write(stage.parent, {"heavy": CODE["heavy"].replace("EARLY +", "3 +"), "late": ""})
        (root / "go").touch()

    if door == "workers":
        with program(site, *DOORS[door]) as run:
            edit_meanwhile()
            printed = run.finish()
        assert run.wait() == 0, printed
    else:
        child = site.start(*DOORS[door])
        edit_meanwhile()
        assert child.wait() == 0, child.printed
    for uid in journal_uids(root):
        journal = read_journal(journal_root(root) / uid)
        assert journal.status == "COMPLETED"
        assert journal.result == {"value": 21.0}
        sources = dict(journal.experiment["sources"])
        for name, text in loaded.items():
            [md5] = [sources[file] for file in sources if file.endswith(f"/{name}.py")]
            assert (journal.folder / "sources" / md5).read_text() == text
    assert len(journal_uids(root)) == (1 if door == "module" else 2)
    assert CHANGED in site.factbook("plan", "own[number=1.0]")
    write(stage.parent, loaded)
    assert CHANGED not in site.factbook("plan", "own[number=1.0]")
