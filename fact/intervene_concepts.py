"""Take concepts away and put them back: does the logit follow what contributions promised?"""

import registry
from fact import schemas
from fact.networks.foresight import foresee_contributions
from fact.networks.requirements import needs_networks
from fact.traces.config import InterventionConfig as Config

stage = registry.Stage(
    "fact.intervene_concepts",
    version=1,
    config=Config,
    needs={"concepts": "concepts"},
    output=schemas.INTERVENTION,
    main="fact.traces.interventions:intervene_concepts",
    shows=("fact.traces.interventions:intervention_table",),
    foresee=foresee_contributions,
    requires=needs_networks,
    reaches=("images", "network"),
)

if __name__ == "__main__":
    registry.run_module(__spec__.name)
