"""Map where each concept is, in a few of the images that it is present in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

import registry
from fact import schemas

if TYPE_CHECKING:
    import xarray as xr

    from registry.store.shards import Shards

CONCEPTS = 64
"""Concepts that are mapped at once, and of a part."""


@dataclass(frozen=True)
class Config:
    """Configuration of ``fact.map_concepts``.

    Parameters
    ----------
    n_images : int
        Images per concept.
    images : str
        ``strongest`` takes those with the largest presence, ``random`` any in which the concept is
        present. What is true of the strongest may not be true of all.
    most : int or None
        Map only so many concepts, those in most images; None maps all that are alive.
    cell : int
        Side of a cell of a map, in pixels of the image as the network sees it; maps are summed
        over it. Maps take 4 bytes for each cell, image and concept.
    seed : int
        Draws images.
    device : str
        ``auto``, ``cpu``, ``cuda``, ….
    """

    n_images: Annotated[int, Field(ge=1)] = 16
    images: str = "strongest"
    most: Annotated[int, Field(ge=1)] | None = None
    cell: Annotated[int, Field(ge=1)] = 1
    seed: Annotated[int, Field(ge=0)] = 0
    device: registry.Runtime[str] = "auto"

    def __post_init__(self) -> None:
        if self.images not in ("strongest", "random"):
            raise ValueError(f"images {self.images!r}; expected 'strongest' or 'random'")


stage = registry.Stage(
    "fact.map_concepts",
    version=1,
    config=Config,
    needs={"concepts": "concepts"},
    output=schemas.MAPS,
    preload=("fact.traces.maps",),
)


@stage.main
def map_concepts(config: Config, inputs: registry.Inputs, run: registry.Run) -> xr.Dataset | Shards:
    """Choose images for every concept that is alive, and map it in them, part by part."""
    import xarray as xr

    from fact.traces.concept_source import ConceptSource
    from fact.traces.gallery import alive_concepts
    from fact.traces.maps import choose_images, map_images

    source = ConceptSource.of_concepts(inputs["concepts"], config.device)
    images = inputs["concepts"].origin("images").load()
    writer = run.shards()
    with inputs["concepts"].open() as measured:
        alive = alive_concepts(measured, config.most)
        for index, start in enumerate(range(0, len(alive), CONCEPTS)):
            if index in writer.done:
                continue
            presence = measured["presence"].isel(concept=alive[start : start + CONCEPTS]).load()
            chosen = choose_images(presence, config.n_images, config.images, config.seed)
            writer.append(map_images(source, images, chosen, config.cell), index)
            run.progress(min(start + CONCEPTS, len(alive)), len(alive), "concepts")
    return writer.finish(xr.Dataset({"cell": config.cell, "n_concepts": len(alive)}))


if __name__ == "__main__":
    registry.run_module(__spec__.name)
