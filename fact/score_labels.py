"""Pseudo-label every image by a model of images and texts, such as SigLIP."""

import registry
from fact import schemas
from fact.data.config import ScoreConfig as Config
from fact.networks.requirements import needs_networks

stage = registry.Stage(
    "fact.score_labels",
    version=1,
    config=Config,
    needs={"images": "images", "model": "image_text", "words": "words?"},
    output=schemas.LABELS,
    main="fact.networks.image_text:score_labels",
    cut_by="images",
    requires=needs_networks,
)

if __name__ == "__main__":
    registry.run_module(__spec__.name)
