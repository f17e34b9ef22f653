"""Take concepts away and put them back: does the logit follow what contributions promised?"""

import registry
from fact import schemas
from fact.traces.config import InterventionConfig as Config

stage = registry.Stage(
    "fact.intervene_concepts",
    version=1,
    config=Config,
    needs={"concepts": "concepts"},
    output=schemas.INTERVENTION,
    main="fact.traces.interventions:intervene_concepts",
)

if __name__ == "__main__":
    registry.run_module(__spec__.name)
