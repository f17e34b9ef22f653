"""Test metrics themselves: do scores of a known concept fall when its labels are corrupted?"""

from __future__ import annotations

import registry
from evals import schemas
from evals.metrics.registered import metric_modules
from evals.sanity.config import SanityConfig

Config = SanityConfig

stage = registry.Stage(
    "evals.sanity_check",
    version=2,
    config=SanityConfig,
    needs={"activations": "activations | concepts?", "labels": "labels?"},
    output=schemas.SANITY,
    plugged=metric_modules,
    formerly=("evals.test_metrics",),
    main="evals.sanity.forms:check_metrics",
)


if __name__ == "__main__":
    registry.run_module(__spec__.name)
