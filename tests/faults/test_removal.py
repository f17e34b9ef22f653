"""Garbage and deleted runs go as a whole: killed at any call, or while other runs are running."""

from __future__ import annotations

import random
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from registry import open_catalog
from registry.record.tombstones import half_deleted
from tests.faults.children import Fault
from tests.faults.conftest import ALL, TRIALS, Reference, Site
from tests.faults.test_kills import kinds_of

GC = ("factbook", "gc", "--yes")
DOORS = (
    ("factbook", "runs"),
    ("factbook", "run", "mean", "--here"),
    ("tests.registry.lab.average", "with", "mean"),
)


@pytest.fixture(scope="module")
def littered(reference: Reference, tmp_path_factory: pytest.TempPathFactory) -> Site:
    """A project with superseded datasets, and with what a killed run has left."""
    site = reference.site.copy(tmp_path_factory.mktemp("littered"))
    for name in (*ALL, "twice"):
        site.factbook("run", name, "--force", "--here")
    at = next(f for f in kinds_of(reference.calls["parts"]) if f.path.endswith("manifest.json"))
    assert site.run("parts", "--force", fault=at).was_killed
    return site


def garbage(site: Site) -> str:
    return site.factbook("gc")


def test_gc_killed_at_each_kind_of_call(
    littered: Site, tmp_path: Path, holds: Callable[[Site], dict[str, str]]
) -> None:
    whole = littered.copy(tmp_path / "whole")
    child = whole.start(*GC)
    assert child.wait() == 0, child.printed
    holds(whole)
    assert garbage(whole).endswith("nothing to remove\n")
    kinds = {re.sub("artifacts/[a-z]+/", "artifacts/*/", str(call)): call for call in child.calls}
    calls = child.calls if TRIALS > 1 else kinds.values()
    faults = list(dict.fromkeys(Fault(call.name, call.path) for call in calls))
    killed = 0
    for number, fault in enumerate(faults):
        site = littered.copy(tmp_path / str(number))
        killed += site.start(*GC, fault=fault).was_killed
        assert set(holds(site).values()) == {"complete"}
        site.factbook(*GC[1:])
        assert garbage(site).endswith("nothing to remove\n")
        assert site.leftovers() == []
        shutil.rmtree(site.root)
    assert killed == len(faults)


def test_gc_killed_at_a_random_call(
    littered: Site,
    tmp_path: Path,
    holds: Callable[[Site], dict[str, str]],
    chance: random.Random,
    trial: int,
) -> None:
    site = littered.copy(tmp_path)
    for _ in range(chance.randint(1, 3)):
        site.start(*GC, fault=Fault(number=chance.randint(1, 60))).wait()
        assert set(holds(site).values()) == {"complete"}
    site.factbook(*GC[1:])
    assert garbage(site).endswith("nothing to remove\n")


def test_a_deletion_killed_at_a_random_call_has_not_begun_or_is_finished(
    littered: Site, tmp_path: Path, chance: random.Random, trial: int
) -> None:
    site = littered.copy(tmp_path)
    with site.catalog() as catalog:
        uid = chance.choice([view.uid for view in catalog.runs(status="COMPLETED")])
        cell = catalog.run(uid).cell
    words = ("factbook", "delete", uid, "--even-if-needed", "--yes")
    site.start(*words, fault=Fault(number=chance.randint(1, 40))).wait()
    site.start(*chance.choice(DOORS)).wait()
    assert half_deleted(site.root) == []
    listed = site.factbook("runs", "-n", "0", "--csv")
    journal = site.root / ".factbook" / "journal" / uid
    folders = list(site.root.glob(f"artifacts/{cell}/*/{uid}"))
    if uid in listed:
        assert journal.is_dir()
        assert folders
        assert site.factbook("path", uid).strip() == str(folders[0])
    else:
        assert not journal.exists()
        assert not folders
        assert f"of '{cell}' was deleted on" in site.factbook("show", uid, status=1)
    statuses = site.statuses()
    assert {name for name in ALL if statuses[name] != "complete"} <= {cell}
    site.factbook("run", *ALL, "--here")
    assert set(site.statuses().values()) == {"complete"}


def test_a_deleted_run_is_not_adopted(littered: Site, tmp_path: Path) -> None:
    """It was killed when its dataset was whole, and not yet published."""
    site = littered.copy(tmp_path)
    at = Fault("os.rename", "artifacts/mean/HASH/RUN")
    assert site.run("mean", "--force", fault=at).was_killed
    with site.catalog() as catalog:
        uid = catalog.run("mean").uid
    site.factbook("delete", uid, "--yes")
    assert site.run("mean", "--force").wait() == 0
    assert [path.parent.name for path in site.root.rglob(f"*{uid}*")] == ["deleted"]


def test_a_deletion_that_was_killed_at_any_time_is_finished_in_the_database_too(
    littered: Site, tmp_path: Path, database_url: str, chance: random.Random, trial: int
) -> None:
    site, there = littered.copy(tmp_path), {"FACTBOOK_MONGO": database_url}
    assert site.start("factbook", "sync", environment=there).wait() == 0
    with open_catalog(site.root, database_url) as catalog:
        runs = catalog.runs(status="COMPLETED")
        chosen = chance.choice(list(runs))
        words = ("factbook", "delete", str(chosen.id), "--even-if-needed", "--yes")
        child = site.start(*words, environment=there)
        time.sleep(chance.uniform(0.05, 1.0))
        child.process.kill()
        child.wait()
        assert site.start("factbook", "runs", environment=there).wait() == 0
        known = {view.uid for view in catalog.runs(status="COMPLETED")}
        assert catalog.database is not None
        metrics = catalog.database.metrics.count_documents({"run_id": chosen.id})
    is_there = (site.root / ".factbook" / "journal" / chosen.uid).is_dir()
    assert known == {view.uid for view in runs if is_there or view.uid != chosen.uid}
    assert bool(list(site.root.glob(f"artifacts/*/*/{chosen.uid}"))) == is_there
    assert is_there or metrics == 0


def test_gc_beside_running_runs_takes_nothing_that_they_read(
    littered: Site, tmp_path: Path, reference: Reference, chance: random.Random, trial: int
) -> None:
    """The run reads a dataset that is superseded while it runs, so that nothing else needs it."""
    site = littered.copy(tmp_path)
    begun = Fault("open", "artifacts/mean/HASH/partial/holder", 1, seconds=1 + chance.random())
    running = site.start("factbook", "run", "mean", "--force", "--here", fault=begun)
    while not running.command.trace.exists() or "partial/holder" not in " ".join(
        call.path for call in running.calls
    ):
        time.sleep(0.01)
    site.factbook("run", "twice", "--force", "--here")
    while not running.has_ended:
        site.factbook(*GC[1:])
    assert running.wait() == 0, running.printed
    assert site.contents() == reference.contents
    assert site.runs()[-2:] != []
    assert set(site.statuses().values()) == {"complete"}
