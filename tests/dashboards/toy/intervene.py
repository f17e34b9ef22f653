"""Intervene on concepts."""

from fact import schemas
from tests.dashboards.toy import toy_stage

stage = toy_stage("intervene", {"concepts": "concepts"}, schemas.INTERVENTION)
