"""Label every image with its class and the concepts that its dataset is annotated with."""

import registry
from fact import schemas
from fact.data.config import InputLabelConfig as Config

stage = registry.Stage(
    "fact.label_inputs",
    version=1,
    config=Config,
    needs={"images": "images"},
    output=schemas.LABELS,
    main="fact.data.tables:label_inputs",
)

if __name__ == "__main__":
    registry.run_module(__spec__.name)
