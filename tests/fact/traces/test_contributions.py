"""Presence, contribution and completeness, held against Jacobians of the network cut by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import xarray as xr
from bcos.models.vit import PosEmbSinCos2d
from bcos.modules import BcosLinear, LogitLayer
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from fact.networks.bcos_networks import bcos_network
from fact.networks.layers import LayerError
from fact.networks.network import Network
from fact.traces.contributions import (
    CompletenessError,
    check_completeness,
    relative_residual,
    trace_concepts,
)
from tests.fact import tiny

CONV, TOKENS = "features.1", "0.transformer.encoder_0"


def cut_conv(network):
    """The network before and behind ``features.1``, as functions of and to positions."""
    module = network.module

    def before(image):
        return module.features[1](module.features[0](image)).flatten(2).transpose(1, 2)

    def behind(positions):
        maps = positions.transpose(1, 2).reshape(-1, 6, 4, 4)
        return module.classifier(module.features[2](maps)).mean((2, 3)) / 0.5

    return before, behind


def cut_vit(network):
    """The network before and behind its first encoder."""
    vit = network.module[0]

    def before(image):
        patches = vit.to_patch_embedding(image)
        tokens = patches.flatten(1, 2) + vit.positional_embedding(patches)
        return vit.transformer.encoder_0(tokens)

    def behind(tokens):
        return vit.linear_head(vit.transformer.encoder_1(tokens).mean(dim=1))

    return before, behind


def dense_codes(positions, sae):
    """TopK codes by sorting, one position at a time."""
    if sae is None:
        return positions.clone()
    codes = torch.zeros(*positions.shape[:2], sae.n_concepts, dtype=positions.dtype)
    for image in range(positions.shape[0]):
        for place in range(positions.shape[1]):
            activations = (sae.encoder @ positions[image, place]).clamp(min=0)
            for concept in activations.argsort(descending=True)[: sae.k]:
                codes[image, place, concept] = activations[concept]
    return codes


def brute_force(network, cut, sae, encoded):
    """Presence (image, concept), logits (image, class), contributions (image, class, concept)."""
    before, behind = cut(network)
    with torch.no_grad():
        codes = dense_codes(before(encoded), sae)
    decoder = torch.eye(codes.shape[2], dtype=codes.dtype) if sae is None else sae.decoder.detach()
    logits, contributions = [], []
    with network.explanation_mode():
        for code in codes:
            of_code = lambda z: behind((z @ decoder.T).unsqueeze(0))[0]  # noqa: E731
            jacobian = torch.autograd.functional.jacobian(of_code, code)
            logits.append(of_code(code).detach())
            contributions.append((jacobian * code).sum(dim=1))
    return codes.sum(dim=1), torch.stack(logits), torch.stack(contributions)


CASES = [
    pytest.param(tiny.convnet, cut_conv, CONV, 6, True, id="maps-sae"),
    pytest.param(tiny.convnet, cut_conv, CONV, 6, False, id="maps-channels"),
    pytest.param(tiny.vit, cut_vit, TOKENS, 8, True, id="tokens-sae"),
    pytest.param(tiny.vit, cut_vit, TOKENS, 8, False, id="tokens-channels"),
]


@pytest.mark.parametrize(("build", "cut", "layer", "channels", "with_sae"), CASES)
@pytest.mark.parametrize("target", ["prediction", "label", 2, "bee"])
def test_against_jacobians(build, cut, layer, channels, with_sae, target):
    network, images, labels = build(), tiny.images(4), np.array([2, 0, 1, 1])
    sae = tiny.sae(channels) if with_sae else None
    traced = trace_concepts(network, layer, sae, images, target, labels, batch_size=3)
    presence, logits, contributions = brute_force(network, cut, sae, network.encode(images))
    classes = {"prediction": logits.argmax(1).numpy(), "label": labels, 2: 2, "bee": 1}[target]
    chosen = np.broadcast_to(classes, 4).copy()
    each = np.arange(4)
    np.testing.assert_allclose(traced.presence, presence, rtol=0, atol=1e-12)
    np.testing.assert_allclose(traced.logits, logits, rtol=0, atol=1e-12)
    np.testing.assert_allclose(traced.logit, logits[each, chosen], rtol=0, atol=1e-12)
    np.testing.assert_allclose(traced.contribution, contributions[each, chosen], rtol=0, atol=1e-12)
    np.testing.assert_array_equal(traced.prediction, logits.argmax(dim=1))
    np.testing.assert_array_equal(traced.target, chosen)
    np.testing.assert_array_equal(traced.label, labels)


@settings(max_examples=12)
@given(seed=st.integers(0, 10_000), k=st.integers(1, 9), tokens=st.booleans())
@pytest.mark.slow
def test_in_double_precision_nothing_is_missing(seed, k, tokens):
    network = tiny.vit(seed) if tokens else tiny.convnet(seed)
    sae = tiny.sae(8 if tokens else 6, k=k, seed=seed)
    layer = TOKENS if tokens else CONV
    traced = trace_concepts(network, layer, sae, tiny.images(2, seed=seed), tolerance=None)
    assert traced.residual.max() < 1e-11
    assert traced.input_residual.max() < 1e-11


@pytest.mark.parametrize("layer", ["features.0", "features.1", "features.2", "features.2.0"])
@pytest.mark.parametrize("with_sae", [True, False])
def test_single_precision_keeps_six_digits_at_every_layer(layer, with_sae):
    network = tiny.convnet(dtype=torch.float32)
    channels = {"0": 5, "1": 6, "2": 7}[layer[9]]
    sae = tiny.sae(channels, dtype=torch.float32) if with_sae else None
    traced = trace_concepts(network, layer, sae, tiny.images())
    assert traced.residual.max() < 1e-6
    assert traced.input_residual.max() < 1e-6
    assert traced.presence.dtype == traced.residual.dtype == np.float32


def test_the_prediction_is_that_of_the_spliced_network():
    network, images = tiny.convnet(seed=1), tiny.images(24)
    own = network.logits(network.encode(images)).argmax(dim=1).numpy()
    traced = trace_concepts(network, CONV, tiny.sae(6, k=1), images)
    _, logits, _ = brute_force(network, cut_conv, tiny.sae(6, k=1), network.encode(images))
    np.testing.assert_array_equal(traced.prediction, logits.argmax(dim=1))
    assert (traced.prediction.to_numpy() != own).any()


def test_channels_reconstruct_exactly_and_an_sae_by_its_error():
    network, images, sae = tiny.convnet(), tiny.images(), tiny.sae(6)
    assert (trace_concepts(network, CONV, None, images).reconstruction_error == 0).all()
    output = cut_conv(network)[0](network.encode(images))
    expected = (output - sae(output)).norm(dim=2).reshape(3, 4, 4).detach()
    error = trace_concepts(network, CONV, sae, images).reconstruction_error
    assert error.dims == ("image", "y", "x")
    np.testing.assert_allclose(error, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("batch_size", [1, 2, 5, 100])
def test_batches_do_not_matter(batch_size):
    network, images, sae = tiny.convnet(), tiny.images(5), tiny.sae(6)
    whole = trace_concepts(network, CONV, sae, images, batch_size=5)
    parts = trace_concepts(network, CONV, sae, images, batch_size=batch_size)
    xr.testing.assert_allclose(parts, whole, rtol=1e-10, atol=1e-12)


def test_an_sae_that_sees_nothing_explains_nothing():
    sae = tiny.sae(6)
    sae.encoder.data.zero_()
    traced = trace_concepts(tiny.convnet(), CONV, sae, tiny.images())
    for name in ("presence", "contribution", "logits", "residual", "input_residual"):
        assert (traced[name] == 0).all(), name


# --- the position of tokens ------------------------------------------------------------------


def test_the_share_of_the_position_is_what_its_embedding_gives():
    """Held against the Jacobian of the layer's output by the embedding."""
    network, images = tiny.vit(), tiny.images(2)
    vit, encoded = network.module[0], network.encode(images)
    traced = trace_concepts(network, TOKENS, None, images)
    with network.explanation_mode():
        patches = vit.to_patch_embedding(encoded).detach()
        embedding = vit.positional_embedding(patches)
        for index in range(2):

            def presences(added, index=index):
                tokens = patches[index].flatten(0, 1).unsqueeze(0) + added
                return vit.transformer.encoder_0(tokens).sum()

            weight = torch.autograd.functional.jacobian(presences, embedding)
            scale = np.abs(traced.presence[index]).sum().item()
            expected = (weight * embedding).sum().item() / scale
            assert traced.position_share[index].item() == pytest.approx(expected, abs=1e-12)
    assert (np.abs(traced.position_share) > 0.01).all()


def test_a_network_without_a_position_has_no_share_of_it():
    assert "position_share" not in trace_concepts(tiny.convnet(), CONV, None, tiny.images())


class OwnEmbedding(nn.Module):
    """Tokens of 4 x 4 pixels, placed by an embedding that nothing here knows."""

    def __init__(self):
        super().__init__()
        self.place = nn.Parameter(torch.rand(4, 8))
        self.patches = BcosLinear(96, 8)
        self.encoder = BcosLinear(8, 8)
        self.head = BcosLinear(8, 3)
        self.logit = LogitLayer(logit_bias=-1.0)

    def forward(self, image):
        tokens = image.unfold(2, 4, 4).unfold(3, 4, 4).permute(0, 2, 3, 1, 4, 5).reshape(-1, 4, 96)
        return self.logit(self.head(self.encoder(self.patches(tokens) + self.place).mean(dim=1)))


def test_an_unknown_embedding_is_measured_but_not_held_against_the_network():
    torch.manual_seed(0)
    module = OwnEmbedding().double()
    traced = trace_concepts(module, "encoder", None, tiny.images())
    assert np.isnan(traced.input_residual).all()
    module.place.data.zero_()
    without = trace_concepts(module, "encoder", None, tiny.images())
    assert (np.abs(traced.position_share) > 0.01).all()
    assert (np.abs(without.position_share) < 1e-12).all()


# --- what does not add up --------------------------------------------------------------------

AFTER, BEFORE = "stands after the layer", "stands before the layer"


@pytest.mark.parametrize(
    ("build", "layer", "part", "says", "says_not"),
    [
        (tiny.convnet, CONV, "features.2.0", AFTER, BEFORE),
        (tiny.convnet, CONV, "classifier", AFTER, BEFORE),
        (tiny.convnet, CONV, "features.0.0", BEFORE, AFTER),
        (tiny.convnet, CONV, "features.1.1", BEFORE, AFTER),
        (tiny.vit, TOKENS, "0.linear_head.linear", AFTER, BEFORE),
        (tiny.vit, TOKENS, "0.transformer.encoder_1.attn", AFTER, BEFORE),
        (tiny.vit, TOKENS, "0.to_patch_embedding.linear", BEFORE, AFTER),
        (tiny.vit, TOKENS, "0.transformer.encoder_0.ff", BEFORE, AFTER),
    ],
)
@pytest.mark.parametrize("with_sae", [True, False])
def test_a_bias_is_found_on_the_side_where_it_stands(build, layer, part, says, says_not, with_sae):
    network = build()
    tiny.add_bias(network.module.get_submodule(part), 1e-3)
    sae = tiny.sae(8 if build is tiny.vit else 6) if with_sae else None
    with pytest.raises(CompletenessError, match=says) as caught:
        trace_concepts(network, layer, sae, tiny.images())
    assert says_not not in str(caught.value)
    assert "on 3 of 3 images (worst residual" in str(caught.value)


def test_a_parameter_that_is_a_bias_is_found_too():
    network = tiny.convnet()
    network.module.features[0][1].bias = nn.Parameter(torch.full((5,), 0.01, dtype=torch.float64))
    with pytest.raises(CompletenessError, match=BEFORE):
        trace_concepts(network, CONV, tiny.sae(6), tiny.images())


def test_two_biases_are_both_named():
    network = tiny.convnet()
    tiny.add_bias(network.module.features[0])
    tiny.add_bias(network.module.features[2])
    with pytest.raises(CompletenessError, match=f"{AFTER}; and .*{BEFORE}"):
        trace_concepts(network, CONV, None, tiny.images())


def test_the_bias_of_the_logits_is_none_of_the_concepts_business():
    network = tiny.convnet()
    network.module.logit_layer.logit_bias = -50.0
    trace_concepts(network, CONV, None, tiny.images())


def test_a_way_around_the_layer_is_found():
    network = tiny.vit()
    with pytest.raises(CompletenessError, match="a connection that goes around the layer"):
        trace_concepts(network, "0.transformer.encoder_0.attn", None, tiny.images())


def test_an_activation_that_is_not_piecewise_linear_is_found():
    network = tiny.convnet()
    network.module.features[2].append(nn.GELU())
    with pytest.raises(CompletenessError, match="dynamic weight is not frozen"):
        trace_concepts(network, CONV, None, tiny.images())


def test_without_a_tolerance_the_residual_is_only_measured():
    network = tiny.convnet()
    tiny.add_bias(network.module.classifier)
    traced = trace_concepts(network, CONV, None, tiny.images(), tolerance=None)
    gap = np.abs(traced.contribution.sum("concept") - traced.logit)
    expected = gap / np.abs(traced.contribution).sum("concept")
    np.testing.assert_allclose(traced.residual, expected, rtol=1e-9)
    assert (traced.residual > 1e-3).all()


def test_a_dead_output_adds_up_and_a_bias_beside_it_does_not():
    nothing = torch.zeros(2, 5)
    assert relative_residual(nothing, torch.zeros(2)).tolist() == [0, 0]
    assert (relative_residual(nothing, torch.full((2,), 1e-6)) > 1).all()


def test_the_gate_counts_what_fails():
    residual = np.array([1e-7, 2e-3, 5e-5, 0])
    with pytest.raises(CompletenessError, match=r"on 2 of 4 images \(worst residual 2.0e-03"):
        check_completeness(residual, np.zeros(4))
    check_completeness(residual, np.zeros(4), tolerance=1e-2)


def test_a_residual_that_is_no_number_fails():
    with pytest.raises(CompletenessError, match="on 1 of 2 images"):
        check_completeness(np.array([0, np.nan]), np.zeros(2))
    with pytest.raises(CompletenessError, match="on 1 of 2 images"):
        check_completeness(np.zeros(2), np.array([0, np.nan]))
    check_completeness(np.zeros(2), np.full(2, np.nan))


# --- what comes in and goes out --------------------------------------------------------------


def test_the_dataset_names_images_concepts_and_classes():
    images = xr.DataArray(
        tiny.images(2),
        dims=("image", "y", "x", "colour"),
        coords={"image": ["test/00007", "test/00009"]},
    )
    traced = trace_concepts(tiny.convnet(), CONV, tiny.sae(6), images.transpose("x", ...))
    expected = trace_concepts(tiny.convnet(), CONV, tiny.sae(6), tiny.images(2))
    assert traced.image.values.tolist() == ["test/00007", "test/00009"]
    assert expected.image.values.tolist() == ["0", "1"]
    assert traced["class"].values.tolist() == list(tiny.CLASSES)
    assert dict(traced.sizes) == {"image": 2, "concept": 9, "class": 3, "y": 4, "x": 4}
    np.testing.assert_array_equal(traced.presence, expected.presence)
    assert all({"long_name", "units"} <= set(v.attrs) for v in traced.data_vars.values())
    assert "label" not in traced


def test_a_bare_module_will_do():
    network = tiny.convnet()
    bare = trace_concepts(network.module, CONV, None, tiny.images())
    known = trace_concepts(network, CONV, None, tiny.images())
    np.testing.assert_array_equal(bare.contribution, known.contribution)
    assert bare["class"].values.tolist() == ["0", "1", "2"]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"layer": "featurs.1"}, LayerError, "did you mean 'features.1'"),
        ({"target": "bea"}, ValueError, "unknown target 'bea'; did you mean 'bee'"),
        ({"target": 3}, ValueError, "expected 0 to 2"),
        ({"target": "label"}, ValueError, "needs labels"),
        ({"target": "label", "labels": [0, 1, 7]}, ValueError, "expected 0 to 2"),
        ({"labels": [0, 1]}, ValueError, "expected 3 class indices"),
        ({"labels": [0.5, 1, 1]}, ValueError, "expected 3 class indices"),
        ({"sae": tiny.sae(5)}, ValueError, "6 channels; the SAE was made for 5"),
        ({"batch_size": 0}, ValueError, "expected at least 1"),
    ],
)
def test_a_wrong_argument_says_what_was_expected(arguments, error, message):
    values = {"layer": CONV, "sae": None, "target": "prediction"} | arguments
    layer, sae = values.pop("layer"), values.pop("sae")
    with pytest.raises(error, match=message):
        trace_concepts(tiny.convnet(), layer, sae, tiny.images(), **values)


def test_a_layer_that_is_called_twice_is_refused():
    layer = BcosLinear(6, 6)
    module = nn.Sequential(layer, layer)
    with pytest.raises(LayerError, match="'0' is called twice"):
        trace_concepts(module, "0", None, torch.rand(1, 6, 2, 6))


class Unreached(nn.Module):
    def __init__(self):
        super().__init__()
        self.used, self.unused = nn.Linear(6, 2, bias=False), nn.Linear(6, 2, bias=False)

    def forward(self, image):
        return self.used(image.mean(dim=(2, 3)))


def test_a_layer_that_is_not_reached_is_refused():
    with pytest.raises(LayerError, match="'unused' was not reached"):
        trace_concepts(Unreached(), "unused", None, torch.rand(1, 6, 2, 2))


def test_the_network_is_afterwards_as_it_was():
    network = tiny.convnet()
    module = network.module.train()
    images = tiny.images()

    def state():
        hooks = [len(part._forward_hooks) for part in module.modules()]
        modes = [(part.training, getattr(part, "detach", None)) for part in module.modules()]
        return hooks, modes, [p.grad for p in module.parameters()], torch.is_grad_enabled()

    before, weights = state(), {k: v.clone() for k, v in module.state_dict().items()}
    trace_concepts(network, CONV, tiny.sae(6), images)
    tiny.add_bias(module.classifier)
    with_hook = state()
    with pytest.raises(CompletenessError):
        trace_concepts(network, CONV, tiny.sae(6), images)
    with pytest.raises(ValueError, match="unknown target"):
        trace_concepts(network, CONV, tiny.sae(6), images, target="yak")
    assert state() == with_hook
    assert with_hook[1:] == before[1:]
    assert all(torch.equal(weights[k], v) for k, v in module.state_dict().items())


def test_it_works_where_gradients_are_off():
    with torch.no_grad():
        traced = trace_concepts(tiny.convnet(), CONV, None, tiny.images())
        assert not torch.is_grad_enabled()
    assert (traced.contribution != 0).any()


# --- the paper's networks --------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("architecture", "layers"),
    [
        ("densenet121_long", {"features.norm5": 1024, "features.transition2": 256}),
        ("resnet50_long", {"layer4": 2048, "layer2": 512}),
        (
            "vitc_s_patch1_14",
            {"0.transformer.encoder_10": 384, "0.transformer.encoder_4": 384},
        ),
    ],
)
def test_the_papers_networks_are_complete_at_full_size(architecture, layers):
    network = bcos_network(architecture)
    images = tiny.images(1, side=224)
    for layer, channels in layers.items():
        for sae in (None, tiny.sae(channels, 1024, 16, dtype=torch.float32)):
            traced = trace_concepts(network, layer, sae, images, tolerance=1e-6)
            assert ("position_share" in traced) == architecture.startswith("vitc")
            assert traced.contribution.any()


def test_the_known_embedding_is_the_one_of_the_packages_transformers():
    parts = tiny.vit().module.modules()
    assert sum(isinstance(part, PosEmbSinCos2d) for part in parts) == 1


def test_a_network_that_is_declared_linear_and_is_not_is_told_so_by_its_residual():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.GELU(), nn.Conv2d(4, 3, 3))
    with pytest.raises(CompletenessError, match=AFTER):
        trace_concepts(Network(module, bcos=False, linear=True), "1", None, tiny.images())


def test_one_class_against_another_is_the_difference_of_their_contributions():
    network, images, labels = tiny.convnet(), tiny.images(4), np.array([2, 0, 1, 1])
    given = network, CONV, tiny.sae(6), images
    both = trace_concepts(*given, "label", labels, against="prediction", batch_size=3)
    one = trace_concepts(*given, "label", labels)
    other = trace_concepts(*given, "prediction")
    close = {"rtol": 0, "atol": 1e-12}
    np.testing.assert_allclose(both.contribution, one.contribution - other.contribution, **close)
    np.testing.assert_allclose(both.logit, one.logit - other.logit, **close)
    np.testing.assert_array_equal(both.against, one.prediction)
    np.testing.assert_allclose(both.contribution.sum("concept"), both.logit, **close)
    assert both.residual.max() < 1e-11
    same = (both.target == both.against).values
    assert same.any()
    assert not both.contribution[same].any()
    assert "against" not in one
