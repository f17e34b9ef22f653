"""Folders of many images: listed and hashed once, planned and opened in a moment.

In processor time: a bound in seconds should not be one on what others do.
"""

from __future__ import annotations

import os
import shutil
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fact.data.folder import ImageFolder
from registry.plan import listing
from registry.plan.listing import keep_listing, list_files
from registry.plan.project import open_project
from registry.store.durable import STATE_FOLDER
from tests.benchmarks.clock import least, seconds
from tests.benchmarks.table import Table

pytestmark = pytest.mark.benchmark

DECLARATION = """
[datasets.many]
kind = "image-folder"
root = "data"

[experiments.classifier]
stage = "fact.train_classifier"
needs = { images = "many" }
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(listing, "RACY_NS", -(10**12))
    (tmp_path / "experiments.toml").write_text(DECLARATION)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_fifty_thousand_files_are_planned_in_two_seconds(project: Path, table: Table) -> None:
    for group in range(100):
        (project / "data" / f"{group}").mkdir(parents=True)
        for index in range(500):
            (project / "data" / f"{group}" / f"{index}.jpg").write_bytes(os.urandom(500))

    def plan() -> None:
        assert len(open_project(project).plan().due) == 1

    plan()  # imports
    cold, warm = [], []
    for _ in range(3):
        shutil.rmtree(project / STATE_FOLDER)
        cold.append(seconds(plan, time.process_time))
        warm.append(seconds(plan, time.process_time))
    first, again = min(cold), min(warm)
    table.within("50,000 files planned cold", first, 2, "s", asked=2, note="processor time")
    table.costs("50,000 files planned again", again, first, 1 / 2, against="cold")
    (project / "data" / "7" / "7.jpg").write_bytes(b"other")
    changed = seconds(plan, time.process_time)
    table.costs("planned with one file changed", changed, first, 1 / 1.5, against="cold")


def test_a_folder_of_a_million_images_is_opened_in_a_second(project: Path, table: Table) -> None:
    """The listing is as of a million files; opening reads it, and looks at the folders."""
    root = project / "data"
    folders = [f"{split}/n{name:08d}" for split in ("train", "val") for name in range(1000)]
    for folder in folders:
        (root / folder).mkdir(parents=True)
    names = sorted(f"{folder}/image_{i:05d}.JPEG" for folder in folders for i in range(500))
    states = np.ones((len(names), 3), dtype=np.int64)
    made = replace(
        list_files(root),
        names=np.array(names, dtype=bytes),
        states=states,
        strays=np.zeros(len(names), dtype=bool),
    )
    keep_listing(project / STATE_FOLDER, root, made)

    def open_it() -> None:
        images = ImageFolder(str(root)).load()
        assert len(images.ids("train")) == len(images.labels("train")) == 500_000
        assert images.path(images.ids("val")[-1]) == names[-1]

    [taken] = least(open_it, clock=time.process_time)
    table.within("1,000,000 images opened", taken, 1, "s", asked=1, note="processor time")
