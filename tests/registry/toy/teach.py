"""Teach a line."""

from dataclasses import dataclass

from registry.declare.stage import Stage
from tests.registry.toy.kinds import Output


@dataclass(frozen=True)
class Config:
    seed: int = 0


stage = Stage(
    "tests.registry.toy.teach",
    version=1,
    config=Config,
    needs={"numbers": "numbers"},
    output=Output("network"),
)
