"""Train a linear probe: a logistic regression of labels on features, for each label by itself."""

import registry
from fact import schemas
from fact.networks.config import ProbeConfig as Config
from fact.networks.requirements import needs_networks

stage = registry.Stage(
    "fact.train_probe",
    version=1,
    config=Config,
    needs={"features": "activations | concepts | features", "labels": "labels"},
    output=schemas.PROBE_WEIGHTS,
    main="fact.networks.probes:train_probe",
    uncut="each step of a training needs the one before",
    requires=needs_networks,
)

if __name__ == "__main__":
    registry.run_module(__spec__.name)
