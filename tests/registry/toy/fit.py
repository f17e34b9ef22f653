"""Fit concepts."""

from dataclasses import dataclass, field
from typing import Annotated

from pydantic import Field

from registry.declare.settings import Runtime
from registry.declare.stage import Stage
from tests.registry.toy.kinds import Output


@dataclass(frozen=True)
class Training:
    lr: Annotated[float, Field(gt=0)] = 1e-3
    passes: int = 16


@dataclass(frozen=True)
class Config:
    n_concepts: Annotated[int, Field(ge=1)] = 512
    k: Annotated[int, Field(ge=1)] = 16
    noise: float = 0.0
    seed: int = 0
    training: Training = field(default_factory=Training)
    device: Runtime[str] = "auto"

    def __post_init__(self) -> None:
        if self.k > self.n_concepts:
            raise ValueError(f"expected k at most n_concepts; got {self.k}")


stage = Stage(
    "tests.registry.toy.fit",
    version=1,
    config=Config,
    needs={"features": "features"},
    output=Output("sae"),
)
