"""Map where each concept, or neuron, is in a few of the images that it is present in."""

import registry
from fact import schemas
from fact.networks.foresight import refuse_mapping
from fact.networks.requirements import needs_maps
from fact.traces.config import MapConfig as Config

stage = registry.Stage(
    "fact.map_concepts",
    version=1,
    config=Config,
    needs={"concepts": "concepts | activations"},
    output=schemas.MAPS,
    main="fact.traces.maps:map_concepts",
    cut_by="concepts",
    requires=needs_maps,
    refuse=refuse_mapping,
    reaches=("images", "network"),
)

if __name__ == "__main__":
    registry.run_module(__spec__.name)
