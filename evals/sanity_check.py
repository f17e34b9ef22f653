"""Test metrics themselves: do scores of a known concept fall when its labels are corrupted?"""

import registry
from evals import schemas
from evals.metrics.registered import metric_modules
from evals.sanity.config import SanityConfig as Config

stage = registry.Stage(
    "evals.sanity_check",
    version=2,
    config=Config,
    needs={
        "activations": "activations | concepts | next_tokens?",
        "labels": "labels | next_tokens?",
    },
    output=schemas.SANITY,
    plugged=metric_modules,
    formerly=("evals.test_metrics",),
    main="evals.sanity.forms:check_metrics",
    tables=("evals.sanity.forms:BY_TEST",),
    shows=("evals.sanity.forms:sanity_table", "evals.sanity.figures:plot_sanity"),
)

if __name__ == "__main__":
    registry.run_module(__spec__.name)
