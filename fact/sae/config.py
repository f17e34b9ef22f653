"""Configurations of the stages that collect features and train SAEs; no torch is imported here."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Literal

from pydantic import Field

import registry
from fact.data.classes import Match
from fact.data.config import Count, InPrecision, OnDevice, Positive, Seed
from registry import Formerly, Since

Compat = Literal["", "fact"]
"""Whose protocol is followed: ours, or that of the published code of FaCT."""


@dataclass(frozen=True)
class FeatureConfig(InPrecision):
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
    compat : str
        ``fact`` holds out the images that the published code does, which it draws by
        ``random.seed(42)`` whatever our seed.
    """

    layer: str
    samples_per_image: Count | None = None
    split: str = "train"
    held_out_per_class: Annotated[int, Field(ge=0)] = 50
    batch: Count = 256
    seed: Seed = 0
    compat: Annotated[Compat, Since("")] = ""


@dataclass(frozen=True, kw_only=True)
class ImportSAEConfig(OnDevice):
    """Configuration of ``fact.import_sae``.

    Parameters
    ----------
    layer : str
        Name of the layer in the network whose output the SAE was trained on, as ``features.2``.
    split : str
        Whose images it is checked on.
    n_images : int
        Images that it is checked on, drawn at random; all where there are no more.
    least_explained : float
        Share of the layer's variance that its reconstruction has to explain on them, at most 1.
        Where it is above 0, more has to be explained than with the layer's channels shuffled.
    batch : int
        Images at a time.
    seed : int
        Draws the images.
    """

    layer: str
    split: str = "test"
    n_images: Count = 256
    least_explained: Annotated[float, Field(le=1)] = 0.1
    batch: Count = 64
    seed: Seed = 0


@dataclass(frozen=True)
class SAEConfig(InPrecision):
    """Configuration of ``fact.train_sae``.

    Parameters
    ----------
    n_concepts : int
        Concepts of the SAE.
    k : int
        Concepts that are active at a position; at most ``n_concepts``.
    epochs : int
        Times that the samples are gone through.
    batch : int
        Samples per update.
    lr : float
        Peak learning rate of Adam.
    warmup_epochs, decay_start : int
        Epochs of linear warm-up; epoch after which the cosine decay begins.
    auxiliary_coefficient : float
        Weight of the loss that revives dead concepts.
    auxiliary_k : int
        Dead concepts that may reconstruct the residual of a sample.
    evaluate_every : int
        Epochs between evaluations of the spliced network on the held-out images. The last one is
        evaluated always; the best weights are kept.
    seed : int
        Draws the initial weights, and the order of the samples.
    memory : int
        Bytes that samples in memory may take.
    checkpoint_seconds : float
        Seconds between saved states, from which a stopped training goes on.
    match : str
        Which logit is a class of the images, for the accuracy on those that are held out: that of
        the same ``name``, or, where a network and a dataset name the same classes differently, of
        the same index (``order``).
    activation : str
        ``topk``: the `k` largest activations of each sample; ``batch_topk``: in training the
        largest ``batch x k`` of a batch, then all above one threshold, which is estimated on
        training samples by the final weights.
    prefixes : tuple of int
        Sizes of prefixes of the dictionary, ascending, below `n_concepts`: so many of its first
        concepts reconstruct the samples too, so that they become the more general ones
        (Matryoshka). None by default.
    dictionary : str
        ``unit``: columns of unit norm; ``archetypal``: mixtures of points of the data.
    n_points : int or None
        Of an archetypal dictionary: centroids of a k-means clustering of samples, drawn by the
        seed; at least `n_concepts`, which is the default.
    relaxation : float
        Of an archetypal dictionary: largest distance of an atom from the convex hull of the
        points, where samples have a root mean squared norm of 1; 0 holds atoms in it.
    compat : str
        ``fact`` evaluates when the published code does, two updates before the end of an epoch,
        and of equally accurate weights keeps the later ones. The held-out images of that code are
        chosen where features are collected.
    candidates : str
        ``bf16`` looks for the concepts of a sample by a product in bfloat16, which takes less time
        on GPUs and on processors with AMX or AVX512_BF16, and more on others. What it keeps is
        proven to be what float32 keeps, or done again by ``float32``; values are computed in
        float32, and differ by its rounding, which is why it is part of the fingerprint. With
        ``precision = "bf16"`` there is nothing to prove.
    """

    n_concepts: Count = 512
    k: Count = 16
    epochs: Annotated[Count, Formerly("passes")] = 16
    batch: Count = 4096
    lr: Positive = 1e-3
    warmup_epochs: Annotated[int, Field(ge=0), Formerly("warmup_passes")] = 1
    decay_start: Annotated[int, Field(ge=0)] = 2
    auxiliary_coefficient: Annotated[float, Field(ge=0)] = 1 / 32
    auxiliary_k: Count = 256
    evaluate_every: Count = 2
    seed: Seed = 0
    memory: Annotated[int, Field(ge=2**20)] = 2**30
    checkpoint_seconds: registry.Runtime[Annotated[float, Field(ge=0)]] = 60.0
    match: Annotated[Match, Since("name")] = "name"
    activation: Annotated[Literal["topk", "batch_topk"], Since("topk")] = "topk"
    prefixes: Annotated[tuple[Count, ...], Since(())] = ()
    dictionary: Annotated[Literal["unit", "archetypal"], Since("unit")] = "unit"
    n_points: Annotated[Count | None, Since(None)] = None
    relaxation: Annotated[float, Field(ge=0), Since(0.0)] = 0.0
    compat: Annotated[Compat, Since("")] = ""
    candidates: Annotated[Literal["float32", "bf16"], Since("float32")] = "float32"

    def __post_init__(self) -> None:
        if self.k > self.n_concepts:
            raise ValueError(f"k {self.k} is more than n_concepts {self.n_concepts}")
        if self.warmup_epochs > self.decay_start:
            raise ValueError(
                f"warmup_epochs {self.warmup_epochs} is more than decay_start {self.decay_start}"
            )
        ends = (*self.prefixes, self.n_concepts)
        if any(first >= then for first, then in pairwise(ends)):
            raise ValueError(
                f"prefixes {list(self.prefixes)}; expected ascending sizes below n_concepts "
                f"{self.n_concepts}"
            )
        if self.candidates != "float32" and self.activation != "topk":
            raise ValueError('candidates = "bf16" is of activation = "topk" alone')
        if self.candidates != "float32" and self.precision != "float32":
            raise ValueError('candidates = "bf16" is of precision = "float32" alone')
        if self.compat and self.activation != "topk":
            raise ValueError('compat = "fact" is of the published code, which has topk alone')
        if self.dictionary != "archetypal" and (self.n_points is not None or self.relaxation):
            raise ValueError('n_points and relaxation are of dictionary = "archetypal" alone')
        if self.n_points is not None and self.n_points < self.n_concepts:
            raise ValueError(
                f"n_points {self.n_points} is less than n_concepts {self.n_concepts}: each concept "
                "begins as a point of its own"
            )
