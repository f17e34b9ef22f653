"""What a console shows while outside data is hashed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich import progress
from rich.markup import escape
from rich.table import Column

from registry.plan.looking import Hashing, hashing_told
from registry.terminal import err
from registry.wording import counted, size_text

PATIENCE = 1.0
"""Seconds of hashing before it is spoken of."""

EVERY = 30.0
"""Seconds between lines where no terminal shows a bar."""


@contextmanager
def hashing_shown() -> Iterator[None]:
    """Show what is hashed while the context lasts: a bar on a terminal, lines elsewhere."""
    shown = _Shown()
    with hashing_told(shown.tell):
        try:
            yield
        finally:
            shown.end()


class _Shown:
    """Begins with the first hashing that takes longer than a moment."""

    def __init__(self) -> None:
        self.path, self.since, self.said = "", 0.0, 0.0
        self.bar: progress.Progress | None = None

    def tell(self, now: Hashing) -> None:
        if now.path != self.path or not now.files + now.bytes:
            self.end()
            self.path, self.since, self.said = now.path, time.monotonic(), 0.0
        if time.monotonic() - self.since < PATIENCE:
            return
        if err.is_terminal:
            self._draw(now)
        elif time.monotonic() - self.said > EVERY:
            self.said = time.monotonic()
            err.print(escape(_line(now)))
        if now.files == now.n_files:
            self.end()

    def _draw(self, now: Hashing) -> None:
        if self.bar is None:
            self.bar = progress.Progress(
                progress.TextColumn(
                    "{task.description}",
                    table_column=Column(ratio=1, no_wrap=True, overflow="ellipsis"),
                ),
                progress.BarColumn(bar_width=10),
                progress.TextColumn("{task.fields[counted]}"),
                progress.TimeRemainingColumn(),
                console=err,
                expand=True,
                transient=True,
            )
            self.bar.add_task(
                f"hashing {escape(Path(now.path).name)}", total=now.n_bytes or None, counted=""
            )
            self.bar.start()
        self.bar.update(self.bar.task_ids[0], completed=now.bytes, counted=_counted(now))

    def end(self) -> None:
        if self.bar is not None:
            self.bar.stop()
            self.bar = None


def _line(now: Hashing) -> str:
    return f"hashing {now.path}: {_counted(now)}; what is hashed is kept, also if you interrupt"


def _counted(now: Hashing) -> str:
    return (
        f"{now.files:,} of {counted(now.n_files, 'file')}, "
        f"{size_text(now.bytes)} of {size_text(now.n_bytes)}"
    )
