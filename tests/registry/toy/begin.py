"""Begin a graph of blends: it needs nothing."""

from dataclasses import dataclass

from registry.declare.stage import Stage
from tests.registry.toy.kinds import Output


@dataclass(frozen=True)
class Config:
    a: int = 0
    b: int = 0


stage = Stage(
    "tests.registry.toy.begin",
    version=1,
    config=Config,
    needs={},
    output=Output("blend"),
)
