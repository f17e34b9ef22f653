"""Collect activations of neurons."""

from dataclasses import dataclass

from fact import schemas
from registry.declare.stage import Stage


@dataclass(frozen=True)
class Config:
    layer: str = ""


stage = Stage(
    "tests.dashboards.toy.collect",
    version=1,
    config=Config,
    needs={},
    output=schemas.ACTIVATIONS,
)
