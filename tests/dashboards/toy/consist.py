"""Measure consistency."""

from evals import schemas
from tests.dashboards.toy import toy_stage

stage = toy_stage("consist", {"concepts": "concepts"}, schemas.CONSISTENCY)
