"""Find concepts of each class by factorising activations (CRAFT): a baseline of the C2-score."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field

import registry
from fact import schemas


@dataclass(frozen=True)
class Config:
    """Configuration of ``fact.fit_craft``.

    Parameters
    ----------
    layer : str
        Name of the layer, which puts out nothing below 0, as ``layer4``.
    n_concepts : int
        Concepts of each class.
    split : str
        The split whose images are cut into crops, by their labels.
    images_per_class : int or None
        Images of a class, drawn where it has more; None takes all.
    crop : int
        Side of a crop, in pixels of the image as the network sees it.
    iterations : int
        After which a factorisation ends where it is.
    seed : int
        Of the draw and of the factorisations' start.
    batch : int
        Crops at a time.
    device : str
        ``auto``, ``cpu``, ``cuda``, ….
    """

    layer: str
    n_concepts: Annotated[int, Field(ge=1)] = 16
    split: str = "train"
    images_per_class: Annotated[int, Field(ge=1)] | None = 500
    crop: Annotated[int, Field(ge=1)] = 64
    iterations: Annotated[int, Field(ge=1)] = 200
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    batch: Annotated[int, Field(ge=1)] = 64
    device: registry.Runtime[str] = "auto"


stage = registry.Stage(
    "fact.fit_craft",
    version=1,
    config=Config,
    needs={"images": "images", "network": "network"},
    output=schemas.CRAFT,
    preload=("fact.encode.craft_fit",),
)


@stage.main
def fit_craft(config: Config, inputs: registry.Inputs, run: registry.Run) -> Any:
    """Factorise class by class; a stopped run goes on at its next class."""
    from fact.encode.craft_fit import CraftFit
    from fact.networks import network as networks
    from fact.networks.devices import choose_device

    fit = CraftFit(
        networks.load(inputs["network"]).to(choose_device(config.device)),
        inputs["images"].load(),
        config.layer,
        config.n_concepts,
        config.split,
        config.images_per_class,
        config.crop,
        config.iterations,
        config.seed,
        config.batch,
    )
    return fit.run(run)


if __name__ == "__main__":
    registry.run_module(__spec__.name)
