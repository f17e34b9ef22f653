"""Measure how consistent each concept is: its C2-score, beside that of random maps."""

from __future__ import annotations

import registry
from evals import schemas
from evals.concepts.config import ConsistencyConfig

Config = ConsistencyConfig

stage = registry.Stage(
    "evals.measure_consistency",
    version=1,
    config=ConsistencyConfig,
    needs={"encodings": "encodings"},
    output=schemas.CONSISTENCY,
    main="evals.concepts.consistency:measure_consistency",
)


if __name__ == "__main__":
    registry.run_module(__spec__.name)
