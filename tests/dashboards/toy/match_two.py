"""Judge whether concepts come back."""

from evals import schemas
from tests.dashboards.toy import toy_stage

stage = toy_stage("match_two", {"one": "concepts", "other": "concepts"}, schemas.MATCHING)
