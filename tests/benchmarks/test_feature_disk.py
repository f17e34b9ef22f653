"""Features to the disk and back: as fast as the disk, and beside the loop that needs the device.

Everything is synced, and read from the disk: what is in the page cache is dropped before.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr

from fact.networks.bcos_networks import small_bcos
from fact.sae.features import ShuffledFeatures
from fact.sae.model import TopKSAE
from fact.sae.sampling import draw_features
from fact.sae.steps import Trainer, TrainingConfig
from fact.schemas import FEATURES
from registry.store.datasets import write_dataset
from registry.store.durable import sync
from registry.store.manifest import Provenance
from registry.store.shards import ShardWriter
from tests.benchmarks.clock import least
from tests.benchmarks.memory import limited
from tests.benchmarks.table import Table

pytestmark = pytest.mark.benchmark

N_CHANNELS, PER_IMAGE = 512, 72
N_SAMPLES = 32 * 2**20 // (4 * N_CHANNELS)  # of a part, as they are collected
SUMMARY = xr.Dataset(
    {"root_mean_square": 1.0, "n_samples": np.int64(1), "n_images": 1, "n_held_out": 0}
)


def part(index: int, n_samples: int = N_SAMPLES, n_channels: int = N_CHANNELS) -> xr.Dataset:
    """Return features as they are collected, of random numbers."""
    generator = np.random.default_rng(index)
    first = index * n_samples
    image = np.repeat(np.arange(first, first + n_samples, PER_IMAGE), PER_IMAGE)[:n_samples]
    numbers = {name: np.zeros(n_samples, np.int32) for name in ("row", "column")}
    return xr.Dataset(
        {
            "feature": (
                ("sample", "channel"),
                generator.standard_normal((n_samples, n_channels), dtype="float32"),
            ),
            "image": ("sample", np.array([f"train/{i:08d}" for i in image], dtype=object)),
            "importance": ("sample", generator.random(n_samples, dtype="float32")),
            **{name: ("sample", values) for name, values in numbers.items()},
        },
        {"sample": np.arange(first, first + n_samples)},
    )


def write(parts: Sequence[xr.Dataset], folder: Path) -> None:
    """Write a whole dataset: parts, summary, manifest."""
    with ShardWriter(folder, FEATURES) as writer:
        for one in parts:
            writer.submit(one)
        write_dataset(writer.finish(SUMMARY), folder, FEATURES, Provenance())


def copy(source: Path, folder: Path) -> None:
    """Copy a folder's files, which are in the page cache, and wait for the disk."""
    folder.mkdir()
    for path in sorted(source.iterdir()):
        shutil.copyfile(path, folder / path.name)
        sync(folder / path.name)
    sync(folder)


def test_features_are_written_as_fast_as_files_are_copied(tmp_path: Path, table: Table) -> None:
    """The bound is on the processor's time: two cores that are free must suffice for it.

    On cores that others use, a copy hardly takes any of their time, and this waits for it: every
    byte is hashed three times, for its file, its part and the dataset, which is the largest share.
    """
    processor: list[float] = []
    parts = [part(index) for index in range(12)]
    write(parts, source := tmp_path / "source")
    size = sum(path.stat().st_size for path in source.iterdir()) / 2**20

    numbers = count()

    def written() -> None:
        start, folder = time.process_time(), tmp_path / f"written-{next(numbers)}"
        write(parts, folder)
        processor.append(time.process_time() - start)
        shutil.rmtree(folder)

    def copied() -> None:
        folder = tmp_path / f"copied-{next(numbers)}"
        copy(source, folder)
        shutil.rmtree(folder)

    def hashed() -> None:
        start = time.process_time()
        for one in parts:
            hashlib.sha256(one["feature"].values)
        hashing.append(time.process_time() - start)

    hashing: list[float] = []
    ours, theirs, _ = least(written, copied, hashed)
    table.faster(
        f"rate of writing {size:,.0f} MiB of features",
        ours,
        theirs,
        None,
        against="copy",
        asked=0.8,
    )
    table.faster(
        "the same, by what two free cores can do",
        min(processor) / 2,
        theirs,
        0.8,
        against="copy",
        note=f"half of the processor's time, of which 3 hashes take {3 * min(hashing):.2f} s",
    )


def test_the_loop_that_collects_hardly_waits_for_the_disk(tmp_path: Path, table: Table) -> None:
    """The demo's network and samples of an image; of a larger one less is written in that time.

    The bound is on the loop's own processor time and on what it waits for the writer: on cores that
    others use, the threads that write take turns with it.
    """
    network = small_bcos(tuple("abcdefghij"), channels=(32, 64, 128), strides=(2, 2, 1))
    pixels = np.random.default_rng(0).integers(0, 256, (64, 28, 28, 3), dtype=np.uint8)
    per_part = 64

    numbers = count()

    def collect(writer: ShardWriter | None) -> None:
        generator, waited = np.random.default_rng(0), 0.0
        wall, own = time.perf_counter(), time.thread_time()
        for index in range(6):
            drawn = [
                draw_features(network, "features.2", pixels, 12, generator) for _ in range(per_part)
            ]
            columns = {name: np.concatenate([d[name] for d in drawn]) for name in drawn[0]}
            names = np.array([f"train/{i:08d}" for i in columns.pop("image")], dtype=object)
            del columns["rank"]
            values = {"image": names, **columns}
            first = index * len(names)
            made = xr.Dataset(
                {name: (FEATURES.variables[name].dims, v) for name, v in values.items()},
                {"sample": np.arange(first, first + len(names))},
            )
            if writer is not None:
                before = time.perf_counter() - time.thread_time()
                writer.submit(made)
                waited += time.perf_counter() - time.thread_time() - before
        wall, own = time.perf_counter() - wall, time.thread_time() - own + waited
        taken[writer is not None].append((wall, own))

    def with_writing() -> None:
        with ShardWriter(tmp_path / f"{next(numbers)}", FEATURES) as writer:
            collect(writer)

    taken: tuple[list[tuple[float, float]], list[tuple[float, float]]] = [], []
    least(lambda: collect(None), with_writing)
    size = sum(path.stat().st_size for path in (tmp_path / "0").iterdir()) / 2**20
    (alone, own_alone), (beside, own) = (map(min, zip(*both, strict=True)) for both in taken)
    name = f"collecting {size:,.0f} MiB and writing them"
    table.costs(name, beside, alone, None, against="collecting", asked=1.1)
    note = "the loop's own processor time, and what it waits for the writer"
    table.costs("the same, of the loop", own, own_alone, 1.1, against="collecting", note=note)


def test_training_on_ten_times_the_memory_is_as_fast_as_in_memory(
    tmp_path: Path, table: Table
) -> None:
    """Samples take a tenth of them; a step, reading and the page cache get 128 MiB of their own."""
    n_parts, n_samples, batch = 10, 2**14, 1024
    with ShardWriter(tmp_path, FEATURES) as writer:
        for index in range(n_parts):
            writer.submit(part(index, n_samples))
    size = 4 * N_CHANNELS * n_samples * n_parts
    steps = n_parts * n_samples // batch

    def training(memory: int) -> Callable[[], None]:
        samples = ShuffledFeatures(tmp_path, batch, 0, N_CHANNELS**0.5, memory)
        sae = TopKSAE.initialise(4096, N_CHANNELS, 16, torch.Generator().manual_seed(0))
        trainer = Trainer(sae, TrainingConfig(steps=100 * steps, warmup=10, decay_start=500))
        batches = samples.stream(0, 100 * steps)

        def epoch() -> None:
            for _ in range(steps):
                trainer.step(next(batches))

        epoch()
        return epoch

    have_all, have_a_tenth = training(size), training(size // 10)
    is_limited = []

    def from_disk() -> None:
        for path in tmp_path.iterdir():
            drop_from_cache(path)
        with limited(2**27) as is_here:
            is_limited.append(is_here)
            have_a_tenth()

    ours, theirs = least(from_disk, have_all, rounds=3)
    name = f"training on {size / 2**20:,.0f} MiB, a tenth in memory"
    note = f"memory was {'' if all(is_limited) else 'not '}limited by a control group"
    table.faster(name, ours, theirs, 0.9, against="all in memory", asked=0.9, note=note)


def drop_from_cache(path: Path) -> None:
    """Have a file's next reading come from the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)
