"""What a plan can say of networks before one is loaded; no torch is imported here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

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
