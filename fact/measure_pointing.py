"""Play the grid pointing game: does the map of a class lie on the picture of that class?"""

import registry
from fact import schemas
from fact.networks.config import PointingConfig as Config
from fact.networks.requirements import needs_networks

stage = registry.Stage(
    "fact.measure_pointing",
    version=1,
    config=Config,
    needs={"images": "images", "network": "network"},
    output=schemas.POINTING,
    main="fact.networks.pointing:measure_pointing",
    requires=needs_networks,
)

if __name__ == "__main__":
    registry.run_module(__spec__.name)
