"""Match the concepts of two trainings: which come back under another seed, or another k?"""

from __future__ import annotations

import sys
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

import registry
from evals import schemas

if TYPE_CHECKING:
    import xarray as xr

    from evals.concepts.matching import ConceptSet


@dataclass(frozen=True)
class Config:
    """Configuration of ``evals.match_concepts``.

    Parameters
    ----------
    thresholds : tuple of float
        Similarities, in [-1, 1], from which on matched concepts count as the same.
    n_null : int
        Draws of the null: random directions, and presences of shuffled images.
    n_bootstrap : int
        Draws of an interval, over concepts; 0 for none.
    confidence : float
        Share of draws within an interval, in (0, 1).
    seed : int
        Draws null and bootstrap.
    workers : int
        Threads.
    """

    thresholds: Annotated[tuple[Annotated[float, Field(ge=-1, le=1)], ...], Field(min_length=1)] = (
        0.5,
        0.7,
        0.9,
    )
    n_null: Annotated[int, Field(ge=0)] = 5
    n_bootstrap: Annotated[int, Field(ge=0)] = 1000
    confidence: Annotated[float, Field(gt=0, lt=1)] = 0.95
    seed: Annotated[int, Field(ge=0)] = 0
    workers: registry.Runtime[Annotated[int, Field(ge=1)]] = 1

    def __post_init__(self) -> None:
        if len(set(self.thresholds)) < len(self.thresholds):
            raise ValueError(f"a threshold is named twice in {list(self.thresholds)}")


stage = registry.Stage(
    "evals.match_concepts",
    version=1,
    config=Config,
    needs={"one": "concepts | sae", "other": "concepts | sae"},
    output=schemas.MATCHING,
    preload=("evals.concepts.matching",),
)


@stage.main
def match_concepts(config: Config, inputs: registry.Inputs, run: registry.Run) -> xr.Dataset:
    """Match by decoders, and by presences where both sets were measured."""
    from evals.concepts.matching import MatchingOptions, match_sets
    from evals.concepts.matching_table import matching_table

    _require_one_layer(inputs["one"], inputs["other"])
    options = MatchingOptions(
        thresholds=config.thresholds,
        n_null=config.n_null,
        n_bootstrap=config.n_bootstrap,
        confidence=config.confidence,
        seed=config.seed,
        workers=config.workers,
    )
    with ExitStack() as stack:
        sets = [_concepts(inputs[slot], stack) for slot in ("one", "other")]
        matched = match_sets(sets[0], sets[1], options)
    sys.stdout.write(matching_table(matched))
    return matched


def _concepts(given: registry.Input, stack: ExitStack) -> ConceptSet:
    """Return directions and presences of concepts, as far as there are any."""
    from evals.concepts.matching import ConceptSet

    if given.kind == "sae":
        return ConceptSet(stack.enter_context(given.open())["decoder"].load())
    presence = stack.enter_context(given.open())["presence"]
    if "sae" not in given.inputs:
        return ConceptSet(presence=presence)
    return ConceptSet(stack.enter_context(given.inputs["sae"].open())["decoder"].load(), presence)


def _require_one_layer(one: registry.Input, other: registry.Input) -> None:
    """Raise unless both sets are of one layer of one network.

    Raises
    ------
    ValueError
        With the two layers.
    """
    layers = [_layer(given) for given in (one, other)]
    if layers[0][1:] != layers[1][1:]:
        texts = [f"{name} is of layer {layer} of {network}" for name, layer, network, _ in layers]
        raise ValueError(f"{'; '.join(texts)}: expected concepts of one layer of one network")


def _layer(given: registry.Input) -> tuple[str, str, str, str]:
    """Return the name of a set, its layer, and the name and fingerprint of the network."""
    is_sae = given.kind == "sae" or "sae" in given.inputs
    source = given.origin("features") if is_sae else given
    network = source.origin("network")
    return given.name, source.config["layer"], network.name, network.fingerprint


if __name__ == "__main__":
    registry.run_module(__spec__.name)
