"""The bias-free TopK sparse autoencoder: the concepts of a layer.

Without any bias the autoencoder is positively homogeneous, so that a B-cos network stays an exact
sum of its concepts' contributions with it in the place of a layer. Source: Parchami-Araghi et al.,
"FaCT", NeurIPS 2025, arXiv 2510.25512, section 3; the TopK activation is that of Gao et al.,
"Scaling and evaluating sparse autoencoders", arXiv 2406.04093.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import xarray as xr
from torch import Tensor, nn
from torch.nn import functional

from fact.networks.arrays import AnyArray, as_tensor

RELEASES = "https://github.com/m-parchami/FaCT/releases/download"
WEIGHTS = ("encoder.weight", "decoder.weight", "k")
NOT_USED = ("threshold", "log")


class TopKSAE(nn.Module):
    """Bias-free TopK sparse autoencoder, ``x_hat = W_d topk(relu(W_e x))``.

    Parameters
    ----------
    encoder : array, shape (concept, channel)
        Weights ``W_e``, of any library; a DataArray may have its dimensions in either order.
    decoder : array, shape (channel, concept)
        Weights ``W_d``; a concept is a column, of unit norm after training.
    k : int
        Concepts that are kept per sample, 1 to the number of concepts.
    scale : float
        Root of the mean squared norm of the samples that it was trained on. Nothing divides by
        it: without biases the same weights serve samples of any scale.

    Raises
    ------
    ValueError
        Shapes that do not fit, a type that is not floating, or ``k`` out of its range.

    Notes
    -----
    Where pre-activations tie for the last place among the ``k``, `torch.topk` decides: always the
    same way on one device and build of torch, in no promised order. A tie at 0 (fewer than ``k``
    positive ones) changes no output. Both weights lie in memory concept by concept, which is what
    products with sparse codes read; the decoder's shape is (channel, concept) all the same.
    """

    def __init__(self, encoder: AnyArray, decoder: AnyArray, k: int, scale: float = 1.0) -> None:
        super().__init__()
        encoder = as_tensor(encoder, ("concept", "channel"))
        decoder = as_tensor(decoder, ("channel", "concept"))
        _check(encoder, decoder, k, scale)
        self.encoder = nn.Parameter(_row_by_row(encoder))
        self.decoder = nn.Parameter(_row_by_row(decoder.T).T)
        self.k = int(k)
        self.scale = float(scale)

    @property
    def n_concepts(self) -> int:
        """Number of concepts."""
        return self.encoder.shape[0]

    @property
    def n_channels(self) -> int:
        """Number of channels of a sample."""
        return self.encoder.shape[1]

    def encode_topk(self, x: AnyArray) -> tuple[Tensor, Tensor]:
        """Find the concepts that are kept for each sample.

        Parameters
        ----------
        x : array, shape (..., channel)
            Samples; others than Tensors are brought to the weights' device and type, and of a
            DataArray the channels become the last dimension.

        Returns
        -------
        values : Tensor, shape (..., k)
            Activations, 0 or more, in no particular order.
        indices : Tensor of int64, shape (..., k)
            Their concepts. With fewer than ``k`` positive pre-activations the rest are others
            with activation 0: they count as firing in training.
        """
        x = as_tensor(x, (..., "channel"), like=self.encoder)
        activations = functional.relu(functional.linear(x, self.encoder))
        values, indices = activations.topk(self.k, dim=-1, sorted=False)
        return values, indices

    def encode(self, x: AnyArray) -> Tensor:
        """Compute the activations of all concepts.

        Parameters
        ----------
        x : array, shape (..., channel)
            Samples; others than Tensors are brought to the weights' device and type, and of a
            DataArray the channels become the last dimension.

        Returns
        -------
        Tensor, shape (..., concept)
            Activations, 0 or more, at most ``k`` of a sample above 0.
        """
        values, indices = self.encode_topk(x)
        dense = values.new_zeros(*values.shape[:-1], self.n_concepts)
        return dense.scatter(-1, indices, values)

    def decode(self, z: AnyArray) -> Tensor:
        """Reconstruct samples from activations.

        Parameters
        ----------
        z : array, shape (..., concept)
            Activations.

        Returns
        -------
        Tensor, shape (..., channel)
            ``W_d z``.
        """
        return functional.linear(as_tensor(z, (..., "concept"), like=self.decoder), self.decoder)

    def decode_topk(self, values: Tensor, indices: Tensor) -> Tensor:
        """Reconstruct samples from the concepts that were kept.

        Parameters
        ----------
        values : Tensor, shape (..., k)
            Activations.
        indices : Tensor of int64, shape (..., k)
            Their concepts.

        Returns
        -------
        Tensor, shape (..., channel)
            Equal to `decode` of the dense activations, without ever making them.
        """
        flat_values, flat_indices = values.reshape(-1, self.k), indices.reshape(-1, self.k)
        decoded = weighted_rows(self.decoder.T, flat_indices, flat_values)
        return decoded.reshape(*values.shape[:-1], self.n_channels)

    def forward(self, x: AnyArray) -> Tensor:
        """Reconstruct samples, (..., channel) to (..., channel)."""
        return self.decode(self.encode(x))

    def extra_repr(self) -> str:
        """Sizes, for ``repr``."""
        return f"n_concepts={self.n_concepts}, n_channels={self.n_channels}, k={self.k}"

    @classmethod
    def initialise(
        cls,
        n_concepts: int,
        n_channels: int,
        k: int,
        generator: torch.Generator,
        scale: float = 1.0,
        dtype: torch.dtype = torch.float32,
    ) -> TopKSAE:
        """Draw the weights that training starts from.

        The decoder is uniform in [-1, 1] with columns normalised to 1, the encoder its transpose
        (FaCT, section 3).

        Parameters
        ----------
        n_concepts, n_channels, k : int
            Sizes.
        generator : torch.Generator
            Source of randomness; the weights are made on its device.
        scale : float
            Kept with the weights.
        dtype : torch.dtype
            Floating type of the weights.
        """
        decoder = torch.empty(n_channels, n_concepts, dtype=dtype, device=generator.device)
        decoder.uniform_(-1, 1, generator=generator)
        decoder = functional.normalize(decoder, dim=0)
        return cls(decoder.T, decoder, k, scale)

    def to_dataset(self) -> xr.Dataset:
        """Label the weights.

        Returns
        -------
        xarray.Dataset
            ``encoder`` (concept, channel), ``decoder`` (channel, concept), ``k``, ``scale``.
        """
        encoder, decoder = (w.detach().cpu().contiguous().numpy() for w in self.parameters())
        return xr.Dataset(
            {
                "encoder": (("concept", "channel"), encoder, {"long_name": "encoder weights"}),
                "decoder": (("channel", "concept"), decoder, {"long_name": "decoder weights"}),
                "k": ((), self.k, {"long_name": "active concepts per position"}),
                "scale": ((), self.scale, {"long_name": "root mean squared norm in training"}),
            },
            coords={"concept": range(self.n_concepts)},
        )

    @classmethod
    def from_dataset(cls, dataset: xr.Dataset) -> TopKSAE:
        """Read the weights of `to_dataset`, in either order of dimensions.

        Parameters
        ----------
        dataset : xarray.Dataset
            With ``encoder``, ``decoder`` and, as variables or attributes, ``k`` and maybe
            ``scale``.

        Returns
        -------
        TopKSAE
            On the CPU, in the type of the dataset.

        Raises
        ------
        ValueError
            Something is missing.
        """
        scalars = {
            **dataset.attrs,
            **{name: dataset[name] for name in ("k", "scale") if name in dataset},
        }
        given = {*dataset.data_vars, *scalars}
        missing = [name for name in ("encoder", "decoder", "k") if name not in given]
        if missing:
            raise ValueError(f"not an SAE's dataset: it lacks {', '.join(missing)}")
        scale = float(scalars.get("scale", 1.0))
        return cls(dataset["encoder"], dataset["decoder"], int(scalars["k"]), scale)

    @classmethod
    def from_checkpoint(cls, path: str | Path) -> TopKSAE:
        """Read a checkpoint in the format of the paper's released SAEs.

        Parameters
        ----------
        path : str or Path
            A ``.pt`` file with ``encoder.weight`` (concept, channel), ``decoder.weight``
            (channel, concept) and ``k``; ``threshold`` and ``log`` are passed over.

        Returns
        -------
        TopKSAE
            On the CPU.

        Raises
        ------
        ValueError
            A bias, an unknown or a missing entry, or a file that holds more than weights: code
            in a pickle is never run.
        """
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
        except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
            raise ValueError(f"{path}: not a file of weights alone: {error}") from error
        _check_checkpoint(state, path)
        return cls(state["encoder.weight"], state["decoder.weight"], int(state["k"]))


def released_checkpoint_url(
    arch: str, layer: str, n_concepts: int, k: int, lr: float, tag: str = "v0.1"
) -> str:
    """Address of a checkpoint that the paper's authors released.

    Parameters
    ----------
    arch : str
        Network, as ``densenet121_long``.
    layer : str
        Full name of the layer in it, as ``features.norm5``.
    n_concepts, k : int
        Sizes.
    lr : float
        Learning rate of its training.
    tag : str
        Release.
    """
    name = f"{tag}-{arch}-{layer}-BiasFreeTopK-K{n_concepts}-S{k}-LR{float(lr)}.pt"
    return f"{RELEASES}/{tag}/{name}"


def weighted_rows(
    rows: Tensor, indices: Tensor, weights: Tensor, offsets: Tensor | None = None
) -> Tensor:
    """Multiply a sparse matrix, given by its entries, with a dense one.

    Parameters
    ----------
    rows : Tensor, shape (n, channel)
        Dense matrix.
    indices : Tensor of int64, shape (m, k), or (entry,) with `offsets`
        Rows that each result adds up.
    weights : Tensor, shape as `indices`
        Their weights.
    offsets : Tensor of int64, shape (m,), optional
        First entry of each result, where they differ in number.

    Returns
    -------
    Tensor, shape (m, channel)
        ``out[i] = sum_j weights[i, j] rows[indices[i, j]]``. Each is added up in the order given,
        whatever the number of threads. Its gradient by `weights` is sparse too.
    """
    return functional.embedding_bag(indices, rows, offsets, per_sample_weights=weights, mode="sum")


def _row_by_row(weights: Tensor) -> Tensor:
    return weights.detach().clone(memory_format=torch.contiguous_format)


def _check(encoder: Tensor, decoder: Tensor, k: int, scale: float) -> None:
    faults = []
    if encoder.ndim != 2 or decoder.ndim != 2 or encoder.shape != decoder.T.shape:
        faults.append(
            f"encoder {tuple(encoder.shape)} and decoder {tuple(decoder.shape)}; expected "
            "(concept, channel) and (channel, concept)"
        )
    elif not 1 <= k <= len(encoder):
        faults.append(f"k is {k}; expected 1 to {len(encoder)}, the number of concepts")
    if not encoder.is_floating_point() or encoder.dtype != decoder.dtype:
        faults.append(f"types {encoder.dtype} and {decoder.dtype}; expected one floating type")
    if not scale > 0:
        faults.append(f"scale is {scale}; expected more than 0")
    if faults:
        raise ValueError("; ".join(faults))


def _check_checkpoint(state: Any, path: str | Path) -> None:
    if not isinstance(state, Mapping):
        raise ValueError(f"{path}: a {type(state).__name__}; expected a state dict")
    biases = [key for key in state if "bias" in str(key) or str(key).startswith("b_")]
    if biases:
        raise ValueError(f"{path}: has a bias: {', '.join(biases)}; expected a bias-free SAE")
    missing = [key for key in WEIGHTS if key not in state]
    unknown = sorted(str(key) for key in state if key not in (*WEIGHTS, *NOT_USED))
    if missing or unknown:
        raise ValueError(
            f"{path}: not a released SAE: missing {missing}, unknown {unknown}; "
            f"expected {list(WEIGHTS)} and at most {list(NOT_USED)}"
        )
