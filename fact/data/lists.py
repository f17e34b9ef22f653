"""Lists of the class of each image in a flat folder, as official validation sets have them."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath

from registry.suggest import nearest

_HEADS = {"imageid", "image", "image_id", "file", "filename", "path", "id", "name"}


def read_list(path: Path) -> dict[str, str]:
    """Return what each line of a list says: the image's name, as written, to its class.

    Parameters
    ----------
    path : Path
        A text file with a name and a class on each line, parted by blanks, a tab, or commas
        (``ILSVRC2012_val_00000001.JPEG 65``), where more may follow; a head is left out.

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
    for number, cells in enumerate(_rows(text), start=1):
        if len(cells) < 2:
            raise ValueError(
                f"list {path}, line {number}: {' '.join(cells)!r} names no class of an image; "
                "expected an image and its class on each line"
            )
        if number == 1 and cells[0].lower() in _HEADS:
            continue
        if found.setdefault(cells[0], cells[1]) != cells[1]:
            raise ValueError(f"list {path}, line {number}: {cells[0]!r} occurs twice")
    return found


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
    written = read_list(source)
    known = _Known(classes) if classes else None
    by_name = {_key(name): label for name, label in written.items()}
    if len(by_name) < len(written):
        raise ValueError(f"list {source}: images in several folders have the same name")
    found: dict[str, list[str]] = {}
    missing = []
    for path in sorted(paths):
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
