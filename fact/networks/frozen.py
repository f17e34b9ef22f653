"""Layers of ordinary networks whose dynamic weights can be frozen, made of the weights they have.

Each is what the standard layer is as long as it keeps its bias and ``b`` is 1. Without biases, and
in explanation mode, each is linear in its input: what multiplies its input is then constant.
Source: Arya, Rao, Böhle, Schiele, "B-cosification", NeurIPS 2024, arXiv 2411.00715.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import torch
from bcos.modules import BcosConv2d, BcosLinear, norms
from bcos.modules.common import DetachableModule
from torch import Tensor, nn
from torch.nn import functional


def bcos_convolution(part: nn.Conv2d, b: float, bias: bool) -> nn.Module:
    """Return a B-cos convolution with the weights of a standard one, which are not normalised.

    ``out * (|out| / ||patch||)^(b - 1)`` with ``out = W patch``: the weights keep their lengths, so
    that with ``b = 1`` nothing changes.

    Parameters
    ----------
    part : Conv2d
        Padded with zeros.
    b : float
        Exponent, at least 1.
    bias : bool
        Keep the bias, which leaves the layer affine.
    """
    sizes = part.kernel_size, part.stride, part.padding
    made: nn.Module = BcosConv2d(
        part.in_channels, part.out_channels, *sizes, groups=part.groups, b=b
    )
    made.linear = _linear_part(part, bias)
    made.dilation = part.dilation  # type: ignore[assignment]
    if not _pools_as_it_pads(part):
        made.calc_patch_norms = made._calc_patch_norms_slow
    return made


def bcos_linear(part: nn.Linear, b: float, bias: bool) -> nn.Module:
    """Return a B-cos linear layer with the weights of a standard one; see the convolution."""
    made: nn.Module = BcosLinear(part.in_features, part.out_features, b=b)
    made.linear = _linear_part(part, bias)
    return made


def _linear_part(part: nn.Module, bias: bool) -> nn.Module:
    kept = copy.deepcopy(part)
    if not bias:
        kept.register_parameter("bias", None)
    return kept


def _pools_as_it_pads(part: nn.Conv2d) -> bool:
    """Whether an average over a convolution's patches exists, which is the fast way to norms."""
    if isinstance(part.padding, str) or any(step != 1 for step in part.dilation):
        return False
    return all(2 * pad <= side for pad, side in zip(part.padding, part.kernel_size, strict=True))


def uncentred_batch_norm(part: nn.BatchNorm2d, bias: bool) -> nn.Module:
    """Return a batch norm that takes no mean away: the running one is folded into the bias.

    With the bias it is, in evaluation mode, what it was.
    """
    assert part.running_var is not None
    assert part.running_mean is not None
    made: Any = norms.BatchNormUncentered2d(
        part.num_features, part.eps, part.momentum, part.affine or bias
    ).to(part.running_var)
    made.running_var.copy_(part.running_var)
    del made.running_mean  # which nothing reads
    made.register_buffer("running_mean", None)
    if part.affine:
        made.weight.data.copy_(part.weight.data)
    if not bias:
        made.register_parameter("bias", None)
        return _module(made)
    scale = made.weight.data / (part.running_var + part.eps).sqrt()
    own = part.bias.data if part.affine else torch.zeros_like(scale)
    made.bias.data.copy_(own - part.running_mean * scale)
    return _module(made)


def _module(made: Any) -> nn.Module:
    module: nn.Module = made  # bcos is untyped
    return module


def layer_norm(part: nn.LayerNorm, bias: bool) -> nn.Module:
    """Return a layer norm whose deviation can be frozen; taking the mean away is linear."""
    made = norms.DetachableLayerNorm(part.normalized_shape, part.eps, part.elementwise_affine)
    return _with_affine(made, part, bias)


def position_norm(part: nn.LayerNorm, bias: bool) -> nn.Module:
    """Return a layer norm over the channels of maps, whose deviation can be frozen."""
    made = norms.DetachablePositionNorm2d(
        part.normalized_shape[0], part.eps, part.elementwise_affine
    )
    return _with_affine(made, part, bias)


def group_norm(part: nn.GroupNorm, bias: bool) -> nn.Module:
    """Return a group norm of maps whose deviation can be frozen."""
    made = norms.DetachableGroupNorm2d(part.num_groups, part.num_channels, part.eps, part.affine)
    return _with_affine(made, part, bias)


def _with_affine(made: Any, part: nn.LayerNorm | nn.GroupNorm, bias: bool) -> nn.Module:
    if part.weight is not None:
        made.to(part.weight).weight.data.copy_(part.weight.data)
    if part.bias is not None and bias:
        made.bias.data.copy_(part.bias.data)
    else:
        made.register_parameter("bias", None)
    return _module(made)


def _gelu(x: Tensor) -> Tensor:
    return 0.5 * (1 + torch.erf(x / math.sqrt(2)))


def _gelu_tanh(x: Tensor) -> Tensor:
    return 0.5 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def _relu6(x: Tensor) -> Tensor:
    return functional.relu6(x) / torch.where(x == 0, 1, x)


GATES: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": _gelu,
    "gelu_tanh": _gelu_tanh,
    "silu": torch.sigmoid,
    "relu6": _relu6,
    "hardswish": lambda x: functional.relu6(x + 3) / 6,
}
"""What an activation multiplies its input with, ``activation(x) = gate(x) x``."""


class Gate(DetachableModule):  # type: ignore[misc]  # bcos is untyped
    """An activation function as a gate times its input, whose gate can be frozen.

    Parameters
    ----------
    activation : str
        A key of :data:`GATES`.
    """

    def __init__(self, activation: str):
        super().__init__()
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        """Return ``gate(x) x``."""
        return GATES[self.activation](x.detach() if self.detach else x) * x

    def extra_repr(self) -> str:
        """Return the name of the activation."""
        return self.activation


class FrozenAttention(DetachableModule):  # type: ignore[misc]
    """Self-attention whose weights of tokens can be frozen: then it is linear in its values.

    Parameters
    ----------
    query_key : Linear
        ``(channel) -> (2 * heads * head_channel)``, queries first; a bias in it stays within the
        frozen weights.
    value : Linear
        ``(channel) -> (heads * head_channel)``.
    out : Module
        From all heads to what is put out.
    heads : int
        How many there are.
    paired : bool
        Called with queries, keys and values, and answers with a pair, as torch's own does.
    """

    def __init__(
        self, query_key: nn.Linear, value: nn.Linear, out: nn.Module, heads: int, paired: bool
    ):
        super().__init__()
        self.query_key, self.value, self.out = query_key, value, out
        self.heads, self.paired = heads, paired

    def forward(
        self, x: Tensor, key: Tensor | None = None, value: Tensor | None = None, **options: object
    ) -> Tensor | tuple[Tensor, None]:
        """Return tokens ``(image, token, channel)``; as the first of a pair where it is paired.

        Raises
        ------
        ValueError
            If it is asked for another attention than that of all tokens to all.
        """
        masks = [options.get(name) for name in ("attn_mask", "key_padding_mask", "is_causal")]
        if any(other is not None and other is not x for other in (key, value)) or any(
            mask is not None and mask is not False for mask in masks
        ):
            raise ValueError("attention to other tokens, or masked; expected that of all to all")
        query, keys = self.query_key(x.detach() if self.detach else x).chunk(2, dim=-1)
        query, keys, values = map(self._by_head, (query, keys, self.value(x)))
        weights = (query @ keys.transpose(-1, -2) / math.sqrt(query.shape[-1])).softmax(dim=-1)
        found: Tensor = self.out((weights @ values).transpose(1, 2).flatten(2))
        return (found, None) if self.paired else found

    def _by_head(self, tokens: Tensor) -> Tensor:
        return tokens.view(*tokens.shape[:2], self.heads, -1).transpose(1, 2)


def frozen_attention(
    weight: Tensor,
    bias: Tensor | None,
    out: nn.Module,
    heads: int,
    keep_bias: bool,
    paired: bool = False,
) -> FrozenAttention:
    """Return attention from stacked weights of queries, keys and values.

    Parameters
    ----------
    weight, bias : Tensor
        ``(3 * heads * head_channel, channel)`` and ``(3 * heads * head_channel,)``.
    out : Module
        From all heads to what is put out.
    heads : int
        How many there are.
    keep_bias : bool
        Keep that of the values; that of queries and keys always stays.
    paired : bool
        As of :class:`FrozenAttention`.
    """
    inner = len(weight) // 3
    query_key = _filled(weight[: 2 * inner], None if bias is None else bias[: 2 * inner])
    own = bias[2 * inner :] if bias is not None and keep_bias else None
    return FrozenAttention(query_key, _filled(weight[2 * inner :], own), out, heads, paired)


def _filled(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    made = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    made.weight.data = weight.detach().clone()
    if bias is not None:
        made.bias.data = bias.detach().clone()
    return made


class Embedding(nn.Module):
    """Marks a learned position or token, which no pixel gives: a leaf of its own when explained."""

    def forward(self, value: Tensor) -> Tensor:
        """Return it as it is."""
        return value
