"""What made what: the settings that a page of results offers, and what was made of concepts.

Names are those of :class:`registry.catalog.lineage.Lineage`: a declared cell, or the identifier of
a run that no cell asks for now.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from registry.catalog.lineage import Entry, Lineage


def settings_of(lineage: Lineage, schema: str) -> list[str]:
    """Return what makes, or has made, datasets of a schema.

    Before the cells of a matrix stands its experiment; runs that no cell asks for come last.

    Parameters
    ----------
    lineage : Lineage
        What there is.
    schema : str
        Name of the schema, as ``matching``.
    """
    settings: list[str] = []
    for experiment, cells in lineage.graph.by_experiment.items():
        names = [cell.name for cell in cells if cell.provides == schema]
        settings += [experiment, *names] if len(names) > 1 else names
    others = (entry for entry in lineage.entries.values() if not entry.is_current)
    return settings + [entry.name for entry in others if entry.provides == schema]


def cells_meant(lineage: Lineage, settings: Iterable[str]) -> list[str]:
    """Return the names that settings stand for, each once; an experiment for all of its cells.

    Where a cell has no dataset as it is declared now, its last run stands for it.
    """
    meant: dict[str, None] = {}
    for setting in settings:
        cells = lineage.graph.by_experiment.get(setting, ())
        names = [cell.name for cell in cells] or [setting]
        meant.update(dict.fromkeys(map(lineage.standing_for, names)))
    return list(meant)


def runs_meant(lineage: Lineage, settings: Iterable[str]) -> list[str]:
    """Return the runs whose datasets are shown for settings."""
    entries = (lineage.entries.get(name) for name in cells_meant(lineage, settings))
    return [entry.run for entry in entries if entry is not None and entry.run]


def settings_for(
    lineage: Lineage, settings: Sequence[str], runs: Sequence[str], offered: Collection[str]
) -> list[str]:
    """Return settings by which exactly some runs are shown.

    Parameters
    ----------
    lineage : Lineage
        What there is.
    settings : sequence of str
        What was chosen when these runs were shown: it stays as far as it means them still.
    runs : sequence of str
        Identifiers.
    offered : collection of str
        What can be chosen.
    """
    kept = [
        setting
        for setting in settings
        if setting in offered and set(runs_meant(lineage, [setting])) <= set(runs)
    ]
    shown = set(runs_meant(lineage, kept))
    others = (lineage.of_run(run) for run in runs if run not in shown)
    return kept + [entry.name for entry in others if entry is not None and entry.name in offered]


def first_settings(lineage: Lineage, settings: Sequence[str], together: int = 1) -> list[str]:
    """Return with which settings to begin: the first that has a dataset, and others like it.

    What some other experiment needs comes before what none does: verdicts on metrics that names
    stand beside, before those that nothing rests on.

    Parameters
    ----------
    lineage : Lineage
        What there is.
    settings : sequence of str
        As :func:`settings_of` returns them, at least one.
    together : int
        How many, at most. Others are like the first if they are made from the same inputs, so
        that they differ in their configuration alone.
    """
    needed = _needed(lineage)
    order = sorted(settings, key=lambda setting: setting not in needed)
    made = [name for name in order if any(map(lineage.is_made, cells_meant(lineage, [name])))]
    if not made:
        return [settings[0]]
    first, needs = made[0], _needs(lineage, made[0])
    others = (name for name in made[1:] if together > 1 and _needs(lineage, name) == needs)
    # what no cell asks for is shown where it stands for one, or is asked for
    others = (name for name in others if _is_declared(lineage, name))
    return [first, *(name for name, _ in zip(others, range(together - 1), strict=False))]


def _is_declared(lineage: Lineage, setting: str) -> bool:
    return setting in lineage.graph.cells or setting in lineage.graph.by_experiment


def _needed(lineage: Lineage) -> set[str]:
    """Return the cells and experiments that some cell needs."""
    cells = lineage.graph.cells
    named = {name for cell in cells.values() for name in cell.needs.values()}
    return named | {cells[name].experiment for name in named if name in cells}


def _needs(lineage: Lineage, setting: str) -> Mapping[str, str]:
    return lineage.entries[cells_meant(lineage, [setting])[0]].needs


def behind(lineage: Lineage, name: str, schema: str) -> str:
    """Return the nearest name of a schema that something is made from, "" if there is none."""
    entries = lineage.entries
    level = [name]
    while level:
        needed = [n for one in level if one in entries for n in entries[one].needs.values()]
        found = next((n for n in needed if n in entries and entries[n].provides == schema), "")
        if found:
            return found
        level = list(dict.fromkeys(needed))
    return ""


# -- what was made of a set of concepts ----------------------------------------------------------


def made_of(lineage: Lineage, name: str, schema: str) -> list[str]:
    """Return what makes a dataset of a schema from something, through any number of steps.

    Parameters
    ----------
    lineage : Lineage
        What there is.
    name : str
        What they rest on.
    schema : str
        Name of the schema, as ``consistency``.
    """
    return [entry.name for entry in lineage.made_from(name) if entry.provides == schema]


def cells_of(lineage: Lineage, schema: str, made_from: str = "") -> list[str]:
    """Return what makes a dataset of a schema, of that made from something if it is named.

    Parameters
    ----------
    lineage : Lineage
        What there is.
    schema : str
        Name of the schema, as ``gallery``.
    made_from : str
        What they need directly.
    """
    entries = lineage.users(made_from) if made_from else lineage.entries.values()
    return [entry.name for entry in entries if entry.provides == schema]


def first_made(lineage: Lineage, names: Sequence[str]) -> int:
    """Return the index of the first of these that has a dataset, preferred ones before others.

    A cell has one too where its last run stands for it. 0 if none has.
    """
    made = [place for place, name in enumerate(names) if _is_shown(lineage, name)]
    preferred = (place for place in made if _run_of(lineage, names[place]) in lineage.preferred)
    return next(preferred, made[0] if made else 0)


def _is_shown(lineage: Lineage, name: str) -> bool:
    return lineage.is_made(lineage.standing_for(name))


def _run_of(lineage: Lineage, name: str) -> str:
    return lineage.entries[lineage.standing_for(name)].run


def maker_of(lineage: Lineage, name: str, schema: str) -> str:
    """Return what has made a dataset of a schema from something, or would; "" if nothing does."""
    return chosen_of(lineage, cells_of(lineage, schema, made_from=name))


def chosen_of(lineage: Lineage, names: Sequence[str]) -> str:
    """Return the first of these that has a dataset, preferred ones first; else the first, or "".

    Only what was made from the very thing that is asked about can be among them: no other run
    stands for a cell here.
    """
    made = [name for name in names if lineage.is_made(name)]
    preferred = (name for name in made if lineage.entries[name].run in lineage.preferred)
    return next(preferred, next(iter([*made, *names]), ""))


def autoencoder_of(lineage: Lineage, name: str) -> str:
    """Return the SAE whose concepts are measured; "" for a layer's own channels, or of one gone."""
    needed = lineage.entries[name].needs.get("sae", "")
    return needed if needed in lineage.entries else ""


def fidelities_of(lineage: Lineage, autoencoder: str) -> list[str]:
    """Return what measures the fidelity of an SAE; nothing of no SAE."""
    return cells_of(lineage, "fidelity", made_from=autoencoder) if autoencoder else []


def other_set(matching: Entry, name: str, sae: str = "") -> tuple[str, bool] | None:
    """Return what a set of concepts is matched with, and whether it is itself the first of both.

    Parameters
    ----------
    matching : Entry
        Of a ``matching`` dataset.
    name, sae : str
        The set of concepts, and its SAE, which may have been matched in its place.

    Returns
    -------
    pair of str and bool, or None
        None where the set is neither of both.
    """
    one, other = matching.needs.get("one", ""), matching.needs.get("other", "")
    own = {each for each in (name, sae) if each}
    if one in own:
        return other, True
    return (one, False) if other in own else None
