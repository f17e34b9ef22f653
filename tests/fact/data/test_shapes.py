"""Shapes: known truth is the truth, and an image depends on its seed, split and index alone."""

from __future__ import annotations

import hashlib
import math
import subprocess
import sys

import numpy as np
import pytest
from scipy import ndimage, stats

from fact.data import shapes
from fact.data.images import Geometry, ImageDataset
from fact.data.shapes import CLASSES, COLOURS, FAMILIES, GROUNDS, SHAPES, TEXTURES, Shapes


@pytest.fixture(scope="module")
def dataset():
    return Shapes(600, 200, size=64)


@pytest.fixture(scope="module")
def truth(dataset):
    """Masks, labels of objects and pixels of the training images."""
    ids = dataset.ids("train")
    return dataset.masks(ids), dataset.read(ids)


def digest(dataset):
    every = np.concatenate([dataset.ids(split) for split in dataset.splits])
    return hashlib.sha256(dataset.read(every).tobytes()).hexdigest()


# -- reproducibility -------------------------------------------------------------------------


def test_the_bytes_of_version_1():
    """If this fails, images changed: raise VERSION, so that what was made of them is due."""
    assert shapes.VERSION == "1"
    small = Shapes(24, 8, size=48)
    assert digest(small) == GOLDEN
    concepts = np.packbits(small.concepts("train").values).tobytes()
    assert hashlib.sha256(concepts).hexdigest() == GOLDEN_CONCEPTS


@pytest.mark.slow
def test_another_process_makes_the_same_images():
    code = (
        "import hashlib; from fact.data.shapes import Shapes;"
        "d = Shapes(3, 5, size=32, seed=9);"
        "print(hashlib.sha256(d.read(d.ids('test')).tobytes()).hexdigest())"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    here = Shapes(70, 80, size=32, seed=9)
    expected = hashlib.sha256(here.read(here.ids("test")[:5]).tobytes()).hexdigest()
    assert run.stdout.strip() == expected


def test_an_image_depends_on_its_key_alone(dataset):
    ids = dataset.ids("test")
    alone = Shapes(1, 200, size=64)
    for image in ids[[150, 3, 77]]:
        one = alone.read([image])
        np.testing.assert_array_equal(one, dataset.read([image]))
    order = np.random.default_rng(0).permutation(ids)
    np.testing.assert_array_equal(alone.read(order), dataset.read(order))
    np.testing.assert_array_equal(alone.labels("test"), dataset.labels("test"))


def test_seeds_and_splits_and_indices_differ():
    first, second = (Shapes(40, 40, size=24, seed=s) for s in (0, 1))
    pictures = [d.read(d.ids(split)) for d in (first, second) for split in d.splits]
    every = np.concatenate(pictures).reshape(160, -1)
    assert len(np.unique(every, axis=0)) == 160


def test_large_data_sets_are_drawn_without_a_cache(monkeypatch, dataset):
    monkeypatch.setattr(shapes, "_CACHE_LIMIT", 0)
    uncached = Shapes(600, 200, size=64)
    ids = ["test/00007", "train/00599", "test/00007"]
    np.testing.assert_array_equal(uncached.read(ids), dataset.read(ids))


def test_one_object_is_the_largest_of_two(dataset):
    single = Shapes(600, 1, size=64, max_objects=1)
    assert not single.scenes.present[:, 1].any()
    np.testing.assert_array_equal(single.labels("train"), dataset.labels("train"))
    np.testing.assert_array_equal(single.scenes.x[:600, 0], dataset.scenes.x[:600, 0])


# -- known truth -----------------------------------------------------------------------------


def outline(shape, x, y, radius, turn):
    """Vertices of an object of area pi radius^2, by school geometry, unrelated to distances."""

    def ring(count, start, length):
        angles = start + 2 * math.pi * np.arange(count) / count
        return length * np.stack([np.cos(angles), np.sin(angles)], axis=1)

    if shape == "circle":
        points = ring(20_000, 0.0, 1.0)
    elif shape == "square":
        points = ring(4, math.pi / 4, 1.0)
    elif shape == "triangle":
        points = ring(3, -math.pi / 2, 1.0)  # upwards, where y points down
    elif shape == "star":
        inner = math.cos(2 * math.pi / 5) / math.cos(math.pi / 5)
        outer = ring(5, -math.pi / 2, 1.0)
        points = np.stack([outer, ring(5, -math.pi / 2 + math.pi / 5, inner)], axis=1)
        points = points.reshape(-1, 2)
    else:
        a = 1 / 3
        quarter = np.array([[1, -a], [1, a], [a, a]])
        turns = [np.array([[c, s], [-s, c]]) for c, s in ((1, 0), (0, 1), (-1, 0), (0, -1))]
        points = np.concatenate([quarter @ t for t in turns])
    points *= math.sqrt(math.pi * radius**2 / abs(area(points)))
    cos, sin = turn
    return points @ np.array([[cos, sin], [-sin, cos]]) + [x, y]


def area(points):
    x, y = points.T
    return 0.5 * np.sum(x * np.roll(y, -1) - y * np.roll(x, -1))


def inside(points, x, y):
    """Even-odd rule, edge by edge."""
    crossings = np.zeros(x.shape, int)
    for (x0, y0), (x1, y1) in zip(points, np.roll(points, -1, axis=0), strict=True):
        if y0 != y1:
            between = (y0 <= y) != (y1 <= y)
            crossings += between & (x < x0 + (y - y0) / (y1 - y0) * (x1 - x0))
    return crossings % 2 == 1


def edge_distance(points, x, y):
    """Distance to the nearest edge."""
    nearest = np.full(x.shape, np.inf)
    for a, b in zip(points, np.roll(points, -1, axis=0), strict=True):
        edge, to = b - a, np.stack([x - a[0], y - a[1]], axis=-1)
        along = np.clip(to @ edge / (edge @ edge), 0, 1)
        nearest = np.minimum(nearest, np.hypot(*np.moveaxis(to - along[..., None] * edge, -1, 0)))
    return nearest


@pytest.mark.parametrize("shape", SHAPES)
def test_masks_are_the_outlines_rasterised(dataset, truth, shape):
    masks, scenes, size = truth[0]["mask"].values, dataset.scenes, dataset.size
    y, x = np.meshgrid(*[(np.arange(size) + 0.5) / size] * 2, indexing="ij")
    checked = 0
    rows, items = np.nonzero(scenes.present[:600] & (scenes.shape[:600] == SHAPES.index(shape)))
    for row, item in list(zip(rows, items, strict=True))[:12]:
        place = scenes.x[row, item], scenes.y[row, item]
        points = outline(shape, *place, scenes.radius[row, item], scenes.turn[row, item])
        if shape == "circle":
            clear = np.abs(np.hypot(x - place[0], y - place[1]) - scenes.radius[row, item]) > 1e-4
            expected = np.hypot(x - place[0], y - place[1]) < scenes.radius[row, item]
        else:
            clear = edge_distance(points, x, y) > 1e-4
            expected = inside(points, x, y)
        np.testing.assert_array_equal(masks[row, item][clear], expected[clear])
        assert ((points > 0) & (points < 1)).all(), "an object is whole"
        checked += clear.sum()
    assert checked > 0.99 * 12 * size**2


def test_the_first_object_is_the_largest_and_objects_do_not_touch(dataset, truth):
    masks = truth[0]["mask"].values
    areas = masks.sum(axis=(2, 3))
    two = dataset.scenes.present[:600, 1]
    assert 0.3 < two.mean() < 0.5
    assert (areas[two, 0] > 1.5 * areas[two, 1]).all()
    assert (areas[two] > 0).all()
    assert (areas[~two, 1] == 0).all()
    for first, second in masks[two]:
        assert not (ndimage.binary_dilation(first) & second).any()


def test_the_class_is_family_and_surface_of_the_first_object(dataset, truth):
    carried = truth[0]["carries"]
    for row, label in enumerate(dataset.labels("train")):
        of_first = set(carried["label"].values[carried.values[row, 0]])
        family = next(f for f in FAMILIES if f"colour:{f}" in of_first)
        texture = next(t for t in TEXTURES if f"texture:{t}" in of_first)
        assert CLASSES[label] == f"{family} {texture}"
        assert f"class:{CLASSES[label]}" in of_first


def test_image_labels_are_those_of_its_objects_and_its_ground(dataset, truth):
    concepts, carried = dataset.concepts("train"), truth[0]["carries"]
    assert isinstance(dataset, ImageDataset)
    assert concepts.dtype == bool
    assert concepts.dims == ("image", "label")
    of_objects = concepts.sel(label=carried["label"])
    np.testing.assert_array_equal(of_objects.values, carried.any("object").values)
    grounds = concepts.sel(label=[f"ground:{name}" for name in GROUNDS])
    assert (grounds.sum("label") == 1).all()
    by_class = concepts.sel(label=[f"class:{name}" for name in CLASSES])
    np.testing.assert_array_equal(by_class.values.argmax(axis=1), dataset.labels("train"))


def test_every_object_has_one_value_of_each_kind_and_absent_ones_none(dataset, truth):
    carried, present = truth[0]["carries"], dataset.scenes.present[:600]
    for kind, names in (
        ("shape", SHAPES),
        ("colour", tuple(COLOURS)),
        ("colour", FAMILIES),
        ("texture", TEXTURES),
        ("place", ("left", "right")),
        ("place", ("top", "bottom")),
    ):
        count = carried.sel(label=[f"{kind}:{name}" for name in names]).sum("label").values
        np.testing.assert_array_equal(count, present)


def test_places_are_where_the_mask_is(truth):
    masks, carried = truth[0]["mask"].values, truth[0]["carries"]
    left = carried.sel(label="place:left").values
    top = carried.sel(label="place:top").values
    for row, item in zip(*np.nonzero(masks.any(axis=(2, 3))), strict=True):
        y, x = ndimage.center_of_mass(masks[row, item])
        if abs(x + 0.5 - 32) > 1:
            assert left[row, item] == (x + 0.5 < 32)
        if abs(y + 0.5 - 32) > 1:
            assert top[row, item] == (y + 0.5 < 32)


def test_colours_and_textures_are_seen_in_the_pixels(dataset, truth):
    """Brightest pixels have the colour; the share of dark ones tells the texture's kind."""
    masks, pictures = truth[0]["mask"].values[:, 0], truth[1]
    palette = np.array(list(COLOURS.values()))
    palette /= palette.sum(axis=1, keepdims=True)
    shares = {name: [] for name in TEXTURES}
    for row in range(len(masks)):
        core = ndimage.binary_erosion(masks[row])
        pixels = pictures[row][core].astype(float)
        light = pixels.max(axis=1)
        bright = pixels[light > 0.8 * light.max()].mean(axis=0)
        seen = np.abs(bright / bright.sum() - palette).sum(axis=1).argmin()
        assert seen == dataset.scenes.colour[row, 0]
        shares[TEXTURES[dataset.scenes.texture[row, 0]]].append((light < 0.6 * light.max()).mean())
    assert max(shares["plain"]) == 0
    assert min(min(shares[name]) for name in ("stripes", "dots")) > 0.1
    for name, dark in (("stripes", 0.5), ("dots", math.pi * 0.3**2)):
        assert np.mean(shares[name]) == pytest.approx(dark, abs=0.06)


def test_beyond_the_edge_there_is_ground_alone(dataset, truth):
    masks, pictures = truth[0]["mask"].values, truth[1]
    rows = np.arange(40)
    draws = 96 + shapes._GRAIN_DRAWS
    numbers = shapes.uniform_numbers(dataset.seed, dataset._keys[rows], draws)[:, 96:]
    scenes = dataset.scenes.take(rows)
    ground = shapes.draw_ground(scenes, numbers.astype(np.float32), 64)
    ground = np.moveaxis(ground * scenes.brightness[:, None, None], 0, -1)
    levels = np.floor(ground.clip(0, 1) * 255 + 0.5)
    near = ndimage.binary_dilation(masks[:40].any(axis=1), np.ones((1, 3, 3)), iterations=4)
    assert (np.abs(levels - pictures[:40])[~near] <= 1).all()
    assert ground.std(axis=(1, 2)).mean() > 0.03, "grounds are not flat"


def test_edges_are_covered_in_part(dataset, truth):
    """A pixel's mixture of object and ground follows the area of the outline in it."""
    scenes = dataset.scenes
    row = int(np.flatnonzero((scenes.shape[:600, 0] == 1) & ~scenes.present[:600, 1])[0])
    one = scenes.take(np.array([row]))
    got = shapes._coverage(shapes.outline_distance(one, 0, 64))[0]
    points = outline("square", one.x[0, 0], one.y[0, 0], one.radius[0, 0], one.turn[0, 0])
    y, x = np.meshgrid(*[(np.arange(64 * 8) + 0.5) / (64 * 8)] * 2, indexing="ij")
    exact = inside(points, x, y).reshape(64, 8, 64, 8).mean(axis=(1, 3))
    assert np.abs(got - exact).max() < 0.3
    assert got.sum() == pytest.approx(exact.sum(), rel=0.01)
    assert ((got > 0.05) & (got < 0.95)).sum() > 30


def test_draws_are_even(dataset):
    many = Shapes(6000, 1)
    scenes = many.scenes
    columns = [many.labels("train"), scenes.ground, *scenes.shape.T, *scenes.colour.T]
    for column in columns:
        assert stats.chisquare(np.bincount(column)).pvalue > 1e-4
    table = np.zeros((len(SHAPES), len(CLASSES)))
    np.add.at(table, (scenes.shape[:6000, 0], many.labels("train")), 1)
    assert stats.chi2_contingency(table).pvalue > 1e-4, "shape tells nothing of the class"


# -- access ----------------------------------------------------------------------------------


def test_geometry_applies_to_pictures_and_masks(dataset):
    geometry, ids = Geometry(96, 80), dataset.ids("test")[:6]
    pictures, truth = dataset.read(ids, geometry), dataset.masks(ids, geometry)
    assert pictures.shape == (6, 80, 80, 3)
    assert truth["mask"].shape == (6, 2, 80, 80)
    plain = dataset.masks(ids)
    np.testing.assert_array_equal(truth["carries"], plain["carries"])
    zoomed = np.kron(plain["mask"].values[0, 0], np.ones((3, 3), bool))
    halves = zoomed.reshape(96, 2, 96, 2).mean(axis=(1, 3)) >= 0.5
    agreement = (truth["mask"].values[0, 0] == halves[8:88, 8:88]).mean()
    assert agreement > 0.99


def test_what_is_unknown_is_told_with_what_is_near(dataset):
    with pytest.raises(KeyError, match=r"no image 'test/00200'.*did you mean 'test/00\d\d\d'"):
        dataset.read(["test/00001", "test/00200"])
    with pytest.raises(KeyError, match="no split 'tests'; did you mean 'test'"):
        dataset.labels("tests")
    assert dataset.read([]).shape == (0, 64, 64, 3)


GOLDEN = "8dddbb5f0e3aee6f33ad74002d5ecc61613743f68106663bdfb52885b14d5337"
GOLDEN_CONCEPTS = "448a8f25278106e842a220cb06be0b34d37914b41f7ee8424c89b3a55a36b5e4"
