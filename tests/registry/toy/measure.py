"""Measure concepts."""

from dataclasses import dataclass

from registry.declare.stage import Stage
from tests.registry.toy.kinds import Output


@dataclass(frozen=True)
class Config:
    target: str = "prediction"
    batch: int = 64


stage = Stage(
    "tests.registry.toy.measure",
    version=2,
    config=Config,
    needs={"features": "features", "network": "network", "sae": "sae"},
    output=Output("concepts"),
)
