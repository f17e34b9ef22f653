"""Localisation against loops over cells, and against what must be true of chance."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import xarray as xr

from evals import localise_concepts, schemas
from evals.concepts.localisation import (
    MEASURES,
    LocalisationOptions,
    Locations,
    compare,
    localisation_table,
    localise,
    tell_labels,
)
from registry.declare.faults import ConfigError
from tests.evals.runs import FakeInput, FakeRun

SIDE = 9
LABELS = ["red", "star", "left", "never"]


def brute_force(one: np.ndarray, mask: np.ndarray, tolerance: float, mass: float):
    """Pointing, energy and IoU of one map and one mask, by loops over cells."""
    cells = list(itertools.product(range(one.shape[0]), range(one.shape[1])))
    inside = [cell for cell in cells if mask[cell]]
    peaks = [cell for cell in cells if one[cell] == one.max()]
    hits = [any((y - v) ** 2 + (x - u) ** 2 <= tolerance**2 for v, u in inside) for y, x in peaks]
    positive = {cell: max(float(one[cell]), 0.0) for cell in cells}
    total = sum(positive.values())
    held, top = 0.0, []
    for cell in sorted(cells, key=lambda cell: -positive[cell]):
        if held >= mass * total * (1 - 1e-12):
            break
        held += positive[cell]
        top.append(cell)
    both = len(set(top) & set(inside))
    return (
        sum(hits) / len(peaks),
        sum(positive[cell] for cell in inside) / total,
        both / (len(top) + len(inside) - both),
    )


def random_maps(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, SIDE, SIDE)).astype(np.float32)


def random_masks(count: int, seed: int = 1) -> np.ndarray:
    """Boxes and single cells."""
    rng = np.random.default_rng(seed)
    masks = np.zeros((count, SIDE, SIDE), dtype=bool)
    for mask in masks:
        y, x = rng.integers(0, SIDE - 1, 2)
        height, width = rng.integers(1, 6, 2)
        mask[y : y + height, x : x + width] = True
    return masks


@pytest.mark.parametrize("tolerance", [0, 1, 1.5, 3])
@pytest.mark.parametrize("mass", [0.5, 0.8, 1.0])
def test_measures_are_those_of_loops_over_cells(tolerance, mass):
    maps, masks = random_maps(5), random_masks(6)
    score, _ = compare(Locations.of(maps, mass), masks, tolerance)
    for i, j in itertools.product(range(5), range(6)):
        expected = brute_force(maps[i], masks[j], tolerance, mass)
        np.testing.assert_allclose(score[:, i, j], expected, rtol=1e-9)


def test_equal_maxima_share_the_point():
    one = np.zeros((1, SIDE, SIDE))
    one[0, 2, 2] = one[0, 5, 5] = one[0, 5, 6] = 3
    mask = np.zeros((1, SIDE, SIDE), dtype=bool)
    mask[0, 5, :] = True
    assert compare(Locations.of(one, 0.8), mask)[0][0, 0, 0] == pytest.approx(2 / 3)


def test_a_perfect_map_scores_one_and_a_flat_one_what_chance_gives():
    masks = random_masks(8)
    flat = np.ones((1, SIDE, SIDE))
    for mask in masks:
        perfect, _ = compare(Locations.of(mask[None].astype(float), 1), mask[None])
        np.testing.assert_allclose(perfect, 1)
    score, chance = compare(Locations.of(flat, 1), masks)
    np.testing.assert_allclose(score, chance)
    np.testing.assert_allclose(chance[1, 0], masks.mean(axis=(1, 2)))


@pytest.mark.parametrize("tolerance", [0, 2])
def test_chance_is_the_mean_of_shuffled_maps(tolerance):
    rng = np.random.default_rng(3)
    one = random_maps(1)[0].ravel()
    shuffled = np.stack([rng.permutation(one) for _ in range(4000)]).reshape(-1, SIDE, SIDE)
    score, chance = compare(Locations.of(shuffled, 0.8), random_masks(3), tolerance)
    error = score.std(axis=1) / np.sqrt(score.shape[1])
    difference = score.mean(axis=1) - chance[:, 0]
    assert (abs(difference[:2]) < 4 * error[:2] + 1e-12).all()
    assert (difference[2] > -4 * error[2]).all()  # the chance of an IoU lies a little below
    assert (difference[2] < 0.02).all()


def make_datasets(n_concepts: int = 4, n_ranks: int = 6):
    """Concept 0 is where red objects are, 1 anywhere, 2 has empty maps, 3 few images."""
    rng = np.random.default_rng(5)
    n_images = 14
    ids = np.array([f"test/{i:05d}" for i in range(n_images)], dtype=object)
    mask = np.stack([random_masks(n_images, 7), random_masks(n_images, 8)], axis=1)
    carries = rng.random((n_images, 2, len(LABELS))) < 0.6
    carries[:, :, 3] = False
    carries[::7] = False  # images without any label
    masks = xr.Dataset(
        {
            "mask": (("image", "object", "y", "x"), mask),
            "carries": (("image", "object", "label"), carries),
        },
        {"image": ids, "label": LABELS},
    )
    chosen = np.stack([rng.choice(n_images, n_ranks, replace=False) for _ in range(n_concepts)])
    maps = rng.normal(size=(n_concepts, n_ranks, SIDE, SIDE)).astype(np.float32)
    for rank, image in enumerate(chosen[0]):
        maps[0, rank] += 5 * (mask[image] & carries[image, :, 0, None, None]).any(axis=0)
    maps[2] = -abs(maps[2])
    image = ids[chosen]
    image[3, 2:] = ""
    maps[3, 2:] = 0
    return (
        xr.Dataset(
            {
                "image": (("concept", "rank"), image),
                "map": (("concept", "rank", "y", "x"), maps),
            },
            {"concept": [3, 5, 8, 9], "rank": np.arange(n_ranks)},
        ),
        masks,
        xr.DataArray(
            np.array(["star", "red", "star", "red", "never"], dtype=object),
            dims="concept",
            coords={"concept": [9, 3, 5, 8, 77]},
        ),
    )


def brute_force_dataset(maps, masks, concept, label, tolerance, mass):
    """Scores and chances (image, measure) of a label, where it is shown, and all other pairs."""
    own = maps.sel(concept=concept)
    drawn, shown = [], []
    for rank in range(own.sizes["rank"]):
        image = own["image"].values[rank]
        if not image or own["map"].values[rank].max() <= 0:
            continue
        scene = masks.sel(image=image)
        carriers = scene["carries"].sel(label=label).values
        union = scene["mask"].values[carriers].any(axis=0)
        if union.any():
            drawn.append(own["map"].values[rank])
            shown.append(union)
    own_score = [brute_force(a, m, tolerance, mass) for a, m in zip(drawn, shown, strict=True)]
    others = [
        brute_force(a, m, tolerance, mass)
        for (i, a), (j, m) in itertools.product(enumerate(drawn), enumerate(shown))
        if i != j
    ]
    return np.array(own_score), np.array(others), np.array(shown)


def test_scores_of_names_are_means_over_images_that_show_them():
    maps, masks, names = make_datasets()
    options = LocalisationOptions(tolerance=1, mass=0.7, n_bootstrap=200)
    found = localise(maps, masks, names, options)
    schemas.LOCALISATION.check(found)
    assert found["name"].values.tolist() == ["red", "star", "red", "star"]
    for concept, name in [(3, "red"), (5, "star"), (9, "star")]:
        own, others, shown = brute_force_dataset(maps, masks, concept, name, 1, 0.7)
        got = found.sel(concept=concept)
        assert got["n_shown"] == len(shown)
        if not len(shown):
            assert got["score"].isnull().all()
            continue
        np.testing.assert_allclose(got["score"], own.mean(axis=0), rtol=1e-9)
        np.testing.assert_allclose(got["chance"][1], shown.mean())
        np.testing.assert_allclose(got["lift"], got["score"] - got["chance"])
        if len(shown) > 1:
            np.testing.assert_allclose(got["elsewhere"], others.mean(axis=0), rtol=1e-9)
            assert (got["interval_low"] <= got["score"]).all()
            assert (got["interval_high"] >= got["score"]).all()
            assert (got["lift_low"] <= got["lift"]).all()
    assert (found["score"].sel(concept=3) > [0.99, 0.5, 0.5]).all()
    assert found["top_label"].sel(concept=3, measure="energy")[0] == "red"


def test_what_cannot_be_judged_is_counted():
    maps, masks, names = make_datasets()
    names = names.copy(data=np.array(["never", "red", "nowhere", "red", "x"], dtype=object))
    found = localise(maps, masks, names)
    assert found["n_images"].values.tolist() == [6, 6, 6, 2]
    assert found["n_empty"].values.tolist() == [0, 0, 6, 0]
    assert found["n_named"] == 4
    assert found["n_without_mask"] == 1  # nowhere
    assert found["n_not_shown"] == 2  # never; red, in images where its map is empty
    assert found["n_judged"] == 1
    assert found["located_share"].values.tolist() == [1, 1, 1]
    assert "1 name has no masks" in localisation_table(found)
    assert tell_labels(found, ["red", "wheel"]) == ""
    told = tell_labels(found, ["class:red", "wheel"])
    assert "names are as 'never', 'nowhere', 'red', masks as 'class:red', 'wheel'" in told


def test_gains_count_images_that_do_not_show_the_label():
    maps, masks, names = make_datasets()
    found = localise(maps, masks, names)
    own = found.sel(concept=3)
    expected = own["lift"] * own["n_shown"] / (own["n_images"] - own["n_empty"])
    np.testing.assert_allclose(own["gain"], expected)
    assert own["gain"].sel(measure="energy") == own["top_gain"].sel(measure="energy")[0]
    gains = own["top_gain"].values
    assert (np.diff(gains, axis=1)[~np.isnan(np.diff(gains, axis=1))] <= 0).all()


def test_without_names_the_best_labels_are_found_all_the_same():
    maps, masks, names = make_datasets()
    found, named = localise(maps, masks), localise(maps, masks, names)
    np.testing.assert_array_equal(found["top_label"], named["top_label"])
    assert (found["name"] == "").all()
    assert found["n_named"] == 0
    assert found["mean_score"].isnull().all()
    localisation_table(found)


def test_order_of_images_and_ranks_does_not_matter():
    maps, masks, names = make_datasets()
    options = LocalisationOptions(n_bootstrap=0)
    expected = localise(maps, masks, names, options)
    shuffled = localise(
        maps.isel(rank=[3, 1, 0, 2, 5, 4]),
        masks.isel(image=np.random.default_rng(0).permutation(14), object=[1, 0]),
        names,
        options,
    )
    xr.testing.assert_allclose(shuffled, expected, rtol=1e-12)


def test_masks_must_fit():
    maps, masks, names = make_datasets()
    with pytest.raises(ValueError, match="maps have 9 x 9 cells, masks 9 x 8"):
        localise(maps, masks.isel(x=slice(8)), names)
    with pytest.raises(ValueError, match="masks lack"):
        localise(maps, masks.isel(image=slice(5)), names)


@pytest.mark.slow
def test_the_stage_takes_names_of_the_consensus_or_of_a_metric(tmp_path, capsys):
    maps, masks, names = make_datasets()
    by_metric = np.array([["star"], ["red"], ["star"], ["red"], ["red"]], dtype=object)
    named = xr.Dataset(
        {"consensus": names, "name": (("concept", "metric"), by_metric)}, {"metric": ["iou"]}
    )
    inputs = {
        "maps": FakeInput.of(maps, tmp_path / "maps.nc"),
        "masks": FakeInput.of(masks, tmp_path / "masks.nc"),
        "names": FakeInput.of(named, tmp_path / "names.nc"),
    }
    run = FakeRun(tmp_path, schemas.LOCALISATION)
    stage = localise_concepts.stage
    found = stage(stage.resolve({"tolerance": 1}), inputs, run)
    schemas.LOCALISATION.check(found)
    expected = localise(maps, masks, names, LocalisationOptions(1))
    xr.testing.assert_identical(found[list(expected)], expected)
    assert set(found.name_chance.values) <= {"untested", ""}
    assert run.told[-1] == (4, 4, "concepts")
    assert capsys.readouterr().out.splitlines()[0].split() == [
        "measure",
        "score",
        "chance",
        "elsewhere",
        "located",
        "best",
    ]
    metric = stage(stage.resolve({"names_by": "iou"}), inputs, run)
    assert metric["name"].values.tolist() == ["red", "star", "red", "star"]
    with pytest.raises(ValueError, match="no names by 'iuo'; did you mean 'iou'"):
        stage(stage.resolve({"names_by": "iuo"}), inputs, run)
    del inputs["names"]
    assert (stage(stage.resolve({}), inputs, run)["name"] == "").all()
    with pytest.raises(ConfigError, match="less than or equal to 1"):
        stage.resolve({"mass": 1.5})


@pytest.mark.parametrize("by", ["consensus", "iou"])
def test_names_at_chance_are_told_and_left_out_where_asked(tmp_path, capsys, by):
    maps, masks, names = make_datasets()
    verdicts = np.array(["at chance", "above chance", "undecided", "", "at chance"], dtype=object)
    verdicts[names.values == ""] = ""
    of_metric = (("concept", "metric"), names.values[:, None])
    named = xr.Dataset(
        {
            "consensus": names,
            "name": of_metric,
            "consensus_chance": ("concept", verdicts),
            "chance": (("concept", "metric"), verdicts[:, None]),
        },
        {"metric": ["iou"]},
    )
    inputs = {
        "maps": FakeInput.of(maps, tmp_path / "maps.nc"),
        "masks": FakeInput.of(masks, tmp_path / "masks.nc"),
        "names": FakeInput.of(named, tmp_path / "names.nc"),
    }
    stage, run = localise_concepts.stage, FakeRun(tmp_path, schemas.LOCALISATION)
    kept = stage(stage.resolve({"names_by": by, "n_bootstrap": 2}), inputs, run)
    schemas.LOCALISATION.check(kept)
    order = names.indexes["concept"].get_indexer(kept["concept"])
    verdicts, chosen = verdicts[order], names.values[order]
    is_at_chance = verdicts == "at chance"
    n_at_chance = int(is_at_chance.sum())
    assert n_at_chance
    assert kept.name_chance.values.tolist() == verdicts.tolist()
    assert kept.name.values.tolist() == chosen.tolist()
    assert (kept.n_at_chance, kept.n_left_out) == (n_at_chance, 0)
    assert "at chance.\n" in capsys.readouterr().out
    asked = {"names_by": by, "n_bootstrap": 2, "names_at_chance": "leave_out"}
    left = stage(stage.resolve(asked), inputs, run)
    assert left.name.values.tolist() == np.where(is_at_chance, "", chosen).tolist()
    assert left.name_chance.values.tolist() == verdicts.tolist()
    assert (left.n_at_chance, left.n_left_out) == (0, n_at_chance)
    assert left.n_named == kept.n_named - n_at_chance
    assert f"{n_at_chance} more were left out" in capsys.readouterr().out


def test_measures_are_named():
    assert MEASURES == ("pointing", "energy", "iou")
