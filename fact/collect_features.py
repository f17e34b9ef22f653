"""Collect feature vectors of a layer, drawn by their importance for the predicted class."""

import registry
from fact import schemas
from fact.networks.foresight import foresee_contributions
from fact.networks.requirements import needs_networks
from fact.sae.config import FeatureConfig as Config
from fact.sae.estimates import estimate_features

stage = registry.Stage(
    "fact.collect_features",
    version=1,
    config=Config,
    needs={"images": "images", "network": "network"},
    output=schemas.FEATURES,
    main="fact.sae.sampling:collect_features",
    cut_by="images",
    foresee=foresee_contributions,
    requires=needs_networks,
    probe="fact.sae.probing:probe_features",
    probed=("network", "images"),
    estimate=estimate_features,
)

if __name__ == "__main__":
    registry.run_module(__spec__.name)
