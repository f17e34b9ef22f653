"""What is behind a run: its code and packages, hashed and versioned."""

from __future__ import annotations

import ast
import dataclasses
import functools
import hashlib
import importlib.util
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from registry.declare.faults import StageError
from registry.declare.plugins import plugin_modules
from registry.loaded import loaded_text
from registry.store.durable import make_state_folder, read_json, write_whole

DISTRIBUTION = "factbook"
MOST_REMEMBERED = 1000  # source texts, of which an installation has some two hundred


@dataclass(frozen=True)
class Commit:
    """State of the git repository that holds a file."""

    repository: str
    commit: str
    dirty: bool


@dataclass(frozen=True)
class Code:
    """What a run is made with, as it was when it was planned.

    Attributes
    ----------
    main : Path
        The file of the stage.
    files : tuple of Path
        It and all that it imports from the plug-ins' packages, sorted.
    digest : str
        Digest of the files: 16 hexadecimal digits, without comments and layout.
    packages, package_hashes : mapping of str to str
        Installed versions of the distribution and of what it requires, and digests of the lists of
        files, with their hashes, that were installed, by name.
    commit : Commit or None
        Of the repository that the stage is in, or else of the project's.
    """

    main: Path
    files: tuple[Path, ...]
    digest: str
    packages: Mapping[str, str]
    package_hashes: Mapping[str, str]
    commit: Commit | None


@functools.cache
def code_of(stage: str, project_root: Path, modules: tuple[str, ...] = ()) -> Code:
    """Return the code of a stage, given as the name of its module.

    Parameters
    ----------
    stage : str
        The module.
    project_root : Path
        Folder of the project.
    modules : tuple of str
        Whose code counts as the stage's own, as :meth:`Stage.code_modules` returns them.

    Raises
    ------
    StageError
        If the module has no file, or its file is gone.
    """
    main = module_file(stage)
    if main is None:
        if loaded := getattr(sys.modules.get(stage), "__file__", None):
            raise _gone(Path(loaded), stage)
        raise StageError(f"stage {stage!r} has no source file")
    commit = commit_of(main.parent) or commit_of(project_root)
    files, digest = stage_sources(stage, modules), sources_hash(stage, modules)
    return Code(main, files, digest, *_packages(), commit)


def code_as_loaded(code: Code, stage: str, modules: tuple[str, ...] = ()) -> Code:
    """Return the code of a stage as this process has loaded it, whatever it was when planned.

    Parameters
    ----------
    code : Code
        As it was planned.
    stage, modules : str, tuple of str
        As for :func:`code_of`.

    Raises
    ------
    StageError
        If the stage's own file is gone, and this process did not load it.
    """
    files = _stage_sources(stage, modules, source_text, _loaded_file)
    if code.main not in files:
        raise _gone(code.main, stage)
    return dataclasses.replace(code, files=files, digest=_digest_of(files, source_text))


def source_text(path: Path) -> bytes:
    """Return a source file as this process has loaded it, or else as it is now."""
    known = loaded_text(str(path))
    return known if known is not None else file_text(path)


def file_text(path: Path) -> bytes:
    """Return a source file as it is now, which is what a run that is planned will load.

    Raises
    ------
    StageError
        If it is gone.
    """
    try:
        stat = path.stat()
        return _read(path, stat.st_size, stat.st_mtime_ns)
    except FileNotFoundError as error:
        raise _gone(path) from error


def _gone(path: Path, stage: str = "") -> StageError:
    """Say which source file is not there any more, and what to do."""
    of_stage = f" of stage {stage!r}" if stage else ""
    return StageError(f"the source file {path}{of_stage} is gone: put it back, and run again")


@functools.cache
def _read(path: Path, *_: int) -> bytes:
    return path.read_bytes()


def loaded_sources(code: Code) -> dict[Path, tuple[str, bytes]]:
    """Return the MD5 digest and the text of each file of a run's code, as it was loaded."""
    texts = {path: source_text(path) for path in code.files}
    return {path: (_md5(text), text) for path, text in texts.items()}


@functools.cache
def _md5(text: bytes) -> str:
    return hashlib.md5(text).hexdigest()


@functools.cache
def stage_sources(module: str, modules: tuple[str, ...] = ()) -> tuple[Path, ...]:
    """Return the files of a stage: its module, and all it imports from the plug-ins' packages.

    Imports are followed statically, so that those inside functions count, and nothing is loaded.

    Parameters
    ----------
    module : str
        Name of the stage's module.
    modules : tuple of str
        Modules that count as if the first one imported them.

    Returns
    -------
    tuple of Path
        Sorted, without the framework's own files.
    """
    return _stage_sources(module, modules, file_text, module_file)


def _stage_sources(
    module: str,
    modules: tuple[str, ...],
    read: Callable[[Path], bytes],
    find: Callable[[str], Path | None],
) -> tuple[Path, ...]:
    known_by_name = (module, *modules, *plugin_modules())
    roots = {name.split(".")[0] for name in known_by_name} - {"registry"}
    seen: dict[str, Path] = {}
    waiting = [module, *modules]
    with _remembered() as look_up:
        while waiting:
            name = waiting.pop()
            path = find(name) if name.split(".")[0] in roots and name not in seen else None
            if path is not None:
                seen[name] = path
                is_package = path.name == "__init__.py"
                imports = look_up(read(path))["imports"]
                waiting.extend(_absolute(imported, name, is_package) for imported in imports)
    return tuple(sorted(set(seen.values())))


@functools.cache
def sources_hash(module: str, modules: tuple[str, ...] = ()) -> str:
    """Return the digest of a stage's code, 16 hexadecimal digits, without comments and layout."""
    return _digest_of(stage_sources(module, modules), file_text)


def _digest_of(files: tuple[Path, ...], read: Callable[[Path], bytes]) -> str:
    with _remembered() as look_up:
        return _short_digest(
            "".join(
                f"{path.parent.name}/{path.name} {look_up(read(path))['digest']}\n"
                for path in files
            )
        )


@contextmanager
def _remembered() -> Iterator[Callable[[bytes], dict[str, Any]]]:
    """Yield what returns digest and imports of the text of a file.

    What was parsed is kept, by text, since parsing all takes a second. A cache that fails costs
    time only.
    """
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    cache = Path(base).expanduser() / "factbook" / "code.json"
    entries, learnt = _known_texts(cache), {}

    def look_up(text: bytes) -> dict[str, Any]:
        entry = entries.get(key := _md5(text))
        if not isinstance(entry, dict):
            entry = entries[key] = learnt[key] = _parse(text)
        return entry

    yield look_up
    if learnt:
        _keep(cache, learnt)


@functools.cache
def _known_texts(cache: Path) -> dict[str, Any]:
    return read_json(cache) or {}


def _parse(source: bytes) -> dict[str, Any]:
    """Return the digest of a text's syntax tree, and the names of what may be modules in it."""
    text = source.decode("utf-8", "replace").replace("\r\n", "\n").replace("\r", "\n")
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError):  # reported when it is imported
        return {"digest": _short_digest(text), "imports": []}
    return {
        "digest": _short_digest(ast.dump(tree)),
        "imports": list(dict.fromkeys(_imported(tree))),
    }


def _short_digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def module_file(name: str) -> Path | None:
    """Return the file of a module, without importing it; None where it has none of its own.

    Packages are searched by their folders: Python's own search imports what is around a module.
    """
    top, *inner = name.split(".")
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        return None
    if spec is None or not inner:
        origin = spec.origin if spec else None
        return Path(origin) if origin and origin.endswith(".py") else None
    for folder in spec.submodule_search_locations or ():
        path = Path(folder, *inner)
        for file in (path / "__init__.py", path.with_name(f"{path.name}.py")):
            if file.is_file():
                return file
    return None


def _loaded_file(name: str) -> Path | None:
    """Return the file of a module, one that is gone too where this process has loaded it."""
    if (found := module_file(name)) is not None:
        return found
    file = getattr(sys.modules.get(name), "__file__", None)
    return Path(file) if file and loaded_text(file) is not None else None


def _imported(tree: ast.AST) -> Iterator[str]:
    """Yield names of modules as they stand there: relative ones begin with dots."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            yield base
            inside = base if base.endswith(".") else f"{base}."
            yield from (f"{inside}{alias.name}" for alias in node.names)


def _absolute(imported: str, module: str, is_package: bool) -> str:
    """Return the whole name of what a module imports."""
    name = imported.lstrip(".")
    level = len(imported) - len(name)
    if not level:
        return name
    parts = module.split(".")
    parts = parts[: len(parts) - level + is_package]
    return ".".join([*parts, name] if name else parts)


@functools.cache
def commit_of(folder: Path) -> Commit | None:
    """Return the git commit that a folder stands at, or None outside a repository."""
    try:
        commit, top = _git(folder, "rev-parse", "HEAD", "--show-toplevel").splitlines()
        remote = _git(folder, "config", "--default", "", "--get", "remote.origin.url")
        dirty = bool(_git(folder, "status", "--porcelain", "--untracked-files=no"))
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    return Commit(remote or top, commit, dirty)


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    return done.stdout.strip()


@functools.cache
def _packages() -> tuple[Mapping[str, str], Mapping[str, str]]:
    """Return versions of packages, and digests of the lists of files that were installed."""
    installed = _distributions()
    versions = {name: found.version for name, found in installed.items()}
    records = {name: found.read_text("RECORD") or "" for name, found in installed.items()}
    return versions, {name: _short_digest(record) for name, record in records.items()}


def _distributions() -> dict[str, metadata.Distribution]:
    """Return the distribution and what it requires, without what only an extra asks for."""
    found = {DISTRIBUTION: metadata.distribution(DISTRIBUTION)}
    for requirement in sorted(found[DISTRIBUTION].requires or ()):
        if "extra ==" not in requirement:
            name = re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0]
            with suppress(metadata.PackageNotFoundError):
                found[name] = metadata.distribution(name)
    return found


def _keep(cache: Path, learnt: Mapping[str, Any]) -> None:
    """Keep what was learnt beside what others learnt last; what cannot be written costs time."""
    with suppress(OSError, RuntimeError):
        make_state_folder(cache.parent)
        entries = [*{**(read_json(cache) or {}), **learnt}.items()]
        write_whole(cache, json.dumps(dict(entries[-MOST_REMEMBERED:])).encode())
