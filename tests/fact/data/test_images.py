"""Geometry, catalogues of ids, class labels and reading ahead."""

from __future__ import annotations

import pickle
import threading
import time

import numpy as np
import pytest
from PIL import Image
from torchvision.transforms import functional as torchvision

from fact.data.cifar import CIFAR10, CIFAR100
from fact.data.fashion_mnist import FashionMNIST
from fact.data.images import (
    Geometry,
    ImageDataError,
    ImageIds,
    batches,
    class_concepts,
    in_geometry,
    numbered_ids,
)
from fact.data.photographs import Photographs
from fact.data.shapes import Shapes


def noise(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


# -- geometry --------------------------------------------------------------------------------

SIZES = [(28, 28), (64, 48), (48, 64), (37, 53), (101, 30), (33, 33), (7, 200), (231, 232)]
GEOMETRIES = [
    (None, None),
    (32, None),
    (None, 24),
    (32, 24),
    (33, 28),
    (40, 33),
    (28, 28),
    (31, 40),
]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("resize", "crop"), GEOMETRIES)
def test_geometry_is_torchvisions_on_pillow_images(size, resize, crop):
    image = noise(*size, 3)
    expected = Image.fromarray(image)
    if resize:
        expected = torchvision.resize(expected, resize)
    if crop:
        expected = torchvision.center_crop(expected, [crop, crop])
    got = Geometry(resize, crop).apply(image)
    assert got.dtype == np.uint8
    np.testing.assert_array_equal(got, np.asarray(expected))


def test_the_geometry_of_imagenet():
    image = noise(375, 500, 3)
    expected = torchvision.center_crop(torchvision.resize(Image.fromarray(image), 232), [224, 224])
    np.testing.assert_array_equal(Geometry(232, 224).apply(image), np.asarray(expected))


def test_masks_follow_their_image():
    mask = np.zeros((40, 60), bool)
    mask[8:24, 30:50] = True
    geometry = Geometry(20, 16)
    got = geometry.apply_mask(mask)
    halves = mask.reshape(20, 2, 30, 2).all(axis=(1, 3))[2:18, 7:23]
    assert got.dtype == bool
    np.testing.assert_array_equal(got, halves)
    everywhere = geometry.apply_mask(np.ones((40, 60), bool))
    assert everywhere.all()


@pytest.mark.parametrize("wrong", [{"resize": 0}, {"crop": -3}])
def test_a_geometry_without_pixels_is_refused(wrong):
    with pytest.raises(ValueError, match=r"at least 1; got (0|-3)"):
        Geometry(**wrong)


def test_images_of_two_sizes_need_a_crop():
    images = [noise(20, 30, 3), noise(30, 20, 3)]
    with pytest.raises(ValueError, match=r"2 sizes .*\(20, 30\) and \(30, 20\).*crop"):
        in_geometry(images, None)
    with pytest.raises(ValueError, match="sizes"):
        in_geometry(images, Geometry(resize=16))
    assert in_geometry(images, Geometry(16, 16)).shape == (2, 16, 16, 3)
    assert in_geometry([], Geometry(16, 16)).shape == (0, 16, 16, 3)


# -- catalogue and labels --------------------------------------------------------------------


def test_rows_run_over_all_splits():
    catalogue = ImageIds("toys", {"train": numbered_ids("train", 3), "test": ["test/a", "test/b"]})
    assert catalogue.splits == ("train", "test")
    assert len(catalogue) == 5
    assert catalogue.slice("test") == slice(3, 5)
    assert catalogue.rows(["test/b", "train/00001", "test/b"]).tolist() == [4, 1, 4]
    assert catalogue.rows([]).dtype == np.int64


def test_ids_cannot_be_changed_from_outside():
    catalogue = ImageIds("toys", {"train": ["train/a"]})
    catalogue.ids("train")[0] = "gone"
    assert catalogue.ids("train").tolist() == ["train/a"]


def test_unknown_ids_and_splits_name_the_nearest():
    catalogue = ImageIds("toys", {"train": ["train/duck.png"], "test": ["test/doll.png"]})
    with pytest.raises(KeyError, match=r"toys has no image 'train/dock.png' \(and 1 more\).*duck"):
        catalogue.rows(["train/dock.png", "x"])
    with pytest.raises(KeyError, match="toys has no split 'trian'; did you mean 'train'"):
        catalogue.ids("trian")


def test_the_nearest_of_many_ids_is_found_in_its_split():
    many = {split: numbered_ids(split, 30_000) for split in ("train", "test")}
    with pytest.raises(KeyError, match="did you mean 'test/00001'"):
        ImageIds("toys", many).rows(["tset/00001"])


@pytest.mark.parametrize(
    "given", [Shapes(), FashionMNIST(), Photographs(), CIFAR10(root="x"), CIFAR100(root="x")]
)
def test_splits_that_are_always_the_same_are_known_before_loading(given):
    only = ", ".join(map(repr, given.splits))
    assert list(given.lacks()({"split": "held-out", "test_split": "test"})) == [
        f"has no split 'held-out', only {only}: `split` in `config` says which is taken"
    ]


def test_class_concepts_are_the_classes_and_their_groups():
    ids, labels = np.array(["a", "b", "c"]), np.array([2, 0, 2])
    got = class_concepts(ids, labels, ("cat", "dog", "car"), {"animal": ("cat", "dog")})
    assert got.dtype == bool
    assert got["label"].values.tolist() == ["class:cat", "class:dog", "class:car", "group:animal"]
    expected = [
        [False, False, True, False],
        [True, False, False, True],
        [False, False, True, False],
    ]
    assert got.sel(image=ids).values.tolist() == expected


def test_the_error_shows_the_first_faults_and_keeps_all():
    error = ImageDataError("folder x", [f"fault {number}" for number in range(30)])
    assert len(error.faults) == 30
    assert "30 faults" in str(error)
    assert "fault 19" in str(error)
    assert "fault 20" not in str(error)
    assert "10 more" in str(error)
    again = pickle.loads(pickle.dumps(error))  # as it comes back from a worker process
    assert (again.faults, str(again)) == (error.faults, str(error))


# -- reading ahead ---------------------------------------------------------------------------


class Recorder:
    """A data set of single-pixel images that notes what is read, where, and fails on demand."""

    def __init__(self, fail_at=None, wait=0.0):
        self.seen, self.threads, self.fail_at, self.wait = [], set(), fail_at, wait

    def read(self, ids, geometry=None):
        time.sleep(self.wait)
        self.threads.add(threading.get_ident())
        self.seen.append(list(ids))
        if self.fail_at in ids:
            raise OSError(f"cannot read {self.fail_at}")
        return np.array([int(i) for i in ids], np.uint8).reshape(-1, 1, 1, 1).repeat(3, axis=3)


IDS = [str(number) for number in (5, 3, 9, 1, 0, 7, 2)]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
@pytest.mark.parametrize("ahead", [1, 2, 50])
def test_batches_keep_order_and_content(size, ahead):
    got = list(batches(Recorder(), IDS, size, ahead=ahead))
    assert [i for ids, _ in got for i in ids] == IDS
    assert [int(image) for _, images in got for image in images[:, 0, 0, 0]] == list(map(int, IDS))
    assert [len(ids) for ids, _ in got[:-1]] == [size] * (len(got) - 1)


def test_no_ids_no_batches():
    assert list(batches(Recorder(), [], 4)) == []


def test_the_next_batches_are_read_meanwhile_and_not_more():
    dataset = Recorder()
    reader = batches(dataset, [str(n) for n in range(10)], 1, ahead=2)
    next(reader)
    deadline = time.monotonic() + 5
    while len(dataset.seen) < 3 and time.monotonic() < deadline:
        time.sleep(0.005)
    time.sleep(0.05)
    assert dataset.seen == [["0"], ["1"], ["2"]]
    assert threading.get_ident() not in dataset.threads
    reader.close()


def test_an_error_is_raised_where_its_batch_is_due():
    reader = batches(Recorder(fail_at="9"), IDS, 1)
    assert [next(reader)[0].item() for _ in range(2)] == ["5", "3"]
    with pytest.raises(OSError, match="cannot read 9"):
        next(reader)


def test_leaving_early_stops_the_reader():
    dataset = Recorder(wait=0.01)
    for _ in batches(dataset, [str(n) for n in range(200)], 1):
        break
    count = len(dataset.seen)
    time.sleep(0.1)
    assert len(dataset.seen) == count <= 4


@pytest.mark.parametrize(("size", "ahead"), [(0, 1), (4, 0)])
def test_batches_without_size_are_refused_at_once(size, ahead):
    with pytest.raises(ValueError, match=f"at least 1; got {size} and {ahead}"):
        batches(Recorder(), IDS, size, ahead=ahead)
