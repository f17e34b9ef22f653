"""Encode the regions of each concept by a foundation model, for the C2-score."""

import registry
from fact import schemas
from fact.encode.config import MappedConceptsConfig as Config
from fact.encode.encoders import encoder_modules, needs_encoder_and_maps
from fact.networks.foresight import refuse_maps

stage = registry.Stage(
    "fact.encode_concepts",
    version=1,
    config=Config,
    needs={"concepts": "concepts"},
    output=schemas.ENCODINGS,
    main="fact.encode.shared_concepts:encode_concepts",
    cut_by="images",
    plugged=encoder_modules,
    requires=needs_encoder_and_maps,
    refuse=refuse_maps,
    reaches=("images", "network"),
)

if __name__ == "__main__":
    registry.run_module(__spec__.name)
