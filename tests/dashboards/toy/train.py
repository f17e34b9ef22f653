"""Train an SAE."""

from dataclasses import dataclass

from fact import schemas
from registry.declare.stage import Stage


@dataclass(frozen=True)
class Config:
    k: int = 8
    seed: int = 0
    layer: str = "features.2"


stage = Stage(
    "tests.dashboards.toy.train",
    version=1,
    config=Config,
    needs={},
    output=schemas.SAE,
)
