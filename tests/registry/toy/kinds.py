from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from registry.declare.plugins import kind
from registry.declare.settings import Runtime


@dataclass(frozen=True)
class Output:
    """Stands in for a schema, of which planning reads the name alone."""

    name: str


@kind("datasets", "toy-numbers", provides="numbers")
@dataclass(frozen=True)
class Numbers:
    count: Annotated[int, Field(ge=1)] = 10
    scale: float = 1.0
    workers: Runtime[int] = 0

    def identity(self) -> str:
        return ""

    def load(self) -> list[float]:
        return [self.scale] * self.count


@kind("networks", "toy-line", provides="network")
@dataclass(frozen=True)
class Line:
    slope: float

    def identity(self) -> str:
        return ""

    def load(self) -> float:
        return self.slope
