"""Put concepts in a layer's place."""

from fact import schemas
from tests.dashboards.toy import toy_stage

stage = toy_stage("fidelity", {"model": "sae"}, schemas.FIDELITY)
