"""Configurations of the stages that encode, and of CRAFT's factorisation; free of torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from fact.data.config import Count, InPrecision, OnDevice, Seed
from fact.encode.encoders import EncoderChoice
from fact.traces.config import MapsBy
from registry import Since


@dataclass(frozen=True)
class EncodingConfig(EncoderChoice, InPrecision):
    """What the stages that encode have in common, beside encoder and up-sampler.

    Parameters
    ----------
    encoder, upsampler, side, trusted
        As for :class:`fact.encode.encoders.EncoderChoice`.
    quantile : float
        An image is selected for a concept from this quantile of its positive presences on, in
        [0, 1]; where concepts are of classes, so are random maps for the class's baseline.
    least : int
        Images that remain of each concept, where it has as many.
    seed : int
        Draws random maps, and images where not all are taken.
    batch : int
        Images at a time.
    """

    quantile: Annotated[float, Field(ge=0, le=1)] = 0.95
    least: Annotated[int, Field(ge=2)] = 10
    seed: Seed = 0
    batch: Count = 32


@dataclass(frozen=True)
class SharedConceptsConfig(EncodingConfig):
    """Configuration of ``fact.encode_crp``, and with more of ``fact.encode_concepts``.

    Parameters
    ----------
    n_images : int or None
        Only so many images, drawn at random; None takes all that were measured.
    """

    n_images: Annotated[int, Field(ge=2)] | None = None


@dataclass(frozen=True)
class MappedConceptsConfig(SharedConceptsConfig):
    """Configuration of ``fact.encode_concepts``: what :class:`SharedConceptsConfig` has, and this.

    Parameters
    ----------
    maps : str
        How concepts are mapped: ``gradient``, by the weight at the image, exact where the network
        is linear in its frozen weights; ``codes``, by up-sampling the layer's own positions, for
        any network; ``auto``, the first where it is exact, else the second; ``crp``, by concept
        relevance propagation, for ResNets, VGGs and AlexNets of torchvision, and sequences of
        usual layers, that are not B-cos.
    """

    maps: Annotated[MapsBy, Since("auto")] = "auto"


@dataclass(frozen=True)
class CraftConceptsConfig(EncodingConfig):
    """Configuration of ``fact.encode_craft``.

    Parameters
    ----------
    split : str
        The split whose images are encoded; a concept is sought in its class's, by their labels.
    """

    split: str = "test"


@dataclass(frozen=True)
class FactorisationConfig(OnDevice):
    """Configuration of ``fact.fit_craft``.

    Parameters
    ----------
    layer : str
        Name of the layer, whose output is at least 0, as ``layer4``.
    n_concepts : int
        Concepts of each class.
    split : str
        The split whose images are cut into crops, by their labels.
    images_per_class : int or None
        Images of a class, drawn where it has more; None takes all.
    crop : int
        Side of a crop, in pixels of the image as the network sees it.
    iterations : int
        Most iterations of a factorisation.
    seed : int
        Draws images, and the factorisations' start.
    batch : int
        Crops at a time.
    """

    layer: str
    n_concepts: Count = 16
    split: str = "train"
    images_per_class: Count | None = 500
    crop: Count = 64
    iterations: Count = 200
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    batch: Count = 64
