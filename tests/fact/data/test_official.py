"""ImageNet, Places365 and CUB from small files of exactly the official formats."""

from __future__ import annotations

import pickle
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.datasets import imagenet as torchvision_imagenet

from fact.data.cub import CUB
from fact.data.folder import ImageFolder
from fact.data.images import ImageDataError, ImageDataset
from fact.data.lists import kit_classes, listed_classes, read_list
from fact.data.official import ImageNet, Places365
from fact.data.vocabulary import read_names, wordnet_numbers
from tests.fact.data.official_files import (
    BIRDS,
    GOLDFISH,
    JAY,
    TENCH,
    TRUTH,
    bird_attributes,
    categories,
    picture,
    write_attributes,
    write_cub,
    write_imagenet,
    write_kit,
    write_places,
)

NAMES = {TENCH: "tench", GOLDFISH: "goldfish", JAY: "jay"}
EXPECTED = ["tench", "jay", "goldfish", "tench"]


def shown(images: ImageDataset, split: str) -> dict[str, str]:
    """Return the class's name of each image, by the file's name."""
    labels = images.labels(split).tolist()
    return {
        str(image).rpartition("/")[2].partition(".")[0][-8:]: images.classes[label]
        for image, label in zip(images.ids(split), labels, strict=True)
    }


# --- ImageNet -------------------------------------------------------------------------------


def test_wordnets_numbers_are_in_the_order_of_the_names() -> None:
    numbers, names = wordnet_numbers(), read_names("imagenet")
    assert len(set(numbers)) == 1000
    assert list(numbers) == sorted(numbers)
    known = {"n01440764": "tench", "n01614925": "bald eagle", "n07745940": "strawberry"}
    known |= {"n02110341": "Dalmatian", "n15075141": "toilet paper", "n01580077": "jay"}
    assert {number: names[numbers.index(number)] for number in known} == known


def lists(root: Path) -> dict[str, str]:
    """Write each kind of list of validation images; return what `list` is, "" where it is found."""
    index = {wordnet: number for number, wordnet in enumerate(wordnet_numbers())}
    order = [{1: JAY, 2: TENCH, 3: GOLDFISH}[number] for number in TRUTH]
    names = [f"ILSVRC2012_val_{number:08d}" for number in range(1, 5)]
    pairs = list(zip(names, order, strict=True))
    texts = {
        "numbers.txt": "".join(f"{name}.JPEG {index[w]}\n" for name, w in pairs),
        "wordnet.txt": "".join(f"{name}.JPEG {w}\n" for name, w in pairs),
        "LOC_val_solution.csv": "ImageId,PredictionString\n"
        + "".join(f"{name},{w} 85 1 499 272 {w} 1 2 3 4 \n" for name, w in pairs[::-1]),
        "synset_labels.txt": "".join(f"{w}\n" for w in order),
    }
    for name, text in texts.items():
        (root / name).write_text(text)
    return {name: str(root / name) for name in texts}


def test_every_list_of_flat_validation_images_says_the_same(tmp_path: Path) -> None:
    write_imagenet(tmp_path)
    truth = write_kit(tmp_path)
    expected = dict(zip([f"{n:08d}" for n in range(1, 5)], EXPECTED, strict=True))
    found = ImageNet(root=str(tmp_path)).load()  # finds the development kit by itself
    assert isinstance(found, ImageDataset)
    assert found.splits == ("train", "val")
    assert found.classes == ("tench", "goldfish", "jay")  # in the order of ImageNet
    assert shown(found, "val") == expected
    for path in (str(truth), *lists(tmp_path).values()):
        assert shown(ImageNet(root=str(tmp_path), list=path).load(), "val") == expected, path


def test_the_kit_means_what_torchvision_reads_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    truth = write_kit(tmp_path)
    with tarfile.open(tmp_path / "ILSVRC2012_devkit_t12.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "ILSVRC2012_devkit_t12", "ILSVRC2012_devkit_t12")
    monkeypatch.setattr(torchvision_imagenet, "_verify_archive", lambda *_: None)
    torchvision_imagenet.parse_devkit_archive(str(tmp_path))
    _, expected = torch.load(tmp_path / "meta.bin", weights_only=True)
    names = [f"ILSVRC2012_val_{number:08d}.JPEG" for number in range(1, 5)]
    assert list(read_list(truth, names).values()) == expected


def test_images_and_superclasses(tmp_path: Path) -> None:
    write_imagenet(tmp_path / "a", "ILSVRC2012_img_val", "ILSVRC2012_img_train")
    write_imagenet(tmp_path / "b")
    write_kit(tmp_path)  # beside the folders
    settings = [ImageNet(root=str(tmp_path / name), groups=True) for name in "ab"]
    images, other = (own.load() for own in settings)
    assert images.ids("train")[0] == f"train/{TENCH}/{TENCH}_10.JPEG"
    assert images.ids("val")[0] == "val/ILSVRC2012_val_00000001.JPEG"
    assert settings[0].identity() == settings[1].identity()
    for split in images.splits:
        np.testing.assert_array_equal(images.ids(split), other.ids(split))
    pixels = picture(tmp_path / "x.png", 3)
    np.testing.assert_array_equal(images.read(["val/ILSVRC2012_val_00000003.JPEG"])[0], pixels)
    labels = images.concepts("val").sel(label=["class:jay", "group:fish", "group:bird"])
    expected = [[0, 1, 0], [1, 0, 1], [0, 1, 0], [0, 1, 0]]
    np.testing.assert_array_equal(labels.sortby("image").values, expected)
    assert len(images.sizes(images.ids("val"))) == 4


def test_only_the_splits_that_are_used_need_to_be_there(tmp_path: Path) -> None:
    write_imagenet(tmp_path)
    write_kit(tmp_path)
    whole = ImageNet(root=str(tmp_path), splits=("val",)).identity()
    shutil.rmtree(tmp_path / "train")
    settings = ImageNet(root=str(tmp_path), splits=("val",))
    assert settings.identity() == whole
    assert settings.load().splits == ("val",)
    assert list(settings.lacks()({"split": "val", "resize": 8, "crop": 8})) == []
    assert "no split 'test', only 'val'" in "".join(settings.lacks()({"split": "test"}))
    assert 'splits = ["val"] leaves it out' in "".join(ImageNet(root=str(tmp_path)).lacks()({}))
    with pytest.raises(ImageDataError, match=r"no folder train or .* splits = \["):
        ImageNet(root=str(tmp_path)).load()


def test_validation_images_in_folders_need_no_list(tmp_path: Path) -> None:
    for number, wordnet in enumerate((TENCH, JAY)):
        picture(tmp_path / "val" / wordnet / f"ILSVRC2012_val_{number:08d}.JPEG")
    images = ImageNet(root=str(tmp_path), splits=("val",)).load()
    assert images.classes == ("tench", "jay")
    assert images.ids("val").tolist()[1] == f"val/{JAY}/ILSVRC2012_val_00000001.JPEG"
    # An ordinary folder of images has the names of those that are there, too.
    own = ImageFolder(str(tmp_path), names="imagenet").load()
    assert own.classes == ("tench", "jay")


def test_the_folder_of_a_single_split_may_be_named_itself(tmp_path: Path) -> None:
    """As `DATASET_ROOTS` of the paper's code names ImageNet's validation images."""
    write_imagenet(tmp_path)
    write_kit(tmp_path)
    named = ImageNet(root=str(tmp_path / "val"), splits=("val",))
    whole = ImageNet(root=str(tmp_path), splits=("val",))
    assert named.identity() == whole.identity()
    assert shown(named.load(), "val") == shown(whole.load(), "val")
    np.testing.assert_array_equal(named.load().ids("val"), whole.load().ids("val"))
    folders = ImageNet(root=str(tmp_path / "train"), splits=("val",)).load()
    assert folders.ids("val")[0] == f"val/{TENCH}/{TENCH}_10.JPEG"
    write_places(tmp_path)
    places = Places365(root=str(tmp_path / "val_256"), splits=("val",)).load()
    assert len(places.ids("val")) == 4


def test_folders_of_splits_may_be_called_otherwise(tmp_path: Path) -> None:
    """As the scripts of FaCT have them in ``val_categorized``, or by any name."""
    for number, wordnet in enumerate((TENCH, JAY)):
        picture(tmp_path / "train" / wordnet / f"{wordnet}_{number}.JPEG", number)
        picture(tmp_path / "val" / wordnet / f"ILSVRC2012_val_{number:08d}.JPEG", number)
    usual = ImageNet(root=str(tmp_path))
    identity, ids = usual.identity(), usual.load().ids("val").tolist()
    for name in ("val_categorized", "my/images"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / "val").rename(tmp_path / name)
        folders = {} if name == "val_categorized" else {"val": name}
        named = ImageNet(root=str(tmp_path), folders=folders)
        assert named.identity() == identity
        assert named.load().ids("val").tolist() == ids
        assert named.load().read(ids).shape == (2, 12, 16, 3)
        (tmp_path / name).rename(tmp_path / "val")
    with pytest.raises(
        ImageDataError, match=r"no folder vla; folders = \{ val = \"NAME\" \} names"
    ):
        ImageNet(root=str(tmp_path), folders={"val": "vla"}).load()
    for folders in ({"test": "val"}, {"val": "/val"}, {"val": "../val"}):
        with pytest.raises(ValueError, match="folders: "):
            ImageNet(root=str(tmp_path), folders=folders)


def test_what_is_wrong_with_imagenet_is_told(tmp_path: Path) -> None:
    write_imagenet(tmp_path)
    with pytest.raises(
        ImageDataError, match=r"flat, and there is no list .* put ILSVRC2012_devkit"
    ):
        ImageNet(root=str(tmp_path)).load()
    truth = write_kit(tmp_path)
    picture(tmp_path / "train" / "n00000001" / "a.JPEG")
    with pytest.raises(ImageDataError, match="1 image in folder 'n00000001'; expected one of its"):
        ImageNet(root=str(tmp_path)).load()
    shutil.rmtree(tmp_path / "train")
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / f"{TENCH}.tar").write_bytes(b"")
    with pytest.raises(ImageDataError, match="no images, but 1 archive: unpack each"):
        ImageNet(root=str(tmp_path)).load()
    picture(tmp_path / "val" / "beside.JPEG")
    with pytest.raises(ImageDataError, match=r"beside.JPEG' has no such number"):
        ImageNet(root=str(tmp_path), splits=("val",)).load()
    (tmp_path / "val" / "beside.JPEG").unlink()
    truth.with_name("meta.mat").write_bytes(b"no table")
    with pytest.raises(ImageDataError, match=r"meta.mat is no meta.mat of ImageNet's"):
        ImageNet(root=str(tmp_path), splits=("val",)).load()
    truth.with_name("meta.mat").unlink()
    with pytest.raises(ImageDataError, match=r"or meta.mat of ImageNet's development kit beside"):
        ImageNet(root=str(tmp_path), splits=("val",)).load()


def test_the_kit_counts_in_its_own_order(tmp_path: Path) -> None:
    truth = write_kit(tmp_path)
    assert kit_classes(truth.with_name("meta.mat")) == {"1": JAY, "2": TENCH, "3": GOLDFISH}
    names = [f"val/ILSVRC2012_val_{number:08d}.JPEG" for number in range(1, 5)]
    found = listed_classes(names, truth, [])
    assert found == {TENCH: [names[0], names[3]], JAY: [names[1]], GOLDFISH: [names[2]]}


# --- Places365 ------------------------------------------------------------------------------


def test_places_is_what_its_lists_say(tmp_path: Path) -> None:
    write_places(tmp_path)
    images = Places365(root=str(tmp_path)).load()
    assert images.classes == ("airfield", "apartment building, outdoor", "zen garden")
    outdoor = "apartment building, outdoor"
    expected = [outdoor, "airfield", "zen garden", outdoor]
    assert list(shown(images, "val").values()) == sorted(expected)
    at = dict(zip(images.ids("val").tolist(), images.labels("val").tolist(), strict=True))
    assert at["val/Places365_val_00000004.jpg"] == 1
    assert images.ids("train")[2] == "train/a/apartment_building/outdoor/00000001.jpg"
    np.testing.assert_array_equal(images.labels("train"), [0, 0, 1, 1, 2, 2])
    assert set(images.classes) <= set(read_names("places365"))


def test_places_in_folders_of_classes(tmp_path: Path) -> None:
    for name in ("airfield", "apartment_building-outdoor"):  # as its archive for easy reading
        picture(tmp_path / "val" / name / "Places365_val_00000435.jpg")
    images = Places365(root=str(tmp_path), splits=("val",)).load()
    assert images.classes == ("airfield", "apartment building, outdoor")


def test_categories_in_another_order_are_refused(tmp_path: Path) -> None:
    write_places(tmp_path)
    lines = categories().splitlines()
    lines[0], lines[1] = "/a/airplane_cabin 0", "/a/airfield 1"
    (tmp_path / "categories_places365.txt").write_text("\n".join(lines))
    with pytest.raises(ImageDataError, match="category 0 is '/a/airplane_cabin'; expected 'airfi"):
        Places365(root=str(tmp_path)).load()


# --- CUB ------------------------------------------------------------------------------------


@pytest.fixture
def birds(tmp_path: Path) -> Path:
    write_cub(tmp_path)
    return tmp_path


def test_birds_have_their_official_splits_and_attributes(birds: Path) -> None:
    images = CUB(root=str(birds)).load()
    assert isinstance(images, ImageDataset)
    assert images.splits == ("train", "test")
    told = "".join(CUB(root=str(birds)).lacks()({"split": "val"}))
    assert told.startswith("has no split 'val', only 'train', 'test'")
    expected = ("Black footed Albatross", "Laysan Albatross", "Sooty Albatross")
    assert images.classes == expected
    ids = images.ids("test").tolist()
    assert ids[0] == f"test/{BIRDS[0]}/Black_footed_Albatross_0001_2.jpg"
    assert len(ids) == 6
    np.testing.assert_array_equal(images.labels("test"), [0, 0, 1, 1, 2, 2])
    table = images.concepts("test")
    names = table["label"].values.tolist()
    assert names[2:5] == [f"class:{expected[2]}", *images.attribute_names[:2]]
    assert names[3] == "has_part_1::value_(of_1)"
    numbers = np.array([int(name.rpartition("_")[2].partition(".")[0]) for name in ids])
    present = (numbers[:, None] + np.arange(1, 6)) % 3 == 0
    np.testing.assert_array_equal(table.values[:, 3:], present)
    pixels = picture(birds / "x.png", 2, (31, 40))
    np.testing.assert_array_equal(images.read(ids[:1])[0], pixels)


def test_attributes_of_pickles_are_those_of_the_birds(birds: Path) -> None:
    folder = write_attributes(birds)
    settings = CUB(root=str(birds / "CUB_200_2011"), attributes=str(folder))
    images = settings.load()
    assert images.splits == ("train", "val", "test")
    assert [len(images.ids(split)) for split in images.splits] == [3, 3, 6]
    table = images.concepts("test")
    assert table["label"].values.tolist()[3:] == list(read_names("cub-attributes"))
    expected = [bird_attributes(label) for label in (0, 0, 1, 1, 2, 2)]
    np.testing.assert_array_equal(table.values[:, 3:], np.array(expected, bool))
    official = CUB(root=str(birds)).load()
    np.testing.assert_array_equal(images.ids("test"), official.ids("test"))
    (folder / "train.pkl").unlink()
    (folder / "val.pkl").unlink()
    assert settings.load().splits == ("test",)
    assert settings.identity() != CUB(root=str(birds)).identity()


def test_a_plan_knows_the_splits_of_birds_and_reads_no_pickle(birds: Path) -> None:
    folder = write_attributes(birds)
    settings = CUB(root=str(birds), attributes=str(folder))
    for path in folder.glob("*.pkl"):
        path.write_bytes(b"read by nobody")
    assert list(settings.lacks()({"split": "val", "resize": 8, "crop": 8})) == []
    assert "images of" in "".join(settings.lacks()({"split": "val", "resize": None, "crop": None}))
    (absent,) = settings.lacks()({"split": "all"})
    assert "only 'train', 'val', 'test'" in absent
    (folder / "val.pkl").unlink()
    assert "no split 'val'" in "".join(settings.lacks()({"split": "val"}))
    assert "only 'train', 'test'" in "".join(CUB(root=str(birds)).lacks()({"split": "val"}))


def test_attributes_are_held_against_the_official_names(birds: Path) -> None:
    folder = write_attributes(birds)
    settings = CUB(root=str(birds), attributes=str(folder))
    assert len(settings.load().attribute_names) == 112
    lines = (birds / "attributes.txt").read_text().splitlines(keepends=True)
    (birds / "attributes.txt").write_text("".join(lines[:100]))
    with pytest.raises(ImageDataError, match="has no 'has_"):
        settings.load()
    (birds / "attributes.txt").write_text("".join(lines[::-1]))
    with pytest.raises(ImageDataError, match="in another order than the list"):
        settings.load()


def changed(folder: Path, change: object) -> None:
    path = folder / "test.pkl"
    records = pickle.loads(path.read_bytes())
    change(records)  # type: ignore[operator]
    path.write_bytes(pickle.dumps(records, 3))


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda r: r[0].update(class_label=0), "has class 0, from 0; image_class_labels.txt has 3"),
        (lambda r: r[1].update(img_path="a/b/c.jpg"), "images.txt has no 'b/c.jpg'"),
        (lambda r: r[2]["attribute_label"].pop(), "111 attributes of 0 to 1; expected 112"),
        (lambda r: r[2].pop("attribute_label"), "has no 'attribute_label'"),
        (lambda r: r.append(r[0]), "occurs twice"),
        (lambda r: r.append(Path("x")), "it names pathlib"),
    ],
)
def test_pickles_that_contradict_the_lists_are_refused(
    birds: Path, change: object, fault: str
) -> None:
    folder = write_attributes(birds)
    changed(folder, change)
    with pytest.raises(ImageDataError, match=fault):
        CUB(root=str(birds), attributes=str(folder)).load()


def test_what_is_wrong_with_cub_is_told_together(birds: Path) -> None:
    folder = birds / "CUB_200_2011"
    (folder / "images" / BIRDS[1] / "Laysan_Albatross_0000_5.jpg").unlink()
    with pytest.raises(ImageDataError, match=r"1 of 12 photographs .* not in images, as 002"):
        CUB(root=str(birds)).load()
    classes = (folder / "classes.txt").read_text().splitlines()
    (folder / "classes.txt").write_text("\n".join([classes[0], "2 003.Sooty", "3 002.Laysan"]))
    with pytest.raises(
        ImageDataError, match=r"its class is 2, which classes.txt calls '003.Sooty'"
    ):
        CUB(root=str(birds)).load()
    (folder / "classes.txt").unlink()
    (folder / "train_test_split.txt").write_text("1 x\n")
    with pytest.raises(ImageDataError) as caught:
        CUB(root=str(birds)).load()
    assert "no file classes.txt" in str(caught.value)
    assert "train_test_split.txt: invalid literal" in str(caught.value)
    write_cub(birds / "again")
    values = birds / "again/CUB_200_2011/attributes/image_attribute_labels.txt"
    lines = values.read_text().splitlines(keepends=True)
    for text, fault in (("".join(lines[:9]), "has 9 values .* expected 60"), ("1 x\n", "be read")):
        values.write_text(text)
        with pytest.raises(ImageDataError, match=fault):
            CUB(root=str(birds / "again")).load().concepts("test")
