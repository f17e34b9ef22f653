"""Jobs that several processes run together on a real Slurm, of which any may be killed."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests.clusters.conftest import Place
from tests.clusters.slurm import Slurm
from tests.conftest import MakeOnce
from tests.fact.chain import DECLARATION as CHAIN
from tests.fact.chain import copy_chain
from tests.faults.conftest import Site, has_status

SHARED = """
[experiments.shared]
stage = "tests.registry.lab.share"
config = { steps = 60 }

[resources.shared]
ranks = 2
"""
BY_WORD = {"job": "registry.cli", "launcher": "torch.distributed.run", "rank": "/door"}


def processes_of(root: Path, what: str) -> list[psutil.Process]:
    """Return processes of the jobs of a project: of a job itself, its launcher, or its ranks."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        with suppress(psutil.Error):
            words = process.info["cmdline"] or []
            is_ours = str(root) in words or process.cwd() == str(root)
            is_launcher = BY_WORD["launcher"] in words
            of_kind = any(word.endswith(BY_WORD[what]) for word in words)
            if is_ours and of_kind and is_launcher == (what == "launcher"):
                found.append(process)
    return found


@pytest.mark.parametrize("what", list(BY_WORD))
def test_a_job_of_several_processes_loses_one(
    place: Place, chance: random.Random, trial: int, what: str
) -> None:
    place.declare(SHARED)
    driver = place.start("shared")
    place.until(lambda: processes_of(place.root, what) or driver.has_ended)
    time.sleep(chance.uniform(0.0, 10.0))
    began = place.statuses("shared") == ["RUNNING"]
    if found := processes_of(place.root, what):
        with suppress(psutil.Error):
            chance.choice(found).kill()
    status = place.ends(driver, 0, 1)
    if status == 0:  # a process that had done its share may be missed as little as the launcher
        place.is_made_once("shared", "INTERRUPTED", *(["DIED"] if what == "job" else []))
        return
    *others, last = place.statuses("shared") or [""]
    has_status(last, "FAILED", "DIED", *([] if began else ["", "INTERRUPTED"]), why=driver.printed)
    has_status(set(others), set(), why=driver.printed)
    place.end(place.start("shared"))
    place.is_made_once("shared", "FAILED", "DIED", "INTERRUPTED")


def test_a_job_of_several_processes_is_interrupted_and_begins_again(
    place: Place, chance: random.Random, trial: int
) -> None:
    place.declare(SHARED)
    driver = place.start("shared")
    place.until(lambda: place.node_of("shared"))
    place.moment(chance, 14.0)
    with suppress(RuntimeError):  # it has ended
        place.slurm.ask("scancel", "--batch", "--signal=TERM", "--name=shared")
    place.ends(driver, 0)
    place.is_made_once("shared", "INTERRUPTED")


@pytest.fixture
def trained(slurm: Slurm, tmp_path: Path, make_once: MakeOnce) -> Iterator[Place]:
    """A project with features to train on."""
    slurm.clear()
    copy_chain(make_once, tmp_path / "project")
    (tmp_path / "project" / "experiments.toml").write_text(
        CHAIN.replace("epochs = 2, lr", "epochs = 3, lr")
        + '[executors.slurm]\nkind = "slurm"\npartition = "low"\npoll = "1 s"\n'
        + "[resources.fact.train_sae]\nranks = 2\ncpus = 2\n"
    )
    place = Place(Site(tmp_path / "project"), slurm)
    yield place
    for child in place.drivers:
        child.process.kill()


def test_an_sae_is_trained_by_two_processes(trained: Place) -> None:
    driver = trained.start("sae")
    trained.end(driver)
    trained.is_made_once("sae", "COMPLETED")  # by one process, when the chain was made
    with trained.site.catalog() as catalog:
        assert catalog.run("sae").facts["processes"] == 2
