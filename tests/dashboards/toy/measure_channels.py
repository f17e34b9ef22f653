"""Measure channels, which rest on no SAE."""

from fact import schemas
from tests.dashboards.toy import toy_stage

stage = toy_stage("measure_channels", {}, schemas.CONCEPTS)
