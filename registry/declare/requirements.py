"""What a stage or a kind needs beside its inputs, checked before anything runs; nothing is loaded.

A stage says it by its ``requires``, a kind by a method ``requires()``; both give values with a
method ``look() -> Finding | None``. Here stand those that any plug-in can use.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import shutil
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Literal, Protocol

PATIENCE_SECONDS = 4.0
"""How long a server is waited for that something would be fetched from."""


@dataclass(frozen=True)
class Finding:
    """What a look at a requirement has found.

    Attributes
    ----------
    text : str
        What is missing, or what should be known.
    remedy : str
        What to type or to write; "" where there is nothing to do.
    is_missing : bool
        Whether tasks cannot run that need it.
    """

    text: str
    remedy: str = ""
    is_missing: bool = True

    def __str__(self) -> str:
        return f"{self.text}: {self.remedy}" if self.remedy else self.text


@dataclass(frozen=True)
class Estimate:
    """What a task will need and make, as far as that is known before.

    Attributes
    ----------
    sizes : mapping of str to int
        Of dimensions of its output.
    disk, memory : int or None
        Bytes that its output takes, and that it holds at once; None where nobody knows.
    """

    sizes: Mapping[str, int] = field(default_factory=dict)
    disk: int | None = None
    memory: int | None = None


class Requirement(Protocol):
    """Something that has to be there. Equal ones are told once, so it is a frozen value."""

    def look(self) -> Finding | None:
        """Return what is missing or worth knowing, None where all is there."""


@dataclass(frozen=True)
class Package:
    """An installed package.

    Attributes
    ----------
    module : str
        What is imported; it is looked for and not imported.
    distribution : str
        What is installed, as ``open-clip-torch``; "" where it is called as the module.
    least : str
        Least version, as ``3.0``; "" takes any.
    why : str
        What needs it, as ``SigLIP's tokenizer``.
    """

    module: str
    distribution: str = ""
    least: str = ""
    why: str = ""

    @property
    def name(self) -> str:
        """What is installed."""
        return self.distribution or self.module

    @property
    def lack(self) -> str:
        """What is missing, "" for nothing."""
        needer = f" for {self.why}" if self.why else ""
        if not _is_importable(self.module):
            return f"{self.module}{needer}"
        found = _version(self.name) if self.least else None
        if found is None or _at_least(found, self.least):
            return ""
        return f"{self.name} {self.least} or later{needer}, not {found}"

    def look(self) -> Finding | None:
        """Return how to install the package, if it is missing or too old."""
        bound = f"'{self.name}>={self.least}'" if self.least else self.name
        return Finding(f"package {self.lack}", f"pip install {bound}") if self.lack else None


@dataclass(frozen=True)
class Extra:
    """Packages that an extra of a distribution brings.

    Attributes
    ----------
    name : str
        Of the extra.
    packages : tuple of Package
        What of it is needed.
    distribution : str
        Whose extra it is.
    """

    name: str
    packages: tuple[Package, ...]
    distribution: str = "factbook"

    def look(self) -> Finding | None:
        """Return how to install them, if some are missing or too old."""
        lacks = [package.lack for package in self.packages if package.lack]
        if not lacks:
            return None
        text = f"package{'s' * (len(lacks) > 1)} {', '.join(lacks)}"
        return Finding(text, f"pip install -U '{self.distribution}[{self.name}]'")


@functools.cache
def _is_importable(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False


@functools.cache
def _version(distribution: str) -> str | None:
    with suppress(metadata.PackageNotFoundError):
        return metadata.version(distribution)
    return None


def _at_least(found: str, least: str) -> bool:
    from packaging.version import InvalidVersion, Version

    try:
        return Version(found) >= Version(least)
    except InvalidVersion:
        return True


@dataclass(frozen=True)
class Download:
    """A file or folder that is fetched at its first use.

    Attributes
    ----------
    what : str
        For people: ``the weights of resnet50``.
    url : str
        Where it is fetched from.
    path : str
        Where it lies once it is here.
    cache : str
        Whose folder `path` is relative to: ``torch`` (that of its hub), ``huggingface`` (a
        repository's name is its path), or "" for none.
    licence : str
        Under which it may be used, as far as its makers say; "" where that has to be read there.
    megabytes : float or None
        Its size, in 10^6 bytes, where that is known.
    other : str
        How else it can be had, as "name a copy by `file`".
    """

    what: str
    url: str
    path: str
    cache: Literal["", "torch", "huggingface"] = ""
    licence: str = ""
    megabytes: float | None = None
    other: str = ""

    @property
    def target(self) -> Path:
        """Where it lies once it is here."""
        if self.cache == "torch":
            return _torch_hub() / self.path
        if self.cache == "huggingface":
            return _hugging_face_hub() / f"models--{self.path.replace('/', '--')}"
        return Path(self.path).expanduser()

    def look(self) -> Finding | None:
        """Say what will be fetched; it is missing if nothing answers there, or no room is left."""
        target = self.target
        if target.exists():
            return None
        remedy = "put it there" + (f", or {self.other}" if self.other else "")
        licence = f"licence {self.licence}" if self.licence else "its licence stands there"
        if reason := _unreachable(self.url):
            text = f"{self.what} ({licence}), not at {target}, and {self.url} {reason}"
            return Finding(text, remedy)
        if self.megabytes and free_bytes(target) < self.megabytes * 1e6:
            text = f"{self.megabytes:,.0f} MB of room at {target} for {self.what}"
            return Finding(text, "make room" + (f", or {self.other}" if self.other else ""))
        size = f"{self.megabytes:,.0f} MB, " if self.megabytes else ""
        text = f"will be fetched: {self.what}, {size}from {self.url} to {target}; {licence}"
        return Finding(text, is_missing=False)


@functools.cache
def _unreachable(url: str) -> str:
    """Return why nothing is to be had at an address, "" if something answers there."""
    answers: list[str] = []
    asking = threading.Thread(target=lambda: answers.append(_ask(url)), daemon=True)
    asking.start()  # aside, since looking up a name may take much longer
    asking.join(PATIENCE_SECONDS)
    return answers[0] if answers else f"does not answer within {PATIENCE_SECONDS:.0f} s"


def _ask(url: str) -> str:
    import urllib.error  # most plans fetch nothing
    import urllib.request

    request = urllib.request.Request(url, method="HEAD", headers={"User-Agent": "factbook"})
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE_SECONDS):
            return ""
    except urllib.error.HTTPError as error:  # a server may answer to nothing but GET
        return f"answers {error.code} {error.reason}" if error.code in (404, 410) else ""
    except (OSError, ValueError) as error:
        return f"cannot be reached ({getattr(error, 'reason', error)})"


def free_bytes(path: Path) -> int:
    """Return the room that is left where a file will lie, whose folders may not be there yet."""
    existing = next(folder for folder in (path, *path.absolute().parents) if folder.exists())
    return shutil.disk_usage(existing).free


def memory_bytes() -> int:
    """Return the memory of this machine, or of the container that this runs in, if that is less."""
    import psutil

    limits = [psutil.virtual_memory().total]
    for file in ("memory.max", "memory/memory.limit_in_bytes"):
        with suppress(OSError, ValueError):
            limits.append(int(Path("/sys/fs/cgroup", file).read_text()))
    return int(min(limits))


def _torch_hub() -> Path:
    """Return the folder of torch's hub, as torch finds it."""
    if "torch.hub" in sys.modules:
        return Path(sys.modules["torch.hub"].get_dir())
    cache = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    return Path(os.environ.get("TORCH_HOME") or f"{cache}/torch", "hub").expanduser()


def _hugging_face_hub() -> Path:
    """Return the folder in which the package ``huggingface_hub`` keeps models."""
    cache = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    home = os.environ.get("HF_HOME") or f"{cache}/huggingface"
    return Path(os.environ.get("HF_HUB_CACHE") or f"{home}/hub").expanduser()
