"""Collect feature vectors of a layer, drawn by their importance for the predicted class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

import registry
from fact import schemas

if TYPE_CHECKING:
    import xarray as xr

SHARD_BYTES = 32 * 2**20
SHARD_IMAGES = 64


@dataclass(frozen=True)
class Config:
    """Configuration of ``fact.collect_features``.

    Parameters
    ----------
    layer : str
        Name of the layer in the network, as ``features.2``.
    samples_per_image : int or None
        Positions drawn per image; ``floor(72 * 512 / channels)`` if None. At most all positions,
        and only those of importance above 0.
    split : str
        The split to draw from.
    held_out_per_class : int
        Images per class that are kept out, for validation; a fifth of the class where that is
        less.
    batch : int
        Images at a time.
    seed : int
        Draws the images that are held out, and the positions.
    device : str
        ``auto``, ``cpu``, ``cuda``, ….
    """

    layer: str
    samples_per_image: Annotated[int, Field(ge=1)] | None = None
    split: str = "train"
    held_out_per_class: Annotated[int, Field(ge=0)] = 50
    batch: Annotated[int, Field(ge=1)] = 256
    seed: Annotated[int, Field(ge=0)] = 0
    device: registry.Runtime[str] = "auto"


stage = registry.Stage(
    "fact.collect_features",
    version=1,
    config=Config,
    needs={"images": "images", "network": "network"},
    output=schemas.FEATURES,
    preload=("fact.sae.sampling",),
)


@stage.main
def collect_features(config: Config, inputs: registry.Inputs, run: registry.Run) -> Any:
    """Draw features shard by shard; a stopped collection goes on at its next shard."""
    import numpy as np

    from fact.networks import network as networks
    from fact.networks.devices import choose_device
    from fact.sae.features import held_out, samples_per_image
    from fact.sae.sampling import layer_shape

    images = inputs["images"].load()
    network = networks.load(inputs["network"]).to(choose_device(config.device))
    kept_out = held_out(images.labels(config.split), config.seed, config.held_out_per_class)
    ids = images.ids(config.split)[~kept_out]
    if not len(ids):
        raise ValueError(f"split {config.split!r} has no image that is not held out")
    shape = layer_shape(network, config.layer, images.read(ids[:1], network.geometry))
    count = min(config.samples_per_image or samples_per_image(shape.channels), shape.positions)
    # Whole multiples of a number, so that the shards do not depend on the batch.
    size = max(1, SHARD_BYTES // (4 * shape.channels * count * SHARD_IMAGES)) * SHARD_IMAGES
    writer = run.shards()
    for index, start in enumerate(range(0, len(ids), size)):
        if index not in writer.done:
            generator = np.random.default_rng([config.seed, index])
            chosen = ids[start : start + size]
            writer.append(_shard(config, network, images, chosen, start, count, generator), index)
        run.progress(min(start + size, len(ids)), len(ids), "images")
    return writer.finish(_summary(writer.folder, len(ids), int(kept_out.sum())))


def _shard(  # type: ignore[no-untyped-def]
    config: Config, network, images, ids, first: int, count: int, generator
) -> xr.Dataset:
    """Return the samples of some images, before which there are ``first`` others."""
    import numpy as np
    import xarray as xr

    from fact.data.images import batches
    from fact.sae.sampling import draw_features

    parts = []
    for batch_ids, pixels in batches(images, ids, config.batch, network.geometry):
        drawn = draw_features(network, config.layer, pixels, count, generator)
        parts.append(
            {
                "feature": (("sample", "channel"), drawn.feature),
                "image": ("sample", batch_ids[drawn.image].astype(object)),
                "row": ("sample", drawn.row),
                "column": ("sample", drawn.column),
                "importance": ("sample", drawn.importance),
                "sample": ("sample", ((first + drawn.image) * count + drawn.rank)),
            }
        )
        first += len(batch_ids)
    return xr.concat(
        [xr.Dataset(part).set_coords("sample") for part in parts], "sample", join="exact"
    ).assign_coords(sample=lambda ds: ds["sample"].astype(np.int64))


def _summary(folder: Any, n_images: int, n_held_out: int) -> xr.Dataset:
    import numpy as np
    import xarray as xr

    from fact.sae.features import ShuffledFeatures, root_mean_square_norm

    return xr.Dataset(
        {
            "root_mean_square": root_mean_square_norm(folder),
            "n_samples": np.int64(ShuffledFeatures(folder, batch=1, seed=0).n_samples),
            "n_images": np.int64(n_images),
            "n_held_out": np.int64(n_held_out),
        }
    )


if __name__ == "__main__":
    registry.run_module(__spec__.name)
