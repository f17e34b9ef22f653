"""Imports all that a child needs, once, in the server from which children are forked."""

import inspect
from importlib import import_module
from pkgutil import walk_packages

import registry

for _module in walk_packages(registry.__path__, "registry."):
    import_module(_module.name)
for _name in ("average", "collect", "kinds", "scale"):
    import_module(f"tests.registry.lab.{_name}")
for _name in ("dask.array", "h5netcdf", "pymongo", "tests.faults.children", "tests.faults.descend"):
    import_module(_name)
inspect.stack()  # asks for the file of every module, once
