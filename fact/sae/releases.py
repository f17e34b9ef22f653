"""Checkpoints that the paper's authors released: where they are, and how one is fetched.

No torch is imported here before one is.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

from registry.declare.requirements import Download

RELEASES = "https://github.com/m-parchami/FaCT/releases/download"


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


def released_checkpoint(url: str) -> Download:
    """Return what a plan says of a released checkpoint, and where it lies once it is here."""
    name = url.rpartition("/")[2]
    other = 'name a copy by kind = "file", format = "fact"'
    return Download(f"the SAE {name}", url, f"checkpoints/{name}", "torch", other=other)


def fetch_checkpoint(url: str, sha256: str | None = None) -> Path:
    """Return the file of a released checkpoint, fetched if it is not here yet, and tell its hash.

    Parameters
    ----------
    url : str
        From :func:`released_checkpoint_url`.
    sha256 : str, optional
        That the file must have.

    Raises
    ------
    OSError
        If it cannot be fetched.
    ValueError
        If its hash is another one; both are named.
    """
    target = released_checkpoint(url).target
    if not target.exists():
        import torch

        target.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(target), progress=False)
    with target.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if sha256 is not None and found != sha256.lower():
        raise ValueError(f"{target}: SHA-256 {found}; expected {sha256}")
    pinned = "" if sha256 else f'; pin it by sha256 = "{found}"'
    sys.stdout.write(f"{target.name}: SHA-256 {found}{pinned}\n")
    return target
