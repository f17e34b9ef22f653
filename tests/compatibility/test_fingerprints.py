"""A fingerprint never changes: it is what tells that a result is there already."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.compatibility.fingerprints import AS_NOW, AS_THEN, GOLDEN, fingerprints_of

EXPECTED: dict[str, dict[str, str]] = json.loads(GOLDEN.read_text(encoding="utf-8"))


def differing(found: dict[str, str], expected: dict[str, str]) -> dict[str, tuple[str, str | None]]:
    return {
        cell: (fingerprint, found.get(cell))
        for cell, fingerprint in expected.items()
        if found.get(cell) != fingerprint
    }


@pytest.mark.parametrize("name", EXPECTED)
@pytest.mark.slow
def test_declarations_as_they_were_written_have_the_fingerprints_that_they_had(name: str) -> None:
    found = fingerprints_of(AS_THEN[name])
    assert not differing(found, EXPECTED[name])
    assert found.keys() == EXPECTED[name].keys()


@pytest.mark.parametrize("name", AS_NOW)
def test_declarations_that_come_along_rerun_nothing(name: str) -> None:
    found = fingerprints_of(AS_NOW[name])
    as_then = {_name_then(cell): fingerprint for cell, fingerprint in found.items()}
    assert len(as_then) == len(found)
    assert not differing(as_then, EXPECTED[name])


def _name_then(cell: str) -> str:
    """Return the name of a cell when papers/fact had an experiment for each: `NAME-sae`."""
    named = re.fullmatch(r"(.*)\[cell=(.*)\]", cell)
    return f"{named[2]}-{named[1]}" if named else cell


def test_the_golden_fingerprints_are_of_everything_that_was_declared() -> None:
    counted = {name: len(cells) for name, cells in EXPECTED.items()}
    assert counted == {"demo": 77, "fact": 56, "neuron-eval": 36, "stages": 84}
    fingerprints = [value for cells in EXPECTED.values() for value in cells.values()]
    assert all(len(value) == 16 and int(value, 16) >= 0 for value in fingerprints)


def test_what_a_declaration_says_counts(tmp_path: Path) -> None:
    text = (AS_THEN["demo"] / "experiments.toml").read_text(encoding="utf-8")
    (tmp_path / "experiments.toml").write_text(text.replace("k = 8 }", "k = 9 }", 1))
    changed = differing(fingerprints_of(tmp_path), EXPECTED["demo"]).keys()
    assert {"shapes-sae", "shapes-concepts", "shapes-matching"} <= changed
    assert not {"shapes-features", "shapes-seed1-sae", "fashion-sae"} & changed
