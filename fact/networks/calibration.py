"""Constants that were fitted for the cosines of models of images and texts; read without torch."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple


class Calibration(NamedTuple):
    """Weights of a model of images and texts, and the constants fitted for its cosines.

    Probabilities are ``sigmoid(scale (cos + shift))``: Oikarinen et al., "Evaluating Neuron
    Explanations", ICML 2025, arXiv 2506.05774, and its published code.
    """

    weights: str
    scale: float
    shift: float


CALIBRATION = {
    "ViT-SO400M-14-SigLIP-384": Calibration("webli", 58, -0.13),
    "ViT-L-16-SigLIP-384": Calibration("webli", 60, -0.09),
    "ViT-L-14-336": Calibration("openai", 58, -0.25),
}
"""Models of ``open_clip`` whose cosines have been calibrated on classes and superclasses."""


CALIBRATED = next(iter(CALIBRATION))
"""The one that is taken where none is named."""


def uncalibrated(model: str, folder: Path | str | None = None) -> str:
    """Return why nothing is known of how a model's cosines become probabilities; "" where it is.

    Parameters
    ----------
    model : str
        Name in ``open_clip``.
    folder : path, optional
        Where the weights are taken from, which may be another model's.
    """
    if model not in CALIBRATION:
        return (
            f"no calibration of {model!r}; give both scale and shift, or take one of "
            f"{', '.join(CALIBRATION)}"
        )
    difference = _difference(model, Path(folder).expanduser()) if folder else ""
    if not difference:
        return ""
    return (
        f"{folder} holds another model than {model!r}, whose calibration is no other's "
        f"({difference}): give both scale and shift, or name its model"
    )


def _difference(model: str, folder: Path) -> str:
    """Return in what a folder's model differs from the one of a name; "" where nobody can tell."""
    spec = find_spec("open_clip")
    package = next(iter((spec.submodule_search_locations if spec else None) or ()), None)
    if package is None:
        return ""
    named = _sizes(Path(package, "model_configs", f"{model}.json"))
    found = _sizes(folder / "open_clip_config.json")
    return ", ".join(
        f"{key} {found[key]}, not {value}"
        for key, value in named.items()
        if key in found and found[key] != value
    )


def _sizes(path: Path) -> dict[str, Any]:
    """Return the sizes that a configuration of ``open_clip`` says; none that cannot be read."""
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        config = config.get("model_cfg", config)
        vision, text = config.get("vision_cfg", {}), config.get("text_cfg", {})
        told = {
            "embed_dim": config.get("embed_dim"),
            "image_size": vision.get("image_size"),
            "context_length": text.get("context_length"),
        }
    except (OSError, ValueError, AttributeError):
        return {}
    return {key: value for key, value in told.items() if value is not None}
