"""Collect the activations of neurons: a network's logits, or the channels of a layer."""

import registry
from fact import schemas
from fact.networks.requirements import needs_networks
from fact.traces.config import ActivationConfig as Config

stage = registry.Stage(
    "fact.collect_activations",
    version=1,
    config=Config,
    needs={"images": "images", "network": "network"},
    output=schemas.ACTIVATIONS,
    main="fact.traces.activations:collect_activations",
    cut_by="images",
    requires=needs_networks,
)

if __name__ == "__main__":
    registry.run_module(__spec__.name)
