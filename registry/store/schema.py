"""Schemas: the dimensions, coordinates, variables and units of a dataset, and their check."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from registry.suggest import nearest
from registry.wording import counted

if TYPE_CHECKING:
    import xarray as xr

CONVENTIONS = "CF-1.11"

DTYPES: dict[str, tuple[str, ...]] = {
    "float": ("float32", "float64"),
    "int": ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    "bool": ("bool",),
    "str": ("str",),
}
"""Kinds of dtype that a variable may ask for, each with the dtypes that netCDF-4 stores."""

STORED_DTYPES = tuple(name for names in DTYPES.values() for name in names)

# Readers turn a variable into something else by these: they are not for stages to set.
RESERVED_ATTRIBUTES = frozenset(
    {"_FillValue", "missing_value", "scale_factor", "add_offset", "_Unsigned", "calendar"}
    | {"dtype", "coordinates"}
)
# Some readers decode such units as spans of time: other numbers come back.
_UNITS_OF_TIME = ("day", "hour", "minute", "second", "millisecond", "microsecond", "nanosecond")
TIME_UNITS = frozenset((*_UNITS_OF_TIME, *(f"{unit}s" for unit in _UNITS_OF_TIME)))

_NAMED = re.compile(r"{(\w+)}")

Migration = Callable[["xr.Dataset", int], "xr.Dataset"]


class SchemaError(ValueError):
    """A dataset, or a schema, that is not as it should be.

    Attributes
    ----------
    faults : tuple of str
        Everything that is wrong, each with what was got and what was expected.
    """

    def __init__(self, subject: str, faults: Iterable[str]):
        self.subject = subject
        self.faults = tuple(faults)
        super().__init__(subject, self.faults)  # both, so that it survives pickling

    def __str__(self) -> str:
        return "\n  - ".join([f"{self.subject}:", *self.faults])


@dataclass(frozen=True)
class Variable:
    """What a schema asks of one variable or coordinate.

    Parameters
    ----------
    dims : tuple of str
        Names of the dimensions, in order; ``()`` for a scalar.
    dtype : str
        A NumPy name (``float32``, ``int64``, ``bool``), ``str``, or a kind: ``float`` is single
        or double precision, ``int`` any integer.
    long_name : str
        What it is, for plots and readers.
    units : str
        In UDUNITS; "1" where it has none. Strings carry no units.
    optional : bool
        Whether a dataset may do without it.
    of : tuple of str
        What a scalar was measured on, with results and settings of a run by name in braces, as
        ``of {n_labelled} {split} images``; each is told of a run that has all that it names.
    """

    dims: tuple[str, ...]
    dtype: str
    long_name: str
    units: str = "1"
    optional: bool = False
    of: tuple[str, ...] = ()

    @property
    def dtypes(self) -> tuple[str, ...]:
        """Names of the dtypes that are accepted."""
        return DTYPES.get(self.dtype, (self.dtype,))

    def measured_on(self, values: Mapping[str, Any]) -> str:
        """Return what it was measured on; "" where nothing of that is known.

        Parameters
        ----------
        values : mapping of str to str
            Results and settings of a run by name, as texts.
        """
        known = [each for each in self.of if values.keys() >= set(_NAMED.findall(each))]
        first, *others = [_NAMED.sub(lambda name: values[name[1]], each) for each in known] or [""]
        return f"{first} ({', '.join(others)})" if others else first

    def faults(self, name: str) -> Iterator[str]:
        """Yield what is wrong with the declaration itself."""
        if self.dtype not in (*DTYPES, *STORED_DTYPES):
            hint = nearest(self.dtype, (*DTYPES, *STORED_DTYPES))
            yield f"{name!r}: unknown dtype {self.dtype!r}{hint}"
        if self.units in TIME_UNITS:
            yield f"{name!r}: readers decode units {self.units!r} as time; expected 's', 'min', 'h'"
        if len(set(self.dims)) < len(self.dims):
            yield f"{name!r}: a dimension stands twice in {self.dims}"


@dataclass(frozen=True)
class Schema:
    """What a kind of dataset holds.

    Parameters
    ----------
    name : str
        As stages name it in what they need.
    version : int
        Raised whenever a reader of older files would have to know.
    title : str
        One line; becomes the file's CF title.
    variables, coords : mapping of str to Variable
        Scalars are variables like all others, with no dimensions.
    references : str
        Where the quantities are defined.
    sharded_along : str or None
        The dimension along which a dataset may be written in parts. Where a variable has it, it
        stands first.
    readable_versions : tuple of int
        Older versions that are read as they are.
    migrate : callable or None
        ``migrate(dataset, version)`` returns an older dataset in today's form.
    renamed : mapping of str to str
        Former names of dimensions, coordinates and variables, each with today's name. Datasets of
        any version are read under today's names; on disk they stay as they were written.
    derived : str
        ``module:function`` that lays down, for readers, what is made of a dataset in parts:
        ``function(dataset, folder, check)``, where no manifest lists what lies in the folder, and
        ``check()`` is called now and then and may raise. "" for nothing.
    by_rows : tuple of str
        Variables of which whole rows are read, never a column: where they are not compressed, they
        lie in the file in one piece, which is the quickest to write and to read.
    first : tuple of str
        Scalars that a list of runs tells first, in this order.

    Raises
    ------
    SchemaError
        If the schema itself cannot be stored or read back.
    """

    name: str
    version: int
    title: str
    variables: Mapping[str, Variable]
    coords: Mapping[str, Variable]
    references: str = ""
    sharded_along: str | None = None
    readable_versions: tuple[int, ...] = ()
    migrate: Migration | None = None
    renamed: Mapping[str, str] = field(default_factory=dict)
    derived: str = ""
    by_rows: tuple[str, ...] = ()
    first: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if faults := list(self._own_faults()):
            raise SchemaError(f"schema {self.name!r} (version {self.version})", faults)

    def _own_faults(self) -> Iterator[str]:
        both = sorted(set(self.variables) & set(self.coords))
        yield from (f"{name!r} is both a variable and a coordinate" for name in both)
        dims = {dim for variable in self.declared().values() for dim in variable.dims}
        for name, variable in self.declared().items():
            if not name or "/" in name or any(map(str.isspace, name)):
                yield f"{name!r}: a name has no '/' and no blanks"
            if self.sharded_along in variable.dims[1:]:
                yield f"{name!r}: {self.sharded_along!r} must be first of {variable.dims}"
            if name in dims and variable.dims != (name,):
                yield f"{name!r} is a dimension; only its own coordinate has that name"
            yield from variable.faults(name)
        for name in self.first:
            if name not in self.variables or self.variables[name].dims:
                yield f"{name!r} is told first, and is no scalar of it"
        for old in self.renamed.keys() & {*dims, *self.declared()}:
            yield f"{old!r} is declared, and a former name of {self.renamed[old]!r} too"

    def declared(self) -> dict[str, Variable]:
        """Return coordinates and variables together, by name."""
        return {**self.coords, **self.variables}

    def check(self, dataset: xr.Dataset, part: bool = False) -> None:
        """Compare a dataset with this schema; values are looked at only in memory.

        Parameters
        ----------
        dataset : xr.Dataset
            What is to be written, or was read.
        part : bool
            Whether this is one part along `sharded_along`: what has not that dimension may be
            left to the summary, and to other parts.

        Raises
        ------
        SchemaError
            With every fault at once: missing and unknown names, dimensions, dtypes, coordinates
            that are repeated or missing, attributes that readers would act upon.
        """
        faults = [
            *self._missing(dataset, part),
            *self._unknown(dataset),
            *self._misplaced(dataset),
            *self._unlike(dataset),
        ]
        if faults:
            raise SchemaError(f"not a {self.name!r} dataset (version {self.version})", faults)

    def _missing(self, dataset: xr.Dataset, part: bool) -> Iterator[str]:
        for name, variable in self.declared().items():
            may_lack = variable.optional or (part and self.sharded_along not in variable.dims)
            if not may_lack and name not in dataset.variables:
                what = "coordinate" if name in self.coords else "variable"
                yield f"missing {what} {name!r}, {variable.dtype} {_shape(variable.dims)}"

    def _unknown(self, dataset: xr.Dataset) -> Iterator[str]:
        known = self.declared()
        for name in dataset.variables:
            if name not in known:
                what = "coordinate" if name in dataset.coords else "variable"
                yield f"unknown {what} {name!r}{nearest(str(name), known)}"

    def _misplaced(self, dataset: xr.Dataset) -> Iterator[str]:
        for name in self.coords:
            if name in dataset.data_vars:
                yield f"{name!r} is a variable; expected a coordinate (set_coords)"
        for name in self.variables:
            if name in dataset.coords:
                yield f"{name!r} is a coordinate; expected a variable (reset_coords)"

    def _unlike(self, dataset: xr.Dataset) -> Iterator[str]:
        for name, expected in self.declared().items():
            if name not in dataset.variables:
                continue
            got = dataset.variables[name]
            if got.dims != expected.dims:
                yield f"{name!r} has dims {_shape(got.dims)}; expected {_shape(expected.dims)}"
            if fault := _dtype_fault(got, expected):
                yield f"{name!r} {fault}"
            if reserved := sorted(RESERVED_ATTRIBUTES & set(got.attrs)):
                yield f"{name!r} has attributes that change how it is read: {', '.join(reserved)}"
            if name in self.coords and got.dims == (name,):
                yield from _coordinate_faults(name, dataset)

    def label(self, dataset: xr.Dataset) -> xr.Dataset:
        """Return the dataset with the attributes of this schema; the argument is left as it is.

        Variables get ``long_name`` and ``units``, the dataset ``Conventions``, ``title``,
        ``references``, ``schema`` and ``schema_version``. What a stage set besides stays.
        """
        labelled = dataset.copy(deep=False)
        for name, variable in self.declared().items():
            if name in labelled.variables:
                units = {} if variable.dtype == "str" else {"units": variable.units}
                labelled[name].attrs.update({"long_name": variable.long_name, **units})
        return labelled.assign_attrs(
            Conventions=CONVENTIONS,
            title=self.title,
            references=self.references,
            schema=self.name,
            schema_version=self.version,
        )

    def upgrade(self, dataset: xr.Dataset) -> xr.Dataset:
        """Return a dataset that was read in the form of this version.

        Raises
        ------
        SchemaError
            If it follows another schema, a newer version than this code knows, or an older one
            that it can neither read nor migrate.
        """
        name = str(dataset.attrs.get("schema", self.name))
        version = _version(dataset.attrs.get("schema_version", self.version))
        if name != self.name:
            raise SchemaError("wrong schema", [f"got a {name!r} dataset; expected {self.name!r}"])
        known = {*dataset.dims, *dataset.variables}
        names = {old: new for old, new in self.renamed.items() if old in known}
        dataset = dataset.rename(names) if names else dataset
        if version == self.version or version in self.readable_versions:
            return dataset
        if version < self.version and self.migrate is not None:
            migrated = self.migrate(dataset, version)
            return migrated.assign_attrs(schema_version=self.version)
        raise SchemaError(f"{name!r} dataset of another version", [self._way_on(version, dataset)])

    def _way_on(self, version: int, dataset: xr.Dataset) -> str:
        readable = ", ".join(map(str, sorted((*self.readable_versions, self.version))))
        if version > self.version:
            return (
                f"version {version} was written by newer code; this code reads {readable}: "
                "install the newer code"
            )
        again = str(dataset.attrs.get("experiment", "")) or "<experiment>"
        return (
            f"version {version} is older than this code, which reads {readable}: "
            f"make it again with `factbook run '{again}'`"
        )


def _version(stored: Any) -> int:
    """Return a version as a file has it: its attributes are whatever somebody wrote."""
    try:
        return int(stored.item() if hasattr(stored, "item") else stored)
    except (TypeError, ValueError, OverflowError):
        fault = f"schema_version is {stored!r}; expected a whole number"
        raise SchemaError("a dataset of no version", [fault]) from None


def _shape(dims: Iterable[object]) -> str:
    return f"({', '.join(map(str, dims))})"


def dtype_name(dtype: Any) -> str:
    """Return the name of a NumPy dtype as schemas call it: all strings are ``str``."""
    return "str" if dtype.kind in "UTO" else str(dtype.name)


def _dtype_fault(got: xr.Variable, expected: Variable) -> str | None:
    name = dtype_name(got.dtype)
    if name == "str" and got.dtype.kind == "O" and got.chunks is None:
        found = set(map(type, got.values.ravel().tolist()))
        kinds = sorted({kind.__name__ for kind in found} - {"str"})
        name = " and ".join(kinds) if kinds else name
    if name in expected.dtypes:
        return None
    hint = "; netCDF stores no float16: cast to float32" if name == "float16" else ""
    return f"is {name}; expected {' or '.join(expected.dtypes)}{hint}"


def _coordinate_faults(name: str, dataset: xr.Dataset) -> Iterator[str]:
    index = dataset.indexes.get(name)
    if index is None or index.nlevels > 1:
        yield f"{name!r} has {'no' if index is None else 'a multi-'}index; expected one value each"
        return
    if missing := int(index.isna().sum()):
        yield f"coordinate {name!r} has {counted(missing, 'missing value')}"
    if not index.is_unique:
        repeated = index[index.duplicated()].unique()
        shown = ", ".join(repr(value) for value in repeated[:3].tolist())
        yield f"coordinate {name!r} repeats {counted(len(repeated), 'value')}: {shown}"


def encode_attribute(value: Any) -> Any:
    """Return a value as a netCDF attribute that :func:`decode_attribute` turns back.

    Numbers, plain strings and one-dimensional numeric arrays stay; booleans, None, mappings and
    lists become JSON. Dates become ISO strings, integers beyond 64 bits decimal ones, and so they
    come back.
    """
    if _is_vector_of_numbers(value):
        return value
    plain = plain_value(value)
    if isinstance(plain, str):
        return json.dumps(plain) if _reads_as_json(plain) else plain
    if isinstance(plain, float) or (isinstance(plain, int) and not isinstance(plain, bool)):
        return plain if isinstance(plain, float) or -(2**63) <= plain < 2**63 else str(plain)
    return json.dumps(json_value(plain), ensure_ascii=False, allow_nan=False)


def _is_vector_of_numbers(value: Any) -> bool:
    is_vector = hasattr(value, "dtype") and value.ndim == 1 and value.size > 1
    return is_vector and dtype_name(value.dtype) in (*DTYPES["float"], *DTYPES["int"])


def decode_attribute(value: Any) -> Any:
    """Return what was given to :func:`encode_attribute`, as plain Python."""
    if isinstance(value, str):
        return json.loads(value) if _reads_as_json(value) else value
    return value.item() if hasattr(value, "item") and not getattr(value, "ndim", 0) else value


def encode_attributes(attributes: Mapping[Any, Any]) -> dict[str, Any]:
    """Encode every attribute of a dataset or variable."""
    return {str(name): encode_attribute(value) for name, value in attributes.items()}


def decode_attributes(attributes: Mapping[Any, Any]) -> dict[str, Any]:
    """Decode every attribute of a dataset or variable, as ``dataset.attrs["config"]``."""
    return {str(name): decode_attribute(value) for name, value in attributes.items()}


def _reads_as_json(text: str) -> bool:
    if text not in ("true", "false", "null") and text[:1] not in ("{", "[", '"'):
        return False
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def plain_value(value: Any) -> Any:
    """Return a value as what JSON knows: NumPy's, dates, paths and dataclasses become plain.

    Raises
    ------
    TypeError
        If it holds anything else.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, PurePath):
        return str(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = dataclasses.asdict(value)
    if isinstance(value, Mapping):
        return {str(key): plain_value(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        entries = sorted(value) if isinstance(value, set | frozenset) else value
        return [plain_value(entry) for entry in entries]
    raise TypeError(f"got {type(value).__name__}; expected what JSON can hold: {value!r}")


def json_value(value: Any) -> Any:
    """Return a value as strict JSON knows it: "nan", "inf" and "-inf" are strings in it.

    Raises
    ------
    TypeError
        If it holds what JSON cannot.
    """
    value = plain_value(value)
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {key: json_value(entry) for key, entry in value.items()}
    return [json_value(entry) for entry in value] if isinstance(value, list) else value
