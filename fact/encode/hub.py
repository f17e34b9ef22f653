"""Code from torch hub: pinned to a commit, fetched without being run, shown before it is trusted.

``torch.hub.load`` runs whatever the branch of a repository holds on that day. Here a repository is
named with a full commit; its archive is unpacked where torch hub keeps its code, and it is run only
when whoever runs the experiment has said so.
"""

from __future__ import annotations

import os
import re
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
    def folder(self) -> Path:
        """Where torch hub keeps the code, whether or not it is there."""
        return Path(_torch_hub().get_dir()) / f"{self.repository.replace('/', '_')}_{self.commit}"

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

        Only for code that is trusted: see :func:`require_trust`.
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
                f"  {len(files)} files, {lines} lines of Python: {', '.join(names)}{more}",
                f"  hubconf.py, lines 1 to {len(shown)} of {len(hubconf)}:",
                *shown,
            ]
        )


def require_trust(codes: Sequence[HubCode], trusted: bool) -> None:
    """Raise, and show the code, where it would be run without having been trusted.

    Raises
    ------
    UntrustedCodeError
        With every repository, its commit, its files and how its ``hubconf.py`` begins.
    """
    if trusted or not codes:
        return
    shown = "\n\n".join(code.show() for code in codes)
    where = " and ".join(code.url for code in codes)
    raise UntrustedCodeError(
        f"code from outside would be run, with all your rights:\n\n{shown}\n\n"
        f"nothing of {where} was run; read it, in the browser or where it was fetched to, and if "
        "you trust it at this commit, say `trusted = true` in the configuration, or `--trusted` "
        "on the command line"
    )


def _torch_hub() -> Any:
    import torch.hub  # heavy: a plan only names code

    return torch.hub
