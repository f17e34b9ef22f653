"""SAEs from elsewhere: files of several libraries, read without running code, and written again.

A layout is recognised by the names of its tensors and by the configuration beside it; what it does
not say is asked for, never assumed. Normalisations are folded into the weights, so that an SAE
serves features as the network gives them.

Layouts: FaCT's releases (Parchami-Araghi et al., arXiv 2510.25512), SAELens, dictionary_learning,
overcomplete, EleutherAI's sparsify, Prisma, datasets of the schema ``sae``, and safetensors with
named matrices.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
import xarray as xr
from torch import Tensor

from fact.data.torch_file import CodeInFileError, TorchFileError, other_file, read_torch
from fact.networks.arrays import AnyArray, as_tensor
from fact.networks.weights import write_tensors
from fact.sae.model import KINDS, NOT_USED, SAE, BatchTopKSAE, JumpReLUSAE, ReLUSAE, TopKSAE
from registry.store.durable import StoreError, whole_file
from registry.suggest import RefusalError, nearest
from registry.wording import counted, verb

CONFIGS = ("cfg.json", "config.json")
_N_CONCEPTS = ("d_sae", "num_latents", "dict_size")
_N_CHANNELS = ("d_in", "activation_dim")
"""What libraries call the sizes in their configurations."""
WEIGHT_FILES = ("*.safetensors", "*.pt", "*.pth", "*.nc")
ACTIVATIONS = tuple(kind.activation for kind in KINDS)
COUNTERS = ("num_batches_tracked",)
"""Ends of the names of tensors that only count."""
PLAIN = "factbook_sae"
"""Entry of the header of a file that :func:`write_sae` wrote."""


class SAEFileError(RefusalError, ValueError):
    """A file that holds no SAE that can be served here, with what was found and expected."""


@dataclass(frozen=True)
class Layout:
    """An SAE as its library has it.

    Attributes
    ----------
    encoder, decoder : Tensor
        ``(concept, channel)`` and ``(channel, concept)``.
    encoder_bias, decoder_bias : Tensor or None
        ``(concept,)`` and ``(channel,)``.
    activation : str
        One of `ACTIVATIONS`; "" where the file does not say.
    k : int or None
        Of a top-k.
    threshold : Tensor or None
        One number, or ``(concept,)``.
    is_spare : bool
        Whether the library has the threshold in the file of a top-k too, and leaves it unused.
    is_centred : bool or None
        Whether the decoder's bias is taken away from samples before they are encoded; None where
        the file does not say.
    ranks_scaled : bool or None
        Whether codes are multiplied by the norms of the decoder's columns before the top k;
        likewise.
    needs_scale : bool
        Whether features were divided by a number in training that the file does not hold.
    """

    encoder: Tensor
    decoder: Tensor
    encoder_bias: Tensor | None = None
    decoder_bias: Tensor | None = None
    activation: str = ""
    k: int | None = None
    threshold: Tensor | None = None
    is_spare: bool = False
    is_centred: bool | None = False
    ranks_scaled: bool | None = False
    needs_scale: bool = False


class Tensors(Mapping[str, Tensor]):
    """Tensors by name, which know what was asked of them: what no reader asks for is no detail."""

    def __init__(self, tensors: Mapping[str, Tensor]):
        self._tensors = tensors
        self._asked: set[str] = set()

    def __getitem__(self, name: str) -> Tensor:
        """Return a tensor, which counts as used from now on."""
        self._asked.add(name)
        return self._tensors[name]

    def __iter__(self) -> Iterator[str]:
        """Go through all names."""
        return iter(self._tensors)

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._tensors)

    @property
    def unused(self) -> dict[str, Tensor]:
        """Those that were not asked for."""
        return {name: t for name, t in self._tensors.items() if name not in self._asked}


@dataclass(frozen=True)
class Weights:
    """What a file holds: tensors and plain values by name, and the configuration beside it."""

    tensors: Tensors
    values: Mapping[str, Any] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    is_safetensors: bool = False

    def number(self, *names: str) -> int | None:
        """Return a whole number that the file has, or its configuration, by one of some names.

        Raises
        ------
        SAEFileError
            If it is not whole, or they differ.
        """
        arguments = self.config.get("activation_fn_kwargs")
        beside = arguments if isinstance(arguments, Mapping) else {}
        found = {
            _whole(name, source[name])
            for source in (self.tensors, self.values, self.config, beside)
            for name in names
            if source.get(name) is not None
        }
        if len(found) > 1:
            raise SAEFileError(
                f"{names[0]} is {' and '.join(map(str, sorted(found)))}: the weights and the "
                "configuration beside them differ"
            )
        return next(iter(found), None)


def _whole(name: str, value: Any) -> int:
    """Return a whole number, of a file or one that was given."""
    if isinstance(value, Tensor):
        value = value.tolist()
        value = value[0] if isinstance(value, list) and len(value) == 1 else value
    try:
        if isinstance(value, bool) or int(value) != float(value):
            raise ValueError
    except (TypeError, ValueError, OverflowError):
        raise SAEFileError(f"{name} is {value!r}; expected a whole number") from None
    return int(value)


def read_sae(
    path: Path | str,
    format: str = "auto",
    *,
    activation: str | None = None,
    k: int | None = None,
    threshold: float | None = None,
    scale: float | None = None,
    mean: AnyArray | None = None,
    centred: bool | None = None,
    names: Mapping[str, str] | None = None,
    ignore: Collection[str] = (),
) -> SAE:
    """Read an SAE of any library, folded so that it serves features as a network gives them.

    Parameters
    ----------
    path : path
        A file of safetensors or of torch (weights only), a dataset of the schema ``sae``, or a
        folder with one of them; a configuration ``cfg.json`` or ``config.json`` is read beside it.
    format : str
        ``auto`` or one of `FORMATS`.
    activation : str or None
        ``topk``, ``batch_topk``, ``jumprelu`` or ``relu``, where the file does not say.
    k, threshold : number or None
        Of the activation function, likewise; the threshold at the scale of the training.
    scale : float or None
        Number that features were divided by in training; 1 by default.
    mean : array or None
        ``(channel,)``, what was taken away from features before they were divided.
    centred : bool or None
        Whether the decoder's bias is taken away from samples before they are encoded, where the
        file does not say; SAELens has it as ``apply_b_dec_to_input``.
    names : mapping of str to str or None
        Of the format ``plain``: the tensor that is ``encoder`` (concept, channel), ``decoder``
        (channel, concept), and maybe ``encoder_bias``, ``decoder_bias``, ``threshold``.
    ignore : collection of str
        Tensors of the file that are no part of the SAE. Any other that its format has no use for
        is an error, since it may be what codes are made by.

    Returns
    -------
    SAE
        In single precision, or double where the file has it. Codes are at the scale of the served
        features: ``scale`` times those of the library.

    Raises
    ------
    SAEFileError
        If the file is missing, cut, holds code, a number that is not finite, or a tensor that is
        not used; is of no known layout, of one whose SAEs are no sum of concepts, or leaves open
        what has to be known.
    """
    path = Path(path).expanduser()
    try:
        given = _read(path)
        if isinstance(given, SAE):
            layout = _of_sae(given)
        else:
            found = _recognise(given, format, names)
            layout = FORMATS[found](given, names or PLAIN_NAMES)
            _require_used(given.tensors, found, ignore)
            _require_sizes(given.config, layout)
        layout = _complete(layout, activation, k, threshold, centred)
        if layout.needs_scale and scale is None:
            raise SAEFileError(
                "features were divided by a number that the file does not hold: expected scale, "
                "the mean norm of features over the root of the number of channels"
            )
        return _fold(layout, 1.0 if scale is None else scale, mean)
    except SAEFileError as error:
        raise SAEFileError(f"{path}: {error}") from error
    except (ValueError, KeyError, TypeError, RuntimeError) as error:  # the last of torch
        raise SAEFileError(f"{path}: no SAE that can be read: {error}") from error


def _require_used(tensors: Tensors, format: str, ignore: Collection[str]) -> None:
    """Refuse a file with tensors that its format has no use for."""
    if wrong := [name for name in ignore if name not in tensors]:
        raise SAEFileError(f"ignore names {wrong[0]!r}{nearest(wrong[0], list(tensors))}")
    left = {
        name: tensor
        for name, tensor in tensors.unused.items()
        if name not in ignore and not name.endswith(COUNTERS)
    }
    if left:
        raise SAEFileError(
            f"holds what the format {format} has no use for: {_shapes(left)}. Codes or "
            "reconstructions may be made by it; if they are not, name it by ignore"
        )


def _require_sizes(config: Mapping[str, Any], layout: Layout) -> None:
    """Refuse weights of other sizes than their configuration says: they are of another SAE."""
    trainer = config.get("trainer")
    nested = trainer if isinstance(trainer, Mapping) else {}
    if layout.encoder.ndim != 2 or layout.encoder.shape != layout.decoder.shape[::-1]:
        return  # folding says it
    for found, what, names in zip(
        layout.encoder.shape, ("concepts", "channels"), (_N_CONCEPTS, _N_CHANNELS), strict=True
    ):
        for name in names:
            told = config.get(name, nested.get(name))
            if told and _whole(name, told) != found:
                raise SAEFileError(
                    f"the weights are of {found} {what}; the configuration beside them says "
                    f"{name} {told}, and is of another SAE"
                )


# --- files ------------------------------------------------------------------------------------


def _read(path: Path) -> Weights | SAE:
    """Return what a file or folder holds."""
    if path.is_dir():
        found = sorted(file for pattern in WEIGHT_FILES for file in path.glob(pattern))
        if len(found) != 1:
            raise SAEFileError(_which_file(path, [file.name for file in found]))
        path = found[0]
    if not path.is_file():
        raise SAEFileError("no such file")
    if path.suffix == ".nc":
        from registry.store.netcdf import read_file

        try:
            with read_file(path) as dataset:
                return SAE.from_dataset(dataset.load())
        except (OSError, StoreError) as error:
            raise SAEFileError(f"cut or damaged: {error}") from error
    values = _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path)
    tensors = {name: value for name, value in values.items() if isinstance(value, Tensor)}
    for name, tensor in tensors.items():
        if tensor.layout is not torch.strided or tensor.is_quantized or tensor.is_meta:
            how = "quantised" if tensor.is_quantized else "sparse"
            raise SAEFileError(
                f"{name} {tuple(tensor.shape)} is {'without values' if tensor.is_meta else how}; "
                "expected plain tensors: save its to_dense(), or dequantize()"
            )
    rest = {name: value for name, value in values.items() if name not in tensors}
    config = {**_config_beside(path), **rest.get(PLAIN, {})}
    return Weights(Tensors(tensors), rest, config, path.suffix == ".safetensors")


def _which_file(folder: Path, names: Sequence[str]) -> str:
    """Return what is said of a folder that leaves open which file is the SAE."""
    if not names:
        return f"no file of weights in the folder; expected one of {', '.join(WEIGHT_FILES)}"
    own = "best.pt" if "best.pt" in names else names[0]  # what a training chose on held-out images
    return (
        f"{counted(len(names), 'file')} of weights in the folder: {', '.join(names)}; name one of "
        f'them, as path = "{folder / own}"'
    )


def _read_safetensors(path: Path) -> dict[str, Any]:
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            found: dict[str, Any] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (safetensors.SafetensorError, OSError) as error:
        why = _no_header(path) or error
        raise SAEFileError(f"cut, damaged or no safetensors: {why}") from error
    return {**found, PLAIN: json.loads(header[PLAIN])} if PLAIN in header else found


def _no_header(path: Path) -> str:
    """Return what a file is by its first bytes that has no header of safetensors."""
    with path.open("rb") as file:
        is_one = file.read(9).endswith(b"{")
    return "" if is_one else other_file(path, ())


def _read_torch(path: Path) -> dict[str, Any]:
    try:
        state = read_torch(path)
    except CodeInFileError as error:
        raise SAEFileError(f"{error}; save the state_dict, best as safetensors") from error
    except (OSError, TorchFileError) as error:
        raise SAEFileError(str(error)) from error
    for inner in ("state_dict", "model_state_dict"):
        if isinstance(state, Mapping) and isinstance(state.get(inner), Mapping):
            beside = {name: value for name, value in state.items() if isinstance(value, Tensor)}
            state = {**state[inner], **beside}
    if not isinstance(state, Mapping):
        raise SAEFileError(f"a {type(state).__name__}; expected a state dict")
    return {str(name).removeprefix("module."): value for name, value in state.items()}


def _config_beside(path: Path) -> dict[str, Any]:
    for name in CONFIGS:
        file = path.with_name(name)
        if file.is_file():
            try:
                found = json.loads(file.read_text(encoding="utf-8"))
            except ValueError as error:
                raise SAEFileError(f"{name} beside it is no JSON: {error}") from error
            if not isinstance(found, Mapping):
                raise SAEFileError(f"{name} beside it is a {type(found).__name__}, no table")
            return dict(found)
    return {}


# --- layouts ----------------------------------------------------------------------------------

PLAIN_NAMES = {
    name: name for name in ("encoder", "decoder", "encoder_bias", "decoder_bias", "threshold")
}
_WEIGHTS = {"W_enc", "W_dec"}
_LINEAR = {"encoder.weight", "decoder.weight"}


def _recognise(given: Weights, format: str, names: Mapping[str, str] | None) -> str:
    """Return the format of what a file holds, by its names and its configuration."""
    if format != "auto":
        if format not in FORMATS:
            raise SAEFileError(f"unknown format {format!r}{nearest(format, FORMATS)}")
        return format
    keys, config = set(given.tensors), given.config
    if names or keys >= {"encoder", "decoder"}:
        return "plain"
    if keys >= {"encoder.weight", "W_dec"}:
        return "sparsify"
    if "dictionary._weights" in keys or "dictionary.W" in keys:
        return "overcomplete"
    if keys >= _WEIGHTS:
        if "activation_fn_str" in config and ("expansion_factor" in config or "vit" in str(config)):
            return "prisma"
        is_lens = "d_sae" in config or "architecture" in config
        is_jump = "threshold" in keys and not given.is_safetensors  # which SAELens writes
        is_other = "trainer" in config or "group_sizes" in keys or is_jump
        return "sae_lens" if is_lens or not is_other else "dictionary_learning"
    if keys >= _LINEAR:
        has_bias = any("bias" in name or name.startswith("b_") for name in keys - {"encoder.bias"})
        is_linear = "encoder.bias" in keys and "k" not in {*keys, *given.values}
        is_other = has_bias or is_linear or "r_mag" in keys
        return "dictionary_learning" if is_other else "fact"
    raise SAEFileError(
        f"of no known layout: found {_shapes(given.tensors)}; expected those of "
        f"{', '.join(FORMATS)}, or names of the matrices"
    )


def _shapes(tensors: Mapping[str, Tensor]) -> str:
    shown = [f"{name} {tuple(tensor.shape)}" for name, tensor in list(tensors.items())[:12]]
    return ", ".join(shown) or "no tensor"


def _take(given: Weights, *names: str) -> tuple[Tensor, ...]:
    missing = [name for name in names if name not in given.tensors]
    if missing:
        raise SAEFileError(f"lacks {', '.join(missing)}; found {_shapes(given.tensors)}")
    return tuple(given.tensors[name] for name in names)


def _plain(given: Weights, names: Mapping[str, str]) -> Layout:
    wrong = sorted(set(names) - set(PLAIN_NAMES))
    if wrong:
        raise SAEFileError(f"unknown name {wrong[0]!r}{nearest(wrong[0], PLAIN_NAMES)}")
    whole = {name: names.get(name, name) for name in PLAIN_NAMES}
    encoder, decoder = _take(given, whole["encoder"], whole["decoder"])
    _take(given, *names.values() if names is not PLAIN_NAMES else ())
    names_of_rest = ("encoder_bias", "decoder_bias", "threshold")
    bias, own, threshold = (given.tensors.get(whole[name]) for name in names_of_rest)
    known = str(given.config.get("activation", ""))
    is_ours = PLAIN in given.values  # whose biases are never taken away before
    how = _told(given.config, "centred", False if is_ours else None)
    k = given.number("k")
    return Layout(encoder, decoder, bias, own, known, k, threshold, is_centred=how)


def _fact(given: Weights, _names: Mapping[str, str]) -> Layout:
    biases = [name for name in given.tensors if "bias" in name or name.startswith("b_")]
    if biases:
        raise SAEFileError(
            f"has a bias: {', '.join(biases)}; FaCT's SAEs are bias-free. Of another "
            "library, name its format; of your own, name the matrices, names = { encoder = "
            '"encoder.weight", decoder = "decoder.weight", encoder_bias = "encoder.bias" }'
        )
    for name in NOT_USED:
        given.tensors.get(name)
    encoder, decoder = _take(given, "encoder.weight", "decoder.weight")
    k = given.number("k")
    return Layout(encoder, decoder, activation="" if k is None else "topk", k=k)


def _sae_lens(given: Weights, _names: Mapping[str, str]) -> Layout:
    config = given.config
    if config.get("is_transcoder"):
        raise SAEFileError("is_transcoder: it reconstructs another layer than it reads")
    kind = str(config.get("architecture") or "")
    own = config.get("activation_fn_str", config.get("activation_fn"))
    if kind in ("", "standard") and own:
        kind = str(own)
    is_told = bool(kind)  # else what the library would take for granted is asked for
    if not is_told and {"threshold", "log_threshold"} & set(given.tensors):
        kind = "jumprelu"
    known = {"standard": "relu", "relu": "relu", "topk": "topk", "jumprelu": "jumprelu"}
    known |= {"batchtopk": "batch_topk"}
    if is_told and kind not in known:
        raise SAEFileError(f"architecture {kind!r} is not served; expected one of {sorted(known)}")
    norm = str(config.get("normalize_activations") or "none")
    if norm not in ("none", "expected_average_only_in"):
        raise SAEFileError(
            f"normalize_activations {norm!r} divides each sample by its own norm, or whitens it: "
            "no constant that can be folded in. Expected none or expected_average_only_in"
        )
    encoder, decoder = _take(given, "W_enc", "W_dec")
    threshold = given.tensors.get("threshold", given.tensors.get("topk_threshold"))
    if "log_threshold" in given.tensors:  # of versions before 6
        threshold = given.tensors["log_threshold"].exp()
    factor = given.tensors.get("scaling_factor")
    if factor is not None and config.get("finetuning_scaling_factor"):
        decoder = decoder * factor.unsqueeze(1)
    return Layout(
        encoder.T,
        decoder.T,
        given.tensors.get("b_enc"),
        given.tensors.get("b_dec"),
        known.get(kind, ""),
        given.number("k"),
        threshold,
        is_centred=_told(config, "apply_b_dec_to_input", True if is_told else None),
        ranks_scaled=_told(config, "rescale_acts_by_decoder_norm", False if is_told else None),
        needs_scale=norm != "none",
    )


def _told(config: Mapping[str, Any], name: str, default: bool | None) -> bool | None:
    """Return what a configuration says; what its library takes for granted where it is silent."""
    return default if config.get(name) is None else bool(config[name])


def _prisma(given: Weights, names: Mapping[str, str]) -> Layout:
    if given.config.get("architecture", "standard") != "standard":  # of which it has others
        raise SAEFileError(f"architecture {given.config['architecture']!r}; expected 'standard'")
    return replace(_sae_lens(given, names), is_centred=True, ranks_scaled=False)


def _dictionary_learning(given: Weights, _names: Mapping[str, str]) -> Layout:
    tensors = given.tensors
    if "r_mag" in tensors:
        raise SAEFileError("a gated SAE: its two paths are no mask of one product")
    trainer = given.config.get("trainer", given.config)
    kind = str(trainer.get("dict_class", "")) if isinstance(trainer, Mapping) else ""
    k, b_dec = given.number("k"), tensors.get("b_dec")
    if "W_enc" in tensors:
        encoder, decoder = (weights.T for weights in _take(given, "W_enc", "W_dec"))
        is_matryoshka = "group_sizes" in tensors
        name = "batch_topk" if is_matryoshka else "jumprelu"
        bias, jump = _take(given, "b_enc", "threshold")
        return Layout(encoder, decoder, bias, b_dec, name, k, jump, is_centred=is_matryoshka)
    encoder, decoder, bias = _take(given, "encoder.weight", "decoder.weight", "encoder.bias")
    if b_dec is None:
        if "bias" in tensors:
            own = tensors["bias"]
            return Layout(encoder, decoder, bias, own, "relu", is_centred=True)
        name = "relu" if kind == "AutoEncoderNew" else ""  # any two linear layers are called so
        how = False if name else None
        return Layout(encoder, decoder, bias, tensors.get("decoder.bias"), name, k, is_centred=how)
    # TopK and BatchTopK have the same tensors.
    known = {"AutoEncoderTopK": "topk", "BatchTopKSAE": "batch_topk"}
    name, threshold = known.get(kind, ""), tensors.get("threshold")
    held = Layout(encoder, decoder, bias, b_dec, name, k, threshold)
    return replace(held, is_spare=True, is_centred=True)


def _sparsify(given: Weights, _names: Mapping[str, str]) -> Layout:
    config = given.config
    if "W_skip" in given.tensors or config.get("transcode"):
        raise SAEFileError("a transcoder, or one with a skip connection: no reconstruction")
    is_told = any(name in config for name in ("activation", "num_latents", "expansion_factor"))
    name = str(config.get("activation", "topk")) if is_told else ""
    if name not in ("", "topk"):
        raise SAEFileError(f"activation {name!r} is not served; expected 'topk'")
    encoder, bias, decoder, b_dec = _take(given, "encoder.weight", "encoder.bias", "W_dec", "b_dec")
    return Layout(encoder, decoder.T, bias, b_dec, name, given.number("k"), is_centred=True)


def _overcomplete(given: Weights, _names: Mapping[str, str]) -> Layout:
    tensors = given.tensors
    if "dictionary._weights" not in tensors:
        raise SAEFileError(
            "an archetypal dictionary in parts; expected its get_dictionary() as decoder, in the "
            "format plain"
        )
    if "Q" in tensors:
        raise SAEFileError("a quantised SAE: its codes are learnt levels, and no mask of a product")
    layer = ("encoder.final_block.", "encoder.weight", "encoder.bias", "encoder.tied_to.")
    hidden = sorted(n for n in tensors if n.startswith("encoder.") and not n.startswith(layer))
    if hidden:
        raise SAEFileError(f"an encoder of several layers ({hidden[0]}); expected a linear one")
    decoder = _dictionary(given, "dictionary")
    weight, bias = _linear_encoder(given)
    if "thresholds" in tensors:
        threshold = tensors["thresholds"].exp()
        return Layout(weight, decoder.T, bias, None, "jumprelu", threshold=threshold)
    return Layout(weight, decoder.T, bias)


def _dictionary(given: Weights, name: str) -> Tensor:
    """Return the atoms (concept, channel) of a dictionary, times its gain."""
    (atoms,) = _take(given, f"{name}._weights")
    return atoms * given.tensors.get(f"{name}.multiplier", torch.zeros(())).exp()


def _linear_encoder(given: Weights) -> tuple[Tensor, Tensor | None]:
    """Return the weights and bias of a linear layer, with the batch norm behind it folded in."""
    tensors = given.tensors
    if "encoder.tied_to._weights" in tensors:
        return _dictionary(given, "encoder.tied_to"), tensors.get("encoder.bias")
    if "encoder.weight" in tensors:  # untied: one layer, and nothing else
        return tensors["encoder.weight"], tensors.get("encoder.bias")
    linear, norm = "encoder.final_block.0.", "encoder.final_block.1."
    (weight,) = _take(given, f"{linear}weight")
    bias = tensors.get(f"{linear}bias")
    if not any(name.startswith(norm) for name in tensors):
        return weight, bias
    if f"{norm}running_var" not in tensors:
        raise SAEFileError("a norm over each sample behind the encoder; expected a batch norm")
    mean, variance = _take(given, f"{norm}running_mean", f"{norm}running_var")
    gain = tensors.get(f"{norm}weight", torch.ones(())) / (variance + 1e-5).sqrt()
    shift = (torch.zeros(()) if bias is None else bias) - mean
    return weight * gain.unsqueeze(1), shift * gain + tensors.get(f"{norm}bias", torch.zeros(()))


FORMATS: Mapping[str, Callable[[Weights, Mapping[str, str]], Layout]] = {
    "plain": _plain,
    "fact": _fact,
    "sae_lens": _sae_lens,
    "dictionary_learning": _dictionary_learning,
    "overcomplete": _overcomplete,
    "sparsify": _sparsify,
    "prisma": _prisma,
}
"""What reads each format."""


# --- folding ----------------------------------------------------------------------------------


def _of_sae(sae: SAE) -> Layout:
    """Return an SAE of ours as a layout: thresholds and biases are at the scale of features."""
    return Layout(
        sae.encoder.detach(),
        sae.decoder.detach(),
        sae.encoder_bias,
        sae.decoder_bias,
        sae.activation,
        getattr(sae, "k", None),
        getattr(sae, "threshold", None),
    )


def _complete(
    layout: Layout,
    activation: str | None,
    k: int | None,
    threshold: float | None,
    centred: bool | None,
) -> Layout:
    """Return a layout with what was asked for; contradictions and gaps are errors."""
    k = None if k is None else _whole("k", k)
    said = {"activation": layout.activation or None, "k": layout.k, "centred": layout.is_centred}
    for name, value in {"activation": activation, "k": k, "centred": centred}.items():
        if None not in (value, said[name]) and value != said[name]:
            raise SAEFileError(f"{name} {value!r}; the file says {said[name]!r}")
    name = layout.activation or str(activation or "")
    if name not in ACTIVATIONS:
        raise SAEFileError(
            f"the activation function is not in the file, and {name!r} given: expected activation, "
            f"one of {', '.join(ACTIVATIONS)}"
        )
    has_bias = layout.decoder_bias is not None and bool(layout.decoder_bias.any())
    how = layout.is_centred if centred is None else centred
    if how is None and has_bias:
        raise SAEFileError(
            "whether the decoder's bias is taken away from samples before they are encoded is not "
            "in the file: expected centred, true or false"
        )
    _require_ranks(layout, name)
    k = layout.k if layout.k is not None else k
    spare = layout.is_spare and name == "topk"
    found = None if spare else layout.threshold
    given = found if threshold is None else torch.tensor(threshold)
    if name in ("topk", "relu") and given is not None and bool((given > 0).any()):
        raise SAEFileError(f"{name} has no threshold, and one is given; is it jumprelu?")
    if name in ("topk", "batch_topk") and k is None:
        raise SAEFileError(f"{name} without k; expected k, the concepts that are kept per sample")
    if name == "batch_topk" and given is not None and bool((given < 0).any()):
        raise SAEFileError("its threshold was never estimated; expected threshold")
    if name in ("jumprelu", "batch_topk") and given is None:
        raise SAEFileError(f"{name} without threshold; expected threshold")
    return replace(layout, activation=name, k=k, threshold=given, is_centred=bool(how))


def _require_ranks(layout: Layout, activation: str) -> None:
    """Refuse a top-k whose file leaves open what it ranks by, where that matters."""
    if layout.ranks_scaled is not None or "topk" not in activation:
        return
    norms = layout.decoder.norm(dim=0)
    if bool(((norms - 1).abs() > 1e-3).any()):
        raise SAEFileError(
            "the columns of its decoder are not of norm 1, and whether codes are multiplied by the "
            "norms before the top k is not in the file: expected its cfg.json beside it, with "
            "architecture and rescale_acts_by_decoder_norm"
        )


def _fold(layout: Layout, scale: float, mean: AnyArray | None) -> SAE:
    """Return what serves features as they are: weights, biases, thresholds at their scale."""
    kind = torch.float64 if layout.encoder.dtype == torch.float64 else torch.float32
    named = {
        name: getattr(layout, name).detach().to(kind)
        for name in ("encoder", "decoder", "encoder_bias", "decoder_bias", "threshold")
        if getattr(layout, name) is not None
    }
    for name, tensor in named.items():
        if not getattr(layout, name).is_floating_point():
            raise SAEFileError(f"{name} is of {getattr(layout, name).dtype}; expected floats")
        if bad := int((~tensor.isfinite()).sum()):
            raise SAEFileError(
                f"{counted(bad, 'number')} of {name} {verb(bad, 'is', 'are')} not finite"
            )
    encoder, decoder = named["encoder"], named["decoder"]
    if encoder.ndim != 2 or encoder.shape != decoder.shape[::-1]:
        raise SAEFileError(
            f"encoder {tuple(encoder.shape)} and decoder {tuple(decoder.shape)}; expected "
            "(concept, channel) and (channel, concept)"
        )
    for name in ("encoder", "decoder"):
        if not bool(named[name].any()):
            raise SAEFileError(f"{name} is 0 everywhere: nothing was trained, or nothing saved")
    for name, size in (("encoder_bias", len(encoder)), ("decoder_bias", len(decoder))):
        if name in named and named[name].shape != (size,):
            raise SAEFileError(f"{name} {tuple(named[name].shape)}; expected ({size},)")
    bias = named.get("encoder_bias", encoder.new_zeros(len(encoder)))
    offset = named.get("decoder_bias", encoder.new_zeros(len(decoder)))
    if layout.is_centred:
        bias = bias - encoder @ offset
    if layout.ranks_scaled:
        norm = decoder.norm(dim=0).clamp(min=1e-8)
        encoder, bias, decoder = encoder * norm[:, None], bias * norm, decoder / norm
    bias, offset = scale * bias, scale * offset
    if mean is not None:
        centre = as_tensor(mean).to(kind)
        if bad := int((~centre.isfinite()).sum()):
            raise SAEFileError(
                f"{counted(bad, 'number')} of mean {verb(bad, 'is', 'are')} not finite"
            )
        if centre.shape != offset.shape:
            raise SAEFileError(f"mean {tuple(centre.shape)}; expected {tuple(offset.shape)}")
        bias, offset = bias - encoder @ centre, offset + centre
    biases = {"encoder_bias": bias, "decoder_bias": offset}
    known: dict[str, Any] = {n: b if bool(b.any()) else None for n, b in biases.items()}
    threshold = scale * named.get("threshold", torch.zeros(())).clamp(min=0)
    if layout.activation == "topk":
        return TopKSAE(encoder, decoder, int(layout.k or 0), scale, **known)
    if layout.activation == "batch_topk":
        return BatchTopKSAE(encoder, decoder, int(layout.k or 0), threshold, scale, **known)
    if layout.activation == "jumprelu":
        return JumpReLUSAE(encoder, decoder, threshold, scale, **known)
    return ReLUSAE(encoder, decoder, scale, **known)


# --- writing ----------------------------------------------------------------------------------


def write_sae(sae: SAE | xr.Dataset, path: Path | str, format: str = "plain") -> None:
    """Write an SAE for others.

    Parameters
    ----------
    sae : SAE or Dataset
        One of the schema ``sae`` is taken too.
    path : path
        A file of safetensors; for ``sae_lens`` a folder.
    format : str
        ``plain``: tensors ``encoder``, ``decoder``, biases and threshold, with the activation
        function in the header. ``sae_lens``: ``sae_weights.safetensors`` and ``cfg.json``, as
        SAELens 6 reads them.

    Raises
    ------
    ValueError
        If the format is unknown.
    """
    given = sae if isinstance(sae, SAE) else SAE.from_dataset(sae)
    path = Path(path)
    if format == "plain":
        layout = _of_sae(given)
        whole = {name: getattr(layout, name) for name in PLAIN_NAMES}
        tensors = {name: tensor for name, tensor in whole.items() if tensor is not None}
        facts = {"activation": layout.activation, **({"k": layout.k} if layout.k else {})}
        write_tensors(path, tensors, **{PLAIN: facts})
    elif format == "sae_lens":
        _write_sae_lens(given, path)
    else:
        raise ValueError(f"unknown format {format!r}{nearest(format, ('plain', 'sae_lens'))}")


def _write_sae_lens(sae: SAE, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    biases = {
        "b_enc": sae.encoder.new_zeros(sae.n_concepts)
        if sae.encoder_bias is None
        else sae.encoder_bias,
        "b_dec": sae.decoder.new_zeros(sae.n_channels)
        if sae.decoder_bias is None
        else sae.decoder_bias,
    }
    tensors = {"W_enc": sae.encoder.T, "W_dec": sae.decoder.T, **biases}
    config = {
        "architecture": {"topk": "topk", "relu": "standard"}.get(sae.activation, "jumprelu"),
        "d_in": sae.n_channels,
        "d_sae": sae.n_concepts,
        "dtype": str(sae.encoder.dtype).removeprefix("torch."),
        "device": "cpu",
        "apply_b_dec_to_input": False,
        "normalize_activations": "none",
        "reshape_activations": "none",
        "metadata": {},
    }
    if isinstance(sae, TopKSAE):
        config |= {"k": sae.k, "rescale_acts_by_decoder_norm": False}
    elif not isinstance(sae, ReLUSAE) and isinstance(sae, JumpReLUSAE):
        tensors["threshold"] = sae.threshold
    write_tensors(folder / "sae_weights.safetensors", tensors)
    with whole_file(folder / "cfg.json") as temporary:
        Path(temporary).write_text(json.dumps(config, indent=1), encoding="utf-8")
