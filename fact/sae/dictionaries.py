"""What a decoder is trained as: columns of unit norm, or mixtures of data points.

Archetypal dictionaries: Fel et al., "Archetypal SAE: adaptive and stable dictionary learning for
concept extraction in large vision models", ICML 2025, arXiv 2502.12892, section 4: an atom is a
convex combination of points of the data, relaxed by a vector of bounded norm.
"""

from __future__ import annotations

from typing import Protocol

import torch
import xarray as xr
from scipy.cluster.vq import kmeans2
from torch import Tensor
from torch.nn import functional

from fact.networks.arrays import AnyArray, as_tensor
from fact.sae.gradients import reconstruct
from fact.sae.model import BatchTopKSAE, TopKSAE
from registry.wording import counted


class Dictionary(Protocol):
    """The directions (concept, channel) of a decoder, and what they are made of.

    ``directions`` is the memory of the decoder that is trained.
    """

    directions: Tensor

    def weights(self) -> dict[str, Tensor]:
        """Return what is optimised, by name."""

    def constants(self) -> dict[str, Tensor]:
        """Return what is needed beside to go on, by name."""

    def gradients(self, by_directions: Tensor) -> list[Tensor]:
        """Return the gradients by each of the weights; that by directions is used up."""

    def settle(self) -> None:
        """Bring the weights back to where they are allowed, and make directions of them."""

    def to_dataset(self) -> xr.Dataset:
        """Label what the directions are made of."""


class UnitDictionary:
    """Directions that are trained themselves, kept at unit norm.

    Parameters
    ----------
    directions : Tensor, shape (concept, channel)
        Changed in place.
    """

    def __init__(self, directions: Tensor) -> None:
        self.directions = directions

    def weights(self) -> dict[str, Tensor]:
        """See :class:`Dictionary`."""
        return {"directions": self.directions}

    def constants(self) -> dict[str, Tensor]:
        """See :class:`Dictionary`."""
        return {}

    def gradients(self, by_directions: Tensor) -> list[Tensor]:
        """Return the gradient without its component along each direction."""
        squares = torch.linalg.vecdot(self.directions, self.directions)
        squares.clamp_min_(_tiny(by_directions))
        parallel = torch.linalg.vecdot(by_directions, self.directions) / squares
        return [by_directions.addcmul_(parallel[:, None], self.directions, value=-1)]

    def settle(self) -> None:
        """Normalise the directions; one of length 0 stays."""
        norms = torch.linalg.vector_norm(self.directions, dim=1, keepdim=True)
        self.directions.div_(norms.clamp_min_(_tiny(norms)))

    def to_dataset(self) -> xr.Dataset:
        """Return nothing: there is no more to them."""
        return xr.Dataset()


class ArchetypalDictionary:
    """Relaxed archetypal dictionary, ``exp(log_gain) (mixing @ points + relaxation)``.

    Each row of ``mixing`` is 0 or more and sums to 1; each row of ``relaxation`` has at most the
    norm `most`, 0 for atoms in the convex hull of the points itself. Neither the directions nor
    their gradients are normalised.

    Parameters
    ----------
    points : array, shape (point, channel)
        Points of the data, or of its convex hull, at the scale of the training.
    mixing : array, shape (concept, point)
        Brought to rows of sum 1.
    most : float
        Largest norm of a row of the relaxation, 0 or more; samples have a root mean squared norm
        of 1.
    relaxation : array, shape (concept, channel), optional
        0 by default.
    log_gain : array, scalar
        Logarithm of one factor for all atoms.
    directions : Tensor, shape (concept, channel), optional
        Those of a training that goes on, whose weights are taken to the bit as they are.

    Raises
    ------
    ValueError
        Shapes that do not fit, or `most` below 0.
    """

    def __init__(
        self,
        points: AnyArray,
        mixing: AnyArray,
        most: float = 0.0,
        relaxation: AnyArray | None = None,
        log_gain: AnyArray = 0.0,
        directions: Tensor | None = None,
    ) -> None:
        self.points = as_tensor(points, ("point", "channel")).detach().clone()
        self.mixing = as_tensor(mixing, ("concept", "point")).detach().to(self.points).clone()
        if self.points.ndim != 2 or self.mixing.shape[1:] != self.points.shape[:1] or not most >= 0:
            raise ValueError(
                f"mixing {tuple(self.mixing.shape)}, points {tuple(self.points.shape)}, most "
                f"{most}; expected (concept, point), (point, channel), 0 or more"
            )
        self.most = float(most)
        self.directions = self.points.new_empty(len(self.mixing), self.points.shape[1])
        given = torch.zeros_like(self.directions) if relaxation is None else as_tensor(relaxation)
        self.relaxation = given.detach().to(self.directions).clone()
        self.log_gain = as_tensor(log_gain).detach().to(self.directions).clone()
        if directions is None:
            self.settle()
        else:
            self.directions.copy_(directions)

    @classmethod
    def start(cls, points: Tensor, n_concepts: int, most: float) -> ArchetypalDictionary:
        """Begin with the first points themselves as atoms.

        Parameters
        ----------
        points : Tensor, shape (point, channel)
            At least as many as concepts.
        n_concepts : int
            Atoms.
        most : float
            See :class:`ArchetypalDictionary`.
        """
        mixing = torch.eye(n_concepts, len(points), dtype=points.dtype, device=points.device)
        return cls(points, mixing, most)

    def weights(self) -> dict[str, Tensor]:
        """See :class:`Dictionary`."""
        relaxed = {"relaxation": self.relaxation} if self.most else {}
        return {"mixing": self.mixing, **relaxed, "log_gain": self.log_gain}

    def constants(self) -> dict[str, Tensor]:
        """See :class:`Dictionary`."""
        return {"points": self.points}

    def gradients(self, by_directions: Tensor) -> list[Tensor]:
        """Return the gradients by mixing, by the relaxation where there is any, by the gain.

        That by mixing is through the division of its rows by their sums: what makes an atom longer
        altogether moves no share of it.
        """
        gain = self.log_gain.exp()
        relaxed = [by_directions * gain] if self.most else []
        by_gain = (by_directions * self.directions).sum()
        by_mixing = by_directions @ self.points.T * gain
        by_mixing -= torch.linalg.vecdot(by_mixing, self.mixing)[:, None]
        return [by_mixing, *relaxed, by_gain]

    def settle(self) -> None:
        """Clip mixing at 0 and divide its rows by their sums; shorten the relaxation.

        A row without anything above 0 becomes its largest entry alone.
        """
        largest, where = self.mixing.max(dim=1, keepdim=True)
        self.mixing.scatter_(1, where, largest.masked_fill(largest <= 0, 1))
        self.mixing.relu_()
        self.mixing.div_(self.mixing.sum(dim=1, keepdim=True))
        norms = torch.linalg.vector_norm(self.relaxation, dim=1, keepdim=True)
        self.relaxation.mul_((self.most / norms.clamp_min(_tiny(norms))).clamp_max(1))
        atoms = torch.addmm(self.relaxation, self.mixing, self.points)
        torch.mul(atoms, self.log_gain.exp(), out=self.directions)

    def to_dataset(self) -> xr.Dataset:
        """Label points, mixing and gain: ``gain mixing @ points``, relaxation aside."""
        variables = {
            "point_feature": (("point", "channel"), self.points),
            "mixing": (("concept", "point"), self.mixing),
            "gain": ((), self.log_gain.exp()),
        }
        return xr.Dataset({n: (dims, t.cpu().numpy()) for n, (dims, t) in variables.items()})


@torch.no_grad()
def begin_with(sae: TopKSAE | BatchTopKSAE, dictionary: ArchetypalDictionary) -> None:
    """Give an SAE the weights that an archetypal training starts from.

    Parameters
    ----------
    sae : TopKSAE or BatchTopKSAE
        Its encoder becomes the atoms at unit norm, its decoder the atoms.
    dictionary : ArchetypalDictionary
        Its gain becomes the one that reconstructs the points best: atoms of data resemble each
        other, and the sum of those that are active is long.
    """
    unit = functional.normalize(dictionary.directions, dim=1)
    of_batch = isinstance(sae, BatchTopKSAE)
    found = reconstruct(dictionary.points, unit, dictionary.directions, sae.k, of_batch)
    reconstructed = dictionary.points - found.residual
    gain = (dictionary.points * reconstructed).sum() / reconstructed.square().sum()
    dictionary.log_gain.add_(gain.log())
    dictionary.settle()
    sae.encoder.copy_(unit)
    sae.decoder.copy_(dictionary.directions.T)


def draw_points(samples: AnyArray, count: int, seed: int, steps: int = 10) -> Tensor:
    """Draw points of the convex hull of samples: the centroids of a k-means clustering.

    Parameters
    ----------
    samples : array, shape (sample, channel)
        More than `count` of them.
    count : int
        Centroids.
    seed : int
        Draws those that it starts from.
    steps : int
        Steps of Lloyd's algorithm.

    Returns
    -------
    Tensor, shape (point, channel)
        In the type of the samples, on the CPU.

    Raises
    ------
    ValueError
        Fewer samples than points.
    """
    rows = as_tensor(samples, ("sample", "channel")).detach().cpu()
    if len(rows) < count:
        raise ValueError(
            f"{counted(len(rows), 'sample')} for {counted(count, 'point')}; expected at least as "
            "many"
        )
    start = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed))[:count]
    # An empty cluster keeps its last centroid, which is in the hull as well.
    points, _ = kmeans2(rows.numpy(), rows[start].numpy(), steps, minit="matrix", missing="warn")
    return torch.from_numpy(points).to(rows.dtype)


def _tiny(x: Tensor) -> float:
    return torch.finfo(x.dtype).tiny
