"""Turn an ordinary network into a B-cos network that starts from its weights, and fine-tune it."""

import registry
from fact import schemas
from fact.networks.config import BcosifyConfig as Config
from fact.networks.foresight import foresee_conversion
from fact.networks.requirements import needs_networks

stage = registry.Stage(
    "fact.bcosify_network",
    version=1,
    config=Config,
    needs={"images": "images", "network": "network"},
    output=schemas.NETWORK,
    main="fact.networks.bcosification:bcosify_network",
    uncut="each step of a training needs the one before",
    foresee=foresee_conversion,
    requires=needs_networks,
    probe="fact.networks.bcosification:probe_conversion",
    probed=("network", "images"),
)

if __name__ == "__main__":
    registry.run_module(__spec__.name)
