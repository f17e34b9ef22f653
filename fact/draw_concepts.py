"""Draw the images in which each concept is strongest, above the colours that it looks for."""

import registry
from fact import schemas
from fact.networks.requirements import needs_networks
from fact.traces.config import GalleryConfig as Config

stage = registry.Stage(
    "fact.draw_concepts",
    version=1,
    config=Config,
    needs={"concepts": "concepts", "consistency": "consistency?"},
    output=schemas.GALLERY,
    main="fact.traces.maps:draw_concepts",
    requires=needs_networks,
    reaches=("images", "network"),
    shows=("fact.traces.figures:gallery_figures",),
)

if __name__ == "__main__":
    registry.run_module(__spec__.name)
