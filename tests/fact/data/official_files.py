"""Small files of exactly the official formats: ImageNet, Places365, CUB."""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import savemat

from fact.data.vocabulary import read_names

TENCH, GOLDFISH, JAY = "n01440764", "n01443537", "n01580077"
SYNSETS = {  # the development kit counts in its own order, and has inner nodes behind the classes
    1: (JAY, "jay", 0),
    2: (TENCH, "tench, Tinca tinca", 0),
    3: (GOLDFISH, "goldfish, Carassius auratus", 0),
    1001: ("n02512053", "fish", 2),
}
TRUTH = [2, 1, 3, 2]
"""Of the four validation images: tench, jay, goldfish, tench."""


def picture(path: Path, seed: int = 0, size: tuple[int, int] = (12, 16)) -> np.ndarray:
    """Write an image that the suffix's format keeps as it is, or nearly."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, "PNG")  # whatever it is called, so that pixels stay
    return pixels


def write_kit(
    folder: Path,
    synsets: Mapping[int, tuple[str, str, int]] = SYNSETS,
    truth: Sequence[int] = TRUTH,
) -> Path:
    """Write ``ILSVRC2012_devkit_t12`` as MATLAB has it, and return its ground truth."""
    data = folder / "ILSVRC2012_devkit_t12" / "data"
    data.mkdir(parents=True)
    kinds = [("ILSVRC2012_ID", "f8"), ("WNID", "O"), ("words", "O"), ("gloss", "O")]
    kinds += [("num_children", "f8"), ("children", "O"), ("wordnet_height", "f8")]
    table = np.zeros((len(synsets), 1), [*kinds, ("num_train_images", "f8")])
    for row, (number, (wordnet, words, children)) in enumerate(synsets.items()):
        inner = np.array([[2, 3]], float) if children else np.zeros((1, 0))
        table[row, 0] = (number, wordnet, words, "a gloss", children, inner, 0, 1300)
    savemat(data / "meta.mat", {"synsets": table}, do_compression=True)
    listed = data / "ILSVRC2012_validation_ground_truth.txt"
    listed.write_text("".join(f"{number}\n" for number in truth))
    return listed


def write_imagenet(root: Path, val: str = "val", train: str = "train") -> None:
    """Write training folders and flat validation images."""
    for seed, wordnet in enumerate((TENCH, GOLDFISH, JAY)):
        for number in range(2):
            picture(root / train / wordnet / f"{wordnet}_{number + 10}.JPEG", seed)
    for number in range(1, len(TRUTH) + 1):
        picture(root / val / f"ILSVRC2012_val_{number:08d}.JPEG", number)


PLACES = {"airfield": 0, "apartment_building/outdoor": 8, "zen_garden": 364}


def categories() -> str:
    """Return the official list of categories: ``/a/airfield 0``, on 365 lines."""
    lines = []
    for number, name in enumerate(read_names("places365")):
        path = name.replace(", ", "/").replace(" ", "_")
        lines.append(f"/{path[0]}/{path} {number}\n")
    return "".join(lines)


def write_places(root: Path) -> None:
    """Write flat validation images with their lists, and training folders by letter."""
    for number, label in enumerate((8, 0, 364, 8), start=1):
        picture(root / "val_256" / f"Places365_val_{number:08d}.jpg", number)
        with (root / "places365_val.txt").open("a") as file:
            file.write(f"Places365_val_{number:08d}.jpg {label}\n")
    (root / "categories_places365.txt").write_text(categories())
    for name in PLACES:
        for number in (1, 2):
            picture(root / "data_256" / name[0] / name / f"{number:08d}.jpg", number)


BIRDS = ("001.Black_footed_Albatross", "002.Laysan_Albatross", "003.Sooty_Albatross")
HOUSE = "/juice/scr/CUB_supervision/datasets/CUB_200_2011/images/"
"""Where the photographs lay when the pickles were made."""


def write_cub(
    root: Path, n_each: int = 4, n_attributes: int = 5, size: tuple[int, int] = (30, 40)
) -> None:
    """Write ``CUB_200_2011`` beside ``attributes.txt``: every second photograph is of the test."""
    folder = root / "CUB_200_2011"
    lists: dict[str, list[str]] = {"images": [], "labels": [], "split": [], "values": []}
    number = 0
    for label, bird in enumerate(BIRDS, start=1):
        for index in range(n_each):
            number += 1
            name = f"{bird}/{bird[4:]}_{index:04d}_{number}.jpg"
            picture(folder / "images" / name, number, (size[0] + label, size[1]))
            lists["images"].append(f"{number} {name}")
            lists["labels"].append(f"{number} {label}")
            lists["split"].append(f"{number} {int(index % 2 == 0)}")
            for attribute in range(1, n_attributes + 1):
                present = int((number + attribute) % 3 == 0)
                more = " 0 4.36" if (number, attribute) == (2, 1) else ""  # as some lines have
                lists["values"].append(f"{number} {attribute} {present} 3 {2.5 + attribute}{more}")
    classes = [f"{label} {bird}" for label, bird in enumerate(BIRDS, start=1)]
    files = {"images.txt": lists["images"], "image_class_labels.txt": lists["labels"]}
    files |= {"train_test_split.txt": lists["split"], "classes.txt": classes}
    files["attributes/image_attribute_labels.txt"] = lists["values"]
    for name, lines in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("".join(f"{line}\n" for line in lines))
    names = [f"has_part_{i}::value_(of_{i})" for i in range(1, n_attributes + 1)]
    lines = [f"{i} {name}\n" for i, name in enumerate(names, start=1)]
    (root / "attributes.txt").write_text("".join(lines))


def bird_attributes(label: int, count: int = 112) -> np.ndarray:
    """Return the attributes of a bird, by its class from 0."""
    return (np.arange(count) % (label + 2) == 0).astype(np.int64)


def write_attributes(root: Path) -> Path:
    """Write ``class_attr_data_10`` for what `write_cub` wrote: pickles with NumPy's numbers.

    The training photographs are divided into ``train.pkl`` and ``val.pkl``.
    """
    folder = root / "CUB_processed" / "class_attr_data_10"
    folder.mkdir(parents=True)
    cub = root / "CUB_200_2011"
    split = dict(line.split() for line in (cub / "train_test_split.txt").read_text().splitlines())
    records: dict[str, list[dict[str, object]]] = {"train": [], "val": [], "test": []}
    for line in (cub / "images.txt").read_text().splitlines():
        number, path = line.split()
        label = BIRDS.index(path.partition("/")[0])
        is_test = split[number] == "0"
        name = "test" if is_test else ("val" if len(records["val"]) <= label else "train")
        record = {"id": int(number), "img_path": HOUSE + path, "class_label": label}
        record["attribute_label"] = list(bird_attributes(label))
        record["attribute_certainty"] = [3] * 312
        record["uncertain_attribute_label"] = [0.75] * 312
        records[name].append(record)
    names = [
        name for i, own in enumerate(read_names("cub-attributes")) for name in (f"has::{i}", own)
    ]
    lines = [f"{number} {name}\n" for number, name in enumerate(names, start=1)]
    (root / "attributes.txt").write_text("".join(lines))  # in whose order the 112 are
    for name, own in records.items():
        (folder / f"{name}.pkl").write_bytes(pickle.dumps(own[::-1], 3))  # in no order
    return folder
