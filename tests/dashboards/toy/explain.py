from fact import schemas
from tests.dashboards.toy import toy_stage

stage = toy_stage("explain", {"concepts": "concepts"}, schemas.DECISIONS)
