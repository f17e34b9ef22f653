"""Errors about what was asked for, with the near matches of every look-up."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

_EXTRAS = {
    "networks": ("torch", "torchvision", "bcos", "einops", "safetensors"),
    "dashboard": ("streamlit", "altair", "jinja2", "vl_convert"),
    "baselines": ("zennit", "sklearn"),
    "siglip": ("open_clip",),
    "language": ("transformers",),
    "timm": ("timm",),
    "map": ("openTSNE",),
    "figures": ("matplotlib",),
    "masks": ("pycocotools",),
    "parquet": ("pyarrow",),
    "slurm": ("submitit",),
    "dask": ("distributed",),
}


class RefusalError(Exception):
    """What was asked for cannot be done: the message says why, and needs no traceback.

    Attributes
    ----------
    command : str
        What to type to mend it, as the message says; "" where no single command does.
    is_damaged : bool
        Whether a dataset is there and is not as it was written.
    """

    def __init__(self, *args: object, command: str = "", is_damaged: bool = False):
        super().__init__(*args)
        self.command = command
        self.is_damaged = is_damaged


@contextmanager
def needs_extras() -> Iterator[None]:
    """Say how to install what a block imports and is missing, where an extra of factbook brings it.

    Raises
    ------
    RefusalError
        With the command; any other missing module stays a ModuleNotFoundError.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        for extra, modules in _EXTRAS.items():
            if missing in modules:
                command = f"pip install 'factbook[{extra}]'"
                raise RefusalError(f"this needs {missing}: {command}", command=command) from error
        raise


def nearest(name: str, known: Iterable[str], most: int = 8) -> str:
    """Return the tail of an error about an unknown name.

    Parameters
    ----------
    name : str
        What was asked for.
    known : iterable of str
        What there is.
    most : int
        How many known names are listed where none is near.

    Returns
    -------
    str
        ``"; did you mean 'x'?"``, or ``"; expected one of 'x', 'y'"``, or "" with nothing known.
    """
    known = sorted(set(known))
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    if near := near or [each for each in known if each.casefold() == name.casefold()]:
        return f"; did you mean {near[0]!r}?"
    if not known:
        return ""
    listed = ", ".join(map(repr, known[:most])) + (", …" if len(known) > most else "")
    return f"; expected one of {listed}"
