"""Relevance of a layer, handed back to the image: layer-wise relevance propagation (LRP).

By the z-plus rule in convolutions, by the epsilon rule in other linear layers, flat in the first
layer; batch norms are merged into the layers before them, and sums share out by what each summand
gave. The rules are those of the package ``zennit`` (its composite ``EpsilonPlusFlat`` and
``ResNetCanonizer``). Where biases are zero, relevance is conserved; what positive biases gave is
lost on the way.

Sources: Bach et al., "On Pixel-Wise Explanations for Non-Linear Classifier Decisions by Layer-Wise
Relevance Propagation", PLoS ONE 10(7), 2015; Anders et al., "Software for Dataset-wide XAI", arXiv
2106.13200.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torchvision.models import VGG, AlexNet, ResNet
from torchvision.models.resnet import BasicBlock, Bottleneck

from fact.networks.layers import run_until
from fact.networks.network import Network, NetworkError, explanation_mode, is_bcos

KNOWN = (ResNet, VGG, AlexNet, nn.Sequential)
"""Networks in which every step has a rule; a sequence is one if all that stands in it is."""

PARTS: tuple[type[nn.Module], ...] = (
    *(nn.Conv2d, nn.Linear, nn.BatchNorm2d, nn.Flatten, nn.Identity, nn.Dropout),
    *(nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.MaxPool2d, nn.AdaptiveMaxPool2d),
    *(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU),
    *(nn.Hardswish, nn.Hardsigmoid, nn.Sigmoid, nn.Tanh, nn.Softplus),
)
"""Layers with a rule."""


def without_rules(module: nn.Module) -> list[str]:
    """Return the names of the types in a network that no rule is known of; none where all are."""
    if is_bcos(module):
        return [type(module).__name__]
    known = (*KNOWN, BasicBlock, Bottleneck)

    def has_rule(part: nn.Module) -> bool:
        if type(part) in PARTS:
            return True
        return any(isinstance(part, own) and type(part).forward is own.forward for own in known)

    lacking = [type(part).__name__ for part in module.modules() if not has_rule(part)]
    return list(dict.fromkeys(lacking))


def require_rules(module: nn.Module) -> None:
    """Refuse a network in which not every step has a rule.

    Raises
    ------
    NetworkError
        With the types of its parts that have none.
    """
    if lacking := without_rules(module):
        names = ", ".join(cls.__name__ for cls in KNOWN)
        told = ", ".join(lacking[:4]) + (", …" if len(lacking) > 4 else "")
        raise NetworkError(f"CRP has no rules for {told}; expected one of {names}, not B-cos")


@contextmanager
def relevance_pass(
    network: Network, layer: str, encoded: Tensor
) -> Iterator[tuple[Tensor, Callable[[Tensor], Tensor]]]:
    """Run a network once, and hand relevances of a layer's output back to the image.

    Parameters
    ----------
    network : Network
        In which every step has a rule; as it was when the context ends.
    layer : str
        Name of the layer; "" for the network's own output.
    encoded : Tensor
        From :meth:`fact.networks.network.Network.encode`.

    Yields
    ------
    output : Tensor
        What the layer puts out.
    propagate : callable
        Takes the relevance of each of its values, of several vectors ``(vector, *output)``, and
        returns that of the pixels, summed over colours, ``(vector, image, y, x)``.

    Raises
    ------
    ImportError
        If zennit is not installed.
    NetworkError
        If a step has no rule.
    LayerError
        If there is no such layer.
    """
    encoded = encoded.detach().requires_grad_()
    with _rules(network.module):
        with torch.enable_grad():
            if layer:
                output = run_until(network.module, layer, encoded).output
            else:
                output = network.module(encoded)

        def propagate(starts: Tensor) -> Tensor:
            several = len(starts) > 1
            (found,) = torch.autograd.grad(
                output,
                encoded,
                starts if several else starts[0],
                retain_graph=True,
                is_grads_batched=several,
            )
            return (found if several else found.unsqueeze(0)).sum(dim=2)

        yield output.detach(), propagate


@contextmanager
def _rules(module: nn.Module) -> Iterator[None]:
    """Let gradients be relevances while the context lasts; the module is as before after it."""
    try:
        from zennit.composites import EpsilonPlusFlat
        from zennit.torchvision import ResNetCanonizer
    except ImportError as error:
        raise ImportError("CRP needs zennit: pip install 'factbook[baselines]'") from error
    require_rules(module)
    with (
        explanation_mode(module),
        EpsilonPlusFlat(canonizers=[ResNetCanonizer()]).context(module),
    ):  # in evaluation mode, since batch statistics cannot be merged
        yield
