"""Concepts with biases and thresholds: offset and gate, against sums formed independently."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.autograd.functional import jacobian

import fact
from fact.networks.network import Network
from fact.sae.model import SAE, BatchTopKSAE, JumpReLUSAE, ReLUSAE, TopKSAE
from fact.traces.contributions import CompletenessError
from fact.traces.plots import decision_shares
from fact.traces.spliced import ConceptSource
from tests.fact import tiny
from tests.fact.traces.test_contributions import CONV, TOKENS, cut_conv, cut_vit

KINDS = ("topk", "jumprelu", "relu", "batch_topk")


def biased(kind: str, channels: int, dtype: torch.dtype = torch.float64) -> SAE:
    """An SAE of nine concepts with both biases, of a size that changes what is active."""
    start, draw = tiny.sae(channels, dtype=dtype), torch.Generator().manual_seed(7)
    weights = start.encoder.detach(), start.decoder.detach()
    biases = {
        "encoder_bias": 0.05 * torch.randn(9, generator=draw, dtype=dtype),
        "decoder_bias": 0.1 * torch.randn(channels, generator=draw, dtype=dtype),
    }
    threshold = 0.03 * torch.rand(9, generator=draw, dtype=dtype)
    if kind == "topk":
        return TopKSAE(*weights, 3, **biases)
    if kind == "jumprelu":
        return JumpReLUSAE(*weights, threshold, **biases)
    if kind == "relu":
        return ReLUSAE(*weights, **biases)
    return BatchTopKSAE(*weights, 3, 0.02, **biases)


def codes_by_hand(sae: SAE, positions: torch.Tensor) -> torch.Tensor:
    """Dense codes, one sample and one concept at a time."""
    codes = torch.zeros(*positions.shape[:-1], sae.n_concepts, dtype=positions.dtype)
    for place in np.ndindex(*positions.shape[:-1]):
        before = [float(w @ positions[place] + b) for w, b in zip(*_encoder(sae), strict=True)]
        ranked = sorted(range(len(before)), key=before.__getitem__)
        for concept, value in enumerate(before):
            if isinstance(sae, TopKSAE):
                is_active = concept in ranked[-sae.k :] and value > 0
            else:
                is_active = value > float(sae.threshold[concept])
            codes[(*place, concept)] = value if is_active else 0.0
    return codes


def _encoder(sae: SAE) -> tuple[torch.Tensor, torch.Tensor]:
    assert sae.encoder_bias is not None
    return sae.encoder.detach(), sae.encoder_bias.detach()


@pytest.mark.parametrize("kind", KINDS)
def test_codes_and_reconstructions(kind: str) -> None:
    sae, x = biased(kind, 6), torch.randn(5, 4, 6, dtype=torch.float64)
    expected = codes_by_hand(sae, x)
    torch.testing.assert_close(sae.encode(x), expected)
    assert sae.decoder_bias is not None
    whole = expected @ sae.decoder.T + sae.decoder_bias
    torch.testing.assert_close(sae(x), whole)
    torch.testing.assert_close(sae.decode_sparse(*sae.encode_sparse(x)), whole)
    assert sae.encode_sparse(x[:0])[0].shape[:2] == (0, 4)


@pytest.mark.parametrize("kind", KINDS)
def test_a_dataset_brings_it_back(kind: str) -> None:
    sae, x = biased(kind, 6), torch.randn(9, 6, dtype=torch.float64)
    again = SAE.from_dataset(sae.to_dataset())
    assert type(again) is type(sae)
    assert torch.equal(again(x), sae(x))
    assert torch.equal(type(sae).from_dataset(sae.to_dataset())(x), sae(x))


def test_a_dataset_of_another_activation_is_refused() -> None:
    with pytest.raises(ValueError, match="activation function 'relu'; expected TopKSAE"):
        TopKSAE.from_dataset(biased("relu", 6).to_dataset())
    with pytest.raises(ValueError, match="'jumpreul'; did you mean 'jumprelu'"):
        SAE.from_dataset(biased("relu", 6).to_dataset().assign(activation="jumpreul"))


def test_biases_and_thresholds_that_do_not_fit_are_refused() -> None:
    encoder, decoder = torch.ones(4, 3), torch.ones(3, 4)
    with pytest.raises(ValueError, match=r"decoder_bias \(4,\); expected \(3,\), channel"):
        TopKSAE(encoder, decoder, 1, decoder_bias=torch.ones(4))
    with pytest.raises(ValueError, match=r"threshold of shape \(3,\).*expected one number"):
        JumpReLUSAE(encoder, decoder, torch.ones(3))
    with pytest.raises(ValueError, match="from -1; expected"):
        JumpReLUSAE(encoder, decoder, -1.0)
    with pytest.raises(ValueError, match="only bias-free ones are trained"):
        fact.train_topk_sae(
            [],
            TopKSAE(encoder, decoder, 1, encoder_bias=torch.ones(4)),
            fact.TrainingConfig(steps=1, warmup=0, decay_start=1, dead_after=1),
        )


CASES = [
    *(pytest.param(tiny.convnet, cut_conv, CONV, 6, kind, id=f"maps-{kind}") for kind in KINDS),
    pytest.param(tiny.vit, cut_vit, TOKENS, 8, "topk", id="tokens-topk"),
    pytest.param(tiny.vit, cut_vit, TOKENS, 8, "jumprelu", id="tokens-jumprelu"),
]


@pytest.mark.parametrize(("build", "cut", "layer", "channels", "kind"), CASES)
def test_offset_and_contributions_against_jacobians(build, cut, layer, channels, kind) -> None:
    network, sae, images = build(), biased(kind, channels), tiny.images(3)
    before, behind = cut(network)
    with torch.no_grad():
        codes = codes_by_hand(sae, before(network.encode(images)))
    assert sae.decoder_bias is not None
    expected: dict[str, list[float]] = {"offset": [], "logit": [], "contribution": []}
    with network.explanation_mode():
        for code in codes:
            x_hat = (code @ sae.decoder.T + sae.decoder_bias).detach()
            of = lambda x: behind(x.unsqueeze(0))[0, 1] - behind(x.unsqueeze(0))[0, 2]  # noqa: E731
            gradient = jacobian(of, x_hat)
            expected["logit"].append(of(x_hat).item())
            expected["offset"].append((gradient @ sae.decoder_bias).sum().item())
            expected["contribution"].append(((gradient @ sae.decoder) * code).sum(0).tolist())
    traced = fact.trace_concepts(network, layer, sae, images, "bee", against="cow")
    for name, values in expected.items():
        np.testing.assert_allclose(traced[name], values, rtol=0, atol=1e-12)
    assert traced.residual.max() < 1e-12
    assert traced.input_residual.max() < 1e-12
    assert np.abs(traced.offset).min() > 1e-6
    total = traced.contribution.sum("concept") + traced.offset
    np.testing.assert_allclose(total, traced.logit, rtol=0, atol=1e-12)
    mask = codes > 0
    constant = (mask * sae.encoder_bias).sum((1, 2)).detach()
    scale = codes.sum((1, 2)) + (mask * sae.encoder_bias).abs().sum((1, 2)).detach()
    np.testing.assert_allclose(traced.encoder_bias_share, constant / scale, atol=1e-12)
    alone = [
        fact.trace_concepts(network, layer, sae, images, name).offset for name in ("bee", "cow")
    ]
    np.testing.assert_allclose(traced.offset, alone[0] - alone[1], rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_single_precision_keeps_six_digits(kind: str) -> None:
    network, sae = tiny.convnet(dtype=torch.float32), biased(kind, 6, torch.float32)
    traced = fact.trace_concepts(network, CONV, sae, tiny.images())
    assert traced.residual.max() < 1e-6
    assert traced.input_residual.max() < 1e-6


def test_the_gate_still_sees_a_bias_of_the_network_beside_those_of_the_sae() -> None:
    for part, said in ((0, "stands before the layer"), (2, "stands after the layer")):
        network, sae = tiny.convnet(), biased("topk", 6)
        tiny.add_bias(network.module.features[part])
        with pytest.raises(CompletenessError, match=said):
            fact.trace_concepts(network, CONV, sae, tiny.images())


def _source(kind: str = "topk") -> tuple[Network, SAE]:
    return tiny.convnet(), biased(kind, 6)


def test_maps_leave_out_what_is_in_no_pixel() -> None:
    network, sae = _source()
    traced = fact.trace_concepts(network, CONV, sae, tiny.images())
    maps = fact.logit_maps(network, CONV, sae, tiny.images())
    np.testing.assert_allclose(maps.total, traced.logit, atol=1e-12)
    own = fact.concept_maps(network, CONV, sae, tiny.images(), range(9), of="contribution")
    np.testing.assert_allclose(own["map"].sum("concept"), maps["map"], atol=1e-12)
    np.testing.assert_allclose(own.total, traced.contribution, atol=1e-12)


def test_a_decision_adds_up_to_its_logit() -> None:
    network, sae = _source()
    explained = fact.explain_image(
        ConceptSource(network, CONV, sae), tiny.images()[0], target=1, against=2
    )
    total = explained.contribution.sum() + explained.offset
    assert float(total) == pytest.approx(float(explained.logit), abs=1e-12)
    seen = explained.logit_map.sum(dtype=float) + explained.position + explained.offset
    assert float(seen) == pytest.approx(float(explained.logit), abs=1e-6)


@pytest.mark.parametrize("sign", [1, -1])
def test_shares_of_concepts_others_and_offset_add_up(sign: int) -> None:
    network, sae = _source()
    traced = fact.trace_concepts(network, CONV, sae, tiny.images(6))
    offset = sign * abs(traced.offset)
    shares = decision_shares(traced.contribution, 2, offset)
    whole = shares["share"].sum("rank") + shares.others_share + shares.offset_share
    np.testing.assert_allclose(whole, 1, atol=1e-6)
    parts = shares.contribution.sum("rank") + shares.others + shares.offset
    np.testing.assert_allclose(parts, traced.contribution.sum("concept") + offset, atol=1e-6)
    positive = traced.contribution.clip(min=0).sum("concept") + offset.clip(min=0)
    negative = traced.contribution.clip(max=0).sum("concept") + offset.clip(max=0)
    np.testing.assert_allclose(shares.against_share, negative / positive, atol=1e-6)


def test_interventions_promise_the_offset_whatever_is_taken_away() -> None:
    network, sae = _source()
    curves = fact.measure_interventions(network, CONV, sae, tiny.images(4))
    whole = curves.sel(curve="deletion", step=0)
    np.testing.assert_allclose(whole.logit, whole.promised_logit, atol=1e-9)
    with torch.no_grad():
        module, bias = network.module, sae.decoder_bias
        maps = bias.view(1, 6, 1, 1).expand(1, 6, 4, 4)
        empty = module.classifier(module.features[2](maps)).mean((2, 3))[0] / 0.5
    gone = curves.sel(curve="deletion").isel(step=-1).logit
    target = curves.target.values
    np.testing.assert_allclose(gone, empty[target].mean().item(), atol=1e-9)
