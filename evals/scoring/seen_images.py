"""Images that concepts were trained on, among those on which they are named, scored or localised.

A score on what the concepts were fitted to flatters both. Which images these are is known from the
ids in the datasets behind the concepts; of neurons that were imported, from what their file says.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

import numpy as np
import xarray as xr

import registry
from registry.declare.faults import StageError
from registry.store.durable import StoreError
from registry.suggest import RefusalError
from registry.wording import counted

SeenOption: TypeAlias = Literal["refuse", "allow"]
"""Whether what was trained on images may be scored on them."""

REFUSE: Final = "refuse"
ALLOWED: Final = "allow"

COMPARED = 64
"""Pictures of two sets of images that are compared where both have the same ids."""

TRAINED = "trained"
"""Variable of imported activations: names of the inputs that their neurons were trained on."""


class SeenImagesError(RefusalError, ValueError):
    """Concepts would be scored on images that they were trained on."""


@dataclass(frozen=True)
class SeenImages:
    """How many images the concepts were trained on, of those that choose names and that score.

    Attributes
    ----------
    n_choosing, n_scoring : int
        Images of the half that chooses names, and of those that score.
    n_all_scoring : int
        How many score.
    are_same : bool
        Whether equal ids are known to be the same images: those of one declared set, or of two
        that show the same pictures under them (a copied folder). Two sets may have the same ids
        and other images, or none that can be read any more; then nothing is refused.
    chooses : bool
        Whether there is a half that chooses.
    """

    n_choosing: int
    n_scoring: int
    n_all_scoring: int
    are_same: bool = True
    chooses: bool = True

    @classmethod
    def of(
        cls, concepts: registry.Input, scoring: np.ndarray, choosing: np.ndarray | None = None
    ) -> SeenImages | None:
        """Count them; None where it is not known on which images concepts were trained.

        Parameters
        ----------
        concepts : Input
            What is scored, or was made from it.
        scoring, choosing : ndarray
            Ids of the images that score, and of those that choose names, if any do.
        """
        halves = [np.asarray(ids).astype(str) for ids in (scoring, choosing) if ids is not None]
        found = _trained_ids(concepts, halves)
        if found is None:
            return None
        trained, are_same = found
        n_scoring, *rest = (int(np.isin(own, trained).sum()) for own in halves)
        return cls(sum(rest), n_scoring, len(halves[0]), are_same, chooses=bool(rest))

    def require_unseen(self, allowed: str, what: str = "score their names") -> None:
        """Raise if an image that scores was seen, unless that is allowed.

        Parameters
        ----------
        allowed : str
            ``refuse`` or ``allow``.
        what : str
            What images would do, in the words of the error.

        Raises
        ------
        SeenImagesError
            With how many were, and what to do.
        """
        if self.n_scoring and self.are_same and allowed != ALLOWED:
            raise SeenImagesError(
                f"the concepts were trained on {self.n_scoring} of the "
                f"{counted(self.n_all_scoring, 'image')} "
                f"that would {what}: measure and label images of another split, or say "
                f'seen_images = "{ALLOWED}"'
            )

    def variables(self) -> dict[str, int]:
        """Return what a dataset says of them."""
        if not self.are_same:
            both = self.n_choosing + self.n_scoring
            return {"n_same_ids": both} if both else {}
        own = {"n_trained_choosing": self.n_choosing} if self.chooses else {}
        return own | {"n_trained_scoring": self.n_scoring}


def _trained_ids(
    concepts: registry.Input, parts: Sequence[np.ndarray]
) -> tuple[np.ndarray, bool] | None:
    """Return the ids that concepts were trained on, and whether they mean the same images here.

    None where they are not known. Only ids that may be among ``parts`` are read.
    """
    if not getattr(concepts, "inputs", None):  # a dataset without a past
        return None
    try:
        features, images = concepts.origin("features"), concepts.origin("images")
        trained = features.origin("images")
    except StageError:
        return _told_ids(concepts)
    try:
        seen = _sampled_ids(features, parts)
    except StoreError:  # what a layer's features were is gone, and needed for nothing else
        return None
    both = np.intersect1d(seen, np.concatenate(parts))
    return seen, trained.fingerprint == images.fingerprint or _show_the_same(trained, images, both)


def _show_the_same(one: registry.Input, other: registry.Input, ids: np.ndarray) -> bool:
    """Whether images of two declared sets are the same pictures under the same ids.

    `COMPARED` of them at most are compared, spread over all; one that is equal is enough, since
    pictures that only happen to have the same name differ in some pixel.
    """
    if not len(ids):
        return False
    spread = ids[np.unique(np.linspace(0, len(ids) - 1, COMPARED).astype(int))]
    try:
        mine, others = one.load(), other.load()
        return any(np.array_equal(mine.read([name]), others.read([name])) for name in spread)
    except (KeyError, OSError, ValueError, StageError):  # images that are gone prove nothing
        return False


def _sampled_ids(features: registry.Input, parts: Sequence[np.ndarray]) -> np.ndarray:
    """Return the images that features were drawn from; none if parts are all of another split."""
    split = f"{features.config['split']}/"
    if not any(np.char.startswith(own, split).any() for own in parts):
        return np.array([], dtype=str)
    with features.open() as opened:
        return np.unique(np.asarray(opened["image"].values, dtype=str))


def _told_ids(concepts: registry.Input) -> tuple[np.ndarray, bool] | None:
    """Return the ids that imported activations say that their neurons were trained on."""
    if concepts.kind != "activations":
        return None
    with concepts.open() as opened:
        if TRAINED not in opened:
            return None
        return np.unique(np.asarray(opened[TRAINED].values, dtype=str)), True


def seen_note(dataset: xr.Dataset) -> str:
    """Return in words which images concepts were trained on, "" where that is not known.

    Parameters
    ----------
    dataset : Dataset
        Of names, scores, localisation, identification or sanity checks.
    """
    if "n_same_ids" in dataset:
        return (
            f"{int(dataset['n_same_ids'])} of these images have ids of images that the concepts "
            "were trained on, in another set of images: whether they are the same is not known."
        )
    if "n_trained_scoring" not in dataset:
        return ""
    scoring = int(dataset["n_trained_scoring"])
    choosing = int(dataset.get("n_trained_choosing", 0))
    if not choosing and not scoring:
        return "None of these images has the id of one that the concepts were trained on."
    if "n_trained_choosing" not in dataset:
        return f"The concepts were trained on {scoring} of these images."
    return (
        f"The concepts were trained on {choosing} of the images that chose names, and on {scoring} "
        "of those that scored them."
    )


def choice_note(dataset: xr.Dataset) -> str:
    """Return in words how many of the mapped images chose names, "" where that is not known."""
    if "n_chose_names" not in dataset:
        return ""
    return f"Names were chosen on {int(dataset['n_chose_names'])} of the images that were mapped."


def seen_line(dataset: xr.Dataset) -> str:
    """Return `seen_note` and `choice_note` as lines for a console, "" where there are none."""
    return "".join(f"{note}\n" for note in (seen_note(dataset), choice_note(dataset)) if note)


def count_seen(
    concepts: registry.Input,
    scoring: np.ndarray,
    allowed: str = ALLOWED,
    what: str = "score the concepts",
) -> Mapping[str, Any]:
    """Return what a dataset says of images that concepts were trained on; refuse to score them.

    Parameters
    ----------
    concepts : Input
        What is scored, or was made from it.
    scoring : ndarray
        Ids of the images that score.
    allowed : str
        ``refuse`` or ``allow``.
    what : str
        What images would do, in the words of the error.

    Raises
    ------
    SeenImagesError
        As `SeenImages.require_unseen`.
    """
    seen = SeenImages.of(concepts, scoring)
    if seen is None:
        return {}
    seen.require_unseen(allowed, what)
    return seen.variables()
