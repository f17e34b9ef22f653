"""Matchings against all permutations, NumPy's correlations, and what is known to come back."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import xarray as xr

from evals import match_concepts, schemas
from evals.concepts.matching import (
    ConceptSet,
    Matching,
    MatchingOptions,
    compare_decoders,
    compare_presences,
    match_sets,
    matching_table,
    random_decoder,
)
from registry.declare.faults import ConfigError

QUICK = MatchingOptions(n_null=2, n_bootstrap=200)


def decoder(values: np.ndarray, names=None) -> xr.DataArray:
    """(channel, concept) of rows (concept, channel)."""
    coords = {"concept": np.arange(len(values)) if names is None else names}
    return xr.DataArray(values.T, dims=("channel", "concept"), coords=coords)


def presence(values: np.ndarray, names=None, images=None) -> xr.DataArray:
    coords = {
        "image": images or [f"test/{i:03d}" for i in range(len(values))],
        "concept": np.arange(values.shape[1]) if names is None else names,
    }
    return xr.DataArray(values, dims=("image", "concept"), coords=coords)


@pytest.mark.parametrize(("n_one", "n_other"), [(5, 5), (4, 6), (6, 3)])
def test_matches_have_the_largest_sum_of_all(n_one, n_other):
    similarity = np.random.default_rng(n_one).normal(size=(n_one, n_other))
    found = Matching.of(similarity)
    wide = similarity if n_one <= n_other else similarity.T
    best = max(
        sum(wide[i, j] for i, j in enumerate(chosen))
        for chosen in itertools.permutations(range(wide.shape[1]), wide.shape[0])
    )
    assert np.nansum(found.similarity) == pytest.approx(best)
    matched = found.match[found.match >= 0]
    assert len(set(matched)) == len(matched) == min(n_one, n_other)
    for i in range(n_one):
        nearest = max(range(n_other), key=lambda j: similarity[i, j])
        assert found.nearest[i] == nearest
        assert found.nearest_similarity[i] == similarity[i, nearest]
        assert found.mutual[i] == (max(range(n_one), key=lambda k: similarity[k, nearest]) == i)


def test_what_is_undefined_is_matched_to_nothing():
    similarity = np.array([[np.nan, 0.2, 0.9], [np.nan] * 3, [np.nan, -0.5, 0.8]])
    found = Matching.of(similarity)
    assert found.match.tolist() == [1, -1, 2]
    assert found.nearest.tolist() == [2, -1, 2]
    assert found.mutual.tolist() == [True, False, False]
    assert np.isnan(found.similarity[1])
    assert (Matching.of(np.full((2, 3), np.nan)).match == -1).all()


def test_a_permuted_set_comes_back():
    rng = np.random.default_rng(0)
    order = rng.permutation(12)
    directions, values = rng.normal(size=(12, 8)), rng.gamma(1, size=(60, 12))
    one = ConceptSet(decoder(directions), presence(values))
    other = ConceptSet(
        decoder(3 * directions[order], 10 * np.arange(12)),
        presence(7 * values[:, order] + 1, 10 * np.arange(12)),
    )
    found = match_sets(one, other, QUICK)
    schemas.MATCHING.check(found)
    expected = 10 * np.argsort(order)
    for basis in ("decoder", "presence"):
        np.testing.assert_array_equal(found["match"].sel(basis=basis), expected)
        np.testing.assert_array_equal(found["nearest"].sel(basis=basis), expected)
    np.testing.assert_allclose(found["similarity"], 1)
    assert found["mutual"].all()
    assert (found["matched_share"] == 1).all()
    assert (found["matched_share_low"] == 1).all()
    assert found["same_match_share"] == 1
    assert (found["null_matched_share"].sel(threshold=0.9) < 0.5).all()
    assert (found["null_mean_nearest"] < 0.9).all()


def test_cosines_and_correlations_are_those_of_numpy():
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(4, 7)), rng.normal(size=(5, 7))
    expected = [[x @ y / np.sqrt((x @ x) * (y @ y)) for y in b] for x in a]
    np.testing.assert_allclose(compare_decoders(decoder(a), decoder(b)), expected)
    a[2] = 0
    assert np.isnan(compare_decoders(decoder(a), decoder(b))[2]).all()
    values = rng.random((30, 9))
    one, other = presence(values[:, :4]), presence(values[:, 4:])
    expected = np.corrcoef(values.T)[:4, 4:]
    np.testing.assert_allclose(compare_presences(one, other), expected, rtol=1e-9)
    np.testing.assert_allclose(
        compare_presences(one[:20], other[::-1]), np.corrcoef(values[:20].T)[:4, 4:], rtol=1e-9
    )
    shuffled = compare_presences(one, other, shuffle=0)
    assert abs(shuffled - expected).max() > 0.01
    np.testing.assert_array_equal(shuffled, compare_presences(one, other, shuffle=0))


def test_concepts_that_are_the_same_everywhere_are_left_out():
    rng = np.random.default_rng(2)
    directions, values = rng.normal(size=(6, 8)), rng.gamma(1, size=(40, 6))
    values[:, [1, 4]] = 0
    other_values = values.copy()
    other_values[:, 5] = 2
    one = ConceptSet(decoder(directions), presence(values))
    other = ConceptSet(decoder(directions), presence(other_values))
    found = match_sets(one, other, QUICK)
    assert (found["n_alive_one"], found["n_alive_other"]) == (4, 3)
    for basis in ("decoder", "presence"):
        match = found["match"].sel(basis=basis).values
        assert match[[0, 2, 3]].tolist() == [0, 2, 3]
        assert (match[[1, 4, 5]] == -1).all()
    assert (found["matched_share"] == 1).all()  # of 3, the most that can be matched
    without = match_sets(ConceptSet(decoder(directions)), ConceptSet(decoder(directions)), QUICK)
    assert without["basis"].values.tolist() == ["decoder"]
    assert without["n_alive_one"] == 6
    assert without["same_match_share"].isnull()


def test_the_null_has_the_moments_of_the_decoder_and_predicts_independent_sets():
    rng = np.random.default_rng(3)
    mixing = rng.normal(size=(10, 10)) * np.array([4, 2, 1, 1, 1, 0.5, 0.5, 0.1, 0.1, 0.1])
    first, second = (rng.normal(size=(400, 10)) @ mixing.T for _ in range(2))
    drawn = random_decoder(decoder(first), 0).values
    expected = first.T @ first / 400
    np.testing.assert_allclose(drawn.T @ drawn / 400, expected, atol=0.2 * np.trace(expected) / 3)
    found = match_sets(ConceptSet(decoder(first)), ConceptSet(decoder(second)), QUICK)
    for key in ("mean_nearest", "mean_similarity", "mutual_share"):
        assert found[key].item() == pytest.approx(found[f"null_{key}"].item(), abs=0.05)


def test_intervals_are_of_redrawn_concepts():
    rng = np.random.default_rng(4)
    a = rng.normal(size=(40, 6))
    b = a + 0.6 * rng.normal(size=a.shape)
    found = match_sets(ConceptSet(decoder(a)), ConceptSet(decoder(b)), QUICK)
    near = found["nearest_similarity"].values[:, 0]
    draws = np.random.default_rng(9).choice(near, (4000, 40)).mean(axis=1)
    expected = np.quantile(draws, [0.025, 0.975])
    got = found["mean_nearest_low"].item(), found["mean_nearest_high"].item()
    np.testing.assert_allclose(got, expected, atol=0.02)
    assert (found["matched_share_low"] <= found["matched_share"]).all()
    assert (found["matched_share"] <= found["matched_share_high"]).all()
    for t, threshold in enumerate(found["threshold"].values):
        expected_share = (found["similarity"].values[:, 0] >= threshold).mean()
        assert found["matched_share"].values[0, t] == pytest.approx(expected_share)
    xr.testing.assert_identical(
        found, match_sets(ConceptSet(decoder(a)), ConceptSet(decoder(b)), QUICK)
    )
    none = match_sets(
        ConceptSet(decoder(a)), ConceptSet(decoder(b)), MatchingOptions(n_null=0, n_bootstrap=0)
    )
    assert none["null_mean_nearest"].isnull().all()
    assert none["mean_nearest_low"].isnull().all()
    assert "mean nearest" in matching_table(none)


def test_the_table_tells_shares_beside_the_null():
    rng = np.random.default_rng(5)
    a, values = rng.normal(size=(10, 6)), rng.gamma(1, size=(30, 10))
    one = ConceptSet(decoder(a), presence(values))
    told, _, *lines = matching_table(match_sets(one, one, QUICK)).splitlines()
    chance = f"{100 / (QUICK.n_null + 1):.3g} %"
    assert told == f"Come back: 100 % by presence, 100 % by decoder; by chance {chance}."
    assert lines[0].split() == ["basis", "what", "value", "interval", "null"]
    assert lines[1].split()[:7] == ["decoder", "matched", "at", "0.5", "1.000", "[1.000,", "1.000]"]
    assert lines[-1] == (
        "10 of 10 concepts against 10 of 10 that are alive. "
        "Both bases match 100 % of concepts alike."
    )


def test_concepts_come_back_beyond_the_classes_that_they_share():
    """Independent concepts of the same classes are counted by chance alone; same ones come back."""
    rng = np.random.default_rng(6)
    classes = np.repeat(np.arange(4), 100)
    active = np.eye(4)[classes]  # what all concepts of a class have in common

    def of_classes(noise):
        return presence(np.repeat(active, 15, axis=1) * (1 + noise))

    noises = rng.gamma(1, size=(2, 400, 60))
    options = MatchingOptions(n_null=9, n_bootstrap=0)
    one = ConceptSet(presence=of_classes(noises[0]), classes=classes)
    apart = match_sets(one, ConceptSet(presence=of_classes(noises[1])), options)
    assert apart["null_returned_share"].item() == 0.1
    assert apart["returned_share"].item() == pytest.approx(0.1, abs=0.12)
    without = ConceptSet(presence=one.presence)  # of which classes are not known
    assert (
        match_sets(without, ConceptSet(presence=of_classes(noises[1])), options)[
            "returned_share"
        ].item()
        == 1
    )
    near = of_classes(noises[0] + 0.3 * noises[1])
    again = match_sets(one, ConceptSet(presence=near), options)
    assert again["returned_share"].item() > 0.95
    np.testing.assert_allclose(again["returned"].mean(), again["returned_share"].item())
    schemas.MATCHING.check(again)


def test_sets_must_go_together():
    rng = np.random.default_rng(6)
    one, other = decoder(rng.normal(size=(3, 4))), decoder(rng.normal(size=(3, 5)))
    with pytest.raises(ValueError, match="decoders have 4 and 5 channels"):
        match_sets(ConceptSet(one), ConceptSet(other))
    values = presence(rng.random((5, 3)))
    with pytest.raises(ValueError, match="share neither decoders nor presences"):
        match_sets(ConceptSet(one), ConceptSet(presence=values))
    with pytest.raises(ValueError, match="share 1 image; expected at least 2"):
        compare_presences(values, presence(rng.random((5, 3)), images=["test/000", *"bcde"]))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"thresholds": [0.5, 0.5]}, "named twice"),
        ({"thresholds": [1.5]}, "less than or equal to 1"),
        ({"thresholds": []}, "at least 1"),
    ],
)
def test_thresholds_are_checked(values, message):
    with pytest.raises(ConfigError, match=message):
        match_concepts.stage.resolve(values)
