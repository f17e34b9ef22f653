"""Mask where labelled objects are, in the images that concepts were mapped in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import registry
from fact import schemas

if TYPE_CHECKING:
    from registry.store.shards import Shards

IMAGES = 256
"""Images of a part."""


@dataclass(frozen=True)
class Config:
    """Configuration of ``fact.mask_inputs``; images, size and cells are those of the maps.

    Parameters
    ----------
    background : str
        Group of labels, as ``ground``, that are carried by what no object covers; none for "".
    """

    background: str = ""


stage = registry.Stage(
    "fact.mask_inputs",
    version=1,
    config=Config,
    needs={"maps": "maps"},
    output=schemas.MASKS,
    preload=("fact.traces.maps",),
)


@stage.main
def mask_inputs(config: Config, inputs: registry.Inputs, run: registry.Run) -> Shards:
    """Take the masks of the dataset, as the network that was mapped sees its images."""
    import numpy as np
    import xarray as xr

    from fact.networks.files import open_network
    from fact.traces.maps import mask_images

    concepts, images = inputs["maps"].origin("concepts"), inputs["maps"].origin("images").load()
    geometry = open_network(concepts.origin("network")).geometry
    with inputs["maps"].open() as maps:
        ids = np.setdiff1d(maps["image"].values.astype(str), [""])
        cell = int(maps["cell"])
    writer = run.shards()
    for index, start in enumerate(range(0, len(ids), IMAGES)):
        if index not in writer.done:
            some = ids[start : start + IMAGES]
            writer.append(mask_images(images, some, geometry, cell, config.background), index)
        run.progress(min(start + IMAGES, len(ids)), len(ids), "images")
    return writer.finish(xr.Dataset({"n_images": len(ids)}))


if __name__ == "__main__":
    registry.run_module(__spec__.name)
