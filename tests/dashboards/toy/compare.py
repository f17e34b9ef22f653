"""Identify known neurons."""

from evals import schemas
from tests.dashboards.toy import toy_stage

stage = toy_stage("compare", {}, schemas.COMPARISON)
