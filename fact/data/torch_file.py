"""Files that torch wrote: read as tensors and plain values, never as code."""

from __future__ import annotations

import pickle
import re
from pathlib import Path
from typing import Any

_NAMED = re.compile(r"GLOBAL ([\w.]+)")
"""Which name a pickle has, as torch tells it beside advice to run the file after all."""


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
    except OSError:
        raise
    except pickle.UnpicklingError as error:
        raise CodeInFileError(_refusal(str(error))) from None
    except Exception as error:  # torch raises many types for a damaged file
        raise TorchFileError(f"cut, damaged or no file of torch ({_reason(error)})") from error


def _refusal(text: str) -> str:
    """Return why a pickle is refused, without that advice."""
    named = _NAMED.search(text)
    what = f" (it names {named[1]})" if named else ""
    return f"it holds more than tensors and plain values{what}, and code in a file is never run"


def _reason(error: Exception) -> str:
    text = str(error).partition(". ")[0].partition("\n")[0]
    return text if " " in text else type(error).__name__
