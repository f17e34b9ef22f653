"""Explain decisions: the logit of chosen images as a sum of concepts, each with its map."""

import registry
from fact import schemas
from fact.networks.foresight import foresee_contributions, refuse_maps
from fact.networks.requirements import needs_maps
from fact.traces.config import DecisionConfig as Config

stage = registry.Stage(
    "fact.explain_decisions",
    version=1,
    config=Config,
    needs={"concepts": "concepts", "gallery": "gallery"},
    output=schemas.DECISIONS,
    main="fact.traces.decisions:explain_decisions",
    shows=("fact.traces.figures:decision_figures",),
    foresee=foresee_contributions,
    requires=needs_maps,
    refuse=refuse_maps,
    reaches=("images", "network"),
)

if __name__ == "__main__":
    registry.run_module(__spec__.name)
