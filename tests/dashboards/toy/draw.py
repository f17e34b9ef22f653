"""Draw concepts."""

from dataclasses import dataclass

from fact import schemas
from registry.declare.stage import Stage


@dataclass(frozen=True)
class Config:
    k: int = 8
    seed: int = 0
    layer: str = "features.2"


stage = Stage(
    "tests.dashboards.toy.draw",
    version=1,
    config=Config,
    needs={"concepts": "concepts | activations"},
    output=schemas.GALLERY,
)
