"""Which features are drawn, and in what order they are read back."""

import itertools
import random
import threading
import tracemalloc

import h5py
import numpy as np
import pytest
import torch
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from fact.sae.features import (
    ShuffledFeatures,
    list_shards,
    root_mean_square_norm,
    squared_norms,
)
from fact.sae.sampling import held_out, importance, sample_positions, samples_per_image
from registry.store.netcdf import write_file
from registry.store.shards import part_name

N_CHANNELS = 3


def make_parts(*sizes):
    """Parts whose first channel counts the samples through."""
    starts = np.cumsum([0, *sizes])
    for start, size in zip(starts, sizes, strict=False):
        feature = np.zeros((size, N_CHANNELS), dtype=np.float32)
        feature[:, 0] = np.arange(start, start + size)
        feature[:, 1] = 1
        yield xr.Dataset({"feature": (("sample", "channel"), feature)})


def write_parts(folder, *sizes, rows=8):
    for number, part in enumerate(make_parts(*sizes)):
        chunks = (min(rows, part.sizes["sample"]), 2)
        encoding = {"feature": {"chunksizes": chunks, "zlib": True, "complevel": 1}}
        path = folder / f"part-{number:06d}.nc"
        part.to_netcdf(path, engine="h5netcdf", encoding=encoding)
    return folder


def memory_for(n_samples):
    return 4 * N_CHANNELS * n_samples


def order_of(batches):
    return np.concatenate([batch[:, 0] for batch in batches]).astype(int)


def test_importance_is_the_absolute_contribution_of_a_position():
    x = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(0))
    gradient = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(1))
    expected = [[abs(float(x[i, p] @ gradient[i, p])) for p in range(5)] for i in range(2)]
    np.testing.assert_allclose(importance(x, gradient), expected, rtol=1e-5)
    np.testing.assert_allclose(importance(x.numpy(), gradient.numpy()), expected, rtol=1e-5)


def test_the_samples_of_an_image_take_the_same_space_for_every_layer():
    counts = [samples_per_image(n) for n in (512, 1024, 384, 2048, 36864, 36865, 10**6)]
    assert counts == [72, 36, 96, 18, 1, 1, 1]


@pytest.mark.slow
def test_draws_are_distributed_as_numpys_without_replacement():
    weights, n_draws = np.array([1.0, 2, 3, 4, 10, 0]), 20_000
    p = weights / weights.sum()
    pairs = list(itertools.combinations(range(5), 2))
    exact = np.array([p[i] * p[j] * (1 / (1 - p[i]) + 1 / (1 - p[j])) for i, j in pairs])
    drawn = sample_positions(np.tile(weights, (n_draws, 1)), 2, np.random.default_rng(0))
    generator = np.random.default_rng(1)
    numpys = [np.sort(generator.choice(6, 2, replace=False, p=p)) for _ in range(n_draws // 4)]
    for chosen in (drawn.position.reshape(-1, 2), np.array(numpys)):
        counts = [np.sum((chosen == pair).all(axis=1)) for pair in pairs]
        assert sum(counts) == len(chosen) >= n_draws // 4
        assert stats.chisquare(counts, len(chosen) * exact).pvalue > 0.01


@settings(max_examples=50)
@given(
    arrays(np.float64, (4, 6), elements=st.one_of(st.just(0.0), st.floats(1e-320, 1e300))),
    st.integers(1, 8),
)
def test_where_fewer_positions_matter_those_and_no_others_are_drawn(weights, count):
    drawn = sample_positions(weights, count, np.random.default_rng(0))
    assert (weights[drawn.image, drawn.position] > 0).all()
    for image in range(4):
        positions = drawn.position[drawn.image == image]
        assert len(set(positions)) == len(positions) == min(count, (weights[image] > 0).sum())
        assert list(positions) == sorted(positions)


def test_the_smallest_importance_is_drawn_before_none():
    drawn = sample_positions([[5e-324, 0.0, 1e300]], 2, np.random.default_rng(0))
    assert list(drawn.position) == [0, 2]


def test_draws_depend_on_the_generator_alone():
    weights = torch.rand(3, 50, generator=torch.Generator().manual_seed(0)).requires_grad_()
    one, same, other = (
        sample_positions(weights, 5, np.random.default_rng(seed)).position for seed in (0, 0, 1)
    )
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)


@pytest.mark.parametrize(
    ("weights", "count", "message"),
    [
        ([[1.0, -1e-9]], 1, "negative or not finite"),
        ([[1.0, np.nan]], 1, "negative or not finite"),
        ([[1.0, np.inf]], 1, "negative or not finite"),
        ([1.0, 2.0], 1, r"shape \(2,\); expected \(image, position\)"),
        ([[1.0, 2.0]], 0, "count is 0"),
    ],
)
def test_importances_that_are_none_are_refused(weights, count, message):
    with pytest.raises(ValueError, match=message):
        sample_positions(weights, count, np.random.default_rng(0))


def test_fifty_images_of_a_class_or_a_fifth_are_held_out():
    labels = np.repeat([7, 3, 1, 9], [1000, 249, 9, 4])
    shuffled = np.random.default_rng(0).permutation(labels)
    mask = held_out(shuffled, seed=1)
    assert {label: int(mask[shuffled == label].sum()) for label in (7, 3, 1, 9)} == {
        7: 50,
        3: 49,
        1: 1,
        9: 0,
    }
    assert np.array_equal(mask, held_out(shuffled, seed=1))
    assert not np.array_equal(mask, held_out(shuffled, seed=2))
    assert held_out(shuffled, seed=1, per_class=2).sum() == 5


def test_the_published_code_holds_out_other_images():
    """As its ``train.py`` does: one generator, class after class, 50 of each."""
    labels = np.repeat([0, 1, 2], [300, 251, 400])
    random.seed(42)
    expected = []
    for label in range(3):
        images = [index for index, target in enumerate(labels) if target == label]
        expected += random.sample(images, 50)
    mask = held_out(labels, seed=5, compat="fact")
    assert sorted(expected) == np.flatnonzero(mask).tolist()
    assert not np.array_equal(mask, held_out(labels, seed=42))


def test_held_out_images_are_drawn_evenly():
    chosen = sum(held_out(np.zeros(10), seed=seed).astype(int) for seed in range(1000))
    assert stats.chisquare(chosen).pvalue > 0.01


def test_the_norm_is_over_all_samples(tmp_path):
    write_parts(tmp_path, 30, 1, 20)
    whole = xr.concat(list(make_parts(30, 1, 20)), dim="sample")
    norms = np.linalg.norm(whole["feature"].values.astype(np.float64), axis=1)
    expected = np.sqrt(np.mean(norms**2))
    assert root_mean_square_norm(tmp_path) == pytest.approx(expected, rel=1e-12)
    assert root_mean_square_norm(whole.transpose()) == pytest.approx(expected, rel=1e-12)


def test_features_that_cannot_be_scaled_are_refused():
    (part,) = make_parts(20)
    with pytest.raises(ValueError, match="20 samples with features that are all 0"):
        root_mean_square_norm(part * 0)
    part["feature"][13, 1] = np.inf
    with pytest.raises(ValueError, match="not finite"):
        root_mean_square_norm(part)


@pytest.fixture(scope="module")
def four_parts(tmp_path_factory):
    return write_parts(tmp_path_factory.mktemp("parts"), 50, 33, 1, 64)


# All fits; a few windows; windows of one block and less than a batch.
@pytest.mark.parametrize("n_kept", [1000, 40, 8])
@pytest.mark.parametrize("batch", [1, 7, 16, 500])
@pytest.mark.slow
def test_an_epoch_has_every_sample_once_in_an_order_of_its_own(four_parts, n_kept, batch):
    shuffled = ShuffledFeatures(four_parts, batch, seed=3, memory=memory_for(n_kept))
    assert (shuffled.n_samples, shuffled.n_channels) == (148, N_CHANNELS)
    epochs = [list(shuffled.batches(number)) for number in (0, 1, 0)]
    sizes = [len(b) for b in epochs[0]]
    assert len(sizes) == shuffled.n_batches
    assert set(sizes[:-1]) <= {batch}
    first, second, again = map(order_of, epochs)
    assert sorted(first) == sorted(second) == list(range(148))
    assert not np.array_equal(first, second)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, np.arange(148))


@pytest.mark.parametrize("n_kept", [1000, 40])
@pytest.mark.slow
def test_an_epoch_can_be_entered_at_any_batch(four_parts, n_kept):
    memory = memory_for(n_kept)
    whole = list(ShuffledFeatures(four_parts, 10, seed=3, memory=memory).batches(2))
    for first in range(len(whole) + 1):
        rest = list(ShuffledFeatures(four_parts, 10, seed=3, memory=memory).batches(2, first))
        assert len(rest) == len(whole) - first
        assert all(map(np.array_equal, rest, whole[first:]))


@pytest.mark.parametrize("n_kept", [1000, 40])
def test_epochs_on_end_are_those_one_by_one(four_parts, n_kept):
    features = ShuffledFeatures(four_parts, 10, seed=3, memory=memory_for(n_kept))
    expected = [batch for epoch in range(3) for batch in features.batches(epoch)]
    for first, last in ((0, len(expected)), (4, len(expected) - 3), (0, 0)):
        found = list(features.stream(first, last))
        assert len(found) == last - first
        assert all(map(np.array_equal, found, expected[first:last]))


def windows_as_they_would_be_read_at_once(folder, batch, seed, n_kept, epoch):
    """Blocks of whole windows, one after the other in memory, as it is told of them."""
    samples = xr.concat([xr.open_dataset(path) for path in list_shards(folder)], "sample")
    rows = [min(8, size - i) for size in (50, 33, 1, 64) for i in range(0, size, 8)]
    blocks = np.split(samples["feature"].values, np.cumsum(rows)[:-1])
    order = np.random.default_rng([seed, epoch, 0]).permutation(len(blocks))
    windows, room = {}, max(n_kept - max(rows), 1)
    for block, end in zip(order, np.cumsum(np.array(rows)[order]), strict=True):
        windows.setdefault((end - 1) // room, []).append(block)
    if n_kept >= sum(rows):
        windows = {0: range(len(blocks))}
    permuted = []
    for number, chosen in enumerate(windows.values()):
        window = np.concatenate([blocks[i] for i in sorted(chosen)])
        permuted.append(np.random.default_rng([seed, epoch, number + 1]).permutation(window))
    whole = np.concatenate(permuted)
    return [whole[start : start + batch] for start in range(0, len(whole), batch)]


@pytest.mark.parametrize("n_kept", [148, 40, 8])
@pytest.mark.slow
def test_batches_read_ahead_are_those_of_windows_read_at_once(four_parts, n_kept):
    """Through several epochs on end, wherever they are entered and left, bit for bit."""
    given = four_parts, 20, 3, n_kept
    expected = [b for e in range(3) for b in windows_as_they_would_be_read_at_once(*given, e)]
    shuffled = ShuffledFeatures(four_parts, 20, seed=3, memory=memory_for(n_kept))
    for first, last in ((0, 24), (3, 21), (8, 9), (5, 5)):
        found = list(shuffled.stream(first, last))
        assert len(found) == last - first
        assert all(map(np.array_equal, found, expected[first:last]))


def test_reading_ahead_ends_with_who_asks_for_batches(four_parts):
    before = threading.active_count()
    batches = ShuffledFeatures(four_parts, 10, seed=0, memory=memory_for(40)).stream(0, 10**6)
    assert len(next(batches)) == 10
    batches.close()
    assert threading.active_count() == before


@pytest.mark.slow
def test_a_shard_that_cannot_be_read_is_told_to_who_trains(tmp_path):
    folder = write_parts(tmp_path, *[40] * 4)
    batches = ShuffledFeatures(folder, 10, seed=0, memory=memory_for(40)).stream(0, 16)
    next(batches)
    for path in folder.iterdir():
        path.write_bytes(b"")
    with pytest.raises((OSError, RuntimeError), match="synchronously"):  # by what HDF5 had read
        list(batches)


def test_datasets_and_files_are_read_alike(tmp_path):
    folder = write_parts(tmp_path, 50, 33, rows=256)
    options = {"batch": 10, "seed": 0, "memory": memory_for(60)}
    expected = order_of(ShuffledFeatures(folder, **options).batches(0))
    for shards in (list(make_parts(50, 33)), list_shards(folder), str(folder)):
        assert np.array_equal(order_of(ShuffledFeatures(shards, **options).batches(0)), expected)


def test_the_order_does_not_depend_on_how_features_are_stored(tmp_path):
    """Those of a collection have lain in chunks, and lie in one piece."""
    values = np.random.default_rng(0).standard_normal((4096, 64), dtype="float32")
    part, orders = xr.Dataset({"feature": (("sample", "channel"), values)}), []
    for folder, by_rows in ((tmp_path / "chunks", ()), (tmp_path / "piece", ("feature",))):
        folder.mkdir()
        write_file(part, folder / part_name(0), by_rows)
        with h5py.File(folder / part_name(0)) as file:
            assert (file["feature"].chunks is None) == bool(by_rows)
        features = ShuffledFeatures(folder, 256, 0, memory=values.nbytes // 2)
        orders.append(np.concatenate(list(features.batches(0))))
        assert squared_norms(folder / part_name(0)) == squared_norms(part)
    np.testing.assert_array_equal(*orders)


def test_samples_are_divided_by_the_scale():
    (part,) = make_parts(20)
    (batch,) = ShuffledFeatures(part, 20, seed=0, scale=4.0).batches(0)
    assert batch.dtype == np.float32
    assert set(batch[:, 1]) == {0.25}
    assert sorted(batch[:, 0]) == [i / 4 for i in range(20)]
    assert part["feature"][0, 1] == 1


@pytest.mark.slow
def test_with_little_memory_neighbours_still_come_from_everywhere(tmp_path):
    folder = write_parts(tmp_path, *[512] * 8, rows=8)
    shuffled = ShuffledFeatures(folder, 64, seed=0, memory=memory_for(1024))
    assert len(shuffled._windows(0)) >= 4
    orders = [order_of(shuffled.batches(number)) for number in range(10)]
    for order in orders:
        assert all(len(set(batch // 512)) >= 6 for batch in order.reshape(-1, 64))
        assert abs(stats.spearmanr(order, np.arange(4096)).statistic) < 0.1
    # Where the samples of the first part come in an epoch: evenly, at its beginning and its end.
    places = np.concatenate([np.flatnonzero(order < 512) for order in orders])
    counts = np.histogram(places, bins=8, range=(0, 4096))[0]
    assert counts.min() > 0.75 * counts.mean()


@pytest.mark.slow
def test_memory_is_bounded(tmp_path):
    memory = 2**20
    for number in range(4):
        feature = np.ones((4096, 256), dtype=np.float32)
        part = xr.Dataset({"feature": (("sample", "channel"), feature)})
        encoding = {"feature": {"chunksizes": (64, 256)}}
        path = tmp_path / f"part-{number:06d}.nc"
        part.to_netcdf(path, engine="h5netcdf", encoding=encoding)
    shuffled = ShuffledFeatures(tmp_path, 32, seed=0, memory=memory)
    tracemalloc.start()
    try:
        assert sum(len(batch) for batch in shuffled.batches(0)) == 4 * 4096
        root_mean_square_norm(tmp_path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < memory + 2**19


def test_what_cannot_be_read_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"expected part-000000\.nc"):
        ShuffledFeatures(tmp_path, 10, seed=0)
    (part,) = make_parts(20)
    narrow = part.isel(channel=[0])
    with pytest.raises(ValueError, match=r"\[1, 3\] channels; expected some, all of one width"):
        ShuffledFeatures([part, narrow], 10, seed=0)
    with pytest.raises(ValueError, match="0 blocks"):
        ShuffledFeatures(part.isel(sample=[]), 10, seed=0)
    part.rename(feature="vector").to_netcdf(tmp_path / "part-000000.nc", engine="h5netcdf")
    with pytest.raises(ValueError, match="no variable 'feature'"):
        ShuffledFeatures(tmp_path, 10, seed=0)
    for wrong in ({"batch": 0}, {"batch": 1, "scale": 0.0}):
        with pytest.raises(ValueError, match="expected at least 1 and above 0"):
            ShuffledFeatures(part, seed=0, **wrong)
