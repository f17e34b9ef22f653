"""Multiply numbers by a factor, where a package is there that somebody wishes for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import registry
from registry.declare.requirements import Estimate
from tests.registry.lab.scale import SCALED

if TYPE_CHECKING:
    import xarray as xr


@dataclass(frozen=True)
class Config:
    factor: float = 2.0
    package: registry.Runtime[str] = ""
    most: registry.Runtime[int] = 100  # numbers that a first look lets pass
    bytes: registry.Runtime[int] = 0


stage = registry.Stage(
    "tests.registry.lab.wish",
    version=1,
    config=Config,
    needs={"numbers": "numbers"},
    output=SCALED,
    requires=lambda config: [registry.Package(config["package"])] if config["package"] else [],
    probe="tests.registry.lab.wish:look",
    probed=("numbers",),
    estimate=lambda config, sizes, found: Estimate(found, config["bytes"], config["bytes"]),
)


def look(config: Config, inputs: registry.Inputs) -> dict[str, object]:
    count = len(inputs["numbers"].load())
    if count > config.most:
        raise ValueError(f"{count} numbers: too many")
    return {"sample": count, "numbers": {"count": count}}


@stage.main
def wish(config: Config, inputs: registry.Inputs, run: registry.Run) -> xr.Dataset:
    import numpy as np
    import xarray as xr

    values = np.array(inputs["numbers"].load()) * config.factor
    coords = {"sample": np.arange(len(values))}
    return xr.Dataset({"value": ("sample", values), "total": values.sum()}, coords)


if __name__ == "__main__":
    registry.run_module(__spec__.name)
