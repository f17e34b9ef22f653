"""Weights, maps and colour pictures, held against Jacobians and against loops over pixels."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import xarray as xr
from bcos.common import gradient_to_image
from hypothesis import given, settings
from hypothesis import strategies as st

from fact.networks.layers import LayerError
from fact.traces.attribution import colour_explanation, concept_maps, logit_maps
from fact.traces.contributions import trace_concepts
from tests.fact import tiny
from tests.fact.traces.test_contributions import CONV, TOKENS, cut_conv, cut_vit, dense_codes

# --- weights and maps ------------------------------------------------------------------------


def jacobians(network, cut, sae, image):
    """Derivatives by one encoded image: of presences (concept), of contributions (class, concept)
    and of logits (class), with the codes' masks and the dynamic weights held constant."""
    before, behind = cut(network)
    with network.explanation_mode():
        with torch.no_grad():
            kept = dense_codes(before(image[None]), sae)[0]
        decoder = torch.eye(kept.shape[1], dtype=kept.dtype) if sae is None else sae.decoder.data

        def codes(x):
            positions = before(x[None])[0]
            return positions if sae is None else (positions @ sae.encoder.data.T) * (kept > 0)

        by_code = torch.autograd.functional.jacobian(
            lambda z: behind((z @ decoder.T)[None])[0], kept
        )
        jacobian = lambda function: torch.autograd.functional.jacobian(function, image)  # noqa: E731
        return (
            jacobian(lambda x: codes(x).sum(dim=0)),
            jacobian(lambda x: (by_code * codes(x)).sum(dim=1)),
            jacobian(lambda x: (by_code * codes(x)).sum(dim=(1, 2))),
        )


@pytest.mark.parametrize(
    ("build", "cut", "layer", "channels"),
    [(tiny.convnet, cut_conv, CONV, 6), (tiny.vit, cut_vit, TOKENS, 8)],
    ids=["maps", "tokens"],
)
@pytest.mark.parametrize("with_sae", [True, False])
def test_against_jacobians(build, cut, layer, channels, with_sae):
    network, images = build(), tiny.images(2)
    sae = tiny.sae(channels) if with_sae else None
    concepts = [4, 0, 5]
    present = concept_maps(network, layer, sae, images, concepts)
    given_by = concept_maps(network, layer, sae, images, concepts, of="contribution", target=1)
    logit = logit_maps(network, layer, sae, images, target=1)
    encoded = network.encode(images)
    for index in range(2):
        presence, contribution, logits = jacobians(network, cut, sae, encoded[index])
        close = {"rtol": 0, "atol": 1e-12}
        np.testing.assert_allclose(present.weights[index], presence[concepts], **close)
        np.testing.assert_allclose(given_by.weights[index], contribution[1, concepts], **close)
        np.testing.assert_allclose(logit.weights[index], logits[1], **close)
        summed = (logits[1] * encoded[index]).sum(dim=0)
        np.testing.assert_allclose(logit["map"][index], summed, **close)


@settings(max_examples=10)
@given(seed=st.integers(0, 10_000), with_sae=st.booleans())
@pytest.mark.slow
def test_maps_of_a_convolutional_network_add_up(seed, with_sae):
    network, images = tiny.convnet(seed), tiny.images(2, seed=seed)
    sae = tiny.sae(6, seed=seed) if with_sae else None
    concepts = np.arange(9 if with_sae else 6)
    traced = trace_concepts(network, CONV, sae, images, target=0)
    for of, total in (("presence", traced.presence), ("contribution", traced.contribution)):
        maps = concept_maps(network, CONV, sae, images, concepts, of=of, target=0)
        np.testing.assert_allclose(maps.total, total, rtol=0, atol=1e-12)
        np.testing.assert_allclose(maps["map"].sum(("y", "x")), total, rtol=0, atol=1e-12)
    logit = logit_maps(network, CONV, sae, images, target=0)
    np.testing.assert_allclose(logit["map"], maps["map"].sum("concept"), rtol=0, atol=1e-12)
    np.testing.assert_allclose(logit.total, traced.logit, rtol=0, atol=1e-12)


def test_maps_of_tokens_add_up_but_for_the_position():
    network, images, sae = tiny.vit(), tiny.images(), tiny.sae(8)
    traced = trace_concepts(network, TOKENS, sae, images)
    maps = concept_maps(network, TOKENS, sae, images, np.arange(9))
    missing = traced.presence.sum("concept") - maps["map"].sum(("concept", "y", "x"))
    share = missing / np.abs(traced.presence).sum("concept")
    np.testing.assert_allclose(share, traced.position_share, rtol=0, atol=1e-12)


def test_every_image_may_have_concepts_of_its_own():
    network, images, sae = tiny.convnet(), tiny.images(3), tiny.sae(6)
    wanted = np.array([[1, 2], [8, 0], [4, 4]])
    maps = concept_maps(network, CONV, sae, images, wanted, batch_size=2)
    everything = concept_maps(network, CONV, sae, images, np.arange(9))
    assert maps["map"].dims == ("image", "rank", "y", "x")
    np.testing.assert_array_equal(maps.concept, wanted)
    for index in range(3):
        for rank in range(2):
            expected = everything.weights[index, wanted[index, rank]]
            np.testing.assert_allclose(maps.weights[index, rank], expected, rtol=0, atol=1e-13)


def test_a_concept_that_is_absent_has_no_weight():
    network, images = tiny.convnet(), tiny.images(1)
    sae = tiny.sae(6, k=1)
    absent = np.flatnonzero(trace_concepts(network, CONV, sae, images).presence[0] == 0)[:1]
    maps = concept_maps(network, CONV, sae, images, absent)
    assert not maps.weights.any()
    assert not maps.total.any()


def test_the_dataset_is_labelled():
    images = xr.DataArray(
        tiny.images(2), dims=("image", "y", "x", "colour"), coords={"image": ["a/1", "a/2"]}
    )
    maps = concept_maps(tiny.convnet(), CONV, None, images, [3, 1])
    assert maps.weights.dims == ("image", "concept", "colour", "y", "x")
    assert maps["map"].dims == ("image", "concept", "y", "x")
    assert maps.image.values.tolist() == ["a/1", "a/2"]
    assert maps.concept.values.tolist() == [3, 1]
    assert maps.sizes["colour"] == 6
    assert all({"long_name", "units"} <= set(v.attrs) for v in maps.data_vars.values())


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"concepts": [0, 9]}, ValueError, "concepts 0 to 9; expected 0 to 8"),
        ({"concepts": [-1]}, ValueError, "expected 0 to 8"),
        ({"concepts": []}, ValueError, "at least one"),
        ({"concepts": [0.5]}, ValueError, "expected indices"),
        ({"concepts": [[0, 1]]}, ValueError, "for 3 images"),
        ({"of": "presences"}, ValueError, "expected 'presence' or 'contribution'"),
        ({"of": "contribution", "target": "bea"}, ValueError, "did you mean 'bee'"),
        ({"layer": "featurs.1"}, LayerError, "did you mean 'features.1'"),
    ],
)
def test_a_wrong_argument_says_what_was_expected(arguments, error, message):
    values = {"layer": CONV, "concepts": [0]} | arguments
    layer, concepts = values.pop("layer"), values.pop("concepts")
    with pytest.raises(error, match=message):
        concept_maps(tiny.convnet(), layer, tiny.sae(6), tiny.images(), concepts, **values)


def test_gradients_stay_as_they_were():
    with torch.no_grad():
        concept_maps(tiny.convnet(), CONV, None, tiny.images(), [0])
        assert not torch.is_grad_enabled()


# --- colour pictures -------------------------------------------------------------------------


def by_pixel(weights, map, smooth, percentile):
    """The recipe, one pixel at a time."""
    height, width = map.shape
    picture, strength = np.zeros((height, width, 4)), np.zeros((height, width))
    for y in range(height):
        for x in range(width):
            w = weights[:, y, x]
            largest = max(abs(value) for value in w) + 1e-12
            w = [max(value / largest, 0) for value in w]
            for colour in range(3):
                picture[y, x, colour] = w[colour] / (w[colour] + w[colour + 3] + 1e-12)
            if map[y, x] >= 0:
                strength[y, x] = np.sqrt(sum(value**2 for value in weights[:, y, x]))
    reach = smooth // 2
    for y in range(height):
        for x in range(width):
            for dy in range(-reach, reach + 1):
                for dx in range(-reach, reach + 1):
                    if 0 <= y + dy < height and 0 <= x + dx < width:
                        picture[y, x, 3] += strength[y + dy, x + dx] / smooth**2
    top = np.quantile(picture[..., 3], percentile / 100) + 1e-12
    picture[..., 3] = np.clip(picture[..., 3] / top, 0, 1)
    return picture


def random_weights(seed=0, shape=(6, 7, 9)):
    generator = np.random.default_rng(seed)
    weights = generator.normal(size=shape)
    image = generator.uniform(size=shape)
    return weights, image, (weights * image).sum(axis=-3)


@pytest.mark.parametrize("smooth", [1, 3, 5])
@pytest.mark.parametrize("percentile", [50, 99.5, 100])
def test_a_picture_against_loops(smooth, percentile):
    weights, _, map = random_weights()
    picture = colour_explanation(weights, map, smooth, percentile)
    expected = by_pixel(weights, map, smooth, percentile)
    np.testing.assert_allclose(picture, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("smooth", [3, 15])
def test_a_picture_is_that_of_the_authors_of_bcos(smooth):
    weights, image, map = random_weights(shape=(6, 32, 32))
    expected = gradient_to_image(torch.tensor(image), torch.tensor(weights), smooth, 99.5)
    np.testing.assert_allclose(colour_explanation(weights, map, smooth), expected, atol=1e-9)


def test_many_pictures_are_as_one_by_one():
    weights, _, map = random_weights(shape=(2, 3, 6, 5, 8))
    pictures = colour_explanation(weights, map)
    assert pictures.shape == (2, 3, 5, 8, 4)
    for image in range(2):
        for concept in range(3):
            expected = colour_explanation(weights[image, concept], map[image, concept])
            np.testing.assert_array_equal(pictures[image, concept], expected)


def test_an_empty_picture_is_transparent():
    picture = colour_explanation(np.zeros((6, 4, 4)), np.zeros((4, 4)))
    assert not picture.any()


def test_only_what_speaks_for_it_is_opaque():
    weights, _, map = random_weights(shape=(6, 9, 9))
    picture = colour_explanation(weights, -np.abs(map))
    assert not picture[..., 3].any()


def test_the_size_of_the_weights_does_not_matter():
    weights, _, map = random_weights()
    picture = colour_explanation(weights, map)
    np.testing.assert_allclose(colour_explanation(1e3 * weights, 1e3 * map), picture, atol=1e-9)
    assert picture.min() >= 0
    assert picture.max() == 1


def test_a_labelled_picture_of_a_labelled_map():
    network, images = tiny.convnet(dtype=torch.float32), tiny.images(2)
    maps = concept_maps(network, CONV, None, images, [0, 3])
    picture = colour_explanation(maps.weights.transpose("x", ...), maps["map"].transpose("y", ...))
    expected = colour_explanation(maps.weights.to_numpy(), maps["map"].to_numpy())
    assert set(picture.dims) == {"image", "concept", "y", "x", "colour"}
    picture = picture.transpose("image", "concept", "y", "x", "colour")
    np.testing.assert_allclose(picture, expected, rtol=0, atol=1e-6)
    assert picture.colour.values.tolist() == ["red", "green", "blue", "alpha"]
    assert picture.dtype == np.float32


@pytest.mark.parametrize(
    ("weights", "map", "smooth", "message"),
    [
        ((6, 4, 4), (4, 4), 2, "expected an odd number"),
        ((6, 4, 4), (4, 4), 0, "expected an odd number"),
        ((3, 4, 4), (4, 4), 3, "expected"),
        ((6, 4, 4), (4, 5), 3, "expected"),
        ((2, 6, 4, 4), (4, 4), 3, "expected"),
    ],
)
def test_what_cannot_be_painted_is_refused(weights, map, smooth, message):
    with pytest.raises(ValueError, match=message):
        colour_explanation(np.zeros(weights), np.zeros(map), smooth)
