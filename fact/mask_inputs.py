"""Mask where labelled objects are, in the images that concepts were mapped in."""

import registry
from fact import schemas
from fact.networks.foresight import refuse_masks
from fact.networks.requirements import needs_networks
from fact.traces.config import MaskConfig as Config

stage = registry.Stage(
    "fact.mask_inputs",
    version=1,
    config=Config,
    needs={"maps": "maps"},
    output=schemas.MASKS,
    main="fact.traces.maps:mask_inputs",
    cut_by="images",
    requires=needs_networks,
    refuse=refuse_masks,
    reaches=("images", "network"),
    aside=True,
)

if __name__ == "__main__":
    registry.run_module(__spec__.name)
