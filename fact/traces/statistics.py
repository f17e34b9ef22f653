"""What presences and contributions over a whole dataset say: shares, coverage, residuals.

Source: Parchami-Araghi et al., "FaCT", NeurIPS 2025, arXiv 2510.25512, section 4.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import NDArray

COVERED = 0.8
"""Fraction of the positive contribution that the strongest concepts are counted up to."""

COMMON = 0.85
"""Fraction of the images above which a concept that contributes is common."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Coverage:
    """How few concepts hold the positive contribution of an image.

    Attributes
    ----------
    curve : ndarray of float64, (image, rank)
        Fraction of the positive contribution in the ``rank + 1`` strongest concepts.
    needed : ndarray of int64, (image,)
        Concepts that cover 80 %.
    """

    curve: Floats
    needed: NDArray[np.int64]


def coverage(contribution: NDArray[np.floating], share: float = COVERED) -> Coverage:
    """Return how the positive contribution of each image gathers in its strongest concepts.

    Parameters
    ----------
    contribution : ndarray, (image, concept)
        Only positive entries count; every image must have one.
    share : float
        In (0, 1].
    """
    positive = np.clip(np.asarray(contribution, dtype=np.float64), 0, None)
    strongest = -np.sort(-positive, axis=1)
    curve = np.cumsum(strongest, axis=1) / positive.sum(axis=1, keepdims=True)
    # A fraction is reached up to rounding: 0.8 of equal parts is 4 of 5, not 5.
    needed = (curve < share * (1 - 1e-12)).sum(axis=1) + 1
    return Coverage(curve, np.minimum(needed, positive.shape[1]))


class ConceptStatistics:
    """Gathers the statistics of a dataset part by part.

    Parameters
    ----------
    n_concepts : int
        Number of concepts.
    """

    def __init__(self, n_concepts: int):
        self.images = 0
        self.correct = self.correct_alone = 0
        self.present = np.zeros(n_concepts, dtype=np.int64)
        self.contributing = np.zeros(n_concepts, dtype=np.int64)
        self.contribution = np.zeros(n_concepts)
        self.positive_share = np.zeros(n_concepts)
        self.curve = np.zeros(n_concepts)
        self.covered_images = self.needed = 0
        self.residuals: list[NDArray[np.floating]] = []
        self.input_residuals: list[NDArray[np.floating]] = []

    def add(self, part: xr.Dataset) -> None:
        """Count a part with ``presence``, ``contribution``, residuals, predictions and labels."""
        contribution = part["contribution"].values.astype(np.float64)
        self.images += len(contribution)
        self.present += (part["presence"].values > 0).sum(axis=0)
        self.contributing += (contribution != 0).sum(axis=0)
        self.contribution += contribution.sum(axis=0)
        label = part["label"].values
        self.correct += int((part["prediction"].values == label).sum())
        self.correct_alone += int((part["network_prediction"].values == label).sum())
        self.residuals.append(part["residual"].values)
        self.input_residuals.append(part["input_residual"].values)
        self._add_coverage(contribution)

    def _add_coverage(self, contribution: Floats) -> None:
        positive = np.clip(contribution, 0, None)
        total = positive.sum(axis=1)
        some = total > 0
        if not some.any():
            return
        covered = coverage(contribution[some])
        self.curve += covered.curve.sum(axis=0)
        self.needed += int(covered.needed.sum())
        self.positive_share += (positive[some] / total[some, None]).sum(axis=0)
        self.covered_images += int(some.sum())

    def summary(self) -> xr.Dataset:
        """Return the statistics, by concept, by rank and as scalars; see ``fact.schemas``.

        Raises
        ------
        ValueError
            If nothing was added.
        """
        if not self.images:
            raise ValueError("no images; expected at least one")
        images, with_positive = self.images, max(self.covered_images, 1)
        common = self.contributing > COMMON * images
        residual = np.concatenate(self.residuals).astype(np.float64)
        input_residual = np.concatenate(self.input_residuals).astype(np.float64)
        known = input_residual[~np.isnan(input_residual)]
        return xr.Dataset(
            {
                "image_share": ("concept", self.present / images),
                "contributing_share": ("concept", self.contributing / images),
                "mean_contribution": ("concept", self.contribution / images),
                "coverage": ("rank", self.curve / with_positive),
                "accuracy": self.correct / images,
                "network_accuracy": self.correct_alone / images,
                "image_l0": float(self.present.sum() / images),
                "concepts_for_80": self.needed / with_positive,
                "alive_share": float((self.contributing > 0).mean()),
                "common_concepts": np.int64(common.sum()),
                "common_share": float(self.positive_share[common].sum() / with_positive),
                "residual_mean": float(residual.mean()),
                "residual_std": float(residual.std()),
                "residual_max": float(residual.max()),
                "input_residual_max": float(known.max()) if known.size else float("nan"),
            }
        )
