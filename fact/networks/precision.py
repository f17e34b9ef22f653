"""The precision in which networks compute: float32, or products from bfloat16."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from fact.data.config import Precision


def computing_in(precision: Precision, device: torch.device) -> AbstractContextManager[object]:
    """Return the context in which a network computes.

    Parameters
    ----------
    precision : str
        ``float32`` changes nothing. In ``bf16``, products of matrices and convolutions take
        bfloat16, as :class:`torch.autocast` chooses them; weights stay what they are.
    device : torch.device
        Where.
    """
    if precision == "float32":
        return nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)


def exact(values: Tensor) -> Tensor:
    """Return values of half the width in float32, others as they are: to choose by, and to sum."""
    return values.float() if values.dtype in (torch.bfloat16, torch.float16) else values
