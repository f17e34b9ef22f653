"""Concept bottlenecks of others: networks whose outputs are attributes, one logit for each.

Source: Koh et al., "Concept Bottleneck Models", ICML 2020, arXiv 2007.04612, whose network for CUB
is an Inception v3 with one linear layer for each of 112 attributes.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fact.data.images import Geometry
from fact.data.pickles import PickleError
from fact.data.vocabulary import read_names
from fact.networks.network import Architecture, Network, NetworkError, Normalisation, builder
from fact.networks.pickled import Checkpoint, read_pickled
from fact.networks.weights import load_weights
from registry.wording import counted

HEADS = "all_fc."
"""Begins the names of the linear layers of the attributes, ``all_fc.0.fc.weight``."""

_NOT_NEEDED = ("AuxLogits.", HEADS, "cy_fc.")


@builder("inception-bottleneck")
def build_inception_bottleneck(n_concepts: int, transform_input: bool) -> nn.Module:
    """Return an untrained Inception v3 of torchvision whose logits are those of attributes.

    Parameters
    ----------
    n_concepts : int
        Attributes.
    transform_input : bool
        Whether images, normalised as ImageNet's are, are brought to [-1, 1] first.
    """
    from torchvision.models import Inception3

    module: nn.Module = Inception3(
        num_classes=n_concepts,
        aux_logits=False,
        transform_input=transform_input,
        init_weights=False,
    )
    return module


def concept_bottleneck(file: Path | str, classes: str = "cub-attributes") -> Network:
    """Return the network that predicts attributes, out of a checkpoint of the original code.

    Images are shown as there: the square of 299 pixels at the centre, of a photograph in its own
    size, less 0.5, over 2.

    Parameters
    ----------
    file : path
        The pickled module, of the classes of attributes alone (``Inception3`` with its ``all_fc``)
        or with those that predict birds from them; none of its code is needed or run.
    classes : str
        Names of the attributes, as :func:`fact.data.vocabulary.read_names` takes them.

    Raises
    ------
    NetworkError
        If the file cannot be read, holds another network, or as many logits as there are no names.
    """
    names = read_names(classes)
    try:
        found = read_pickled(file)
    except PickleError as error:
        raise NetworkError(str(error)) from error
    part = _attribute_part(found, str(file))
    heads = _heads(part, len(names), str(file))
    transform_input = bool(part.settings.get("transform_input", True))
    settings = {"n_concepts": len(names), "transform_input": transform_input}
    recipe = Architecture("inception-bottleneck", settings)
    module = recipe.build()
    kept = {n: t for n, t in part.state.items() if not n.startswith(_NOT_NEEDED)}
    counters = {n: t for n, t in module.state_dict().items() if n.endswith("num_batches_tracked")}
    load_weights(module, counters | kept | heads, str(file))
    return Network(
        module.eval().requires_grad_(False),
        name="concept-bottleneck",
        classes=names,
        geometry=Geometry(None, 299),
        bcos=False,
        linear=False,
        architecture=recipe,
        normalisation=Normalisation((0.5, 0.5, 0.5), (2, 2, 2)),
    )


def _attribute_part(found: Checkpoint, file: str) -> Checkpoint:
    """Return the part of a checkpoint whose layers are those of attributes, wherever it lies."""
    above = (f".{name}".partition(f".{HEADS}") for name in found.state)
    # Of the auxiliary branch, which only training needs, there are such layers too.
    prefixes = {start for start, heads, _ in above if heads and not start.endswith(".AuxLogits")}
    if len(prefixes) != 1:
        shown = ", ".join(list(found.state)[:3])
        raise NetworkError(
            f"{file} has no layers {HEADS}0, {HEADS}1, … of attributes, or several such parts; it "
            f"has {shown}, …"
        )
    prefix = f"{prefixes.pop()}.".removeprefix(".")
    return Checkpoint(_below(found.state, prefix), _below(found.settings, prefix))


def _below(entries: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    return {n.removeprefix(prefix): value for n, value in entries.items() if n.startswith(prefix)}


def _heads(part: Checkpoint, n_concepts: int, file: str) -> dict[str, Tensor]:
    """Return the layers of the attributes as one linear layer."""
    if any(name.startswith(HEADS) and ".fc_new." in name for name in part.state):
        raise NetworkError(f"{file}: a hidden layer before each attribute (expand_dim) is not read")
    weights, biases = (_in_order(part.state, f".fc.{what}") for what in ("weight", "bias"))
    if len(weights) == n_concepts + 1 and not part.settings.get("bottleneck", True):
        weights, biases = weights[1:], biases[1:]  # the first one tells birds
    if len(weights) != n_concepts or len(biases) != n_concepts:
        raise NetworkError(
            f"{file} has {len(weights)} attributes, {counted(n_concepts, 'name')} of them"
        )
    if sizes := {len(weight) for weight in weights} - {1}:
        raise NetworkError(f"{file} has {max(sizes)} outputs for an attribute; expected one logit")
    return {"fc.weight": torch.cat(weights), "fc.bias": torch.cat(biases)}


def _in_order(state: Mapping[str, Tensor], tail: str) -> list[Tensor]:
    numbered = {
        int(name.removeprefix(HEADS).removesuffix(tail)): tensor
        for name, tensor in state.items()
        if name.startswith(HEADS) and name.endswith(tail)
    }
    return [numbered[number] for number in sorted(numbered)]
