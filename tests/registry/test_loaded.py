"""What is kept of a module's text is what was compiled, also of one that is edited at once."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

from registry.loaded import loaded_text


def test_byte_code_of_a_file_that_was_edited_within_a_second_is_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python would take it, since size and second are the same."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    file = tmp_path / "edited_at_once.py"
    values = []
    for number in (1, 2):
        file.write_text(f"VALUE = {number}\n")
        sys.modules.pop("edited_at_once", None)
        importlib.invalidate_caches()
        values.append(importlib.import_module("edited_at_once").VALUE)
        assert loaded_text(str(file)) == f"VALUE = {number}\n".encode()
    assert values == [1, 2]
