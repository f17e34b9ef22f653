"""The papers' own declarations, with other folders and sizes and nothing else."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from registry.declare.described import toml, toml_key

PAPERS = Path(__file__).parents[2] / "papers"

FOLDERS = ("folder", "root", "file", "path")
SIZES = ("n_concepts", "k", "n_images", "least_images", "images_per_class")
SIZES += ("neurons", "simulated_draws", "share", "validation_share")
CALIBRATION = ("scale", "shift")
"""Of another model in a folder, whose cosines become probabilities by numbers of its own."""
CONSENT = ("trusted",)
"""That code from outside may run, which no declaration says for its reader."""

KNOWN = (*FOLDERS, *SIZES, *CALIBRATION, *CONSENT)

Tables = Mapping[str, Any]


def declaration(paper: str, changes: Tables) -> str:
    """Return the declaration of a paper, as TOML, with some values changed.

    Parameters
    ----------
    paper : str
        Its folder in ``papers``.
    changes : mapping
        As the file is nested. Where the file has a list of named cells, every one is changed. None
        takes a name away for which a folder is given.

    Raises
    ------
    ValueError
        If something else than a folder, a size, a calibration or a consent is changed, or of what
        is not there.
    """
    tables = tomllib.loads((PAPERS / paper / "experiments.toml").read_text(encoding="utf-8"))
    return _written(_changed(tables, changes, paper))


def _changed(value: Any, changes: Any, where: str) -> Any:
    if not isinstance(changes, Mapping):
        return changes
    if isinstance(value, list):
        return [_changed(entry, changes, where) for entry in value]
    found = dict(value)
    for key, change in changes.items():
        place = f"{where}.{key}"
        is_known = key in value or key == "config"
        if change is None and "folder" in changes:  # which stands for a name
            del found[key]
            continue
        if not isinstance(change, Mapping) and key not in KNOWN:
            raise ValueError(f"{place} is neither a folder nor a size")
        if isinstance(change, Mapping) and not is_known:
            raise ValueError(f"there is no {place}")
        found[key] = _changed(value.get(key, {}), change, place)
    return found


def _written(tables: Tables) -> str:
    lines = []
    for family, entries in tables.items():
        if family in ("project", "suites"):
            lines += [f"[{family}]", *_lines(entries)]
            continue
        for name, table in entries.items():
            lines += [f"[{family}.{name}]", *_lines(table)]
    return "\n".join(lines) + "\n"


def _lines(table: Tables) -> list[str]:
    return [f"{toml_key(key)} = {toml(value)}" for key, value in table.items()]
