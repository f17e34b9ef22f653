"""What a console shows while outside data is hashed."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from registry.commands import hashing
from registry.plan.looking import Hashing


@pytest.mark.parametrize("width", [80, 120])
def test_a_bar_is_one_line_with_what_is_done(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    printed = io.StringIO()
    console = Console(file=printed, width=width, force_terminal=True, color_system=None)
    monkeypatch.setattr(hashing, "err", console)
    now = Hashing("/somebody/has/put/it/deep/imagenet-train-2012", 1_281_167, 150 * 10**9)
    now.files, now.bytes = 1_200_000, 140 * 10**9
    shown = hashing._Shown()
    shown._draw(now)
    assert shown.bar is not None
    shown.bar.refresh()
    shown.end()
    drawn = printed.getvalue().split("\x1b[2K")[1]
    assert "\n" not in drawn.strip()
    assert "hashing imagenet-train-2012"[: width - 69] in drawn
    assert "1,200,000 of 1,281,167 files, 130 GiB of 140 GiB" in drawn
