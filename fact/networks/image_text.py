"""Models that compare images with texts, and the labels that they give where nobody labelled.

Pseudo-labels after Oikarinen et al., "Evaluating Neuron Explanations", ICML 2025, arXiv 2506.05774,
appendix B: ``sigmoid(a (cos + b))`` of the cosine between image and text, with constants that were
fitted for three models. The models are those of ``open_clip`` (Ilharco et al., OpenCLIP, 2021),
SigLIP by Zhai et al., ICCV 2023, arXiv 2303.15343.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

import registry
from fact.data.config import EncodeImagesConfig, ScoreConfig
from fact.data.images import Ids, ImageDataset, Pixels, batches, write_parts
from fact.data.tables import activation_part, label_part, neuron_summary
from fact.data.vocabulary import as_written, distinct, read_names
from fact.networks.arrays import slices
from fact.networks.calibration import CALIBRATION, Calibration, uncalibrated
from fact.networks.network import choose_device
from fact.networks.precision import computing_in, exact
from registry.store.shards import Shards

TEXTS_AT_ONCE = 256
SHARD_BYTES = 32 * 2**20


class ImageTextError(ValueError):
    """A model that is not installed, cannot be fetched, or has no calibration."""


@dataclass(frozen=True)
class ImageTextModel:
    """A model of images and texts, and how its cosines become probabilities.

    Attributes
    ----------
    module : Module
        With ``encode_image`` and ``encode_text``, in evaluation mode.
    preprocess : callable
        A PIL image to a Tensor ``(colour, y, x)``.
    tokenize : callable
        Texts to a Tensor ``(text, token)``.
    scale, shift : float
        ``a`` and ``b`` of ``sigmoid(a (cos + b))``.
    """

    module: nn.Module
    preprocess: Callable[[Image.Image], Tensor]
    tokenize: Callable[[list[str]], Tensor]
    scale: float
    shift: float

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return next(self.module.parameters()).device

    def to(self, device: torch.device | str) -> ImageTextModel:
        """Move the module to a device, and return this model."""
        self.module.to(device)
        return self

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """Return unit vectors ``(text, channel)``."""
        module: Any = self.module
        with torch.no_grad():
            parts = [
                _unit(module.encode_text(self.tokenize(list(texts[some])).to(self.device)))
                for some in slices(len(texts), TEXTS_AT_ONCE)
            ]
        return torch.cat(parts)

    def encode_images(self, images: Iterable[Pixels], normalised: bool = True) -> Tensor:
        """Return vectors ``(image, channel)`` of images uint8 ``(y, x, colour)``, any size.

        Of length 1, or, where they are not ``normalised``, as the model puts them out.
        """
        module: Any = self.module
        shown = torch.stack([self.preprocess(Image.fromarray(image)) for image in images])
        with torch.no_grad():
            vectors = module.encode_image(shown.to(self.device))
        return _unit(vectors) if normalised else vectors.float()

    def probabilities(self, images: Iterable[Pixels], texts: Tensor) -> NDArray[np.float32]:
        """Return ``sigmoid(a (cos + b))`` (image, text) for encoded texts."""
        cosine = self.encode_images(images) @ texts.T
        return np.asarray(torch.sigmoid(self.scale * (cosine + self.shift)).cpu().numpy())


def open_clip_model(
    model: str,
    pretrained: str | None = None,
    folder: Path | str | None = None,
    scale: float | None = None,
    shift: float | None = None,
    quick_gelu: bool | None = None,
) -> ImageTextModel:
    """Return a model of ``open_clip``.

    Parameters
    ----------
    model, pretrained, folder, scale, shift, quick_gelu
        As of the kind :class:`fact.kinds.OpenClip`, whose ``weights`` are ``pretrained``. A folder
        may hold ``….bin`` for safetensors, read as weights alone.

    Raises
    ------
    ImageTextError
        If ``open_clip`` is not installed, the model is unknown or cannot be fetched, or nothing is
        known of its calibration.
    """
    try:
        import open_clip
    except ImportError as error:
        raise ImageTextError(
            "models of texts need open_clip: pip install 'factbook[siglip]'"
        ) from error
    known = CALIBRATION.get(model, Calibration("", 0, 0))
    if scale is None and shift is None:
        if why := uncalibrated(model, folder):
            raise ImageTextError(why)
        scale, shift = known.scale, known.shift
    if scale is None or shift is None:
        raise ImageTextError(f"{model!r}: give both scale and shift, or neither")
    name = f"local-dir:{Path(folder).expanduser()}" if folder else model
    tag = None if folder else pretrained or known.weights or None
    if quick_gelu is None and tag:  # which `open_clip` only warns of
        quick_gelu = open_clip.pretrained.get_pretrained_cfg(model, tag).get("quick_gelu", False)
    options: dict[str, Any] = {"force_quick_gelu": True} if quick_gelu else {}
    try:
        module, _, preprocess = open_clip.create_model_and_transforms(
            name, pretrained=tag, weights_only=True, **options
        )
        tokenize = open_clip.get_tokenizer(name)
    except (OSError, RuntimeError, ValueError) as error:  # unknown, or cannot be fetched
        raise ImageTextError(f"model {name!r} cannot be loaded: {error}") from error
    return ImageTextModel(module.eval().requires_grad_(False), preprocess, tokenize, scale, shift)


def text_of(label: str, template: str = "{}") -> str:
    """Return the text of a label: ``group:domestic cat`` is "domestic cat" in the template."""
    prefix, _, name = label.partition(":")
    return template.replace("{}", name if prefix in ("class", "group") else label)


def _unit(vectors: Tensor) -> Tensor:
    return nn.functional.normalize(vectors.float(), dim=-1)


def score_labels(config: ScoreConfig, inputs: registry.Inputs, run: registry.Run) -> Shards:
    """Score labels for every image, shard by shard; a stopped run continues at its next shard."""
    images: ImageDataset = inputs["images"].load()
    model: ImageTextModel = inputs["model"].load().to(choose_device(config.device))
    if "words" in inputs:
        names = list(distinct(inputs["words"].load()))
    elif config.labels == "dataset":
        names = [str(label) for label in images.concepts(config.split)["label"].values]
    else:
        names = list(read_names(config.labels))
    texts = model.encode_texts([text_of(name, config.template) for name in as_written(names)])
    ids, batch = images.ids(config.split), config.batch

    def part(_index: int, rows: slice) -> xr.Dataset:
        several = _one_by_one(images, ids[rows], batch)
        values = np.concatenate([model.probabilities(some, texts) for some in several])
        return label_part(values, ids[rows], names)

    size = max(1, SHARD_BYTES // (4 * len(names) * batch)) * batch
    repeats = xr.Dataset(attrs={"repeated_names": "as written"})  # once they were numbered
    return write_parts(run, len(ids), size, part).finish(repeats)


def encode_images(config: EncodeImagesConfig, inputs: registry.Inputs, run: registry.Run) -> Shards:
    """Encode every image, shard by shard; a stopped run continues at its next shard."""
    images: ImageDataset = inputs["images"].load()
    settings = inputs["model"].settings
    load = getattr(settings, "load_images", settings.load)
    model: ImageTextModel = load().to(choose_device(config.device))
    ids, batch, device = images.ids(config.split), config.batch, choose_device(config.device)

    def read(chosen: Ids) -> NDArray[np.float32]:
        with computing_in(config.precision, device):
            parts = [
                exact(model.encode_images(some, config.normalised)).cpu().numpy()
                for some in _one_by_one(images, chosen, batch)
            ]
        return np.concatenate(parts)

    n_channels = read(ids[:1]).shape[1]
    names = [str(channel) for channel in range(n_channels)]
    size = max(1, SHARD_BYTES // (4 * n_channels * batch)) * batch
    writer = write_parts(
        run, len(ids), size, lambda _, rows: activation_part(read(ids[rows]), ids[rows])
    )
    variant = f"{inputs['model'].name}, features of images"
    variant += ", of length 1" if config.normalised else ""
    return writer.finish(neuron_summary(names, [""] * n_channels, variant, len(ids)))


def _one_by_one(images: ImageDataset, ids: Ids, size: int) -> Iterator[list[Pixels]]:
    """Yield so many images at a time, each read alone, whatever their sizes."""
    single = (pixels[0] for _, pixels in batches(images, ids, 1, ahead=size))
    return iter(lambda: list(islice(single, size)), [])
