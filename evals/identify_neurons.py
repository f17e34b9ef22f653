"""Measure how well each metric finds the known concept of a neuron among all labels."""

import registry
from evals import schemas
from evals.identification.config import IdentificationConfig as Config
from evals.metrics.registered import metric_modules

stage = registry.Stage(
    "evals.identify_neurons",
    version=1,
    config=Config,
    needs={"activations": "activations | next_tokens", "labels": "labels | next_tokens"},
    output=schemas.IDENTIFICATION,
    plugged=metric_modules,
    main="evals.identification.identification:identify_neurons",
    shows=("evals.identification.identification_table:identification_table",),
    tables=("evals.identification.identification_table:BY_METRIC",),
)

if __name__ == "__main__":
    registry.run_module(__spec__.name)
