"""Stored features: how they are read back in random order, with bounded memory."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple, TypeAlias

import h5py
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from registry.store.netcdf import chunk_rows
from registry.threads import read_ahead
from registry.wording import counted

FEATURE = "feature"
MEMORY = 2**30
AHEAD = 2
"""Batches that are made while one is trained on."""

Shard = Path | xr.Dataset
Shards = Shard | str | Sequence[Shard | str]
Samples = NDArray[np.float32]


Feature: TypeAlias = "h5py.Dataset | xr.DataArray"
"""Feature vectors (sample, channel) that are read as they are sliced."""


class SquaredNorms(NamedTuple):
    """Squared norms of the samples of a shard, summed in float64.

    Attributes
    ----------
    sums : tuple of float
        Of each block of samples that are stored together.
    n_samples : int
        How many there are.
    """

    sums: tuple[float, ...]
    n_samples: int


def squared_norms(shard: Shard) -> SquaredNorms:
    """Sum the squared norms of the samples of a shard.

    Parameters
    ----------
    shard : path or Dataset
        With ``feature`` (sample, channel).
    """
    with _open(shard) as feature:
        n_samples, size = len(feature), _rows_per_block(feature)
        starts = range(0, n_samples, size)
        blocks = (_read(feature, start, start + size) for start in starts)
        sums = tuple(float(np.square(block, dtype=np.float64).sum()) for block in blocks)
    if not np.isfinite(sum(sums)):
        name = "dataset" if isinstance(shard, xr.Dataset) else shard
        raise ValueError(f"{name}: a feature is not finite")
    return SquaredNorms(sums, n_samples)


def root_mean_square(norms: Iterable[SquaredNorms]) -> float:
    """Root of the mean squared norm of all samples; see :func:`root_mean_square_norm`."""
    total, count = 0.0, 0
    for shard in norms:
        for block in shard.sums:
            total += block
        count += shard.n_samples
    if total == 0:
        raise ValueError(
            f"{counted(count, 'sample')} with features that are all 0; expected others"
        )
    return float(np.sqrt(total / count))


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
    return root_mean_square(map(squared_norms, list_shards(shards)))


class ShuffledFeatures:
    """Samples of many shards in random order, with bounded memory.

    What fits is read once, and every epoch is one random permutation. Else an epoch takes blocks of
    consecutive samples in random order over all shards, fills a window with as many as fit, and
    permutes the samples of each window: neighbours in a batch come from everywhere, and every
    sample comes once. An epoch depends on the seed and its number alone,
    so that it can be entered at any batch.

    A thread reads, gathers and scales, :data:`AHEAD` batches ahead of who trains. Samples of the
    next window take the places of those that have been given out, so that both together take no
    more than `memory`.

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
        Bytes that samples may take, beside :data:`AHEAD` + 1 batches and a block; a window has at
        least one block.

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

    def batches(self, epoch: int, first: int = 0) -> Generator[Samples, None, None]:
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
        begin = epoch * self.n_batches
        return self.stream(begin + first, begin + self.n_batches)

    def stream(self, first: int, last: int) -> Generator[Samples, None, None]:
        """Iterate over the batches of several epochs on end, each read while those before are used.

        Parameters
        ----------
        first, last : int
            Batches to begin with and to end before, counted through all epochs.

        Yields
        ------
        ndarray of float32, shape (sample, channel)
            As :meth:`batches`.
        """
        return read_ahead(partial(self._batches, first, last), AHEAD)

    def _batches(
        self, first: int, last: int, unwanted: threading.Event
    ) -> Generator[Samples, None, None]:
        waiting: list[Samples] = []
        for piece, ends in self._pieces(self._windows_between(first, last), unwanted):
            waiting.append(piece)
            if ends:
                batch = waiting[0] if len(waiting) == 1 else np.concatenate(waiting)
                yield batch / self.scale
                waiting = []

    def _windows_between(self, first: int, last: int) -> Iterator[_Window]:
        """Plan the windows that batches `first` up to `last` are cut from."""
        for epoch in range(first // self.n_batches, -(-last // self.n_batches)):
            begin = epoch * self.n_batches
            wanted = range(*(max(0, step - begin) * self.batch for step in (first, last)))
            position = 0
            for number, blocks in enumerate(self._windows(epoch)):
                rows = int(self._blocks.rows[blocks].sum())
                cut = range(max(wanted.start - position, 0), min(wanted.stop - position, rows))
                if cut:
                    generator = self._generator(epoch, number + 1)
                    is_last = position + rows == self.n_samples
                    cuts = _cuts(cut, position, self.batch, rows if is_last else -1)
                    yield _Window(np.sort(blocks), np.empty(rows, np.int64), generator, cuts)
                position += rows

    def _pieces(
        self, windows: Iterator[_Window], unwanted: threading.Event
    ) -> Iterator[tuple[Samples, bool]]:
        """Yield pieces of batches, and whether a batch ends with it."""
        if self.n_samples <= self._capacity:
            samples = self._read_all(unwanted)
            for window in windows:
                for chosen, ends in window.pieces():
                    if unwanted.is_set():
                        return
                    yield samples[chosen], ends
            return
        begun: deque[_Window] = deque()
        buffer = _Buffer(max(self._capacity, int(self._blocks.rows.max())), self.n_channels)
        reading = self._fill(buffer, windows, begun)
        while True:
            while not (begun and begun[0].is_whole):
                if unwanted.is_set() or (is_read := next(reading, None)) is None:
                    return
                if not is_read:  # it would wait for ever
                    raise RuntimeError("the places of a window do not suffice for the next one")
            window = begun.popleft()
            buffer.free(window.places[window.unused])
            for chosen, ends in window.pieces():
                yield buffer.take(window.places[chosen]), ends
                while next(reading, False):
                    if unwanted.is_set():
                        return

    def _fill(
        self, buffer: _Buffer, windows: Iterator[_Window], begun: deque[_Window]
    ) -> Iterator[bool]:
        """Read one window after the other; yield whether a block was read, or there is no room."""
        for window in windows:
            begun.append(window)
            with closing(self._read(window.blocks)) as blocks:
                for rows in self._blocks.rows[window.blocks]:
                    while buffer.n_free < rows:
                        yield False
                    window.place(buffer.put(next(blocks)))
                    yield True

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

    def _read_all(self, unwanted: threading.Event) -> Samples:
        """Return all samples, in their order, which are read once."""
        if self._all is None:
            samples, row = np.empty((self.n_samples, self.n_channels), dtype=np.float32), 0
            for block in self._read(np.arange(len(self._blocks.rows))):
                samples[row : row + len(block)] = block
                row += len(block)
                if unwanted.is_set():
                    return samples
            self._all = samples
        return self._all

    def _read(self, blocks: NDArray[np.int64]) -> Generator[Samples, None, None]:
        """Read blocks that are sorted, each shard opened once and read forwards."""
        columns = zip(*(column[blocks].tolist() for column in self._blocks), strict=True)
        for shard, own in groupby(columns, key=itemgetter(0)):
            with _open(self._shards[shard]) as feature:
                for _, start, rows in own:
                    yield _read(feature, start, start + rows)

    def _generator(self, *key: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, *key])


class _Blocks(NamedTuple):
    """Runs of consecutive samples: shard, first sample in it, length."""

    shard: NDArray[np.int64]
    start: NDArray[np.int64]
    rows: NDArray[np.int64]


class _Buffer:
    """Places of samples, each used again once its sample was taken."""

    def __init__(self, n_places: int, n_channels: int):
        self._samples = np.empty((n_places, n_channels), dtype=np.float32)
        self._free = np.arange(n_places)
        self.n_free = n_places

    def put(self, samples: Samples) -> NDArray[np.int64]:
        """Take samples in, and return their places."""
        self.n_free -= len(samples)
        places = self._free[self.n_free : self.n_free + len(samples)].copy()
        self._samples[places] = samples
        return places

    def take(self, places: NDArray[np.int64]) -> Samples:
        """Return the samples of some places, which are free now."""
        self.free(places)
        return self._samples[places]

    def free(self, places: NDArray[np.int64]) -> None:
        """Let others take places."""
        self._free[self.n_free : self.n_free + len(places)] = places
        self.n_free += len(places)


@dataclass
class _Window:
    """Samples that are permuted together.

    Attributes
    ----------
    blocks : ndarray of int64, (block,)
        Where they come from, sorted.
    places : ndarray of int64, (sample,)
        Where each of them lies in the buffer.
    generator : numpy.random.Generator
        Permutes them.
    cuts : sequence of (int, int, bool)
        Pieces of batches: from where to where in the permutation, and whether a batch ends there.
    """

    blocks: NDArray[np.int64]
    places: NDArray[np.int64]
    generator: np.random.Generator
    cuts: Sequence[tuple[int, int, bool]]
    n_placed: int = 0

    @property
    def is_whole(self) -> bool:
        """Whether all of them are in the buffer."""
        return self.n_placed == len(self.places)

    def place(self, places: NDArray[np.int64]) -> None:
        """Note where the next samples lie."""
        self.places[self.n_placed : self.n_placed + len(places)] = places
        self.n_placed += len(places)

    def pieces(self) -> Iterator[tuple[NDArray[np.int64], bool]]:
        """Yield which samples make up each piece of a batch, and whether the batch ends there."""
        for start, stop, ends in self.cuts:
            yield self.order[start:stop], ends

    @property
    def unused(self) -> NDArray[np.int64]:
        """Samples that are in no piece: of an epoch that is entered, or left, within a window."""
        return np.concatenate([self.order[: self.cuts[0][0]], self.order[self.cuts[-1][1] :]])

    @cached_property
    def order(self) -> NDArray[np.int64]:
        """The permutation of the samples."""
        return self.generator.permutation(len(self.places))


def _cuts(wanted: range, position: int, batch: int, end: int) -> list[tuple[int, int, bool]]:
    """Cut a window, which begins at a position of its epoch, at the ends of batches.

    What is wanted of it is given, and where the epoch ends in it, -1 if it does not.
    """
    first = position + wanted.start
    ends = range(first - first % batch + batch, position + wanted.stop, batch)
    edges = [wanted.start, *(stop - position for stop in ends), wanted.stop]
    is_end = [(position + stop) % batch == 0 or stop == end for stop in edges[1:]]
    return list(zip(edges, edges[1:], is_end, strict=False))


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
    """Rows that are stored together, or would be: the order does not depend on how they are."""
    stored = isinstance(feature, h5py.Dataset) and feature.chunks
    return int(stored[0]) if stored else chunk_rows(feature.shape, feature.dtype.itemsize)
