"""A small Sacred experiment, recorded to a journal: in this process or as a program."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from sacred import Experiment
from sacred.observers import RunObserver

from registry.interrupts import signals_interrupt
from registry.mongo.database import connect
from registry.mongo.projector import Projector, RecordOutcome
from registry.record.journal import journal_root, journal_uids, new_uid
from registry.record.liveness import note_death
from registry.record.observer import JournalObserver

FACTS = {"experiment": "toy[k=2]", "stage": "tests.toy", "fingerprint": "0123456789abcdef"}


def make_experiment(prepare: Callable[[Any], None], **config: Any) -> Experiment:
    """Return the experiment, which does what its configuration says."""
    experiment = Experiment("toy", interactive=True, save_git_info=False)
    experiment.add_source_file(__file__)
    settings = {"k": 2, "lr": 0.5, "points": 3, "sleep": 0.0, "fail": False, "seed": 1, **config}
    experiment.add_config(settings)

    @experiment.main
    def toy(_run: Any, points: int, sleep: float, fail: bool) -> dict[str, float]:
        prepare(_run)
        _run.info["note"] = {"list": [1, 2.5, None, True], "text": "a"}
        for step in range(points):
            _run.log_scalar("loss", 1 / (step + 1), step)
            _run.log_scalar("training.accuracy", step)
            print("step", step, flush=True)
        deadline = time.monotonic() + sleep
        while time.monotonic() < deadline:
            time.sleep(0.05)
            _run.log_scalar("tick", time.monotonic())
        if fail:
            print("about to fail", flush=True)
            raise RuntimeError("it failed")
        return {"accuracy": 0.75}

    return experiment


def record(
    root: Path,
    url: str | None,
    *,
    uid: str = "",
    observers: Sequence[RunObserver] = (),
    prepare: Callable[[Any], None] = lambda run: None,
    beat: float = 0.2,
    **config: Any,
) -> RecordOutcome:
    """Run the experiment as a stage does, and return where its record stands.

    `prepare` is called with Sacred's run as soon as that has begun.
    """
    database = connect(root, url)
    uid = uid or new_uid()
    folder = journal_root(root) / uid
    observer = JournalObserver(folder, FACTS)
    experiment = make_experiment(prepare, **config)
    experiment.observers.extend([observer, *observers])
    run = experiment._create_run()
    run.beat_interval = beat
    run.capture_mode = os.environ.get("CAPTURE", "sys")
    observer.watch(run)
    projector = Projector(folder, database, interval=0.2, grace=5.0)
    try:
        with projector, signals_interrupt():
            run()
    finally:
        outcome = projector.finish()
        if database is not None:
            database.close()
    return outcome


def reap(root: Path) -> list[str]:
    """Note every run of a project that died; return those that were noted, oldest first."""
    return [uid for uid in journal_uids(root) if note_death(journal_root(root) / uid)]


if __name__ == "__main__":
    root, uid, *pairs = sys.argv[1:]
    settings = {key: float(value) for key, value in (pair.split("=") for pair in pairs)}
    print(record(Path(root), None, uid=uid, **settings))
