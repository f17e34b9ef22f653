"""What a plan can say of networks before one is loaded; no torch is imported here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from registry.declare.cells import Cell
from registry.declare.declared import Resource

APPROXIMATION = (
    "contributions are gradient times activation, an approximation, recorded with its residual "
    "and not held to it; maps are up-sampled codes unless declared otherwise"
)


def foresee_contributions(
    _config: Mapping[str, Any], resources: Mapping[str, Resource]
) -> Iterator[str]:
    """Yield what follows for contributions from what is declared of their network.

    A kind of network says by its attribute ``linear`` whether what it loads is exactly linear in
    its frozen weights; one that says nothing is found out by a probe.

    Parameters
    ----------
    _config : mapping
        Of the stage.
    resources : mapping of str to Resource
        All declared resources that the stage rests on, by name.
    """
    for name, resource in resources.items():
        if resource.provides != "network":
            continue
        linear = getattr(resource.settings, "linear", None)
        linear = resource.found.get("linear") if linear is None else linear
        missed = resource.found.get("probe")
        probed = f" (a probe missed its logits by {missed:.1e})" if missed else ""
        if linear is None:
            yield (
                f"whether network {name!r} is linear in its frozen weights is undeclared: a probe "
                f"finds out before the first task is run. If it is not, {APPROXIMATION}"
            )
        elif not linear:
            yield f"network {name!r} is not linear in its frozen weights{probed}: {APPROXIMATION}"


def foresee_conversion(
    _config: Mapping[str, Any], resources: Mapping[str, Resource]
) -> Iterator[str]:
    """Yield what a conversion to a B-cos network means for what is declared.

    Parameters
    ----------
    _config : mapping
        Of the stage.
    resources : mapping of str to Resource
        All declared resources that the stage rests on, by name.
    """
    for name, resource in resources.items():
        if resource.provides != "network":
            continue
        if getattr(resource.settings, "linear", None):
            yield (
                f"network {name!r} is linear in its frozen weights: there is nothing to convert, "
                "and the task will fail"
            )
        else:
            yield (
                f"network {name!r} becomes a B-cos network: layers that cannot be converted are "
                "named before anything is trained"
            )


RELEVANT = ("standard-cnn", "torchvision-resnet")
"""Architectures of networks that are trained here in which CRP knows every step."""


def refuse_maps(config: Mapping[str, Any], loaded: Mapping[str, Resource | Cell]) -> Iterator[str]:
    """Yield why concepts cannot be mapped by CRP, where that is how they are to be mapped.

    Parameters
    ----------
    config : mapping
        Of the stage.
    loaded : mapping of str to Resource or Cell
        What the stage loads, by slot.
    """
    if config["maps"] == "crp":
        yield from refuse_relevance(config, loaded)


def refuse_mapping(
    config: Mapping[str, Any], loaded: Mapping[str, Resource | Cell]
) -> Iterator[str]:
    """Yield why concepts or neurons cannot be mapped: for want of a network, or `refuse_maps`.

    Parameters
    ----------
    config : mapping
        Of the stage.
    loaded : mapping of str to Resource or Cell
        What the stage loads, by slot.
    """
    if "network" not in loaded:
        name = loaded["concepts"].name
        yield f"no network is behind {name!r}: only what a network's layers give has a place"
    yield from refuse_maps(config, loaded)


def refuse_masks(
    _config: Mapping[str, Any], loaded: Mapping[str, Resource | Cell]
) -> Iterator[str]:
    """Yield why objects cannot be masked: images whose kind takes masks were given none.

    Parameters
    ----------
    config : mapping
        Of the stage.
    loaded : mapping of str to Resource or Cell
        What the stage loads, by slot.
    """
    images = loaded.get("images")
    if isinstance(images, Resource) and getattr(images.settings, "masks", "") is None:
        yield (
            f"images {images.name!r} have no masks of their labels: the key `masks` of "
            f"[datasets.{images.name}] says where they lie"
        )


def refuse_gallery(
    config: Mapping[str, Any], loaded: Mapping[str, Resource | Cell]
) -> Iterator[str]:
    """Yield why concepts or neurons cannot be drawn: for want of images, or as :func:`refuse_maps`.

    Parameters
    ----------
    config : mapping
        Of the stage.
    loaded : mapping of str to Resource or Cell
        What the stage loads, by slot.
    """
    if "images" not in loaded:
        name = loaded["concepts"].name
        yield (
            f"no images are behind {name!r}: name the images that its rows are of, as "
            f'needs = {{ concepts = "{name}", images = "…" }}'
        )
    yield from refuse_maps(config, loaded)


def refuse_relevance(
    _config: Mapping[str, Any], loaded: Mapping[str, Resource | Cell]
) -> Iterator[str]:
    """Yield why CRP does not know the network: its kind says so, or a first look found it out.

    A kind of network says by its attribute ``crp`` whether every step of what it loads has a rule;
    of one that says nothing the first look at a network tells.

    Parameters
    ----------
    _config : mapping
        Of the stage.
    loaded : mapping of str to Resource or Cell
        What the stage loads, by slot.
    """
    network = loaded.get("network")
    known: Any = None
    if isinstance(network, Cell):
        known = network.config.get("architecture") in RELEVANT
    elif network is not None:
        known = getattr(network.settings, "crp", None)
        known = network.found.get("crp") if known is None else known
    if network is not None and known is False:
        yield (
            f"maps by CRP of network {network.name!r}: there are no rules for its architecture; "
            'expected a ResNet, VGG or AlexNet of torchvision, architecture = "standard-cnn" or '
            '"torchvision-resnet" of fact.train_classifier, or a sequence of usual layers'
        )
