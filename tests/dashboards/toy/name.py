"""Name concepts."""

from dataclasses import dataclass

from evals import schemas
from registry.declare.stage import Stage


@dataclass(frozen=True)
class Config:
    k: int = 8
    seed: int = 0


stage = Stage(
    "tests.dashboards.toy.name",
    version=1,
    config=Config,
    needs={"activations": "concepts"},
    output=schemas.NAMES,
)
