"""Say of every image what it shows as a model of images and texts judges: pseudo-labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

import registry
from fact import schemas

if TYPE_CHECKING:
    from fact.networks.image_text import ImageTextModel

SHARD_BYTES = 32 * 2**20


@dataclass(frozen=True)
class Config:
    """Configuration of ``fact.score_labels``.

    Parameters
    ----------
    labels : str
        Labels that are judged: ``dataset`` takes those of the dataset, whose values are not looked
        at; ``imagenet``, ``places365`` or ``cub-attributes`` takes a list that comes along.
    template : str
        Text for a label, with ``{}`` for its name.
    split : str
        The split whose images are labelled.
    batch : int
        Images at a time.
    device : str
        ``auto``, ``cpu``, ``cuda``, ….
    """

    labels: Literal["dataset", "imagenet", "places365", "cub-attributes"] = "dataset"
    template: str = "{}"
    split: str = "test"
    batch: Annotated[int, Field(ge=1)] = 32
    device: registry.Runtime[str] = "auto"

    def __post_init__(self) -> None:
        if "{}" not in self.template:
            raise ValueError(f"template {self.template!r}; expected {{}} for a label's name")


stage = registry.Stage(
    "fact.score_labels",
    version=1,
    config=Config,
    needs={"images": "images", "model": "image_text"},
    output=schemas.LABELS,
    preload=("fact.networks.image_text",),
)


@stage.main
def score_labels(config: Config, inputs: registry.Inputs, run: registry.Run) -> Any:
    """Judge shard by shard; what was stopped goes on at its next shard."""
    import numpy as np
    import xarray as xr

    from fact.networks.devices import choose_device
    from fact.networks.image_text import text_of

    images = inputs["images"].load()
    model: ImageTextModel = inputs["model"].load().to(choose_device(config.device))
    names = _labels(config, images)
    texts = model.encode_texts([text_of(name, config.template) for name in names])
    ids, writer = images.ids(config.split), run.shards()
    size = max(1, SHARD_BYTES // (4 * len(names) * config.batch)) * config.batch
    for index, start in enumerate(range(0, len(ids), size)):
        chosen = ids[start : start + size]
        if index not in writer.done:
            values = _judge(model, texts, images, chosen, config.batch)
            coords = {"image": chosen.astype(object), "label": np.array(names, dtype=object)}
            writer.append(xr.Dataset({"value": (("image", "label"), values)}, coords), index)
        run.progress(min(start + size, len(ids)), len(ids), "images")
    return writer.finish()


def _labels(config: Config, images: Any) -> list[str]:
    if config.labels == "dataset":
        return [str(label) for label in images.concepts(config.split)["label"].values]
    from fact.data.vocabulary import read_names

    return list(read_names(config.labels))


def _judge(model: ImageTextModel, texts: Any, images: Any, ids: Any, batch: int) -> Any:
    """Return probabilities (image, label); images are read one by one, whatever their sizes."""
    import numpy as np

    from fact.data.images import batches

    parts, waiting = [], []
    for _, pixels in batches(images, ids, 1, ahead=batch):
        waiting.append(pixels[0])
        if len(waiting) == batch:
            parts.append(model.probabilities(waiting, texts))
            waiting = []
    if waiting:
        parts.append(model.probabilities(waiting, texts))
    return np.concatenate(parts)


if __name__ == "__main__":
    registry.run_module(__spec__.name)
