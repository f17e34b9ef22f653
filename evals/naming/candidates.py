"""Which labels may name concepts: all but some, and those that are no classes first, where asked.

A name that repeats the class that it is to explain explains nothing. Groups of labels are what
stands before the colon, as in ``colour:red``. A label is a class where its group is ``class``, or
where it is called as a class of the network.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, Literal, TypeAlias

import numpy as np
import xarray as xr

from registry.suggest import RefusalError, nearest
from registry.wording import counted

Preference: TypeAlias = Literal["best", "concepts"]
"""Which label names a concept: the best; or the best that is no class, unless that is at chance."""

BEST: Final = "best"
CONCEPTS: Final = "concepts"
CLASS, WHOLE_GROUP = "class", ":*"


class CandidatesError(RefusalError, ValueError):
    """Labels that are to be left out, or preferred, and cannot be."""


def group_of(label: str) -> str:
    """Return the group of a label, "" where it has none."""
    group, colon, _ = label.partition(":")
    return group if colon else ""


def repeats_class(label: str, name: str) -> bool:
    """Return whether a label is a class of that name: ``class:NAME``, or just the name."""
    return bool(name) and label in (name, f"{CLASS}:{name}")


def find_classes(labels: Sequence[str] | np.ndarray, classes: Iterable[str] = ()) -> np.ndarray:
    """Return which labels are classes (label,).

    Parameters
    ----------
    labels : sequence of str
        Names of labels.
    classes : iterable of str
        Names of the network's classes, where they are known.
    """
    known = set(map(str, classes))
    return np.array([name in known or group_of(name) == CLASS for name in map(str, labels)], bool)


def require_chance(prefer: str, n_permutations: int) -> None:
    """Raise if labels are to be preferred by a test that is not made.

    Raises
    ------
    CandidatesError
        With what to say instead.
    """
    if prefer == CONCEPTS and not n_permutations:
        raise CandidatesError(
            f'prefer = "{CONCEPTS}" chooses by what chance gives: expected n_permutations of 1 or '
            "more; got 0"
        )


def leave_out(
    labels: xr.DataArray, patterns: Sequence[str], classes: Iterable[str] = ()
) -> xr.DataArray:
    """Return labels (input, concept) without some.

    Parameters
    ----------
    labels : xr.DataArray
        (input, concept) with names.
    patterns : sequence of str
        Names of labels, and groups as ``class:*``.
    classes : iterable of str
        Names of the network's classes, which are of the group ``class``.

    Raises
    ------
    CandidatesError
        For a label or group that there is not, with the nearest; and if no label is left.
    """
    if not patterns:
        return labels
    names = labels["concept"].values.astype(str)
    groups = np.where(find_classes(names, classes), CLASS, [group_of(name) for name in names])
    known = {*names.tolist(), *(f"{group}{WHOLE_GROUP}" for group in groups if group)}
    unknown = [pattern for pattern in patterns if pattern not in known]
    if unknown:
        what = "group" if unknown[0].endswith(WHOLE_GROUP) else "label"
        raise CandidatesError(f"leave_out: no {what} {unknown[0]!r}{nearest(unknown[0], known)}")
    whole = [f"{group}{WHOLE_GROUP}" for group in groups]
    kept = np.flatnonzero(~(np.isin(names, patterns) | np.isin(whole, patterns)))
    if not len(kept):
        raise CandidatesError(
            f"leave_out leaves none of {counted(len(names), 'label')}: name fewer of them"
        )
    return labels.isel(concept=kept)
