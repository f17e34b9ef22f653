"""The C2-score: against every pair looked at, its invariances, and what has no score."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import xarray as xr
from scipy.spatial.distance import pdist, squareform

import evals
from evals import measure_consistency, schemas
from evals.concepts import consistency
from evals.concepts.consistency import consistency_table
from registry.declare.faults import ConfigError
from tests.evals.runs import FakeInput, FakeRun

RNG = np.random.default_rng(0)


def every_pair(encodings: np.ndarray, presence: np.ndarray, centre: np.ndarray | None = None):
    """The definition: two loops over images."""
    rows = encodings - (0 if centre is None else centre)
    total = weight = 0.0
    for i in range(len(rows)):
        for j in range(len(rows)):
            if i != j:
                cosine = rows[i] @ rows[j] / np.sqrt((rows[i] @ rows[i]) * (rows[j] @ rows[j]))
                total += presence[i] * presence[j] * cosine
                weight += presence[i] * presence[j]
    return total / weight


@pytest.mark.parametrize("n", [2, 3, 17, 60])
@pytest.mark.parametrize("centred", [True, False])
def test_the_score_is_the_mean_over_all_pairs(n: int, centred: bool) -> None:
    encodings = RNG.normal(0.5, 1, (n, 33))
    presence = RNG.gamma(1, size=n) * 10.0 ** RNG.integers(-6, 6, n)
    centre = RNG.normal(size=33) if centred else None
    got = evals.c2_score(encodings, presence, centre)
    assert got == pytest.approx(every_pair(encodings, presence, centre), rel=1e-12, abs=1e-14)


def test_equal_presences_give_the_plain_mean_cosine() -> None:
    encodings = RNG.normal(size=(40, 8))
    expected = 1 - pdist(encodings, "cosine").mean()
    assert evals.c2_score(encodings, np.full(40, 7.0)) == pytest.approx(expected, rel=1e-12)


def test_one_presence_far_above_all_others_cancels_nothing() -> None:
    encodings = RNG.normal(size=(12, 5))
    presence = np.r_[1e12, RNG.random(11)]
    cosine = 1 - squareform(pdist(encodings, "cosine"))
    expected = np.average(cosine[0, 1:], weights=presence[1:])  # the others are 1e-12 of it
    assert evals.c2_score(encodings, presence) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("scale", [1e-200, 1e-12, 1e12, 1e200])
def test_scales_of_encodings_and_presences_do_not_matter(scale: float) -> None:
    encodings, presence = RNG.normal(size=(20, 6)), RNG.random(20)
    expected = evals.c2_score(encodings, presence)
    assert evals.c2_score(encodings * scale, presence) == pytest.approx(expected, rel=1e-12)
    assert evals.c2_score(encodings, presence * scale) == pytest.approx(expected, rel=1e-12)


def test_the_order_of_images_does_not_matter() -> None:
    encodings, presence = RNG.normal(size=(500, 6)), RNG.random(500)
    order = RNG.permutation(500)
    expected = evals.c2_score(encodings, presence)
    assert evals.c2_score(encodings[order], presence[order]) == pytest.approx(expected, rel=1e-11)


def test_the_ends_of_the_scale() -> None:
    one = RNG.normal(size=7)
    assert evals.c2_score(np.outer(RNG.random(9) + 0.1, one), RNG.random(9)) == pytest.approx(1)
    assert evals.c2_score(np.stack([one, -one]), [1, 2]) == pytest.approx(-1)
    assert evals.c2_score(np.eye(5), np.ones(5)) == 0


def test_an_image_without_an_encoding_is_left_out() -> None:
    encodings, presence = RNG.normal(size=(6, 4)), RNG.random(6)
    expected = evals.c2_score(encodings[1:], presence[1:])
    encodings[0] = np.nan
    assert evals.c2_score(encodings, presence) == pytest.approx(expected, rel=1e-14)


@pytest.mark.parametrize(
    ("encodings", "presence"),
    [
        (np.ones((0, 3)), np.ones(0)),
        (np.ones((1, 3)), np.ones(1)),
        (np.array([[1.0, 2], [np.nan, np.nan]]), np.ones(2)),
        (np.ones((3, 2)), np.zeros(3)),
        (np.ones((3, 2)), np.array([1.0, 0, 0])),
        (np.array([[1.0, 2], [0, 0], [2, 3]]), np.ones(3)),
    ],
    ids=["none", "one", "one encoded", "no presence", "one present", "no direction"],
)
def test_what_has_no_score_is_nan(encodings: np.ndarray, presence: np.ndarray) -> None:
    assert np.isnan(evals.c2_score(encodings, presence))


def test_labelled_arrays_are_matched_by_name() -> None:
    encodings = xr.DataArray(RNG.normal(size=(5, 9)), dims=("feature", "image"))
    presence = xr.DataArray(RNG.random(9), dims="image")
    expected = every_pair(encodings.values.T, presence.values)
    assert evals.c2_score(encodings, presence) == pytest.approx(expected, rel=1e-12)
    other = presence.assign_coords(image=list("abcdefghi"))
    with pytest.raises(ValueError, match="image"):
        evals.c2_score(encodings.assign_coords(image=list("jklmnopqr")), other)


@pytest.mark.parametrize(
    ("encodings", "presence", "centre", "message"),
    [
        (np.ones((3, 2)), np.ones(2), None, r"expected \(image, feature\) and \(image,\)"),
        (np.ones(3), np.ones(3), None, "expected"),
        (np.ones((2, 2)), np.array([1, -1.0]), None, "presences of -1"),
        (np.ones((2, 2)), np.array([1, np.nan]), None, "presences"),
        (np.array([[1, np.inf], [1, 1]]), np.ones(2), None, "infinite"),
        (np.ones((2, 2)), np.ones(2), np.ones(3), r"centre \(3,\); expected \(2,\)"),
    ],
)
def test_what_does_not_fit_is_an_error(encodings, presence, centre, message) -> None:
    with pytest.raises(ValueError, match=message):
        evals.c2_score(encodings, presence, centre)


# -- datasets --------------------------------------------------------------------------------


def fabricate(n_images: int = 60, n_concepts: int = 7, n_channels: int = 5) -> xr.Dataset:
    """Encodings in the order of images, as the collection writes them; concept 6 has none."""
    rows = []
    for image in range(n_images):
        rows.append(("whole", -1, np.nan, 100, RNG.normal(2, 1, n_channels)))
        rows.append(("random", 0, RNG.uniform(50, 60), 80, RNG.normal(2, 1, n_channels)))
        for concept in RNG.choice(n_concepts - 1, 2, replace=False):
            empty = image % 20 == 0
            encoding = np.full(n_channels, np.nan) if empty else RNG.normal(2, 1, n_channels)
            pixels = 0 if empty else 10 + concept
            rows.append(("concept", concept, RNG.gamma(2), pixels, encoding))
    kind, group, presence, pixels, encoding = zip(*rows, strict=True)
    return xr.Dataset(
        {
            "encoding": (("sample", "channel"), np.array(encoding, dtype=np.float32)),
            "map": ("sample", np.array(kind, dtype=object)),
            "group": ("sample", np.array(group)),
            "presence": ("sample", np.array(presence, dtype=np.float32)),
            "pixels": ("sample", np.array(pixels)),
            "variant": "a test",
        },
        {"sample": np.arange(len(rows)), "concept": np.arange(n_concepts)},
    )


def of(dataset: xr.Dataset, kind: str, group: int) -> tuple[np.ndarray, np.ndarray]:
    chosen = (dataset["map"].values == kind) & (dataset["group"].values == group)
    encoding = dataset["encoding"].values[chosen].astype(float)
    known = ~np.isnan(encoding[:, 0])
    return encoding[known], dataset["presence"].values[chosen][known].astype(float)


@pytest.mark.parametrize("centred", [True, False])
@pytest.mark.parametrize("rows", [1, 7, 100_000])
@pytest.mark.slow
def test_all_concepts_at_once_are_each_alone(monkeypatch, centred: bool, rows: int) -> None:
    monkeypatch.setattr(consistency, "ROWS", rows)
    encodings = fabricate()
    centre = of(encodings, "whole", -1)[0].mean(axis=0) if centred else None
    scores = evals.score_encodings(encodings, centred=centred)
    for concept in range(6):
        rows_of, presence = of(encodings, "concept", concept)
        expected = every_pair(rows_of, presence, centre)
        assert scores["score"][concept] == pytest.approx(expected, rel=1e-10, abs=1e-12)
        assert scores["n_images"][concept] == len(rows_of)
        assert scores["pixels"][concept] == 10 + concept
    assert np.isnan(scores["score"][6])
    baseline = every_pair(*of(encodings, "random", 0), centre)
    assert scores["baseline"] == pytest.approx(baseline, rel=1e-10, abs=1e-12)
    assert scores["difference"] == pytest.approx(scores["mean_score"] - scores["baseline"])
    assert scores["empty_total"] == scores["empty_maps"].sum() == 6


@pytest.mark.parametrize("rows", [7, 100_000])
def test_the_published_choice_of_images_is_scored_beside_ours(monkeypatch, rows: int) -> None:
    monkeypatch.setattr(consistency, "ROWS", rows)
    encodings = fabricate()
    cut = np.array([1.0, 2.0, 0.0, 1e6, 3.0, 1.5, np.nan])
    published = encodings.assign(published_threshold=("concept", cut))
    scores = evals.score_encodings(published, least_images=3)
    centre = of(encodings, "whole", -1)[0].mean(axis=0)
    expected = []
    for concept in range(6):
        rows_of, presence = of(encodings, "concept", concept)
        kept = presence > cut[concept]
        several = kept.sum() > 1
        pairs = (rows_of[kept], presence[kept], centre)
        expected.append(every_pair(*pairs) if several else np.nan)
        assert scores["reference_n_images"][concept] == kept.sum()
    np.testing.assert_allclose(scores["reference_score"][:6], expected, rtol=1e-9)
    counted = (scores["reference_n_images"] >= 3).values[:6]
    mean = np.mean(np.array(expected)[counted])
    assert scores["reference_mean_score"] == pytest.approx(mean)
    assert scores["reference_difference"] == pytest.approx(mean - scores["baseline"].item())
    assert "published code" in consistency.consistency_table(scores)
    alone = evals.score_encodings(encodings, least_images=3)
    xr.testing.assert_equal(scores[list(alone)], alone)


def test_only_concepts_of_enough_images_count() -> None:
    encodings = fabricate()
    counts = evals.score_encodings(encodings)["n_images"].values
    least = int(np.sort(counts)[3])
    scores = evals.score_encodings(encodings, least_images=least)
    counted = counts >= least
    assert 0 < counted.sum() < 6
    assert scores["mean_score"] == pytest.approx(scores["score"].values[counted].mean())
    assert scores["n_scored"] == counted.sum()
    assert scores["n_few_images"] == ((counts > 1) & ~counted).sum()
    assert scores["share"].sum() == pytest.approx(1)
    edges = np.r_[scores["bin"], 1]
    found, _ = np.histogram(scores["score"].values[counted], edges)
    np.testing.assert_allclose(scores["share"], found / counted.sum())


def test_classes_have_baselines_of_their_own() -> None:
    encodings = fabricate()
    random = encodings["map"].values == "random"
    classes = RNG.choice([3, 5], random.sum())
    encodings["group"].values[random] = classes
    scores = evals.score_encodings(encodings, centred=False)
    assert scores["baseline_class"].values.tolist() == [3, 5]
    each = [every_pair(*of(encodings, "random", number)) for number in (3, 5)]
    np.testing.assert_allclose(scores["baseline_score"], each, rtol=1e-10)
    assert scores["baseline"] == pytest.approx(np.mean(each))
    assert "baseline_name" not in scores
    names, own = [f"class {i}" for i in range(6)], [5, 3, 3, 5, 3, 5, 1]
    named = encodings.assign(
        class_name=("class", names), concept_class=("concept", [names[i] for i in own])
    )
    scores = evals.score_encodings(named, centred=False)
    assert scores["baseline_name"].values.tolist() == ["class 3", "class 5"]
    beside = [{3: each[0], 5: each[1]}.get(i, np.nan) for i in own]
    np.testing.assert_allclose(scores["concept_baseline"], beside, rtol=1e-10)


def test_encodings_of_unknown_kinds_and_concepts_are_errors() -> None:
    encodings = fabricate()
    with pytest.raises(ValueError, match="no image was encoded as a whole"):
        evals.score_encodings(encodings.isel(sample=encodings["map"].values != "whole"))
    with pytest.raises(ValueError, match=r"encodings of \[5\]"):
        evals.score_encodings(encodings.isel(concept=slice(5)))
    encodings["map"].values[0] = "hole"
    with pytest.raises(ValueError, match="unknown map 'hole'; did you mean 'whole'"):
        evals.score_encodings(encodings)


def test_the_stage_follows_its_schema_and_says_its_variant(tmp_path, capsys) -> None:
    encodings = fabricate()
    given = {"encodings": FakeInput.of(encodings, tmp_path / "encodings.nc")}
    run = FakeRun(tmp_path, schemas.CONSISTENCY)
    config = measure_consistency.Config(centred=False)
    scores = measure_consistency.stage(config, given, run)
    schemas.CONSISTENCY.check(scores)
    assert scores["variant"].item() == "a test; not centred"
    assert run.told[-1] == (encodings.sizes["sample"], encodings.sizes["sample"], "encodings")
    assert f"C2-score {scores['mean_score'].item():.3f}" in capsys.readouterr().out
    with pytest.raises(ConfigError, match="greater than or equal to 2"):
        measure_consistency.stage.resolve({"least_images": 1})


def test_the_table_shows_the_best_and_the_worst() -> None:
    scores = evals.score_encodings(fabricate())
    lines = consistency_table(scores, most=4).splitlines()
    order = np.argsort(-scores["score"].values[:6])
    assert [line.split()[0] for line in lines[2:]] == [
        *map(str, order[:2]),
        "…",
        *map(str, order[-2:]),
    ]
    assert len(consistency_table(scores, most=10).splitlines()) == 2 + 6


@pytest.mark.slow
def test_no_torch_is_imported() -> None:
    code = (
        "import sys, evals, evals.measure_consistency\n"
        "evals.c2_score, evals.score_encodings\n"
        "print('torch' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "False"
