"""Networks: a module, how it sees an image, and its logits before the bias.

Inside :func:`explanation_mode` a convolutional B-cos network is linear in its input, and the
gradient *is* the weight (Böhle et al., "B-cos Networks: Alignment is All We Need for
Interpretability", CVPR 2022). ViTs add a positional embedding: they are linear in the output of
a layer, but not in the image.
"""

from __future__ import annotations

import importlib
import json
import math
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import safetensors
import safetensors.torch
import torch
from bcos.common import BcosUtilMixin
from bcos.modules import BcosConv2d, BcosLinear, BcosSequential, LogitLayer, norms
from torch import Tensor, nn

from fact.data.images import Geometry
from fact.data.vocabulary import read_names
from fact.networks.arrays import AnyArray, as_numpy
from registry.suggest import nearest

if TYPE_CHECKING:
    from registry.declare.inputs import Input

WHOLE = Geometry(None, None)
"""The geometry of images that come in the size that a network takes."""

WEIGHTS_FILE = "network.safetensors"
"""Where an experiment that trains a network leaves it, inside its output folder."""

FORMAT = 1
"""Version of the metadata in the header of a network's file."""

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Normalisation:
    """What is taken off colours in [0, 1], and what they are then divided by.

    Attributes
    ----------
    mean, std : tuple of float
        One of each for red, green, blue.
    """

    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD

    def apply(self, rgb: Tensor) -> Tensor:
        """Return normalised images ``(image, colour, y, x)``."""
        mean, std = (rgb.new_tensor(value).view(1, 3, 1, 1) for value in (self.mean, self.std))
        return (rgb - mean) / std


OF_IMAGENET = Normalisation()


class NetworkError(ValueError):
    """A network that cannot be built, loaded, saved, or fed with these images."""


@dataclass(frozen=True)
class Architecture:
    """What rebuilds a network's module without its weights.

    Attributes
    ----------
    builder : str
        A row of the table that :func:`builder` fills.
    settings : mapping
        Its keyword arguments, plain JSON values.
    """

    builder: str
    settings: Mapping[str, Any] = field(default_factory=dict)

    def build(self, seed: int = 0) -> nn.Module:
        """Return the module with random weights drawn from ``seed``; no global seed is moved.

        Raises
        ------
        NetworkError
            If there is no such builder; with the nearest name.
        """
        if self.builder not in _BUILDERS:
            importlib.import_module("fact.networks.standard")  # its rows join the table
        if self.builder not in _BUILDERS:
            raise NetworkError(
                f"unknown builder {self.builder!r}{nearest(self.builder, _BUILDERS)}"
            )
        with torch.random.fork_rng(devices=[]):
            torch.random.default_generator.manual_seed(seed)
            return _BUILDERS[self.builder](**self.settings)


_BUILDERS: dict[str, Callable[..., nn.Module]] = {}


def builder(name: str) -> Callable[[Callable[..., nn.Module]], Callable[..., nn.Module]]:
    """Register a function that builds a module from plain keyword arguments.

    What it builds can be saved by :func:`save_network` and rebuilt by :func:`load_network`.
    """

    def register(function: Callable[..., nn.Module]) -> Callable[..., nn.Module]:
        _BUILDERS[name] = function
        return function

    return register


@dataclass(frozen=True)
class Network:
    """A network as the rest of the house sees it.

    Attributes
    ----------
    module : Module
        Takes what :meth:`encode` returns.
    name : str
        For titles and provenance.
    classes : tuple of str
        Names of the classes in order of the logits; empty where unknown.
    geometry : Geometry
        How an image is resized and cropped before it is encoded.
    bcos : bool
        Whether it is dynamic-linear. If not, its logits keep their bias, and contributions to
        them are not complete.
    architecture : Architecture or None
        What rebuilds the module; None for one's own module, which then cannot be saved.
    normalisation : Normalisation
        Of the colours that a network reads which is not B-cos; ImageNet's by default.
    """

    module: nn.Module
    name: str = "network"
    classes: tuple[str, ...] = ()
    geometry: Geometry = WHOLE
    bcos: bool = True
    architecture: Architecture | None = None
    normalisation: Normalisation = OF_IMAGENET

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return _first_parameter(self.module).device

    @property
    def dtype(self) -> torch.dtype:
        """Floating type of the weights."""
        return _first_parameter(self.module).dtype

    @property
    def logit_bias(self) -> float | None:
        """The bias that the network adds to its logits; None if it has none."""
        layer = logit_layer(self.module)
        return None if layer is None else layer.logit_bias

    def to(self, device: torch.device | str) -> Network:
        """Move the module to a device, and return this network."""
        self.module.to(device)
        return self

    def encode(self, images: AnyArray) -> Tensor:
        """Return images as the network takes them, on its device and in its floating type.

        Parameters
        ----------
        images : array or Tensor
            RGB, as an array ``(image, y, x, colour)`` or a Tensor ``(image, colour, y, x)``:
            integers 0..255 or floats 0..1. A Tensor of six colours is taken as encoded; the
            dimensions of a DataArray may be in any order.

        Returns
        -------
        Tensor
            ``(image, 6, y, x)`` in [0, 1]: red, green, blue and their complements, the input
            of every B-cos network. For others ``(image, 3, y, x)``, normalised.

        Raises
        ------
        NetworkError
            If the images have another shape or range.
        """
        rgb = _as_rgb(images, self.dtype).to(self.device)
        if rgb.shape[1] == 6:
            return rgb
        if self.bcos:
            return torch.cat([rgb, 1 - rgb], dim=1)
        return self.normalisation.apply(rgb)

    def logits(self, encoded: Tensor) -> Tensor:
        """Return the logits ``(image, class)`` before the network adds its bias.

        The network's :class:`~bcos.modules.LogitLayer` is bypassed, but for its temperature,
        so that small logits keep their digits; what the network pools behind it stays as it is,
        and maps of logits that are left are averaged. A network without such a layer gives its
        plain output.

        Parameters
        ----------
        encoded : Tensor
            From :meth:`encode`.

        Raises
        ------
        NetworkError
            If there are several such layers, or the output is neither a vector nor a map.
        """
        with without_logit_bias(self.module):
            output = self.module(encoded)
        if isinstance(output, Tensor) and output.ndim == 2:
            return output
        if isinstance(output, Tensor) and output.ndim == 4:
            return output.mean(dim=(2, 3))
        shape = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
        raise NetworkError(f"the network puts out {shape}; expected (image, class)")

    def class_names(self, count: int) -> tuple[str, ...]:
        """Names of ``count`` classes; their numbers where the network does not know them.

        Raises
        ------
        NetworkError
            If it knows another number of classes.
        """
        if self.classes and len(self.classes) != count:
            raise NetworkError(f"{count} logits, but {len(self.classes)} names of classes")
        return self.classes or tuple(map(str, range(count)))

    @contextmanager
    def explanation_mode(self) -> Iterator[None]:
        """Freeze the dynamic weights, as :func:`explanation_mode` does."""
        with explanation_mode(self.module):
            yield


def as_network(network: Network | nn.Module) -> Network:
    """Return a network; a bare module becomes one without names of classes."""
    if isinstance(network, Network):
        return network
    return Network(network, name=type(network).__name__, bcos=is_bcos(network))


def is_bcos(module: nn.Module) -> bool:
    """Whether a module has parts whose dynamic weights can be frozen."""
    return any(hasattr(part, "set_explanation_mode") for part in module.modules())


@contextmanager
def explanation_mode(module: nn.Module) -> Iterator[None]:
    """Freeze the dynamic weights of a network: its gradient is then its weight.

    The module is also in evaluation mode while the context lasts, since batch statistics are
    not linear. Every part is afterwards as it was, so that contexts can be nested.
    """
    parts = list(module.modules())
    detachable: list[Any] = [part for part in parts if hasattr(part, "set_explanation_mode")]
    training = [part.training for part in parts]
    frozen = [bool(getattr(part, "is_in_explanation_mode", False)) for part in detachable]
    try:
        for part in parts:
            part.training = False
        for part in detachable:
            part.set_explanation_mode(True)
        yield
    finally:
        for part, was_frozen in zip(detachable, frozen, strict=True):
            part.set_explanation_mode(was_frozen)
        for part, was_training in zip(parts, training, strict=True):
            part.training = was_training


def logit_layer(module: nn.Module) -> LogitLayer | None:
    """Return the network's layer that adds the bias, wherever it is; None without one.

    Raises
    ------
    NetworkError
        If there are several.
    """
    found = {n: part for n, part in module.named_modules() if isinstance(part, LogitLayer)}
    if len(found) > 1:
        raise NetworkError(f"{len(found)} logit layers, {', '.join(found)}; expected at most one")
    return next(iter(found.values()), None)


@contextmanager
def without_logit_bias(module: nn.Module) -> Iterator[None]:
    """Leave out the bias that a network's logit layer adds, where it has one."""
    layer = logit_layer(module)
    if layer is None:
        yield
        return

    def bypass(part: LogitLayer, args: tuple[Tensor, ...], _output: Tensor) -> Tensor:
        temperature = part.logit_temperature
        return args[0] if temperature is None else args[0] / temperature

    handle = layer.register_forward_hook(bypass)
    try:
        yield
    finally:
        handle.remove()


def _first_parameter(module: nn.Module) -> Tensor:
    return next(module.parameters(), torch.zeros(()))


def _as_rgb(images: AnyArray, dtype: torch.dtype) -> Tensor:
    """Return ``(image, 3 or 6, y, x)`` in [0, 1]."""
    if isinstance(images, Tensor):
        tensor, colours, shape = images, [3, 6], tuple(images.shape)
    else:
        array = as_numpy(images, ("image", "y", "x", "colour"))
        shape = array.shape
        if array.ndim == 4:
            array = np.moveaxis(array, -1, 1)
        tensor, colours = torch.from_numpy(np.ascontiguousarray(array)), [3]
    if tensor.ndim != 4 or tensor.shape[1] not in colours:
        raise NetworkError(
            f"images of shape {shape}; expected an array (image, y, x, 3) "
            "or a Tensor (image, 3, y, x)"
        )
    tensor = tensor.to(dtype) if tensor.is_floating_point() else tensor.to(dtype) / 255
    low, high = (tensor.min().item(), tensor.max().item()) if tensor.numel() else (0, 1)
    if not (low >= 0 and high <= 1):
        raise NetworkError(f"images in [{low:g}, {high:g}]; expected [0, 1], or integers 0..255")
    return tensor


# --- builders -------------------------------------------------------------------------------


class SmallBcos(BcosUtilMixin, nn.Module):
    """A few B-cos convolutions, a linear B-cos classifier at every position, and their mean."""

    def __init__(self, features: nn.Sequential, classifier: nn.Module, logits: LogitLayer):
        super().__init__()
        self.features = features
        self.classifier = classifier
        self.logit_layer = logits

    def forward(self, encoded: Tensor) -> Tensor:
        """Return logits ``(image, class)`` of encoded images ``(image, 6, y, x)``."""
        maps: Tensor = self.classifier(self.features(encoded))
        return self.logit_layer(maps.mean(dim=(2, 3)))


@builder("small-bcos")
def build_small_bcos(
    n_classes: int,
    channels: Sequence[int],
    strides: Sequence[int],
    kernel_size: int,
    b: float,
    temperature: float | None,
) -> nn.Module:
    """Return an untrained :class:`SmallBcos`; see :func:`small_bcos`."""
    norm = norms.NoBias(norms.BatchNormUncentered2d)
    blocks, width = [], 6
    for out, stride in zip(channels, strides, strict=True):
        conv = BcosConv2d(width, out, kernel_size, stride, padding=kernel_size // 2, b=b)
        blocks.append(nn.Sequential(conv, norm(out)))
        width = out
    classifier = BcosConv2d(width, n_classes, kernel_size=1, b=b)
    logits = LogitLayer(logit_temperature=temperature, logit_bias=_bias(n_classes))
    return SmallBcos(nn.Sequential(*blocks), classifier, logits)


def small_bcos(
    classes: Sequence[str],
    channels: Sequence[int] = (32, 64, 128),
    strides: Sequence[int] = (2, 2, 1),
    kernel_size: int = 3,
    b: float = 2,
    temperature: float | None = None,
    geometry: Geometry = WHOLE,
    seed: int = 0,
    name: str = "small-bcos",
) -> Network:
    """Return a small untrained B-cos network for small images.

    Layers ``features.0``, ``features.1``, … are B-cos convolutions, each followed by an
    uncentred batch norm without bias, without which it does not train.

    Parameters
    ----------
    classes : sequence of str
        Names of the classes, at least 2.
    channels, strides : sequence of int
        One of each per convolution.
    kernel_size : int
        Odd; the padding keeps the size of the map.
    b : float
        Exponent of the B-cos transform; 1 gives a linear network.
    temperature : float or None
        Divides the logits; below 1 it lets a small network answer firmly.
    geometry : Geometry
        How an image is resized and cropped.
    seed : int
        Draws the initial weights.
    name : str
        Name of the network.

    Raises
    ------
    NetworkError
        If there are fewer than two classes, or not as many strides as channels.
    """
    if len(channels) != len(strides) or not channels:
        raise NetworkError(f"{len(channels)} channels and {len(strides)} strides; expected as many")
    settings = {
        "n_classes": _count(classes),
        "channels": list(channels),
        "strides": list(strides),
        "kernel_size": kernel_size,
        "b": b,
        "temperature": temperature,
    }
    return _built("small-bcos", settings, tuple(classes), geometry, seed, name)


@builder("small-vit")
def build_small_vit(
    n_classes: int,
    image_size: int,
    patch_size: int,
    dim: int,
    depth: int,
    heads: int,
    temperature: float | None,
) -> nn.Module:
    """Return an untrained B-cos SimpleViT; see :func:`small_vit`."""
    from bcos.models.vit import SimpleViT

    with warnings.catch_warnings():  # it warns that a logit layer must follow: one does
        warnings.simplefilter("ignore")
        vit = SimpleViT(
            image_size=image_size,
            patch_size=patch_size,
            num_classes=n_classes,
            dim=dim,
            depth=depth,
            heads=heads,
            mlp_dim=4 * dim,
            linear_layer=partial(BcosLinear, b=2),
            norm_layer=norms.NoBias(norms.DetachableLayerNorm),
            act_layer=nn.Identity,
        )
    logits = LogitLayer(logit_temperature=temperature, logit_bias=_bias(n_classes))
    return BcosSequential(vit, logits)


def small_vit(
    classes: Sequence[str],
    image_size: int = 32,
    patch_size: int = 8,
    dim: int = 32,
    depth: int = 2,
    heads: int = 2,
    temperature: float | None = None,
    geometry: Geometry | None = None,
    seed: int = 0,
    name: str = "small-vit",
) -> Network:
    """Return a small untrained B-cos ViT, whose layers put out tokens.

    Layers ``0.transformer.encoder_0``, … put out ``(image, token, channel)``, without a class
    token, as those of the ``vitc_*`` architectures do.

    Parameters
    ----------
    classes : sequence of str
        Names of the classes, at least 2.
    image_size, patch_size : int
        Side of an image and of a patch, in pixels; the former a multiple of the latter.
    dim : int
        Channels of a token; a multiple of 4 and of ``heads``, at least 8.
    depth, heads : int
        Encoders, and attention heads of each.
    temperature : float or None
        Divides the logits; below 1 it lets a small network answer firmly.
    geometry : Geometry or None
        How an image is resized and cropped; to ``image_size`` by default.
    seed : int
        Draws the initial weights.
    name : str
        Name of the network.

    Raises
    ------
    NetworkError
        If the sizes do not fit together, or there are fewer than two classes.
    """
    if image_size % patch_size or dim % 4 or dim % heads or dim < 8:
        raise NetworkError(
            f"image_size {image_size}, patch_size {patch_size}, dim {dim}, heads {heads}; expected "
            "image_size a multiple of patch_size, dim one of 4 and of heads, at least 8"
        )
    settings = {
        "n_classes": _count(classes),
        "image_size": image_size,
        "patch_size": patch_size,
        "dim": dim,
        "depth": depth,
        "heads": heads,
        "temperature": temperature,
    }
    geometry = geometry or Geometry(image_size, image_size)
    return _built("small-vit", settings, tuple(classes), geometry, seed, name)


@builder("bcos")
def build_bcos(architecture: str) -> nn.Module:
    """Return an untrained network of the package ``bcos``, by the name of its architecture.

    Raises
    ------
    NetworkError
        If there is no such architecture; with the nearest name.
    """
    return _bcos_entry_point(architecture)(pretrained=False)


def bcos_network(
    architecture: str,
    pretrained: bool = False,
    weights: Path | str | None = None,
    geometry: Geometry | None = None,
    seed: int = 0,
) -> Network:
    """Return a network of the package ``bcos``, trained on ImageNet or not.

    Parameters
    ----------
    architecture : str
        As ``densenet121_long``, ``resnet50_long`` or ``vitc_s_patch1_14``.
    pretrained : bool
        Fetch the released weights, whose hash is checked.
    weights : path or None
        A local file with a state dict: safetensors, or one that torch saved, of which only
        weights are read.
    geometry : Geometry or None
        How an image is resized and cropped; as the network's own transform does by default.
    seed : int
        Draws the weights of an untrained network.

    Raises
    ------
    NetworkError
        If the architecture is unknown, the weights cannot be fetched, or do not belong to it.
    """
    recipe = Architecture("bcos", {"architecture": architecture})
    module = _fetch(architecture) if pretrained else recipe.build(seed)
    if weights is not None:
        load_weights(module, read_state(weights), str(weights))
    module.eval().requires_grad_(False)
    return Network(
        module,
        name=architecture,
        classes=read_names("imagenet"),
        geometry=geometry or own_geometry(module),
        bcos=not architecture.startswith("standard_"),
        architecture=recipe,
    )


def own_geometry(module: nn.Module) -> Geometry:
    """Return the resizing and cropping of the transform that a ``bcos`` network carries."""
    transform: Any = module.transform
    crop = transform.center_crop.size
    return Geometry(transform.resize.size, crop[0] if isinstance(crop, Sequence) else crop)


def _fetch(architecture: str) -> nn.Module:
    try:
        return _bcos_entry_point(architecture)(pretrained=True)
    except (OSError, RuntimeError) as error:  # no connection, or another hash than announced
        raise NetworkError(
            f"the weights of {architecture!r} cannot be fetched: {error}; a copy on this machine "
            "can be named as `weights`"
        ) from error


def _bcos_entry_point(architecture: str) -> Callable[..., nn.Module]:
    from bcos.models import pretrained

    known = pretrained.list_available()
    if architecture not in known:
        raise NetworkError(f"unknown architecture {architecture!r}{nearest(architecture, known)}")
    entry_point: Callable[..., nn.Module] = getattr(pretrained, architecture)
    return entry_point


def _built(
    builder_name: str,
    settings: dict[str, Any],
    classes: tuple[str, ...],
    geometry: Geometry,
    seed: int,
    name: str,
) -> Network:
    recipe = Architecture(builder_name, settings)
    module = recipe.build(seed)
    return Network(module.eval(), name, classes, geometry, is_bcos(module), recipe)


def _bias(n_classes: int) -> float:
    """The logit of ``1 / n_classes``: what a network that knows nothing should answer."""
    return math.log(1 / (n_classes - 1)) if n_classes > 1 else 0.0


def _count(classes: Sequence[str]) -> int:
    if len(classes) < 2 or isinstance(classes, str):
        raise NetworkError(f"classes {classes!r}; expected names of at least 2")
    return len(classes)


# --- files ----------------------------------------------------------------------------------


def save_network(network: Network, path: Path | str) -> None:
    """Write a network as safetensors, with all that rebuilds it as JSON in the file's header.

    Parameters
    ----------
    network : Network
        One that was built from an :class:`Architecture`.
    path : path
        The file to write; it is whole or not there.

    Raises
    ------
    NetworkError
        If the network does not know its architecture.
    """
    if network.architecture is None:
        raise NetworkError(
            f"network {network.name!r} cannot be saved: nothing says how to rebuild its module; "
            "give it an Architecture, whose builder is registered with "
            "@fact.networks.network.builder"
        )
    metadata = {
        "format": FORMAT,
        "name": network.name,
        "classes": list(network.classes),
        "geometry": asdict(network.geometry),
        "bcos": network.bcos,
        "normalisation": asdict(network.normalisation),
        "builder": network.architecture.builder,
        "settings": dict(network.architecture.settings),
    }
    state = {key: value.cpu().contiguous() for key, value in network.module.state_dict().items()}
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        safetensors.torch.save_file(state, temporary, {"factbook": json.dumps(metadata)})
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def load_network(path: Path | str) -> Network:
    """Read what :func:`save_network` wrote, ready to be explained: evaluation mode, no gradients.

    Parameters
    ----------
    path : path
        The file, or the output folder of an experiment that trained a network.

    Raises
    ------
    NetworkError
        If there is no such file, or it holds no network of ours.
    """
    path = Path(path)
    if path.is_dir():
        path = path / WEIGHTS_FILE
    if not path.is_file():
        raise NetworkError(f"no network at {path}")
    metadata = _read_metadata(path)
    recipe = Architecture(metadata["builder"], metadata["settings"])
    module = recipe.build()
    load_weights(module, safetensors.torch.load_file(path), str(path))
    return Network(
        module.eval().requires_grad_(False),
        name=metadata["name"],
        classes=tuple(metadata["classes"]),
        geometry=Geometry(**metadata["geometry"]),
        bcos=metadata["bcos"],
        architecture=recipe,
        normalisation=_normalisation(metadata.get("normalisation", {})),
    )


def load(source: Input) -> Network:
    """Return the network that fills a stage's slot: a declared resource, or one trained here.

    Raises
    ------
    NetworkError
        If the experiment's output holds no network.
    StoreError
        If it is not what was written, by its checksums.
    """
    if source.settings is not None:
        network: Network = source.load()
    elif source.path is not None:
        network = load_network(source.proven()[0])
    else:
        raise NetworkError(f"{source.name!r} has neither settings nor an output")
    return replace(network, name=source.name)


def read_state(path: Path | str) -> dict[str, Tensor]:
    """Read a state dict from safetensors or from a file of torch, weights only, on the CPU.

    A checkpoint of a training is unpacked: what it calls ``state_dict``, without the ``module.``
    that training on several devices puts before every name.

    Raises
    ------
    NetworkError
        If the file is missing, or holds anything else than named tensors.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise NetworkError(f"no weights at {path}")
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch and safetensors raise many types for a file of another kind
        raise NetworkError(f"{path} cannot be read as weights: {error}") from error
    if isinstance(state, Mapping) and isinstance(state.get("state_dict"), Mapping):
        state = state["state_dict"]
    if isinstance(state, Mapping) and all(isinstance(value, Tensor) for value in state.values()):
        return {str(name).removeprefix("module."): value for name, value in state.items()}
    raise NetworkError(f"{path} holds a {type(state).__name__}; expected a state dict of tensors")


def load_weights(module: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Put weights into a module, all of them.

    Raises
    ------
    NetworkError
        If some are missing, too many, or of another shape; ``source`` is named.
    """
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        raise NetworkError(f"{source} does not belong to this architecture: {error}") from error


def _normalisation(settings: Mapping[str, Sequence[float]]) -> Normalisation:
    red_green_blue: dict[str, Any] = {name: tuple(values) for name, values in settings.items()}
    return Normalisation(**red_green_blue)


def _read_metadata(path: Path) -> dict[str, Any]:
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get("factbook")
    except (safetensors.SafetensorError, OSError) as error:
        raise NetworkError(f"{path} cannot be read as safetensors: {error}") from error
    if text is None:
        raise NetworkError(f"{path} has no metadata; expected a network that factbook saved")
    metadata: dict[str, Any] = json.loads(text)
    if metadata["format"] > FORMAT:
        raise NetworkError(f"{path} has format {metadata['format']}; expected at most {FORMAT}")
    return metadata
