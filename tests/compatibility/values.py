"""What a dataset holds, as a few lines of JSON that can be compared."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import xarray as xr


def described(dataset: xr.Dataset) -> dict[str, dict[str, Any]]:
    """Return dimensions, sizes and a digest of the values of each variable, coordinates too."""
    return {
        str(name): {
            "dims": list(variable.dims),
            "shape": list(variable.shape),
            "digest": digest_of(variable.values),
        }
        for name, variable in sorted(dataset.variables.items())
    }


def digest_of(values: np.ndarray) -> str:
    """Return a digest of the values of an array: numbers by their bytes, texts by their letters."""
    if values.dtype.kind in "OUT":
        data = "\0".join(map(str, values.ravel().tolist())).encode()
        kind = "text"
    else:
        data = np.ascontiguousarray(values.astype(values.dtype.newbyteorder("<"))).tobytes()
        kind = values.dtype.str.lstrip("<|>=")
    return f"{kind} {hashlib.sha256(data).hexdigest()[:32]}"
