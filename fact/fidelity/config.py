"""Configuration of the stage that measures fidelity; no torch is imported here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal, TypeAlias

from pydantic import Field

import registry
from fact.data.classes import Match
from fact.data.config import Count, OnDevice, Seed

Ablation: TypeAlias = Literal["zero", "mean"]
"""What stands in for a layer's output where no concept is left."""


@dataclass(frozen=True, kw_only=True)
class FidelityConfig(OnDevice):
    """Configuration of ``fact.measure_fidelity``.

    Parameters
    ----------
    split : str
        The split to measure on.
    ablation : str
        The baseline that counts as nothing recovered, in the layer's place: ``zero``, as in Gao et
        al. 2024, or ``mean``, each channel's mean over all positions of the images.
    seen_images : str
        Images that the concepts were fitted on: ``omit`` leaves them out, ``allow`` counts them.
    match : str
        Which logit is a class of the images: that of the same ``name``, or, where a network and a
        dataset name the same classes differently, of the same index (``order``). Images of other
        classes have no label, and no cross-entropy.
    n_bootstrap : int
        Draws of images for intervals of 95 %.
    seed : int
        Of these draws.
    batch : int
        Images at a time.
    checkpoint_seconds : float
        Seconds between saved states, from which a stopped measurement goes on.
    """

    split: str = "test"
    ablation: Ablation = "zero"
    seen_images: Literal["omit", "allow"] = "omit"
    match: Match = "name"
    n_bootstrap: Annotated[int, Field(ge=2)] = 500
    seed: Seed = 0
    batch: Count = 128
    checkpoint_seconds: registry.Runtime[Annotated[float, Field(ge=0)]] = 60.0
