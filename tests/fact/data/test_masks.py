"""Masks in the forms in which people have them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fact.data.checking import check_images
from fact.data.folder import ImageFolder
from fact.data.images import ImageDataError
from fact.data.masks import MaskError, open_masks

SIZE = (12, 16)
DISC = np.hypot(*(np.mgrid[:12, :16] - np.array([6, 7])[:, None, None])) < 4.2


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    root = tmp_path / "pictures"
    for path in ("cat/0.png", "cat/1.png", "dog/2.png", "dog/3.png"):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((*SIZE, 3), 90, np.uint8)).save(root / path)
    return root


def runs_of(mask: np.ndarray) -> list[int]:
    """Lengths of the runs of a mask, column by column, the first one of zeros: one at a time."""
    runs, value = [0], False
    for pixel in mask.T.ravel().tolist():
        if pixel == value:
            runs[-1] += 1
        else:
            runs.append(1)
            value = pixel
    return runs


def annotations(*found: dict[str, Any], **more: Any) -> dict[str, Any]:
    names = ("cat/0.png", "1.png", "2.png")
    return {
        "images": [
            {"id": 7 + i, "file_name": name, "height": 12, "width": 16}
            for i, name in enumerate(names)
        ],
        "categories": [{"id": 40, "name": "wheel"}, {"id": 3, "name": "dog"}],
        "annotations": [{"id": number, **each} for number, each in enumerate(found)],
        **more,
    }


def opened(root: Path, content: Any) -> Any:
    file = root.with_name("instances.json")
    file.write_text(json.dumps(content))
    return ImageFolder(str(root), masks=str(file)).load()


def test_annotations_of_coco_are_polygons_and_runs_of_pixels(pictures: Path) -> None:
    square = [2, 3, 10, 3, 10, 8, 2, 8]  # x, y of each corner
    part = [12, 0, 16, 0, 16, 12, 12, 12]
    crowd = {"counts": runs_of(DISC), "size": list(SIZE)}
    images = opened(
        pictures,
        annotations(
            {"image_id": 7, "category_id": 40, "segmentation": [square, part]},
            {"image_id": 7, "category_id": 3, "segmentation": crowd, "iscrowd": 1},
            {"image_id": 8, "category_id": 3, "segmentation": [part]},
            {"image_id": 8, "category_id": 3, "segmentation": crowd},
        ),
    )
    ids = sorted((str(i) for s in images.splits for i in images.ids(s)), key=lambda i: i[-5:])
    found = images.masks(ids)
    assert found["label"].values.tolist() == ["dog", "wheel", "class:dog"]
    expected = np.zeros((4, 2, *SIZE), bool)
    expected[0, 0] = DISC
    expected[0, 1, 3:8, 2:10] = expected[0, 1, :, 12:] = True
    expected[1, 0] = DISC
    expected[1, 0, :, 12:] = True
    np.testing.assert_array_equal(found["mask"].values, expected)
    carries = np.zeros((4, 2, 3), bool)
    carries[:2, 0, [0, 2]] = True  # a dog is of the class of that name too
    carries[0, 1, 1] = True
    np.testing.assert_array_equal(found["carries"].values, carries)


def test_what_is_wrong_with_annotations_is_said(pictures: Path) -> None:
    broken = {"image_id": 7, "category_id": 40, "segmentation": {"counts": [5], "size": [2, 2]}}
    images = opened(pictures, annotations(broken, {"image_id": 8, "category_id": 1}))
    every = [str(i) for s in images.splits for i in images.ids(s)]
    with pytest.raises(ImageDataError) as caught:
        images.masks(every)
    assert sum("annotation 0 cannot be read" in fault for fault in caught.value.faults) == 1
    assert sum("annotation 1 cannot be read" in fault for fault in caught.value.faults) == 1
    with pytest.raises(ImageDataError, match="no annotations of COCO's form: KeyError"):
        opened(pictures, {"images": []})
    other = annotations()
    other["images"][0]["width"] = 15
    with pytest.raises(ImageDataError, match=r"\(12, 15\) pixels \(y, x\); expected \(12, 16\)"):
        opened(pictures, other).masks(every)


def told(settings: ImageFolder) -> list[str]:
    """What `factbook data check` says of masks."""
    return [str(f) for f in check_images(settings) if "mask" in str(f)]


def test_masks_of_no_image_are_a_fault_whatever_their_form(pictures: Path, tmp_path: Path) -> None:
    maps, labels = tmp_path / "voc", tmp_path / "masks"
    for folder in (maps / "cat", labels / "wheel" / "cat"):
        folder.mkdir(parents=True)
        Image.fromarray(DISC.astype(np.uint8)).save(folder / "0.png")
    file = tmp_path / "other.json"
    part = [12, 0, 16, 0, 16, 12, 12, 12]
    found = annotations({"image_id": 7, "category_id": 40, "segmentation": [part]})
    file.write_text(json.dumps(found))
    good = {"1 of 4 images, 1 label": (labels, None), "1 of 4 images, 20 labels": (maps, "voc")}
    good["3 of 4 images, 2 labels"] = file, None  # of which two have no object
    for counts, (masks, names) in good.items():
        settings = ImageFolder(str(pictures), masks=str(masks), mask_names=names)
        assert told(settings) == [f"masks: {counts}"]
        assert not list(settings.lacks()({}))
    for number, image in enumerate(found["images"]):
        image["file_name"] = f"elsewhere-{number}.png"
    file.write_text(json.dumps(found))
    wrong = {"mask_names": (maps, None), "Leave mask_names": (labels, "voc"), "else": (file, None)}
    for hint, (masks, names) in wrong.items():
        settings = ImageFolder(str(pictures), masks=str(masks), mask_names=names)
        [fault] = told(settings)
        assert fault.startswith(f"no mask in {masks} is of any image; ")
        assert hint in fault
        assert list(settings.lacks()({})) == [fault]
        images = settings.load()
        with pytest.raises(ImageDataError, match="is of any image"):
            images.masks(images.ids("test"))


def test_masks_that_cannot_be_used_are_told_by_a_check(pictures: Path, tmp_path: Path) -> None:
    folder = tmp_path / "masks" / "wheel" / "cat"
    folder.mkdir(parents=True)
    Image.fromarray(DISC[:5]).save(folder / "0.png")
    settings = ImageFolder(str(pictures), masks=str(tmp_path / "masks"))
    assert "(5, 16) pixels (y, x); expected (12, 16)" in told(settings)[0]
    Image.fromarray(np.zeros(SIZE, np.uint8)).save(folder / "0.png")
    assert told(settings)[0].startswith("masks of 1 image that were looked at are all empty")


def test_maps_of_labels_are_those_of_voc_or_of_a_list(pictures: Path, tmp_path: Path) -> None:
    folder = tmp_path / "SegmentationClass"
    folder.mkdir()
    numbers = np.where(DISC, 8, 0).astype(np.uint8)  # a cat, before
    numbers[0] = 255  # a border
    numbers[-1] = 12  # a dog
    image = Image.fromarray(numbers).convert("P")
    image.putdata(numbers.ravel().tolist())
    image.save(folder / "0.png")
    images = ImageFolder(str(pictures), masks=str(folder), mask_names="voc").load()
    [first] = [str(i) for s in images.splits for i in images.ids(s) if str(i).endswith("0.png")]
    found = images.masks([first]).sel(image=first)
    assert found.sizes["object"] == 20
    shown = found["carries"].any("object")
    assert set(found["label"].values[shown.values]) == {"cat", "class:cat", "dog", "class:dog"}
    [cat] = np.flatnonzero(found["carries"].sel(label="cat").values)
    inside = DISC.copy()
    inside[[0, -1]] = False
    np.testing.assert_array_equal(found["mask"].values[cat], inside)
    own = tmp_path / "names.txt"
    own.write_text("sky\nbackground\n")
    files = open_masks(folder, str(own))
    assert files.names == ("sky",)
    [sky] = files.read("cat/0.png", SIZE)
    np.testing.assert_array_equal(sky, numbers == 0)
    [fault] = files.read("cat/0.png", (3, 3))
    assert "(12, 16) pixels (y, x); expected (3, 3)" in fault
    Image.fromarray(np.zeros((*SIZE, 3), np.uint8)).save(folder / "1.png")
    assert "expected one number for each" in str(files.read("1.png", SIZE)[0])


def test_other_names_of_the_numbers_are_another_identity(pictures: Path, tmp_path: Path) -> None:
    own = tmp_path / "names.txt"
    found = set()
    for text in ("sky\nsea", "sea\nsky"):
        own.write_text(text)
        settings = ImageFolder(str(pictures), masks=str(pictures), mask_names=str(own))
        found.add(settings.identity())
    found.add(ImageFolder(str(pictures), masks=str(pictures)).identity())
    assert len(found) == 3


def test_folders_that_are_not_there_are_named(tmp_path: Path) -> None:
    with pytest.raises(MaskError, match="expected a folder in it for each label"):
        open_masks(tmp_path / "none")
    with pytest.raises(MaskError, match="no such folder"):
        open_masks(tmp_path / "none", "voc")
