"""Describe scaled numbers or their mean, beside another mean if there is one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import registry

if TYPE_CHECKING:
    import xarray as xr

DESCRIBED = registry.Schema(
    "described",
    1,
    "What was described",
    coords={},
    variables={
        "largest": registry.Variable((), "float", "largest number"),
        "others": registry.Variable((), "int64", "means to compare with"),
    },
)


@dataclass(frozen=True)
class Config:
    pass


stage = registry.Stage(
    "tests.registry.lab.describe",
    version=1,
    config=Config,
    needs={"told": "scaled | averaged", "beside": "averaged?"},
    output=DESCRIBED,
)


@stage.main
def describe(config: Config, inputs: registry.Inputs, run: registry.Run) -> xr.Dataset:
    import xarray as xr

    variable = {"scaled": "value", "averaged": "mean"}[inputs["told"].kind]
    with inputs["told"].open() as dataset:
        largest = float(dataset[variable].max())
    return xr.Dataset({"largest": largest, "others": int("beside" in inputs)})


if __name__ == "__main__":
    registry.run_module(__spec__.name)
