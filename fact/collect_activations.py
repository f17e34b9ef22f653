"""Collect the activations of neurons: a network's logits, or the channels of a layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field

import registry
from fact import schemas


@dataclass(frozen=True)
class Config:
    """Configuration of ``fact.collect_activations``.

    Parameters
    ----------
    layer : str
        Name of the layer in the network, as ``layer4``; "" takes the logits.
    transform : str
        ``none``, ``softmax`` over all neurons, or ``sigmoid``; applied behind the pooling.
    pooling : str
        How the positions of a map, or tokens, become one number: ``mean``, ``max`` or ``sum``.
    with_bias : bool
        Whether logits keep the constant that a B-cos network adds to all of them. Other networks
        give their output as it is.
    groups : bool
        Add a neuron for every group of classes of the dataset: the sum of its members' outputs,
        after the transform.
    match : str
        Which label is an output's known concept: the class of the same ``name``, or, where a
        network and a dataset name the same classes differently, of the same place (``order``).
    split : str
        The split to collect on.
    batch : int
        Images at a time.
    device : str
        ``auto``, ``cpu``, ``cuda``, ….
    """

    layer: str = ""
    transform: Literal["none", "softmax", "sigmoid"] = "none"
    pooling: Literal["mean", "max", "sum"] = "mean"
    with_bias: bool = True
    groups: bool = False
    match: Literal["name", "order"] = "name"
    split: str = "test"
    batch: Annotated[int, Field(ge=1)] = 128
    device: registry.Runtime[str] = "auto"

    def __post_init__(self) -> None:
        if self.groups and self.layer:
            raise ValueError(f"groups are sums of logits; got the hidden layer {self.layer!r}")


stage = registry.Stage(
    "fact.collect_activations",
    version=1,
    config=Config,
    needs={"images": "images", "network": "network"},
    output=schemas.ACTIVATIONS,
    preload=("fact.traces.activations",),
)


@stage.main
def collect_activations(config: Config, inputs: registry.Inputs, run: registry.Run) -> Any:
    """Collect shard by shard; a stopped collection goes on at its next shard."""
    from fact.networks import network as networks
    from fact.networks.devices import choose_device
    from fact.traces.activations import Collection, Readout

    collection = Collection(
        networks.load(inputs["network"]).to(choose_device(config.device)),
        inputs["images"].load(),
        config.split,
        Readout(config.layer, config.pooling, config.transform, config.with_bias),
        config.groups,
        config.match,
        config.batch,
    )
    return collection.run(run)


if __name__ == "__main__":
    registry.run_module(__spec__.name)
