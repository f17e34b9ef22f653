"""What features and SAEs take of disk and memory, before they are made; no torch is imported."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from registry.declare.requirements import Estimate
from registry.declare.stage import Sizes


def estimate_features(
    _config: Mapping[str, Any], _sizes: Sizes, found: Mapping[str, Any]
) -> Estimate | None:
    """Return what features take, where a first look has counted them."""
    if not {"n_samples", "channels"} <= found.keys():
        return None
    sizes = {"sample": found["n_samples"], "channel": found["channels"]}
    return Estimate(sizes, disk=4 * found["n_samples"] * found["channels"])  # hardly compressible


def estimate_sae(
    config: Mapping[str, Any], sizes: Sizes, _found: Mapping[str, Any]
) -> Estimate | None:
    """Return what an SAE takes, where it is known how many channels its features have."""
    features = sizes.get("features", {})
    if "channel" not in features:
        return None
    weights = 2 * 4 * config["n_concepts"] * features["channel"]
    codes = 2 * 4 * config["batch"] * config["n_concepts"]
    samples = min(config["memory"], 4 * features.get("sample", 0) * features["channel"])
    # weights, their gradients, both moments of Adam, and the best weights so far
    return Estimate({"concept": config["n_concepts"]}, weights, 5 * weights + codes + samples)
