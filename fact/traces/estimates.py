"""What collections take of disk, before they are made; no torch is imported."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from registry.declare.requirements import Estimate
from registry.declare.stage import Sizes

USUAL_LENGTH = 1024


def estimate_next_tokens(
    config: Mapping[str, Any], _sizes: Sizes, _found: Mapping[str, Any]
) -> Estimate | None:
    """Return what next tokens take at most, where it is said of how many sequences they are.

    How many channels a layer has is not known before the model is loaded.
    """
    if config["n_sequences"] is None or config["layer"]:
        return None
    inputs = config["n_sequences"] * ((config["length"] or USUAL_LENGTH) - 1)
    neurons = len(config["tokens"]) or config["n_tokens"]
    return Estimate({"input": inputs, "neuron": neurons}, disk=4 * inputs * neurons)
