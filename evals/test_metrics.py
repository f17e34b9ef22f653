"""The former name of ``evals.sanity_check``, for declarations and command lines that have it."""

import registry
from evals.sanity_check import stage

Config = stage.config

if __name__ == "__main__":
    registry.run_module("evals.sanity_check")
