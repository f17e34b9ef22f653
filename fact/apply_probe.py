"""Apply a linear probe to features: each of its labels becomes a neuron of known concept."""

import registry
from fact import schemas
from fact.networks.config import ApplyProbeConfig as Config
from fact.networks.requirements import needs_networks

stage = registry.Stage(
    "fact.apply_probe",
    version=1,
    config=Config,
    needs={
        "probe": "probe | probe_weights",
        "activations": "activations | concepts",
        "labels": "labels?",
    },
    output=schemas.ACTIVATIONS,
    main="fact.networks.probes:apply_probe",
    cut_by="inputs",
    requires=needs_networks,
)

if __name__ == "__main__":
    registry.run_module(__spec__.name)
