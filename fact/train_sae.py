"""Train a bias-free TopK SAE on collected features."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

import registry
from fact import schemas

if TYPE_CHECKING:
    import xarray as xr


@dataclass(frozen=True)
class Config:
    """Configuration of ``fact.train_sae``.

    Parameters
    ----------
    n_concepts : int
        Concepts of the SAE.
    k : int
        Concepts that are active at a position; at most ``n_concepts``.
    passes : int
        Passes over the samples.
    batch : int
        Samples per update.
    lr : float
        Peak learning rate of Adam.
    warmup_passes, decay_start : int
        Passes of linear warm-up; pass after which the cosine decay begins.
    auxiliary_coefficient : float
        Weight of the loss that revives dead concepts.
    auxiliary_k : int
        Dead concepts that may reconstruct the residual of a sample.
    evaluate_every : int
        Passes between evaluations of the spliced network on the held-out images. The last pass
        is evaluated always; the best weights are kept.
    seed : int
        Draws the initial weights, and the order of the samples.
    memory : int
        Bytes that samples in memory may take.
    checkpoint_seconds : float
        Seconds between saved states, from which a stopped training goes on.
    device : str
        ``auto``, ``cpu``, ``cuda``, ….
    """

    n_concepts: Annotated[int, Field(ge=1)] = 512
    k: Annotated[int, Field(ge=1)] = 16
    passes: Annotated[int, Field(ge=1)] = 16
    batch: Annotated[int, Field(ge=1)] = 4096
    lr: Annotated[float, Field(gt=0)] = 1e-3
    warmup_passes: Annotated[int, Field(ge=0)] = 1
    decay_start: Annotated[int, Field(ge=0)] = 2
    auxiliary_coefficient: Annotated[float, Field(ge=0)] = 1 / 32
    auxiliary_k: Annotated[int, Field(ge=1)] = 256
    evaluate_every: Annotated[int, Field(ge=1)] = 2
    seed: Annotated[int, Field(ge=0)] = 0
    memory: Annotated[int, Field(ge=2**20)] = 2**30
    checkpoint_seconds: registry.Runtime[Annotated[float, Field(ge=0)]] = 60.0
    device: registry.Runtime[str] = "auto"

    def __post_init__(self) -> None:
        if self.k > self.n_concepts:
            raise ValueError(f"k {self.k} is more than n_concepts {self.n_concepts}")
        if self.warmup_passes > self.decay_start:
            raise ValueError(
                f"warmup_passes {self.warmup_passes} is more than decay_start {self.decay_start}"
            )


stage = registry.Stage(
    "fact.train_sae",
    version=1,
    config=Config,
    needs={"features": "features"},
    output=schemas.SAE,
    preload=("fact.sae.training",),
)


@stage.main
def train_sae(config: Config, inputs: registry.Inputs, run: registry.Run) -> xr.Dataset:
    """Train, keep the weights with the best spliced accuracy, and leave the final ones beside."""
    from fact.networks.devices import choose_device
    from fact.sae.fidelity import HeldOut
    from fact.sae.training import Optimisation

    features = inputs["features"]
    device = choose_device(config.device)
    held_out = HeldOut.of_features(features, device)
    optimisation = Optimisation(config, features, run, device)
    optimisation.run(held_out.accuracy)
    optimisation.final.to_dataset().to_netcdf(run.attach("final.nc"), engine="h5netcdf")
    return optimisation.dataset(held_out.accuracy(None))


if __name__ == "__main__":
    registry.run_module(__spec__.name)
