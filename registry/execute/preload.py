"""What the fork server loads after the stages' own modules, so that no worker has to."""

import inspect
import pickle
from contextlib import suppress

import dask.array
import h5netcdf.legacyapi
import pydantic.dataclasses
import pydantic.type_adapter
import xarray

import registry.execute.experiment
import registry.store.datasets
from registry.declare.plugins import load_plugins
from registry.quiet import show_no_traceback

__all__ = ["dask", "h5netcdf", "pydantic", "registry", "xarray"]

# Of a worker whose starter ended before it had said what is to be done; later ones are recorded.
show_no_traceback(EOFError, pickle.UnpicklingError, ConnectionError)

# What these look up at their first use, they keep; workers inherit it.
with suppress(Exception):  # a worker that needs what cannot be loaded says so itself
    load_plugins()
xarray.Dataset({"value": ("sample", [0.0])})
xarray.backends.list_engines()
inspect.stack()  # asks for the file of every module; Sacred does at every experiment
