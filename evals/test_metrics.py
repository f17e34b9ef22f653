"""The former name of ``evals.sanity_check``, for declarations and command lines that have it."""

from __future__ import annotations

import registry
from evals.sanity_check import Config, stage

__all__ = ["Config", "stage"]

if __name__ == "__main__":
    registry.run_module("evals.sanity_check")
