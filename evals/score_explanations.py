"""Score how well each label explains each neuron, by every chosen metric."""

import registry
from evals import schemas
from evals.metrics.registered import metric_modules
from evals.scoring.config import ScoringConfig as Config

stage = registry.Stage(
    "evals.score_explanations",
    version=1,
    config=Config,
    needs={
        "activations": "concepts | activations | next_tokens",
        "labels": "labels | next_tokens",
    },
    output=schemas.SCORES,
    plugged=metric_modules,
    main="evals.scoring.scoring:score_explanations",
    cut_by="neurons",
)

if __name__ == "__main__":
    registry.run_module(__spec__.name)
