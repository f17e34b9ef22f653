"""The configurations of an experiment's own cells, all of them resolved and checked."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from registry.declare.declared import Axis
from registry.declare.faults import ConfigError, ConfigFault, FaultList, KeyPath
from registry.declare.reference import Reference, format_value
from registry.declare.stage import Stage
from registry.declare.tables import Draft, first_key, keys_of

MOST_CELLS = 1_000_000
"""Cells of one experiment beyond which a matrix is taken for a mistake."""

Values = Mapping[str, Any]


@dataclass(frozen=True)
class Matrix:
    """The matrix of a draft, to be resolved by its stage.

    Each value of each axis is tried first, with the others at their first, so that a bad one is
    reported once; then the product, for what only a combination violates.
    """

    draft: Draft
    stage: Stage
    faults: FaultList

    def resolve(self) -> tuple[tuple[Values, ...], tuple[Axis, ...]]:
        """Return the configuration of each cell, and the axes with validated values.

        Nothing is returned after a fault.
        """
        before = len(self.faults)
        draft = self.draft
        first = {**draft.config, **{key: values[0] for key, values in draft.matrix.items()}}
        resolved = self._first_cell(first)
        axes = tuple(
            Axis(draft.name, key, self._values(first, resolved, key), self._former(key))
            for key in draft.matrix
        )
        if len(self.faults) > before or draft.faulty:
            return (), ()
        return self._product(), axes

    def _first_cell(self, values: Values) -> Values:
        """Resolve the first cell; every key that is wrong in it is reported."""
        try:
            return self._configuration(values)
        except ConfigError as error:
            for fault in error.faults:
                is_of_product = not fault.key and self.draft.matrix
                if not is_of_product and first_key(fault) not in self.draft.faulty:
                    self._report(fault, 0)
            return values

    def _values(self, first: Values, resolved: Values, key: str) -> tuple[Any, ...]:
        """Return the validated values of an axis; a 1 for a float stands as 1.0."""
        declared = self.draft.matrix[key]
        values = [_scalar(resolved, key, declared[0])]
        for index, value in enumerate(declared[1:], 1):
            try:
                other = self._configuration({**first, key: value})
                values.append(_scalar(other, key, value))
            except ConfigError as error:
                values.append(value)
                for fault in error.faults:
                    if first_key(fault) == key:
                        self._report(fault, index)
        self._check_duplicates(key, values)
        return tuple(values)

    def _former(self, key: str) -> str:
        return next(iter(self.stage.settings.rules.formerly.get(key, ())), "")

    def _configuration(self, values: Values) -> Values:
        return self.stage.configuration(self.stage.resolve(values))

    def _report(self, fault: ConfigFault, index: int) -> None:
        """Add a fault at its key of the configuration, or at a value of an axis."""
        key, *inner = fault.key.split(".")
        where: KeyPath = ("config", *keys_of(fault))
        if key in self.draft.matrix:
            is_unknown = fault.message.startswith("unknown key")
            where = ("matrix", key) if is_unknown else ("matrix", key, index, *inner)
        self.faults.add(self.draft.path(*where), fault.message)

    def _check_duplicates(self, key: str, values: list[Any]) -> None:
        seen: dict[str, int] = {}
        for index, value in enumerate(values):
            first = seen.setdefault(format_value(value), index)
            if first != index:
                message = f"{format_value(value)} is a duplicate of the value at [{first}]"
                self.faults.add(self.draft.path("matrix", key, index), message)

    def _product(self) -> tuple[Values, ...]:
        """Resolve every cell; what only combinations violate is reported once, and counted."""
        if not self.check_size(self.draft.matrix.values()):
            return ()
        configs: list[Values] = []
        bad: dict[str, list[str]] = {}
        for values in itertools.product(*self.draft.matrix.values()):
            cell = dict(zip(self.draft.matrix, values, strict=True))
            try:
                configs.append(self._configuration({**self.draft.config, **cell}))
            except ConfigError as error:
                name = str(Reference(self.draft.name, tuple(cell.items())))
                for fault in error.faults:
                    bad.setdefault(str(fault).split("; got")[0], []).append(name)
        for message, names in bad.items():
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            self.faults.add(self.draft.path("matrix"), f"{message}; in cell {names[0]}{more}")
        return tuple(configs)

    def check_size(self, axes: Iterable[tuple[Any, ...]]) -> bool:
        """Check that axes do not span more cells than anybody wants."""
        size = math.prod(map(len, axes))
        if size > MOST_CELLS:
            message = f"expected at most {MOST_CELLS} cells; got {size}"
            self.faults.add(self.draft.path("matrix"), message)
        return size <= MOST_CELLS


def _scalar(resolved: Values, key: str, declared: Any) -> Any:
    return declared if isinstance(declared, dict | list) else resolved.get(key, declared)
