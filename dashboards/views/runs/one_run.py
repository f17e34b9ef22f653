"""One run: what it was asked, what it gave, and what it read and made."""

from __future__ import annotations

import json
import math
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pandas as pd

from dashboards.views.parts.measured import ACCURACIES
from dashboards.views.parts.text import (
    duration_text,
    setting_text,
    size_text,
    time_text,
    value_text,
)
from dashboards.views.runs.headlines import measured_on
from registry.catalog.access import Catalog, UnknownRunError
from registry.catalog.runs import RunDetails, RunView, flat
from registry.execute.resolved import PROGRESS
from registry.record.journal import journal_root
from registry.store.durable import read_json

CONSOLE_LINES = 400
_NAME = re.compile(r"\w[^/\\\0]*")
_MOST_DIGITS = 18  # of a number that MongoDB can hold
_EXACT = 2**53  # above which a browser rounds
_OWN_KEYS = ("experiment", "needs")
"""Keys that stand in Sacred's configuration beside the stage's own."""


def find_run(catalog: Catalog, name: str) -> RunView:
    """Return the run that an address or a reader names.

    Parameters
    ----------
    catalog : Catalog
        Where to look.
    name : str
        A number, an identifier, or a cell, whose newest run is meant.

    Raises
    ------
    UnknownRunError
        If there is none. What cannot be a name is not looked for: it might lead elsewhere.
    """
    if not _NAME.fullmatch(name) or (name.isdecimal() and len(name) > _MOST_DIGITS):
        raise UnknownRunError(f"no run {name[:100]!r}")
    return catalog.run(name)


@dataclass(frozen=True)
class Progress:
    """How far a running run is: ``done`` of ``total``, and at what."""

    done: float
    total: float
    what: str

    @property
    def share(self) -> float:
        """Between 0 and 1."""
        return min(1.0, max(0.0, self.done / self.total)) if self.total else 0.0


def progress(catalog: Catalog, run: RunView) -> Progress | None:
    """Return how far a run is, where it runs and tells."""
    if run.status != "RUNNING" or not run.uid:
        return None
    found = read_json(journal_root(catalog.project.root) / run.uid / PROGRESS)
    try:
        what = str((found or {}).get("what") or "")
        return Progress(float(found["done"]), float(found["total"]), what) if found else None
    except (KeyError, TypeError, ValueError):
        return None


def spent_text(run: RunView, now: datetime | None = None) -> str:
    """Return how long a run took, or how long it has been running; "" where that is not known.

    Of a running one, by `now`; without it, and of one that died, by its last sign of life.
    """
    seconds, words = run.seconds, "took"
    if run.status == "RUNNING" and run.started and now is not None:
        seconds, words = (now - run.started).total_seconds(), "running for"
    elif run.status in ("RUNNING", "DIED"):
        words = "last sign of life after"
    took = duration_text(seconds)
    return f"{words} {took}" if took else ""


def status_line(run: RunView) -> str:
    """Return when a run started, how long it took and where."""
    text = f"started {time_text(run.started)}" if run.started else "not started"
    return " · ".join(filter(None, (text, spent_text(run), f"on {run.host}" if run.host else "")))


def status_note(run: RunView) -> str:
    """Return what a status means where it is not obvious, "" elsewhere."""
    if run.status == "DIED":
        return (
            "Its process ended without a word: killed, out of memory, or the machine went down. "
            "Run its task again to resume what can be resumed."
        )
    if run.status == "INTERRUPTED":
        by = run.facts.get("interrupted_by")
        return f"Interrupted{f' ({by})' if by else ''}. Run its task again to resume."
    return ""


def settings_frame(values: Mapping[str, Any], are_results: bool = False) -> pd.DataFrame:
    """Return settings or results as rows of ``key`` and ``value``, nested ones by dotted key.

    Settings have all their digits, results three.
    """
    text = value_text if are_results else setting_text
    rows = [
        (key or "result", "None" if value is None else text(value)) for key, value in flat(values)
    ]
    return pd.DataFrame(rows, columns=["key", "value"], dtype=object)


def results_frame(run: RunView) -> pd.DataFrame:
    """Return the results of a run as rows of ``key`` and ``value``; accuracies say of what."""
    frame = settings_frame(run.result, are_results=True)
    of = measured_on(run)
    is_accuracy = frame["key"].isin(ACCURACIES) & bool(of)
    frame.loc[is_accuracy, "value"] += f" {of}"
    return frame


def _own_config(run: RunView) -> dict[str, Any]:
    return {
        key: value for key, value in run.config.items() if key not in _OWN_KEYS or not run.stage
    }


def config_frame(run: RunView) -> pd.DataFrame:
    """Return the configuration of a run's stage; overridden keys are marked."""
    frame = settings_frame(_own_config(run))
    if run.overrides:
        frame["overridden"] = [key in run.overrides for key in frame["key"]]
    return frame


def config_tree(run: RunView) -> dict[str, Any]:
    """Return the configuration of a run's stage as nested plain values that JSON can hold."""
    return {key: _leaf(value) for key, value in _own_config(run).items()}


def _leaf(value: Any) -> Any:
    """Return a value as JSON shows it in any browser: no NaN, no number that would be rounded."""
    if isinstance(value, Mapping):
        return {str(key): _leaf(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_leaf(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, int) and abs(value) >= _EXACT and not isinstance(value, bool):
        return str(value)
    return value if value is None or isinstance(value, str | bool | int | float) else str(value)


def facts_frame(run: RunView) -> pd.DataFrame:
    """Return what identifies a run, as rows of ``key`` and ``value``."""
    version = run.facts.get("stage_version")
    facts = {
        "run": f"{'not in MongoDB yet' if run.id is None else run.id}",
        "identifier": run.uid,
        "cell": run.cell,
        "part": run.part.code if run.part else "",
        "stage": f"{run.stage}{f', version {version}' if version else ''}",
        "fingerprint": run.fingerprint,
        "commit": str(run.facts.get("commit") or ""),
        "stopped": time_text(run.stopped),
    }
    return settings_frame({key: value for key, value in facts.items() if value})


@dataclass(frozen=True)
class RunInput:
    """What filled one slot of a run; ``run`` is "" for a declared dataset or network."""

    slot: str
    name: str
    kind: str
    run: str


def run_inputs(run: RunView) -> list[RunInput]:
    """Return the inputs of a run, in order of its slots."""
    return [
        RunInput(slot, *(str(found.get(key) or "") for key in ("name", "kind", "run")))
        for slot, found in run.inputs.items()
        if isinstance(found, Mapping)
    ]


def output_frame(run: RunView) -> pd.DataFrame:
    """Return what a run made, as rows of ``key`` and ``value``; empty if nothing."""
    output = run.output
    if not output:
        return settings_frame({})
    sizes = output.get("sizes")
    sizes = sizes if isinstance(sizes, Mapping) else {}
    shape = [f"{name} {size:,}" for name, size in sizes.items() if isinstance(size, int)]
    facts = {
        "dataset": output.get("schema"),
        "dimensions": " × ".join(shape),
        "bytes": size_text(output.get("bytes")),
        "path": output.get("path"),
        "content": output.get("content"),
    }
    return settings_frame({key: value for key, value in facts.items() if value})


def packages_frame(run: RunView, details: RunDetails) -> pd.DataFrame:
    """Return ``package``, ``version`` and, where it is known, the digest of its files.

    Those that the registry noted, and what Sacred notes of any client's run.
    """
    noted, digests = (
        found if isinstance(found := run.facts.get(name), Mapping) else {}
        for name in ("packages", "package_hashes")
    )
    pairs = (text.partition("==")[::2] for text in details.dependencies)
    versions = {**dict(pairs), **noted}
    rows = [
        (name, str(version), str(digests.get(name) or "")) for name, version in versions.items()
    ]
    frame = pd.DataFrame(sorted(rows), columns=["package", "version", "digest"], dtype=object)
    return frame if digests else frame.drop(columns="digest")


def host_frame(run: RunView, details: RunDetails) -> pd.DataFrame:
    """Return where a run ran, as rows of ``key`` and ``value``."""
    process = {key: run.facts.get(key) for key in ("pid", "boot") if run.facts.get(key)}
    return settings_frame({"hostname": run.host, **details.host, **process})


def git_frame(details: RunDetails) -> pd.DataFrame:
    """Return the repositories that the code of a run came from."""
    rows = [
        (url, commit, "uncommitted changes" if dirty else "clean")
        for url, commit, dirty in details.repositories
    ]
    return pd.DataFrame(rows, columns=["repository", "commit", "state"], dtype=object)


def repeat_command(run: RunView) -> str:
    """Return the command that runs the same again, "" where there is none to tell."""
    if not run.stage or not run.experiment:
        return ""
    if not run.overrides:
        return shlex.join(["factbook", "run", "--force", run.cell])
    changes = [f"{key}={_typed(value)}" for key, value in run.overrides.items()]
    return shlex.join(["python", "-m", run.stage, "with", run.experiment, *changes])


def _typed(value: Any) -> str:
    """Return a value as Sacred's command line reads it."""
    return json.dumps(value) if isinstance(value, dict | list | tuple) else str(value)


def console_end(text: str, lines: int = CONSOLE_LINES) -> tuple[str, int]:
    """Return the last lines of a console, and how many were left out before them."""
    split = text.rstrip("\n").split("\n")
    return "\n".join(split[-lines:]), max(0, len(split) - lines)
