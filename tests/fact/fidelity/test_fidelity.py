"""Fidelity against SciPy, scikit-learn and torch on whole arrays, and where it is known."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from numpy.typing import NDArray
from scipy.special import rel_entr, softmax
from sklearn.metrics import accuracy_score, log_loss
from torch import nn
from torch.nn import functional

import fact
from fact import schemas
from fact.fidelity import outputs
from fact.fidelity.tables import BY_CASE, density_decades, fidelity_table
from fact.networks.layers import LayerError, capture, splice
from fact.sae.model import TopKSAE
from tests.fact import tiny

IMAGES = tiny.images(11)
LABELS = np.array([0, 1, 2, 0, 1, 2, 0, 2, 2, 1, 0])


def standard() -> fact.Network:
    """A convolutional network with biases, none of its parts B-cos."""
    torch.manual_seed(3)
    layers = (nn.Conv2d(3, 5, 3, stride=2), nn.ReLU(), nn.Conv2d(5, 4, 3), nn.Flatten())
    module = nn.Sequential(*layers, nn.Linear(4, 3)).double()
    return fact.Network(module, classes=tiny.CLASSES, bcos=False)


NETWORKS: dict[str, tuple[Callable[[], fact.Network], str, int]] = {
    "convolutions": (tiny.convnet, "features.1", 6),
    "tokens": (tiny.vit, "0.transformer.encoder_0", 8),
    "standard": (standard, "0", 5),
}


def identity_sae(channels: int, scale: float = 1.0) -> TopKSAE:
    """An SAE that reconstructs everything, scaled."""
    eye = torch.eye(channels, dtype=torch.float64)
    both = torch.cat([eye, -eye])
    return TopKSAE(both, scale * both.T, channels)


def zero_sae(channels: int) -> TopKSAE:
    """An SAE that reconstructs nothing."""
    return TopKSAE(torch.ones(3, channels), torch.zeros(channels, 3), 2)


def positions_of(network: fact.Network, layer: str) -> torch.Tensor:
    with torch.no_grad(), capture(network.module, layer) as captured:
        network.module(network.encode(IMAGES))
    return captured.positions


def logits_with(
    network: fact.Network, layer: str, put: Callable[[torch.Tensor], torch.Tensor]
) -> NDArray[np.float64]:
    """The network's output, its bias too, of all images at once."""
    with torch.no_grad(), splice(network.module, layer, put):
        return np.asarray(network.module(network.encode(IMAGES)))


@pytest.mark.parametrize("batch_size", [1, 4, 64])
@pytest.mark.parametrize("ablation", ["zero", "mean"])
@pytest.mark.parametrize("name", NETWORKS)
def test_divergence_and_cross_entropy_are_those_of_other_libraries(
    name: str, ablation: Any, batch_size: int
) -> None:
    make, layer, channels = NETWORKS[name]
    network, sae = make(), tiny.sae(channels)
    found = fact.concept_fidelity(
        network, layer, sae, IMAGES, LABELS, ablation=ablation, batch_size=batch_size
    )
    schemas.FIDELITY.check(found)
    mean = positions_of(network, layer).flatten(0, 1).mean(dim=0)
    baseline = mean if ablation == "mean" else torch.zeros_like(mean)
    whole, spliced, ablated = (
        logits_with(network, layer, put)
        for put in (lambda x: x, sae, lambda x: baseline.expand_as(x))
    )
    p = softmax(whole, axis=1)
    for case, logits in (("spliced", spliced), ("ablated", ablated)):
        divergence = rel_entr(p, softmax(logits, axis=1)).sum(axis=1)
        own = found.sel(case=case)
        np.testing.assert_allclose(own["kl_divergence"], divergence, rtol=1e-9, atol=1e-13)
        of_torch = functional.kl_div(
            *(torch.from_numpy(each).log_softmax(dim=1) for each in (logits, whole)),
            reduction="batchmean",
            log_target=True,
        )
        scalar = found["kl" if case == "spliced" else "ablated_kl"]
        assert scalar == pytest.approx(of_torch.item(), rel=1e-9, abs=1e-14)
    for key, accuracy, logits in (
        ("network_ce", "network_accuracy", whole),
        ("ce", "accuracy", spliced),
        ("ablated_ce", "ablated_accuracy", ablated),
    ):
        assert found[key] == pytest.approx(log_loss(LABELS, softmax(logits, axis=1)), rel=1e-9)
        assert found[accuracy] == accuracy_score(LABELS, logits.argmax(axis=1))
    assert found["agreement"] == (spliced.argmax(axis=1) == whole.argmax(axis=1)).mean()
    assert found["kl_recovered"] == pytest.approx(1 - found["kl"] / found["ablated_kl"])
    lost = float(found["ablated_ce"] - found["network_ce"])
    if lost > 0:
        expected = float(found["ablated_ce"] - found["ce"]) / lost
        assert found["ce_recovered"] == pytest.approx(expected)
    else:
        assert np.isnan(found["ce_recovered"])


@pytest.mark.parametrize("name", NETWORKS)
def test_densities_and_errors_are_those_of_dense_arrays(name: str) -> None:
    make, layer, channels = NETWORKS[name]
    network, sae = make(), tiny.sae(channels)
    found = fact.concept_fidelity(network, layer, sae, IMAGES, batch_size=4, n_draws=2)
    positions = positions_of(network, layer)
    active = (sae.encode(positions) > 0).numpy()
    np.testing.assert_allclose(found["position_density"], active.mean(axis=(0, 1)))
    np.testing.assert_allclose(found["image_density"], active.any(axis=1).mean(axis=0))
    assert found["l0"] == pytest.approx(active.sum(axis=2).mean())
    assert found["dead_concepts"] == (~active.any(axis=(0, 1))).sum()
    assert found["dense_concepts"] == (active.mean(axis=(0, 1)) > 0.1).sum()
    rows = positions.flatten(0, 1).numpy()
    rest = rows - sae(positions).detach().flatten(0, 1).numpy()
    variance = ((rows - rows.mean(axis=0)) ** 2).sum()
    assert found["normalised_mse"] == pytest.approx((rest**2).sum() / variance, rel=1e-9)
    expected = 1 - rest.var(axis=0).sum() / rows.var(axis=0).sum()
    assert found["explained_variance"] == pytest.approx(expected, rel=1e-9)
    assert found["n_positions"] == len(rows)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("ablation", ["zero", "mean"])
@pytest.mark.parametrize("name", ["convolutions", "tokens"])
def test_a_perfect_reconstruction_recovers_everything(
    name: str, ablation: Any, dtype: torch.dtype
) -> None:
    _, layer, channels = NETWORKS[name]
    network = {"convolutions": tiny.convnet, "tokens": tiny.vit}[name](dtype=dtype)
    predicted = network.logits(network.encode(IMAGES)).argmax(dim=1).numpy()
    for sae in (identity_sae(channels), None):
        found = fact.concept_fidelity(network, layer, sae, IMAGES, predicted, ablation=ablation)
        assert found["kl"] == pytest.approx(0, abs=1e-10)
        assert found["kl_recovered"] == pytest.approx(1, abs=1e-5)
        assert found["ce"] == pytest.approx(float(found["network_ce"]), abs=1e-6)
        assert found["agreement"] == 1
        assert found["explained_variance"] == pytest.approx(1, abs=1e-9)
        fraction = found["ce_recovered"]
        assert fraction == pytest.approx(1, abs=1e-5) or np.isnan(fraction)


def test_a_reconstruction_of_nothing_recovers_nothing() -> None:
    network = tiny.convnet()
    predicted = network.logits(network.encode(IMAGES)).argmax(dim=1).numpy()
    found = fact.concept_fidelity(network, "features.1", zero_sae(6), IMAGES, predicted)
    assert found["kl_recovered"] == 0
    assert found["ce_recovered"] == 0
    assert (found["kl_recovered_low"], found["kl_recovered_high"]) == (0, 0)


# -- where the fraction is unusual or not defined ------------------------------------------------


class Pooled(nn.Module):
    """Logits that are the mean colours of an image, through a layer."""

    def __init__(self, weight: float = 4.0) -> None:
        super().__init__()
        self.layer = nn.Identity()
        self.weight = nn.Parameter(torch.tensor(weight, dtype=torch.float64))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.weight * self.layer(x[:, :3].mean(dim=(2, 3)))


def colours(weight: float = 4.0) -> tuple[fact.Network, NDArray[np.int64]]:
    """A network of three logits, and its own predictions."""
    network = fact.Network(Pooled(weight), classes=tiny.CLASSES)
    return network, network.logits(network.encode(IMAGES)).argmax(dim=1).numpy()


def test_better_than_the_layer_itself_is_above_one() -> None:
    network, predicted = colours()
    found = fact.concept_fidelity(network, "layer", identity_sae(3, 2.0), IMAGES, predicted)
    assert found["ce"] < found["network_ce"] < found["ablated_ce"]
    assert found["ce_recovered"] > 1
    assert found["kl"] > 0


def test_worse_than_an_empty_layer_is_below_zero() -> None:
    network, predicted = colours()
    found = fact.concept_fidelity(network, "layer", identity_sae(3, -2.0), IMAGES, predicted)
    assert found["ce_recovered"] < 0
    assert found["kl_recovered"] < 0


def test_an_ablation_that_loses_nothing_leaves_the_fraction_open() -> None:
    network, _ = colours()
    wrong = network.logits(network.encode(IMAGES)).argmin(dim=1).numpy()
    found = fact.concept_fidelity(network, "layer", identity_sae(3), IMAGES, wrong)
    assert np.isnan(found["ce_recovered"])
    assert np.isnan(found["ce_recovered_low"])
    assert found["kl_recovered"] == pytest.approx(1)
    told = found.attrs["undefined_fractions"]
    assert told.startswith("The zero-ablated layer does not raise the cross-entropy (")
    assert fidelity_table(found).rstrip().endswith(told)


def test_a_layer_without_influence_leaves_both_fractions_open() -> None:
    network, _ = colours(weight=0.0)
    found = fact.concept_fidelity(network, "layer", zero_sae(3), IMAGES)
    assert np.isnan(found["kl_recovered"])
    assert "changes no output" in found.attrs["undefined_fractions"]
    assert "No image has a label" in found.attrs["undefined_fractions"]


def test_images_without_a_label_have_no_cross_entropy_and_count_elsewhere() -> None:
    network, predicted = colours()
    labels = np.where(np.arange(len(IMAGES)) < 4, predicted, -1)
    sae = tiny.sae(3)
    found = fact.concept_fidelity(network, "layer", sae, IMAGES, labels)
    part = fact.concept_fidelity(network, "layer", sae, IMAGES[:4], predicted[:4])
    assert found["n_labelled"] == 4
    for name in ("ce", "network_ce", "ablated_ce", "ce_recovered", "accuracy"):
        assert found[name] == pytest.approx(float(part[name]))
    every = fact.concept_fidelity(network, "layer", sae, IMAGES, predicted)
    assert found["kl"] == pytest.approx(float(every["kl"]))
    assert np.isnan(found["cross_entropy"][4:]).all()


def test_a_layer_that_is_the_same_everywhere_has_no_explained_variance() -> None:
    network, _ = colours()
    same = np.full((5, 8, 8, 3), 77, dtype=np.uint8)
    found = fact.concept_fidelity(network, "layer", identity_sae(3), same)
    assert np.isnan(found["explained_variance"])
    assert np.isnan(found["normalised_mse"])


# -- intervals -----------------------------------------------------------------------------------


def test_intervals_are_those_of_drawing_images_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    network, predicted = colours()
    given = (network, "layer", tiny.sae(3), IMAGES, predicted)
    found = fact.concept_fidelity(*given, n_draws=40)
    monkeypatch.setattr(outputs, "DRAWS_AT_ONCE", 1)
    xr.testing.assert_allclose(found, fact.concept_fidelity(*given, n_draws=40), rtol=1e-12)
    generator = np.random.default_rng(0)
    recovered = []
    for _ in range(40):
        counts = generator.multinomial(len(IMAGES), np.full(len(IMAGES), 1 / len(IMAGES)))
        drawn = found["cross_entropy"].values[np.repeat(np.arange(len(IMAGES)), counts)]
        whole, spliced, ablated = drawn.mean(axis=0)
        recovered.append((ablated - spliced) / (ablated - whole) if ablated > whole else np.nan)
    low, high = np.nanquantile(recovered, [0.025, 0.975])
    assert found["ce_recovered_low"] == pytest.approx(low)
    assert found["ce_recovered_high"] == pytest.approx(high)
    assert low < found["ce_recovered"] < high


# -- what must not go unnoticed --------------------------------------------------------------------


class Twice(Pooled):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.weight * self.layer(self.layer(x[:, :3].mean(dim=(2, 3))))


def test_a_layer_that_is_called_twice_is_refused_and_the_network_left_alone() -> None:
    network = fact.Network(Twice(), classes=tiny.CLASSES)
    before = network.logits(network.encode(IMAGES))
    with pytest.raises(LayerError, match="called twice in a forward pass"):
        fact.concept_fidelity(network, "layer", identity_sae(3, 2.0), IMAGES)
    assert torch.equal(network.logits(network.encode(IMAGES)), before)


def test_logits_that_are_not_finite_are_told() -> None:
    network, _ = colours()
    broken = TopKSAE(torch.ones(3, 3), torch.full((3, 3), torch.inf), 2)
    with pytest.raises(FloatingPointError, match=r"the spliced network's logits .* 11 of 11"):
        fact.concept_fidelity(network, "layer", broken, IMAGES)


def test_a_module_in_training_mode_is_measured_in_evaluation_mode_and_left_as_it_was() -> None:
    network = tiny.convnet()
    expected = fact.concept_fidelity(network, "features.1", tiny.sae(6), IMAGES, n_draws=2)
    network.module.train()
    found = fact.concept_fidelity(network, "features.1", tiny.sae(6), IMAGES, n_draws=2)
    assert network.module.training
    xr.testing.assert_identical(found, expected)


# -- tables --------------------------------------------------------------------------------------


def test_densities_are_counted_by_decade() -> None:
    density = np.array([0, 0, 1e-4, 5e-4, 0.02, 0.1, 0.5, 1.0])
    exponents, counts = density_decades(density)
    assert exponents.tolist() == [-4, -3, -2, -1]
    assert counts.tolist() == [2, 0, 1, 3]
    assert [len(part) for part in density_decades(np.zeros(3))] == [0, 0]


def test_the_table_has_a_row_for_each_case() -> None:
    network, predicted = colours()
    found = fact.concept_fidelity(network, "layer", tiny.sae(3), IMAGES, predicted)
    held = BY_CASE.values(found)
    assert held["case"].tolist() == ["network", "spliced", "ablated"]
    assert held["ce"].tolist() == [float(found[n]) for n in ("network_ce", "ce", "ablated_ce")]
    text = fidelity_table(found)
    assert "11 images, 11 with a label (always the commonest class: " in text
    assert f"{int(found['dead_concepts'])} dead" in text
