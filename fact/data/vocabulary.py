"""Names of classes and of groups of classes: lists that come along, or files of one's own.

The lists of ImageNet, Places365 and CUB, and the superclasses of ImageNet, are those on which
Oikarinen et al., "Evaluating Neuron Explanations", ICML 2025, arXiv 2506.05774, score
explanations; names that repeat are numbered.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path

from registry.suggest import nearest
from registry.wording import counted

LISTS = ("imagenet", "places365", "cub-attributes", "voc")
"""Lists of names that come along: 1,000 and 365 classes, 112 attributes, VOC's 20 and none."""

GROUPS = ("imagenet",)
"""Lists of names that come with groups: 400 superclasses."""

_NUMBER = re.compile(r" \(\d+\)$")
_FILES = files("fact.data") / "vocabularies"


class VocabularyError(ValueError):
    """Names or groups that are not there, or cannot be understood."""


def read_names(source: str) -> tuple[str, ...]:
    """Return names of classes in order of their indices, all different.

    Parameters
    ----------
    source : str
        One of `LISTS`, or the path of a text file in UTF-8 with a name on each line; ``~`` is
        expanded.

    Raises
    ------
    VocabularyError
        If there is no such list or file, or a line is empty.
    """
    return tuple(distinct(read_lines(source)))


def read_lines(source: str) -> list[str]:
    """Return the names of a list or a file as they stand there; errors as of `read_names`."""
    names = _stripped_lines(source)
    if not names or not all(names):
        where = f"line {names.index('') + 1}" if names else "it"
        raise VocabularyError(f"names {source}: {where} is empty; expected a name on each line")
    return names


def read_words(source: str) -> list[str]:
    """Return the words of a list or a file as they stand there, without empty lines.

    Raises
    ------
    VocabularyError
        If there is no such list or file, or no word in it.
    """
    words = [word for word in _stripped_lines(source) if word]
    if not words:
        raise VocabularyError(f"words {source}: it is empty; expected a word on each line")
    return words


def _stripped_lines(source: str) -> list[str]:
    if source in LISTS:
        text = (_FILES / f"{source}.txt").read_text(encoding="utf-8")
    else:
        text = _read_file(source, LISTS)
    return [line.strip() for line in text.splitlines()]


def wordnet_numbers() -> tuple[str, ...]:
    """Return WordNet's numbers of ImageNet's 1,000 classes, in the order of its names."""
    return tuple((_FILES / "imagenet-wordnet.txt").read_text(encoding="utf-8").split())


@cache
def wordnet_names() -> Mapping[str, str]:
    """Return the names of ImageNet's classes by WordNet's numbers, as their folders are called."""
    return dict(zip(wordnet_numbers(), read_names("imagenet"), strict=True))


def name_folders(folders: Sequence[str], source: str) -> tuple[str, ...]:
    """Return the names of classes by the names of their folders.

    Folders that are called as names are, but for case and punctuation, have those names, whatever
    their order, and so have those that are called by WordNet's numbers of ImageNet's classes.
    Where none is, they are in the order of the names; those called by numbers, in the order of the
    numbers.

    Parameters
    ----------
    folders : sequence of str
        Sorted.
    source : str
        As of `read_names`; or the path of a JSON file, ``{"n01440764": "tench", …}``, folder to
        name.

    Raises
    ------
    VocabularyError
        If there are not as many names as folders, or some folders are called as names at another
        position, and others as none.
    """
    if source not in LISTS and source.endswith(".json"):
        return _mapped(folders, source)
    names = read_names(source)
    numbered = wordnet_names() if source == "imagenet" else {}
    if folders and all(folder in numbered for folder in folders):
        return tuple(numbered[folder] for folder in folders)
    called = {plain(name): name for name in names}
    found = [called.get(plain(folder), "") for folder in folders]
    if all(found) and len(set(found)) == len(found):
        return tuple(found)
    if len(names) != len(folders):
        raise VocabularyError(
            f"{counted(len(folders), 'folder')} of classes, but {counted(len(names), 'name')} in "
            f"{source}"
        )
    if all(folder.isdecimal() for folder in folders):
        rank = sorted(range(len(folders)), key=lambda index: int(folders[index]))
        by_folder = dict(zip(rank, names, strict=True))
        return tuple(by_folder[index] for index in range(len(folders)))
    for folder, own, name in zip(folders, found, names, strict=True):
        if own not in ("", name):
            raise VocabularyError(
                f"folder {folder!r} is called as the name {own!r}, and stands where {source} has "
                f"{name!r}; expected folders called as the names, or a JSON file, "
                f'{{"{folder}": "{own}", …}}, as names'
            )
    return names


def plain(name: str) -> str:
    """Return the words of a name, without case and punctuation."""
    return " ".join(re.findall(r"\w+", name.casefold().replace("_", " ")))


def _mapped(folders: Sequence[str], source: str) -> tuple[str, ...]:
    try:
        names = json.loads(_read_file(source, LISTS))
    except json.JSONDecodeError as error:
        raise VocabularyError(f"names {source}: no JSON: {error}") from error
    if not isinstance(names, dict) or not all(isinstance(n, str) and n for n in names.values()):
        raise VocabularyError(f'names {source}: expected {{"folder": "name", …}}')
    missing = [folder for folder in folders if folder not in names]
    if missing:
        listed = ", ".join(map(repr, missing[:3]))
        raise VocabularyError(
            f"names {source}: no name of {counted(len(missing), 'folder')}: {listed}"
        )
    return tuple(distinct([names[folder] for folder in folders]))


def read_groups(source: str, classes: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Return groups of classes, by name, in the order of the file.

    Parameters
    ----------
    source : str
        One of `GROUPS`, or the path of a JSON file: name of a group to a list of its classes, by
        name or by index.
    classes : sequence of str
        Names of the classes. Of the groups that come along, members that are not among them are
        left out, and groups that are then empty.

    Raises
    ------
    VocabularyError
        If there is no such list or file, or it names a class that is not there; all are named.
    """
    if source in GROUPS:
        names, known = read_names(source), set(classes)
        text = (_FILES / f"{source}-superclasses.json").read_text(encoding="utf-8")
        every = {group: [names[index] for index in own] for group, own in json.loads(text).items()}
        kept = {group: tuple(n for n in own if n in known) for group, own in every.items()}
        return {group: members for group, members in kept.items() if members}
    try:
        groups = json.loads(_read_file(source, GROUPS))
    except json.JSONDecodeError as error:
        raise VocabularyError(f"groups {source}: no JSON: {error}") from error
    lists = groups.values() if isinstance(groups, dict) else [None]
    if not all(isinstance(members, list) and members for members in lists):
        raise VocabularyError(f'groups {source}: expected {{"name": ["class", …], …}}')
    faults: list[str] = []
    found = {
        group: tuple(_member(group, member, classes, faults) for member in members)
        for group, members in groups.items()
    }
    if faults:
        raise VocabularyError("\n  ".join([f"groups {source}:", *faults[:20]]))
    return found


def identity(source: str) -> str:
    """Return a content hash of a file of names or groups; "" for those that come along.

    Raises
    ------
    VocabularyError
        If there is no such file.
    """
    if source in {*LISTS, *GROUPS}:
        return ""
    return hashlib.sha256(_read_file(source, LISTS).encode()).hexdigest()


def distinct(names: Sequence[str]) -> Iterator[str]:
    """Yield names, numbered where one repeats: ImageNet has two missiles."""
    seen: dict[str, int] = {}
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        yield name if seen[name] == 1 else f"{name} ({seen[name]})"


def as_written(names: Sequence[str]) -> list[str]:
    """Return names without the numbers that `distinct` gave to those that repeat."""
    found = dict.fromkeys(names)
    bare = {name: _NUMBER.sub("", name) for name in names}
    return [bare[name] if bare[name] in found else name for name in names]


def _read_file(source: str, known: Sequence[str]) -> str:
    path = Path(source).expanduser()
    if not path.is_file():
        raise VocabularyError(f"no file {source}, nor a list of that name{nearest(source, known)}")
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise VocabularyError(f"{source} cannot be read: {error}") from error


def _member(group: str, member: object, classes: Sequence[str], faults: list[str]) -> str:
    if isinstance(member, int) and 0 <= member < len(classes):
        return classes[member]
    if isinstance(member, str) and member in classes:
        return member
    hint = nearest(str(member), classes) if isinstance(member, str) else ""
    faults.append(f"{group!r}: no class {member!r} among {len(classes)}{hint}")
    return ""
