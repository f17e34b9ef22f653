"""Folders of images: all kinds of pixels, all kinds of faults, the same order everywhere."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image
from torchvision.datasets import ImageFolder as TorchvisionFolder

from fact.data import folder as image_folder
from fact.data.decoding import decode, upright_size
from fact.data.folder import FolderImages, ImageFolder, divide, read_labels, scan_folder
from fact.data.images import Geometry, ImageDataError, ImageDataset


def paths_of(dataset):
    """Return the path of each image, by id."""
    return {image: dataset.path(image) for split in dataset.splits for image in dataset.ids(split)}


def open_folder(root: Path, **settings) -> FolderImages:
    paths = {key: str(v) if isinstance(v, Path) else v for key, v in settings.items()}
    return ImageFolder(str(root), **paths).load()


def colours(y=12, x=16, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (y, x, 3), dtype=np.uint8)


def save(path, pixels=None, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(colours())
    if isinstance(pixels, np.ndarray):
        image = Image.fromarray(pixels)
    image.save(path, **options)
    return path


def truncate(path, share=0.6):
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])


@pytest.fixture
def animals(tmp_path):
    """A folder without splits: five cats, four dogs."""
    root = tmp_path / "animals"
    for number in range(5):
        save(root / "cat" / f"{number}.png", colours(seed=number))
    for number in range(4):
        save(root / "dog" / f"{number}.png", colours(seed=10 + number))
    return root


@pytest.fixture
def parted(tmp_path):
    """A folder with the splits train and val."""
    root = tmp_path / "parted"
    for split in ("train", "val"):
        for name in ("cat", "dog"):
            for number in range(3):
                save(root / split / name / f"{number}.png", colours(seed=number))
    return root


# -- pixels ----------------------------------------------------------------------------------


def test_rgb_is_read_as_it_is(tmp_path):
    pixels = colours()
    np.testing.assert_array_equal(decode(save(tmp_path / "a.png", pixels)), pixels)


def test_jpeg_is_what_pillow_and_torchvision_read(tmp_path):
    path = save(tmp_path / "a.jpg", colours(40, 30), quality=80)
    np.testing.assert_array_equal(decode(path), np.asarray(Image.open(path).convert("RGB")))


def test_grey_becomes_three_equal_colours(tmp_path):
    grey = colours()[..., 0]
    np.testing.assert_array_equal(decode(save(tmp_path / "a.png", grey)), np.dstack([grey] * 3))
    bits = Image.fromarray(grey).convert("1")
    expected = np.dstack([np.asarray(bits) * 255] * 3)
    np.testing.assert_array_equal(decode(save(tmp_path / "b.png", bits)), expected)


def test_transparency_lies_over_white(tmp_path):
    pixels, alpha = colours(), np.linspace(0, 255, 192).astype(np.uint8).reshape(12, 16)
    got = decode(save(tmp_path / "a.png", np.dstack([pixels, alpha])))
    share = alpha[..., None] / 255
    np.testing.assert_allclose(got, pixels * share + 255 * (1 - share), atol=1)
    grey = decode(save(tmp_path / "b.png", Image.fromarray(np.dstack([pixels[..., 0], alpha]))))
    np.testing.assert_allclose(grey[..., 0], (pixels * share + 255 * (1 - share))[..., 0], atol=1)


def test_palettes_with_and_without_transparency(tmp_path):
    indices = np.arange(192, dtype=np.uint8).reshape(12, 16) % 4
    image = Image.fromarray(indices, mode="P")
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255, 9, 9, 9])
    table = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [9, 9, 9]], np.uint8)
    np.testing.assert_array_equal(decode(save(tmp_path / "a.png", image)), table[indices])
    table[3] = 255
    got = decode(save(tmp_path / "b.png", image, transparency=3))
    np.testing.assert_array_equal(got, table[indices])


def test_sixteen_bits_are_scaled_and_not_cut(tmp_path):
    deep = np.linspace(0, 65535, 192).astype(np.uint16).reshape(12, 16)
    expected = np.dstack([np.round(deep / 257)] * 3)
    for name in ("a.png", "b.tif"):
        np.testing.assert_array_equal(decode(save(tmp_path / name, deep)), expected)
    wide = Image.fromarray(deep.astype(np.int32))
    np.testing.assert_array_equal(decode(save(tmp_path / "c.tif", wide)), expected)


def test_floating_point_is_scaled_and_its_range_checked(tmp_path):
    unit = np.linspace(0, 1, 192, dtype=np.float32).reshape(12, 16)
    got = decode(save(tmp_path / "a.tif", unit))
    np.testing.assert_array_equal(got[..., 0], np.floor(unit * 255 + 0.5))
    with pytest.raises(ValueError, match=r"grey values of 0.0 to 40.0; expected 0 to 1"):
        decode(save(tmp_path / "b.tif", 40 * unit))
    with pytest.raises(ValueError, match="expected 0 to 1"):
        decode(save(tmp_path / "c.tif", np.full((4, 4), np.nan, np.float32)))


def test_cmyk_is_converted(tmp_path):
    path = save(tmp_path / "a.jpg", Image.fromarray(colours(24, 24)).convert("CMYK"), quality=95)
    assert Image.open(path).mode == "CMYK"
    expected = np.asarray(Image.open(path).convert("RGB"))
    np.testing.assert_array_equal(decode(path), expected)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_turns_images_upright(tmp_path, orientation):
    pixels = colours()
    turns = {
        1: lambda a: a,
        2: np.fliplr,
        3: lambda a: np.rot90(a, 2),
        4: np.flipud,
        5: lambda a: np.swapaxes(a, 0, 1),
        6: lambda a: np.rot90(a, -1),
        7: lambda a: np.rot90(np.swapaxes(a, 0, 1), 2),
        8: np.rot90,
    }
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    path = save(tmp_path / "a.png", pixels, exif=exif)
    upright = turns[orientation](pixels)
    np.testing.assert_array_equal(decode(path), upright)
    assert upright_size(path) == upright.shape[:2]
    np.testing.assert_array_equal(decode(path, upright=False), pixels)
    assert upright_size(path, upright=False) == pixels.shape[:2]


def test_broken_files_say_how(tmp_path):
    cut = save(tmp_path / "cut.jpg", colours(60, 60))
    truncate(cut)
    with pytest.raises(ValueError, match="truncated"):
        decode(cut)
    (tmp_path / "empty.png").touch()
    with pytest.raises(ValueError, match="an empty file"):
        decode(tmp_path / "empty.png")
    (tmp_path / "text.jpg").write_text("not a picture")
    with pytest.raises(ValueError, match="not an image"):
        decode(tmp_path / "text.jpg")
    png = save(tmp_path / "cut.png", colours(60, 60))
    truncate(png)
    with pytest.raises(ValueError, match="cannot be decoded"):
        decode(png)


# -- what a folder holds ---------------------------------------------------------------------


def test_classes_are_those_of_torchvision(parted):
    dataset = open_folder(parted)
    assert isinstance(dataset, ImageDataset)
    assert dataset.splits == ("train", "val")
    for split in dataset.splits:
        expected = TorchvisionFolder(parted / split)
        assert list(dataset.classes) == expected.classes
        paths = [Path(path).relative_to(parted).as_posix() for path, _ in expected.samples]
        assert dataset.ids(split).tolist() == paths
        assert dataset.labels(split).tolist() == expected.targets
        pictures = dataset.read(dataset.ids(split))
        for got, (image, _) in zip(pictures, expected, strict=True):
            np.testing.assert_array_equal(got, np.asarray(image))


def test_a_split_without_one_of_the_classes_keeps_the_others_indices(parted):
    save(parted / "train" / "bird" / "0.png")
    dataset = open_folder(parted)
    assert dataset.classes == ("bird", "cat", "dog")
    assert dataset.labels("train").tolist() == [0, 1, 1, 1, 2, 2, 2]
    assert dataset.labels("val").tolist() == [1, 1, 1, 2, 2, 2]


def test_a_folder_without_splits_is_divided(animals):
    dataset = open_folder(animals, test_share=0.4)
    assert dataset.splits == ("train", "test")
    train, test = dataset.ids("train").tolist(), dataset.ids("test").tolist()
    assert dataset.labels("test").tolist() == [0, 0, 1, 1]
    assert all(name.startswith("train/") for name in train)
    files = {name.split("/", 1)[1] for name in train + test}
    assert files == {f"cat/{n}.png" for n in range(5)} | {f"dog/{n}.png" for n in range(4)}
    for image in train + test:
        expected = np.asarray(Image.open(animals / image.split("/", 1)[1]))
        np.testing.assert_array_equal(dataset.read([image])[0], expected)


def test_division_is_exact_seeded_and_keeps_both_parts():
    members = {"a": [f"a/{n}" for n in range(100)], "b": ["b/0"], "c": ["c/0", "c/1"]}
    first = divide(members, 0.25, seed=0)
    assert {name: len(paths) for name, paths in first["test"].items()} == {"a": 25, "b": 0, "c": 1}
    reordered = divide({"c": ["c/1", "c/0"], "a": members["a"][::-1]}, 0.25, seed=0)
    for name in ("a", "c"):
        assert set(reordered["test"][name]) == set(first["test"][name]), "order does not matter"
        assert sorted(first["train"][name] + first["test"][name]) == sorted(members[name])
    assert first["test"]["a"] != divide(members, 0.25, seed=1)["test"]["a"]
    fewer = divide({"a": members["a"]}, 0.25, seed=0)
    assert fewer["test"]["a"] == first["test"]["a"], "other classes do not matter"


@pytest.mark.slow
def test_order_is_by_name_and_the_same_in_another_process(animals):
    names = ["B.png", "a.png", "á.png", "10.png", "9.png"]
    for name in names:
        save(animals / "cat" / name)
    here = open_folder(animals, layout="classes")
    assert here.classes == ("cat", "dog")
    code = (
        "import sys, pathlib; from fact.data.folder import ImageFolder;"
        "d = ImageFolder(sys.argv[1], workers=3).load();"
        "sys.stdout.buffer.write('\\n'.join([*d.ids('train'), *d.ids('test')]).encode())"
    )
    for seed in ("0", "1"):
        run = subprocess.run(
            [sys.executable, "-c", code, str(animals)],
            capture_output=True,
            check=True,
            env={**os.environ, "PYTHONHASHSEED": seed},
        )
        there = run.stdout.decode().split("\n")
        assert there == [*here.ids("train"), *here.ids("test")]
    cats = [p.split("/")[-1] for p in here.ids("train") if "/cat/" in p]
    assert cats == sorted(cats)


def test_deeper_folders_belong_to_their_class(animals):
    save(animals / "cat" / "tabby" / "x.PNG")
    assert any(path.endswith("cat/tabby/x.PNG") for path in paths_of(open_folder(animals)).values())


def test_what_is_no_image_is_passed_over_and_listed(animals):
    for name in ("notes.txt", ".DS_Store", "cat/._0.png", "cat/labels.json"):
        (animals / name).write_text("x")
    (animals / ".git").mkdir()
    save(animals / "readme.png")
    dataset = open_folder(animals)
    assert dataset.ignored == (
        ".DS_Store",
        ".git",
        "cat/._0.png",
        "cat/labels.json",
        "notes.txt",
        "readme.png",
    )
    assert len(paths_of(dataset)) == 9


def test_links_are_followed_and_rings_are_not(animals, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    save(elsewhere / "more.png", colours(seed=99))
    (animals / "cat" / "linked").symlink_to(elsewhere)
    (animals / "emu").symlink_to(elsewhere)
    dataset = open_folder(animals)
    assert dataset.classes == ("cat", "dog", "emu")
    image = next(i for i, path in paths_of(dataset).items() if path == "cat/linked/more.png")
    np.testing.assert_array_equal(dataset.read([image])[0], colours(seed=99))
    (animals / "dog" / "again").symlink_to(animals)
    (animals / "up").symlink_to(animals)
    with pytest.raises(ImageDataError, match="is a link to a folder that it lies in") as error:
        open_folder(animals)
    assert {fault.split()[0] for fault in error.value.faults} == {"dog/again", "up"}


def test_layout_can_be_said(parted):
    as_classes = open_folder(parted, layout="classes")
    assert as_classes.classes == ("train", "val")
    assert as_classes.splits == ("train", "test")
    (parted / "val").rename(parted / "unseen")
    with pytest.raises(ImageDataError, match=r"'unseen' lies beside the split 'train'.*layout"):
        open_folder(parted)
    assert open_folder(parted, layout="splits").splits == ("train", "unseen")


# -- faults ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "fault"),
    [
        (lambda root: None, "there is no such folder"),
        (lambda root: root.write_text("x"), "it is not a folder"),
        (lambda root: root.mkdir(), "it holds no folders"),
        (lambda root: save(root / "a.png"), "it holds no folders; expected one for each class"),
        (lambda root: (root / "train").mkdir(parents=True), "split 'train' holds no folders"),
        (lambda root: (root / "cat").mkdir(parents=True), "class 'cat' has no images"),
    ],
)
def test_a_bad_folder_says_what_is_wrong(tmp_path, make, fault):
    make(tmp_path / "root")
    with pytest.raises(ImageDataError, match=fault):
        open_folder(tmp_path / "root")


def test_all_faults_of_a_folder_at_once(parted):
    (parted / "train" / "bird").mkdir()
    (parted / "val" / "emu").mkdir()
    (parted / "val" / "emu" / "notes.txt").write_text("x")
    (parted / "val" / "dog" / "gone.png").symlink_to(parted / "nowhere.png")
    with pytest.raises(ImageDataError) as caught:
        open_folder(parted)
    assert caught.value.faults == (
        "class 'train/bird' has no images",
        "val/dog/gone.png is a link to nothing",
        "class 'val/emu' has no images",
    )


def break_some(root):
    truncate(save(root / "train" / "cat" / "1.jpg", colours(60, 60)))
    (root / "train" / "dog" / "2.png").write_bytes(b"")
    (root / "val" / "dog" / "0.png").write_text("text")
    return {
        "train/cat/1.jpg": "truncated",
        "train/dog/2.png": "an empty file",
        "val/dog/0.png": "not an image",
    }


def test_one_broken_image_that_is_read_names_all_broken_ones(parted):
    broken = break_some(parted)
    dataset = open_folder(parted)
    dataset.read(["train/cat/0.png", "val/dog/1.png"])
    with pytest.raises(ImageDataError) as caught:
        dataset.read(["train/cat/0.png", "train/dog/2.png"])
    assert "on_error" in str(caught.value)
    for fault, (path, reason) in zip(caught.value.faults, broken.items(), strict=True):
        assert fault.startswith(path)
        assert reason in fault
    with pytest.raises(ImageDataError) as checked:
        dataset.check()
    assert checked.value.faults == caught.value.faults


def test_a_large_folder_is_not_searched_because_one_image_is_broken(parted, monkeypatch):
    break_some(parted)
    monkeypatch.setattr(image_folder, "CHECKED_AT_ONCE", 3)
    with pytest.raises(ImageDataError) as caught:
        open_folder(parted).read(["train/cat/0.png", "train/dog/2.png"])
    assert caught.value.faults == ("train/dog/2.png: an empty file",)


def test_broken_images_can_be_left_out(parted):
    broken = break_some(parted)
    dataset = open_folder(parted, on_error="skip")
    assert list(dataset.skipped) == list(broken)
    for path, reason in broken.items():
        assert reason in dataset.skipped[path]
    assert dataset.ids("val").tolist() == [
        *(f"val/cat/{n}.png" for n in range(3)),
        "val/dog/1.png",
        "val/dog/2.png",
    ]
    assert dataset.labels("val").tolist() == [0, 0, 0, 1, 1]
    for split in dataset.splits:
        dataset.read(dataset.ids(split))
    with pytest.raises(KeyError, match=r"no image 'val/dog/0\.png'"):
        dataset.read(["val/dog/0.png"])


def test_a_class_of_broken_images_cannot_be_left_out(animals):
    for path in (animals / "dog").iterdir():
        path.write_bytes(b"")
    with pytest.raises(ImageDataError, match="class 'dog' has no image that is not broken"):
        open_folder(animals, on_error="skip")


def test_images_of_many_kinds_are_read_together(tmp_path):
    root = tmp_path / "root"
    save(root / "a" / "grey.png", colours(30, 20)[..., 0])
    save(root / "a" / "rgba.png", np.dstack([colours(25, 25), colours(25, 25)[..., 0]]))
    save(root / "a" / "large.jpg", colours(300, 200))
    save(root / "b" / "deep.png", np.zeros((18, 40), np.uint16))
    save(root / "b" / "anim.gif", Image.fromarray(colours()), save_all=True)
    dataset = open_folder(root, test_share=0.3, workers=2)
    every = [*dataset.ids("train"), *dataset.ids("test")]
    with pytest.raises(ValueError, match="sizes"):
        dataset.read(every)
    geometry = Geometry(20, 16)
    pictures = dataset.read(every, geometry)
    assert pictures.shape == (5, 16, 16, 3)
    for image, got in zip(every, pictures, strict=True):
        np.testing.assert_array_equal(got, geometry.apply(decode(root / dataset.path(image))))


# -- labels and masks ------------------------------------------------------------------------


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def test_labels_of_a_table_stand_after_the_classes(animals, tmp_path):
    lines = [f"cat/{n}.png,1,{n % 2}" for n in range(5)] + [f"dog/{n}.png,0,1" for n in range(4)]
    table = write(tmp_path / "labels.csv", "\n".join(["image,fur:soft,tail", *lines]))
    dataset = open_folder(animals, labels=table)
    concepts = dataset.concepts("train")
    assert concepts.dtype == bool
    assert concepts["label"].values.tolist() == ["class:cat", "class:dog", "fur:soft", "tail"]
    for image in dataset.ids("train"):
        number, cat = int(image.split("/")[-1][0]), "/cat/" in image
        expected = [cat, not cat, cat, number % 2 == 1 if cat else True]
        assert concepts.sel(image=image).values.tolist() == expected


def test_probabilities_are_kept(animals, tmp_path):
    lines = [f"{name}/{n}.png,0.25" for name, m in (("cat", 5), ("dog", 4)) for n in range(m)]
    table = write(tmp_path / "labels.csv", "\n".join(["image,soft", *lines]))
    concepts = open_folder(animals, labels=table).concepts("test")
    assert concepts.dtype == np.float32
    assert (concepts.sel(label="soft") == 0.25).all()
    assert set(np.unique(concepts.sel(label=["class:cat", "class:dog"]))) == {0, 1}


def test_a_split_without_labels_has_its_classes(parted, tmp_path):
    lines = [f"val/{name}/{n}.png,1" for name in ("cat", "dog") for n in range(3)]
    table = write(tmp_path / "labels.csv", "\n".join(["image,x", *lines]))
    dataset = open_folder(parted, labels=table)
    assert dataset.concepts("train")["label"].values.tolist() == ["class:cat", "class:dog"]
    assert "x" in dataset.concepts("val")["label"].values
    half = write(tmp_path / "half.csv", "\n".join(["image,x", *lines[:-2]]))
    with pytest.raises(ImageDataError, match=r"split 'val': 2 faults\n  no line for val/dog/1.png"):
        open_folder(parted, labels=half).concepts("val")


def test_all_faults_of_a_table_at_once(tmp_path):
    table = write(
        tmp_path / "labels.csv",
        "image,soft\ncat/1.png,1\ncat/1.png,0\ncta/2.png,1\ncat/2.png,yes\n",
    )
    with pytest.raises(ImageDataError) as caught:
        read_labels(table, ["cat/1.png", "cat/2.png"])
    assert caught.value.faults == (
        "line 3: 'cat/1.png' occurs twice",
        "line 4: no image 'cta/2.png'; did you mean 'cat/2.png'?",
        "line 5: soft is 'yes'; expected 0, 1 or a number between",
    )
    for text, fault in (
        ("img,soft\n", "no column 'image'"),
        ("image\n", "no column of labels"),
        ("image,a,a\n", "column 'a' occurs twice"),
        ("image,class:cat\n", "classes come from folders"),
        ("image,group:pets\n", "groups from `groups`"),
    ):
        with pytest.raises(ImageDataError, match=fault):
            read_labels(write(tmp_path / "labels.csv", text), [])
    with pytest.raises(ImageDataError, match="cannot be read"):
        read_labels(tmp_path / "none.csv", [])


def test_classes_are_named_and_grouped(animals, tmp_path):
    names, groups = tmp_path / "names.txt", tmp_path / "groups.json"
    names.write_text("house cat\nhound\n")
    groups.write_text('{"pets": ["house cat", 1], "dogs": ["hound"]}')
    dataset = open_folder(animals, test_share=0.4, names=str(names), groups=str(groups))
    assert dataset.classes == ("house cat", "hound")
    assert dataset.groups == {"pets": ("house cat", "hound"), "dogs": ("hound",)}
    concepts = dataset.concepts("test")
    is_dog = np.char.startswith(dataset.ids("test"), "test/dog/")
    expected = {
        "class:house cat": ~is_dog,
        "class:hound": is_dog,
        "group:pets": np.ones_like(is_dog),
        "group:dogs": is_dog,
    }
    assert concepts["label"].values.tolist() == list(expected)
    for name, column in expected.items():
        np.testing.assert_array_equal(concepts.sel(label=name), column)


def test_as_many_names_as_folders_are_needed(animals):
    with pytest.raises(ImageDataError, match="2 folders of classes, but 1,000 names in imagenet"):
        open_folder(animals, names="imagenet")


@pytest.mark.slow
def test_folders_by_wordnets_numbers_are_imagenet(tmp_path):
    for index in range(1000):
        save(tmp_path / "val" / f"n{index:08d}" / "a.png")
    dataset = open_folder(tmp_path, names="imagenet", groups="imagenet")
    assert dataset.classes[251] == "Dalmatian"
    dogs = dataset.concepts("val").sel(label="group:dog")
    assert dogs.values[151:269].all()
    assert dataset.concepts("val").sizes == {"image": 1000, "label": 1400}


def test_labels_and_masks_may_lie_in_the_folder(animals):
    write(animals / "labels.csv", "image,x\n")
    save(animals / "masks" / "ear" / "cat" / "0.png", np.zeros((12, 16), np.uint8))
    dataset = open_folder(animals, labels=animals / "labels.csv", masks=animals / "masks")
    assert dataset.classes == ("cat", "dog")
    assert dataset.ignored == ()


def test_masks_are_found_beside_their_images(animals, tmp_path):
    masks = tmp_path / "masks"
    ear = np.zeros((12, 16), np.uint8)
    ear[2:8, 4:12] = 255
    save(masks / "ear" / "cat" / "0.png", ear)
    save(masks / "tail" / "cat" / "0.png", 255 - ear)
    save(masks / "tail" / "dog" / "1.png", ear * 0)
    dataset = open_folder(animals, masks=masks)
    image = {path: name for name, path in paths_of(dataset).items()}
    ids = [image["cat/0.png"], image["dog/1.png"], image["cat/3.png"]]
    truth = dataset.masks(ids)
    assert truth["mask"].dims == ("image", "object", "y", "x")
    assert truth["label"].values.tolist() == ["ear", "tail"]
    np.testing.assert_array_equal(truth["mask"].values[0], [ear > 0, ear == 0])
    assert not truth["mask"].values[1:].any()
    np.testing.assert_array_equal(truth["carries"].values[0], np.eye(2))
    assert not truth["carries"].values[1:].any()
    save(masks / "cat" / "cat" / "0.png", ear)
    named = open_folder(animals, masks=masks).masks(ids)
    assert named["label"].values.tolist() == ["cat", "ear", "tail", "class:cat"]
    np.testing.assert_array_equal(named["carries"].sel(label="class:cat").values[0], [1, 0, 0])
    small = dataset.masks(ids, Geometry(6, 6))
    np.testing.assert_array_equal(small["mask"].values[0, 0], ear[::2, 2:14:2] > 0)
    assert open_folder(animals).masks(ids) is None


def test_masks_of_another_size_and_broken_ones_are_named(animals, tmp_path):
    masks = tmp_path / "masks"
    save(masks / "ear" / "cat" / "0.png", np.zeros((5, 5), np.uint8))
    (masks / "ear" / "cat" / "1.png").write_bytes(b"")
    dataset = open_folder(animals, masks=masks)
    with pytest.raises(ImageDataError) as caught:
        dataset.masks([*dataset.ids("train"), *dataset.ids("test")])
    both = sorted(caught.value.faults)
    assert "0.png: (5, 5) pixels (y, x); expected (12, 16)" in both[0]
    assert "1.png: an empty file" in both[1]
    with pytest.raises(ImageDataError, match="expected a folder in it for each label"):
        open_folder(animals, masks=tmp_path / "none")


def test_the_scan_alone_decodes_nothing(parted, monkeypatch):
    monkeypatch.setattr(Image, "open", lambda *_: pytest.fail("opened an image"))
    assert scan_folder(parted).faults == []


def content_of(image, **options):
    file = io.BytesIO()
    image.save(file, **options)
    return file.getvalue()


def test_from_memory_it_is_what_the_file_is(tmp_path):
    path = save(tmp_path / "a.png", np.dstack([colours(), colours()[..., 0]]))
    got = decode(io.BytesIO(path.read_bytes()), formats=("PNG",), most_pixels=1000)
    np.testing.assert_array_equal(got, decode(path))


def test_only_the_formats_that_are_named_are_tried():
    gif = content_of(Image.fromarray(colours()), format="GIF")
    with pytest.raises(ValueError, match="not an image in PNG or JPEG"):
        decode(io.BytesIO(gif), formats=("PNG", "JPEG"), most_pixels=1000)
    with pytest.raises(ValueError, match="an empty file"):
        decode(io.BytesIO(b""), formats=("PNG",), most_pixels=1000)


def test_too_many_pixels_are_refused_before_they_are_decoded(monkeypatch):
    content = content_of(Image.fromarray(colours(40, 30)), format="PNG")
    assert decode(io.BytesIO(content), formats=("PNG",), most_pixels=1200).shape == (40, 30, 3)
    monkeypatch.setattr(Image.Image, "load", lambda image: pytest.fail("decoded"))
    with pytest.raises(ValueError, match="30 x 40 pixels; at most 1,199 are read"):
        decode(io.BytesIO(content), formats=("PNG",), most_pixels=1199)
