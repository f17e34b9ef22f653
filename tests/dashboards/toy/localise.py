"""Localise concepts."""

from evals import schemas
from tests.dashboards.toy import toy_stage

stage = toy_stage("localise", {"concepts": "concepts"}, schemas.LOCALISATION)
