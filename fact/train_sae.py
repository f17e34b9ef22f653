"""Train a bias-free TopK SAE on collected features."""

import registry
from fact import schemas
from fact.sae.config import SAEConfig as Config

stage = registry.Stage(
    "fact.train_sae",
    version=1,
    config=Config,
    needs={"features": "features"},
    output=schemas.SAE,
    main="fact.sae.training:train_sae",
)

if __name__ == "__main__":
    registry.run_module(__spec__.name)
