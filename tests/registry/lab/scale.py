"""Multiply numbers by a factor, with noise if asked, slowly if asked, failing if asked."""

from __future__ import annotations

import os
import signal
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import registry

if TYPE_CHECKING:
    import xarray as xr

SCALED = registry.Schema(
    "scaled",
    1,
    "Scaled numbers",
    coords={"sample": registry.Variable(("sample",), "int64", "index")},
    variables={
        "value": registry.Variable(("sample",), "float", "scaled number"),
        "total": registry.Variable((), "float", "sum of the scaled numbers"),
    },
)


@dataclass(frozen=True)
class Config:
    factor: float = 2.0
    noise: float = 0.0
    seed: int = 0
    sleep: registry.Runtime[float] = 0.0
    then: registry.Runtime[str] = ""


stage = registry.Stage(
    "tests.registry.lab.scale",
    version=1,
    config=Config,
    needs={"numbers": "numbers"},
    output=SCALED,
)


@stage.main
def scale(config: Config, inputs: registry.Inputs, run: registry.Run) -> xr.Dataset:
    import numpy as np
    import xarray as xr

    sys.stdout.write(f"scaling by {config.factor}\n")
    values = np.array(inputs["numbers"].load()) * config.factor
    values += config.noise * np.random.default_rng(config.seed).normal(size=values.shape)
    for step in range(max(int(config.sleep * 10), 3)):
        run.log("training.loss", 1 / (step + 1), step)
        run.progress(step, 10, "steps")
        time.sleep(0.1 if config.sleep else 0)
    if config.then == "fail":
        raise RuntimeError("asked to fail")
    if config.then == "deaf":  # as one call of a library that takes long
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
        run.progress(10, 10, "steps")
        time.sleep(600)
    if config.then == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if config.then == "exit":
        sys.exit(0)
    if config.then == "vanish":
        os._exit(0)
    if config.then == "drift":  # what a stage must not do: other bits for the same configuration
        values += time.time()
    if config.then == "attach":
        run.attach("notes/hello.txt").write_text("hello")
    coords = {"sample": np.arange(len(values))}
    return xr.Dataset({"value": ("sample", values), "total": values.sum()}, coords)


if __name__ == "__main__":
    registry.run_module(__spec__.name)
