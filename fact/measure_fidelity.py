"""Put concepts in a layer's place: how much of the output is recovered, how dense are concepts?"""

import registry
from fact import schemas
from fact.fidelity.config import FidelityConfig as Config
from fact.networks.requirements import needs_networks

stage = registry.Stage(
    "fact.measure_fidelity",
    version=1,
    config=Config,
    needs={"model": "sae | craft", "images": "images"},
    output=schemas.FIDELITY,
    main="fact.fidelity.measurement:measure_fidelity",
    requires=needs_networks,
    reaches=("images", "network"),
    shows=("fact.fidelity.tables:fidelity_table",),
)

if __name__ == "__main__":
    registry.run_module(__spec__.name)
