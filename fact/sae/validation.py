"""The loss of an SAE on samples of images that it was not trained on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fact.data.config import Precision
from fact.data.images import Ids, ImageDataset, batches
from fact.networks.layers import layer_shape
from fact.networks.network import Network
from fact.sae.gradients import rows_at_once, served_codes, spread
from fact.sae.model import SAE
from fact.sae.sampling import draw_features, samples_per_image
from fact.sae.steps import TrainedSAE

MEMORY = 2**26
"""Bytes of held-out samples: 32,768 of 512 channels. Of more images so many are drawn at random."""


def reconstruct_sparse(sae: SAE, positions: Tensor) -> Tensor:
    """Reconstruct what a layer puts out, of which codes of all concepts never are in memory.

    Parameters
    ----------
    sae : SAE
        Of any kind, with or without biases.
    positions : Tensor
        ``(image, position, channel)``.

    Returns
    -------
    Tensor
        As ``sae(positions)``, encoded a few positions at a time and decoded from what is active.
    """
    rows = positions.flatten(0, 1)
    pieces = torch.split(rows, rows_at_once(sae.n_concepts, rows.device))
    return torch.cat([sae.decode_sparse(*sae.encode_sparse(own)) for own in pieces]).view_as(
        positions
    )


class HeldOutLog(NamedTuple):
    """What an SAE measures on held-out samples, drawn as those of the training were.

    Attributes
    ----------
    reconstruction_loss : float
        Mean over samples of ``||x - x_hat||^2``; samples are divided by the training's scale.
    explained_variance : float
        ``1 - sum var(x - x_hat) / sum var(x)``.
    l0 : float
        Mean number of concepts above 0 in a sample.
    dead : int
        Concepts above 0 in no sample.
    """

    reconstruction_loss: float
    explained_variance: float
    l0: float
    dead: int


class HeldOutSamples:
    """Samples of held-out images, in memory.

    Parameters
    ----------
    samples : ndarray of float32, (sample, channel)
        Divided by the training's scale; there may be none.
    """

    def __init__(self, samples: NDArray[np.float32]):
        self.samples = torch.from_numpy(samples)

    @classmethod
    def draw(
        cls,
        network: Network,
        layer: str,
        images: ImageDataset,
        ids: Ids,
        scale: float,
        *,
        per_image: int | None,
        batch: int,
        seed: int,
        memory: int = MEMORY,
        precision: Precision = "float32",
    ) -> HeldOutSamples:
        """Draw positions by their importance, as :func:`fact.sae.sampling.collect_features` does.

        Parameters
        ----------
        network, layer : Network and str
            Whose output is drawn from.
        images, ids : ImageDataset and ndarray of str, (image,)
            The held-out images; of all samples no more than fit are drawn.
        scale : float
            Number that samples are divided by.
        per_image : int or None
            Positions of an image; as in training by default.
        batch, seed, memory : int
            Images at a time; seed of the draw; bytes that samples may take.
        precision : str
            In which the network computes.
        """
        if not len(ids):
            return cls(np.zeros((0, 0), np.float32))
        positions, channels = layer_shape(network, layer, images.read(ids[:1], network.geometry))
        count = min(per_image or samples_per_image(channels), positions)
        generator = np.random.default_rng(seed)
        most = max(1, memory // (4 * channels * count))
        chosen = ids[np.sort(generator.permutation(len(ids))[:most])]
        parts = [
            draw_features(network, layer, pixels, count, generator, precision)["feature"]
            for _, pixels in batches(images, chosen, batch, network.geometry)
        ]
        return cls(np.divide(np.concatenate(parts), scale, dtype=np.float32))

    @torch.no_grad()
    def __call__(self, sae: TrainedSAE) -> HeldOutLog | None:
        """Return what an SAE measures on them; None where there are none."""
        if not len(self.samples):
            return None
        x: Tensor = self.samples.to(sae.encoder)
        codes = served_codes(sae, x)
        residual = x - codes.decode(sae.decoder.T)
        is_active = codes.values > 0
        fired = torch.zeros(sae.n_concepts, dtype=torch.bool, device=x.device)
        fired[codes.concepts[is_active]] = True
        return HeldOutLog(
            float(residual.square().sum(dim=1).mean()),
            float(1 - spread(residual) / spread(x)),
            float(is_active.sum() / len(x)),
            int((~fired).sum()),
        )

    @torch.no_grad()
    def by_prefix(self, sae: TrainedSAE, sizes: Sequence[int]) -> NDArray[np.float64]:
        """Return the share of variance that the first concepts of an SAE explain.

        Parameters
        ----------
        sae : TopKSAE or BatchTopKSAE
            Its codes are those of the whole dictionary.
        sizes : sequence of int
            So many of its concepts reconstruct.

        Returns
        -------
        ndarray of float64, (size,)
            NaN where there are no samples.
        """
        if not len(self.samples):
            return np.full(len(sizes), np.nan)
        x = self.samples.to(sae.encoder)
        codes, directions = served_codes(sae, x), sae.decoder.T
        kept = (x - codes.of(0, size).decode(directions[:size]) for size in sizes)
        return np.array([float(1 - spread(residual) / spread(x)) for residual in kept])
