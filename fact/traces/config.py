"""Configurations of the stages that trace concepts and neurons; no torch is imported here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from fact.data.classes import Match
from fact.data.config import Count, Index, Odd, OnDevice, Seed
from registry import Since

Pooling = Literal["mean", "max", "sum"]
Transform = Literal["none", "softmax", "sigmoid"]
MapsBy = Literal["auto", "gradient", "codes", "crp"]
"""How concepts are mapped: by the gradient at the image, by codes that are up-sampled, by concept
relevance propagation; ``auto`` by the gradient where the network is linear in its frozen weights,
by codes where it is not."""

Choice = Literal["presence", "class", "decisions", "consistency"]
"""Which concepts are drawn: those in most images, the strongest of each class, those that made
decisions, the most consistent."""

Order = Literal["contribution", "presence", "random"]
ORDERS: tuple[Order, ...] = ("contribution", "presence", "random")
"""In which order concepts are taken: largest contribution first, most present first, at random."""


@dataclass(frozen=True, kw_only=True)
class MeasureConfig(OnDevice):
    """Configuration of ``fact.measure_concepts``.

    Parameters
    ----------
    split : str
        The split to measure on.
    target : str
        The logit that is explained: ``prediction``, ``label``, or the name of a class.
    batch : int
        Images at a time.
    match : str
        Which logit is a class of the images: that of the same ``name``, or, where a network and a
        dataset name the same classes differently, of the same index (``order``). Images of other
        classes have no label.
    """

    split: str = "test"
    target: str = "prediction"
    batch: Count = 128
    match: Annotated[Match, Since("name")] = "name"


@dataclass(frozen=True, kw_only=True)
class ChannelConfig(MeasureConfig):
    """Configuration of ``fact.measure_channels``: what :class:`MeasureConfig` has, and a layer.

    Parameters
    ----------
    layer : str
        Name of the layer in the network, whose channels are taken for concepts.
    """

    layer: str


@dataclass(frozen=True)
class ActivationConfig(OnDevice):
    """Configuration of ``fact.collect_activations``.

    Parameters
    ----------
    layer : str
        Name of the layer in the network, as ``layer4``; "" takes the logits.
    transform : str
        ``none``, ``softmax`` over all neurons, or ``sigmoid``; applied behind the pooling.
    pooling : str
        How the positions of a map, or tokens, become one number: ``mean``, ``max`` or ``sum``.
    with_bias : bool
        Whether logits keep the constant that a B-cos network adds to all of them. Other networks
        give their output as it is.
    groups : bool
        Add a neuron for every group of classes of the dataset: the sum of its members' outputs,
        after the transform.
    match : str
        Which label is an output's known concept: the class of the same ``name``, or, where a
        network and a dataset name the same classes differently, of the same index (``order``), or
        any ``label`` of the dataset that is called as the output is: of a concept bottleneck, whose
        outputs are attributes.
    split : str
        The split to collect on.
    batch : int
        Images at a time.
    """

    layer: str = ""
    transform: Transform = "none"
    pooling: Pooling = "mean"
    with_bias: bool = True
    groups: bool = False
    match: Literal[Match, "label"] = "name"
    split: str = "test"
    batch: Count = 128

    def __post_init__(self) -> None:
        if self.groups and self.layer:
            raise ValueError(f"groups are sums of logits; got the hidden layer {self.layer!r}")
        if self.groups and self.match == "label":
            raise ValueError('groups are of classes; match = "label" knows none')


@dataclass(frozen=True)
class NextTokenConfig(OnDevice):
    """Configuration of ``fact.collect_next_tokens``.

    Parameters
    ----------
    n_tokens : int
        Neurons: the commonest tokens of the sequences, counted at all their positions; of equally
        common ones those that come first.
    tokens : tuple of int or str
        These tokens instead, by their ids or texts: ``[" the", " of"]``.
    n_sequences : int or None
        Take only the first ones, each piece of a longer one counted; None takes all.
    length : int or None
        Positions of a sequence at most: longer ones are cut into several. None takes 1,024, or
        what the model can read where that is less.
    join : bool
        Make one stream of all texts and cut it into sequences of ``length``, each behind the token
        that begins a text, as ``openwebtext-tokenized-9b`` was made; what is left over is dropped.
    n_strongest : int
        Positions that are kept of each neuron, those where it is strongest.
    split : str
        Begins the names of inputs: ``test/00012/0340`` is a position of the thirteenth sequence.
    batch : int
        Sequences at a time, where they are equally long.
    layer : str
        Take the channels of this layer for neurons, as ``transformer.h.3.mlp.act``, at each
        position; tokens are their labels then, and what they stand for is not known. "" takes
        what the model gives to tokens.
    """

    n_tokens: Count = 500
    tokens: tuple[int | str, ...] = ()
    n_sequences: Count | None = 200
    length: Annotated[int, Field(ge=2)] | None = None
    join: bool = False
    n_strongest: Count = 16
    split: str = "test"
    batch: Count = 4
    layer: Annotated[str, Since("")] = ""


@dataclass(frozen=True)
class DecidedImages:
    """Which measured images' decisions are explained.

    Parameters
    ----------
    images : tuple of str
        Ids, as ``test/00012``, or the class and the place in it, from 0, as ``dog[3]``; a class
        is a name, or its index. None takes some of each class.
    classes : tuple of str
        Take the first ``per_class`` of these classes only, by label, by prediction of images that
        have none; all classes if there are none.
    per_class : int
        Images of each class.
    """

    images: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    per_class: int = 2


def _require_one(images: tuple[str, ...], classes: tuple[str, ...]) -> None:
    if images and classes:
        raise ValueError("images are listed one by one, classes choose among all; give one")


@dataclass(frozen=True)
class GalleryConfig(OnDevice):
    """Configuration of ``fact.draw_concepts``.

    Parameters
    ----------
    n_images : int
        Images per concept.
    most : int or None
        Draw only so many concepts, those in most images, of those that are chosen; of the most
        consistent those with the highest scores. None draws all.
    smooth : int
        Side of the box that the opacity is averaged over, in pixels; odd.
    pictures : bool
        Leave a PNG picture of each concept beside the dataset, ``pictures/concept-00003.png``.
    maps : str
        How concepts are mapped: ``gradient``, by the weight at the image, exact where the network
        is linear in its frozen weights; ``codes``, by up-sampling the layer's own positions, for
        any network; ``auto``, the first where it is exact, else the second; ``crp``, by concept
        relevance propagation, for ResNets, VGGs and AlexNets of torchvision, and sequences of
        usual layers, that are not B-cos.
    concepts : tuple of int
        Draw these and no others.
    choose : str
        Which concepts are drawn: by ``presence``, all that are alive; ``class``, the ``each``
        strongest of each class, by mean contribution to its logit; ``decisions``, the ``each``
        strongest of each decision, which are those that ``fact.explain_decisions`` shows of the
        same ``images``, ``classes`` and ``per_class`` if it has this ``each`` as its ``most``;
        ``consistency``, the ``most`` of highest C2-score in the input ``consistency``.
    each : int
        Concepts of each class, or of each decision.
    images, classes, per_class
        Of ``decisions``: which images, as :class:`DecisionConfig` has them.
    """

    n_images: Count = 16
    most: Count | None = None
    smooth: Odd = 3
    pictures: bool = True
    maps: Annotated[MapsBy, Since("auto")] = "auto"
    concepts: Annotated[tuple[Index, ...], Since(())] = ()
    choose: Annotated[Choice, Since("presence")] = "presence"
    each: Annotated[Count, Since(6)] = 6
    images: Annotated[tuple[str, ...], Since(())] = ()
    classes: Annotated[tuple[str, ...], Since(())] = ()
    per_class: Annotated[Count, Since(2)] = 2

    def __post_init__(self) -> None:
        if self.concepts and self.choose != "presence":
            raise ValueError(f"concepts are listed, or chosen by {self.choose!r}: give one")
        if (self.images or self.classes) and self.choose != "decisions":
            raise ValueError("images and classes are of `choose = 'decisions'`")
        _require_one(self.images, self.classes)

    @property
    def decided(self) -> DecidedImages:
        """The images of ``decisions``."""
        return DecidedImages(self.images, self.classes, self.per_class)


@dataclass(frozen=True)
class DecisionConfig(OnDevice):
    """Configuration of ``fact.explain_decisions``.

    Parameters
    ----------
    images : tuple of str
        Ids, as ``test/00012``, or the class and the place in it, from 0, as ``dog[3]``; a class
        is a name, or its index. None takes the first ``per_class`` of each class.
    classes : tuple of str
        Take the first ``per_class`` of these classes only, by label, by prediction of images that
        have none; all classes if there are none.
    per_class : int
        Images of each class.
    most : int
        Concepts shown of each image.
    smooth : int
        Side of the box that opacities are averaged over, in pixels; odd.
    pictures : bool
        Leave a PNG picture of each decision beside the dataset.
    maps : str
        How concepts are mapped: ``gradient``, by the weight at the image, exact where the network
        is linear in its frozen weights; ``codes``, by up-sampling the layer's own positions, for
        any network; ``auto``, the first where it is exact, else the second; ``crp``, by concept
        relevance propagation, for ResNets, VGGs and AlexNets of torchvision, and sequences of
        usual layers, that are not B-cos.
    """

    images: tuple[str, ...] = ()
    per_class: Count = 2
    most: Count = 6
    smooth: Odd = 3
    pictures: bool = True
    maps: Annotated[MapsBy, Since("auto")] = "auto"
    classes: Annotated[tuple[str, ...], Since(())] = ()

    def __post_init__(self) -> None:
        _require_one(self.images, self.classes)

    @property
    def decided(self) -> DecidedImages:
        """The images that are explained."""
        return DecidedImages(self.images, self.classes, self.per_class)


@dataclass(frozen=True, kw_only=True)
class InterventionPlan:
    """What is done to the concepts of every image.

    Parameters
    ----------
    scale : float
        By which a concept that is taken away is multiplied; 0 removes it.
    orders : tuple of str
        In which concepts are taken, of `ORDERS`.
    n_steps : int
        Steps of a curve: after step s, a fraction ``s / n_steps`` of an image's concepts is taken.
    n_single : int
        Concepts of largest contribution of each image that are taken away alone.
    seed : int
        Of the random order, by image.
    """

    scale: Annotated[float, Field(ge=0)] = 0.0
    orders: Annotated[tuple[Order, ...], Field(min_length=1)] = ORDERS
    n_steps: Count = 10
    n_single: Count = 5
    seed: Seed = 0

    def __post_init__(self) -> None:
        if len(set(self.orders)) < len(self.orders):
            raise ValueError(f"orders {list(self.orders)}; expected each once")

    @property
    def fractions(self) -> NDArray[np.float64]:
        """Fraction of an image's concepts that is taken, or put back, at each step."""
        return np.arange(self.n_steps + 1) / self.n_steps


@dataclass(frozen=True, kw_only=True)
class InterventionConfig(InterventionPlan, OnDevice):
    """Configuration of ``fact.intervene_concepts``: what :class:`InterventionPlan` has, and this.

    Parameters
    ----------
    n_images : int
        Images drawn at random from those that were measured, by the seed; all where there are no
        more.
    n_bootstrap : int
        Draws of images for intervals of 95 %.
    batch : int
        Images at a time.
    """

    n_images: Annotated[int, Field(ge=2)] = 200
    n_bootstrap: Annotated[int, Field(ge=2)] = 500
    batch: Count = 50


@dataclass(frozen=True)
class MapConfig(OnDevice):
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
    maps : str
        How concepts are mapped: ``gradient``, by the weight at the image, exact where the network
        is linear in its frozen weights; ``codes``, by up-sampling the layer's own positions, for
        any network; ``auto``, the first where it is exact, else the second; ``crp``, by concept
        relevance propagation, for ResNets, VGGs and AlexNets of torchvision, and sequences of
        usual layers, that are not B-cos.
    """

    n_images: Count = 16
    images: str = "strongest"
    most: Count | None = None
    cell: Count = 1
    seed: Seed = 0
    maps: Annotated[MapsBy, Since("auto")] = "auto"

    def __post_init__(self) -> None:
        if self.images not in ("strongest", "random"):
            raise ValueError(f"images {self.images!r}; expected 'strongest' or 'random'")


@dataclass(frozen=True)
class MaskConfig:
    """Configuration of ``fact.mask_inputs``; images, size and cells are those of the maps.

    Parameters
    ----------
    background : str
        Group of labels, as ``ground``, that are carried by what no object covers; none for "".
    """

    background: str = ""
