"""Stored features: how they are read back in random order, with bounded memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, TypeAlias

import h5py
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from registry.wording import counted

FEATURE = "feature"
ROWS_PER_BLOCK = 256
MEMORY = 2**30

Shard = Path | xr.Dataset
Shards = Shard | str | Sequence[Shard | str]
Samples = NDArray[np.float32]


Feature: TypeAlias = "h5py.Dataset | xr.DataArray"
"""Feature vectors (sample, channel) that are read as they are sliced."""


def root_mean_square_norm(shards: Shards) -> float:
    """Root of the mean squared norm of all samples, read once and summed in float64.

    Parameters
    ----------
    shards : path, Dataset, or sequence of them
        A folder of ``part-*.nc``, files, or datasets with ``feature`` (sample, channel).

    Returns
    -------
    float
        The number that samples are divided by in training, above 0.

    Raises
    ------
    ValueError
        No samples, a feature that is not finite, or features that are all 0.
    """
    total, count = 0.0, 0
    for shard in list_shards(shards):
        with _open(shard) as feature:
            for start in range(0, len(feature), _rows_per_block(feature)):
                block = _read(feature, start, start + _rows_per_block(feature))
                total += float(np.square(block, dtype=np.float64).sum())
                count += len(block)
        if not np.isfinite(total):
            name = "dataset" if isinstance(shard, xr.Dataset) else shard
            raise ValueError(f"{name}: a feature is not finite")
    if total == 0:
        raise ValueError(
            f"{counted(count, 'sample')} with features that are all 0; expected others"
        )
    return float(np.sqrt(total / count))


class ShuffledFeatures:
    """Samples of many shards in random order, with bounded memory.

    What fits is read once, and every epoch is one random permutation. Else an epoch takes blocks of
    consecutive samples in random order over all shards, fills a window with as many as fit, and
    permutes the samples of each window: neighbours in a batch come from everywhere, and every
    sample comes once. An epoch depends on the seed and its number alone,
    so that it can be entered at any batch.

    Parameters
    ----------
    shards : path, Dataset, or sequence of them
        A folder of ``part-*.nc``, files, or datasets with ``feature`` (sample, channel).
    batch : int
        Samples per batch, at least 1; the last of an epoch has the rest.
    seed : int
        Seed of the order, 0 or more.
    scale : float
        Number that samples are divided by.
    memory : int
        Bytes that samples may take, batches aside; a window has at least one block.

    Attributes
    ----------
    n_samples, n_channels, n_batches : int
        Sizes of an epoch.

    Raises
    ------
    ValueError
        No samples, shards of different widths, or a parameter out of its range.
    """

    def __init__(
        self, shards: Shards, batch: int, seed: int, scale: float = 1.0, memory: int = MEMORY
    ) -> None:
        if batch < 1 or not scale > 0:
            raise ValueError(f"batch {batch}, scale {scale}; expected at least 1 and above 0")
        self.batch, self.seed, self.scale = batch, seed, np.float32(scale)
        self._shards = list_shards(shards)
        self._blocks, self.n_channels = _plan_blocks(self._shards)
        self.n_samples = int(self._blocks.rows.sum())
        self.n_batches = -(-self.n_samples // batch)
        self._capacity = memory // (4 * self.n_channels)
        self._all: Samples | None = None

    def batches(self, epoch: int, first: int = 0) -> Iterator[Samples]:
        """Iterate over the batches of an epoch.

        Parameters
        ----------
        epoch : int
            Epoch, from 0; each has an order of its own.
        first : int
            Batch to begin with: a stopped epoch goes on with the same batches.

        Yields
        ------
        ndarray of float32, shape (sample, channel)
            Samples divided by the scale.
        """
        waiting: list[Samples] = []
        for piece in self._pieces(epoch, first * self.batch):
            waiting.append(piece)
            if sum(map(len, waiting)) == self.batch:
                yield np.concatenate(waiting) / self.scale
                waiting = []
        if waiting:
            yield np.concatenate(waiting) / self.scale

    def _pieces(self, epoch: int, skip: int) -> Iterator[Samples]:
        """Cut the windows of an epoch, from sample `skip` on, at the ends of batches."""
        position = 0
        for number, blocks in enumerate(self._windows(epoch)):
            end = position + int(self._blocks.rows[blocks].sum())
            if skip < end:
                window, start = self._load(blocks), max(skip - position, 0)
                order = self._generator(epoch, number + 1).permutation(len(window))
                while start < len(window):
                    stop = start + self.batch - (position + start) % self.batch
                    yield window[order[start:stop]]
                    start = stop
                del window  # before the next one is read
            position = end

    def _windows(self, epoch: int) -> list[NDArray[np.int64]]:
        """Blocks of each window of an epoch."""
        if self.n_samples <= self._capacity:
            return [np.arange(len(self._blocks.rows))]
        order = self._generator(epoch, 0).permutation(len(self._blocks.rows))
        rows = max(self._capacity - int(self._blocks.rows.max()), 1)
        ends = np.cumsum(self._blocks.rows[order])
        # A window overlaps its part of `rows` by less than a block: it fits.
        window = (ends - 1) // rows
        return np.split(order, np.flatnonzero(np.diff(window)) + 1)

    def _load(self, blocks: NDArray[np.int64]) -> Samples:
        if self.n_samples > self._capacity:
            return self._read_blocks(blocks)
        if self._all is None:
            self._all = self._read_blocks(blocks)
        return self._all

    def _read_blocks(self, blocks: NDArray[np.int64]) -> Samples:
        """Read blocks, each shard opened once and read forwards."""
        chosen = _Blocks(*(column[np.sort(blocks)] for column in self._blocks))
        window = np.empty((int(chosen.rows.sum()), self.n_channels), dtype=np.float32)
        ends = np.cumsum(chosen.rows)
        for shard in np.unique(chosen.shard):
            with _open(self._shards[shard]) as feature:
                for i in np.flatnonzero(chosen.shard == shard):
                    start, rows = int(chosen.start[i]), int(chosen.rows[i])
                    window[ends[i] - rows : ends[i]] = _read(feature, start, start + rows)
        return window

    def _generator(self, *key: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, *key])


class _Blocks(NamedTuple):
    """Runs of consecutive samples: shard, first sample in it, length."""

    shard: NDArray[np.int64]
    start: NDArray[np.int64]
    rows: NDArray[np.int64]


def list_shards(shards: Shards) -> list[Shard]:
    """Spell out where features lie.

    Parameters
    ----------
    shards : path, Dataset, or sequence of them
        A folder means its ``part-*.nc``, or its ``dataset.nc`` where it has none.

    Returns
    -------
    list of Path or Dataset
        Files and datasets, a folder's in the order of their names.

    Raises
    ------
    FileNotFoundError
        A path with no such file.
    """
    if isinstance(shards, xr.Dataset):
        return [shards]
    if not isinstance(shards, (str, Path)):
        return [part for shard in shards for part in list_shards(shard)]
    path = Path(shards)
    if path.is_file():
        return [path]
    found = sorted(path.glob("part-*.nc")) or sorted(path.glob("dataset.nc"))
    if not found:
        raise FileNotFoundError(f"{path}: no features; expected part-000000.nc and so on in it")
    return list(found)


def _plan_blocks(shards: list[Shard]) -> tuple[_Blocks, int]:
    columns: list[tuple[int, int, int]] = []
    widths = set()
    for number, shard in enumerate(shards):
        with _open(shard) as feature:
            n_rows, size = len(feature), _rows_per_block(feature)
            widths.add(feature.shape[1])
        columns += [(number, i, min(size, n_rows - i)) for i in range(0, n_rows, size)]
    if not columns or len(widths) != 1:
        raise ValueError(
            f"{counted(len(columns), 'block')} of samples with {sorted(widths)} channels; "
            "expected some, all of one width"
        )
    return _Blocks(*np.array(columns, dtype=np.int64).T), widths.pop()


@contextmanager
def _open(shard: Shard) -> Iterator[Feature]:
    """Feature of a shard (sample, channel): rows are read as it is sliced."""
    if isinstance(shard, xr.Dataset):
        yield shard[FEATURE].transpose("sample", "channel")
        return
    with h5py.File(shard, "r") as file:
        if FEATURE not in file:
            raise ValueError(f"{shard}: no variable {FEATURE!r}; it has {sorted(file)}")
        yield file[FEATURE]


def _read(feature: Feature, start: int, stop: int) -> Samples:
    return np.asarray(feature[start:stop], dtype=np.float32)


def _rows_per_block(feature: Feature) -> int:
    """Rows that are stored together, where they are: a part of them costs as much as all."""
    stored = isinstance(feature, h5py.Dataset) and feature.chunks
    return int(stored[0]) if stored else ROWS_PER_BLOCK
