"""Fingerprints of every task of a declaration, the same on every machine.

``python -m tests.compatibility.fingerprints`` wrote ``fingerprints.json`` once, at commit cdf6b02,
and is not run again: fingerprints that change make every user run everything again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import registry

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
GOLDEN = HERE / "fingerprints.json"
AS_THEN = {path.name: path for path in sorted((HERE / "declarations").iterdir())}
"""Declarations as they were written at cdf6b02."""
AS_NOW = {"demo": ROOT, "fact": ROOT / "papers/fact"}
"""The same declarations as they are written today.

That of papers/neuron-eval took folders and tables of somebody's own once; today it declares data
and weights as they are distributed, of which all that it makes is new.
"""

OUTSIDE: dict[tuple[str, str], Callable[[Any], str | None]] = {
    ("datasets", "image-folder"): lambda settings: f"images of {settings.root}",
    ("datasets", "array-file"): lambda settings: f"table of {settings.path}",
    ("datasets", "photographs"): lambda settings: "photographs",
    ("networks", "efficientnet-lite0"): lambda settings: "weights",
    ("networks", "torchvision"): lambda settings: settings.file and f"weights of {settings.file}",
}
"""Identities given to data that may or may not be on this machine; None leaves the kind's own."""


@contextmanager
def known_identities(resources: Any) -> Iterator[None]:
    """Give outside data the same identity wherever this runs, while the block lasts."""
    kinds = {key: type(one.settings) for one in resources if (key := (one.family, one.kind))}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FACTBOOK_DATA", str(HERE / "no-data-here"))
        for key in kinds.keys() & OUTSIDE.keys():
            own = kinds[key].identity

            def identity(settings: Any, key: Any = key, own: Any = own) -> Any:
                return OUTSIDE[key](settings) or own(settings)

            patch.setattr(kinds[key], "identity", identity)
        yield


def fingerprints_of(folder: Path) -> dict[str, str]:
    """Return the fingerprint of every cell that a folder declares, by the cell's name."""
    catalog = registry.open_catalog(folder, url="off")
    with known_identities(catalog.project.declaration.resources.values()):
        plan = catalog.plan()
    return {task.name: task.fingerprint for task in (*plan.tasks, *plan.settled)}


if __name__ == "__main__":
    found = {name: fingerprints_of(folder) for name, folder in AS_THEN.items()}
    GOLDEN.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
