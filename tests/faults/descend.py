"""A training: momentum descends on a quadratic, and its state is saved as it goes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import registry

if TYPE_CHECKING:
    import xarray as xr

TRAINED = registry.Schema(
    "trained",
    1,
    "Trained weights",
    coords={},
    variables={
        "weight": registry.Variable(("weight_index",), "float", "weight"),
        "loss": registry.Variable(("epoch",), "float", "loss"),
        "final_loss": registry.Variable((), "float", "loss at the end"),
    },
)


@dataclass(frozen=True)
class Config:
    epochs: int = 12
    seed: int = 0


stage = registry.Stage(
    "tests.faults.descend",
    version=1,
    config=Config,
    needs={"numbers": "numbers"},
    output=TRAINED,
)


@stage.main
def descend(config: Config, inputs: registry.Inputs, run: registry.Run) -> xr.Dataset:
    import numpy as np
    import xarray as xr

    targets = np.array(inputs["numbers"].load())
    weight, speed, losses = np.zeros_like(targets), np.zeros_like(targets), []
    saved = run.checkpoint("state.npz")
    if (found := saved.find()) is not None:
        with np.load(found) as state:
            weight, speed, losses = state["weight"], state["speed"], list(state["losses"])
    run.log("resumed", len(losses), 0)
    for epoch in range(len(losses), config.epochs):
        noise = np.random.default_rng((config.seed, epoch)).normal(size=targets.shape)
        speed = 0.9 * speed - 0.05 * (weight - targets + 0.1 * noise)
        weight = weight + speed
        losses.append(float(((weight - targets) ** 2).sum()))
        with saved.write() as path, path.open("wb") as file:
            np.savez(file, weight=weight, speed=speed, losses=losses)
        run.progress(epoch + 1, config.epochs, "epochs")
    values = {"weight": ("weight_index", weight), "loss": ("epoch", losses)}
    return xr.Dataset({**values, "final_loss": losses[-1]})


if __name__ == "__main__":
    registry.run_module(__spec__.name)
