"""Collect features."""

from dataclasses import dataclass

from registry.declare.settings import Runtime
from registry.declare.stage import Stage
from tests.registry.toy.kinds import Output


@dataclass(frozen=True)
class Config:
    layer: str
    samples: int = 12
    device: Runtime[str] = "auto"


stage = Stage(
    "tests.registry.toy.collect",
    version=1,
    config=Config,
    needs={"numbers": "numbers", "network": "network"},
    output=Output("features"),
)
