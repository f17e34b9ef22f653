"""Features to train concepts on: which are drawn, and how they are read back in random order.

Source: Parchami-Araghi et al., "FaCT", NeurIPS 2025, arXiv 2510.25512, section 3 and its published
code: positions are drawn by their importance for the predicted class, as many as keep the stored
size of an image the same for every layer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar

import h5py
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from fact.networks.arrays import AnyArray, as_numpy

FEATURE = "feature"
VALUES_PER_IMAGE = 72 * 512
HELD_OUT_PER_CLASS, HELD_OUT_SHARE = 50, 5
ROWS_PER_BLOCK = 256
MEMORY = 2**30

Array = TypeVar("Array", bound=Any)
Shard = Path | xr.Dataset
Shards = Shard | str | Sequence[Shard | str]
Samples = NDArray[np.float32]


class Feature(Protocol):
    """Feature vectors (sample, channel) that are read as they are sliced."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Samples and channels."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: slice) -> Any: ...


class Positions(NamedTuple):
    """Drawn positions of a batch, by image and then by position.

    Attributes
    ----------
    image : ndarray of int64, shape (sample,)
        Index of the image in the batch.
    position : ndarray of int64, shape (sample,)
        Index of the position in the image.
    """

    image: NDArray[np.int64]
    position: NDArray[np.int64]


def importance(x: Array, gradient: Array) -> Array:
    """Importance of positions for a logit.

    Parameters
    ----------
    x : Tensor or ndarray, shape (..., channel)
        Features.
    gradient : Tensor or ndarray, shape (..., channel)
        Gradient of the predicted class's logit by them, in explanation mode.

    Returns
    -------
    Tensor or ndarray, shape (...)
        ``|sum_c x_c gradient_c|``: the absolute contribution of the position.
    """
    absolute: Array = abs((x * gradient).sum(-1))
    return absolute


def samples_per_image(n_channels: int) -> int:
    """Count the positions that are drawn from an image of a layer with so many channels.

    Parameters
    ----------
    n_channels : int
        Channels of the layer, at least 1.

    Returns
    -------
    int
        ``floor(72 * 512 / n_channels)``, at least 1.
    """
    return max(1, VALUES_PER_IMAGE // n_channels)


def sample_positions(importance: AnyArray, count: int, generator: np.random.Generator) -> Positions:
    """Draw positions without replacement, with probability proportional to importance.

    Parameters
    ----------
    importance : array_like, shape (image, position)
        Importances, 0 or more and finite; a Tensor on any device will do.
    count : int
        Positions per image, at least 1. Where fewer have importance above 0: those, no others.
    generator : numpy.random.Generator
        Source of randomness; what it draws depends on the shape alone.

    Returns
    -------
    Positions

    Raises
    ------
    ValueError
        An importance that is negative or not finite, another number of dimensions, or a `count`
        below 1.

    Notes
    -----
    The `count` smallest of independent exponential times with these rates are distributed as
    successive draws without replacement (Efraimidis and Spirakis, Information Processing Letters
    97(5), 2006). Times are compared by logarithm, so that no importance is too small.
    """
    weights = _weights(importance)
    if count < 1:
        raise ValueError(f"count is {count}; expected at least 1")
    with np.errstate(divide="ignore"):
        times = np.log(generator.standard_exponential(weights.shape)) - np.log(weights)
    chosen = weights > 0
    if count < weights.shape[1]:
        earliest = np.argpartition(times, count - 1, axis=1)[:, :count]
        among = np.zeros_like(chosen)
        np.put_along_axis(among, earliest, True, axis=1)
        chosen &= among
    return Positions(*np.nonzero(chosen))


def held_out(labels: AnyArray, seed: int, per_class: int = HELD_OUT_PER_CLASS) -> NDArray[np.bool_]:
    """Choose the images that are held out from training, the same number of every class.

    Parameters
    ----------
    labels : array_like, shape (image,)
        Class of each image of the training set.
    seed : int
        Seed of the choice, 0 or more.
    per_class : int
        Images per class; a fifth of the class (rounded down) where that is less.

    Returns
    -------
    ndarray of bool, shape (image,)
        True where held out.
    """
    labels = as_numpy(labels)
    generator = np.random.default_rng(seed)
    mask = np.zeros(labels.shape, dtype=bool)
    for label in np.unique(labels):
        images = np.flatnonzero(labels == label)
        count = min(per_class, len(images) // HELD_OUT_SHARE)
        mask[generator.choice(images, count, replace=False)] = True
    return mask


def root_mean_square_norm(shards: Shards) -> float:
    """Root of the mean squared norm of all samples, in one pass and float64.

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
            raise ValueError(f"{_name(shard)}: a feature is not finite")
    if total == 0:
        raise ValueError(f"{count} samples with features that are all 0; expected others")
    return float(np.sqrt(total / count))


class ShuffledFeatures:
    """Samples of many shards in random order, with bounded memory.

    What fits is read once, and every pass is one random permutation. Else a pass takes blocks of
    consecutive samples in random order over all shards, fills a window with as many as fit, and
    permutes the samples of each window: neighbours in a batch come from everywhere, and every
    sample comes once. A pass depends on the seed and its number alone, so
    that it can be entered at any batch.

    Parameters
    ----------
    shards : path, Dataset, or sequence of them
        A folder of ``part-*.nc``, files, or datasets with ``feature`` (sample, channel).
    batch : int
        Samples per batch, at least 1; the last of a pass has the rest.
    seed : int
        Seed of the order, 0 or more.
    scale : float
        Number that samples are divided by.
    memory : int
        Bytes that samples may take, batches aside; a window has at least one block.

    Attributes
    ----------
    n_samples, n_channels, n_batches : int
        Sizes of a pass.

    Raises
    ------
    ValueError
        No samples, shards of different widths, or a parameter out of its range.
    """

    def __init__(
        self,
        shards: Shards,
        batch: int,
        seed: int,
        scale: float = 1.0,
        memory: int = MEMORY,
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

    def batches(self, pass_number: int, first: int = 0) -> Iterator[Samples]:
        """Iterate over the batches of a pass.

        Parameters
        ----------
        pass_number : int
            Pass, from 0; each has an order of its own.
        first : int
            Batch to begin with: a stopped pass goes on with the same batches.

        Yields
        ------
        ndarray of float32, shape (sample, channel)
            Samples divided by the scale.
        """
        pieces = self._pieces(pass_number, first * self.batch)
        waiting: list[Samples] = []
        for piece in pieces:
            waiting.append(piece)
            if sum(map(len, waiting)) == self.batch:
                yield np.concatenate(waiting) / self.scale
                waiting = []
        if waiting:
            yield np.concatenate(waiting) / self.scale

    def _pieces(self, pass_number: int, skip: int) -> Iterator[Samples]:
        """Cut the windows of a pass, from sample `skip` on, at the ends of batches."""
        position = 0
        for number, blocks in enumerate(self._windows(pass_number)):
            end = position + int(self._blocks.rows[blocks].sum())
            if skip < end:
                yield from self._window_pieces(pass_number, number, blocks, position, skip)
            position = end

    def _window_pieces(
        self, pass_number: int, number: int, blocks: NDArray[np.int64], position: int, skip: int
    ) -> Iterator[Samples]:
        window = self._load(blocks)
        order = self._generator(pass_number, number + 1).permutation(len(window))
        start = max(skip - position, 0)
        while start < len(window):
            stop = start + self.batch - (position + start) % self.batch
            yield window[order[start:stop]]
            start = stop

    def _windows(self, pass_number: int) -> list[NDArray[np.int64]]:
        """Blocks of each window of a pass."""
        if self.n_samples <= self._capacity:
            return [np.arange(len(self._blocks.rows))]
        order = self._generator(pass_number, 0).permutation(len(self._blocks.rows))
        rows = max(self._capacity - int(self._blocks.rows.max()), 1)
        ends = np.cumsum(self._blocks.rows[order])
        # A window overlaps its share of `rows` by less than a block: it fits.
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
        chosen = self._blocks.take(np.sort(blocks))
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


@dataclass(frozen=True)
class _Blocks:
    """Runs of consecutive samples: shard, first sample in it, length."""

    shard: NDArray[np.int64]
    start: NDArray[np.int64]
    rows: NDArray[np.int64]

    def take(self, indices: NDArray[np.int64]) -> _Blocks:
        return _Blocks(self.shard[indices], self.start[indices], self.rows[indices])


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


def _weights(importance: AnyArray) -> NDArray[np.float64]:
    weights = as_numpy(importance).astype(np.float64)
    if weights.ndim != 2:
        raise ValueError(f"importance of shape {weights.shape}; expected (image, position)")
    if not (np.isfinite(weights).all() and (weights >= 0).all()):
        raise ValueError("an importance is negative or not finite; expected 0 or more")
    return weights


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
            f"{len(columns)} blocks of samples with {sorted(widths)} channels; "
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
    chunks = getattr(feature, "chunks", None)
    return chunks[0] if isinstance(feature, h5py.Dataset) and chunks else ROWS_PER_BLOCK


def _name(shard: Shard) -> str:
    return "dataset" if isinstance(shard, xr.Dataset) else str(shard)
