"""Count together: each process that torchrun has started counts its own numbers, slowly."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import registry

if TYPE_CHECKING:
    import xarray as xr

COUNTED = registry.Schema(
    "counted",
    1,
    "Counted numbers",
    coords={},
    variables={"total": registry.Variable((), "int64", "how many there are")},
)


@dataclass(frozen=True)
class Config:
    steps: int = 20


def join() -> object:
    """Join the others, by the store of the launcher."""
    from torch.distributed.distributed_c10d import PrefixStore
    from torch.distributed.rendezvous import rendezvous

    store, _, _ = next(rendezvous("env://"))
    return PrefixStore("run", store)


stage = registry.Stage(
    "tests.registry.lab.share",
    version=1,
    config=Config,
    needs={},
    output=COUNTED,
    joins="tests.registry.lab.share:join",
)


@stage.main
def count(config: Config, inputs: registry.Inputs, run: registry.Run) -> xr.Dataset | None:
    import xarray as xr

    rank, size = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    numbers = range(rank, config.steps, size)
    for number in numbers:
        time.sleep(0.1)
        run.progress(number, config.steps, "numbers")
    if size > 1:
        from torch.distributed.rendezvous import rendezvous

        store, _, _ = next(rendezvous("env://"))
        total = store.add("total", len(numbers))
        while rank == 0 and total < config.steps:
            time.sleep(0.05)
            total = store.add("total", 0)
            run.progress(config.steps, config.steps, "numbers")
        return xr.Dataset({"total": total}) if rank == 0 else None
    return xr.Dataset({"total": len(numbers)})


if __name__ == "__main__":
    registry.run_module(__spec__.name)
