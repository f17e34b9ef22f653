"""Lists of the class of each image in a flat folder, as official validation sets have them."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath

from registry.suggest import nearest
from registry.wording import counted

_HEADS = {"imageid", "image", "image_id", "file", "filename", "path", "id", "name"}


META = "meta.mat"
"""The file of ImageNet's development kit that says which classes its numbers are."""

_NUMBERED = re.compile(r"_(\d+)$")


def read_list(path: Path, images: Iterable[str] = ()) -> dict[str, str]:
    """Return what each line of a list says: the image's name, as written, to its class.

    Parameters
    ----------
    path : Path
        A text file with a name and a class on each line, parted by blanks, a tab, or commas
        (``ILSVRC2012_val_00000001.JPEG 65``), where more may follow; a head is left out. Or with
        a class alone on each, of the image of that number from 1 (``ILSVRC2012_val_00000001`` has
        the first): WordNet's number, or one of ImageNet's development kit, whose ``meta.mat``
        then lies beside.
    images : iterable of str
        The images that are asked for, where the list has their classes by number.

    Raises
    ------
    ValueError
        If it cannot be read, or a line names no class, or another one for the same image.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"list {path}: cannot be read: {error}") from error
    found: dict[str, str] = {}
    rows = list(_rows(text))
    if rows and max(map(len, rows)) == 1 and _is_by_number(rows[0][0], path):
        return _by_number(path, [row[0] for row in rows], images)
    for number, cells in enumerate(rows, start=1):
        if len(cells) < 2:
            raise ValueError(
                f"list {path}, line {number}: {' '.join(cells)!r} names no class of an image; "
                f"expected an image and its class on each line, or {META} of ImageNet's "
                "development kit beside it"
            )
        if number == 1 and cells[0].lower() in _HEADS:
            continue
        if found.setdefault(cells[0], cells[1]) != cells[1]:
            raise ValueError(f"list {path}, line {number}: {cells[0]!r} occurs twice")
    return found


def _is_by_number(first: str, path: Path) -> bool:
    if first.isdecimal():
        return path.with_name(META).is_file()
    return re.fullmatch(r"n\d{8}", first) is not None


def _by_number(path: Path, labels: Sequence[str], images: Iterable[str]) -> dict[str, str]:
    """Return the class of each image whose name ends in its number."""
    classes = None if labels[0].startswith("n") else kit_classes(path.with_name(META))
    found = {}
    for image in images:
        number = _NUMBERED.search(_key(image))
        if number is None or not 1 <= int(number[1]) <= len(labels):
            raise ValueError(
                f"list {path} has {counted(len(labels), 'class')}, by the numbers of images, and "
                f"{image!r} "
                "has no such number; expected names as ILSVRC2012_val_00000001.JPEG"
            )
        label = labels[int(number[1]) - 1]
        if classes is not None and label not in classes:
            raise ValueError(f"list {path}: no class {label!r} in {META}")
        found[image] = classes[label] if classes else label
    return found


def kit_classes(path: Path) -> dict[str, str]:
    """Return the classes of ImageNet's development kit: their numbers there, to WordNet's.

    They count from 1, in another order than that of WordNet's numbers, which is that of logits.

    Parameters
    ----------
    path : Path
        ``ILSVRC2012_devkit_t12/data/meta.mat``.

    Raises
    ------
    ValueError
        If it cannot be read, or has no such table.
    """
    import numpy as np
    from scipy.io import loadmat  # heavy: a plan reads the kinds of data sets

    try:
        table = np.atleast_1d(loadmat(path, squeeze_me=True)["synsets"])
        numbers, names = table["ILSVRC2012_ID"].tolist(), table["WNID"].tolist()
        inner = table["num_children"].tolist()
    except Exception as error:  # scipy raises all kinds of errors for a file of another kind
        raise ValueError(f"{path} is no {META} of ImageNet's development kit: {error}") from error
    found = zip(numbers, names, inner, strict=True)
    return {str(int(number)): str(name) for number, name, children in found if int(children) == 0}


def _rows(text: str) -> Iterator[list[str]]:
    lines = [line for line in text.splitlines() if line.strip()]
    is_csv = bool(lines) and "," in lines[0]
    rows = csv.reader(lines) if is_csv else (line.split(None, 1) for line in lines)
    yield from ([cell.strip() for cell in row] for row in rows)


def listed_classes(
    paths: Iterable[str], source: Path, classes: Sequence[str]
) -> dict[str, list[str]]:
    """Return the images of a flat folder by class.

    Parameters
    ----------
    paths : iterable of str
        The images, relative to the root.
    source : Path
        The list, as `read_list` reads it. It names an image by path or by name, with or without
        the suffix, and a class by its folder's name or by its number among the sorted classes,
        from 0; what it names beside is of no matter.
    classes : sequence of str
        Sorted names of the classes that other splits have. Without any, the list's are taken.

    Raises
    ------
    ValueError
        With the first images that the list does not name, or the first class that is unknown.
    """
    paths = sorted(map(str, paths))
    written = read_list(source, paths)
    known = _Known(classes) if classes else None
    by_name = {_key(name): label for name, label in written.items()}
    if len(by_name) < len(written):
        raise ValueError(f"list {source}: images in several folders have the same name")
    found: dict[str, list[str]] = {}
    missing = []
    for path in paths:
        label = by_name.get(_key(path))
        if label is None:
            missing.append(path)
        else:
            found.setdefault(known.name(label, source) if known else label, []).append(path)
    if missing:
        raise ValueError(
            f"list {source} does not name {len(missing)} of the images, as {missing[0]!r}; "
            f"it has {next(iter(written), 'nothing')!r}"
        )
    return found


def _key(name: str) -> str:
    """Return the name of an image without folders and suffix."""
    return PurePosixPath(name.replace("\\", "/")).stem


class _Known:
    """Classes, by name and by number."""

    def __init__(self, classes: Sequence[str]):
        self.classes = classes
        self.names = set(classes)

    def name(self, label: str, source: Path) -> str:
        """Return the class that a list means; a ValueError if there is none."""
        first = label.split()[0] if label.split() else ""
        for text in (label, first):
            if text in self.names:
                return text
        if first.isdecimal() and int(first) < len(self.classes):
            return self.classes[int(first)]
        raise ValueError(f"list {source}: no class {label!r}{nearest(first, self.classes)}")
