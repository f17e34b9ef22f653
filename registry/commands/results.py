"""What runs found, on one line: what is asked for first, and what it was measured on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from registry.store.schema import Schema
from registry.terminal import text_of


def results_text(
    result: Mapping[str, Any],
    config: Mapping[str, Any],
    schema: Schema | None,
    most: int | None = None,
) -> str:
    """Return results by name: ``accuracy 0.989 of 2000 labelled test images, alive_share 0.94``.

    Parameters
    ----------
    result, config : mapping
        Results and settings of a run.
    schema : Schema or None
        Of what it made: what its variables were measured on is told once for those in a row.
    most : int or None
        How many to tell; None for all.
    """
    variables = {} if schema is None else schema.variables
    order = [name for name in (schema.first if schema else ()) if name in result]
    names = [*order, *(name for name in result if name not in order)][:most]
    values = {key: text_of(value) for key, value in {**config, **result}.items()}
    told, before = [], ""
    for name in names:
        of = variables[name].measured_on(values) if name in variables else ""
        told.append(f"{name} {values[name]}{f' {of}' if of and of != before else ''}")
        before = of
    return ", ".join(told)
