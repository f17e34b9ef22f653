"""Trainings that several processes share, by gloo, against those of one process."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import distributed

import registry
from fact.sae.gradients import reconstruct
from fact.sae.model import BatchTopKSAE, TopKSAE
from fact.sae.ranks import ALONE, Ranks, join
from fact.sae.steps import Trainer, TrainingConfig, calibrate_threshold
from registry.declare.stage import load_stage
from registry.execute.executors import open_executor
from registry.execute.experiment import command_line
from registry.execute.schedule import run_plan
from registry.plan.project import open_project
from registry.record.states import State
from tests.conftest import MakeOnce
from tests.fact.chain import copy_chain
from tests.fact.sae.test_steps import SCHEDULE, make_batches

pytestmark = pytest.mark.slow
CONTEXT = multiprocessing.get_context("fork")  # torch is loaded already
KINDS = [(TopKSAE, ()), (TopKSAE, (8, 40)), (BatchTopKSAE, ()), (BatchTopKSAE, (8, 40))]
STEPS = 40


def batches_of(dtype: torch.dtype) -> list[torch.Tensor]:
    """Batches of which some have fewer samples than there are processes, or no even number."""
    batches = make_batches(STEPS, dtype)
    return [*batches[:7], batches[7][:1], batches[8][:3], *batches[9:]]


def train(ranks: Ranks, kind: Any, prefixes: tuple[int, ...], dtype: torch.dtype) -> dict[str, Any]:
    """Train, and return weights, counters, logs, threshold, and the gradients of one step."""
    generator = torch.Generator().manual_seed(0)
    sae, batches = kind.initialise(96, 12, 3, generator, dtype=dtype), batches_of(dtype)
    config = TrainingConfig(**{**SCHEDULE, "steps": STEPS, "prefixes": prefixes})
    x = batches[0]
    own = reconstruct(
        x[ranks.rows(len(x))],
        sae.encoder.detach(),
        sae.decoder.detach().T,
        3,
        kind is BatchTopKSAE,
        prefixes,
        n_samples=len(x),
        ranks=ranks,
    )
    ranks.add(own.by_encoder, own.by_directions, own.counts)
    trainer, logs = Trainer(sae, config, ranks=ranks), []
    for number, batch in enumerate(batches):
        known = len(batch) if number % 2 else None  # by who gives the batches, or counted
        logs.append(trainer.step(batch[ranks.rows(len(batch))], known))
    found = {name: tensor.numpy().copy() for name, tensor in trainer._tensors().items()}
    found["gradient"] = torch.cat([own.by_encoder, own.by_directions]).numpy()
    found["counts"] = own.counts.numpy()
    found["logs"] = np.array([list(vars(log).values()) for log in logs])
    if kind is BatchTopKSAE:
        parts = (batch[ranks.rows(len(batch))] for batch in batches)
        found["threshold"] = np.array(calibrate_threshold(sae, parts, ranks))
    return found


def train_both(rank: int, folder: Path) -> None:
    """Be one of two processes."""
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/words", rank=rank, world_size=2
    )
    for number, (kind, prefixes) in enumerate(KINDS):
        for dtype in (torch.float64, torch.float32):
            found = train(Ranks(rank, 2), kind, prefixes, dtype)
            np.savez(folder / f"{rank}-{number}-{dtype}.npz", **found)


@pytest.fixture(scope="module")
def of_two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("two")
    processes = [CONTEXT.Process(target=train_both, args=(rank, folder)) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0, 0]
    return folder


@pytest.mark.parametrize("number", range(len(KINDS)))
def test_two_processes_train_what_one_does(of_two: Path, number: int) -> None:
    torch.set_num_threads(1)
    for dtype, nearness in ((torch.float64, 1e-10), (torch.float32, 2e-5)):
        expected = train(ALONE, *KINDS[number], dtype)
        assert expected["logs"][:, -1].max() > 8  # dead
        assert (expected["logs"][:, 3] > 0).any()  # so that there is an auxiliary loss
        for rank in range(2):
            with np.load(of_two / f"{rank}-{number}-{dtype}.npz") as found:
                for name in ("since_fired", "fired_in_pass", "counts"):
                    np.testing.assert_array_equal(found[name], expected[name], name)
                np.testing.assert_allclose(found["gradient"], expected["gradient"], atol=1e-6)
                for name in expected:
                    np.testing.assert_allclose(
                        found[name], expected[name], nearness, nearness, err_msg=name
                    )
    with (
        np.load(of_two / f"0-{number}-{dtype}.npz") as first,
        np.load(of_two / f"1-{number}-{dtype}.npz") as second,
    ):
        for name in first:
            np.testing.assert_array_equal(first[name], second[name], name)  # to the same bits


# -- whole runs, as torchrun starts them -------------------------------------------------------


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, make_once: MakeOnce) -> Path:
    folder = tmp_path_factory.mktemp("ranks")
    copy_chain(make_once, folder)
    return folder


def be_rank(rank: int, root: Path, port: int, words: tuple[str, ...]) -> None:
    """Be one of two processes of ``python -m fact.train_sae``."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    where = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in where.items()})
    os.environ.update({"MASTER_ADDR": "127.0.0.1", "FACTBOOK_MONGO": "off"})
    os.chdir(root)
    log = os.open(root / f"log-{rank}.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(log, 1)
    os.dup2(log, 2)
    sys.stdout, sys.stderr = os.fdopen(1, "w", buffering=1), os.fdopen(2, "w", buffering=1)
    torch.set_num_threads(1)
    command_line(load_stage("fact.train_sae"), ["fact/train_sae.py", "with", *words])


class Pair:
    """Two processes that run ``fact.train_sae`` together."""

    def __init__(self, root: Path, *words: str):
        self.root, self._before = root, set(runs_of(root))
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        given = [(rank, root, port, words) for rank in range(2)]
        self.ranks: list[BaseProcess] = [CONTEXT.Process(target=be_rank, args=g) for g in given]
        for process in self.ranks:
            process.start()

    @property
    def run(self) -> str:
        """Identifier of the one run that they make; "" before it begins."""
        new = set(runs_of(self.root)) - self._before
        assert len(new) <= 1
        return next(iter(new), "")

    def wait_for(self, updates: int) -> None:
        """Wait until so many updates were made."""
        deadline = time.monotonic() + 120
        while self._done() < updates:
            assert all(process.is_alive() for process in self.ranks), self.printed
            assert time.monotonic() < deadline, self.printed
            time.sleep(0.05)

    def _done(self) -> int:
        file = self.root / ".factbook/journal" / self.run / "progress.json"
        return json.loads(file.read_text())["done"] if self.run and file.exists() else -1

    def ended(self) -> list[int | None]:
        for process in self.ranks:
            process.join(120)
        return [process.exitcode for process in self.ranks]

    @property
    def printed(self) -> str:
        return "".join((self.root / f"log-{rank}.txt").read_text() for rank in range(2))


def runs_of(root: Path) -> list[str]:
    return sorted(path.name for path in (root / ".factbook/journal").iterdir() if path.is_dir())


def events_of(root: Path, run: str) -> Iterator[dict[str, Any]]:
    file = root / ".factbook/journal" / run / "events.jsonl"
    for line in file.read_text().splitlines():
        if line.strip():
            yield json.loads(line)


def status_of(root: Path, run: str) -> str:
    catalog = registry.open_catalog(root, "off")
    return next(str(view.status) for view in catalog.runs() if run in (view.uid, view.id))


def test_two_processes_make_one_run(root: Path) -> None:
    catalog = registry.open_catalog(root, "off")
    before = catalog.dataset("sae").load()
    pair = Pair(root, "sae")
    assert pair.ended() == [0, 0], pair.printed
    assert status_of(root, pair.run) == "COMPLETED"
    facts = next(event["facts"] for event in events_of(root, pair.run) if "facts" in event)
    assert facts["processes"] == 2
    after = registry.open_catalog(root, "off").dataset("sae").load()
    assert before.attrs["run"] != after.attrs["run"] == pair.run
    assert before.attrs["fingerprint"] == after.attrs["fingerprint"]
    for name in ("reconstruction_loss", "explained_variance", "held_out_reconstruction_loss"):
        np.testing.assert_allclose(before[name], after[name], rtol=1e-3, err_msg=name)
    np.testing.assert_array_equal(before["dead"], after["dead"])


def test_an_interrupt_of_one_stops_all_and_a_kill_of_one_fails_the_run(root: Path) -> None:
    words = ("sae", "epochs=5000", "evaluate_every=5000", "checkpoint_seconds=0.2")
    datasets = set(root.glob("artifacts/*/*/*/manifest.json"))
    assert datasets
    first = Pair(root, *words)
    first.wait_for(200)
    first.ranks[1].terminate()
    assert first.ended() == [130, 130], first.printed
    assert status_of(root, first.run) == "INTERRUPTED"

    second = Pair(root, *words)  # which goes on
    second.wait_for(400)
    second.ranks[1].kill()
    assert second.ended() == [1, -signal.SIGKILL], second.printed
    assert status_of(root, second.run) == "FAILED"
    events = list(events_of(root, second.run))
    assert "rank 1 is gone without a word" in "".join(events[-1]["trace"])
    logged = [m for e in events if e["event"] == "metrics" for m in e["metrics"]]
    assert min(step for metric in logged for step in metric["steps"]) > 100
    assert set(root.glob("artifacts/*/*/*/manifest.json")) == datasets


def test_each_process_has_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    with pytest.raises(ValueError, match="2 processes and GPUs: 1; expected one for each"):
        join()


def test_a_stage_of_one_process_says_so(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from registry.declare.faults import StageError
    from registry.execute.ranks import join_ranks

    alone = {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1"}
    assert join_ranks(load_stage("fact.train_sae"), alone) is None
    with pytest.raises(StageError, match=r"runs in one process; torchrun started 2"):
        join_ranks(load_stage("fact.collect_features"), {**alone, "WORLD_SIZE": "2"})


def test_a_declared_executor_starts_them(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (root / "experiments.toml").open("a") as file:
        file.write('[executors.two]\nkind = "local"\nresources = { ranks = 2 }\n')
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    project = open_project(root)
    plan = project.plan(["sae"], force=True)
    runner = open_executor(project, "two", {"fact.train_sae"})
    before = registry.open_catalog(root, "off").dataset("sae").load()
    (outcome,) = run_plan(project, plan, journal_only=True, runner=runner)
    assert outcome.ending is State.COMPLETED, outcome.message
    facts = next(event["facts"] for event in events_of(root, outcome.uid) if "facts" in event)
    assert facts["processes"] == 2
    after = registry.open_catalog(root, "off").dataset("sae").load()
    assert before.attrs["run"] != after.attrs["run"] == outcome.uid
    assert before.attrs["fingerprint"] == after.attrs["fingerprint"]
    np.testing.assert_array_equal(before["dead"], after["dead"])
    loss = "held_out_reconstruction_loss"
    np.testing.assert_allclose(before[loss], after[loss], rtol=1e-3)
