"""Encode the regions of each class's CRAFT concepts, with a random baseline for each class."""

import registry
from fact import schemas
from fact.encode.config import CraftConceptsConfig as Config
from fact.encode.encoders import encoder_modules, needs_encoder

stage = registry.Stage(
    "fact.encode_craft",
    version=1,
    config=Config,
    needs={"craft": "craft"},
    output=schemas.ENCODINGS,
    main="fact.encode.craft:encode_craft",
    uncut="how many encodings a class gives is known only when it is encoded",
    plugged=encoder_modules,
    requires=needs_encoder,
    reaches=("images", "network"),
)

if __name__ == "__main__":
    registry.run_module(__spec__.name)
