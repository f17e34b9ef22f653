"""Wrote ``suite.tar.xz``, ``records.json.xz`` and ``values.json``: how they came about.

It ran once, with the code of commit cdf6b02 checked out at /srv/factbook/source, where Python was
under /srv/factbook too, on a host called ``factbook-fixture``; and it is never run again. What it
wrote stands for the journals, datasets and records that users have, which every later version must
read. It names modules as they were called then::

    python -m tests.compatibility.write_suite /srv/factbook/suite
"""

# isort: skip_file
from __future__ import annotations

import csv
import json
import lzma
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

import bson.json_util
import numpy as np
from PIL import Image

import fact.activations
import fact.collect_features
import fact.measurement
from registry import server
from registry.catalog import Catalog, open_catalog
from registry.execute import Ending, Watcher, run_plan
from registry.notes import Note, concept_subject, run_subject, write_note
from registry.project import open_project
from registry.projector import sync
from tests.compatibility.values import described

HERE = Path(__file__).parent
FAILING, INTERRUPTED, KILLED = "failing", "interrupted", "killed"


def main(root: Path) -> None:
    """Run the suite in a folder, and pack what it left."""
    root.mkdir(parents=True)
    shutil.copy(HERE / "suite" / "experiments.toml", root)
    _write_data(root / "data")
    os.chdir(root)
    _run(root, ["whole", FAILING])
    _run(root, ["labels"], force=True)
    _command(root, "fact.label_inputs", "labels", "split=train")
    _stop(root, INTERRUPTED, signal.SIGTERM)
    _stop(root, KILLED, signal.SIGKILL)
    with open_catalog(root) as catalog:
        assert catalog.database is not None
        sync(root, catalog.database)
        _note(catalog)
        _write_values(catalog)
        _dump(catalog.database.handle)
    server.stop(root)
    for name in ("mongo", "workers", "identities.json"):  # caches, and what belongs to a host
        path = root / ".factbook" / name
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    with tarfile.open(HERE / "suite.tar.xz", "w:xz", preset=9) as archive:
        archive.add(root, "suite", filter=_anonymous)


def _write_data(folder: Path) -> None:
    """Write a table of neurons, one of labels, and a folder of images."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    names = np.array(["red", "round", "large"])
    inputs = np.array([f"text/{i:03d}" for i in range(40)])
    truth = rng.random((40, 3)) < 0.3
    values = (truth + rng.normal(0, 0.3, truth.shape)).astype(np.float32)
    np.savez(folder / "neurons.npz", values=values, input=inputs, name=names)
    with (folder / "truth.csv").open("w", newline="") as file:
        rows = [[name, *row] for name, row in zip(inputs, truth.astype(int), strict=True)]
        csv.writer(file).writerows([["input", *names], *rows])
    rows = []
    for kind in ("cat", "dog"):
        (folder / "photos" / kind).mkdir(parents=True)
        for i in range(4):
            path = folder / "photos" / kind / f"{i}.png"
            Image.fromarray(rng.integers(0, 256, (12, 10, 3), dtype=np.uint8)).save(path)
            rows.append([path.relative_to(folder / "photos"), i % 2, int(kind == "cat")])
    with (folder / "photos.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["image", "odd", "purring"], *rows])


def _run(root: Path, targets: list[str], force: bool = False) -> None:
    """Run targets in this process, with small parts so that there are several of them."""
    for module in (fact.activations, fact.collect_features, fact.measurement):
        module.SHARD_BYTES = 1
    project = open_project(root)
    plan = project.plan(targets, force=force)
    for outcome in run_plan(project, plan, runner="here", watcher=Watcher()):
        expected = Ending.FAILED if outcome.name == FAILING else Ending.COMPLETED
        assert outcome.ending is expected, outcome
        assert outcome.recorded, outcome


def _command(root: Path, stage: str, *words: str) -> None:
    """Run an experiment by Sacred's command line."""
    subprocess.run([sys.executable, "-m", stage, "with", *words], cwd=root, check=True)


def _stop(root: Path, cell: str, number: signal.Signals) -> None:
    """Start a training and end it by a signal when it has saved a state."""
    command = [sys.executable, "-m", "fact.train_sae", "with", cell]
    process = subprocess.Popen(command, cwd=root, stdout=subprocess.DEVNULL)
    journals = root / ".factbook" / "journal"
    known = set(journals.iterdir())
    while not any(b'"metrics"' in _events(path) for path in set(journals.iterdir()) - known):
        assert process.poll() is None
        time.sleep(0.1)
    process.send_signal(number)
    assert process.wait(60) != 0


def _events(journal: Path) -> bytes:
    file = journal / "events.jsonl"
    return file.read_bytes() if file.exists() else b""


def _note(catalog: Catalog) -> None:
    """Put a note and tags on a run and on a concept."""
    assert catalog.database is not None
    run = catalog.run("concepts")
    note = Note(run_subject(run), "Concept 3 looks odd.\nSee the gallery.", ("paper", "seed:0"))
    first = write_note(catalog.database, note, {"cell": run.cell})
    write_note(catalog.database, first, {"cell": run.cell})
    odd = Note(concept_subject(run.uid, 3), "red things", ("colour",))
    write_note(catalog.database, odd, {"cell": run.cell})


def _write_values(catalog: Catalog) -> None:
    """Write what each current dataset holds: dimensions, types, and digests of values."""
    found = {}
    for cell in catalog.project.graph.select(["whole"]):
        with catalog.dataset(cell.name) as dataset:
            found[cell.name] = described(dataset)
    text = json.dumps(found, indent=1, sort_keys=True)
    (HERE / "values.json").write_text(text + "\n", encoding="utf-8")


def _dump(handle: Any) -> None:
    """Write every document of the database as MongoDB's extended JSON, ordered by its ``_id``."""
    dump = {
        name: sorted(handle[name].find(), key=lambda document: str(document["_id"]))
        for name in sorted(handle.list_collection_names())
    }
    text = bson.json_util.dumps(dump, json_options=bson.json_util.CANONICAL_JSON_OPTIONS)
    (HERE / "records.json.xz").write_bytes(lzma.compress(text.encode(), preset=9))


def _anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """Leave out who owned a file."""
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member


if __name__ == "__main__":
    main(Path(sys.argv[1]))
