"""What a command prints where."""

from __future__ import annotations

import io
import os

import pytest
from rich.console import Console

from registry import terminal


def test_only_a_terminal_is_drawn_again_whoever_asks_for_colours(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setattr(terminal, "out", Console(file=io.StringIO()))
    assert terminal.out.is_terminal
    assert not terminal.can_animate()
    leader, follower = os.openpty()
    with os.fdopen(follower, "w") as screen, os.fdopen(leader):
        monkeypatch.setattr(terminal, "out", Console(file=screen))
        assert terminal.can_animate()
