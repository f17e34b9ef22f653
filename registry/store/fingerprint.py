"""The fingerprint of a task or a resource: a hash of what can change its result.

Two declarations that mean the same have the same fingerprint, whatever their order of keys, and
whether a default is written out or left out: what is hashed is resolved first.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from hashlib import sha256
from typing import Any

_ENCODER = json.JSONEncoder(
    sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
)


def canonical_json(value: Any) -> str:
    """Return the one JSON text of a plain value: sorted keys, no whitespace, finite numbers."""
    return _ENCODER.encode(value)


def fingerprint(value: Any) -> str:
    """Return the first 16 hexadecimal digits of the SHA-256 of a value's canonical JSON."""
    return sha256(canonical_json(value).encode()).hexdigest()[:16]


def task_fingerprint(
    stage: str, version: int, config: Mapping[str, Any], inputs: Mapping[str, str]
) -> str:
    """Return the fingerprint of a task.

    Parameters
    ----------
    stage, version : str, int
        The stage that is run.
    config : mapping
        The resolved configuration as plain JSON values, without the keys that cannot change the
        result.
    inputs : mapping of str to str
        Slot to the fingerprint of what fills it.
    """
    return fingerprint({"stage": stage, "version": version, "config": config, "inputs": inputs})


def resource_fingerprint(
    family: str, kind: str, settings: Mapping[str, Any], identity: str | None
) -> str:
    """Return the fingerprint of a declared resource.

    Parameters
    ----------
    family, kind : str
        As declared: ``datasets`` and ``image-folder``.
    settings : mapping
        The resolved settings as plain JSON values.
    identity : str or None
        The identity of the outside data that the settings name (a content hash); None where it
        is not known.
    """
    return fingerprint({"family": family, "kind": kind, "settings": settings, "identity": identity})
