"""Measure how well each metric finds the known concept of a neuron among all labels."""

from __future__ import annotations

import registry
from evals import schemas
from evals.identification.config import IdentificationConfig
from evals.metrics.registered import metric_modules

Config = IdentificationConfig

stage = registry.Stage(
    "evals.identify_neurons",
    version=1,
    config=IdentificationConfig,
    needs={"activations": "activations", "labels": "labels"},
    output=schemas.IDENTIFICATION,
    plugged=metric_modules,
    main="evals.identification.identification:identify_neurons",
)


if __name__ == "__main__":
    registry.run_module(__spec__.name)
