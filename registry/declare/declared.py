"""What a declaration holds: frozen nouns, validated and resolved.

References point at what exists and fits, and every cell of a matrix has its whole configuration.
Planning needs no stage and imports nothing any more.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from fnmatch import translate
from pathlib import Path
from typing import Any

from registry.declare.executors import Demand, Executor
from registry.declare.faults import is_too_deep
from registry.declare.licences import NO_TERMS, Permission, Terms, permission_of
from registry.declare.settings import NO_RULES, KeyRules
from registry.suggest import RefusalError, nearest

_BARE = re.compile(r"[A-Za-z_][A-Za-z0-9_./+-]*")
_WORD = re.compile(r'[^\s,=\[\]{}"]+')
_LABEL = re.compile(r"\s*([^\s,=\[\]]+)\s*=\s*")
_NAMED = re.compile(r"\s*[A-Za-z0-9_*?-]+\s*[,\]]")
_END = re.compile(r"\s*([,\]])")
_KEYWORDS = {"true": True, "false": False, "null": None}
CELL = "cell"
"""The axis of named cells, and the key of their names."""


class SelectionError(RefusalError, ValueError):
    """A name that selects nothing, or several where one is wanted, or cannot be read."""


@dataclass(frozen=True)
class Reference:
    """A name of an experiment, a resource or a cell, as somebody wrote it.

    Attributes
    ----------
    name : str
        The declared name; where experiments are selected it may hold ``*`` and ``?``.
    values : tuple of (str, value)
        The axes that are named, with one value each: all of them for a cell, some of them for
        a partial cell, none for the whole experiment.
    """

    name: str
    values: tuple[tuple[str, Any], ...] = ()

    def __str__(self) -> str:
        parts = ",".join(f"{label}={format_value(value)}" for label, value in self.values)
        return f"{self.name}[{parts}]" if parts else self.name

    @property
    def is_pattern(self) -> bool:
        """Whether the name stands for every name that it matches."""
        return _is_pattern(self.name)

    @property
    def means_cells(self) -> bool:
        """Whether the name of a cell stands for every one that it matches."""
        return any(label == CELL and _is_pattern(value) for label, value in self.values)

    def matches(self, name: str) -> bool:
        """Whether ``name`` is the one that is meant, or one of those."""
        if not self.is_pattern:
            return name == self.name
        return re.fullmatch(translate(self.name), name) is not None


def _is_pattern(value: Any) -> bool:
    return isinstance(value, str) and ("*" in value or "?" in value)


def format_value(value: Any) -> str:
    """Return a value as it stands in a cell's name: JSON, a plain word without its quotes."""
    if isinstance(value, str) and _BARE.fullmatch(value) and value not in _KEYWORDS:
        return value
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=True)


def same_value(left: Any, right: Any) -> bool:
    """Whether two values name the same cell: ``1`` and ``1.0`` do, ``1`` and ``true`` do not."""
    return left == right and isinstance(left, bool) == isinstance(right, bool)


def parse_reference(text: str) -> Reference:
    """Read a name with its axes, the inverse of ``str(reference)``.

    Raises
    ------
    SelectionError
        If the text is no such name; it says where.
    """
    name, bracket, _ = text.partition("[")
    if not name.strip():
        raise SelectionError(f"cannot read {text!r}: expected a name first")
    values: dict[str, Any] = {}
    position = len(name) + 1
    while bracket != "]" and bracket:
        label, value, bracket, position = _parse_value(text, position)
        if label in values:
            raise SelectionError(f"cannot read {text!r}: {label!r} is given twice")
        values[label] = value
    if values and text[position:].strip():
        raise SelectionError(f"cannot read {text!r}: {text[position:]!r} after the closing ']'")
    return Reference(name.strip(), tuple(values.items()))


def _parse_value(text: str, position: int) -> tuple[str, Any, str, int]:
    """Return label, value, what follows (a comma or the closing bracket) and where that ends.

    A word alone is the name of a cell.
    """
    label = _LABEL.match(text, position)
    if label is None and not _NAMED.match(text, position):
        raise _unreadable(text, position, "axis=value")
    value, position = _decode(text, label.end() if label else position)
    end = _END.match(text, position)
    if end is None:
        raise _unreadable(text, position, "',' or ']' (a word with other characters needs quotes)")
    return label[1] if label else CELL, value, end[1], end.end()


def _decode(text: str, position: int) -> tuple[Any, int]:
    if text[position : position + 1] in set('"[{-0123456789'):
        with suppress(ValueError, RecursionError):
            value, end = json.JSONDecoder().raw_decode(text, position)
            if not is_too_deep(value):
                return value, end
        raise _unreadable(text, position, "a JSON value")
    word = _WORD.match(text, position)
    if word is None:
        raise _unreadable(text, position, "a value")
    return _KEYWORDS.get(word[0], word[0]), word.end()


def _unreadable(text: str, position: int, expected: str) -> SelectionError:
    found = repr(text[position:][:100]) if text[position:] else "the end"
    return SelectionError(f"cannot read {text[:100]!r}: expected {expected}; got {found}")


@dataclass(frozen=True)
class ProjectTable:
    """The table ``[project]``.

    Attributes
    ----------
    name : str
        Name of the project in its records; "" for the default, see `Declaration.name`.
    database : str
        Name of the database in MongoDB.
    store : str
        Folder of the datasets, relative to the declaration's.
    plugins : tuple of str
        Modules to import for their stages, kinds and metrics, beside the installed plug-ins.
    """

    database: str = "factbook"
    store: str = "artifacts"
    plugins: tuple[str, ...] = ()
    name: str = ""


@dataclass(frozen=True)
class Resource:
    """A declared dataset or network, of a registered kind.

    Attributes
    ----------
    name, family, kind : str
        ``[datasets.fashion] kind = "fashion-mnist"``: fashion, datasets, fashion-mnist.
    provides : str
        The type that slots ask for: ``images``.
    settings : object
        The validated settings, an instance of the kind's dataclass.
    config : mapping
        The same as plain JSON values, defaults filled in.
    rules : KeyRules
        What of the settings enters the fingerprint, and how their keys were spelled.
    found : mapping of str to value
        What a first look has found of it; empty where none was taken.
    terms : Terms
        Of a dataset, under which it may be passed on.
    """

    name: str
    family: str
    kind: str
    provides: str
    settings: Any
    config: Mapping[str, Any]
    rules: KeyRules = NO_RULES
    found: Mapping[str, Any] = field(default_factory=dict)
    terms: Terms = NO_TERMS

    def common(self, identity: str | None) -> str | None:
        """Return of the identity of its data what every stage reads.

        A kind with parts that few stages read has a method ``common(identity) -> str``, which
        leaves these out. They enter the fingerprints of stages with ``aside`` alone.
        """
        own = getattr(self.settings, "common", None)
        return identity if own is None or identity is None else str(own(identity))

    @property
    def permission(self) -> Permission:
        """Whether its images and texts may be passed on."""
        return permission_of(self.name, self.settings, self.terms)


@dataclass(frozen=True)
class Axis:
    """One axis of a matrix; experiments downstream inherit it as the same axis.

    Attributes
    ----------
    origin : str
        The experiment that declares it. Origin and key together are the axis.
    key : str
        The configuration key that it varies; :data:`CELL` for cells with names, which may vary
        any keys and inputs.
    values : tuple
        Its values in order, validated (a 1 for a float stands as 1.0).
    former_key : str
        The first name of the key, where it was renamed; else "".
    """

    origin: str
    key: str
    values: tuple[Any, ...]
    former_key: str = ""

    @property
    def identity(self) -> tuple[str, str]:
        """What makes two inherited axes the same one."""
        return self.origin, self.key


Picks = tuple[int | tuple[int, ...] | None, ...]
"""For each axis the index of the value that is chosen, or of those that are; None for all."""


@dataclass(frozen=True)
class Need:
    """What fills one slot of an experiment.

    Attributes
    ----------
    slot, kind : str
        The stage's slot, and the kind of thing that fills it.
    name : str
        The resource or the experiment.
    picks : tuple of (int or None)
        For each axis of that experiment the value that the reference names, or None: then the
        needing experiment fans out over this axis. Empty for a resource.
    by_cell : tuple of Need
        What fills the slot in each named cell, one resource or cell each, where that differs;
        then name, kind and picks are those of the first.
    """

    slot: str
    kind: str
    name: str
    picks: Picks = ()
    by_cell: tuple[Need, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The resources and experiments that fill it in some cell, each once."""
        return tuple(dict.fromkeys(need.name for need in self.by_cell or (self,)))

    def reference(self, declaration: Declaration) -> str:
        """Return the reference as it would stand in the file, with the values that it names.

        "" where the cells have one each.
        """
        if self.by_cell:
            return ""
        source = declaration.experiments.get(self.name)
        if source is None:
            return self.name
        parts = zip(source.labels, source.axes, self.picks, strict=True)
        values = [(name, axis.values[pick]) for name, axis, pick in parts if isinstance(pick, int)]
        return str(Reference(self.name, tuple(values)))


@dataclass(frozen=True)
class Experiment:
    """A declared experiment with its axes and the configuration of each own cell.

    Attributes
    ----------
    name, stage, description : str
        As declared.
    version : int
        Of the stage.
    provides : str
        Name of the schema of its output.
    needs : tuple of Need
        In the order of the stage's slots.
    axes : tuple of Axis
        Inherited axes first, then its own in declared order. Its cells are their product, the
        last axis running fastest.
    configs : tuple of mapping
        The resolved configurations, as plain JSON values, of the product of its own axes.
    rules : KeyRules
        What of a configuration enters the fingerprint, and how its keys were spelled.
    former_stages : tuple of str
        Names that the stage had before.
    cell_keys : frozenset of str
        The configuration keys that its named cells set.
    parts : int
        Into how many parts, that can run side by side, each of its tasks is cut.
    aside : bool
        Whether its stage reads of data what others do not.
    """

    name: str
    stage: str
    version: int
    provides: str
    needs: tuple[Need, ...]
    axes: tuple[Axis, ...]
    configs: tuple[Mapping[str, Any], ...]
    rules: KeyRules = NO_RULES
    description: str = ""
    former_stages: tuple[str, ...] = ()
    cell_keys: frozenset[str] = frozenset()
    parts: int = 1
    aside: bool = False

    @property
    def varied(self) -> frozenset[str]:
        """The configuration keys in which its cells differ by its own matrix."""
        own = {axis.key for axis in self.axes if axis.origin == self.name}
        return frozenset(own - {CELL}) | self.cell_keys

    @property
    def size(self) -> int:
        """Number of its cells."""
        return math.prod(len(axis.values) for axis in self.axes)

    @property
    def labels(self) -> tuple[str, ...]:
        """Name of each axis in the cells' names.

        Its key; with the origin before it, ``fashion-classifier.seed``, where several axes have
        that key and it is none of this experiment's own.
        """
        keys = [axis.key for axis in self.axes]
        return tuple(
            axis.key
            if axis.origin == self.name or keys.count(axis.key) == 1
            else f"{axis.origin}.{axis.key}"
            for axis in self.axes
        )

    def pick(self, reference: Reference) -> Picks:
        """Return which value of each axis a reference names.

        Raises
        ------
        SelectionError
            If it names an axis or a value that this experiment does not have, or an axis's key
            that several axes share.
        """
        picks: list[int | tuple[int, ...] | None] = [None] * len(self.axes)
        for label, value in reference.values:
            position = self._position(label)
            if picks[position] is not None:
                raise SelectionError(f"{str(reference)!r} names one axis twice")
            picks[position] = self._index(position, value)
        return tuple(picks)

    def _position(self, label: str) -> int:
        if label in self.labels:
            return self.labels.index(label)
        found = [
            position
            for position, axis in enumerate(self.axes)
            for key in (axis.key, axis.former_key)
            if label in (key, f"{axis.origin}.{key}")
        ]
        if len(found) == 1:
            return found[0]
        if found:
            labels = " or ".join(repr(self.labels[position]) for position in found)
            raise SelectionError(f"axis {label!r} of {self.name!r} is ambiguous: name {labels}")
        if not self.axes:
            raise SelectionError(f"{self.name!r} has no axis {label!r}: it is one cell")
        if label == CELL:
            raise SelectionError(
                f"the cells of {self.name!r} have no names; choose them as axis=value, by "
                + ", ".join(self.labels)
            )
        raise SelectionError(f"{self.name!r} has no axis {label!r}{nearest(label, self.labels)}")

    def _index(self, position: int, value: Any) -> int | tuple[int, ...]:
        values = self.axes[position].values
        if self.axes[position].key == CELL and _is_pattern(value):
            match = re.compile(translate(value)).fullmatch
            if found := tuple(index for index, known in enumerate(values) if match(known)):
                return found
        same = [index for index, known in enumerate(values) if same_value(known, value)]
        if not same:
            known = ", ".join(map(format_value, values[:8])) + (", …" if len(values) > 8 else "")
            raise SelectionError(
                f"{self.name!r} has no cell with {self.labels[position]}={format_value(value)}; "
                f"expected one of {known}"
            )
        exact = [index for index in same if type(values[index]) is type(value)]
        return (exact or same)[0]


@dataclass(frozen=True)
class Declaration:
    """Everything that a file declares, whole and free of faults.

    Attributes
    ----------
    path : Path or None
        The file.
    project : ProjectTable
        Its ``[project]``.
    resources : mapping of str to Resource
        In order of the file.
    experiments : mapping of str to Experiment
        In order of the file.
    suites : mapping of str to tuple of str
        Names, patterns and cells of experiments.
    order : tuple of str
        Names of the experiments, each after those that it needs.
    executors : mapping of str to Executor
        Where tasks can run.
    demands : mapping of str to Demand
        What tasks ask for, by experiment or stage.
    """

    path: Path | None
    project: ProjectTable
    resources: Mapping[str, Resource]
    experiments: Mapping[str, Experiment]
    suites: Mapping[str, tuple[str, ...]]
    order: tuple[str, ...]
    executors: Mapping[str, Executor] = field(default_factory=dict)
    demands: Mapping[str, Demand] = field(default_factory=dict)

    @property
    def root(self) -> Path:
        """The folder that relative paths start from."""
        return self.path.parent if self.path else Path.cwd()

    def demand(self, executor: str, experiment: str, stage: str) -> Demand:
        """Return what a task asks for: its experiment's before its stage's, the executor's last."""
        nothing = Demand()
        own, shared = (self.demands.get(name, nothing) for name in (experiment, stage))
        return own.over(shared).over(self.executors[executor].demand)

    @property
    def name(self) -> str:
        """Name of the project: declared, or of its database and its folder."""
        return self.project.name or f"{self.project.database}/{self.root.resolve().name}"

    def match(self, text: str) -> tuple[tuple[Experiment, Picks], ...]:
        """Return the experiments, and which cells of them, that a name, pattern or cell means.

        Raises
        ------
        SelectionError
            If it means none; with the nearest name.
        """
        reference = parse_reference(text)
        if reference.is_pattern:
            return self._match_pattern(reference)
        if reference.name in self.experiments:
            experiment = self.experiments[reference.name]
            return ((experiment, experiment.pick(reference)),)
        if reference.name in self.suites:
            raise SelectionError(f"{reference.name!r} is a suite, which has no cells; got {text!r}")
        if reference.name in self.resources:
            family = self.resources[reference.name].family
            raise SelectionError(f"{reference.name!r} stands under {family!r}; it is not run")
        near = nearest(reference.name, (*self.experiments, *self.suites))
        raise SelectionError(f"unknown experiment {reference.name!r}{near}")

    def _match_pattern(self, reference: Reference) -> tuple[tuple[Experiment, Picks], ...]:
        found = []
        for name, experiment in self.experiments.items():
            if reference.matches(name):
                try:
                    found.append((experiment, experiment.pick(reference)))
                except SelectionError:
                    continue  # a pattern takes what has these cells
        if not found:
            near = nearest(reference.name.replace("*", ""), self.experiments)
            raise SelectionError(f"{str(reference)!r} matches no experiment{near}")
        return tuple(found)

    def describe(self) -> dict[str, list[dict[str, Any]]]:
        """Return what is declared as plain JSON values, for lists and tables."""
        return {
            "resources": [
                {key: getattr(entry, key) for key in ("name", "family", "kind", "provides")}
                | {"config": dict(entry.config)}
                for entry in self.resources.values()
            ],
            "experiments": [_describe_experiment(entry) for entry in self.experiments.values()],
            "suites": [
                {
                    "name": name,
                    "items": list(items),
                    "experiments": list(
                        dict.fromkeys(e.name for item in items for e, _ in self.match(item))
                    ),
                }
                for name, items in self.suites.items()
            ],
        }


def _describe_experiment(experiment: Experiment) -> dict[str, Any]:
    keys = ("name", "stage", "version", "provides", "description")
    config = experiment.configs[0]
    return {key: getattr(experiment, key) for key in keys} | {
        "needs": {need.slot: ", ".join(need.names) for need in experiment.needs},
        "config": {key: value for key, value in config.items() if key not in experiment.varied},
        "axes": {
            label: list(axis.values)
            for label, axis in zip(experiment.labels, experiment.axes, strict=True)
        },
        "cells": experiment.size,
    }
