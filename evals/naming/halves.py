"""Two random halves of the inputs: names are chosen on one, and scored on the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np


def halve_inputs(
    inputs: Sequence[str] | np.ndarray, seed: int, groups: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return the indices of two random halves of the inputs, the first the larger by at most one.

    The draw is by the inputs' names, so that their order does not matter. Where inputs stand in
    groups (input,), these are halved whole.
    """
    names, of_input = (np.asarray(inputs), None) if groups is None else number_groups(groups)
    by_name = np.argsort(names, kind="stable")
    drawn = by_name[np.random.default_rng(seed).permutation(len(by_name))]
    middle = (len(drawn) + 1) // 2
    halves = np.sort(drawn[:middle]), np.sort(drawn[middle:])
    if of_input is None:
        return halves
    return np.flatnonzero(np.isin(of_input, halves[0])), np.flatnonzero(
        np.isin(of_input, halves[1])
    )


def number_groups(groups: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the names of groups, and which one each input (input,) is in."""
    names, of_input = np.unique(groups.astype(str), return_inverse=True)
    return names, of_input


def sequences_of(inputs: Sequence[Any] | np.ndarray) -> np.ndarray:
    """Return the sequence (input,) of each position: its name up to the last ``/``.

    Raises
    ------
    ValueError
        If a name has none.
    """
    names = np.array([str(name).rpartition("/")[0] for name in np.asarray(inputs)], dtype=object)
    if (names == "").any():
        wrong = str(np.asarray(inputs)[names == ""][0])
        raise ValueError(
            f"by_sequence: expected inputs that are named 'sequence/position'; got {wrong!r}"
        )
    return names
