"""Images that concepts were trained on, among those on which their names are chosen and scored.

A name that is scored on what the concepts were fitted to flatters both. Which images these are is
known from the ids in the datasets behind the concepts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr

import registry
from registry.declare.faults import StageError
from registry.suggest import RefusalError

ALLOWED = "allow"


class SeenImagesError(RefusalError, ValueError):
    """Names would be scored on images that the concepts were trained on."""


@dataclass(frozen=True)
class SeenImages:
    """How many images of each half the concepts were trained on.

    Attributes
    ----------
    n_choosing, n_scoring : int
        Images of the half that chooses names, and of the one that scores them.
    n_all_scoring : int
        Size of the latter.
    """

    n_choosing: int
    n_scoring: int
    n_all_scoring: int

    @classmethod
    def of(cls, concepts: registry.Input, halves: Sequence[np.ndarray]) -> SeenImages | None:
        """Count them; None where it is not known on which images concepts were trained.

        Parameters
        ----------
        concepts : Input
            What is named.
        halves : sequence of ndarray
            Ids of the images that choose names, and of those that score them.
        """
        if not getattr(concepts, "inputs", None):  # a dataset without a past
            return None
        try:
            features, images = concepts.origin("features"), concepts.origin("images")
            trained = features.origin("images")
        except StageError:
            return None
        if trained.fingerprint != images.fingerprint:  # their ids mean other images
            return None
        ids = [half.astype(str) for half in halves]
        split = f"{features.config['split']}/"
        seen = np.array([], dtype=str)
        if any(np.char.startswith(own, split).any() for own in ids):
            with features.open() as opened:
                seen = np.unique(np.asarray(opened["image"].values, dtype=str))
        choosing, scoring = (int(np.isin(own, seen).sum()) for own in ids)
        return cls(choosing, scoring, len(ids[1]))

    def require_unseen(self, allowed: str) -> None:
        """Raise if an image that scores was seen, unless that is allowed.

        Raises
        ------
        SeenImagesError
            With how many were, and what to do.
        """
        if self.n_scoring and allowed != ALLOWED:
            raise SeenImagesError(
                f"the concepts were trained on {self.n_scoring} of the {self.n_all_scoring} images "
                "that would score their names: measure and label images of another split, or say "
                f'seen_images = "{ALLOWED}"'
            )

    def variables(self) -> dict[str, int]:
        """Return what a dataset of names says of them."""
        return {"n_trained_choosing": self.n_choosing, "n_trained_scoring": self.n_scoring}


def seen_note(names: xr.Dataset) -> str:
    """Return in words which images concepts were trained on, "" where that is not known.

    Parameters
    ----------
    names : Dataset
        Of the schema ``names``.
    """
    if "n_trained_scoring" not in names:
        return ""
    choosing, scoring = (int(names[f"n_trained_{half}"]) for half in ("choosing", "scoring"))
    if not choosing and not scoring:
        return "The concepts were trained on none of these images."
    return (
        f"The concepts were trained on {choosing} of the images that chose names, and on {scoring} "
        "of those that scored them."
    )
