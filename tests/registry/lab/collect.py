"""Collect numbers part by part, dying on the way if asked, so that another run can resume."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass

import registry

COLLECTED = registry.Schema(
    "collected",
    1,
    "Collected numbers",
    coords={"sample": registry.Variable(("sample",), "int64", "index")},
    variables={
        "value": registry.Variable(("sample",), "float", "number"),
        "n_parts": registry.Variable((), "int64", "number of parts"),
    },
    sharded_along="sample",
    by_rows=("value",),
)


@dataclass(frozen=True)
class Config:
    n_parts: int = 4
    part_size: int = 10
    sleep: registry.Runtime[float] = 0.0
    die_at: registry.Runtime[int] = -1


stage = registry.Stage(
    "tests.registry.lab.collect",
    version=1,
    config=Config,
    needs={"numbers": "numbers"},
    output=COLLECTED,
    cut_by="numbers",
)


@stage.main
def collect(config: Config, inputs: registry.Inputs, run: registry.Run) -> object:
    import numpy as np
    import xarray as xr

    numbers = np.resize(inputs["numbers"].load(), config.n_parts * config.part_size)
    writer = run.shards(config.n_parts)
    run.log("resumed", len(writer.done), 0)
    for index in sorted({*writer.indices(config.n_parts)} - {*writer.done}):
        if index == config.die_at:
            writer.wait()
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(config.sleep)
        samples = np.arange(index * config.part_size, (index + 1) * config.part_size)
        writer.submit(
            xr.Dataset({"value": ("sample", numbers[samples])}, {"sample": samples}), index
        )
        run.progress(index + 1, config.n_parts, "parts")
    writer.end_part()
    return writer.finish(xr.Dataset({"n_parts": config.n_parts}))


if __name__ == "__main__":
    registry.run_module(__spec__.name)
