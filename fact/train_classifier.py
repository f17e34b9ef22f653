"""Train a small B-cos classifier on a dataset of images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

import registry
from fact import schemas

if TYPE_CHECKING:
    import xarray as xr

    from fact.data.images import ImageDataset
    from fact.networks.network import Network


@dataclass(frozen=True)
class Config:
    """Configuration of ``fact.train_classifier``.

    Parameters
    ----------
    architecture : str
        ``small-bcos`` (convolutions) or ``small-vit`` (tokens).
    channels, strides : tuple of int
        Of the convolutions of ``small-bcos``, one of each per layer.
    kernel_size : int
        Side of a convolution's kernel, in pixels; odd.
    temperature : float
        Divides the logits, above 0; small values let a small network answer firmly.
    patch_size, dim, depth, heads : int
        Of ``small-vit``: side of a patch in pixels, channels of a token, encoders, heads.
    resize, crop : int or None
        Length of the shorter side, then of the central square, in pixels; None keeps the size.
    passes, batch : int
        Passes over the training images; images per update.
    lr, warmup : float
        Peak learning rate of Adam; share of updates of its linear rise.
    flip : bool
        Mirror images left to right with probability 1/2.
    train_split, test_split : str
        Names of the splits.
    seed : int
        Draws weights, order of images and mirrors.
    device : str
        ``auto``, ``cpu``, ``cuda``, ….
    """

    architecture: Literal["small-bcos", "small-vit"] = "small-bcos"
    channels: tuple[Annotated[int, Field(ge=1)], ...] = (32, 64, 128)
    strides: tuple[Annotated[int, Field(ge=1)], ...] = (2, 2, 1)
    kernel_size: Annotated[int, Field(ge=1)] = 3
    temperature: Annotated[float, Field(gt=0)] = 0.1
    patch_size: Annotated[int, Field(ge=1)] = 8
    dim: Annotated[int, Field(ge=8)] = 64
    depth: Annotated[int, Field(ge=1)] = 2
    heads: Annotated[int, Field(ge=1)] = 2
    resize: Annotated[int, Field(ge=1)] | None = None
    crop: Annotated[int, Field(ge=1)] | None = None
    passes: Annotated[int, Field(ge=1)] = 4
    batch: Annotated[int, Field(ge=1)] = 128
    lr: Annotated[float, Field(gt=0)] = 2e-2
    warmup: Annotated[float, Field(ge=0, le=1)] = 0.2
    flip: bool = False
    train_split: str = "train"
    test_split: str = "test"
    seed: Annotated[int, Field(ge=0)] = 0
    device: registry.Runtime[str] = "auto"

    def __post_init__(self) -> None:
        if len(self.channels) != len(self.strides):
            raise ValueError(
                f"{len(self.channels)} channels and {len(self.strides)} strides; expected as many"
            )
        if self.kernel_size % 2 == 0:
            raise ValueError(f"kernel_size {self.kernel_size}; expected an odd number")


stage = registry.Stage(
    "fact.train_classifier",
    version=1,
    config=Config,
    needs={"images": "images"},
    output=schemas.NETWORK,
    preload=("fact.networks.classifier",),
)


@stage.main
def train_classifier(config: Config, inputs: registry.Inputs, run: registry.Run) -> xr.Dataset:
    """Train, test, and leave the network beside its logits on the test images."""
    from fact.networks.classifier import ClassifierTraining, Schedule
    from fact.networks.devices import choose_device
    from fact.networks.network import WEIGHTS_FILE, save_network
    from fact.sae.fidelity import predict_logits

    images: ImageDataset = inputs["images"].load()
    network = _untrained(config, images).to(choose_device(config.device))
    schedule = Schedule(
        config.passes, config.batch, config.lr, config.warmup, config.flip, config.seed
    )
    training = ClassifierTraining(
        network, images, config.train_split, schedule, run.partial / "training.safetensors"
    )
    total = schedule.passes * training.steps_per_pass

    def watch(step: int, loss: float) -> None:
        run.log("training.loss", loss, step)
        run.progress(step + 1, total, "updates")

    losses = training.run(watch)
    save_network(network, run.attach(WEIGHTS_FILE))
    ids, labels = images.ids(config.test_split), images.labels(config.test_split)
    return _describe(network, losses, predict_logits(network, images, ids), ids, labels)


def _untrained(config: Config, images: ImageDataset) -> Network:
    from fact.data.images import Geometry
    from fact.networks.network import small_bcos, small_vit

    geometry = Geometry(config.resize, config.crop)
    if config.architecture == "small-bcos":
        return small_bcos(
            images.classes,
            config.channels,
            config.strides,
            config.kernel_size,
            temperature=config.temperature,
            geometry=geometry,
            seed=config.seed,
        )
    size = images.read(images.ids(config.train_split)[:1], geometry).shape[1]
    return small_vit(
        images.classes,
        size,
        config.patch_size,
        config.dim,
        config.depth,
        config.heads,
        temperature=config.temperature,
        geometry=geometry,
        seed=config.seed,
    )


def _describe(network: Network, losses, logits, ids, labels) -> xr.Dataset:  # type: ignore[no-untyped-def]
    import numpy as np
    import xarray as xr

    prediction = logits.argmax(axis=1).astype(np.int64)
    return xr.Dataset(
        {
            "logit": (("image", "class"), logits),
            "label": ("image", labels),
            "prediction": ("image", prediction),
            "loss": ("pass", np.asarray(losses)),
            "test_accuracy": float((prediction == labels).mean()),
            "parameters": sum(parameter.numel() for parameter in network.module.parameters()),
        },
        {"image": ids.astype(object), "class": np.array(network.classes, dtype=object)},
    )


if __name__ == "__main__":
    registry.run_module(__spec__.name)
