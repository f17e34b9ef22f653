"""Train a small B-cos classifier on a dataset of images."""

import registry
from fact import schemas
from fact.networks.config import ClassifierConfig as Config
from fact.networks.requirements import needs_networks

stage = registry.Stage(
    "fact.train_classifier",
    version=1,
    config=Config,
    needs={"images": "images"},
    output=schemas.NETWORK,
    main="fact.networks.classifier:train_classifier",
    uncut="each step of a training needs the one before",
    requires=needs_networks,
)

if __name__ == "__main__":
    registry.run_module(__spec__.name)
