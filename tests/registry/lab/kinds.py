"""Kinds of datasets: a list of numbers, or the numbers of a file, wherever it lies or not."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import registry


@registry.kind("datasets", "numbers", provides="numbers")
@dataclass(frozen=True)
class Numbers:
    values: tuple[float, ...] = (1.0, 2.0, 3.0)
    file: str | None = None

    def identity(self) -> str:
        return "" if self.file is None else hashlib.sha256(Path(self.file).read_bytes()).hexdigest()

    def load(self) -> list[float]:
        if self.file is None:
            return list(self.values)
        return [float(word) for word in Path(self.file).read_text().split()]


@registry.kind("datasets", "placed-numbers", provides="numbers")
@dataclass(frozen=True)
class PlacedNumbers:
    place: registry.Runtime[str]

    def identity(self) -> str:
        return hashlib.sha256(Path(self.place).read_bytes()).hexdigest()

    def load(self) -> list[float]:
        return [float(word) for word in Path(self.place).read_text().split()]
