"""Average scaled numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import registry

if TYPE_CHECKING:
    import xarray as xr

AVERAGED = registry.Schema(
    "averaged",
    1,
    "The mean of scaled numbers",
    coords={},
    variables={"mean": registry.Variable((), "float", "mean of all values")},
)


@dataclass(frozen=True)
class Config:
    offset: float = 0.0


stage = registry.Stage(
    "tests.registry.lab.average",
    version=1,
    config=Config,
    needs={"scaled": "scaled+"},
    output=AVERAGED,
)


@stage.main
def average(config: Config, inputs: registry.Inputs, run: registry.Run) -> xr.Dataset:
    import xarray as xr

    means = []
    for one in registry.listed(inputs, "scaled"):
        with one.open() as dataset:
            means.append(float(dataset["value"].mean()))
    return xr.Dataset({"mean": sum(means) / len(means) + config.offset})


if __name__ == "__main__":
    registry.run_module(__spec__.name)
