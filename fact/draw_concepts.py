"""Draw the images in which each concept is strongest, above the colours that it looks for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

import registry
from fact import schemas

if TYPE_CHECKING:
    import xarray as xr


@dataclass(frozen=True)
class Config:
    """Configuration of ``fact.draw_concepts``.

    Parameters
    ----------
    n_images : int
        Images per concept.
    most : int or None
        Draw only so many concepts, those in most images; None draws all that are alive.
    smooth : int
        Side of the box that the opacity is averaged over, in pixels; odd.
    pictures : bool
        Leave a PNG picture of each concept beside the dataset, ``pictures/concept-00003.png``.
    device : str
        ``auto``, ``cpu``, ``cuda``, ….
    """

    n_images: Annotated[int, Field(ge=1)] = 16
    most: Annotated[int, Field(ge=1)] | None = None
    smooth: Annotated[int, Field(ge=1)] = 3
    pictures: bool = True
    device: registry.Runtime[str] = "auto"

    def __post_init__(self) -> None:
        if self.smooth % 2 == 0:
            raise ValueError(f"smooth {self.smooth}; expected an odd number")


stage = registry.Stage(
    "fact.draw_concepts",
    version=1,
    config=Config,
    needs={"concepts": "concepts"},
    output=schemas.GALLERY,
    preload=("fact.traces.gallery",),
)


@stage.main
def draw_concepts(config: Config, inputs: registry.Inputs, run: registry.Run) -> xr.Dataset:
    """Find the strongest images, explain them, and paint a picture per concept."""
    import xarray as xr

    from fact.traces.concept_source import ConceptSource
    from fact.traces.gallery import alive_concepts, draw_gallery
    from fact.traces.plots import gallery_picture, select_gallery

    source = ConceptSource.of_concepts(inputs["concepts"], config.device)
    images = inputs["concepts"].origin("images").load()
    with inputs["concepts"].open() as measured:
        chosen = alive_concepts(measured, config.most)
        parts = []
        for start in range(0, len(chosen), 32):
            some = chosen[start : start + 32]
            found = select_gallery(measured["presence"].isel(concept=some), config.n_images)
            parts.append(draw_gallery(source, images, measured, found, config.smooth))
            run.progress(start + len(some), len(chosen), "concepts")
    gallery = xr.concat(parts, "concept", data_vars="all", join="exact")
    if config.pictures:
        for concept in chosen:
            picture = gallery_picture(gallery, int(concept))
            picture.save(run.attach(f"pictures/concept-{concept:05d}.png"))
    return gallery


if __name__ == "__main__":
    registry.run_module(__spec__.name)
