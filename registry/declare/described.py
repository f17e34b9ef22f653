"""What can be declared, read from the code: every kind and stage, its keys, a snippet to paste."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pydantic

from registry.declare.licences import TERMS
from registry.declare.plugins import Kind, common_keys, families, kinds
from registry.declare.settings import Settings
from registry.declare.stage import Stage, known_stages, load_stage

UNKNOWN = "…"
"""Stands in a snippet for a text that only its reader knows."""

UNSET = "unset"
"""The default of a key that is left out."""

LONGEST = 96
"""Letters of a line of a snippet; keys whose default is longer are left out of it."""

_TYPES = {"string": "text", "integer": "integer", "number": "number", "boolean": "true or false"}


@dataclass(frozen=True)
class Key:
    """One key of a kind or stage.

    Attributes
    ----------
    name : str
        As it is declared.
    type : str
        What it takes, for people: ``integer >= 1, or unset``.
    default : str or None
        As TOML; `UNSET` where it is none, None where the key is required.
    meaning : str
        What the docstring says of it, on one line, in reStructuredText.
    is_runtime : bool
        Whether it can change no result.
    example : str
        What stands for it in a snippet, as TOML: its default; of a required key a value that the
        docstring names.
    """

    name: str
    type: str
    default: str | None
    meaning: str
    is_runtime: bool
    example: str

    @property
    def is_required(self) -> bool:
        """Whether it has no default."""
        return self.default is None

    @property
    def line(self) -> str:
        """Its line of a snippet: a comment unless it is required."""
        if self.default == UNSET:
            return f"# {self.name}: {self.type.removesuffix(f', or {UNSET}')}"
        value = f"{self.name} = {self.example}"
        return value if self.is_required else f"# {value}"


@dataclass(frozen=True)
class Declarable:
    """A kind of resource or a stage, as somebody who wants to declare one needs to see it.

    Attributes
    ----------
    family : str
        The table of the declaration: ``datasets``, ``networks``, …; ``experiments`` for a stage.
    name : str
        What stands there as ``kind`` or ``stage``.
    makes : str
        The type that slots of stages ask for.
    doc : str
        Its docstring's first paragraph.
    keys : tuple of Key
        In order of declaration.
    common : tuple of Key
        Those that every entry of its table takes.
    needs : mapping of str to tuple of str
        Slot to the types that fill it.
    optional : frozenset of str
        Slots that may stay empty.
    cut_by : str
        What a stage goes through one by one, if its tasks can be cut into parts.
    """

    family: str
    name: str
    makes: str
    doc: str
    keys: tuple[Key, ...]
    needs: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    optional: frozenset[str] = frozenset()
    cut_by: str = ""
    common: tuple[Key, ...] = ()

    @functools.cached_property
    def snippet(self) -> str:
        """A table to paste: required keys with examples, all others commented with defaults."""
        return "\n".join(self._snippet_lines()) + "\n"

    def _snippet_lines(self) -> Iterator[str]:
        title = re.sub(r"[^a-z0-9]+", "-", self.name.rpartition(".")[2].lower())
        head = f"{self.family}.my-{title}"
        yield f"[{head}]"
        if self.family != "experiments":
            yield f'kind = "{self.name}"'
        else:
            yield f'stage = "{self.name}"'
            slots = [slot for slot in self.needs if slot not in self.optional]
            filled = ", ".join(f'{slot} = "{UNKNOWN}"' for slot in slots)
            if filled:
                yield f"needs = {{ {filled} }}"
            yield from (f"# {text}" for text in self.fillings())
            if self.keys:
                yield ""
                yield f"[{head}.config]"
        yield from (key.line for key in (*self.keys, *self.common) if len(key.line) <= LONGEST)

    def fillings(self) -> Iterator[str]:
        """Yield, for each slot, what can be named there."""
        for slot, types in self.needs.items():
            makers = dict.fromkeys(text for kind in types for text in _makers(kind))
            found = ", or ".join(makers) or " or ".join(types)
            yield f"{slot}{' (optional)' if slot in self.optional else ''}: {found}"


def described_kinds() -> Iterator[Declarable]:
    """Yield every registered kind, by family and name."""
    for family in families():
        for kind in kinds(family).values():
            yield describe_kind(kind)


def described_stages(*packages: str) -> Iterator[Declarable]:
    """Yield every stage of the installed packages and of those named, sorted."""
    for name in known_stages(*packages):
        yield describe_stage(load_stage(name))


def describe_kind(kind: Kind) -> Declarable:
    """Describe a kind of resource."""
    doc = _first_paragraph(inspect.getdoc(kind.settings.cls) or "")
    common = tuple(key for key in _common_keys() if key.name in common_keys(kind))
    keys = keys_of(kind.settings)
    return Declarable(kind.family, kind.name, kind.provides, doc, keys, common=common)


@functools.cache
def _common_keys() -> tuple[Key, ...]:
    return keys_of(TERMS)


def describe_stage(stage: Stage) -> Declarable:
    """Describe a stage."""
    return Declarable(
        "experiments",
        stage.name,
        stage.output.name,
        stage.doc,
        keys_of(stage.settings),
        {slot.name: slot.kinds for slot in stage.slots.values()},
        frozenset(slot.name for slot in stage.slots.values() if slot.is_optional),
        stage.cut_by,
    )


def keys_of(settings: Settings) -> tuple[Key, ...]:
    """Describe the keys of typed settings."""
    schema = pydantic.TypeAdapter(settings.cls).json_schema()
    meanings, defaults = parameters_of(settings.cls), settings.defaults()
    return tuple(
        _key(settings, key, schema, meanings.get(key, ""), defaults[key]) for key in settings.keys
    )


def _key(
    settings: Settings, name: str, schema: Mapping[str, Any], meaning: str, default: Any
) -> Key:
    of_key = schema["properties"][name]
    is_required = name in schema.get("required", ())
    if is_required:
        told = re.search(r"\b[Aa]s ``([^`]+)``", meaning)
        example = _example(_parts(of_key)[0], told[1] if told else UNKNOWN)
    else:
        example = UNSET if default is None else toml(default)
    is_runtime = name in settings.rules.runtime
    kind = _type_text(of_key)
    return Key(name, kind, None if is_required else example, meaning, is_runtime, example)


def _parts(schema: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the alternatives of a key's schema, that it is unset left out."""
    return [part for part in schema.get("anyOf", [schema]) if part.get("type") != "null"]


def _type_text(schema: Mapping[str, Any]) -> str:
    parts = _parts(schema)
    unset = [UNSET] if len(parts) < len(schema.get("anyOf", ())) else []
    return ", or ".join([*map(_plain_type, parts), *unset])


def _plain_type(schema: Mapping[str, Any]) -> str:
    if "enum" in schema or "const" in schema:
        return " or ".join(toml(value) for value in schema.get("enum", [schema.get("const")]))
    kind = schema.get("type")
    if kind == "array":
        return f"list, each {_type_text(schema.get('items', {}))}"
    if kind == "object":
        return "table"
    bounds = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}
    limits = [
        f"{sign} {_short_number(schema[key])}" for key, sign in bounds.items() if key in schema
    ]
    return " ".join(filter(None, [_TYPES.get(str(kind), "value"), " and ".join(limits)]))


def _short_number(value: float) -> str:
    is_power = isinstance(value, int) and value >= 2**20 and value & (value - 1) == 0
    return f"2^{math.log2(value):.0f}" if is_power else f"{value:g}"


def _example(schema: Mapping[str, Any], told: str) -> str:
    kind = schema.get("type")
    if "enum" in schema:
        return toml(schema["enum"][0])
    if kind in ("integer", "number"):
        return toml(max(schema.get("minimum", 1), 1))
    if kind == "boolean":
        return "true"
    if kind == "array":
        return f"[{_example(schema.get('items', {}), told)}]"
    return "{}" if kind == "object" else toml(told)


def toml(value: Any) -> str:
    """Return a plain JSON value, none of them null, as TOML writes it on one line."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        escaped = (f"\\u{ord(c):04x}" if ord(c) < 32 or ord(c) == 127 else c for c in value)
        return '"' + "".join({"\\": "\\\\", '"': '\\"'}.get(c, c) for c in escaped) + '"'
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(toml, value))}]"
    if isinstance(value, Mapping):
        inside = ", ".join(f"{toml_key(key)} = {toml(inner)}" for key, inner in value.items())
        return f"{{ {inside} }}" if inside else "{}"
    return repr(value)


def toml_key(key: str) -> str:
    """Return a key as TOML writes it: bare where it can be."""
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else toml(key)


def _makers(kind: str) -> Iterator[str]:
    """Yield what makes a type that slots ask for: kinds of resources, then stages."""
    articles = {"datasets": "a dataset", "networks": "a network"}
    for family in families():
        if any(known.provides == kind for known in kinds(family).values()):
            names = ", ".join(k.name for k in kinds(family).values() if k.provides == kind)
            yield f"{articles.get(family, f'one of {family}')} ({names})"
    for name in known_stages():
        if load_stage(name).output.name == kind:
            yield name


def _first_paragraph(text: str) -> str:
    return " ".join(text.split("\n\n")[0].split())


def parameters_of(cls: type) -> dict[str, str]:
    """Return what the docstrings of a class and its bases say of each parameter, on one line."""
    found: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        for name, text in _own_parameters(inspect.cleandoc(base.__doc__ or "")):
            if not (name in found and text.startswith("As for :class:")):  # the base explains it
                found[name] = text
    return found


def _own_parameters(doc: str) -> Iterator[tuple[str, str]]:
    """Yield the parameters that a numpydoc docstring explains."""
    found = re.search(r"^(?:Parameters|Attributes)\n-+\n(.*?)(?:\n\n|\Z)", doc, re.M | re.S)
    for entry in re.split(r"\n(?=\S)", found[1]) if found else ():
        names, _, meaning = entry.partition("\n")
        for name in names.split(" : ")[0].split(","):
            yield name.strip(), " ".join(meaning.split())
