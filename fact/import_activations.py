"""Import activations of neurons from a file."""

import registry
from fact import schemas
from fact.data.config import ImportActivationsConfig as Config

stage = registry.Stage(
    "fact.import_activations",
    version=1,
    config=Config,
    needs={"arrays": "arrays"},
    output=schemas.ACTIVATIONS,
    main="fact.data.tables:import_activations",
)

if __name__ == "__main__":
    registry.run_module(__spec__.name)
