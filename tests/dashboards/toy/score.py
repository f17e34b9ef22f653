"""Score explanations."""

from evals import schemas
from tests.dashboards.toy import toy_stage

stage = toy_stage("score", {}, schemas.SCORES)
