"""Encode the regions of each channel of a standard network, by CRP: a baseline of the C2-score."""

import registry
from fact import schemas
from fact.encode.config import SharedConceptsConfig as Config
from fact.encode.encoders import encoder_modules, needs_encoder_and_relevance
from fact.networks.foresight import refuse_relevance

stage = registry.Stage(
    "fact.encode_crp",
    version=1,
    config=Config,
    needs={"activations": "activations"},
    output=schemas.ENCODINGS,
    main="fact.encode.crp:encode_crp",
    cut_by="images",
    plugged=encoder_modules,
    requires=needs_encoder_and_relevance,
    refuse=refuse_relevance,
    reaches=("images", "network"),
)

if __name__ == "__main__":
    registry.run_module(__spec__.name)
