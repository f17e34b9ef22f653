"""Match the concepts of two trainings: which come back under another seed, or another k?"""

import registry
from evals import schemas
from evals.concepts.config import MatchingOptions as Config

stage = registry.Stage(
    "evals.match_concepts",
    version=1,
    config=Config,
    needs={"one": "concepts | sae", "other": "concepts | sae"},
    output=schemas.MATCHING,
    main="evals.concepts.matching:match_concepts",
    shows=("evals.concepts.matching:matching_table",),
    tables=("evals.concepts.matching:BY_BASIS", "evals.concepts.matching:BY_THRESHOLD"),
)

if __name__ == "__main__":
    registry.run_module(__spec__.name)
