"""Encode what each concept points at by a foundation model, for the C2-score."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

import registry
from fact import schemas
from fact.encode.encoders import EncoderChoice, encoder_modules

if TYPE_CHECKING:
    from registry.store.shards import Shards


@dataclass(frozen=True)
class Config:
    """Configuration of ``fact.encode_concepts``, and of ``fact.encode_crp`` for channels.

    Parameters
    ----------
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
        Of a concept's positive presences, from which on an image is chosen, in [0, 1].
    least : int
        Images that remain of each concept, where it has as many.
    n_images : int or None
        Only so many images, drawn at random; None takes all that were measured.
    seed : int
        Of that draw and of the random maps of the baseline.
    batch : int
        Images at a time.
    device : str
        ``auto``, ``cpu``, ``cuda``, ….
    """

    encoder: str = "efficientnet-lite0"
    upsampler: str = "bilinear"
    trusted: registry.Runtime[bool] = False
    side: Annotated[int, Field(ge=1)] | None = 224
    quantile: Annotated[float, Field(ge=0, le=1)] = 0.95
    least: Annotated[int, Field(ge=2)] = 10
    n_images: Annotated[int, Field(ge=2)] | None = None
    seed: Annotated[int, Field(ge=0)] = 0
    batch: Annotated[int, Field(ge=1)] = 32
    device: registry.Runtime[str] = "auto"

    def __post_init__(self) -> None:
        EncoderChoice(self.encoder, self.upsampler, self.side)


stage = registry.Stage(
    "fact.encode_concepts",
    version=1,
    config=Config,
    needs={"concepts": "concepts"},
    output=schemas.ENCODINGS,
    preload=("fact.encode.concept_encodings",),
    plugged=encoder_modules,
)


@stage.main
def encode_concepts(config: Config, inputs: registry.Inputs, run: registry.Run) -> Shards:
    """Look at every image once, and encode each concept that is strong in it by its map."""
    from fact.encode.concept_encodings import ConceptEncodings
    from fact.encode.encodings import ImageEncoder
    from fact.networks.devices import choose_device
    from fact.traces.concept_source import ConceptSource

    choice = EncoderChoice(config.encoder, config.upsampler, config.side, config.trusted)
    encoder = ImageEncoder(choice, choose_device(config.device))
    encodings = ConceptEncodings(
        ConceptSource.of_concepts(inputs["concepts"], config.device),
        inputs["concepts"].origin("images").load(),
        encoder,
        config.quantile,
        config.least,
        config.n_images,
        config.batch,
        config.seed,
    )
    with inputs["concepts"].open() as measured:
        shards: Shards = encodings.run(measured["presence"], run)
    return shards


if __name__ == "__main__":
    registry.run_module(__spec__.name)
