"""Measure presence and contribution of every concept in every image, exactly where that can be."""

import registry
from fact import schemas
from fact.networks.foresight import foresee_contributions
from fact.networks.requirements import needs_networks
from fact.traces.config import MeasureConfig as Config

stage = registry.Stage(
    "fact.measure_concepts",
    version=1,
    config=Config,
    needs={"sae": "sae", "images": "images"},
    output=schemas.CONCEPTS,
    main="fact.traces.measurement:measure_concepts",
    cut_by="images",
    foresee=foresee_contributions,
    requires=needs_networks,
    reaches=("network",),
)

if __name__ == "__main__":
    registry.run_module(__spec__.name)
