"""Hold results against the published tables, cell by cell: equal, explained, or open."""

import registry
from evals import schemas
from evals.sanity.published_tables import ComparisonConfig as Config

stage = registry.Stage(
    "evals.compare_published",
    version=2,
    config=Config,
    needs={
        "ours": "sanity | identification+",
        "theirs": "sanity | identification*",
        "published": "printed_table?",
    },
    output=schemas.COMPARISON,
    main="evals.sanity.published_tables:compare_published",
    shows=("evals.sanity.published_tables:comparison_table",),
    tables=("evals.sanity.published_tables:BY_CELL",),
)

if __name__ == "__main__":
    registry.run_module(__spec__.name)
