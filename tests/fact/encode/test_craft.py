"""Factors that are at least 0: against exhaustive search, planted concepts, and torch's unfold."""

from __future__ import annotations

from itertools import chain, combinations

import numpy as np
import pytest
import torch
from scipy.optimize import nnls
from sklearn.decomposition import non_negative_factorization
from torch import nn
from torch.nn import functional

from fact.data.images import images_by_class
from fact.encode import craft
from fact.encode.craft import crop_activations, cut_crops, factorise
from fact.kinds import Shapes
from fact.networks.layers import LayerError
from fact.networks.network import Network
from tests.fact import tiny

RNG = np.random.default_rng(0)


def coefficients(rows: np.ndarray, basis: np.ndarray) -> np.ndarray:
    return craft.coefficients(torch.from_numpy(rows), basis).numpy()


def best_by_search(row: np.ndarray, basis: np.ndarray) -> np.ndarray:
    """The best coefficients over all subsets of concepts that give none below 0."""
    best, least = np.zeros(len(basis)), float(row @ row)
    subsets = chain.from_iterable(combinations(range(len(basis)), n) for n in range(1, 5))
    for subset in map(list, subsets):
        found = np.linalg.lstsq(basis[subset].T, row, rcond=None)[0]
        rest = float(((row - found @ basis[subset]) ** 2).sum())
        if (found >= 0).all() and rest < least:
            best, least = np.zeros(len(basis)), rest
            best[subset] = found
    return best


def test_coefficients_are_the_best_that_are_not_below_0() -> None:
    basis, rows = RNG.gamma(1, size=(4, 7)), RNG.gamma(0.5, size=(5, 3, 7))
    got = coefficients(rows, basis)
    expected = [[best_by_search(row, basis) for row in group] for group in rows]
    np.testing.assert_allclose(got, expected, atol=1e-9)
    assert (got == 0).any()
    assert (got > 0).any()


def test_coefficients_are_what_scikit_learn_converges_to() -> None:
    basis, rows = RNG.gamma(1, size=(6, 20)), RNG.gamma(0.5, size=(30, 20))
    slow, _, _ = non_negative_factorization(
        rows, H=basis, n_components=6, init="custom", update_H=False, tol=1e-12, max_iter=20_000
    )
    np.testing.assert_allclose(coefficients(rows, basis), slow, atol=1e-5)
    np.testing.assert_allclose(coefficients(rows[7:8], basis)[0], coefficients(rows, basis)[7])


@pytest.mark.parametrize("noise", [1.0, 1e-3, 0.0])
def test_rows_solved_together_are_solved_as_each_alone(noise: float) -> None:
    generator = np.random.default_rng(3)
    basis = generator.gamma(1, size=(16, 64))
    basis[9:] = basis[:7] + noise * generator.gamma(1, size=(7, 64))  # alike, and at last the same
    rows = generator.gamma(0.5, size=(300, 64))
    unitary, triangle = np.linalg.qr(basis.T)
    expected = np.array([nnls(triangle, row @ unitary)[0] for row in rows])
    got = coefficients(rows, basis)
    assert (got >= 0).all()
    np.testing.assert_allclose(got @ basis, expected @ basis, rtol=1e-6, atol=1e-9)
    if noise:  # of two that are the same either may be taken
        np.testing.assert_allclose(got, expected, rtol=1e-6, atol=1e-9)


def test_a_concept_that_is_0_has_no_coefficient() -> None:
    basis = np.vstack([RNG.gamma(1, size=(2, 5)), np.zeros(5)])
    got = coefficients(RNG.gamma(1, size=(4, 5)), basis)
    assert np.isfinite(got).all()
    assert (got[:, 2] == 0).all()


def test_planted_concepts_are_found_again() -> None:
    planted = np.kron(np.eye(3), np.ones(4)) * RNG.uniform(1, 2, (3, 12))
    amounts = RNG.gamma(0.5, size=(80, 3))
    amounts[:9] = np.repeat(np.eye(3), 3, axis=0)
    factors = factorise(amounts @ planted, 3, seed=0, most=2000)
    assert factors.basis.shape == (3, 12)
    assert (factors.basis >= 0).all()
    assert factors.error < 0.01
    unit = factors.basis / np.linalg.norm(factors.basis, axis=1, keepdims=True)
    cosine = unit @ (planted / np.linalg.norm(planted, axis=1, keepdims=True)).T
    assert (cosine.max(axis=0) > 0.99).all()


def test_the_error_is_what_the_concepts_leave() -> None:
    activations = RNG.gamma(0.5, size=(60, 15)).astype(np.float32)
    factors = factorise(activations, 5, seed=0, most=500)
    left = activations - coefficients(activations, factors.basis) @ factors.basis
    best = np.linalg.norm(left) / np.linalg.norm(activations)
    assert best <= factors.error + 1e-6
    assert factors.error == pytest.approx(best, rel=1e-2)
    more = factorise(activations, 15, seed=0, most=500)
    assert more.error < factors.error


def test_the_seed_alone_decides() -> None:
    activations = RNG.gamma(0.5, size=(60, 15)).astype(np.float32)
    first, second = (factorise(activations, 5, seed=1, most=50) for _ in range(2))
    np.testing.assert_array_equal(first.basis, second.basis)
    assert (factorise(activations, 5, seed=2, most=50).basis != first.basis).any()


def test_few_crops_and_no_activation_are_factorised_too() -> None:
    few = factorise(RNG.gamma(1, size=(3, 15)), 5, seed=0)
    assert few.basis.shape == (5, 15)
    assert np.isfinite(few.basis).all()
    dark = factorise(np.zeros((8, 15)), 5, seed=0)
    assert np.isnan(dark.error)
    assert (coefficients(np.zeros((2, 15)), dark.basis) == 0).all()


# -- crops ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("height", "width", "side"), [(224, 224, 64), (30, 41, 10), (9, 9, 9)])
def test_crops_are_those_of_the_authors(height: int, width: int, side: int) -> None:
    images = torch.rand(2, 3, height, width)
    stride = max(1, int(0.8 * side))
    unfolded = functional.unfold(images, side, stride=stride).transpose(1, 2)
    assert torch.equal(cut_crops(images, side), unfolded.reshape(-1, 3, side, side))
    if side == 64:
        assert len(unfolded[0]) == 16


def test_crops_are_looked_at_in_the_size_of_an_image() -> None:
    module = nn.Sequential(nn.Conv2d(3, 5, 3, 2), nn.ReLU()).eval().requires_grad_(False)
    network, images = Network(module, bcos=False), tiny.images(2, side=16)
    encoded = network.encode(images)
    got = crop_activations(network, "1", encoded, 7, batch=3)
    expected = []
    for image in encoded:
        for top, left in [(0, 0), (0, 5), (5, 0), (5, 5)]:
            crop = image[None, :, top : top + 7, left : left + 7]
            large = functional.interpolate(crop, (16, 16), mode="bilinear", align_corners=False)
            expected.append(module(large)[0].mean((1, 2)).numpy())
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-7)
    with pytest.raises(LayerError, match=r"layer '0' puts out -.*as behind a ReLU"):
        crop_activations(network, "0", encoded, 7, batch=3)
    with pytest.raises(ValueError, match="crops of 17 pixels"):
        crop_activations(network, "1", encoded, 17, batch=3)


# -- images of classes ---------------------------------------------------------------------------


def test_images_of_a_class_are_drawn_by_its_name_alone() -> None:
    images = Shapes(n_train=60, n_test=5, size=24).load()
    labels, ids = images.labels("train"), images.ids("train")
    whole = dict(images_by_class(images, "train"))
    assert sum(map(len, whole.values())) == 60
    drawn = dict(images_by_class(images, "train", 4, seed=1))
    for label, own in whole.items():
        np.testing.assert_array_equal(own, ids[labels == label])
        assert len(drawn[label]) == min(4, len(own))
        assert set(drawn[label]) <= set(own)
    assert any((a != b).any() for a, b in zip(
        drawn.values(), dict(images_by_class(images, "train", 4, seed=2)).values(), strict=True
    ))  # fmt: skip
    assert set(dict(images_by_class(images, "test"))) == set(images.labels("test").tolist())
