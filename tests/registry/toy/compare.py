"""Compare two sets of concepts."""

from dataclasses import dataclass

from registry.declare.stage import Stage
from tests.registry.toy.kinds import Output


@dataclass(frozen=True)
class Config:
    threshold: float = 0.5


stage = Stage(
    "tests.registry.toy.compare",
    version=1,
    config=Config,
    needs={"first": "sae", "second": "sae"},
    output=Output("stability"),
)
