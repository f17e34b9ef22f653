"""Explain decisions: the logit of chosen images as a sum of concepts, each with its map."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

import registry
from fact import schemas

if TYPE_CHECKING:
    import numpy as np
    import xarray as xr
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Config:
    """Configuration of ``fact.explain_decisions``.

    Parameters
    ----------
    images : tuple of str
        Names of the images; none takes the first ``per_class`` of each class.
    per_class : int
        Images of each class.
    most : int
        Concepts shown of each image.
    smooth : int
        Side of the box that opacities are averaged over, in pixels; odd.
    pictures : bool
        Leave a PNG picture of each decision beside the dataset.
    device : str
        ``auto``, ``cpu``, ``cuda``, ….
    """

    images: tuple[str, ...] = ()
    per_class: Annotated[int, Field(ge=1)] = 2
    most: Annotated[int, Field(ge=1)] = 6
    smooth: Annotated[int, Field(ge=1)] = 3
    pictures: bool = True
    device: registry.Runtime[str] = "auto"

    def __post_init__(self) -> None:
        if self.smooth % 2 == 0:
            raise ValueError(f"smooth {self.smooth}; expected an odd number")


stage = registry.Stage(
    "fact.explain_decisions",
    version=1,
    config=Config,
    needs={"concepts": "concepts", "gallery": "gallery"},
    output=schemas.DECISIONS,
    preload=("fact.traces.decisions",),
)


@stage.main
def explain_decisions(config: Config, inputs: registry.Inputs, run: registry.Run) -> xr.Dataset:
    """Explain what the concepts were measured for, next to the gallery of each concept."""
    from fact.traces import decisions
    from fact.traces.concept_source import ConceptSource
    from fact.traces.plots import decision_picture

    source = ConceptSource.of_concepts(inputs["concepts"], config.device)
    images = inputs["concepts"].origin("images").load()
    with inputs["concepts"].open() as measured:
        chosen = measured.isel(image=_chosen(measured, config))
        ids = chosen["image"].values.astype(str)
        pictures = images.read(ids, source.network.geometry)
        explained = decisions.explain_decisions(
            source, chosen, pictures, config.most, config.smooth
        )
    if config.pictures:
        with inputs["gallery"].open() as gallery:
            for number, name in enumerate(ids):
                picture = decision_picture(explained, name, gallery)
                picture.save(run.attach(f"pictures/{number:03d}-{name.replace('/', '-')}.png"))
                run.progress(number + 1, len(ids), "images")
    return explained


def _chosen(measured: xr.Dataset, config: Config) -> NDArray[np.int64]:
    """Return the rows of the wanted images.

    Raises
    ------
    KeyError
        If a named image was not measured; with the nearest name.
    """
    import numpy as np

    from registry.suggest import nearest

    ids = measured["image"].values.astype(str)
    if config.images:
        known = {name: row for row, name in enumerate(ids)}
        for name in config.images:
            if name not in known:
                raise KeyError(f"image {name!r} was not measured{nearest(name, known)}")
        return np.array([known[name] for name in config.images])
    label = measured["label"].values
    rows = [np.flatnonzero(label == value)[: config.per_class] for value in np.unique(label)]
    return np.concatenate(rows)


if __name__ == "__main__":
    registry.run_module(__spec__.name)
