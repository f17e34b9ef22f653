"""Train a bias-free TopK SAE on collected features."""

import registry
from fact import schemas
from fact.networks.requirements import needs_networks
from fact.sae.config import SAEConfig as Config
from fact.sae.estimates import estimate_sae

stage = registry.Stage(
    "fact.train_sae",
    version=1,
    config=Config,
    needs={"features": "features"},
    output=schemas.SAE,
    main="fact.sae.training:train_sae",
    uncut="each step of a training needs the one before",
    requires=needs_networks,
    estimate=estimate_sae,
    joins="fact.sae.ranks:join",
)

if __name__ == "__main__":
    registry.run_module(__spec__.name)
