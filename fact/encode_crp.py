"""Encode what each channel of a standard network points at, by CRP: a baseline of the C2-score."""

from __future__ import annotations

import registry
from fact import schemas
from fact.encode.encoders import encoder_modules
from fact.encode.settings import SharedConceptsConfig as Config

stage = registry.Stage(
    "fact.encode_crp",
    version=1,
    config=Config,
    needs={"activations": "activations"},
    output=schemas.ENCODINGS,
    main="fact.encode.crp:encode_crp",
    plugged=encoder_modules,
)


if __name__ == "__main__":
    registry.run_module(__spec__.name)
