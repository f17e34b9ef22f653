"""Folders in which the package ``datasets`` keeps a data set on the disk, read without it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

DICTIONARY, STATE = "dataset_dict.json", "state.json"
"""Files that ``save_to_disk`` writes: into a folder of several splits, and into that of one."""

INFO = "dataset_info.json"

KEPT = (
    f"neither {DICTIONARY} nor {STATE}, which save_to_disk writes, nor {INFO} with files of Arrow, "
    "which load_dataset keeps, nor files of parquet"
)
"""What a folder lacks that is none."""

_CACHED = re.compile(r".+?-(?P<split>[^-]+)(-\d+-of-\d+)?")

_SELECTIONS = ("_indices_data_files", "_indices_files")
"""Entries of a state that name a selection of rows, in an order of its own."""


def saved_files(folder: Path) -> dict[str, list[Path]]:
    """Return the files of Arrow of each split, in order: all of their rows are its.

    Beside them, or in the folder of their split, lies `INFO`, which says what their columns are.

    Parameters
    ----------
    folder : Path
        Of several splits, or of one, which is called ``train`` where it does not say, as
        ``save_to_disk`` wrote it; or that in which ``load_dataset`` keeps what it has fetched.
        Nothing is returned of any other.

    Raises
    ------
    ValueError
        If one was saved with a selection of rows, which these files know nothing of.
    """
    if (folder / DICTIONARY).is_file():
        named = json.loads((folder / DICTIONARY).read_text(encoding="utf-8"))["splits"]
        return {str(split): _split_files(folder / split) for split in named}
    if (folder / STATE).is_file():
        return {str(_state(folder).get("_split") or "train"): _split_files(folder)}
    return _cached_files(folder)


def _split_files(folder: Path) -> list[Path]:
    state = _state(folder)
    if any(state.get(name) for name in _SELECTIONS):
        raise ValueError(
            f"{folder} was saved with a selection of rows; save it again by "
            "dataset.flatten_indices().save_to_disk(…)"
        )
    return [folder / entry["filename"] for entry in state["_data_files"]]


def _cached_files(folder: Path) -> dict[str, list[Path]]:
    """Return files that ``load_dataset`` keeps: ``NAME-train.arrow``, or several of a split.

    Beside them lie those of what was made from them, which are of no split.
    """
    if not (folder / INFO).is_file():
        return {}
    known = json.loads((folder / INFO).read_text(encoding="utf-8")).get("splits") or {}
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.glob("*.arrow")):
        cached = _CACHED.fullmatch(path.stem)
        if cached and cached["split"] in known:
            found.setdefault(cached["split"], []).append(path)
    return found


def _state(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / STATE).read_text(encoding="utf-8"))
    return found
