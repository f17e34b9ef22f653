"""Measure presence and exact contribution of a layer's own channels, as a baseline of concepts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field

import registry
from fact import schemas


@dataclass(frozen=True)
class Config:
    """Configuration of ``fact.measure_channels``.

    Parameters
    ----------
    layer : str
        Name of the layer in the network.
    split : str
        The split to measure on.
    target : str
        The logit that is explained: ``prediction``, ``label``, or the name of a class.
    batch : int
        Images at a time.
    device : str
        ``auto``, ``cpu``, ``cuda``, ….
    """

    layer: str
    split: str = "test"
    target: str = "prediction"
    batch: Annotated[int, Field(ge=1)] = 128
    device: registry.Runtime[str] = "auto"


stage = registry.Stage(
    "fact.measure_channels",
    version=1,
    config=Config,
    needs={"network": "network", "images": "images"},
    output=schemas.CONCEPTS,
    preload=("fact.traces.measurement",),
)


@stage.main
def measure_channels(config: Config, inputs: registry.Inputs, run: registry.Run) -> Any:
    """Take each channel for a concept, and measure."""
    from fact.networks import network as networks
    from fact.networks.devices import choose_device
    from fact.traces.measurement import Measurement

    network = networks.load(inputs["network"]).to(choose_device(config.device))
    images = inputs["images"].load()
    measurement = Measurement(
        network, config.layer, None, images, config.split, config.target, config.batch
    )
    return measurement.run(run)


if __name__ == "__main__":
    registry.run_module(__spec__.name)
