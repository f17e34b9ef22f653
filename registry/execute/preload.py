"""What the fork server loads after the stages' own modules, so that no worker has to."""

import dask.array
import h5netcdf.legacyapi
import pydantic.dataclasses
import pydantic.type_adapter
import xarray

import registry.execute.experiment
import registry.store.datasets

__all__ = ["dask", "h5netcdf", "pydantic", "registry", "xarray"]

# What these look up at their first use, they keep; workers inherit it.
xarray.Dataset({"value": ("sample", [0.0])})
xarray.backends.list_engines()
