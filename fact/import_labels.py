"""Import labels of inputs from a file."""

import registry
from fact import schemas
from fact.data.array_file import refuse_labels
from fact.data.config import ImportConfig as Config

stage = registry.Stage(
    "fact.import_labels",
    version=1,
    config=Config,
    needs={"arrays": "arrays"},
    output=schemas.LABELS,
    main="fact.data.tables:import_labels",
    refuse=refuse_labels,
)

if __name__ == "__main__":
    registry.run_module(__spec__.name)
