"""Import an SAE that was trained elsewhere, checked on the layer that it was trained on."""

import registry
from fact import schemas
from fact.networks.requirements import needs_networks
from fact.sae.config import ImportSAEConfig as Config

stage = registry.Stage(
    "fact.import_sae",
    version=1,
    config=Config,
    needs={"weights": "sae_weights", "network": "network", "images": "images"},
    output=schemas.SAE,
    main="fact.fidelity.importing:import_sae",
    requires=needs_networks,
)

if __name__ == "__main__":
    registry.run_module(__spec__.name)
