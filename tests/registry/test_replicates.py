"""Means over seeds and differences of settings: against SciPy, by simulation, and what is said."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from scipy import stats

import registry
from registry.replicates import (
    ALIKE,
    DIFFER,
    DIFFERENCES,
    MEANS,
    NO_SPREAD,
    UNDECIDED,
    UNTESTED,
    Estimate,
    Replicated,
    Replicates,
    ReplicatesError,
    compare_over,
    holm,
    mean_over,
)

NAN = float("nan")


def array(
    values: object, seeds: object = None, dims: tuple[str, ...] = ("seed", "k")
) -> xr.DataArray:
    held = np.asarray(values, dtype=np.float64)
    named = {"seed": np.arange(len(held)) if seeds is None else seeds}
    return xr.DataArray(held, dims=dims[: held.ndim], coords=named)


# -- against SciPy ----------------------------------------------------------------------------


@pytest.mark.parametrize("n", [2, 3, 10])
@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.999])
def test_intervals_of_means_are_those_of_scipy(n: int, confidence: float) -> None:
    values = np.random.default_rng(n).normal(3, 2, (n, 40))
    found = mean_over(array(values), confidence=confidence)
    own = stats.t.interval(
        confidence, n - 1, loc=values.mean(axis=0), scale=stats.sem(values, axis=0)
    )
    np.testing.assert_allclose([found["low"], found["high"]], own, rtol=1e-10)
    np.testing.assert_allclose(found["deviation"], values.std(axis=0, ddof=1))
    assert (found["n"] == n).all()


@pytest.mark.parametrize("n", [2, 5])
def test_pairs_are_those_of_scipy(n: int) -> None:
    one, change = np.random.default_rng(n).normal(size=(2, n, 30))
    other = one + 0.4 + 0.3 * change
    places = np.random.default_rng(1).permutation(n)  # joined by the name of a seed, not by place
    found = compare_over(array(one), array(other[places], places), confidence=0.9)
    own = stats.ttest_rel(other, one)
    ends = own.confidence_interval(0.9)
    np.testing.assert_allclose(found["p"], own.pvalue, rtol=1e-9)
    np.testing.assert_allclose([found["low"], found["high"]], [ends.low, ends.high], rtol=1e-9)
    np.testing.assert_allclose(found["difference"], (other - one).mean(axis=0))
    assert found["test"] == "paired"
    assert (found["n"] == n).all()
    assert (found["left_out"] == 0).all()


@pytest.mark.parametrize("sizes", [(2, 2), (3, 7)])
def test_without_seeds_in_common_it_is_welch_as_in_scipy(sizes: tuple[int, int]) -> None:
    random = np.random.default_rng(sum(sizes))
    one, other = (random.normal(0, scale, (n, 30)) for n, scale in zip(sizes, (1, 4), strict=True))
    found = compare_over(array(one), array(other, 100 + np.arange(sizes[1])))
    own = stats.ttest_ind(other, one, equal_var=False)
    ends = own.confidence_interval(0.95)
    np.testing.assert_allclose(found["p"], own.pvalue, rtol=1e-9)
    np.testing.assert_allclose([found["low"], found["high"]], [ends.low, ends.high], rtol=1e-9)
    assert found["test"] == "Welch"
    assert (found["n"] == min(sizes)).all()


def test_holm_by_its_definition() -> None:
    p = np.array([0.01, NAN, 0.04, 0.03, 0.005])
    assert holm(p) == pytest.approx([0.03, NAN, 0.06, 0.06, 0.02], nan_ok=True)
    assert holm(np.array([0.9, 0.8])).tolist() == [1.0, 1.0]
    assert holm(np.array([])).tolist() == []


# -- by simulation ----------------------------------------------------------------------------


@pytest.mark.parametrize("n", [2, 3, 5])
def test_intervals_cover_the_mean_as_often_as_they_say(n: int) -> None:
    """Over 20,000 draws the error of a share of 95 % is 0.15 % (one standard error)."""
    values = np.random.default_rng(n).normal(0.7, 0.1, (n, 20_000))
    found = mean_over(array(values))
    covered = ((found["low"] <= 0.7) & (found["high"] >= 0.7)).mean().item()
    assert covered == pytest.approx(0.95, abs=0.006)


@pytest.mark.parametrize("compared", [Estimate.paired, Estimate.welch])
def test_a_family_without_differences_names_one_as_seldom_as_it_says(
    compared: Callable[[np.ndarray, np.ndarray], Estimate],
) -> None:
    """Over 3,000 families of 6 comparisons, with three standard errors."""
    one, other = np.random.default_rng(0).normal(size=(2, 4, 3000 * 6))
    p = compared(one, other).p.reshape(3000, 6)
    wrong = np.mean([(holm(family) <= 0.05).any() for family in p])
    assert wrong < 0.05 + 3 * np.sqrt(0.05 * 0.95 / 3000)
    assert (p <= 0.05).any(axis=1).mean() > 0.15  # as it would without Holm


def test_pairs_take_out_what_a_seed_does_to_both() -> None:
    """A difference of 0.1 that seeds hide, since they move both settings by 10 alike."""
    random = np.random.default_rng(0)
    one = random.normal(0, 10, 4)
    other = one + 0.1 + random.normal(0, 0.01, 4)
    assert compare_over(array(one), array(other))["verdict"] == DIFFER
    assert compare_over(array(one), array(other, [5, 6, 7, 8]))["verdict"] == ALIKE


# -- never surer than it is -------------------------------------------------------------------


def test_seeds_that_one_setting_has_as_texts_are_the_same_seeds() -> None:
    one, other = [1.0, 2.0, 3.0], [1.5, 2.6, 3.4]
    expected = compare_over(array(one), array(other, [0, 2, 5]))
    for seeds in (["0", "2", "5"], np.array(["0", "2", "5"], dtype=object), [0.0, 2.0, 5.0]):
        found = compare_over(array(one), array(other, seeds))
        assert (found["test"].item(), found["n"].item()) == ("paired", 2)
        assert found["p"].item() == expected["p"].item()
        assert compare_over(array(other, seeds), array(one))["test"].item() == "paired"
    named = compare_over(array(one, ["a", "b", "c"]), array(other, ["b", "c", "d"]))
    assert (named["test"].item(), named["n"].item()) == ("paired", 2)
    zeros = compare_over(array(one, ["1", "01", "2"]), array(other, [1, 2, 3]))
    assert zeros["test"].item() == "Welch", "two names of one number are two seeds"


def test_one_seed_has_no_interval_and_two_a_wide_one() -> None:
    one = mean_over(array([[0.5]]))
    assert (one["mean"], one["n"]) == (0.5, 1)
    assert np.isnan(one["low"])
    assert np.isnan(one["deviation"])
    two = mean_over(array([0.5, 0.6]))
    assert (two["high"] - two["low"]).item() == pytest.approx(2 * 12.706 * 0.05, rel=1e-4)
    assert two["high"] > 1  # and is not cut off


def test_what_is_undefined_is_counted_and_pairs_without_it() -> None:
    one = array([[1.0, NAN], [2.0, np.inf], [4.0, 1.0]])
    found = mean_over(one)
    assert found["n"].values.tolist() == [3, 1]
    assert found["undefined"].values.tolist() == [0, 2]
    assert found["mean"].values.tolist() == [7 / 3, 1]
    compared = compare_over(one, one + np.array([[0.19], [0.2], [0.22]]))
    assert compared["n"].values.tolist() == [3, 1]
    assert compared["left_out"].values.tolist() == [0, 4]
    assert compared["verdict"].values.tolist() == [DIFFER, UNTESTED]
    nothing = mean_over(array([NAN, NAN]))
    assert np.isnan(nothing["mean"])
    assert nothing["n"] == 0


def test_seeds_of_one_setting_alone_are_left_out_and_counted() -> None:
    one, other = array([1.0, 2.0, 4.0]), array([2.0, 2.5, 9.0, 9.0], [0, 1, 7, 8])
    found = compare_over(one, other)
    assert (found["n"], found["left_out"]) == (2, 3)
    assert found["difference"] == 0.75
    single = compare_over(one, array([3.0, 9.0], [2, 5]))
    assert (single["n"], single["verdict"], single["test"]) == (1, UNTESTED, "paired")


def test_what_seeds_do_not_move_is_not_tested() -> None:
    found = mean_over(array([[8, 0.1 + 0.2], [8, 0.3]]))
    assert np.isnan(found["low"]).all()
    assert found["deviation"].values.tolist() == [0, 0]
    one = array([0.1, 0.7, 1e6])
    compared = compare_over(one, one + 0.3)  # by rounding, not quite the same in all
    assert compared["verdict"] == NO_SPREAD
    assert compared["difference"] == pytest.approx(0.3)
    summed = array(5 + np.array([1e-12, 3e-12, 2e-12]))  # in another order
    assert np.isnan(mean_over(summed)["low"])
    assert compare_over(summed, summed * 0 + 5)["verdict"] == NO_SPREAD
    fixed = compare_over(array([1.0, 1.0]), array([3.0, 3.1, 2.9], [5, 6, 7]))
    own = stats.ttest_1samp([3.0, 3.1, 2.9], 1.0)
    assert fixed["p"].item() == pytest.approx(own.pvalue)


def test_a_difference_that_is_one_alone_is_undecided_among_many() -> None:
    one = np.zeros((3, 20))
    other = np.random.default_rng(1).normal(size=(3, 20))
    other[:, 0] = [1.0, 1.1, 1.3]
    found = compare_over(array(one), array(other))
    assert found["p"][0] < 0.05 < found["family_p"][0]
    assert found["verdict"][0] == UNDECIDED
    assert compare_over(array(one[:, :1]), array(other[:, :1]))["verdict"] == DIFFER


# -- what users give --------------------------------------------------------------------------


def test_labelled_values_of_any_library() -> None:
    frame = pd.DataFrame({"a": [1.0, 2.0], "b": [3, 5]}, index=pd.Index([0, 1], name="seed"))
    expected = mean_over(array(frame.to_numpy(), dims=("seed", "result")))
    for given in (frame, frame.stack(), xr.Dataset.from_dataframe(frame)):
        found = registry.mean_over(given)
        for name in expected:
            assert found[name].values.tolist() == expected[name].values.tolist()
    assert registry.mean_over(frame)["mean"].sel(result="b") == 4
    series = pd.Series([1.0, 2.0], index=pd.Index([0, 1], name="fold"))
    assert (
        registry.compare_over(series, series + np.array([1, 2]), over="fold")["difference"] == 1.5
    )
    levels = pd.MultiIndex.from_product([["x", "y"], [0, 1]], names=["model", "seed"])
    found = mean_over(pd.DataFrame({"a": range(4)}, index=levels))
    assert found["mean"].sel(model="y", result="a") == 2.5


def doubled() -> pd.DataFrame:
    return pd.DataFrame({"a": [1.0, 2.0, 4.0]}, pd.Index([3, 3, 5], name="seed"))


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda: mean_over(array([1.0]), over="sed"), "no dimension 'sed'.*'seed'"),
        (lambda: mean_over(array([1.0, 2.0], [3, 3])), "seed 3 stands twice"),
        (lambda: mean_over(doubled()), "seed 3, result a stands twice"),
        (lambda: mean_over(doubled()["a"]), "seed 3 stands twice"),
        (lambda: mean_over(array([1.0]), confidence=95), "confidence 95"),
        (lambda: mean_over(array([1.0]), confidence=NAN), "confidence nan"),
        (lambda: Replicates((), 1.0), "confidence 1.0"),
        (
            lambda: compare_over(array([1.0]).drop_vars("seed"), array([1.0])),
            "'seed' has no names to pair by",
        ),
        (
            lambda: compare_over(
                array([[1.0, 2.0]]).assign_coords(k=[8, 16]),
                array([[1.0, 2.0]]).assign_coords(k=[8, 32]),
            ),
            "must agree in all dimensions but 'seed'",
        ),
    ],
)
def test_what_cannot_be_put_together_is_refused(call: object, told: str) -> None:
    with pytest.raises(ReplicatesError, match=told):
        call()  # type: ignore[operator]


# -- settings ---------------------------------------------------------------------------------


def settings() -> Replicates:
    """Two settings and a third of another kind; the second has one seed less, and a NaN."""
    one = [(seed, {"loss": seed + 1.0, "accuracy": 0.5 + seed / 10}) for seed in range(3)]
    two = [(0, {"loss": 3.0, "accuracy": NAN}), (1, {"loss": 5.0, "accuracy": 0.9})]
    return Replicates(
        (
            Replicated.of("a[k=8]", one, kind="train"),
            Replicated.of("a[k=16]", two, ["a[k=16,seed=2]"], kind="train"),
            Replicated.of("b", [("", {"loss": 1.0})], kind="other"),
        )
    )


def test_tables_of_settings_are_those_of_the_functions() -> None:
    found = settings()
    means = found.means()
    assert list(means) == list(MEANS)
    assert means["result"].tolist() == ["loss", "loss", "accuracy", "accuracy", "loss"]
    row = means.set_index(["result", "setting"]).loc[("loss", "a[k=8]")]
    own = mean_over(array([1.0, 2.0, 3.0]))
    for name in ("mean", "low", "high", "deviation", "n"):
        assert row[name] == own[name]
    assert means["missing"].tolist() == [0, 1, 0, 1, 0]
    assert means["undefined"].tolist() == [0, 0, 0, 1, 0]
    differences = found.differences()
    assert list(differences) == list(DIFFERENCES)
    assert differences["result"].tolist() == ["loss", "accuracy"]  # kinds are not mixed
    assert set(differences["against"]) == {"a[k=8]"}
    own = compare_over(array([1.0, 2.0, 3.0]), array([3.0, 5.0]))
    for name in ("difference", "low", "high", "p", "n", "left_out"):
        assert differences[name][0] == own[name]
    assert differences["verdict"].tolist() == [ALIKE, UNTESTED]
    turned = found.differences("a[k=16]")
    assert turned["difference"][0] == -differences["difference"][0]
    with pytest.raises(ReplicatesError, match="no setting 'a'; expected one of"):
        found.differences("a")


def test_what_is_missing_or_undefined_is_named() -> None:
    found = settings()
    notes = " ".join(found.mean_notes())
    assert "Missing of a[k=16]: a[k=16,seed=2]." in notes
    assert "Undefined of a[k=16]: accuracy (seed 0)." in notes
    [rule] = found.difference_notes(found.differences())
    assert "by Holm over 1 comparison." in rule
    assert "differ: family p ≤ 0.05" in rule


def test_runs_of_one_seed_count_once() -> None:
    rows = [(0, {"x": 1.0, "y": 1.0}), (1, {"x": 5.0, "y": 1.0}), (0, {"x": 2.0, "y": NAN})]
    values = Replicated.of("a", rows).values
    assert values["x"].tolist() == [1.5, 5.0]
    assert np.isnan(values["y"][0])  # and what is undefined in one of them is not hidden


def test_nothing_has_run() -> None:
    for found in (Replicates(()), Replicates((Replicated.of("a", [], ["a"]),))):
        assert found.means().empty
        assert found.differences().empty
