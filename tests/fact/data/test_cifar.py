"""CIFAR from small files of exactly the official format."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fact.data.cifar import CIFAR10, CIFAR100
from fact.data.images import Geometry, ImageDataError, ImageDataset

TEN = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


def rows(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 3072), dtype=np.uint8)


def dump(path: Path, value: dict[str, Any]) -> None:
    """As the official files are: keys and names are byte strings, protocol 2.

    Of every second file they are texts, which is how those of Python 2 are read.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.name.endswith(("2", "4", "meta")):
        path.write_bytes(pickle.dumps(value, 2))
        return
    encoded = {
        key.encode(): [v.encode() if isinstance(v, str) else v for v in entry]
        if isinstance(entry, list)
        else entry
        for key, entry in value.items()
    }
    path.write_bytes(pickle.dumps(encoded, 2))


def write_ten(folder: Path) -> None:
    for number in range(1, 6):
        names = [f"x_{number}_{i}.png" for i in range(4)]
        labels = [(number + i) % 10 for i in range(4)]
        batch = {"batch_label": b"training", "labels": labels, "data": rows(4, number)}
        dump(folder / f"data_batch_{number}", batch | {"filenames": names})
    dump(folder / "test_batch", {"labels": [3, 9], "data": rows(2, 9), "filenames": ["a", "b"]})
    meta = {"num_cases_per_batch": 4, "label_names": TEN, "num_vis": 3072}
    dump(folder / "batches.meta", meta)


def write_hundred(folder: Path) -> None:
    fine = [f"fine {n}" for n in range(100)]
    coarse = [f"coarse {n}" for n in range(20)]
    dump(folder / "meta", {"fine_label_names": fine, "coarse_label_names": coarse})
    for split, labels in (("train", [0, 1, 5, 6]), ("test", [6, 0])):
        found = {"fine_labels": labels, "coarse_labels": [n // 5 for n in labels]}
        dump(folder / split, found | {"data": rows(len(labels), 1), "filenames": ["x"] * 4})


def test_cifar_10_is_what_the_files_say(tmp_path: Path) -> None:
    write_ten(tmp_path / "cifar-10-batches-py")
    images = CIFAR10(root=str(tmp_path)).load()
    assert isinstance(images, ImageDataset)
    assert (images.name, images.classes, images.splits) == (
        "cifar-10",
        tuple(TEN),
        ("train", "test"),
    )
    assert images.ids("train")[[0, -1]].tolist() == ["train/00000", "train/00019"]
    np.testing.assert_array_equal(images.labels("test"), [3, 9])
    np.testing.assert_array_equal(images.labels("train")[4:8], [2, 3, 4, 5])
    # The first 1,024 numbers of a row are its red, row by row, then its green and blue.
    planes = rows(4, 2)[1].reshape(3, 32, 32)
    found = images.read(["train/00005"])[0]
    for colour in range(3):
        np.testing.assert_array_equal(found[..., colour], planes[colour])
    assert images.read(images.ids("test"), Geometry(16, 16)).shape == (2, 16, 16, 3)
    assert images.concepts("test")["label"].values.tolist()[3] == "class:cat"
    assert images.groups == {}
    some = CIFAR10(root=str(tmp_path), n_train=3, n_test=1).load()
    assert [len(some.ids(split)) for split in some.splits] == [3, 1]


def test_cifar_100_has_its_groups(tmp_path: Path) -> None:
    write_hundred(tmp_path / "cifar-100-python")
    images = CIFAR100(root=str(tmp_path / "cifar-100-python")).load()
    assert len(images.classes) == 100
    assert images.groups == {"coarse 0": ("fine 0", "fine 1"), "coarse 1": ("fine 5", "fine 6")}
    shown = images.concepts("test").sel(label=["class:fine 6", "group:coarse 0"]).values
    np.testing.assert_array_equal(shown, [[True, False], [False, True]])


def test_faults_are_told_together(tmp_path: Path) -> None:
    folder = tmp_path / "cifar-10-batches-py"
    write_ten(folder)
    (folder / "data_batch_3").unlink()
    (folder / "data_batch_2").write_bytes((folder / "data_batch_2").read_bytes()[:900])
    dump(folder / "test_batch", {"labels": [1], "data": rows(2, 0)})
    with pytest.raises(ImageDataError) as caught:
        CIFAR10(root=str(tmp_path)).load()
    told = str(caught.value)
    assert "3 faults" in told
    assert "no file at" in told
    assert "data_batch_2 cannot be read as plain data" in told
    assert "test_batch has data (2, 3072) of uint8 and 1 labels" in told
    write_ten(folder)
    dump(folder / "test_batch", {"labels": [1, 10], "data": rows(2, 0)})
    with pytest.raises(ImageDataError, match=r"labels of test are 1 to 10; batches.meta names 10"):
        CIFAR10(root=str(tmp_path)).load()


def test_names_in_another_order_are_refused(tmp_path: Path) -> None:
    write_ten(tmp_path)
    dump(tmp_path / "batches.meta", {"label_names": TEN[::-1]})
    with pytest.raises(ImageDataError, match="in another order than the published one"):
        CIFAR10(root=str(tmp_path)).load()


def test_the_identity_is_that_of_the_files(tmp_path: Path) -> None:
    write_ten(tmp_path / "cifar-10-batches-py")
    first = CIFAR10(root=str(tmp_path)).identity()
    assert CIFAR10(root=str(tmp_path / "cifar-10-batches-py")).identity() == first
    dump(tmp_path / "cifar-10-batches-py" / "test_batch", {"labels": [1], "data": rows(1, 0)})
    assert CIFAR10(root=str(tmp_path)).identity() != first
