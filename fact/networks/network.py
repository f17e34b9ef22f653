"""Networks: a module, what rebuilds it, how it sees an image, its logits before the bias.

Inside :func:`explanation_mode` a convolutional B-cos network is linear in its input, and the
gradient *is* the weight (Böhle et al., "B-cos Networks: Alignment is All We Need for
Interpretability", CVPR 2022). ViTs add a positional embedding: they are linear in the output of
a layer, but not in the image.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from bcos.modules import LogitLayer
from numpy.typing import NDArray
from torch import Tensor, nn

from fact.data.classes import ClassMatch, Match
from fact.data.images import Geometry, ImageDataset, batches
from fact.networks.arrays import AnyArray, as_numpy, as_tensor
from registry.suggest import nearest
from registry.wording import counted

WHOLE = Geometry(None, None)
"""The geometry of images that come in the size that a network takes."""

PREDICTED, PREDICTED_PIXELS = 256, 2**20
"""Images whose logits are made at once at most, and their pixels: 20 images of 224 a side."""

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


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
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            return self.draw()

    def draw(self) -> nn.Module:
        """Return the module with random weights from torch's generator as it stands.

        For builders that build upon another; errors are those of :meth:`build`.
        """
        if self.builder not in _BUILDERS:
            raise NetworkError(
                f"unknown builder {self.builder!r}{nearest(self.builder, _BUILDERS)}"
            )
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
class Normalisation:
    """What is taken off colours in [0, 1], and what they are then divided by.

    Attributes
    ----------
    mean, std : tuple of float
        One of each for red, green, blue.
    """

    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD

    def apply(self, colours: Tensor) -> Tensor:
        """Return normalised images ``(image, colour, y, x)`` of three colours.

        Of six, the complements have the mean ``1 - mean``: they become the colours' negatives.
        """
        mean, std = (colours.new_tensor(value).view(1, 3, 1, 1) for value in (self.mean, self.std))
        if colours.shape[1] == 6:
            mean, std = torch.cat([mean, 1 - mean], dim=1), torch.cat([std, std], dim=1)
        return (colours - mean) / std


OF_IMAGENET = Normalisation()


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
    bcos : bool or None
        Whether it sees six colours, an image and its complement, as B-cos networks do; None looks
        whether its module has parts whose dynamic weights can be frozen.
    architecture : Architecture or None
        What rebuilds the module; None for one's own module, which then cannot be saved.
    normalisation : Normalisation
        Of the colours that a network reads which is not B-cos, or ``normalised``; ImageNet's by
        default.
    linear : bool or None
        Whether it is exactly linear in its frozen weights, so that contributions add up to its
        logits: they are then held to it. Of a network that is not, contributions are gradient
        times activation, an approximation. None where nobody has said so: then a module with
        parts whose dynamic weights can be frozen is taken at its word, and any other is found
        out by :func:`fact.probe_linearity`.
    probe : float or None
        What :func:`fact.probe_linearity` measured; None where linearity was declared.
    normalised : bool
        Whether six colours are normalised too, as those of a network are that was B-cosified.
    """

    module: nn.Module
    name: str = "network"
    classes: tuple[str, ...] = ()
    geometry: Geometry = WHOLE
    bcos: bool | None = None
    architecture: Architecture | None = None
    normalisation: Normalisation = OF_IMAGENET
    linear: bool | None = None
    probe: float | None = None
    normalised: bool = False

    def __post_init__(self) -> None:
        has_dynamic_weights = is_bcos(self.module)
        if self.bcos is None:
            object.__setattr__(self, "bcos", has_dynamic_weights)
        if self.linear is None and has_dynamic_weights:
            object.__setattr__(self, "linear", True)

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
            integers 0..255 or floats 0..1. A Tensor of six colours is taken as an image and its
            complement; the dimensions of a DataArray may be in any order.

        Returns
        -------
        Tensor
            ``(image, 6, y, x)`` in [0, 1]: red, green, blue and their complements, the input
            of every B-cos network; of one that was B-cosified they are normalised, so that the
            second half is the first's negative. For others ``(image, 3, y, x)``, normalised.

        Raises
        ------
        NetworkError
            If the images have another shape or range.
        """
        rgb = _as_rgb(images, self.device, self.dtype)
        if self.bcos and rgb.shape[1] == 3:
            rgb = torch.cat([rgb, 1 - rgb], dim=1)
        return rgb if rgb.shape[1] == 6 and not self.normalised else self.normalisation.apply(rgb)

    @property
    def encoding(self) -> str:
        """What :meth:`encode` returns, in words: what weights at the image are of."""
        colours = "red, green, blue" + (" and their complements" if self.bcos else "")
        return colours + (" in [0, 1]" if self.bcos and not self.normalised else ", normalised")

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

    def probabilities(self, logits: Tensor) -> Tensor:
        """Return the probabilities of logits ``(…, class)`` that are before the bias.

        Of a B-cos network by a sigmoid for each class, since it is trained by a yes or no for each;
        of others by softmax.
        """
        biased = logits + (self.logit_bias or 0.0)
        return biased.sigmoid() if self.bcos else biased.softmax(dim=-1)

    def class_names(self, count: int) -> tuple[str, ...]:
        """Names of ``count`` classes; their numbers where the network does not know them.

        Raises
        ------
        NetworkError
            If it knows another number of classes.
        """
        if self.classes and len(self.classes) != count:
            raise NetworkError(
                f"{counted(count, 'logit')}, but {counted(len(self.classes), 'name')} of classes"
            )
        return self.classes or tuple(map(str, range(count)))

    def explanation_mode(self) -> AbstractContextManager[None]:
        """Freeze the dynamic weights, as :func:`explanation_mode` does."""
        return explanation_mode(self.module)


def predict_logits(
    network: Network, images: ImageDataset, ids: NDArray[np.str_]
) -> NDArray[np.float32]:
    """Return the logits of images before the bias, ``(image, class)``.

    Parameters
    ----------
    network : Network
        In evaluation mode; whatever stands in place of a layer is used.
    images : ImageDataset
        Where to read.
    ids : ndarray of str, (image,)
        What to read.
    """
    height, width = images.read(ids[:1], network.geometry).shape[1:3]
    batch = max(1, min(PREDICTED, PREDICTED_PIXELS // (height * width)))
    with torch.no_grad():
        parts = [
            network.logits(network.encode(pixels)).float().cpu().numpy()
            for _, pixels in batches(images, ids, batch, network.geometry)
        ]
    return np.concatenate(parts)


def match_classes(
    network: Network, images: ImageDataset, ids: NDArray[np.str_], match: Match = "name"
) -> ClassMatch:
    """Return which logit of a network each class of images is.

    Parameters
    ----------
    network : Network
        Whose logits are counted on one image if it does not name them.
    images : ImageDataset
        Whose classes are sought.
    ids : ndarray of str, (image,)
        Of which the first is taken.
    match : str
        As of :meth:`fact.data.classes.ClassMatch.of`, errors too.
    """
    n_logits = len(network.classes) or predict_logits(network, images, ids[:1]).shape[1]
    return ClassMatch.of(images.classes, network.classes, n_logits, match)


def choose_device(name: str) -> torch.device:
    """Return the device called ``name``; ``auto`` is the first accelerator, or the CPU.

    Raises
    ------
    ValueError
        If there is no such device here.
    """
    if name == "auto":
        accelerator = torch.accelerator.current_accelerator(check_available=True)
        return accelerator or torch.device("cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ValueError(f"device {name!r} cannot be used here: {error}") from error
    return device


def as_network(network: Network | nn.Module) -> Network:
    """Return a network; a bare module becomes one without names of classes."""
    if isinstance(network, Network):
        return network
    return Network(network, name=type(network).__name__)


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

    with layer.register_forward_hook(bypass):
        yield


def _first_parameter(module: nn.Module) -> Tensor:
    return next(module.parameters(), torch.zeros(()))


def memory_format(device: torch.device) -> torch.memory_format:
    """Return how images lie in the memory of a device: colours last where that is faster."""
    return torch.channels_last if device.type == "cuda" else torch.contiguous_format


def _as_rgb(images: AnyArray, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Return ``(image, 3 or 6, y, x)`` in [0, 1]; integers are sent as they are, and divided there.

    Bytes are in their range: they are not looked at, which a device would have to be waited for.
    """
    tensor, colours = images, [3, 6]
    if not isinstance(tensor, Tensor):
        array, colours = as_numpy(images, ("image", "y", "x", "colour")), [3]
        tensor = as_tensor(np.ascontiguousarray(array))
    shape = tuple(tensor.shape)
    if tensor is not images and tensor.ndim == 4:
        tensor = tensor.permute(0, 3, 1, 2)
    if tensor.ndim != 4 or tensor.shape[1] not in colours:
        raise NetworkError(
            f"images of shape {shape}; expected an array (image, y, x, 3) "
            "or a Tensor (image, 3, y, x)"
        )
    is_bytes, is_floating = tensor.dtype == torch.uint8, tensor.is_floating_point()
    tensor = _sent(tensor, device)
    if device.type == "cuda" or not isinstance(images, Tensor):
        tensor = tensor.contiguous(memory_format=memory_format(device))
    tensor = tensor.to(dtype) if is_floating else tensor.to(dtype).div_(255)
    if is_bytes:
        return tensor
    low, high = (tensor.min().item(), tensor.max().item()) if tensor.numel() else (0, 1)
    if not (low >= 0 and high <= 1):
        raise NetworkError(f"images in [{low:g}, {high:g}]; expected [0, 1], or integers 0..255")
    return tensor


def _sent(tensor: Tensor, device: torch.device) -> Tensor:
    """Return a tensor on a device, from pinned memory and without waiting where it has any."""
    if device.type == "cuda" and tensor.device.type == "cpu":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)
