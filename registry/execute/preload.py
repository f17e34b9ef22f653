"""What the fork server loads after the stages' own modules, so that no worker has to."""

import inspect
import pickle
import sys
from contextlib import suppress
from types import TracebackType

import dask.array
import h5netcdf.legacyapi
import pydantic.dataclasses
import pydantic.type_adapter
import xarray

import registry.execute.experiment
import registry.store.datasets
from registry.declare.plugins import load_plugins

__all__ = ["dask", "h5netcdf", "pydantic", "registry", "xarray"]


def _end(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """End a worker without a word whose starter ended before it had said what is to be done."""
    if not issubclass(kind, (EOFError, pickle.UnpicklingError, ConnectionError)):
        sys.__excepthook__(kind, error, trace)


sys.excepthook = _end  # of the server and of workers that begin; one at work tells its own errors

# What these look up at their first use, they keep; workers inherit it.
with suppress(Exception):  # a worker that needs what cannot be loaded says so itself
    load_plugins()
xarray.Dataset({"value": ("sample", [0.0])})
xarray.backends.list_engines()
inspect.stack()  # asks for the file of every module; Sacred does at every experiment
