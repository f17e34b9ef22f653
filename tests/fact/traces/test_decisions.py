"""One image explained: held against the network cut by hand, and against itself."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image

import fact
from fact.data.images import Geometry
from fact.traces.attribution import concept_maps
from fact.traces.contributions import CompletenessError
from fact.traces.decisions import strongest
from fact.traces.spliced import ConceptSource
from tests.fact import tiny
from tests.fact.traces.test_attribution import jacobians
from tests.fact.traces.test_contributions import CASES, CONV, TOKENS, brute_force


def source(with_sae=True, dtype=torch.float64, **changes):
    network = dataclasses.replace(tiny.convnet(dtype=dtype), **changes)
    return ConceptSource(network, CONV, tiny.sae(6, dtype=dtype) if with_sae else None)


@pytest.mark.parametrize(("build", "cut", "layer", "channels", "with_sae"), CASES)
@pytest.mark.parametrize(("target", "against"), [("prediction", None), (2, None), ("bee", "ape")])
def test_against_the_network_cut_by_hand(build, cut, layer, channels, with_sae, target, against):
    network, [picture] = build(), tiny.images(1)
    sae = tiny.sae(channels) if with_sae else None
    explained = fact.explain_image(
        ConceptSource(network, layer, sae), picture, target=target, against=against, most=3
    )
    encoded = network.encode(picture[None])
    presence, logits, contributions = (
        part[0].numpy() for part in brute_force(network, cut, sae, encoded)
    )
    chosen = {"prediction": logits.argmax(), 2: 2, "bee": 1}[target]
    expected, logit = contributions[chosen], logits[chosen]
    if against:
        expected, logit = expected - contributions[0], logit - logits[0]
    close = {"rtol": 0, "atol": 1e-12}
    np.testing.assert_allclose(explained["contribution"], expected, **close)
    np.testing.assert_allclose(explained["presence"], presence, **close)
    np.testing.assert_allclose(explained["logits"], logits, **close)
    np.testing.assert_allclose(explained["logit"], logit, **close)
    np.testing.assert_allclose(explained["contribution"].sum(), logit, **close)
    assert int(explained["target"]) == chosen
    assert int(explained["against"]) == (0 if against else -1)
    assert int(explained["prediction"]) == logits.argmax()
    shown = explained["top_concept"].values
    assert set(shown) == set(np.argsort(-expected)[:3][np.sort(-expected)[:3] < 0]) | set(
        np.argsort(expected)[:3][np.sort(expected)[:3] < 0]
    )
    np.testing.assert_allclose(explained["others"], np.delete(expected, shown).sum(), **close)
    _, by_input, of_logits = jacobians(network, cut, sae, encoded[0])
    weights = by_input[chosen] - by_input[0] if against else by_input[chosen]
    maps = (weights * encoded[0]).sum(dim=1)
    np.testing.assert_allclose(explained["concept_map"], maps[shown], atol=1e-7)
    whole = of_logits[chosen] - of_logits[0] if against else of_logits[chosen]
    np.testing.assert_allclose(explained["logit_map"], (whole * encoded[0]).sum(dim=0), atol=1e-7)


@pytest.mark.parametrize("with_sae", [True, False])
def test_in_single_precision_everything_adds_up_to_five_digits(with_sae):
    own, [picture] = source(with_sae, torch.float32), tiny.images(1, side=24)
    for options in ({}, {"target": 0}, {"target": 0, "against": 2}):
        explained = fact.explain_image(own, picture, **options)
        whole, scale = float(explained["logit"]), float(np.abs(explained["contribution"]).sum())
        assert abs(float(explained["contribution"].sum()) - whole) < 1e-5 * scale
        shown = explained["contribution"].values[explained["top_concept"].values]
        assert abs(shown.sum() + float(explained["others"]) - whole) < 1e-5 * scale
        own_maps = explained["concept_map"].values.sum(axis=(1, 2))
        np.testing.assert_allclose(own_maps, shown, rtol=1e-4, atol=1e-5 * scale)
        together = explained["concept_map"].sum("rank") + explained["others_map"]
        np.testing.assert_allclose(together, explained["logit_map"], atol=1e-5 * scale)
        assert abs(float(explained["position"])) < 1e-5 * scale
        assert float(explained["residual"]) < 1e-6


def test_a_difference_is_that_of_two_explanations():
    own, [picture] = source(dtype=torch.float32), tiny.images(1)
    one, other = (fact.explain_image(own, picture, target=target, most=9) for target in (2, 1))
    both = fact.explain_image(own, picture, target=2, against=1, most=9)
    for name in ("contribution", "logit", "logit_map"):
        np.testing.assert_allclose(both[name], one[name] - other[name], atol=1e-6)
    np.testing.assert_array_equal(both["presence"], one["presence"])
    back = fact.explain_image(own, picture, target=1, against=2, most=9)
    np.testing.assert_allclose(back["contribution"], -both["contribution"], atol=1e-7)


def test_tokens_add_up_with_the_position():
    network, [picture] = tiny.vit(), tiny.images(1)
    explained = fact.explain_image(ConceptSource(network, TOKENS, tiny.sae(8)), picture)
    assert abs(float(explained["position"])) > 1e-3
    together = float(explained["logit_map"].sum()) + float(explained["position"])
    np.testing.assert_allclose(together, explained["logit"], atol=1e-6)


def test_a_picture_of_any_size_is_brought_to_the_networks_geometry():
    geometry = Geometry(10, 8)
    own = source(geometry=geometry)
    grey = np.random.default_rng(0).integers(0, 256, (28, 28), dtype=np.uint8)
    colour = np.repeat(grey[..., None], 3, axis=2)
    explained = fact.explain_image(own, grey)
    small = Image.fromarray(colour).resize((10, 10), Image.Resampling.BILINEAR).crop((1, 1, 9, 9))
    np.testing.assert_array_equal(explained["picture"], np.asarray(small))
    again = fact.explain_image(own, np.asarray(small))
    np.testing.assert_array_equal(again["picture"].shape, (8, 8, 3))
    np.testing.assert_array_equal(
        explained["contribution"], fact.explain_image(own, colour)["contribution"]
    )
    assert fact.explain_image(own, np.zeros((1, 1), np.uint8))["picture"].shape == (8, 8, 3)


def test_probabilities_are_those_of_the_network_with_its_bias():
    network, [picture] = tiny.convnet(), tiny.images(1)
    explained = fact.explain_image(ConceptSource(network, CONV, None), picture)
    with torch.no_grad():  # its own channels take the layer's place without loss
        expected = torch.sigmoid(network.module(network.encode(picture[None])))[0]
    np.testing.assert_allclose(explained["probability"], expected, rtol=1e-6)


def test_what_nothing_contributes_to_has_no_concept():
    own = source()
    own.sae.encoder.data.zero_()
    explained = fact.explain_image(own, tiny.images(1)[0])
    assert explained.sizes["rank"] == 0
    assert not explained["contribution"].values.any()
    assert float(explained["logit"]) == float(explained["others"]) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"target": "bea"}, "unknown target 'bea'.*bee"),
        ({"target": 3}, "target classes \\[3\\]; expected 0 to 2"),
        ({"against": "wolf"}, "unknown target 'wolf'"),
        ({"target": 1, "against": "bee"}, "'bee' against itself; expected two classes"),
        ({"against": "prediction"}, "against itself"),
        ({"target": "label"}, "needs labels"),
    ],
)
def test_a_wrong_class_says_what_was_expected(arguments, message):
    with pytest.raises(ValueError, match=message):
        fact.explain_image(source(), tiny.images(1)[0], **arguments)


@pytest.mark.parametrize(
    "picture",
    [
        np.zeros((8, 8, 3)),
        np.zeros((8, 8, 4), np.uint8),
        np.zeros((1, 8, 8, 3), np.uint8),
        np.zeros((0, 8), np.uint8),
    ],
)
def test_what_is_no_picture_is_refused(picture):
    with pytest.raises(ValueError, match="a picture of shape"):
        fact.explain_image(source(), picture)


def test_a_bias_is_found():
    own = source()
    tiny.add_bias(own.network.module.features[2])
    with pytest.raises(CompletenessError, match="do not add up to the logit"):
        fact.explain_image(own, tiny.images(1)[0])
    measured = fact.explain_image(own, tiny.images(1)[0], tolerance=None)
    assert float(measured["residual"]) > 1e-5


def test_the_strongest_of_each_sign_come_in_order():
    values = np.array([0.0, 2, -3, 5, -1, 2, np.nan])
    np.testing.assert_array_equal(strongest(values, 2), [3, 1, 2, 4])
    np.testing.assert_array_equal(strongest(values, 9), [3, 1, 5, 2, 4])
    np.testing.assert_array_equal(strongest(np.zeros(3), 2), [-1])


def test_maps_of_one_concept_against_a_class_stand_by_themselves():
    network, images = tiny.convnet(), tiny.images(2)
    given = network, CONV, tiny.sae(6), images, [4, 0]
    both = concept_maps(*given, of="contribution", target="label", labels=[1, 2], against=0)
    one = concept_maps(*given, of="contribution", target="label", labels=[1, 2])
    zero = concept_maps(*given, of="contribution", target=0)
    np.testing.assert_allclose(both["weights"], one["weights"] - zero["weights"], atol=1e-12)
    np.testing.assert_allclose(both["total"], one["total"] - zero["total"], atol=1e-12)
