"""Which concepts of a model are like one."""

from __future__ import annotations

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray


def unit_directions(decoder: xr.DataArray) -> NDArray[np.float32]:
    """Return the directions of concepts in a layer, each of length 1, (channel, concept).

    Of a decoder (channel, concept) of 100 MB and more; NaN for a direction of length 0.
    """
    weights = decoder.transpose("channel", "concept").values
    with np.errstate(invalid="ignore"):
        return np.asarray(weights / np.sqrt(np.einsum("ij,ij->j", weights, weights)))


def cosines(directions: NDArray[np.float32], index: int) -> NDArray[np.float32]:
    """Return the cosines of one of :func:`unit_directions` with all, (concept,).

    NaN where a direction has length 0; all NaN for an index beyond the last.
    """
    if index >= directions.shape[1]:
        return np.full(directions.shape[1], np.nan, np.float32)
    return directions.T @ directions[:, index]


def most_similar(
    similarity: NDArray[np.floating], concepts: NDArray[np.integer], index: int, count: int = 6
) -> pd.Series:
    """Return the similarity of the concepts most like one, by concept, the most similar first.

    Parameters
    ----------
    similarity : ndarray, (concept,)
        With the one; NaN where it is not defined.
    concepts : ndarray of int, (concept,)
        Their indices.
    index : int
        Of the one, which is left out.
    count : int
        How many at most.
    """
    known = pd.Series(similarity, index=concepts[: len(similarity)], dtype="float64")
    return known.drop(concepts[index], errors="ignore").dropna().nlargest(count)
