"""Encodings: the transposed interpolation, the choice of images, random maps, real photographs."""

from __future__ import annotations

import dask.array as da
import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr
from scipy import sparse
from torch.nn import functional
from torchvision.transforms.functional import resize

import evals
import fact
from fact.encode import encodings
from fact.encode.encoders import EncoderChoice
from fact.encode.encodings import (
    MappedImage,
    choose_threshold,
    count_pixels,
    encode_images,
    published_threshold,
    random_weights,
    select_images,
)
from fact.encode.image_encoder import ImageEncoder, gather_weights, resize_maps
from registry.declare.stage import load_stage
from tests.fact import photographs

RNG = np.random.default_rng(0)
CPU = torch.device("cpu")


@fact.encoder("test-patches", multiple=4)
def build_patches():
    """Four channels: the mean colour of patches of 4 x 4 pixels, and 1."""

    def patches(images: torch.Tensor) -> torch.Tensor:
        means = functional.avg_pool2d(images, 4)
        return torch.cat([means, torch.ones_like(means[:, :1])], dim=1)

    return patches


@fact.upsampler("test-twice")
def build_twice():
    """Repeat every cell, as a guided up-sampler would, to the size of what the encoder saw."""
    return lambda features, images: functional.interpolate(features, images.shape[2:])


PATCHES = EncoderChoice("test-patches", side=None)


@pytest.mark.parametrize("verb", ["encode_concepts", "encode_craft", "encode_crp"])
def test_the_module_of_an_encoder_that_is_named_is_the_stages_code(verb: str) -> None:
    stage = load_stage(f"fact.{verb}")
    assert __name__ in stage.plugged({"encoder": "test-patches", "upsampler": "bilinear"})
    assert __name__ not in stage.plugged(stage.settings.defaults())


# -- interpolation ---------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(7, 9), (3, 4), (224, 160), (2, 3), (1, 1), (50, 2)])
def test_the_mean_under_weights_is_that_of_the_large_feature_map(size: tuple[int, int]) -> None:
    features = torch.rand(5, 3, 4, dtype=torch.float64)
    weights = torch.rand(6, *size, dtype=torch.float64)
    large = resize_maps(features[None], size)[0]
    direct = torch.einsum("myx,cyx->mc", weights, large)
    short = torch.einsum("myx,cyx->mc", gather_weights(weights, (3, 4)), features)
    torch.testing.assert_close(short, direct, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(gather_weights(weights, (3, 4)).sum((1, 2)), weights.sum((1, 2)))


@pytest.mark.parametrize("size", [(17, 30), (5, 4)])
def test_maps_are_resized_as_torchvision_does(size: tuple[int, int]) -> None:
    maps = torch.rand(2, 1, 8, 9)
    torch.testing.assert_close(resize_maps(maps, size), resize(maps, list(size)))
    if size[0] > 8:
        plain = functional.interpolate(maps, size, mode="bilinear", align_corners=False)
        torch.testing.assert_close(resize_maps(maps, size), plain)


# -- which images ----------------------------------------------------------------------------


def brute_force(presence: np.ndarray, quantile: float, least: int) -> np.ndarray:
    """Lower the threshold from the quantile, presence by presence, until enough remain."""
    positive = sorted(p for p in presence.tolist() if p > 0)
    if len(positive) < 2:
        return np.zeros(len(presence), bool)
    if len(positive) <= least:
        return presence > 0
    place = quantile * (len(positive) - 1)
    low, part = positive[int(place)], place - int(place)
    high = positive[min(int(place) + 1, len(positive) - 1)]
    threshold = low + part * (high - low)
    for lower in reversed(positive):
        if (presence >= threshold).sum() >= least:
            break
        threshold = min(threshold, lower)
    return (presence > 0) & (presence >= threshold)


@pytest.mark.parametrize("n", [0, 1, 2, 9, 10, 11, 50, 199, 200, 201, 1000])
@pytest.mark.parametrize("kind", ["continuous", "tied", "equal"])
def test_images_are_chosen_as_defined(n: int, kind: str) -> None:
    values = {
        "continuous": RNG.gamma(1, size=n),
        "tied": RNG.integers(1, 6, n).astype(float),
        "equal": np.ones(n),
    }[kind]
    presence = RNG.permutation(np.r_[values, np.zeros(30)]).astype(np.float32)
    expected = brute_force(presence, 0.95, 10)
    chosen = presence >= choose_threshold(presence, 0.95, 10)
    np.testing.assert_array_equal(chosen, expected)
    if n > 10:
        assert chosen.sum() >= 10
    if kind == "equal":
        assert chosen.sum() == (n if n > 1 else 0)


@pytest.mark.parametrize("n", [0, 1, 9, 10, 11, 12, 200, 201, 1000])
@pytest.mark.parametrize("kind", ["continuous", "tied"])
def test_the_published_code_chooses_strictly_above(n: int, kind: str) -> None:
    values = RNG.gamma(1, size=n) if kind == "continuous" else RNG.integers(1, 6, n).astype(float)
    presence = RNG.permutation(np.r_[values, np.zeros(30)]).astype(np.float32)
    found = presence > published_threshold(presence, 0.95, 10)
    largest_first = sorted(presence[presence > 0].tolist(), reverse=True)
    expected = presence > 0
    if n > 10:  # the 11th largest, or what nineteen of twenty do not pass, if that is less
        cut = min(largest_first[10], float(np.percentile(largest_first, 95)))
        expected = np.array([value > cut for value in presence.tolist()])
    np.testing.assert_array_equal(found, expected)
    assert not (found & ~brute_force(presence, 0.95, 10)).any() or n < 2  # none beside ours


@pytest.mark.parametrize("positives", [1, 300, 1 << 25])
def test_all_concepts_are_chosen_as_each_alone(monkeypatch, positives: int) -> None:
    monkeypatch.setattr(encodings, "POSITIVES", positives)
    monkeypatch.setattr(encodings, "ROWS", 64)
    values = RNG.gamma(1, size=(300, 9)) * (RNG.random((300, 9)) < np.linspace(0, 1, 9))
    values[:, 1], values[7, 1] = 0, 1
    presence = xr.DataArray(values.astype(np.float32), dims=("image", "concept"))
    found = select_images(presence, 0.9, 10)
    expected = np.stack([brute_force(column, 0.9, 10) for column in presence.values.T], 1)
    image, concept = np.nonzero(expected)
    np.testing.assert_array_equal(found.image, image)
    np.testing.assert_array_equal(found.concept, concept)
    np.testing.assert_array_equal(found.presence, presence.values[image, concept])
    assert np.isnan(found.threshold[:2]).all()
    rows = found.of_images(slice(100, 200))
    np.testing.assert_array_equal(found.image[rows], image[(image >= 100) & (image < 200)])


# -- maps ------------------------------------------------------------------------------------


def test_pixels_are_counted_up_to_the_share() -> None:
    maps = np.stack([np.ones((5, 5)), np.zeros((5, 5)), np.eye(5), np.diag([96.0, 1, 1, 1, 1])])
    assert count_pixels(maps).tolist() == [20, 0, 4, 1]
    assert count_pixels(np.array([[[0.5, 0.3, 0.2]]]), 0.8).tolist() == [2]


def test_random_maps_are_clipped_and_depend_on_the_image_alone() -> None:
    first = random_weights("test/1", (60, 70), 0)
    np.testing.assert_array_equal(first, random_weights("test/1", (60, 70), 0))
    assert (first != random_weights("test/2", (60, 70), 0)).any()
    assert (first != random_weights("test/1", (60, 70), 1)).any()
    lowest = [random_weights(str(i), (40, 40), 0).min() for i in range(300)]
    assert 0.4 < np.mean(lowest) < 0.6
    clipped = [(random_weights(str(i), (40, 40), 0) == lowest[i]).mean() for i in range(300)]
    np.testing.assert_allclose(clipped, lowest, atol=0.06)


def test_an_encoding_is_the_mean_under_the_positive_part() -> None:
    pictures = RNG.integers(0, 256, (3, 12, 16, 3), dtype=np.uint8)
    maps = RNG.normal(size=(3, 12, 16))
    encoder = ImageEncoder(PATCHES, CPU)
    got = fact.encode_maps(pictures, maps, PATCHES, device="cpu", batch_size=2)
    for picture, map, encoding in zip(pictures, maps, got.values, strict=True):
        normalised = encoder._normalised(picture[None])
        features = functional.interpolate(build_patches()(normalised), (12, 16), mode="bilinear")
        weights = np.clip(map, 0, None)
        expected = (features[0].numpy() * weights).sum((1, 2)) / weights.sum()
        np.testing.assert_allclose(encoding, expected, rtol=1e-5)
        assert encoding[3] == pytest.approx(1)


def test_a_guided_upsampler_stands_between_encoder_and_image() -> None:
    picture = RNG.integers(0, 256, (1, 8, 8, 3), dtype=np.uint8)
    choice = EncoderChoice("test-patches", "test-twice", side=None)
    one = np.zeros((1, 8, 8))
    one[0, 1, 6] = 5
    got = fact.encode_maps(picture, one, choice, device="cpu").values[0, :3]
    encoder = ImageEncoder(choice, CPU)
    cell = encoder._normalised(picture)[0, :, :4, 4:].mean((1, 2))
    np.testing.assert_allclose(got, cell, rtol=1e-5)


def test_maps_without_positive_part_have_no_encoding() -> None:
    picture = RNG.integers(0, 256, (2, 8, 8, 3), dtype=np.uint8)
    maps = np.stack([-np.ones((8, 8)), np.ones((8, 8))])
    got = fact.encode_maps(picture, maps, PATCHES, device="cpu")
    assert np.isnan(got[0]).all()
    assert np.isfinite(got[1]).all()


def test_images_and_maps_of_several_sizes() -> None:
    pictures = [RNG.integers(0, 256, (s, s + 8, 3), dtype=np.uint8) for s in (16, 24, 16)]
    maps = [np.ones((5, 6)), np.ones((16, 32)), np.ones((16, 24))]
    together = fact.encode_maps(pictures, maps, PATCHES, device="cpu")
    for row, (picture, map) in enumerate(zip(pictures, maps, strict=True)):
        alone = fact.encode_maps([picture], [map], PATCHES, device="cpu")
        np.testing.assert_allclose(together[row], alone[0], rtol=1e-6)
    with pytest.raises(ValueError, match="3 images and 2 maps"):
        fact.encode_maps(pictures, maps[:2], PATCHES, device="cpu")


@pytest.mark.parametrize(("side", "seen"), [(8, (8, 12)), (24, (24, 36)), (None, (16, 24))])
def test_the_shorter_side_is_brought_to_what_was_asked(side, seen) -> None:
    encoder = ImageEncoder(EncoderChoice("test-patches", side=side), CPU)
    assert encoder._normalised(np.zeros((1, 16, 24, 3), np.uint8)).shape[2:] == seen


def test_rows_of_an_image_whole_random_and_by_concept() -> None:
    picture = RNG.integers(0, 256, (8, 8, 3), dtype=np.uint8)
    maps = RNG.random((2, 8, 8))
    image = MappedImage("a", picture, np.array([4, 9]), np.array([1.5, 2]), list(maps), (0, 3))
    rows = encode_images(ImageEncoder(PATCHES, CPU), [image], seed=1)
    assert rows["map"].tolist() == ["whole", "random", "random", "concept", "concept"]
    assert rows["group"].tolist() == [-1, 0, 3, 4, 9]
    random = random_weights("a", (8, 8), 1)
    np.testing.assert_allclose(rows["presence"][1:], [random.sum()] * 2 + [1.5, 2], rtol=1e-6)
    whole = fact.encode_maps([picture], np.ones((1, 8, 8)), PATCHES, device="cpu")
    np.testing.assert_allclose(rows["encoding"][0], whole[0], rtol=1e-6)
    noise = fact.encode_maps([picture], random[None], PATCHES, device="cpu")
    np.testing.assert_allclose(rows["encoding"][1], noise[0], rtol=1e-6)


# -- names -----------------------------------------------------------------------------------


def test_unknown_names_and_unfit_sides_are_errors() -> None:
    with pytest.raises(ValueError, match="unknown encoder 'efficientnet-lite'; did you mean"):
        EncoderChoice("efficientnet-lite")
    with pytest.raises(ValueError, match="unknown up-sampler 'bilinaer'; did you mean 'bilinear'"):
        EncoderChoice(upsampler="bilinaer")
    with pytest.raises(ValueError, match="side 100; dinov2-vits14 takes multiples of 14"):
        EncoderChoice("dinov2-vits14", side=100)
    assert EncoderChoice("test-patches", side=None).rows[0].multiple == 4


# -- real photographs ------------------------------------------------------------------------


@pytest.mark.slow
def test_one_object_is_more_consistent_than_anything() -> None:
    scores = {}
    for name, (crops, maps) in {
        "bloom": photographs.same_object(),
        "anything": photographs.anything(),
    }.items():
        encodings = fact.encode_maps(crops, maps, device="cpu")
        scores[name] = evals.c2_score(encodings, RNG.uniform(1, 2, len(crops)))
    assert scores["bloom"] > 0.8
    assert scores["anything"] < 0.5


@pytest.mark.slow
def test_photographs_are_told_from_mixtures_of_them() -> None:
    """Four crops of each of ten photographs against four crops of four, with noisy maps."""
    from fact.kinds import Photographs

    dataset = Photographs().load()
    ids = dataset.ids("test")
    names = np.array([name.split("/")[1] for name in ids])
    shown = np.unique(names)[::3][:10]
    rows = np.stack([np.flatnonzero(names == name)[:4] for name in shown])
    pictures = dataset.read(ids[rows.ravel()], fact.Geometry(224, 224))
    y, x = np.mgrid[:224, :224]
    middles = RNG.uniform(50, 174, (len(pictures), 2))
    maps = [
        np.exp(-((y - row) ** 2 + (x - column) ** 2) / (2 * 35**2)) * RNG.random((224, 224))
        for row, column in middles
    ]
    encodings = fact.encode_maps(pictures, maps, device="cpu").values.reshape(10, 4, -1)
    one = np.ones(4)
    same = [evals.c2_score(own, one) for own in encodings]
    mixed = [evals.c2_score(encodings[(np.arange(4) + k) % 10, range(4)], one) for k in range(10)]
    assert min(same) > max(mixed)


# -- arrays of every library -------------------------------------------------------------------


def test_images_and_maps_of_every_library_are_encoded_alike() -> None:
    pictures = RNG.integers(0, 256, (3, 8, 12, 3), dtype=np.uint8)
    maps = RNG.normal(size=(3, 8, 12)).astype(np.float32)
    expected = fact.encode_maps(pictures, maps, PATCHES, device="cpu")
    ids = {"image": ["a", "b", "c"]}
    named = xr.DataArray(pictures, ids, ("image", "y", "x", "colour"))
    shuffled = xr.DataArray(maps, ids, ("image", "y", "x")).transpose("x", "image", "y")
    for images, weights in (
        (torch.from_numpy(pictures), torch.from_numpy(maps)),
        (da.from_array(pictures, chunks=2), da.from_array(maps, chunks=2)),
        (list(pictures), [pd.DataFrame(map) for map in maps]),
        (list(torch.from_numpy(pictures)), [sparse.csr_array(map) for map in maps]),
        (named.chunk(image=1), shuffled),
    ):
        got = fact.encode_maps(images, weights, PATCHES, device="cpu")
        np.testing.assert_array_equal(got, expected)
    assert got["image"].values.tolist() == ["a", "b", "c"]
    assert "image" not in expected.coords
