"""Interventions: against codes zeroed by hand, a linear network, and statistics by definition."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

import fact
from fact.networks.bcos_networks import small_bcos
from fact.networks.layers import LayerError, resume, splice
from fact.schemas import INTERVENTION
from fact.traces.config import ORDERS, InterventionPlan
from fact.traces.contributions import trace_concepts
from fact.traces.interventions import (
    CURVES,
    ConceptSurgery,
    Outcome,
    area,
    intervene,
    intervention_table,
    open_image,
    rank_concepts,
    scale_concepts,
    summarise,
)
from fact.traces.plots import EMPTY
from fact.traces.spliced import ConceptSource
from tests.fact import tiny

IDS = ["a", "b", "c"]
TARGET = torch.tensor([0, 2, 1])


def surgery_on(
    kind: str, count: int = 3
) -> tuple[ConceptSurgery, object, str, object, torch.Tensor]:
    if kind == "tokens":
        network, layer, sae = tiny.vit(), "0.transformer.encoder_0", tiny.sae(8)
    else:
        network, layer = tiny.convnet(), "features.1"
        sae = tiny.sae(6) if kind == "sae" else None
    encoded = network.encode(tiny.images(count))
    surgery = ConceptSurgery(ConceptSource(network, layer, sae), encoded, lambda logits: TARGET)
    return surgery, network, layer, sae, encoded


def by_hand(network, layer, sae, encoded, image: int, factors: np.ndarray) -> np.ndarray:
    """Encode, scale the dense codes, decode and go on: one image, all of it written out."""
    weights = torch.as_tensor(factors)

    def scale(positions: torch.Tensor) -> torch.Tensor:
        if sae is None:
            return positions * weights
        activations = torch.relu(positions @ sae.encoder.T)
        lowest = activations.topk(sae.k, dim=2).values[..., -1:]
        codes = torch.where(activations >= lowest, activations, 0.0)
        return (codes * weights) @ sae.decoder.T

    with torch.no_grad(), splice(network.module, layer, scale):
        return network.logits(encoded[image : image + 1])[0].numpy()


@pytest.mark.parametrize("kind", ["sae", "channels", "tokens"])
def test_logits_are_those_of_codes_scaled_by_hand(kind: str) -> None:
    surgery, *parts = surgery_on(kind)
    n_concepts = surgery.presence.shape[1]
    for seed in range(3):
        factors = np.random.default_rng(seed).choice([0, 0.5, 1, 2.0], (3, n_concepts))
        got = surgery.measure(torch.as_tensor(factors))
        for image in range(3):
            expected = by_hand(*parts, image, factors[image])
            np.testing.assert_allclose(got[image], expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("kind", ["sae", "channels", "tokens"])
def test_untouched_images_have_their_own_logits_and_contributions(kind: str) -> None:
    surgery, network, layer, sae, _ = surgery_on(kind)
    traced = trace_concepts(
        network, layer, sae, tiny.images(3), "label", TARGET.numpy(), tolerance=None
    )
    one = torch.ones_like(surgery.presence)
    np.testing.assert_allclose(surgery.measure(one), traced["logits"], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(surgery.presence, traced["presence"], rtol=1e-9)
    np.testing.assert_allclose(surgery.contribution, traced["contribution"], rtol=1e-9, atol=1e-14)
    np.testing.assert_allclose(surgery.promise(one), traced["logit"], rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("kind", ["sae", "channels", "tokens"])
@pytest.mark.parametrize("against", [None, 1])
def test_one_image_with_scaled_concepts_is_that_of_codes_scaled_by_hand(
    kind: str, against: int | None
) -> None:
    _, *parts = surgery_on(kind)
    network, layer, sae, _ = parts
    picture = tiny.images(3)[0]
    source = ConceptSource(network, layer, sae)
    opened = open_image(source, picture, 2, against)
    there = np.flatnonzero(opened.presence[0].numpy())[:2].tolist()
    factors = {there[0]: 0.0, there[1]: 1.5}
    got = scale_concepts(opened, factors)
    dense = np.ones(opened.presence.shape[1])
    dense[list(factors)] = list(factors.values())
    expected = by_hand(*parts, 0, dense)
    np.testing.assert_allclose(got["logits"], expected, rtol=1e-9, atol=1e-12)
    rival = 0 if against is None else expected[against]
    assert float(got["measured"]) == pytest.approx(expected[2] - rival)
    explained = fact.explain_image(source, picture, target=2, against=against)
    assert float(got["before"]) == pytest.approx(float(explained["logit"]), rel=1e-5, abs=1e-7)
    given = explained["contribution"].values.astype(np.float64)
    change = sum((factor - 1) * given[one] for one, factor in factors.items())
    promised = float(got["promised"] - got["before"])
    assert promised == pytest.approx(change, rel=1e-4, abs=1e-7)
    assert int(got["prediction"]) == expected.argmax()
    bias = network.logit_bias or 0.0
    np.testing.assert_allclose(got["probability"], 1 / (1 + np.exp(-expected - bias)), rtol=1e-9)
    untouched = scale_concepts(opened, {})
    assert float(untouched["measured"]) == pytest.approx(float(untouched["before"]))
    with pytest.raises(ValueError, match=r"concepts \[-1\]; expected 0 to"):
        scale_concepts(opened, {-1: 0.0})


def test_a_linear_network_keeps_every_promise() -> None:
    network = small_bcos(tiny.CLASSES, channels=(5, 6, 7), strides=(1, 2, 1), b=1, seed=3)
    network.module.to(torch.float64)
    encoded = network.encode(tiny.images(3))
    source = ConceptSource(network, "features.1", tiny.sae(6))
    surgery = ConceptSurgery(source, encoded, lambda logits: TARGET)
    outcome = intervene(surgery, InterventionPlan(n_steps=4, n_single=3), IDS)
    np.testing.assert_allclose(outcome.logit, outcome.promised, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(outcome.measured_change, outcome.promised_change, atol=1e-12)
    summary = summarise(outcome, TARGET.numpy(), InterventionPlan(n_steps=4, n_single=3))
    assert summary["correlation"] == pytest.approx(1)
    assert summary["slope"] == pytest.approx(1)
    assert summary["relative_error"] < 1e-9


def test_a_bcos_network_does_not() -> None:
    surgery, *_ = surgery_on("sae")
    outcome = intervene(surgery, InterventionPlan(), IDS)
    assert abs(outcome.measured_change - outcome.promised_change).max() > 1e-6


@pytest.mark.parametrize("scale", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("kind", ["sae", "tokens"])
def test_curves_take_a_growing_share_in_order(kind: str, scale: float) -> None:
    surgery, *parts = surgery_on(kind)
    plan = InterventionPlan(scale=scale, n_steps=3, n_single=2, seed=5)
    outcome = intervene(surgery, plan, IDS)
    contribution, presence = surgery.contribution.numpy(), surgery.presence.numpy()
    keys = {"contribution": contribution, "presence": presence}
    for image in range(3):
        there = np.flatnonzero(presence[image])
        for order in ("contribution", "presence"):
            ranked = there[np.argsort(-keys[order][image][there], kind="stable")]
            for step in range(4):
                moved = ranked[: int(np.ceil(len(there) * step / 3 - 1e-9))]
                for curve in CURVES:
                    factors = np.full(presence.shape[1], 1.0 if curve == "deletion" else scale)
                    factors[moved] = scale if curve == "deletion" else 1.0
                    logits = by_hand(*parts, image, factors)
                    target = int(TARGET[image])
                    place = image, CURVES.index(curve), ORDERS.index(order), step
                    assert outcome.logit[place] == pytest.approx(logits[target], abs=1e-9)
                    assert outcome.prediction[place] == logits.argmax()
                    expected = np.exp(logits - logits.max())
                    expected = expected[target] / expected.sum()
                    assert outcome.probability[place] == pytest.approx(expected, abs=1e-9)
                    promised = factors @ contribution[image]
                    assert outcome.promised[place] == pytest.approx(promised, abs=1e-9)


def test_single_concepts_are_the_largest_contributions() -> None:
    surgery, *parts = surgery_on("sae")
    n_concepts = surgery.presence.shape[1]
    outcome = intervene(surgery, InterventionPlan(n_single=n_concepts), IDS)
    for image in range(3):
        contribution = surgery.contribution[image].numpy()
        there = np.flatnonzero(surgery.presence[image])
        expected = there[np.argsort(-contribution[there])]
        found = outcome.single[image]
        assert found[: len(there)].tolist() == expected.tolist()
        assert (found[len(there) :] == EMPTY).all()
        assert np.isnan(outcome.measured_change[image, len(there) :]).all()
        whole = by_hand(*parts, image, np.ones(n_concepts))[TARGET[image]]
        for rank, concept in enumerate(expected):
            factors = np.ones(n_concepts)
            factors[concept] = 0
            change = by_hand(*parts, image, factors)[TARGET[image]] - whole
            assert outcome.measured_change[image, rank] == pytest.approx(change, abs=1e-9)
            assert outcome.promised_change[image, rank] == pytest.approx(-contribution[concept])


def test_random_orders_depend_on_the_image_alone() -> None:
    surgery, *_ = surgery_on("sae")
    first = rank_concepts(surgery, "random", IDS, 0)
    assert (first == rank_concepts(surgery, "random", IDS, 0)).all()
    assert (first != rank_concepts(surgery, "random", IDS, 1)).any()
    assert (first[1] == rank_concepts(surgery, "random", ["x", "b", "y"], 0)[1]).all()
    there = surgery.presence != 0
    for row, own in zip(first, there, strict=True):
        assert sorted(row.tolist()) == list(range(len(row)))
        assert row[own].max() == own.sum() - 1  # absent concepts come last
    with pytest.raises(ValueError, match="unknown order 'size'; expected one of contribution"):
        rank_concepts(surgery, "size", IDS)


def test_a_pass_goes_on_from_more_images_than_it_is_fed() -> None:
    _, network, layer, _, encoded = surgery_on("channels")
    with torch.no_grad():
        with splice(network.module, layer, lambda positions: positions) as captured:
            expected = network.logits(encoded)
        with resume(network.module, layer, captured.positions):
            np.testing.assert_allclose(network.logits(encoded[:1]), expected, rtol=1e-12)
        with pytest.raises(LayerError), resume(network.module, layer, captured.positions[..., :2]):
            network.logits(encoded[:1])
        np.testing.assert_allclose(network.logits(encoded), expected, rtol=1e-12)


def test_one_call_does_it_for_images_of_ones_own() -> None:
    surgery, network, layer, sae, _ = surgery_on("sae")
    plan = fact.InterventionPlan(n_steps=2, n_single=2)
    whole = fact.measure_interventions(
        network, layer, sae, tiny.images(3), plan, target="label", labels=TARGET, batch_size=2
    )
    INTERVENTION.check(whole)
    expected = intervene(surgery, plan, ["0", "1", "2"])
    np.testing.assert_allclose(whole["logit"], expected.logit.mean(0))
    np.testing.assert_array_equal(whole["removed"], expected.single)
    correct = (surgery.logits.argmax(1) == TARGET).double()
    np.testing.assert_allclose(whole["accuracy"].sel(curve="deletion", step=0), correct.mean())
    alone = fact.measure_interventions(network, layer, sae, tiny.images(3))
    np.testing.assert_array_equal(alone["target"], surgery.logits.argmax(1))
    assert alone["accuracy"].isnull().all()


# -- summaries -------------------------------------------------------------------------------


def fabricate(n_images: int = 40, seed: int = 0) -> tuple[Outcome, np.ndarray, InterventionPlan]:
    rng = np.random.default_rng(seed)
    plan = InterventionPlan(n_steps=4, n_single=3)
    shape = (n_images, 2, 3, 5)
    promised = rng.normal(size=(n_images, 3))
    promised[rng.random(promised.shape) < 0.1] = np.nan
    outcome = Outcome(
        rng.normal(size=shape),
        rng.normal(size=shape),
        rng.random(shape),
        rng.integers(0, 3, shape),
        rng.integers(0, 9, (n_images, 3)),
        0.7 * promised + 0.2 * rng.normal(size=promised.shape),
        promised,
    )
    return outcome, rng.integers(-1, 3, n_images), plan


def test_summaries_are_those_of_the_arrays() -> None:
    outcome, labels, plan = fabricate()
    summary = summarise(outcome, labels, plan)
    known = ~np.isnan(outcome.promised_change)
    x, y = outcome.promised_change[known], outcome.measured_change[known]
    fit = stats.linregress(x, y)
    assert summary["correlation"] == pytest.approx(fit.rvalue)
    assert summary["slope"] == pytest.approx(fit.slope)
    assert summary["relative_error"] == pytest.approx(abs(y - x).mean() / abs(x).mean())
    np.testing.assert_allclose(summary["error_quantile"], np.quantile(y - x, summary["quantile"]))
    np.testing.assert_allclose(summary["logit"], outcome.logit.mean(0))
    np.testing.assert_allclose(summary["promised_logit"], outcome.promised.mean(0))
    known_label = labels >= 0
    correct = (outcome.prediction == labels[:, None, None, None])[known_label]
    np.testing.assert_allclose(summary["accuracy"], correct.mean(0))
    expected = np.trapezoid(outcome.probability.mean(0), summary["share"], axis=-1)
    np.testing.assert_allclose(summary["probability_area"], expected)
    for name in ("logit", "probability", "accuracy"):
        assert (summary[f"{name}_low"] <= summary[name]).all()
        assert (summary[name] <= summary[f"{name}_high"]).all()


def test_intervals_have_the_width_of_the_standard_error() -> None:
    outcome, labels, plan = fabricate(400)
    summary = summarise(outcome, labels, plan, 4000)
    width = (summary["logit_high"] - summary["logit_low"]).values
    error = outcome.logit.std(0) / np.sqrt(400)
    np.testing.assert_allclose(width / error, 2 * 1.96, rtol=0.12)
    assert summary["correlation_low"] < summary["correlation"] < summary["correlation_high"]
    known = ~np.isnan(outcome.promised_change)
    fit = stats.linregress(outcome.promised_change[known], outcome.measured_change[known])
    slope_width = (summary["slope_high"] - summary["slope_low"]).item()
    assert slope_width == pytest.approx(2 * 1.96 * fit.stderr, rel=0.12)


def test_the_area_of_a_straight_line() -> None:
    assert area(np.linspace(0, 1, 7)) == pytest.approx(0.5)
    assert area(np.array([3.0, 3.0])) == pytest.approx(3)


def test_a_summary_follows_its_schema_and_is_told() -> None:
    outcome, labels, plan = fabricate(5)
    summary = summarise(outcome, labels, plan)
    whole = summary.assign(target=("image", labels)).assign_coords(image=[*"abcde"])
    INTERVENTION.check(whole)
    table = intervention_table(whole)
    assert [line.split()[0] for line in table.splitlines()[2:5]] == list(ORDERS)
    assert f"correlation {summary['correlation'].item():.3f}" in table
