"""Files that are whole or not there: temporary name, sync, rename, sync of the folder."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import secrets
import shutil
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from registry.suggest import RefusalError

CHECK = "crc32"
TEMPORARY = ".tmp"
STATE_FOLDER = ".factbook"
RESTORING = "restoring.json"
"""In the state of a project that is being restored, or whose restoration was cut short."""
_FULL = {errno.ENOSPC: "disk full", errno.EDQUOT: "quota used up", errno.EFBIG: "file too large"}


_ENCODER = json.JSONEncoder(
    sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
)


class StoreError(RefusalError, RuntimeError):
    """A dataset that cannot be written, or that is not whole."""


@contextmanager
def disk_errors(path: Path, needed: int | None = None) -> Iterator[None]:
    """Turn the system's errors about a full disk into one that names path, need and space.

    Parameters
    ----------
    path : Path
        What is written.
    needed : int or None
        Bytes that it takes at most, where that is known.

    Raises
    ------
    StoreError
        If the disk is full, a quota used up, or a file would grow beyond its limit.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        with suppress(OSError):
            free = f"; {shutil.disk_usage(path.parent).free:,} bytes are free"
        need = "" if needed is None else f", which takes up to {needed:,} bytes"
        raise StoreError(f"{_FULL[error.errno]}: cannot write {path}{need}{free}") from error


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the same folder, which becomes `path` if all went well.

    What was written is on the disk before it has its name. After an error nothing is left.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}{TEMPORARY}")
    try:
        yield temporary
        sync(temporary)
        os.replace(temporary, path)
        sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def whole_file_told(path: Path, needed: int | None = None) -> Iterator[Path]:
    """Yield a temporary path as `whole_file` does, with the errors of :func:`disk_errors`.

    An error while it is written tells how much room there was with it, not when it is gone again.
    """
    with (
        disk_errors(path, needed),
        whole_file(path) as temporary,
        disk_errors(path, needed),
    ):
        yield temporary


def make_state_folder(folder: Path) -> None:
    """Make a folder below ``.factbook``; where that is made too, only its owner enters it.

    It holds what runs print and read, and the password of the embedded database.
    """
    for above in (folder, *folder.parents):
        if above.name == STATE_FOLDER:
            above.parent.mkdir(parents=True, exist_ok=True)
            above.mkdir(mode=0o700, exist_ok=True)
    folder.mkdir(parents=True, exist_ok=True)


def sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_at(descriptor: int, data: bytes | memoryview, start: int) -> None:
    """Write all of some bytes into an open file, from a position on."""
    written = 0
    while written < len(data):
        written += os.pwrite(descriptor, data[written:], start + written)


def write_json(path: Path, value: Any) -> None:
    """Write plain values as one JSON file, whole or not at all.

    Raises
    ------
    StoreError
        If the disk is full.
    """
    write_whole(path, json_text(value).encode())


def checked(value: Mapping[str, Any]) -> dict[str, Any]:
    """Return plain values with the CRC-32 of what they say, as :func:`is_as_checked` compares."""
    own = {name: said for name, said in value.items() if name != CHECK}
    return {**own, CHECK: f"{zlib.crc32(canonical_json(own).encode()):08x}"}


def is_as_checked(value: Mapping[str, Any]) -> bool:
    """Return whether values that were read say what was written, by the checksum that they have."""
    try:
        return bool(value.get(CHECK) == checked(value)[CHECK])
    except ValueError:  # NaN, which is never written
        return False


def json_text(value: Any) -> str:
    """Return plain values as JSON for people to read, with a line's end; finite numbers."""
    return json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def write_whole(path: Path, data: bytes) -> None:
    """Write a small file, whole or not at all.

    Raises
    ------
    StoreError
        If the disk is full.
    """
    with whole_file_told(path, len(data)) as temporary:
        temporary.write_bytes(data)


def read_json(path: str | Path) -> dict[str, Any] | None:
    """Return the JSON object of a file, or None where there is none to be read."""
    return json_object(read_small(path))


def json_object(data: bytes) -> dict[str, Any] | None:
    """Return the object that a JSON text holds, None where it holds none."""
    try:
        value = json.loads(data.decode())
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def read_small(path: str | Path) -> bytes:
    """Return a small file's bytes; none where there is no such file, or it cannot be read."""
    try:  # thousands are read for a plan
        with open(path, "rb", buffering=0, opener=at_once) as file:
            return file.readall() or b""
    except OSError:
        return b""


def at_once(path: str | Path, flags: int) -> int:
    """Open a file as ``open(…, opener=at_once)`` does: what lies in its place keeps nobody waiting.

    A pipe of that name would be waited for until somebody writes to it.
    """
    return os.open(path, flags | os.O_NONBLOCK)


def canonical_json(value: Any) -> str:
    """Return the one JSON text of a plain value: sorted keys, no whitespace, finite numbers."""
    return _ENCODER.encode(value)


def append_line(path: Path, line: str) -> None:
    """Append one line and wait until it is on the disk; a torn line before it is ended first.

    Raises
    ------
    StoreError
        If the disk is full.
    """
    with disk_errors(path, len(line) + 1):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
        try:
            size = os.fstat(descriptor).st_size
            torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
            os.write(descriptor, f"{chr(10) if torn else ''}{line}\n".encode())
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


class Lock:
    """A locked file, until it is released, or this process is gone.

    Children that are forked meanwhile do not hold it: a helper that outlives a killed process
    would keep everybody else out.
    """

    def __init__(self, descriptor: int):
        self._descriptor = descriptor
        _HELD.add(self)

    @property
    def is_held(self) -> bool:
        """Whether this process has it."""
        return self._descriptor >= 0

    def release(self) -> None:
        """Let others have it; again does nothing."""
        if self.is_held:
            os.close(self._descriptor)
            self._descriptor = -1
            _HELD.discard(self)


_HELD: set[Lock] = set()


def _release_all() -> None:
    for held in list(_HELD):
        held.release()


os.register_at_fork(after_in_child=_release_all)


def lock(path: Path, *, wait: bool = True) -> Lock | None:
    """Lock a file, made if need be, against other processes.

    Returns
    -------
    Lock or None
        None if another process has the lock and this one does not `wait`. Where the file system
        has no locks, everybody has it.
    """
    flags = os.O_RDONLY if path.is_dir() else os.O_RDWR | os.O_CREAT
    descriptor = os.open(path, flags, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        os.close(descriptor)
        return None
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP):
            os.close(descriptor)
            raise
    return Lock(descriptor)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the :func:`lock` of a file, or of a folder itself, inside the block."""
    held = lock(path)
    try:
        yield
    finally:
        if held is not None:
            held.release()


def clear_temporary(folder: Path, name: str = "") -> None:
    """Remove what writers that died have left in a folder, of one file or of any.

    Nobody else may be writing it.
    """
    for path in folder.rglob(f".{name}*{TEMPORARY}"):
        path.unlink(missing_ok=True)


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal digits."""
    with open(path, "rb", opener=at_once) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
