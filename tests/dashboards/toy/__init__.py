"""Stages of a small declared project; nothing runs them, their outputs are fabricated."""

from collections.abc import Mapping
from dataclasses import dataclass

from registry.declare.stage import Stage
from registry.store.schema import Schema


@dataclass(frozen=True)
class Config:
    """What can be said to any of them."""

    k: int = 8
    seed: int = 0


def toy_stage(name: str, needs: Mapping[str, str], output: Schema) -> Stage:
    """Return a stage of a module of this package."""
    return Stage(
        f"tests.dashboards.toy.{name}", version=1, config=Config, needs=needs, output=output
    )
