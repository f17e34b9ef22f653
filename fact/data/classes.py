"""Which logit of a network stands for which class of a data set: by name, or by order if declared.

Foreign images through a network are a normal case: a class that the network does not know has no
logit, and all but what equates a label with a logit goes on without it.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fact.data.vocabulary import plain
from registry.wording import counted, verb

Match: TypeAlias = Literal["name", "order"]
"""How classes of a network and of a data set belong together."""

UNKNOWN = -1


def commonest_share(labels: NDArray[np.integer]) -> float:
    """Return the share of the commonest class: the accuracy of always naming it.

    Parameters
    ----------
    labels : ndarray of int, (image,)
        Indices of classes; negative where there is none, which are left out.

    Returns
    -------
    float
        In [0, 1]; NaN where no image has a label.
    """
    known = labels[labels >= 0]
    return float(np.bincount(known).max() / len(known)) if len(known) else float("nan")


@dataclass(frozen=True)
class ClassMatch:
    """Which logit each class of a data set is.

    Attributes
    ----------
    logits : ndarray of int64, (class,)
        -1 where the network has none for it.
    note : str
        Which classes have none and what to do, in a sentence; "" where every one has.
    """

    logits: NDArray[np.int64]
    note: str = ""

    def attributes(self) -> dict[str, str]:
        """Return what a dataset says of classes without a logit; nothing if there are none."""
        return {"unmatched_classes": self.note} if self.note else {}

    def tell(self) -> None:
        """Write it to the console."""
        if self.note:
            sys.stdout.write(f"{self.note}\n")

    @classmethod
    def of(
        cls, classes: Sequence[str], known: Sequence[str], n_logits: int, match: Match = "name"
    ) -> ClassMatch:
        """Match the classes of a data set with those of a network.

        Parameters
        ----------
        classes : sequence of str
            Names of the classes of the data set.
        known : sequence of str
            Names of the classes of the network; empty where they are unknown.
        n_logits : int
            Logits of the network.
        match : str
            ``name``: by equal names. ``order``: they are the same ones in the same order.

        Raises
        ------
        ValueError
            If they are matched by order, and not equally many, or the data set has its own order
            from folders whose names are numbers, or names that both have tell of another order.
        """
        if match == "order":
            if n_logits != len(classes):
                raise ValueError(
                    f"{counted(n_logits, 'output')}, {counted(len(classes), 'class')}; expected as "
                    "many"
                )
            _require_numeric_order(classes)
            _require_same_order(classes, known)
            return cls(np.arange(n_logits))
        index = {name: logit for logit, name in enumerate(known)}
        logits = np.array([index.get(name, UNKNOWN) for name in classes], dtype=np.int64)
        missing = [name for name, logit in zip(classes, logits, strict=True) if logit == UNKNOWN]
        return cls(logits, _note(missing, len(classes), known, n_logits))

    def of_labels(self, labels: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the logit of each image's class, (image,); -1 where there is none."""
        return np.where(labels < 0, UNKNOWN, self.logits[labels])


def _require_numeric_order(classes: Sequence[str]) -> None:
    if not all(name.isdecimal() for name in classes):
        return
    numbers = [int(name) for name in classes]
    if numbers != sorted(numbers):
        raise ValueError(
            f"the classes are numbers in the order of texts, {', '.join(classes[:3])}, …: their "
            "order is not that of logits; name the classes, by names = … of the images"
        )


def _require_same_order(classes: Sequence[str], known: Sequence[str]) -> None:
    """Raise where names that both have, but for case and punctuation, stand in another order.

    A name that one list alone has says nothing of the other's order, and one that both have may be
    of another class beside it; numbers only count.
    """
    ours, theirs = ([plain(name) for name in names] for names in (classes, known))
    shared = {name for name in set(ours) & set(theirs) if not name.isdecimal()}
    moved = [
        logit
        for logit, pair in enumerate(zip(ours, theirs, strict=bool(theirs)))
        if pair[0] != pair[1] and shared.issuperset(pair)
    ]
    if moved:
        first, to = moved[0], theirs.index(ours[moved[0]])
        raise ValueError(
            f"{counted(len(moved), 'class')} would get another's label: {classes[first]!r} is "
            f"number {first} of the images and {to} of the network, whose number {first} is "
            f"{known[first]!r}. Leave match out, and give both the same names (names = … of the "
            "images, or of the network)"
        )


def _note(missing: Sequence[str], n_classes: int, known: Sequence[str], n_logits: int) -> str:
    if not missing:
        return ""
    shown = ", ".join(map(repr, missing[:3])) + (", …" if len(missing) > 3 else "")
    if known:
        told = (
            f"{len(missing)} of {counted(n_classes, 'class')} of the images ({shown}) "
            f"{verb(len(missing), 'is', 'are')} none of the "
            f"network's {n_logits}: their images have no label here, and count in no accuracy."
        )
    else:
        told = (
            f"The network does not name its {counted(n_logits, 'logit')}: images have no label "
            "here."
        )
    if n_logits != n_classes:
        return told
    return f'{told} If they are the same classes in the same order, say match = "order".'
