"""Measure presence and exact contribution of a layer's own channels, as a baseline of concepts."""

import registry
from fact import schemas
from fact.networks.foresight import foresee_contributions
from fact.networks.requirements import needs_networks
from fact.traces.config import ChannelConfig as Config

stage = registry.Stage(
    "fact.measure_channels",
    version=1,
    config=Config,
    needs={"network": "network", "images": "images"},
    output=schemas.CONCEPTS,
    main="fact.traces.measurement:measure_channels",
    cut_by="images",
    foresee=foresee_contributions,
    requires=needs_networks,
    probe="fact.sae.probing:probe_channels",
    probed=("network", "images"),
)

if __name__ == "__main__":
    registry.run_module(__spec__.name)
