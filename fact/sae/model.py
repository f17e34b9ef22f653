"""Sparse autoencoders: the concepts of a layer.

The FaCT paper's own is bias-free and keeps the ``k`` largest activations. Without any bias it is
positively homogeneous, so that a B-cos network stays an exact sum of its concepts' contributions
with it in the place of a layer. Those trained elsewhere have other activation functions and
biases: a threshold or a top-k is a mask, constant once it is known, and a decoder's bias one more
constant source. Sources: Parchami-Araghi et al., "FaCT", NeurIPS 2025, arXiv 2510.25512, section 3;
TopK: Gao et al., "Scaling and evaluating sparse autoencoders", arXiv 2406.04093; BatchTopK:
Bussmann et al., arXiv 2412.06410; JumpReLU: Rajamanoharan et al., arXiv 2407.14435.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
import xarray as xr
from torch import Tensor, nn
from torch.nn import functional

from fact.data.torch_file import TorchFileError, read_torch
from fact.networks.arrays import AnyArray, as_tensor
from fact.sae.releases import released_checkpoint_url as released_checkpoint_url
from registry.suggest import nearest

WEIGHTS = ("encoder.weight", "decoder.weight", "k")
NOT_USED = ("threshold", "log")

BIASES = {"encoder_bias": "concept", "decoder_bias": "channel"}
"""Biases that an SAE may have, each with its dimension."""


class SAE(nn.Module):
    """Sparse autoencoder, ``x_hat = W_d activation(W_e x + b_e) + b_d``.

    The classes below it say what the activation function is. Weights, biases and thresholds are
    those of features as the network gives them: of an SAE that was trained on features divided by
    a number, biases and thresholds are multiplied by it.

    Parameters
    ----------
    encoder : array, shape (concept, channel)
        Weights ``W_e``, of any library; a DataArray may have its dimensions in either order.
    decoder : array, shape (channel, concept)
        Weights ``W_d``; a concept is a column.
    scale : float
        Root of the mean squared norm of the samples that it was trained on. Nothing divides by
        it: without biases and thresholds the same weights serve samples of any scale.
    encoder_bias : array, shape (concept,), optional
        ``b_e``. What an SAE takes away from its samples before it encodes them is a part of it,
        ``-W_e b``.
    decoder_bias : array, shape (channel,), optional
        ``b_d``.

    Raises
    ------
    ValueError
        Shapes that do not fit, or types that are not one floating type.

    Notes
    -----
    Both weights lie in memory concept by concept, which is what products with sparse codes read;
    the decoder's shape is (channel, concept) all the same.
    """

    activation: ClassVar[str]
    """Name of the activation function in datasets."""

    encoder_bias: Tensor | None
    decoder_bias: Tensor | None

    def __init__(
        self,
        encoder: AnyArray,
        decoder: AnyArray,
        scale: float = 1.0,
        *,
        encoder_bias: AnyArray | None = None,
        decoder_bias: AnyArray | None = None,
    ) -> None:
        super().__init__()
        encoder = as_tensor(encoder, ("concept", "channel"))
        decoder = as_tensor(decoder, ("channel", "concept"))
        given = {"encoder_bias": encoder_bias, "decoder_bias": decoder_bias}
        biases = {
            name: None if bias is None else as_tensor(bias, (BIASES[name],))
            for name, bias in given.items()
        }
        _check(encoder, decoder, biases, scale)
        self.encoder = nn.Parameter(_row_by_row(encoder))
        self.decoder = nn.Parameter(_row_by_row(decoder.T).T)
        for name, bias in biases.items():
            self.register_parameter(name, None if bias is None else nn.Parameter(_row_by_row(bias)))
        self.scale = float(scale)

    @property
    def n_concepts(self) -> int:
        """Number of concepts."""
        return self.encoder.shape[0]

    @property
    def n_channels(self) -> int:
        """Number of channels of a sample."""
        return self.encoder.shape[1]

    @property
    def has_bias(self) -> bool:
        """Whether it has a bias, of the encoder or of the decoder."""
        return any(getattr(self, name) is not None for name in BIASES)

    def pre_activations(self, x: AnyArray) -> Tensor:
        """Return ``W_e x + b_e``, (..., channel) to (..., concept)."""
        x = as_tensor(x, (..., "channel"), like=self.encoder)
        return functional.linear(x, self.encoder, self.encoder_bias)

    def encode_sparse(self, x: AnyArray) -> tuple[Tensor, Tensor]:
        """Find the concepts that are active in each sample.

        Parameters
        ----------
        x : array, shape (..., channel)
            Samples; others than Tensors are brought to the weights' device and type, and of a
            DataArray the channels become the last dimension.

        Returns
        -------
        values : Tensor, shape (..., rank)
            Activations, 0 or more, in no particular order; as many as the sample with most of
            them has, at least one.
        indices : Tensor of int64, shape (..., rank)
            Their concepts. Where a sample has fewer, the rest are others with activation 0.
        """
        raise NotImplementedError

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
            Activations, 0 or more.
        """
        values, indices = self.encode_sparse(x)
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
            ``W_d z + b_d``.
        """
        z = as_tensor(z, (..., "concept"), like=self.decoder)
        return functional.linear(z, self.decoder, self.decoder_bias)

    def decode_sparse(self, values: Tensor, indices: Tensor) -> Tensor:
        """Reconstruct samples from the concepts that are active.

        Parameters
        ----------
        values : Tensor, shape (..., rank)
            Activations.
        indices : Tensor of int64, shape (..., rank)
            Their concepts.

        Returns
        -------
        Tensor, shape (..., channel)
            Equal to `decode` of the dense activations, without ever making them.
        """
        rank = values.shape[-1]
        flat = indices.reshape(-1, rank), values.reshape(-1, rank)
        decoded = weighted_rows(self.decoder.T, *flat)
        decoded = decoded.reshape(*values.shape[:-1], self.n_channels)
        return decoded if self.decoder_bias is None else decoded + self.decoder_bias

    def forward(self, x: AnyArray) -> Tensor:
        """Reconstruct samples, (..., channel) to (..., channel)."""
        return self.decode(self.encode(x))

    def extra_repr(self) -> str:
        """Sizes, for ``repr``."""
        return f"n_concepts={self.n_concepts}, n_channels={self.n_channels}"

    def to_dataset(self) -> xr.Dataset:
        """Label the weights.

        Returns
        -------
        xarray.Dataset
            ``encoder`` (concept, channel), ``decoder`` (channel, concept), ``scale``,
            ``activation``; where it has them ``encoder_bias`` (concept), ``decoder_bias``
            (channel), ``k``, ``threshold`` (concept).
        """
        whole = {
            "encoder": (("concept", "channel"), self.encoder, "encoder weights"),
            "decoder": (("channel", "concept"), self.decoder, "decoder weights"),
            "encoder_bias": ("concept", self.encoder_bias, "added to the products of the encoder"),
            "decoder_bias": ("channel", self.decoder_bias, "added to every reconstruction"),
        }
        variables: dict[str, Any] = {
            name: (dims, _as_numpy(tensor), {"long_name": meaning})
            for name, (dims, tensor, meaning) in whole.items()
            if tensor is not None
        }
        variables["scale"] = ((), self.scale, {"long_name": "root mean squared norm in training"})
        variables["activation"] = ((), self.activation, {"long_name": "activation function"})
        coords = {"concept": range(self.n_concepts)}
        return xr.Dataset(variables | self._own_variables(), coords=coords)

    def _own_variables(self) -> dict[str, Any]:
        """Return the variables of an activation function."""
        return {}

    @classmethod
    def _of_variables(cls, dataset: xr.Dataset, **given: Any) -> Self:
        """Build one of a dataset; ``given`` are the weights, the biases and the scale."""
        return cls(**given)

    @classmethod
    def from_dataset(cls, dataset: xr.Dataset) -> Self:
        """Read the weights of `to_dataset`, in either order of dimensions.

        Parameters
        ----------
        dataset : xarray.Dataset
            With ``encoder``, ``decoder`` and, as variables or attributes, what the activation
            function needs and maybe ``scale``. One that does not say its ``activation`` is TopK.

        Returns
        -------
        SAE
            Of the class that its activation function has, on the CPU, in the type of the dataset.

        Raises
        ------
        ValueError
            Something is missing, the activation function is unknown or not that of this class.
        """
        found = dataset.assign({n: v for n, v in dataset.attrs.items() if n in _SCALARS})
        given = {name: found[name] for name in BIASES if name in found}
        name = str(found["activation"].item()) if "activation" in found else TopKSAE.activation
        known = {kind.activation: kind for kind in KINDS}
        if name not in known:
            raise ValueError(f"unknown activation function {name!r}{nearest(name, known)}")
        kind = known[name]
        if not issubclass(kind, cls):
            raise ValueError(f"an SAE of activation function {name!r}; expected {cls.__name__}")
        _require(found, "encoder", "decoder", *kind._needed)
        scale = float(found["scale"]) if "scale" in found else 1.0
        weights = {"encoder": found["encoder"], "decoder": found["decoder"], "scale": scale}
        sae = kind._of_variables(found, **weights, **given)
        assert isinstance(sae, cls)
        return sae

    _needed: ClassVar[tuple[str, ...]] = ()


class TopKSAE(SAE):
    """TopK sparse autoencoder, ``x_hat = W_d topk(relu(W_e x + b_e)) + b_d``.

    Parameters
    ----------
    encoder, decoder, scale, encoder_bias, decoder_bias
        As of :class:`SAE`.
    k : int
        Concepts that are kept per sample, 1 to the number of concepts.

    Raises
    ------
    ValueError
        As of :class:`SAE`, or ``k`` out of its range.

    Notes
    -----
    Where pre-activations tie for the last place among the ``k``, `torch.topk` decides: always the
    same way on one device and build of torch, in no promised order. A tie at 0 (fewer than ``k``
    positive ones) changes no output.
    """

    activation = "topk"
    _needed: ClassVar[tuple[str, ...]] = ("k",)

    def __init__(
        self,
        encoder: AnyArray,
        decoder: AnyArray,
        k: int,
        scale: float = 1.0,
        *,
        encoder_bias: AnyArray | None = None,
        decoder_bias: AnyArray | None = None,
    ) -> None:
        super().__init__(
            encoder, decoder, scale, encoder_bias=encoder_bias, decoder_bias=decoder_bias
        )
        _check_k(k, self.n_concepts)
        self.k = int(k)

    def encode_sparse(self, x: AnyArray) -> tuple[Tensor, Tensor]:
        """Find the ``k`` concepts that are kept for each sample; see :meth:`SAE.encode_sparse`.

        With fewer than ``k`` positive pre-activations the rest count as firing in training.
        """
        activations = functional.relu(self.pre_activations(x))
        values, indices = activations.topk(self.k, dim=-1, sorted=False)
        return values, indices

    def extra_repr(self) -> str:
        """Sizes, for ``repr``."""
        return f"{super().extra_repr()}, k={self.k}"

    def _own_variables(self) -> dict[str, Any]:
        return {"k": ((), self.k, {"long_name": "active concepts per position"})}

    @classmethod
    def _of_variables(cls, dataset: xr.Dataset, **given: Any) -> Self:
        return cls(k=int(dataset["k"]), **given)

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
        decoder = _draw_decoder(n_concepts, n_channels, generator, dtype)
        return cls(decoder.T, decoder, k, scale)

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
            state = read_torch(path)
        except TorchFileError as error:
            raise ValueError(f"{path}: not a file of weights alone: {error}") from error
        _check_checkpoint(state, path)
        return cls(state["encoder.weight"], state["decoder.weight"], int(state["k"]))


class JumpReLUSAE(SAE):
    """JumpReLU sparse autoencoder: activations above a threshold are kept, all others are 0.

    Parameters
    ----------
    encoder, decoder, scale, encoder_bias, decoder_bias
        As of :class:`SAE`.
    threshold : float or array, shape (concept,)
        0 or more, at the scale of the features that are served: it is the one part that makes an
        SAE without biases depend on their scale.

    Raises
    ------
    ValueError
        As of :class:`SAE`, or a threshold below 0.
    """

    activation = "jumprelu"
    _needed: ClassVar[tuple[str, ...]] = ("threshold",)

    threshold: Tensor

    def __init__(
        self,
        encoder: AnyArray,
        decoder: AnyArray,
        threshold: AnyArray,
        scale: float = 1.0,
        *,
        encoder_bias: AnyArray | None = None,
        decoder_bias: AnyArray | None = None,
    ) -> None:
        super().__init__(
            encoder, decoder, scale, encoder_bias=encoder_bias, decoder_bias=decoder_bias
        )
        given = as_tensor(threshold).detach().to(self.encoder)
        if given.shape not in ((), (self.n_concepts,)) or not bool((given >= 0).all()):
            low = f", from {given.min().item():g}" if given.numel() else ""
            raise ValueError(
                f"threshold of shape {tuple(given.shape)}{low}; expected one number, or "
                f"({self.n_concepts},), 0 or more"
            )
        self.register_buffer("threshold", given.expand(self.n_concepts).clone())

    def encode_sparse(self, x: AnyArray) -> tuple[Tensor, Tensor]:
        """Find the concepts above their threshold; see :meth:`SAE.encode_sparse`."""
        before = self.pre_activations(x)
        is_active = before > self.threshold
        count = is_active.sum(dim=-1)
        rank = max(1, int(count.max())) if count.numel() else 1
        values, indices = before.where(is_active, 0).topk(rank, dim=-1, sorted=False)
        return values, indices

    def _own_variables(self) -> dict[str, Any]:
        meaning = {"long_name": "pre-activation above which the concept is active"}
        return {"threshold": ("concept", _as_numpy(self.threshold), meaning)}

    @classmethod
    def _of_variables(cls, dataset: xr.Dataset, **given: Any) -> Self:
        return cls(threshold=dataset["threshold"], **given)


class ReLUSAE(JumpReLUSAE):
    """ReLU sparse autoencoder, ``x_hat = W_d relu(W_e x + b_e) + b_d``.

    Parameters
    ----------
    encoder, decoder, scale, encoder_bias, decoder_bias
        As of :class:`SAE`.
    """

    activation = "relu"
    _needed = ()

    def __init__(
        self,
        encoder: AnyArray,
        decoder: AnyArray,
        scale: float = 1.0,
        *,
        encoder_bias: AnyArray | None = None,
        decoder_bias: AnyArray | None = None,
    ) -> None:
        super().__init__(
            encoder, decoder, 0.0, scale, encoder_bias=encoder_bias, decoder_bias=decoder_bias
        )

    def _own_variables(self) -> dict[str, Any]:
        return {}

    @classmethod
    def _of_variables(cls, dataset: xr.Dataset, **given: Any) -> Self:
        return cls(**given)


class BatchTopKSAE(JumpReLUSAE):
    """BatchTopK sparse autoencoder as it is served: one threshold for all concepts.

    In training it keeps the ``batch x k`` largest activations of a batch; served, those above the
    mean over batches of the smallest one kept (arXiv 2412.06410, section 3).

    Parameters
    ----------
    encoder, decoder, scale, encoder_bias, decoder_bias
        As of :class:`SAE`.
    k : int
        Concepts that were kept per sample in training, on average.
    threshold : float
        As of :class:`JumpReLUSAE`.
    """

    activation = "batch_topk"
    _needed = ("k", "threshold")

    def __init__(
        self,
        encoder: AnyArray,
        decoder: AnyArray,
        k: int,
        threshold: AnyArray,
        scale: float = 1.0,
        *,
        encoder_bias: AnyArray | None = None,
        decoder_bias: AnyArray | None = None,
    ) -> None:
        super().__init__(
            encoder, decoder, threshold, scale, encoder_bias=encoder_bias, decoder_bias=decoder_bias
        )
        _check_k(k, self.n_concepts)
        self.k = int(k)

    @classmethod
    def initialise(
        cls,
        n_concepts: int,
        n_channels: int,
        k: int,
        generator: torch.Generator,
        scale: float = 1.0,
        dtype: torch.dtype = torch.float32,
    ) -> BatchTopKSAE:
        """Draw the weights that training starts from: those of :meth:`TopKSAE.initialise`.

        The threshold is 0 until it is estimated: :func:`fact.calibrate_threshold`.
        """
        decoder = _draw_decoder(n_concepts, n_channels, generator, dtype)
        return cls(decoder.T, decoder, k, 0.0, scale)

    def extra_repr(self) -> str:
        """Sizes, for ``repr``."""
        return f"{super().extra_repr()}, k={self.k}"

    def _own_variables(self) -> dict[str, Any]:
        about_k = {"long_name": "active concepts per position, on average in training"}
        return {**super()._own_variables(), "k": ((), self.k, about_k)}

    @classmethod
    def _of_variables(cls, dataset: xr.Dataset, **given: Any) -> Self:
        return cls(k=int(dataset["k"]), threshold=dataset["threshold"], **given)


KINDS: tuple[type[SAE], ...] = (TopKSAE, JumpReLUSAE, ReLUSAE, BatchTopKSAE)
"""Every class of SAEs, one for each activation function."""

_SCALARS = ("k", "scale", "activation")


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


def sampled_products(x: Tensor, rows: Tensor, indices: Tensor) -> Tensor:
    """Multiply samples with a few rows each.

    Parameters
    ----------
    x : Tensor, shape (sample, channel)
        Samples.
    rows : Tensor, shape (n, channel)
        Of which each sample has some.
    indices : Tensor of int64, shape (sample, m)
        Which.

    Returns
    -------
    Tensor, shape (sample, m)
        ``out[i, j] = x[i] . rows[indices[i, j]]``, the derivative of `weighted_rows` by its
        weights: the rows of all samples are never made.
    """
    count, m = indices.shape
    offsets = torch.arange(0, count * m, m, device=x.device)
    samples = torch.arange(count, device=x.device).repeat_interleave(m)
    given = x.contiguous(), rows, indices.flatten(), offsets, samples
    found: Tensor = torch.ops.aten._embedding_bag_per_sample_weights_backward(*given, 0)
    return found.view(count, m)


def _draw_decoder(
    n_concepts: int, n_channels: int, generator: torch.Generator, dtype: torch.dtype
) -> Tensor:
    decoder = torch.empty(n_channels, n_concepts, dtype=dtype, device=generator.device)
    decoder.uniform_(-1, 1, generator=generator)
    return functional.normalize(decoder, dim=0)


def _row_by_row(weights: Tensor) -> Tensor:
    return weights.detach().clone(memory_format=torch.contiguous_format)


def _as_numpy(tensor: Tensor) -> Any:
    return tensor.detach().cpu().contiguous().numpy()


def _require(dataset: xr.Dataset, *names: str) -> None:
    missing = [name for name in names if name not in dataset]
    if missing:
        raise ValueError(f"not an SAE's dataset: it lacks {', '.join(missing)}")


def _check_k(k: int, n_concepts: int) -> None:
    if not 1 <= k <= n_concepts:
        raise ValueError(f"k is {k}; expected 1 to {n_concepts}, the number of concepts")


def _check(
    encoder: Tensor, decoder: Tensor, biases: Mapping[str, Tensor | None], scale: float
) -> None:
    faults = []
    is_right = encoder.ndim == 2 and encoder.shape == decoder.shape[::-1]
    if not is_right:
        faults.append(
            f"encoder {tuple(encoder.shape)} and decoder {tuple(decoder.shape)}; expected "
            "(concept, channel) and (channel, concept)"
        )
    given = {name: bias for name, bias in biases.items() if bias is not None}
    for name, bias in given.items() if is_right else ():
        expected = encoder.shape[0 if BIASES[name] == "concept" else 1]
        if bias.shape != (expected,):
            faults.append(f"{name} {tuple(bias.shape)}; expected ({expected},), {BIASES[name]}")
    types = [weights.dtype for weights in (encoder, decoder, *given.values())]
    if not encoder.is_floating_point() or len(set(types)) > 1:
        faults.append(f"types {' and '.join(map(str, types))}; expected one floating type")
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
