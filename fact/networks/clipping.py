"""Adaptive gradient clipping: a gradient is short beside the weights that it changes.

Source: Brock, De, Smith, Simonyan, "High-Performance Large-Scale Image Recognition Without
Normalization", ICML 2021, arXiv 2102.06171, equation 3.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

LEAST_WEIGHTS, LEAST_GRADIENT = 1e-3, 1e-6
"""Norms below which those of weights, and of gradients as a divisor, are not taken."""


def clip_adaptively(parameters: Iterable[nn.Parameter], factor: float) -> None:
    """Shorten each unit's gradient to at most ``factor`` times the norm of its weights, in place.

    A unit is what the first dimension counts, as the channels that a convolution puts out; a vector
    is one unit. Weights whose norm is less than 1e-3 count with that.

    Parameters
    ----------
    parameters : iterable of Parameter
        Those without a gradient are left out.
    factor : float
        Above 0.
    """
    for parameter in parameters:
        if parameter.grad is not None:
            most = _unit_norms(parameter.detach()).clamp(min=LEAST_WEIGHTS) * factor
            length = _unit_norms(parameter.grad).clamp(min=LEAST_GRADIENT)
            parameter.grad.mul_((most / length).clamp(max=1))


def _unit_norms(values: Tensor) -> Tensor:
    dims = tuple(range(1, values.ndim)) or None
    norms: Tensor = torch.linalg.vector_norm(values, dim=dims, keepdim=True)
    return norms
