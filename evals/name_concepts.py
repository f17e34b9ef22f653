"""Name each concept by the label that explains it best, scored on inputs it was not chosen on."""

import registry
from evals import schemas
from evals.metrics.registered import metric_modules
from evals.naming.config import NamingConfig as Config

stage = registry.Stage(
    "evals.name_concepts",
    version=2,
    config=Config,
    needs={
        "activations": "concepts | activations | next_tokens",
        "labels": "labels | next_tokens",
        "sanity": "sanity?",
    },
    output=schemas.NAMES,
    plugged=metric_modules,
    main="evals.naming.named_datasets:name_concepts",
    uncut="chance is drawn for all concepts together",
    shows=("evals.naming.tables:names_table",),
    tables=("evals.naming.tables:NAMERS",),
)

if __name__ == "__main__":
    registry.run_module(__spec__.name)
