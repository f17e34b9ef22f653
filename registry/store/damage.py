"""What cannot be read is told as damage."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from registry.store.durable import StoreError
from registry.store.schema import SchemaError


@contextmanager
def reading(path: str | Path) -> Iterator[None]:
    """Tell of every error of reading a file that the file is damaged.

    Libraries raise nearly anything on bytes that they do not expect: h5py RuntimeError and
    KeyError, h5netcdf AttributeError and TypeError, NumPy MemoryError.

    Parameters
    ----------
    path : str or Path
        What is read in the block, and nothing else.

    Raises
    ------
    StoreError
        If it cannot be read.
    """
    try:
        yield
    except (StoreError, SchemaError):
        raise
    except Exception as error:
        reason = str(error) or type(error).__name__
        raise StoreError(f"{path} is damaged and cannot be read: {reason}") from error
