"""Match concepts."""

from evals import schemas
from tests.dashboards.toy import toy_stage

stage = toy_stage("match", {"one": "concepts"}, schemas.MATCHING)
