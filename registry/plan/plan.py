"""Pure: declarations to tasks, each with a fingerprint, and with a reason where it is due.

What lies on disk, and the identity of data from outside, come in as values; nothing here reads.
Two declarations that mean the same have the same fingerprint, whatever their order of keys, and
whether a default is written out or left out: what is hashed is resolved first.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from hashlib import sha256
from statistics import median
from typing import Any

from registry.declare.cells import Cell, Graph
from registry.declare.settings import KeyRules
from registry.plan.task import (
    NEVER_RAN,
    Change,
    Earlier,
    PastLookup,
    Plan,
    PlanError,
    Reason,
    StateLookup,
    Task,
    TaskState,
    Why,
)
from registry.record.states import State
from registry.store.durable import canonical_json


def fingerprint(value: Any) -> str:
    """Return the first 16 hexadecimal digits of the SHA-256 of a value's canonical JSON."""
    return sha256(canonical_json(value).encode()).hexdigest()[:16]


def fingerprints(
    graph: Graph, names: Iterable[str], identities: Mapping[str, str | None]
) -> dict[str, str]:
    """Return the fingerprints of cells and of all that they rest on, resources too, by name.

    Raises
    ------
    PlanError
        If the identity of a resource is not given.
    """
    needed = graph.behind(names)
    known = {}
    for name, facts in _facts(graph, needed, identities).items():
        entry = graph.declaration.resources[name]
        hashed = {
            "settings": entry.rules.hashed(entry.config),
            "identity": entry.common(identities[name]),
        }
        known[name] = fingerprint({**facts, **hashed})
    for cell in graph.cells.values():
        if cell.name in needed:
            own: dict[str, Any] = {
                "stage": (cell.former_stages or (cell.stage,))[0],  # the first name that it had
                "version": cell.version,
                "config": cell.result_config,
                "inputs": {slot: known[name] for slot, name in cell.needs.items()},
            }
            if aside := _aside(graph, cell, identities):
                own["aside"] = sorted(aside.values())
            known[cell.name] = fingerprint(own)
    return known


def _aside(graph: Graph, cell: Cell, identities: Mapping[str, str | None]) -> dict[str, str]:
    """Return the identity of each resource of which this cell reads what others do not, by name."""
    if not cell.aside:
        return {}
    behind, resources = graph.behind([cell.name]), graph.declaration.resources
    own = {name: identities[name] for name in resources if name in behind}
    return {
        name: identity
        for name, identity in own.items()
        if identity is not None and resources[name].common(identity) != identity
    }


def _facts(
    graph: Graph, needed: Collection[str], identities: Mapping[str, str | None]
) -> dict[str, dict[str, Any]]:
    """Return what stands under the fingerprint of each resource that is needed."""
    resources = [entry for name, entry in graph.declaration.resources.items() if name in needed]
    missing = [repr(entry.name) for entry in resources if entry.name not in identities]
    if missing:
        raise PlanError(f"no identity given for {', '.join(missing)}")
    return {
        entry.name: {
            "family": entry.family,
            "kind": entry.kind,
            "settings": {k: v for k, v in entry.config.items() if k not in entry.rules.runtime},
            "identity": identities[entry.name],
        }
        for entry in resources
    }


def make_plan(
    graph: Graph,
    targets: Iterable[str] = (),
    *,
    identities: Mapping[str, str | None],
    states: StateLookup | Mapping[str, TaskState],
    past: PastLookup | None = None,
    sources: Mapping[str, str] | None = None,
    force: bool = False,
    rerun_changed_code: bool = False,
) -> Plan:
    """Return what would run, why, and about how long it would take.

    Parameters
    ----------
    graph : Graph
        The cells.
    targets : iterable of str
        Names, patterns, suites and cells, as :meth:`Graph.select` takes them; none means all.
    identities : mapping of str to (str or None)
        Identity of the data behind each resource that the targets rest on; None where it cannot
        be read here, which makes due whatever rests on it.
    states : callable or mapping
        What the disk says: a function of cell and fingerprint, or a mapping by fingerprint, in
        which what is not there never ran.
    past : callable, optional
        What a task was, from its experiment and fingerprint; it tells why an input is another
        one than before where that input is complete by now.
    sources : mapping of str to str, optional
        Hash of the present code behind each cell, by name; where it differs from what made an
        output, that is noted.
    force : bool
        Whether targets run even if complete.
    rerun_changed_code : bool
        Whether changed code is a reason to run.

    Raises
    ------
    SelectionError
        If a target selects nothing.
    PlanError
        If an identity is not given.
    """
    chosen = {cell.name for cell in graph.select(targets)}
    needed = graph.behind(chosen)
    planner = _Planner(
        fingerprints(graph, chosen, identities),
        {name: entry.parts for name, entry in graph.declaration.experiments.items()},
        _facts(graph, needed, identities),
        {name: entry.rules for name, entry in graph.declaration.resources.items()},
        states if callable(states) else lambda cell, value: states.get(value, NEVER_RAN),
        past or (lambda experiment, fingerprint: None),
        sources or {},
        chosen if force else set(),
        rerun_changed_code,
        {
            cell.name: _aside(graph, cell, identities)
            for cell in graph.cells.values()
            if cell.aside and cell.name in needed
        },
    )
    for cell in graph.cells.values():
        if cell.name in needed:
            planner.add(cell, cell.name in chosen)
    tasks = _estimated(planner.tasks.values())
    return Plan(
        tuple(task for task in tasks if task.is_target or task.is_open),
        tuple(task for task in tasks if not (task.is_target or task.is_open)),
    )


@dataclass
class _Planner:
    """Adds tasks one after the other, each after those that it needs."""

    fingerprints: Mapping[str, str]
    parts: Mapping[str, int]
    facts: Mapping[str, Mapping[str, Any]]
    rules: Mapping[str, KeyRules]
    lookup: StateLookup
    past: PastLookup
    sources: Mapping[str, str]
    forced: Collection[str]
    rerun_changed_code: bool
    asides: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    tasks: dict[str, Task] = field(default_factory=dict)
    causes: dict[tuple[str, str], str] = field(default_factory=dict)

    def add(self, cell: Cell, is_target: bool) -> None:
        """Add the task of a cell."""
        fingerprint = self.fingerprints[cell.name]
        task = Task(
            cell,
            fingerprint,
            {slot: self.fingerprints[name] for slot, name in cell.needs.items()},
            {slot: self.facts[name] for slot, name in cell.needs.items() if name in self.facts},
            self.lookup(cell, fingerprint),
            is_target=is_target,
            parts=self.parts[cell.experiment],
            aside=self.asides.get(cell.name, {}),
        )
        reasons, notes = tuple(self._reasons(task)), tuple(self._notes(task))
        if reasons or notes:
            task = replace(task, reasons=reasons, notes=notes)
        self.tasks[cell.name] = task

    def _upstream(self, task: Task) -> Iterator[tuple[str, Task]]:
        for slot, name in task.cell.needs.items():
            if name in self.tasks:
                yield slot, self.tasks[name]

    def _reasons(self, task: Task) -> Iterator[Reason]:
        unreadable = self._unreadable(task)
        if unreadable:
            yield unreadable
        elif task.state.status is State.NEVER:
            yield from self._differences(task) or (Reason(Why.NEVER, "never ran"),)
        elif task.state.status is State.COMPLETE:
            yield from self._stale(task)
        elif not task.is_running:
            yield _ended_badly(task.state)
        if task.name in self.forced and not task.is_running:
            yield Reason(Why.FORCED, "forced")

    def _unreadable(self, task: Task) -> Reason | None:
        for slot, facts in task.resources.items():
            if facts["identity"] is None:
                text = f"the data of {task.cell.needs[slot]!r} cannot be read here"
                return Reason(Why.UNREADABLE, text, slots=(slot,))
        for slot, other in self._upstream(task):
            for reason in other.reasons:
                if reason.why is Why.UNREADABLE:
                    return replace(reason, slots=(slot,))
        return None

    def _stale(self, task: Task) -> Iterator[Reason]:
        """Yield why a complete task should run again all the same."""
        again, names = [], []
        for slot, other in self._upstream(task):
            if other.is_open:
                again.append(slot)
                names.append(other.name)
            elif _is_other(task.state.read.get(slot), other.state.content):
                text = (
                    f"input {slot} was recomputed to other bits ({other.name} is "
                    f"{str(other.state.content)[:12]}, was read as {task.state.read[slot][:12]})"
                )
                yield Reason(Why.RECOMPUTED, text, slots=(slot,), run=other.state.run)
        if again:
            text = f"upstream will run: {', '.join(names)}"
            yield Reason(Why.UPSTREAM, text, slots=tuple(again))
        if self.rerun_changed_code and self._has_changed_code(task):
            yield Reason(Why.CODE, "code changed since")

    def _notes(self, task: Task) -> Iterator[str]:
        if not self.rerun_changed_code and self._has_changed_code(task):
            yield f"the code of {task.stage} changed since run {task.state.run}"
        if task.is_running:
            yield f"running now as {task.state.run}"

    def _has_changed_code(self, task: Task) -> bool:
        complete = task.state.status is State.COMPLETE
        return complete and _is_other(task.state.sources, self.sources.get(task.name))

    # what changed since the cell ran before

    def _differences(self, task: Task) -> list[Reason]:
        earlier = task.state.earlier
        if earlier is None:
            return []
        return [
            *_stage_changes(task, earlier),
            *self._input_changes(task, earlier),
            *_aside_changes(task, earlier),
        ]

    def _input_changes(self, task: Task, earlier: Earlier) -> Iterator[Reason]:
        """Yield a reason for each cause, with the inputs that changed for it."""
        slots: dict[str, list[str]] = {}
        for slot, fingerprint in task.inputs.items():
            old = earlier.needs.get(slot)
            if old is None or old["fingerprint"] != fingerprint:
                slots.setdefault(self._cause(task, slot, old), []).append(slot)
        for slot in earlier.needs.keys() - task.inputs.keys():
            slots.setdefault("is not needed any more", []).append(slot)
        for cause, changed in slots.items():
            text = f"input{'s' * (len(changed) > 1)} {', '.join(changed)} changed ({cause})"
            yield Reason(Why.INPUT, text, slots=tuple(changed))

    def _cause(self, task: Task, slot: str, old: Mapping[str, Any] | None) -> str:
        """Return why an input is another one than before: what began it, however far behind."""
        name = task.cell.needs[slot]
        if old is None:
            return f"{name} is new here"
        if old["name"] != name:
            return f"{old['name']} -> {name}"
        if slot in task.resources:
            return f"{name}: {self._resource_changes(name, old, task.resources[slot])}"
        key = (name, old["fingerprint"])
        if key not in self.causes:
            self.causes[key] = self._root(self.tasks[name], old["fingerprint"])
        return self.causes[key]

    def _resource_changes(self, name: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
        before = {key: old.get(key) for key in ("family", "kind", "settings")}
        if before["kind"] == new["kind"]:
            before["settings"] = self.rules[name].completed(before["settings"] or {})
        changes = changed_keys(before, {key: new[key] for key in before})
        found = [str(change).removeprefix("settings.") for change in changes]
        if old.get("identity") != new["identity"]:
            found.append("its data changed")
        return ", ".join(found)

    def _root(self, task: Task, old: str) -> str:
        earlier = task.state.earlier
        if earlier is None or earlier.fingerprint != old:
            earlier = self.past(task.experiment, old)
        if earlier is None:
            return f"{task.name}: {task.reason or f'is {task.fingerprint}, was {old}'}"
        own = (*_stage_changes(task, earlier), *_aside_changes(task, earlier))
        roots = [f"{task.name}: {reason}" for reason in own]
        for slot, fingerprint in task.inputs.items():
            before = earlier.needs.get(slot)
            if before is None or before["fingerprint"] != fingerprint:
                roots.append(self._cause(task, slot, before))
        return ", ".join(dict.fromkeys(roots)) or f"{task.name}: {task.reason}"


def _ended_badly(state: TaskState) -> Reason:
    """Return the reason that the latest run, or what is left of it, gives."""
    why = Why[state.status.name]
    of = "of" if state.status in (State.MISSING, State.DAMAGED) else "in"
    text = f"{why} {of} run {state.run}" if state.run else str(why)
    return Reason(why, f"{text}: {state.why}" if state.why else text, run=state.run)


def _is_other(old: str | None, new: str | None) -> bool:
    """Whether both are known and differ."""
    return None not in (old, new) and old != new


def _stage_changes(task: Task, earlier: Earlier) -> Iterator[Reason]:
    """Yield what changed in the stage and in the configuration."""
    was = task.stage if earlier.stage in task.cell.former_stages else earlier.stage
    old, new = (f"{was} {earlier.version}", f"{task.stage} {task.cell.version}")
    if old != new:
        yield Reason(Why.STAGE, f"stage changed: {old} -> {new}")
    rules = task.cell.rules
    before, now = (
        {key: value for key, value in config.items() if key not in rules.runtime}
        for config in (rules.completed(earlier.config), task.cell.config)
    )
    changes = tuple(changed_keys(before, now))
    if changes:
        text = f"configuration changed: {', '.join(map(str, changes))}"
        yield Reason(Why.CONFIG, text, changes)


def _aside_changes(task: Task, earlier: Earlier) -> Iterator[Reason]:
    """Yield of which data it reads other parts than before, that no other stage reads."""
    for name in dict.fromkeys((*task.aside, *earlier.aside)):
        if task.aside.get(name) != earlier.aside.get(name):
            yield Reason(Why.INPUT, f"what it alone reads of {name} changed")


_SCALARS = (str, int, float, bool)


def changed_keys(
    old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = ""
) -> Iterator[Change]:
    """Yield the keys in which two configurations of plain JSON values differ.

    Parameters
    ----------
    old, new : mapping
        Nested mappings are compared key by key.
    prefix : str
        What stands before each key.
    """
    for key in dict.fromkeys((*new, *old)):
        before, after = old.get(key), new.get(key)
        if before and before == after and type(before) is type(after) in _SCALARS:
            continue  # most are equal, and texts take their time
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            yield from changed_keys(before, after, f"{prefix}{key}.")
            continue
        texts = [canonical_json(side[key]) if key in side else None for side in (old, new)]
        if texts[0] != texts[1]:
            yield Change(f"{prefix}{key}", *texts)


def _estimated(tasks: Collection[Task]) -> tuple[Task, ...]:
    """Give each due task the median of earlier runs: its own, its experiment's, its stage's."""
    known: dict[str, list[float]] = {}
    for task in tasks:
        for key in (task.experiment, task.stage):  # stages have a dot in their name
            known.setdefault(key, []).extend(task.state.durations)
    medians = {key: median(values) for key, values in known.items() if values}

    def seconds(task: Task) -> float | None:
        own = median(task.state.durations) if task.state.durations else None
        others = (medians.get(task.experiment), medians.get(task.stage))
        return next((value for value in (own, *others) if value is not None), None)

    return tuple(replace(task, seconds=seconds(task)) if task.due else task for task in tasks)
