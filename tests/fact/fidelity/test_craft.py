"""Concepts of one class for each image, in a layer's place."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import xarray as xr

from fact.data.classes import ClassMatch
from fact.encode.craft import coefficients
from fact.fidelity.measurement import CraftModel, Fidelity, NoImagesError, measure_batch
from fact.networks.layers import LayerError
from tests.fact import tiny
from tests.fact.fidelity.test_fidelity import IMAGES, positions_of, standard

RNG = np.random.default_rng(1)


def craft(classes: int) -> xr.Dataset:
    """Two concepts of every class."""
    basis = RNG.gamma(1, size=(2 * classes, 5)).astype(np.float32)
    coords = {"concept": np.arange(2 * classes)}
    return xr.Dataset({"basis": (("concept", "channel"), basis), "per_class": 2}, coords)


def model(classes: int = 3, layer: str = "1") -> CraftModel:
    """Concepts of the network's first classes alone."""
    network = standard()
    match = ClassMatch.of(tiny.CLASSES[:classes], network.classes, 3)
    return CraftModel.of(network, layer, craft(classes), match, 3)


def measured(own: CraftModel) -> xr.Dataset:
    found, labels = Fidelity(), np.full(len(IMAGES), -1)
    for rows in (slice(0, 4), slice(4, 11)):
        encoded = own.network.encode(IMAGES[rows])
        found.add(*measure_batch(own, encoded, labels[rows], torch.zeros(())))
    return found.summarise(np.arange(len(IMAGES)), "zero", 5, 0)


def test_each_image_is_rebuilt_from_the_concepts_of_its_predicted_class() -> None:
    own = model()
    found = measured(own)
    predicted = own.network.logits(own.network.encode(IMAGES)).argmax(dim=1).numpy()
    positions = positions_of(own.network, "1")
    rows = positions.numpy()
    codes = np.zeros((*rows.shape[:2], 6))
    for image, logit in enumerate(predicted):
        chosen = slice(2 * logit, 2 * logit + 2)
        codes[image, :, chosen] = coefficients(positions[image], own.basis[chosen]).numpy()
    rest = rows - codes @ own.basis
    variance = ((rows - rows.mean(axis=(0, 1))) ** 2).sum()
    assert found["normalised_mse"] == pytest.approx((rest**2).sum() / variance, rel=1e-4)
    np.testing.assert_allclose(found["position_density"], (codes > 0).mean(axis=(0, 1)))
    np.testing.assert_allclose(found["image_density"], (codes > 0).any(axis=1).mean(axis=0))


def test_images_of_a_class_without_concepts_are_left_out_and_counted() -> None:
    own = model()
    predicted = own.network.logits(own.network.encode(IMAGES)).argmax(dim=1).numpy()
    assert len(set(predicted.tolist())) > 1
    left_out = predicted[0]
    own.chosen[left_out] = -1
    found = measured(own)
    assert found["image"].values.tolist() == np.flatnonzero(predicted != left_out).tolist()
    assert found["n_without_concepts"] == (predicted == left_out).sum()
    own.chosen[:] = -1
    with pytest.raises(NoImagesError, match="11 images, none of a class that has concepts"):
        measured(own)


def test_a_layer_below_0_is_refused() -> None:
    with pytest.raises(LayerError, match=r"layer '0' puts out -.*; expected at least 0"):
        measured(model(layer="0"))
