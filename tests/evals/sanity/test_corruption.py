"""Corrupted labels: how many, whose, and what stands for what."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

import evals
from evals.kernels.columns import Columns, stack_columns
from evals.sanity.corruption import CorruptedLabels, Hierarchy, SubstitutedLabels
from evals.sanity.protocol import TESTS, Rates

N_INPUTS = 40_000


def make_labels(shares=(0.3, 0.02, 0.7)) -> xr.DataArray:
    rng = np.random.default_rng(0)
    values = (rng.random((N_INPUTS, len(shares))) < shares).astype(float)
    names = {"input": [f"test/{i}" for i in range(N_INPUTS)], "concept": list("abc")[: len(shares)]}
    return xr.DataArray(values, names, ("input", "concept"))


LABELS = make_labels()


@pytest.mark.parametrize("kept", [0.5, 0.33, 0.75])
def test_positives_go_missing_and_nothing_else(kept):
    corrupted = evals.corrupt_labels(LABELS, "missing", Rates(kept_share=kept))
    assert ((corrupted == LABELS) | ((LABELS == 1) & (corrupted == 0))).all()
    n_positive = LABELS.sum("input")
    sigma = np.sqrt(n_positive * kept * (1 - kept))
    assert (abs(corrupted.sum("input") - kept * n_positive) < 5 * sigma).all()


@pytest.mark.parametrize("factor", [2.0, 3.0, 1.33])
def test_positives_grow_by_the_factor_and_none_is_lost(factor):
    labels = LABELS[:, :2]
    corrupted = evals.corrupt_labels(labels, "extra", Rates(extra_factor=factor))
    assert ((corrupted == labels) | ((labels == 0) & (corrupted == 1))).all()
    n_positive = labels.sum("input")
    p = (factor - 1) * n_positive / (N_INPUTS - n_positive)
    sigma = np.sqrt((N_INPUTS - n_positive) * p * (1 - p))
    assert (abs(corrupted.sum("input") - factor * n_positive) < 5 * sigma).all()


def test_more_negatives_than_there_are_cannot_flip():
    corrupted = evals.corrupt_labels(LABELS, "extra")
    assert corrupted[:, 2].all()
    assert Rates().flip_probability(7, 10) == 1
    assert Rates().flip_probability(10, 10) == 0


@pytest.mark.slow
def test_extreme_rates():
    assert not evals.corrupt_labels(LABELS, "missing", Rates(kept_share=0)).any()
    for test, rates in (("missing", Rates(kept_share=1)), ("extra", Rates(extra_factor=1))):
        xr.testing.assert_equal(evals.corrupt_labels(LABELS, test, rates), LABELS)


@pytest.mark.parametrize("test", TESTS)
@pytest.mark.slow
def test_faults_follow_from_names_and_seed_alone(test):
    corrupted = evals.corrupt_labels(LABELS, test, seed=3)
    order = np.random.default_rng(1).permutation(N_INPUTS)
    shuffled = evals.corrupt_labels(LABELS[order, ::-1], test, seed=3)
    xr.testing.assert_equal(shuffled[np.argsort(order), ::-1], corrupted)
    alone = evals.corrupt_labels(LABELS[:, [1]], test, seed=3)
    xr.testing.assert_equal(alone, corrupted[:, [1]])
    assert not evals.corrupt_labels(LABELS, test, seed=4).equals(corrupted)


def test_concepts_and_seeds_are_spoiled_independently():
    twice = LABELS[:, [0, 0]].assign_coords(concept=["a", "b"])
    lost = [
        (evals.corrupt_labels(twice, "missing", seed=seed) != twice).values[twice[:, 0] == 1]
        for seed in (0, 1)
    ]
    columns = np.concatenate(lost, axis=1).astype(float)
    correlation = np.corrcoef(columns.T) - np.eye(4)
    assert (abs(correlation) < 5 / np.sqrt(len(columns))).all()


def test_probabilities_are_positive_from_one_half():
    values = np.tile([0.2, 0.5, 0.9, 0.49], 500)
    labels = xr.DataArray(values[:, None], dims=("input", "concept"))
    missing = evals.corrupt_labels(labels, "missing").values[:, 0]
    assert set(missing[values < 0.5]) == {0.2, 0.49}
    assert set(missing[values == 0.9]) == {0.0, 0.9}
    extra = evals.corrupt_labels(labels, "extra", Rates(extra_factor=1.5)).values[:, 0]
    np.testing.assert_array_equal(extra[values >= 0.5], values[values >= 0.5])
    assert set(extra[values == 0.2]) == {0.2, 1.0}


@pytest.mark.parametrize("test", TESTS)
def test_sparse_labels_are_spoiled_like_dense_ones(test):
    rng = np.random.default_rng(2)
    dense = (rng.random((500, 6)) < 0.03).astype(float)
    held = Columns(sparse.csc_array(dense))
    assert held.is_sparse
    got = CorruptedLabels(held, test).block(1, 5)
    assert sparse.issparse(got)
    padded = np.hstack([dense, np.ones((500, 14))])  # so full that it is kept dense
    expected = CorruptedLabels(Columns(padded), test).block(1, 5)
    np.testing.assert_array_equal(got.toarray(), expected)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Rates(kept_share=1.5), "kept_share is a probability"),
        (lambda: Rates(extra_factor=0.5), "extra_factor is a factor of at least 1"),
        (lambda: Rates(extra_factor=float("inf")), "extra_factor"),
        (lambda: evals.corrupt_labels(LABELS, "mising"), "did you mean 'missing'"),
    ],
)
def test_nonsense_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


CLASSES = np.eye(6)[[0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]]
GROUPS = [[0, 1, 2, 3], [0, 1], [2, 3], [0, 1, 2], [4, 5], [0, 1]]


def make_tree() -> Columns:
    """Six classes of two inputs each, then six groups of them, then a label that nothing has."""
    groups = np.stack([CLASSES[:, group].sum(axis=1) for group in GROUPS], axis=1)
    return Columns(np.hstack([CLASSES, groups, np.zeros((12, 1))]))


def test_classes_and_superclasses_follow_from_the_labels():
    tree = Hierarchy.of(make_tree())
    assert np.flatnonzero(tree.is_class).tolist() == [0, 1, 2, 3, 4, 5]
    assert np.flatnonzero(tree.is_superclass).tolist() == [6, 7, 8, 9, 10, 11]
    # the smallest, the first of equals (7 and 11 are of the same inputs)
    assert tree.superclasses().tolist() == [7, 7, 8, 8, 10, 10] + [-1] * 7
    # 6: of 75 % at most is {0, 1, 2}; 9: of its 6 inputs 75 % are 4.5, so {0, 1}; the others'
    # first class
    assert tree.subclasses().tolist() == [-1] * 6 + [9, 0, 2, 7, 4, 0, -1]
    assert tree.subclasses(largest=0.5).tolist() == [-1] * 6 + [7, 0, 2, 0, 4, 0, -1]


def substitutes_by_sets(labels: np.ndarray) -> tuple[list[int], list[int]]:
    """The words of the definition, with sets and loops."""
    sets = [frozenset(np.flatnonzero(column).tolist()) for column in labels.T]
    upper = [any(other and other < one for other in sets) for one in sets]
    extra, missing = [], []
    for one, is_super in zip(sets, upper, strict=True):
        above = [i for i, other in enumerate(sets) if one < other]
        extra.append(
            min(above, key=lambda i: len(sets[i])) if one and not is_super and above else -1
        )
        below = [i for i, other in enumerate(sets) if other and other < one]
        fitting = [i for i in below if upper[i] and 4 * len(sets[i]) <= 3 * len(one)]
        if not is_super:
            missing.append(-1)
        elif fitting:
            missing.append(max(fitting, key=lambda i: len(sets[i])))
        else:
            missing.append(next(i for i in below if not upper[i]))
    return extra, missing


@given(st.integers(0, 2**32 - 1), st.integers(2, 14), st.sampled_from([0.2, 0.5, 0.8]))
@settings(max_examples=60)
def test_substitutes_are_those_of_the_definition(seed, n_labels, share):
    labels = np.random.default_rng(seed).random((8, n_labels)) < share
    tree = Hierarchy.of(Columns(labels))
    extra, missing = substitutes_by_sets(labels)
    assert tree.superclasses().tolist() == extra
    assert tree.subclasses().tolist() == missing


def test_relations_are_found_in_slabs(monkeypatch):
    rng = np.random.default_rng(5)
    labels = np.repeat(np.eye(30), 20, axis=0)
    labels = np.hstack([labels, labels @ (rng.random((30, 12)) < 0.2)])
    whole = Hierarchy.of(Columns(labels))
    monkeypatch.setattr("evals.sanity.corruption.SLAB_INPUTS", 37)
    np.testing.assert_array_equal(Hierarchy.of(Columns(labels)).within, whole.within)


def test_substituted_labels_are_other_columns():
    tree = make_tree()
    other = SubstitutedLabels(tree, [7, 7, 8])
    np.testing.assert_array_equal(other.block(1, 3), tree.block(7, 9))


def test_columns_are_stacked_sparse_only_where_all_are():
    dense, thin = np.ones((4, 1)), sparse.csc_array(np.eye(4)[:, :1])
    assert sparse.issparse(stack_columns([thin, thin]))
    np.testing.assert_array_equal(stack_columns([dense, thin]), np.hstack([dense, thin.toarray()]))
