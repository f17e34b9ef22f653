"""Files that torch wrote: read as tensors and plain values, never as code."""

from __future__ import annotations

import errno
import pickle
import pickletools
import re
import zipfile
from pathlib import Path
from typing import Any

_NAMED = re.compile(r"GLOBAL ([\w.]+)")
"""Which name a pickle has, as torch tells it beside advice to run the file after all."""


ZIP, PICKLE = b"PK", b"\x80"
"""What files of torch begin with: since version 1.6, and before."""
_DAMAGE = ("truncated", "invalid load key", "Ran out of input")
"""What the reader of pickles says of a file that is damaged, and names no code."""

_PICKLES = 4
"""Pickles at the beginning of a file of before version 1.6; the last is what was saved."""


class TorchFileError(ValueError):
    """A file that is damaged, none of torch's, or holds more than tensors and plain values."""


class CodeInFileError(TorchFileError):
    """A file that holds more than tensors and plain values, of which nothing was run."""


def read_torch(path: Path | str) -> Any:
    """Return what torch saved in a file, on the CPU; nothing that the file names is run.

    Parameters
    ----------
    path : path
        The file.

    Raises
    ------
    CodeInFileError
        If it holds anything but tensors and plain values.
    TorchFileError
        If it is damaged, or none of torch's.
    OSError
        If it is not there.
    """
    import torch

    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        if error.errno != errno.EINVAL:  # torch seeks before the beginning of a file that is cut
            raise
        raise TorchFileError(_damage(Path(path), error)) from error
    except pickle.UnpicklingError as error:
        text = str(error)
        if other_file(path) or any(word in text for word in _DAMAGE) or _ends_early(path):
            raise TorchFileError(_damage(Path(path), error)) from None
        raise CodeInFileError(_refusal(text)) from None
    except Exception as error:  # torch raises many types for a damaged file
        raise TorchFileError(_damage(Path(path), error)) from error


def _ends_early(path: Path | str) -> bool:
    """Return whether a file of before version 1.6 ends within one of its pickles."""
    with Path(path).open("rb") as file:
        for _ in range(_PICKLES):
            if file.read(1) != PICKLE:
                return False
            file.seek(-1, 1)
            try:
                for _operation in pickletools.genops(file):
                    pass
            except ValueError:
                return True
    return False


def other_file(path: Path | str, begins: tuple[bytes, ...] = (ZIP, PICKLE)) -> str:
    """Return what a file is by its first bytes, where it is none of those that begin otherwise.

    Parameters
    ----------
    path : path
        The file.
    begins : tuple of bytes
        What it would begin with.

    Returns
    -------
    str
        "" where it begins so.
    """
    with Path(path).open("rb") as file:
        head = file.read(40)
    if not head:
        return "an empty file"
    if head.startswith(begins):
        return ""
    told = f"it begins with {head[:20]!r}"
    if head.lstrip().startswith(b"<"):
        return f"{told}: a web page, as a download leaves it that was refused; fetch it again"
    if head.startswith(b"version https://git-lfs"):
        return f"{told}: a pointer of Git LFS; git lfs pull fetches the file"
    return told


def _damage(path: Path, error: Exception) -> str:
    """Return what is wrong with a file that cannot be read."""
    if other := other_file(path):
        return f"no file of torch: {other}"
    with path.open("rb") as file:
        is_zip = file.read(len(ZIP)) == ZIP
    size = f"{path.stat().st_size:,} bytes"
    if not zipfile.is_zipfile(path) if is_zip else _ends_early(path):
        return f"cut: {size}, without the end of the file; fetch or save it again"
    return f"cut or damaged: {size} ({_reason(error)})"


def _refusal(text: str) -> str:
    """Return why a pickle is refused, without that advice."""
    named = _NAMED.search(text)
    what = f" (it names {named[1]})" if named else ""
    return f"it holds more than tensors and plain values{what}, and code in a file is never run"


def _reason(error: Exception) -> str:
    text = str(error).partition(". ")[0].partition("\n")[0]
    return text if " " in text else type(error).__name__
