"""Collect feature vectors of a layer, drawn by their importance for the predicted class."""

import registry
from fact import schemas
from fact.networks.foresight import foresee_contributions
from fact.sae.config import FeatureConfig as Config

stage = registry.Stage(
    "fact.collect_features",
    version=1,
    config=Config,
    needs={"images": "images", "network": "network"},
    output=schemas.FEATURES,
    main="fact.sae.sampling:collect_features",
    foresee=foresee_contributions,
)

if __name__ == "__main__":
    registry.run_module(__spec__.name)
