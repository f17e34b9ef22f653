"""Does once what is the same in every child, in the server from which children are forked.

All that a child needs is imported; installed packages are listed, and git is asked, once; a project
is planned, and a file written and read, since much is looked up at the first.
"""

import gc
import inspect
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages
from tempfile import TemporaryDirectory

import xarray as xr

import registry

for _module in walk_packages(registry.__path__, "registry."):
    import_module(_module.name)
for _name in ("average", "collect", "kinds", "scale"):
    import_module(f"tests.registry.lab.{_name}")
for _name in ("dask.array", "h5netcdf", "pymongo", "tests.faults.children", "tests.faults.descend"):
    import_module(_name)
inspect.stack()  # asks for the file of every module, once


def _begin() -> None:
    from registry.plan.project import open_project
    from registry.plan.sources import code_of
    from registry.store.netcdf import read_file, write_file
    from tests.registry.lab.project import write_project

    with TemporaryDirectory() as folder:
        project = open_project(write_project(Path(folder)))
        project.plan(["mean"])
        code_of("tests.registry.lab.scale", project.root)
        file = Path(folder, "file.nc")
        write_file(xr.Dataset({"value": ("sample", [1.0])}, {"sample": [0]}), file)
        with read_file(file) as dataset:
            float(dataset["value"].mean())


_begin()
gc.collect()
gc.freeze()  # what is there is not looked through in every child
