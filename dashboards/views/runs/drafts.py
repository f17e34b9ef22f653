"""Lines of experiments.toml that would make a dataset that nothing makes yet, in its own names."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from registry.declare.cells import Cell
from registry.declare.described import toml, toml_key
from registry.declare.stage import Slot, load_stage
from registry.plan.project import Project

MAKERS = {
    "activations": "fact.collect_activations",
    "comparison": "evals.compare_published",
    "concepts": "fact.measure_concepts",
    "consistency": "evals.measure_consistency",
    "decisions": "fact.explain_decisions",
    "encodings": "fact.encode_concepts",
    "features": "fact.collect_features",
    "fidelity": "fact.measure_fidelity",
    "gallery": "fact.draw_concepts",
    "identification": "evals.identify_neurons",
    "intervention": "fact.intervene_concepts",
    "labels": "fact.label_inputs",
    "localisation": "evals.localise_concepts",
    "maps": "fact.map_concepts",
    "masks": "fact.mask_inputs",
    "matching": "evals.match_concepts",
    "names": "evals.name_concepts",
    "network": "fact.train_classifier",
    "sae": "fact.train_sae",
    "sanity": "evals.sanity_check",
    "scores": "evals.score_explanations",
}
"""By schema, the stage of this project that makes such datasets; packages may bring others."""

FILLED = {"localisation": ("names",), "names": ("sanity",)}
"""Slots that may be left empty and are filled where they can be, by schema of what is made."""

IMAGES, LAYER = "images", "layer"
EXAMPLE = {"kind": "shapes"}
"""Images that any computer can draw, where a project has declared none."""

OWN_LAYER = "features.2"
"""The last layer of convolutions of the classifier that `fact.train_classifier` trains."""


@dataclass
class Draft:
    """Tables that are to be added to a declaration, in their order.

    Attributes
    ----------
    project : Project
        What is declared.
    tables : dict of str to mapping
        New ones by name, as ``experiments.my-names``.
    needs, provides : dict
        By name of what is new: what fills its slots, and what it provides.
    """

    project: Project
    tables: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    needs: dict[str, Mapping[str, str]] = field(default_factory=dict)
    provides: dict[str, str] = field(default_factory=dict)

    # -- what there is --------------------------------------------------------------------------

    @property
    def cells(self) -> Mapping[str, Cell]:
        """What is declared to be made."""
        return self.project.graph.cells

    def kind(self, name: str) -> str:
        """Return what a resource, a cell or something new provides."""
        if name in self.cells:
            return self.cells[name].provides
        resource = self.project.declaration.resources.get(name)
        return resource.provides if resource else self.provides.get(name, "")

    def candidates(self, kind: str) -> list[str]:
        """Return what provides a kind: resources, then cells.

        Those of the stage that is for it come first, and those without a matrix.
        """
        own = MAKERS.get(kind)
        cells = sorted(self.cells.values(), key=lambda c: (c.stage != own, bool(c.values)))
        known = [*self.project.declaration.resources, *(c.name for c in cells), *self.provides]
        return [name for name in known if self.kind(name) == kind]

    def behind(self, *names: str) -> set[str]:
        """Return what some are made from, themselves too."""
        found, level = set(names), list(names)
        while level:
            needs = (self._needs(name).values() for name in level)
            level = [one for each in needs for one in each if one not in found]
            found.update(level)
        return found

    def _needs(self, name: str) -> Mapping[str, str]:
        return self.cells[name].needs if name in self.cells else self.needs.get(name, {})

    def _stage(self, name: str) -> str:
        """Return the stage that makes something; "" of a resource."""
        if name in self.cells:
            return self.cells[name].stage
        return str(self.tables.get(f"experiments.{name}", {}).get("stage", ""))

    def _suits(self, name: str, around: Collection[str]) -> bool:
        """Return whether something is made from what is around, as far as it can be.

        A gallery is of the concepts beside it, labels are of the same images.
        """
        kind = self.kind(name)
        slots = load_stage(MAKERS[kind]).slots.values() if kind in MAKERS else ()
        wanted = {k for slot in slots if not slot.is_optional for k in slot.kinds} or {kind}
        own = self.behind(name)
        for one in wanted:
            there = {other for other in around if self.kind(other) == one}
            if there and not there & own:
                return False
        return True

    # -- what is added --------------------------------------------------------------------------

    def add(self, schema: str, near: Collection[str] = ()) -> str:
        """Add what makes a dataset of a schema, and what it needs; return its name."""
        stage = load_stage(MAKERS[schema])
        needs: dict[str, str] = {}
        for slot in stage.slots.values():
            if not slot.is_optional or slot.name in FILLED.get(schema, ()):
                around = {*near, *self.behind(*needs.values())}
                if found := self._filling(slot, around, list(needs.values())):
                    needs[slot.name] = found
        config = {LAYER: self._layer(needs)} if schema == "features" else {}
        return self._write(self._free(f"my-{schema}"), stage.name, needs, config, schema)

    def _filling(self, slot: Slot, around: Collection[str], taken: Sequence[str]) -> str:
        """Return what fills a slot: what shares most with what is around, else something new."""
        twin = next((name for name in taken if self.kind(name) in slot.kinds), "")
        for kind in slot.kinds if not twin else (self.kind(twin),):
            found = [n for n in self.candidates(kind) if n not in taken]
            if twin:
                found = [n for n in found if self._stage(n) == self._stage(twin)]
            else:
                found = [n for n in found if self._suits(n, around)]
            shared = [len(self.behind(name) & set(around)) for name in found]
            most = max(shared, default=0)
            if found and (most or not around):
                return found[shared.index(most)]
            if found and slot.is_optional:
                return found[0]
        if slot.is_optional:
            return ""
        if twin:
            return self._again(twin)
        made = next((kind for kind in slot.kinds if kind in MAKERS), "")
        return self.add(made, around) if made else self._images()

    def _again(self, name: str) -> str:
        """Add the same with another seed; what has none is made anew from what has one.

        "" where there is nothing with a seed behind it.
        """
        if name in self.cells:
            called, config = self.cells[name].experiment, dict(self.cells[name].config)
            stage = load_stage(self._stage(name))
        elif name in self.needs:
            table = self.tables[f"experiments.{name}"]
            called, stage = name.removeprefix("my-"), load_stage(self._stage(name))
            config = stage.settings.defaults() | dict(table.get("config", {}))
        else:
            return ""
        needs = dict(self._needs(name))
        if "seed" in config:
            config["seed"] = int(config["seed"] or 0) + 1
        else:
            again = ((slot, self._again(needed)) for slot, needed in needs.items())
            slot, other = next(((slot, own) for slot, own in again if own), ("", ""))
            if not other:
                return ""
            needs[slot] = other
        defaults = stage.settings.defaults()
        changed = {k: v for k, v in config.items() if v != defaults.get(k)}
        free = self._free(f"my-other-{called}")
        return self._write(free, stage.name, needs, changed, self.kind(name))

    def _images(self) -> str:
        name = self._free(f"my-{IMAGES}")
        self.tables[f"datasets.{name}"], self.provides[name] = EXAMPLE, IMAGES
        return name

    def _layer(self, needs: Mapping[str, str]) -> str:
        """Return the layer that others ask of the same network, else that of our own."""
        for cell in self.cells.values():
            if needs.get("network") in cell.needs.values() and cell.config.get(LAYER):
                return str(cell.config[LAYER])
        return OWN_LAYER

    def _write(
        self,
        name: str,
        stage: str,
        needs: Mapping[str, str],
        config: Mapping[str, Any],
        provides: str,
    ) -> str:
        """Add an experiment, and return its name."""
        table: dict[str, Any] = {"stage": stage}
        table |= {"needs": needs} if needs else {}
        table |= {"config": config} if config else {}
        self.tables[f"experiments.{name}"] = table
        self.needs[name], self.provides[name] = needs, provides
        return name

    def _free(self, name: str) -> str:
        """Return a name that nothing has yet."""
        known = {*self.project.declaration.resources, *self.project.declaration.experiments}
        known |= set(self.provides)
        numbered = (name if n == 1 else f"{name}-{n}" for n in range(1, len(known) + 2))
        return next(one for one in numbered if one not in known)

    def lines(self) -> Iterator[str]:
        """Yield the lines of TOML."""
        for number, (name, table) in enumerate(self.tables.items()):
            if number:
                yield ""
            yield f"[{name}]"
            yield from (f"{toml_key(key)} = {toml(value)}" for key, value in table.items())


def lines_for(project: Project, schema: str) -> tuple[str, Sequence[str]]:
    """Return the name of an experiment that would make datasets of a schema, and what to paste.

    Parameters
    ----------
    project : Project
        Whose names are used: what it declares already is not declared again.
    schema : str
        A key of `MAKERS`.

    Returns
    -------
    str
        Of the experiment.
    sequence of str
        Lines of experiments.toml.
    """
    draft = Draft(project)
    name = draft.add(schema)
    return name, tuple(draft.lines())


def lines_of(project: Project, schema: str, cell: str) -> tuple[str, ...]:
    """Return the lines of experiments.toml that would make a dataset of a schema from a cell.

    None where they would not: nothing that the cell lacks is invented.
    """
    draft = Draft(project)
    name = draft.add(schema, {cell})
    is_made_from_it = cell in draft.behind(name)
    return tuple(draft.lines()) if is_made_from_it and IMAGES not in _kinds(draft) else ()


def _kinds(draft: Draft) -> set[str]:
    return {draft.kind(name) for name in draft.provides}
