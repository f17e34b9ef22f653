"""Judge features or what was fit to them, with the measures of it if there are any."""

from dataclasses import dataclass

from registry.declare.stage import Stage
from tests.registry.toy.kinds import Output


@dataclass(frozen=True)
class Config:
    strict: bool = False


stage = Stage(
    "tests.registry.toy.judge",
    version=1,
    config=Config,
    needs={"judged": "features | sae", "measures": "concepts*"},
    output=Output("verdict"),
)
