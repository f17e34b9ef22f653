"""Blend two of its own kind: any graph can be built from it."""

from dataclasses import dataclass

from registry.declare.stage import Stage
from tests.registry.toy.kinds import Output


@dataclass(frozen=True)
class Config:
    a: int = 0
    b: int = 0


stage = Stage(
    "tests.registry.toy.blend",
    version=1,
    config=Config,
    needs={"left": "blend", "right": "blend"},
    output=Output("blend"),
)
