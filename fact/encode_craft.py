"""Encode what each class's concepts of CRAFT point at, with a random baseline for each class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field

import registry
from fact import schemas
from fact.encode.encoders import EncoderChoice, encoder_modules


@dataclass(frozen=True)
class Config:
    """Configuration of ``fact.encode_craft``.

    Parameters
    ----------
    split : str
        The split whose images are encoded; a concept is looked for in its class's, by their labels.
    encoder : str
        The foundation model: ``efficientnet-lite0``, ``dinov2-vits14``, or a plug-in's.
    upsampler : str
        What brings its features to the image's size: ``bilinear``, ``loftup``, ``anyup``, ….
    trusted : bool
        Whether code from outside is trusted, at the commit to which it is pinned. Until then it
        is an error that shows the code.
    side : int or None
        Length to which an image's shorter side is brought for the foundation model, in pixels;
        None leaves it.
    quantile : float
        Of a concept's positive presences in its class, from which on an image is chosen, in [0, 1];
        and of those of random maps, for the baseline of the class.
    least : int
        Images that remain of each concept, where it has as many.
    seed : int
        Of the random maps.
    batch : int
        Images at a time.
    device : str
        ``auto``, ``cpu``, ``cuda``, ….
    """

    split: str = "test"
    encoder: str = "efficientnet-lite0"
    upsampler: str = "bilinear"
    trusted: registry.Runtime[bool] = False
    side: Annotated[int, Field(ge=1)] | None = 224
    quantile: Annotated[float, Field(ge=0, le=1)] = 0.95
    least: Annotated[int, Field(ge=2)] = 10
    seed: Annotated[int, Field(ge=0)] = 0
    batch: Annotated[int, Field(ge=1)] = 32
    device: registry.Runtime[str] = "auto"

    def __post_init__(self) -> None:
        EncoderChoice(self.encoder, self.upsampler, self.side)


stage = registry.Stage(
    "fact.encode_craft",
    version=1,
    config=Config,
    needs={"craft": "craft"},
    output=schemas.ENCODINGS,
    preload=("fact.encode.craft_encodings",),
    plugged=encoder_modules,
)


@stage.main
def encode_craft(config: Config, inputs: registry.Inputs, run: registry.Run) -> Any:
    """Look at every image of a class, and encode the concepts that are strong in it."""
    from fact.encode.craft_encodings import CraftEncodings
    from fact.encode.encodings import ImageEncoder
    from fact.networks import network as networks
    from fact.networks.devices import choose_device

    device, craft = choose_device(config.device), inputs["craft"]
    choice = EncoderChoice(config.encoder, config.upsampler, config.side, config.trusted)
    encodings = CraftEncodings(
        networks.load(craft.origin("network")).to(device),
        craft.config["layer"],
        craft.origin("images").load(),
        config.split,
        ImageEncoder(choice, device),
        config.quantile,
        config.least,
        config.batch,
        config.seed,
    )
    with craft.open() as fitted:
        return encodings.run(fitted, run)


if __name__ == "__main__":
    registry.run_module(__spec__.name)
