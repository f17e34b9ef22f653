"""Where released weights are fetched from, read from the packages that fetch them, not imported.

A plan says what will be fetched, and importing these packages would load torch.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from registry.declare.requirements import Download

ELSEWHERE = "name a copy on this machine by"
TRAINED_ON = "terms of the data that it was trained on may apply"


OPEN_CLIP = {
    "ViT-SO400M-14-SigLIP-384": ("webli", "timm/ViT-SO400M-14-SigLIP-384", "Apache-2.0"),
    "ViT-L-16-SigLIP-384": ("webli", "timm/ViT-L-16-SigLIP-384", "Apache-2.0"),
    "ViT-L-14-336": ("openai", "timm/vit_large_patch14_clip_336.openai", "MIT"),
    "ViT-B-32": ("openai", "timm/vit_base_patch32_clip_224.openai", "MIT"),
}
"""Calibrated models, and that of the probe of birds: tag, repository and licence of their weights,
as of ``open_clip`` 3."""


def bcos_weights(architecture: str) -> Download | None:
    """Return the released weights of a network of the package ``bcos``; None if it has none.

    Parameters
    ----------
    architecture : str
        As ``resnet50_long``.
    """
    tree = _parsed("bcos", "models", "pretrained.py")
    if tree is None:
        return None
    values: dict[str, Any] = {}
    for node in tree.body:  # the table of addresses, which is made of texts alone
        if _target(node) in ("BASE", "URLS"):
            exec(compile(ast.Module([_plain(node)], []), "bcos", "exec"), {}, values)
    call = next((c for f in _functions(tree, architecture) for c in ast.walk(f) if _gets(c)), None)
    if not isinstance(call, ast.Call) or "URLS" not in values:
        return None
    family = next((k.value for k in call.keywords if k.arg == "base_network"), None)
    table = values["URLS"].get(_text(family) or "bcos_final", {})
    url = table.get(_text(call.args[0]) if call.args else None)
    licence = f"Apache-2.0; {TRAINED_ON}"
    return _checkpoint(architecture, url, licence, None, "weights") if url else None


def torchvision_weights(architecture: str, name: str) -> Download | None:
    """Return released weights of torchvision; None if they are not found.

    Parameters
    ----------
    architecture, name : str
        As ``resnet50``, ``IMAGENET1K_V2``.
    """
    for file in _model_files():
        if f"def {architecture}(" in file.read_text(encoding="utf-8"):
            tree = _parse(file)
            table = next(_tables(tree, architecture), "")
            found = next(_members(tree, table, name), None)
            if found is not None:
                url, megabytes = found
                licence = "CC-BY-NC-4.0" if "SWAG" in name else f"BSD-3-Clause; {TRAINED_ON}"
                return _checkpoint(architecture, url, licence, megabytes, "file")
    return None


def open_clip_weights(model: str, tag: str | None = None) -> Download | None:
    """Return the weights of a model of ``open_clip`` whose address is known; None for any other.

    Parameters
    ----------
    model : str
        As ``ViT-L-16-SigLIP-384``.
    tag : str or None
        Of the weights, where they are not the calibrated ones.
    """
    if model not in OPEN_CLIP or (tag or OPEN_CLIP[model][0]) != OPEN_CLIP[model][0]:
        return None
    _, repository, licence = OPEN_CLIP[model]
    url = f"https://huggingface.co/{repository}"
    other = "name a folder on this machine by `folder`"
    return Download(f"the weights of {model}", url, repository, "huggingface", licence, other=other)


def timm_weights(architecture: str) -> Download:
    """Return the weights of a network of ``timm``, which lie in a repository of their name.

    Parameters
    ----------
    architecture : str
        With its tag, as ``resnet18.a1_in1k``.
    """
    repository = f"timm/{architecture}"
    url, other = f"https://huggingface.co/{repository}", f"{ELSEWHERE} `file`"
    return Download(f"the weights of {architecture}", url, repository, "huggingface", other=other)


def language_model_weights(model: str) -> Download:
    """Return the weights of a language model, which lie in a repository of its name.

    Parameters
    ----------
    model : str
        As ``gpt2``, or with its owner, as ``openai-community/gpt2-xl``.
    """
    licence, megabytes = LANGUAGE_MODELS.get(model.removeprefix("openai-community/"), ("", None))
    url = f"https://huggingface.co/{model}"
    other = "name a folder on this machine by `folder`"
    return Download(f"the weights of {model}", url, model, "huggingface", licence, megabytes, other)


LANGUAGE_MODELS = {"gpt2": ("MIT", 548.0), "gpt2-xl": ("MIT", 6431.0)}
"""Language models of the papers: licence, size of their weights in 10^6 bytes."""


def _checkpoint(
    architecture: str, url: str, licence: str, megabytes: float | None, key: str
) -> Download:
    file = f"checkpoints/{url.rpartition('/')[2]}"
    what, other = f"the weights of {architecture}", f"{ELSEWHERE} `{key}`"
    return Download(what, url, file, "torch", licence, megabytes, other)


def _model_files() -> Iterator[Path]:
    folder = _folder("torchvision")
    if folder is not None:
        for inner in ("models", "models/quantization"):
            yield from sorted((folder / inner).glob("*.py"))


def _tables(tree: ast.Module, architecture: str) -> Iterator[str]:
    """Yield the name of the class that lists the weights of an architecture."""
    for function in _functions(tree, architecture):
        for argument in (*function.args.args, *function.args.kwonlyargs):
            if argument.arg == "weights" and argument.annotation is not None:
                names = (n for n in ast.walk(argument.annotation) if isinstance(n, ast.Name))
                yield from (name.id for name in names if name.id.endswith("_Weights"))


def _members(tree: ast.Module, table: str, name: str) -> Iterator[tuple[str, float | None]]:
    """Yield address and size of the weights of a name."""
    classes = (n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == table)
    members = {_target(node): node for own in classes for node in own.body}
    node = members.get(name)
    value = node.value if isinstance(node, ast.Assign) else None
    if isinstance(value, ast.Name):  # DEFAULT = IMAGENET1K_V2
        yield from _members(tree, table, value.id)
    elif isinstance(value, ast.Call):
        words = {keyword.arg: keyword.value for keyword in value.keywords}
        sizes = [
            entry.value
            for where in ast.walk(words.get("meta", ast.Constant(None)))
            if isinstance(where, ast.Dict)
            for key, entry in zip(where.keys, where.values, strict=True)
            if _text(key) == "_file_size" and isinstance(entry, ast.Constant)
        ]
        url = _text(words.get("url"))
        megabytes = sizes[0] * 2**20 / 1e6 if sizes and isinstance(sizes[0], float) else None
        if url:
            yield url, megabytes


def _functions(tree: ast.Module, name: str) -> Iterator[ast.FunctionDef]:
    return (n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == name)


def _gets(node: ast.AST) -> bool:
    names = ("_get_model", "_get_vit_model")
    return isinstance(node, ast.Call) and getattr(node.func, "id", "") in names


def _target(node: ast.AST) -> str:
    if isinstance(node, ast.AnnAssign):
        return getattr(node.target, "id", "")
    return getattr(node.targets[0], "id", "") if isinstance(node, ast.Assign) else ""


def _plain(node: ast.stmt) -> ast.stmt:
    """Return an assignment without its annotation, whose names are not defined here."""
    if isinstance(node, ast.AnnAssign) and node.value is not None:
        return ast.copy_location(ast.Assign([node.target], node.value), node)
    return node


def _text(node: ast.AST | None) -> str | None:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


def _folder(package: str) -> Path | None:
    try:
        spec = find_spec(package)
    except (ImportError, ValueError):
        return None
    places = spec.submodule_search_locations if spec else None
    return Path(next(iter(places))) if places else None


def _parsed(package: str, *path: str) -> ast.Module | None:
    folder = _folder(package)
    file = folder.joinpath(*path) if folder else None
    return _parse(file) if file is not None and file.is_file() else None


@functools.cache
def _parse(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))
