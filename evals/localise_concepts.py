"""Compare maps of concepts with masks: is a concept where the label is that names it?"""

import registry
from evals import schemas
from evals.concepts.config import LocalisationConfig as Config

stage = registry.Stage(
    "evals.localise_concepts",
    version=1,
    config=Config,
    needs={"maps": "maps", "masks": "masks", "names": "names?"},
    output=schemas.LOCALISATION,
    main="evals.concepts.localisation:localise_concepts",
    shows=("evals.concepts.localisation:localisation_table",),
    tables=("evals.concepts.localisation:BY_MEASURE",),
)

if __name__ == "__main__":
    registry.run_module(__spec__.name)
