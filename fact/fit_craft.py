"""Find concepts of each class by factorising activations (CRAFT): a baseline of the C2-score."""

import registry
from fact import schemas
from fact.encode.config import FactorisationConfig as Config
from fact.networks.requirements import needs_baselines

stage = registry.Stage(
    "fact.fit_craft",
    version=1,
    config=Config,
    needs={"images": "images", "network": "network"},
    output=schemas.CRAFT,
    main="fact.encode.craft:fit_craft",
    cut_by="classes",
    requires=needs_baselines,
)

if __name__ == "__main__":
    registry.run_module(__spec__.name)
