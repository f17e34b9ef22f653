"""Encode what each channel of a standard network points at, by CRP: a baseline of the C2-score."""

from __future__ import annotations

from typing import TYPE_CHECKING

import registry
from fact import schemas
from fact.encode.encoders import EncoderChoice, encoder_modules
from fact.encode_concepts import Config

if TYPE_CHECKING:
    from registry.store.shards import Shards


stage = registry.Stage(
    "fact.encode_crp",
    version=1,
    config=Config,
    needs={"activations": "activations"},
    output=schemas.ENCODINGS,
    preload=("fact.encode.concept_encodings", "fact.encode.crp"),
    plugged=encoder_modules,
)


@stage.main
def encode_crp(config: Config, inputs: registry.Inputs, run: registry.Run) -> Shards:
    """Look at every image once, and encode each channel that is strong in it by its relevance."""
    from fact.encode.concept_encodings import ConceptEncodings
    from fact.encode.crp import ChannelSource
    from fact.encode.encodings import ImageEncoder
    from fact.networks.devices import choose_device

    choice = EncoderChoice(config.encoder, config.upsampler, config.side, config.trusted)
    encodings = ConceptEncodings(
        ChannelSource.of_activations(inputs["activations"], config.device),
        inputs["activations"].origin("images").load(),
        ImageEncoder(choice, choose_device(config.device)),
        config.quantile,
        config.least,
        config.n_images,
        config.batch,
        config.seed,
    )
    with inputs["activations"].open() as collected:
        presence = collected["activation"].rename(neuron="concept")
        shards: Shards = encodings.run(presence, run)
    return shards


if __name__ == "__main__":
    registry.run_module(__spec__.name)
