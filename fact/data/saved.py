"""Folders in which the package ``datasets`` keeps a data set on the disk, read without it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

DICTIONARY, STATE = "dataset_dict.json", "state.json"
"""Files that ``save_to_disk`` writes: into a folder of several splits, and into that of one."""

_SELECTIONS = ("_indices_data_files", "_indices_files")
"""Entries of a state that name a selection of rows, in an order of its own."""


def saved_splits(folder: Path) -> dict[str, Path]:
    """Return the folder of each split; nothing where ``save_to_disk`` did not write it.

    Parameters
    ----------
    folder : Path
        Of several splits, or of one, which is called ``train`` where it does not say.
    """
    if (folder / DICTIONARY).is_file():
        named = json.loads((folder / DICTIONARY).read_text(encoding="utf-8"))["splits"]
        return {str(split): folder / split for split in named}
    if (folder / STATE).is_file():
        return {str(_state(folder).get("_split") or "train"): folder}
    return {}


def saved_files(folder: Path) -> list[Path]:
    """Return the files of Arrow that hold a split, in order: all of their rows are its.

    Parameters
    ----------
    folder : Path
        Of one split.

    Raises
    ------
    ValueError
        If it was saved with a selection of rows, which these files know nothing of.
    """
    state = _state(folder)
    if any(state.get(name) for name in _SELECTIONS):
        raise ValueError(
            f"{folder} was saved with a selection of rows; save it again by "
            "dataset.flatten_indices().save_to_disk(…)"
        )
    return [folder / entry["filename"] for entry in state["_data_files"]]


def _state(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / STATE).read_text(encoding="utf-8"))
    return found
