"""Encode every image by a model of images and texts, such as CLIP: its features are the neurons."""

import registry
from fact import schemas
from fact.data.config import EncodeImagesConfig as Config
from fact.networks.requirements import needs_networks

stage = registry.Stage(
    "fact.encode_images",
    version=1,
    config=Config,
    needs={"images": "images", "model": "image_text"},
    output=schemas.ACTIVATIONS,
    main="fact.networks.image_text:encode_images",
    cut_by="images",
    requires=needs_networks,
)

if __name__ == "__main__":
    registry.run_module(__spec__.name)
