"""Draw the images in which each concept, or neuron, is strongest, above where it is in them."""

import registry
from fact import schemas
from fact.networks.foresight import refuse_gallery
from fact.networks.requirements import needs_maps
from fact.traces.config import GalleryConfig as Config

stage = registry.Stage(
    "fact.draw_concepts",
    version=1,
    config=Config,
    needs={
        "concepts": "concepts | activations",
        "consistency": "consistency?",
        "images": "images?",
    },
    output=schemas.GALLERY,
    main="fact.traces.maps:draw_concepts",
    uncut="pictures of all concepts lie beside one dataset",
    requires=needs_maps,
    refuse=refuse_gallery,
    reaches=("images", "network"),
    shows=("fact.traces.figures:gallery_figures",),
)

if __name__ == "__main__":
    registry.run_module(__spec__.name)
