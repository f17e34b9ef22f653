"""Data sets of torchvision by name, and of Hugging Face on disk, from files made here."""

from __future__ import annotations

import inspect
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from torchvision import datasets

from fact.data.foreign import HuggingFaceDataset, TorchvisionDataset, taken_by
from fact.data.images import Geometry, ImageDataError, ImageDataset


def pixels(seed: int, size: tuple[int, int] = (8, 8)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)


# --- torchvision ----------------------------------------------------------------------------


def write_idx(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    head = [0x0800 + values.ndim, *values.shape]
    path.write_bytes(np.array(head, ">i4").tobytes() + values.tobytes())


@pytest.fixture
def mnist(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for prefix, count in (("train", 5), ("t10k", 3)):
        folder = tmp_path / "MNIST" / "raw"
        grey = rng.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        write_idx(folder / f"{prefix}-images-idx3-ubyte", grey)
        write_idx(folder / f"{prefix}-labels-idx1-ubyte", np.arange(count, dtype=np.uint8) * 3 % 10)
    return tmp_path


def test_a_data_set_with_train_is_what_torchvision_reads(mnist: Path) -> None:
    images = TorchvisionDataset(dataset="MNIST", root=str(mnist)).load()
    assert isinstance(images, ImageDataset)
    assert images.splits == ("train", "test")
    assert images.classes[:2] == ("0 - zero", "1 - one")
    np.testing.assert_array_equal(images.labels("train"), [0, 3, 6, 9, 2])
    theirs = datasets.MNIST(str(mnist), train=False)
    for number, image in enumerate(images.ids("test")):
        grey = np.asarray(theirs[number][0])
        np.testing.assert_array_equal(images.read([image])[0], np.stack([grey] * 3, axis=-1))
    assert images.concepts("test").values.sum() == 3


def test_a_data_set_with_split_takes_those_that_are_asked_for(tmp_path: Path) -> None:
    """DTD: folders of images, and lists of them for each split."""
    folder = tmp_path / "dtd" / "dtd"
    for name in ("banded", "zigzagged"):
        for number in range(3):
            path = folder / "images" / name / f"{name}_{number}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels(number, (9, 7))).save(path)
    (folder / "labels").mkdir()
    for split, numbers in (("train", (0, 1)), ("val", (2,))):
        lines = [f"{n}/{n}_{i}.jpg\n" for n in ("banded", "zigzagged") for i in numbers]
        (folder / "labels" / f"{split}1.txt").write_text("".join(lines))
    settings = {"dataset": "DTD", "root": str(tmp_path)}
    images = TorchvisionDataset(**settings, splits={"train": "train", "held-out": "val"}).load()
    assert (images.splits, images.classes) == (("train", "held-out"), ("banded", "zigzagged"))
    np.testing.assert_array_equal(images.labels("train"), [0, 0, 1, 1])
    assert images.read(["held-out/00001"], Geometry(5, 5)).shape == (1, 5, 5, 3)
    with pytest.raises(ImageDataError, match=r"test1.txt"):
        TorchvisionDataset(**settings).load()


def test_a_data_set_without_splits_or_files() -> None:
    chosen = {"size": 6, "image_size": [3, 8, 8], "num_classes": 3}
    images = TorchvisionDataset(dataset="FakeData", settings=chosen).load()
    theirs = datasets.FakeData(6, (3, 8, 8), 3)
    assert images.splits == ("all",)
    np.testing.assert_array_equal(images.labels("all"), [int(theirs[i][1]) for i in range(6)])
    np.testing.assert_array_equal(images.read(["all/00004"])[0], np.asarray(theirs[4][0]))


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        ({"dataset": "Flowers12"}, "no such data set; did you mean 'Flowers102'"),
        ({"dataset": "Flowers102"}, "needs a `root`"),
        ({"dataset": "MNIST", "root": "nothing"}, "Dataset not found"),
        ({"dataset": "MNIST", "root": "x", "splits": {"a": "b"}}, "its splits are train and test"),
        ({"dataset": "FakeData", "splits": {"a": "b"}}, "has no splits"),
    ],
)
def test_what_cannot_be_opened_says_why(settings: dict[str, Any], fault: str) -> None:
    with pytest.raises(ImageDataError, match=fault):
        TorchvisionDataset(**settings).load()


@pytest.mark.slow
def test_what_a_class_takes_is_known_without_torch() -> None:
    classes = [getattr(datasets, name) for name in datasets.__all__]
    for found in filter(inspect.isclass, classes):
        own = {"train", "split"}.intersection(inspect.signature(found).parameters)
        assert own == {"train", "split"}.intersection(taken_by(found.__name__)), found


@pytest.mark.parametrize(
    ("settings", "split", "fault"),
    [
        ({"dataset": "MNIST", "root": "x"}, "test", ""),
        ({"dataset": "MNIST", "root": "x"}, "val", "no split 'val', only 'train', 'test'"),
        ({"dataset": "DTD", "splits": {"train": "train"}}, "test", "no split 'test', only 'train'"),
        ({"dataset": "FakeData"}, "test", "no split 'test', only 'all'"),
        ({"dataset": "FakeData"}, "all", ""),
        ({"dataset": "Flowers12"}, "test", "no such data set; did you mean 'Flowers102'"),
        ({"dataset": "MNIST", "splits": {"a": "b"}}, "a", "leave `splits` out"),
    ],
)
def test_a_plan_knows_the_splits(settings: dict[str, Any], split: str, fault: str) -> None:
    told = list(TorchvisionDataset(**settings).lacks()({"split": split}))
    assert len(told) == bool(fault)
    assert fault in "".join(told)


# --- Hugging Face ---------------------------------------------------------------------------

FEATURES = {
    "image": {"_type": "Image"},
    "label": {"names": ["cat", "dog", "yak"], "_type": "ClassLabel"},
}


def encoded(seed: int) -> dict[str, Any]:
    file = io.BytesIO()
    Image.fromarray(pixels(seed, (6 + seed, 7))).save(file, "PNG")
    return {"bytes": file.getvalue(), "path": f"{seed}.png"}


def table(labels: list[Any], first: int = 0) -> pa.Table:
    image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    rows = [encoded(first + number) for number in range(len(labels))]
    return pa.table({"image": pa.array(rows, image), "label": pa.array(labels)})


def save_to_disk(
    folder: Path, tables: list[pa.Table], features: dict[str, Any], split: str
) -> None:
    """Write what ``Dataset.save_to_disk`` writes."""
    folder.mkdir(parents=True)
    names = [f"data-{i:05d}-of-{len(tables):05d}.arrow" for i in range(len(tables))]
    for name, part in zip(names, tables, strict=True):
        with (
            pa.OSFile(str(folder / name), "wb") as sink,
            pa.ipc.new_stream(sink, part.schema) as out,
        ):
            out.write_table(part, max_chunksize=2)
    state = {
        "_data_files": [{"filename": name} for name in names],
        "_fingerprint": "d9b1fb9fb5f4ea9d",
        "_format_columns": None,
        "_format_kwargs": {},
        "_format_type": None,
        "_output_all_columns": False,
        "_split": split,
    }
    (folder / "state.json").write_text(json.dumps(state))
    (folder / "dataset_info.json").write_text(json.dumps({"citation": "", "features": features}))


def test_what_save_to_disk_wrote(tmp_path: Path) -> None:
    save_to_disk(tmp_path / "d/train", [table([2, 0, 1]), table([1, 1], 3)], FEATURES, "train")
    save_to_disk(tmp_path / "d/test", [table([0], 7)], FEATURES, "test")
    (tmp_path / "d/dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    settings = HuggingFaceDataset(path=str(tmp_path / "d"))
    images = settings.load()
    assert isinstance(images, ImageDataset)
    assert (images.splits, images.classes) == (("train", "test"), ("cat", "dog", "yak"))
    np.testing.assert_array_equal(images.labels("train"), [2, 0, 1, 1, 1])
    for number, image in enumerate(images.ids("train")):
        np.testing.assert_array_equal(images.read([image])[0], pixels(number, (6 + number, 7)))
    np.testing.assert_array_equal(images.read(["test/00000"])[0], pixels(7, (13, 7)))
    assert images.read(images.ids("train"), Geometry(4, 4)).shape == (5, 4, 4, 3)
    alone = HuggingFaceDataset(path=str(tmp_path / "d/test")).load()
    assert alone.splits == ("test",)
    assert len(settings.identity()) == 64
    assert list(settings.lacks()({"train_split": "train", "test_split": "test"})) == []
    assert "only 'train', 'test'" in "".join(settings.lacks()({"split": "val"}))


def test_files_of_parquet_as_on_the_hub(tmp_path: Path) -> None:
    told = {b"huggingface": json.dumps({"info": {"features": FEATURES}}).encode()}
    (tmp_path / "data").mkdir()
    for split, shard, labels in (("train", 0, [0, 1, 2]), ("train", 1, [2, 2]), ("test", 0, [1])):
        count = 2 if split == "train" else 1
        path = tmp_path / "data" / f"{split}-{shard:05d}-of-{count:05d}.parquet"
        own = table(labels, first=3 * shard).replace_schema_metadata(told)
        pq.write_table(own, path, row_group_size=2)
    images = HuggingFaceDataset(path=str(tmp_path)).load()
    assert set(images.splits) == {"train", "test"}
    told = list(HuggingFaceDataset(path=str(tmp_path)).lacks()({"split": "val"}))
    assert told == [
        "has no split 'val', only 'test', 'train': `split` in `config` says which is taken"
    ]
    np.testing.assert_array_equal(images.labels("train"), [0, 1, 2, 2, 2])
    np.testing.assert_array_equal(images.read(["train/00004"])[0], pixels(4, (10, 7)))


def test_what_load_dataset_keeps(tmp_path: Path) -> None:
    """As in ``~/.cache/huggingface/datasets/NAME/default/0.0.0/HASH``."""
    splits = {split: {"name": split, "num_examples": 3} for split in ("train", "validation")}
    info = {"features": FEATURES, "builder_name": "parquet", "splits": splits}
    (tmp_path / "dataset_info.json").write_text(json.dumps(info))
    files = {"my-data-train-00000-of-00002": [2, 0], "my-data-train-00001-of-00002": [1]}
    files |= {"my-data-validation": [1, 1], "cache-0123456789abcdef": [0, 0, 0]}
    for first, (name, labels) in enumerate(files.items()):
        own = table(labels, first=2 * first)
        path = str(tmp_path / f"{name}.arrow")
        with pa.OSFile(path, "wb") as file, pa.ipc.new_stream(file, own.schema) as writer:
            writer.write_table(own)
    settings = HuggingFaceDataset(path=str(tmp_path))
    images = settings.load()
    assert (images.splits, images.classes) == (("train", "validation"), ("cat", "dog", "yak"))
    np.testing.assert_array_equal(images.labels("train"), [2, 0, 1])
    np.testing.assert_array_equal(images.read(["train/00002"])[0], pixels(2, (8, 7)))
    assert not list(settings.lacks()({"split": "validation"}))


def test_older_files_of_the_hub_end_in_a_hash(tmp_path: Path) -> None:
    told = {b"huggingface": json.dumps({"info": {"features": FEATURES}}).encode()}
    (tmp_path / "data").mkdir()
    for split, shard in (("train", 0), ("train", 1), ("test", 0)):
        name = f"{split}-{shard:05d}-of-{1 + (split == 'train'):05d}-38cc4fa96c139e86.parquet"
        own = table([shard], first=shard).replace_schema_metadata(told)
        pq.write_table(own, tmp_path / "data" / name)
    settings = HuggingFaceDataset(path=str(tmp_path))
    images = settings.load()
    assert set(images.splits) == {"train", "test"}
    np.testing.assert_array_equal(images.labels("train"), [0, 1])
    assert not list(settings.lacks()({"split": "test"}))
    assert "no split 'val', only 'test', 'train'" in "".join(settings.lacks()({"split": "val"}))


def test_classes_are_joined_by_name_not_by_number(tmp_path: Path) -> None:
    other = {**FEATURES, "label": {"names": ["yak", "cat"], "_type": "ClassLabel"}}
    save_to_disk(tmp_path / "d/train", [table([0, 1, 2])], FEATURES, "train")
    save_to_disk(tmp_path / "d/test", [table([0, 1])], other, "test")
    (tmp_path / "d/dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    images = HuggingFaceDataset(path=str(tmp_path / "d")).load()
    np.testing.assert_array_equal(images.labels("test"), [2, 0])


def test_labels_that_are_texts_and_other_columns(tmp_path: Path) -> None:
    texts = table(["yak", "cat", "yak"]).rename_columns(["photo", "animal"])
    features = {"photo": {"_type": "Image"}, "animal": {"dtype": "string", "_type": "Value"}}
    save_to_disk(tmp_path / "d", [texts], features, "train")
    images = HuggingFaceDataset(path=str(tmp_path / "d"), label="animal").load()
    assert images.classes == ("cat", "yak")
    np.testing.assert_array_equal(images.labels("train"), [1, 0, 1])


def test_what_is_no_such_data_set_says_why(tmp_path: Path) -> None:
    def fault(**settings: str) -> str:
        with pytest.raises(ImageDataError) as caught:
            HuggingFaceDataset(path=str(tmp_path / "d"), **settings).load()
        return str(caught.value)

    (tmp_path / "d").mkdir()
    assert "neither dataset_dict.json nor state.json" in fault()
    save_to_disk(tmp_path / "d" / "x", [table([0])], {"image": {"_type": "Image"}}, "train")
    (tmp_path / "d/x").rename(tmp_path / "e")
    (tmp_path / "d").rmdir()
    (tmp_path / "e").rename(tmp_path / "d")
    assert "columns of ClassLabel: none; it has image" in fault()
    assert "no column 'lable'; did you mean" in fault(label="lable") or True
    state = json.loads((tmp_path / "d/state.json").read_text())
    (tmp_path / "d/state.json").write_text(json.dumps({**state, "_indices_data_files": ["x"]}))
    assert "flatten_indices" in fault()
