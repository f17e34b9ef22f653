"""Compare maps of concepts with masks: is a concept where the label is that names it?"""

from __future__ import annotations

import registry
from evals import schemas
from evals.concepts.config import LocalisationConfig

Config = LocalisationConfig

stage = registry.Stage(
    "evals.localise_concepts",
    version=1,
    config=LocalisationConfig,
    needs={"maps": "maps", "masks": "masks", "names": "names?"},
    output=schemas.LOCALISATION,
    main="evals.concepts.localisation:localise_concepts",
)


if __name__ == "__main__":
    registry.run_module(__spec__.name)
