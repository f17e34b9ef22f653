"""The tables of a file, each read by itself: every key with its type, every name by its rules."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from registry.declare.declared import (
    CELL,
    ProjectTable,
    Reference,
    Resource,
    SelectionError,
    parse_reference,
)
from registry.declare.executors import (
    DEMAND,
    Demand,
    Executor,
    executor_kind,
    executor_kinds,
)
from registry.declare.faults import (
    ConfigError,
    FaultList,
    KeyPath,
    StageError,
    describe_value,
    unfit,
)
from registry.declare.licences import TERMS
from registry.declare.plugins import Kind, common_keys, families, kinds, load_plugins
from registry.declare.settings import NO_RULES, KeyRules, Settings
from registry.declare.stage import Stage, load_stage
from registry.store.parts import MOST_PARTS
from registry.suggest import nearest

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")
_DATABASE = re.compile(r"[A-Za-z0-9_-]{1,63}")
_LETTERS = "letters, digits, '_' and '-'"
_TABLES = ("project", "experiments", "suites", "parts", "executors", "resources")
_EXPERIMENT_KEYS = ("stage", "needs", "config", "matrix", "description", "parts")

Values = Mapping[str, Any]
T = TypeVar("T")


@dataclass(frozen=True)
class DraftCell:
    """One named cell of a draft: what it sets beside the rest, and where it stands in the file."""

    name: str
    references: Mapping[str, Reference | None]
    config: Values
    where: KeyPath


@dataclass(frozen=True)
class Draft:
    """An experiment read by itself, before it is joined with what it needs.

    What was faulty has been reported, and no further fault follows from it: it is None, or left
    out with its key in ``faulty``.
    """

    name: str
    stage: Stage | None
    references: Mapping[str, Reference | None]
    config: Values
    matrix: Mapping[str, tuple[Any, ...]]
    faulty: frozenset[str]
    description: str
    cells: tuple[DraftCell, ...] = ()
    parts: int = 1

    def all_references(self) -> Iterator[Reference]:
        """Yield what fills its slots, in all cells and in each."""
        for references in (self.references, *(cell.references for cell in self.cells)):
            yield from filter(None, references.values())

    @property
    def slots_of_cells(self) -> dict[str, tuple[KeyPath, ...]]:
        """The slots that named cells fill on their own, with where in the file each is filled."""
        places: dict[str, tuple[KeyPath, ...]] = {}
        for cell in self.cells:
            for slot in cell.references:
                places[slot] = (*places.get(slot, ()), (*cell.where, "needs", slot))
        return places

    @property
    def slots(self) -> dict[str, tuple[KeyPath, ...]]:
        """The slots that are filled, with where in the file each is filled first."""
        return self.slots_of_cells | {slot: (self.path("needs", slot),) for slot in self.references}

    def path(self, *parts: str | int) -> KeyPath:
        """Where a part of it stands in the file."""
        return ("experiments", self.name, *parts)


class DraftReader:
    """Reads the tables of a file, collecting faults.

    Attributes
    ----------
    faults : FaultList
        What is wrong so far; each fault is reported once, where it begins.
    project, resources, drafts, suites, executors, demands
        What was read.
    owners : dict of str to str
        The table of every name that can be needed, also of what is faulty.
    provided : dict of str to str
        What every name provides, where that is known.
    """

    def __init__(self, faults: FaultList):
        self.faults = faults
        self.project = ProjectTable()
        self.resources: dict[str, Resource] = {}
        self.drafts: dict[str, Draft] = {}
        self.suites: dict[str, tuple[str, ...]] = {}
        self.executors: dict[str, Executor] = {}
        self.demands: dict[str, Demand] = {}
        self.owners: dict[str, str] = {}
        self.provided: dict[str, str] = {}
        self.parts: dict[str, int] = {}
        self._load_stage = functools.cache(
            lambda name: _attempt(f"stage {name!r}", partial(load_stage, name))
        )
        self._has_all_plugins = True

    def read(self, tables: Values) -> None:
        """Read everything."""
        self.project = self._read_project(self._table(("project",), tables.get("project", {})))
        self._load_plugins(self.project.plugins)
        self._check_tables(tables)
        for family in families():
            self._read_family(family, self._table((family,), tables.get(family, {})))
        self._read_parts(self._table(("parts",), tables.get("parts", {})))
        self._read_experiments(self._table(("experiments",), tables.get("experiments", {})))
        self._read_suites(self._table(("suites",), tables.get("suites", {})))
        self._read_executors(self._table(("executors",), tables.get("executors", {})))
        self._read_demands(self._table(("resources",), tables.get("resources", {})))
        self._check_times()

    def fitting(self, kinds: Collection[str]) -> set[str]:
        """Return the names that provide one of these kinds of things; all names for none."""
        return {name for name, kind in self.provided.items() if not kinds or kind in kinds}

    def add_unknown(self, where: KeyPath, what: str, name: str, *known: Iterable[str]) -> None:
        """Add an unknown name, unless a plug-in that failed may well be what knows it.

        A near match is searched in each group of known names, the first one first.
        """
        tails = [nearest(name, group) for group in known]
        near = next((tail for tail in tails if tail.startswith("; did you mean")), None)
        near = near or next(filter(None, tails), "")
        if self._has_all_plugins or near.startswith("; did you mean"):
            self.faults.add(where, f"{what} {name!r}{near}")

    # types of values

    def _typed(self, where: KeyPath, value: Any, kind: type[T], expected: str) -> T | None:
        if isinstance(value, kind):
            return value
        self.faults.add(where, f"expected {expected}; got {describe_value(value)}")
        return None

    def _table(self, where: KeyPath, value: Any) -> dict[str, Any]:
        return self._typed(where, value, dict, "a table") or {}

    def _string(self, where: KeyPath, value: Any) -> str | None:
        text = self._typed(where, value, str, "a string")
        if text is not None and (why := unfit(text)):
            self.faults.add(where, why)
            return None
        return text

    def _strings(self, where: KeyPath, value: Any) -> tuple[str, ...]:
        entries = enumerate(self._typed(where, value, list, "a list of strings") or ())
        texts = (self._string((*where, index), entry) for index, entry in entries)
        return tuple(text for text in texts if text is not None)

    def _check_keys(self, where: KeyPath, table: Values, known: Iterable[str]) -> None:
        for key in sorted(table.keys() - set(known)):
            self.faults.add((*where, key), f"unknown key{nearest(key, known)}")

    def _plain(self, where: KeyPath, table: Mapping[Any, Any]) -> dict[Any, Any]:
        """Return the entries of a table that JSON can hold; the others are reported."""
        return {key: value for key, value in table.items() if self._is_plain((*where, key), value)}

    def _is_plain(self, where: KeyPath, value: Any) -> bool:
        """Check that records can hold a value: no date, no infinity."""
        if isinstance(value, dict):
            return len(self._plain(where, value)) == len(value)
        if isinstance(value, list):
            return len(self._plain(where, dict(enumerate(value)))) == len(value)
        if why := unfit(value):
            self.faults.add(where, why)
        return not why

    def _renamed(self, where: KeyPath, values: Values, rules: KeyRules) -> dict[str, Any]:
        """Return values under today's names; keys under old ones are noted."""
        for path, name, is_double in rules.old_keys(values):
            if is_double:
                self.faults.add((*where, *path), f"given as {name!r} too, its name now")
            self.faults.add_old_name((*where, *path), path[-1], name)
        return rules.renamed(values)

    # [project], plug-ins, tables and names

    def _read_project(self, table: Values) -> ProjectTable:
        texts = {"name": _NAME, "database": _DATABASE, "store": None}
        self._check_keys(("project",), table, (*texts, "plugins"))
        given = {key: self._string(("project", key), table[key]) for key in texts if key in table}
        for key, value in given.items():
            allowed, most = texts[key], 63 if key == "database" else 100
            if value is not None and allowed and not allowed.fullmatch(value):
                message = f"expected {_LETTERS}, at most {most}; got {value!r}"
                self.faults.add(("project", key), message)
        if given.get("store") == "":
            self.faults.add(("project", "store"), "expected a folder; got ''")
        plugins = self._strings(("project", "plugins"), table.get("plugins", []))
        return ProjectTable(plugins=plugins, **{k: v for k, v in given.items() if v is not None})

    def _load_plugins(self, modules: tuple[str, ...]) -> None:
        self._load_plugin(("project",), "an installed plug-in", load_plugins)
        for index, name in enumerate(modules):
            where: KeyPath = ("project", "plugins", index)
            self._load_plugin(where, f"plug-in {name!r}", partial(load_plugins, (name,)))

    def _load_plugin(self, where: KeyPath, what: str, load: Callable[[], None]) -> None:
        if why := _attempt(what, load):
            self.faults.add(where, why)
            self._has_all_plugins = False

    def _check_tables(self, tables: Values) -> None:
        known = (*_TABLES, *families())
        for name in (name for name in tables if name not in known):
            self.add_unknown((name,), "unknown table", name, known)
            for entry in tables[name] if isinstance(tables[name], dict) else ():
                self.owners.setdefault(entry, name)  # so that nobody misses it

    def _check_name(self, table: str, name: str) -> None:
        if not _NAME.fullmatch(name):
            message = f"bad name {name!r}: expected {_LETTERS}, at most 100"
            self.faults.add((table, name), message)

    def _claim(self, table: str, name: str) -> None:
        """Check the name of what can be needed, and that nothing else has it."""
        self._check_name(table, name)
        owner = self.owners.setdefault(name, table)
        if owner != table:
            self.faults.add((table, name), f"the name {name!r} stands under {owner!r} too")

    # resources

    def _read_family(self, family: str, table: Values) -> None:
        for name, value in table.items():
            self._claim(family, name)
            if self._typed((family, name), value, dict, "a table") is not None:
                settings = dict(value)
                kind = self._kind((family, name), family, settings.pop("kind", None))
                if kind is not None:
                    self._read_resource(name, kind, settings)

    def _kind(self, where: KeyPath, family: str, name: Any) -> Kind | None:
        table = kinds(family)
        if name is None:
            self.faults.add(where, f"key 'kind' is missing{nearest('', table)}")
        elif self._string((*where, "kind"), name) is None:
            return None
        elif name not in table:
            self.add_unknown((*where, "kind"), "unknown kind", name, table)
        return table.get(name)

    def _read_resource(self, name: str, kind: Kind, values: Values) -> None:
        where: KeyPath = (kind.family, name)
        self.provided.setdefault(name, kind.provides)
        common = [key for key in common_keys(kind) if key in values]
        terms = self._settings(where, TERMS, {key: values[key] for key in common})
        own = {key: value for key, value in values.items() if key not in common}
        values = self._renamed(where, own, kind.settings.rules)
        settings = self._settings(where, kind.settings, values)
        if settings is None or terms is None:
            return
        config = kind.settings.plain(settings)
        row = (name, kind.family, kind.name, kind.provides)
        rules = kind.settings.rules
        self.resources.setdefault(name, Resource(*row, settings, config, rules, terms=terms))

    # experiments, each by itself

    def _read_experiments(self, table: Values) -> None:
        for name, value in table.items():
            self._claim("experiments", name)
            if self._typed(("experiments", name), value, dict, "a table") is not None:
                draft = self.drafts[name] = self._draft(name, value)
                if draft.stage is not None:
                    self.provided.setdefault(name, draft.stage.output.name)

    def _draft(self, name: str, table: Values) -> Draft:
        where: KeyPath = ("experiments", name)
        self._check_keys(where, table, _EXPERIMENT_KEYS)
        stage = self._stage(where, table)
        inner = {key: table.get(key, {}) for key in ("needs", "config", "matrix")}
        listed, inner["matrix"] = _named_cells(inner["matrix"])
        needs, config, matrix = (self._table((*where, key), inner[key]) for key in inner)
        rules = stage.settings.rules if stage else NO_RULES
        config = self._renamed((*where, "config"), config, rules)
        matrix = self._renamed((*where, "matrix"), matrix, rules)
        plain = self._plain((*where, "config"), config)
        fixed = rules.runtime
        before = len(self.faults)
        cells = self._cells((*where, "matrix"), listed, stage)
        self._check_cells(cells, matrix)
        bad_cells = {CELL} if len(self.faults) > before else set()
        axes = {k: self._axis((*where, "matrix", k), v, k in fixed) for k, v in matrix.items()}
        bad_axes = {key for key, values in axes.items() if not values}
        return Draft(
            name,
            stage if all(isinstance(value, dict) for value in inner.values()) else None,
            self._references((*where, "needs"), needs, stage),
            plain,
            {key: values for key, values in axes.items() if values},
            frozenset(config.keys() - plain.keys() | bad_axes | bad_cells),
            self._string((*where, "description"), table.get("description", "")) or "",
            cells,
            self._parts_of(where, stage, table),
        )

    def _cells(
        self, where: KeyPath, listed: Mapping[KeyPath, Any], stage: Stage | None
    ) -> tuple[DraftCell, ...]:
        """Read the cells of a matrix that have names."""
        cells = []
        rules = stage.settings.rules if stage else NO_RULES
        for place, value in listed.items():
            at = (*where, *place)
            if self._typed(at, value, dict, "a table") is None:
                continue
            table = dict(value)
            if CELL not in table:
                self.faults.add(at, f"key {CELL!r} is missing: the name of the cell")
            name = self._string((*at, CELL), table.pop(CELL, "x")) or "x"
            if not _NAME.fullmatch(name):
                self.faults.add((*at, CELL), f"bad name {name!r}: expected {_LETTERS}, at most 100")
            needs = self._table((*at, "needs"), table.pop("needs", {}))
            config = self._plain(at, self._renamed(at, table, rules))
            references = self._references((*at, "needs"), needs, stage)
            cells.append(DraftCell(name, references, config, at))
        return tuple(cells)

    def _check_cells(self, cells: tuple[DraftCell, ...], matrix: Values) -> None:
        """Check that named cells have one name each, and set nothing that an axis varies."""
        first: dict[str, DraftCell] = {}
        for cell in cells:
            if first.setdefault(cell.name, cell) is not cell:
                self.faults.add((*cell.where, CELL), f"a cell {cell.name!r} stands before it")
            for key in cell.config.keys() & matrix.keys():
                self.faults.add((*cell.where, key), "is an axis of the matrix too")

    def _references(
        self, where: KeyPath, needs: Values, stage: Stage | None
    ) -> dict[str, Reference | None]:
        """Read what fills slots; of a list each under its number."""
        lists = {name: slot for name, slot in stage.slots.items() if slot.is_list} if stage else {}
        found = {}
        for name, value in needs.items():
            if name not in lists or not isinstance(value, list):
                found[name] = self._reference((*where, name), value)
                continue
            if not value:
                self.faults.add((*where, name), "empty; expected at least one name")
                found[name] = None
            for index, text in enumerate(value):
                number = lists[name].numbered(index + 1)
                found[number] = self._reference((*where, name, index), text)
        return found

    def _stage(self, where: KeyPath, table: Values) -> Stage | None:
        if "stage" not in table:
            self.faults.add(where, "key 'stage' is missing")
            return None
        where = (*where, "stage")
        name = self._string(where, table["stage"])
        stage = None if name is None else self._load_stage(name)
        if isinstance(stage, str):
            self.faults.add(where, stage)
            return None
        if name and stage and name != stage.name:
            self.faults.add_old_name(where, name, stage.name)
        return stage

    # parts, by stage and by experiment

    def _read_parts(self, table: Values) -> None:
        """Read into how many parts the tasks of stages are cut."""
        for name, value in table.items():
            stage = self._load_stage(name)
            if isinstance(stage, str):
                self.faults.add(("parts", name), stage)
            elif number := self._number_of_parts(("parts", name), stage, value):
                self.parts[stage.name] = number

    def _parts_of(self, where: KeyPath, stage: Stage | None, table: Values) -> int:
        if stage is None:
            return 1
        if "parts" not in table:
            return self.parts.get(stage.name, 1)
        return self._number_of_parts((*where, "parts"), stage, table["parts"]) or 1

    def _number_of_parts(self, where: KeyPath, stage: Stage, value: Any) -> int | None:
        is_number = isinstance(value, int) and not isinstance(value, bool)
        if not (is_number and 1 <= value <= MOST_PARTS):
            expected = f"expected a number of parts, 1 to {MOST_PARTS:,}"
            self.faults.add(where, f"{expected}; got {describe_value(value)}")
            return None
        if value > 1 and stage.uncut:
            self.faults.add(where, stage.uncut)
            return None
        return int(value)

    def _reference(self, where: KeyPath, value: Any) -> Reference | None:
        if (text := self._string(where, value)) is None:
            return None
        try:
            reference = parse_reference(text)
        except SelectionError as error:
            self.faults.add(where, str(error))
            return None
        if reference.is_pattern or reference.means_cells:
            self.faults.add(where, f"a need names one thing; got the pattern {text!r}")
            return None
        return reference

    def _axis(self, where: KeyPath, values: Any, is_runtime: bool) -> tuple[Any, ...] | None:
        if self._typed(where, values, list, "a list of values") is None:
            return None
        if not values:
            self.faults.add(where, "empty; expected at least one value")
        elif is_runtime:
            message = "cannot change the result, so it is no axis; set it in `config`"
            self.faults.add(where, message)
        elif self._is_plain(where, values):
            return tuple(values)
        return None

    # [suites]

    def _read_suites(self, table: Values) -> None:
        for name, value in table.items():
            self._check_name("suites", name)
            if name in self.drafts:  # a resource may have it: those are needed, suites are run
                self.faults.add(("suites", name), f"{name!r} is an experiment's name too")
            if value == []:
                self.faults.add(("suites", name), "empty; expected names of experiments")
            self.suites[name] = self._strings(("suites", name), value)

    # [executors] and [resources]

    def _read_executors(self, table: Values) -> None:
        for name, value in table.items():
            self._check_name("executors", name)
            where: KeyPath = ("executors", name)
            values = dict(self._table(where, value))
            kind, demand = values.pop("kind", None), values.pop("resources", {})
            asked = self._settings((*where, "resources"), DEMAND, demand)
            known = executor_kinds()
            if kind is None:
                self.faults.add(where, f"key 'kind' is missing{nearest('', known)}")
            elif self._string((*where, "kind"), kind) and kind not in known:
                self.faults.add((*where, "kind"), f"unknown kind {kind!r}{nearest(kind, known)}")
            elif kind in known and (settings := self._executor_settings(where, kind, values)):
                self.executors[name] = Executor(name, kind, settings, asked or Demand())

    def _executor_settings(self, where: KeyPath, kind: str, values: Values) -> Any:
        found = _attempt(f"executor kind {kind!r}", partial(executor_kind, kind))
        if isinstance(found, str):
            self.faults.add((*where, "kind"), found)
            return None
        return self._settings(where, found, values)

    def _read_demands(self, table: Values) -> None:
        for path, value in _leaves(table):
            name, where = ".".join(path), ("resources", *path)
            stage = self._load_stage(name) if "." in name else None
            if name not in self.drafts and not isinstance(stage, Stage):
                stages = {draft.stage.name for draft in self.drafts.values() if draft.stage}
                self.add_unknown(where, "unknown experiment or stage", name, self.drafts, stages)
            demand = self._settings(where, DEMAND, value)
            if demand is not None:
                self.demands[stage.name if isinstance(stage, Stage) else name] = demand

    def _check_times(self) -> None:
        """A run that is told to end as soon as it begins would begin again for ever."""
        executors = self.executors.values()
        notices = {e.name: e.settings.notice for e in executors if hasattr(e.settings, "notice")}
        asked: dict[KeyPath, dict[str, Demand]] = {
            ("executors", e.name, "resources"): {e.name: e.demand} for e in executors
        }
        asked |= {
            ("resources", name): dict.fromkeys(notices, d) for name, d in self.demands.items()
        }
        for where, demands in asked.items():
            for name, demand in demands.items():
                if demand.time and demand.time <= (notice := notices.get(name, 0)):
                    self.faults.add(
                        (*where, "time"),
                        f"{demand.time} s is not above the notice of {name!r}, {notice} s: "
                        "runs would be told to end as they begin",
                    )

    def _settings(self, where: KeyPath, settings: Settings, values: Any) -> Any:
        """Return what plain values describe; None where it is faulty."""
        if self._typed(where, values, dict, "a table") is None:
            return None
        plain = self._plain(where, values)
        try:
            return settings.validate(plain)
        except ConfigError as error:
            for fault in error.faults:
                if not (values.keys() - plain.keys()).intersection(fault.keys[:1]):
                    self.faults.add((*where, *fault.keys), fault.message)
            return None


def _leaves(table: Values, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield tables that hold no table alone: ``[resources.fact.train_sae]`` needs no quotes."""
    for key, value in table.items():
        is_branch = isinstance(value, dict) and value and all(map(_is_table, value.values()))
        yield from _leaves(value, (*path, key)) if is_branch else [((*path, key), value)]


def _is_table(value: Any) -> bool:
    return isinstance(value, dict)


def _named_cells(matrix: Any) -> tuple[dict[KeyPath, Any], Any]:
    """Return the named cells of a matrix, each with its place, and the matrix without them.

    A matrix is a list of them, or has such a list as `cell`.
    """
    if isinstance(matrix, list) and matrix:
        return {(index,): value for index, value in enumerate(matrix)}, {}
    listed = matrix.get(CELL) if isinstance(matrix, dict) else None
    if not isinstance(listed, list) or not any(isinstance(value, dict) for value in listed):
        return {}, matrix
    rest = {key: values for key, values in matrix.items() if key != CELL}
    return {(CELL, index): value for index, value in enumerate(listed)}, rest


def _attempt(what: str, load: Callable[[], T]) -> T | str:
    """Return what is loaded, or why it cannot be: stages and plug-ins are somebody else's code."""
    try:
        return load()
    except StageError as error:
        return str(error)
    except Exception as error:
        return f"{what} raised {type(error).__name__}: {error}"
