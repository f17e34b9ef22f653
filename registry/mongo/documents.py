"""What a journal is in MongoDB: the documents that Sacred's own observer writes for such a run.

Pure: the same journal always gives the same documents, down to the identities of metrics and
files, so that whoever projects a journal, and how often, makes no difference.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from registry.mongo.database import as_object_id, digest
from registry.record.journal import Journal, Part

FORMAT = "MongoObserver-0.7.0"
"""The schema that Sacred 0.8 names in its records."""

LARGEST = 15 * 1024 * 1024
"""Bytes of a document; MongoDB takes 16 MiB."""

_KEPT = {
    ("info", "factbook"),
    ("info", "metrics"),
    ("experiment", "name"),
    ("experiment", "sources"),
}
_AS_IT_IS = ("command", "host", "start_time", "config", "meta", "status")
OWN_FIELDS = (
    *("experiment", "format", *_AS_IT_IS, "resources", "artifacts", "captured_out"),
    *("heartbeat", "result", "stop_time", "fail_trace"),
)
"""What only the registry writes into a run, beside its own keys of `info`."""

_INFO = "info."
_OWN_INFO = ("factbook", "metrics")
_MOST_RESOURCES = 20_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NOTE = 200  # bytes of what stands where a value was left out, at most
_IDENTITY = frozenset(
    {"uid", "experiment", "stage", "fingerprint", "pid", "create_time", "journal_bytes"}
)


@dataclass(frozen=True)
class StoredFile:
    """A file that goes to GridFS.

    Attributes
    ----------
    id : ObjectId
        Its identity there.
    path : Path
        Where its content lies in the journal.
    md5 : str
        Digest of its content.
    name : str
        Its name there; of an artifact, what follows the number of the run in it.
    extra : dict or None
        Of an artifact: its MIME type and metadata.
    """

    id: Any
    path: Path
    md5: str
    name: str
    extra: dict[str, Any] | None = None


@dataclass(frozen=True)
class MetricDocument:
    """One document of ``metrics``: a part of a metric, under an identity of its own."""

    id: Any
    name: str
    part: Part

    def points(self, since: int = 0) -> dict[str, list[Any]]:
        """Return the columns of the points after the first ones, as MongoDB takes them.

        Raises
        ------
        ReleasedError
            If some of them were released.
        """
        columns = dict(self.part.since(since))
        moments = columns["timestamps"]
        return {**columns, "timestamps": [_EPOCH + timedelta(milliseconds=ms) for ms in moments]}


@dataclass(frozen=True)
class RunDocuments:
    """All that MongoDB holds of one run.

    Attributes
    ----------
    run : dict
        The document of ``runs`` without its ``_id``. Sources and artifacts refer to files by
        the identities of `files`.
    metrics : tuple of MetricDocument
        Documents of ``metrics``, a metric's parts in order.
    files : tuple of StoredFile
        Sources and artifacts.
    """

    run: dict[str, Any]
    metrics: tuple[MetricDocument, ...]
    files: tuple[StoredFile, ...]

    def files_by_name(self, run_id: int | None = None) -> dict[str, StoredFile]:
        """Return the sources by their names in GridFS, or the artifacts of a run of a number."""
        if run_id is None:
            return {file.name: file for file in self.files if file.extra is None}
        artifacts = (file for file in self.files if file.extra is not None)
        return {f"artifact://runs/{run_id}/{file.name}": file for file in artifacts}


@dataclass(frozen=True)
class Seal:
    """What the record of a run that is over must be, in a few bytes.

    Attributes
    ----------
    size : int
        Bytes of the journal that it was made of.
    digest : str
        Of the fields that the registry owns.
    info : tuple of str
        Keys of ``info`` among them.
    """

    size: int
    digest: str
    info: tuple[str, ...]

    @classmethod
    def of(cls, size: int, fields: Mapping[str, Any]) -> Seal:
        """Return the seal of fields by dotted key, as :func:`fields_of` returns them."""
        info = sorted(name.removeprefix(_INFO) for name in fields if name.startswith(_INFO))
        return cls(size, digest(fields), tuple(info))

    def own(self, record: Mapping[str, Any]) -> dict[str, Any]:
        """Return the fields of a record that the registry owns, by dotted key."""
        info = record.get("info")
        held = info if isinstance(info, Mapping) else {}
        names = {*_OWN_INFO, *self.info} & held.keys()
        own = {name: record[name] for name in OWN_FIELDS if name in record}
        return own | {f"{_INFO}{name}": held[name] for name in names}

    def is_broken(self, record: Mapping[str, Any]) -> bool:
        """Return whether a record is not what it was."""
        return digest(self.own(record)) != self.digest


def documents(journal: Journal) -> RunDocuments:
    """Return the documents of a journal that has at least been begun.

    Parameters
    ----------
    journal : Journal
        What :func:`registry.record.journal.read_journal` returns.

    Returns
    -------
    RunDocuments
        No document is larger than MongoDB takes: the middle of the console and, if need be, the
        largest other values are replaced by a line that says so.
    """
    base, folder = Path(journal.experiment["base_dir"]), journal.folder
    sources = [
        StoredFile(
            object_id("source", base / name, md5), folder / "sources" / md5, md5, f"{base / name}"
        )
        for name, md5 in journal.experiment["sources"]
    ]
    artifacts = [
        StoredFile(
            object_id("artifact", journal.uid, number, artifact["name"], artifact["md5"]),
            folder / "artifacts" / artifact["md5"],
            artifact["md5"],
            artifact["name"],
            {"contentType": artifact["content_type"], "metadata": artifact["metadata"]},
        )
        for number, artifact in enumerate(journal.artifacts)
        if artifact["kept"]
    ]
    metrics = tuple(
        MetricDocument(object_id("metric", journal.uid, name, part.first), name, part)
        for name, series in journal.metrics.items()
        for part in series.parts
    )
    run = _run(journal, sources, artifacts, metrics)
    _fit(run)
    # A file's content that could not be kept is missing, and no reason to hold up the rest.
    files = tuple(file for file in [*sources, *artifacts] if file.path.exists())
    return RunDocuments(run, metrics, files)


def fields_of(run: Mapping[str, Any]) -> dict[str, Any]:
    """Return a run's document by dotted key: `info` key by key, since other clients write there."""
    info = {f"{_INFO}{name}": value for name, value in run["info"].items()}
    return {**{name: value for name, value in run.items() if name != "info"}, **info}


def object_id(*parts: object) -> Any:
    """Return the identity that stands for `parts`."""
    return as_object_id(hashlib.sha256("\0".join(map(str, parts)).encode()).hexdigest()[:24])


def bson_size(value: Any) -> int:
    """Return how many bytes a plain value takes in MongoDB, at most."""
    if isinstance(value, str):
        return 5 + len(value.encode())
    if isinstance(value, dict):
        return 5 + sum(2 + len(key.encode()) + bson_size(item) for key, item in value.items())
    if isinstance(value, list):
        return 5 + sum(2 + len(str(index)) + bson_size(item) for index, item in enumerate(value))
    return 12  # the longest scalar, an ObjectId


def _run(
    journal: Journal,
    sources: list[StoredFile],
    artifacts: list[StoredFile],
    metrics: tuple[MetricDocument, ...],
) -> dict[str, Any]:
    names = (name for name, _ in journal.experiment["sources"])
    pairs = [[name, file.id] for name, file in zip(names, sources, strict=True)]
    run: dict[str, Any] = {
        "experiment": {**journal.experiment, "sources": pairs},
        "format": FORMAT,
        **{name: getattr(journal, name) for name in _AS_IT_IS},
        "resources": journal.resources[:_MOST_RESOURCES],
        "artifacts": [{"name": file.name, "file_id": file.id} for file in artifacts],
        "captured_out": journal.console(),
        "info": _info(journal, metrics),
        "heartbeat": journal.heartbeat,
        "result": journal.result,
    }
    if journal.ended:
        run["stop_time"] = journal.stop_time
    if journal.fail_trace is not None:
        run["fail_trace"] = journal.fail_trace
    return run


def _info(journal: Journal, metrics: tuple[MetricDocument, ...]) -> dict[str, Any]:
    info = dict(journal.info)
    own = info.pop("factbook", {})
    facts = {**(own if isinstance(own, dict) else {"info": own}), **journal.facts}
    large = [artifact for artifact in journal.artifacts if not artifact["kept"]]
    if large:
        facts["artifacts_not_stored"] = large
    if len(journal.resources) > _MOST_RESOURCES:
        facts["resources_not_stored"] = len(journal.resources) - _MOST_RESOURCES
    facts["journal_bytes"] = journal.size
    if metrics:
        info["metrics"] = [{"name": metric.name, "id": str(metric.id)} for metric in metrics]
    return {**info, "factbook": facts}


def _fit(run: dict[str, Any]) -> None:
    """Leave out the largest values until the document fits."""
    while bson_size(run) > LARGEST:
        holder, key = max(_dispensable(run), key=lambda found: bson_size(found[0][found[1]]))
        size = bson_size(holder[key])
        if size < _NOTE:
            raise ValueError(f"a record of {bson_size(run)} bytes has nothing large to leave out")
        holder[key] = f"{size} bytes left out, more than MongoDB takes; the journal has them"


def _dispensable(run: dict[str, Any]) -> Iterator[tuple[dict[str, Any], str]]:
    """Yield where values stand that a record can do without: copies, never the journal's own."""
    for name in ("info", "config", "host", "meta", "experiment"):
        run[name] = dict(run[name])
        yield from ((run[name], key) for key in run[name] if (name, key) not in _KEPT)
    facts = run["info"]["factbook"] = dict(run["info"]["factbook"])
    yield from ((facts, key) for key in facts if key not in _IDENTITY)
    yield from ((run, key) for key in ("result", "fail_trace") if key in run)
