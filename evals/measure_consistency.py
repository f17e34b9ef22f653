"""Measure how consistent each concept is: its C2-score, beside that of random maps."""

import registry
from evals import schemas
from evals.concepts.config import ConsistencyConfig as Config

stage = registry.Stage(
    "evals.measure_consistency",
    version=1,
    config=Config,
    needs={"encodings": "encodings"},
    output=schemas.CONSISTENCY,
    main="evals.concepts.consistency:measure_consistency",
    shows=("evals.concepts.consistency:consistency_table",),
)

if __name__ == "__main__":
    registry.run_module(__spec__.name)
