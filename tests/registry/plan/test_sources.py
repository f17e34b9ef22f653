"""The code behind a stage: found without importing it, hashed without comments."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from types import ModuleType

import pytest

from registry import loaded
from registry.declare.faults import StageError
from registry.plan import sources
from registry.plan.sources import (
    code_as_loaded,
    code_of,
    commit_of,
    loaded_sources,
    module_file,
    sources_hash,
)

PACKAGE = {
    "__init__.py": "",
    "stage.py": "from . import noun\ndef main():\n    from .inner.deep import thing\n",
    "noun.py": "import numpy\nx = 1\n",
    "inner/__init__.py": "",
    "inner/deep.py": "from ..sibling import y\nthing = y\n",
    "sibling.py": "raise RuntimeError('imported')\ny = 2\n",
    "stranger.py": "z = 3\n",
}


@pytest.fixture(autouse=True)
def _no_memory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Hash anew, and remember in a folder of the test."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for cached in (sources.stage_sources, sources.sources_hash, sources.code_of):
        cached.cache_clear()
    sources._known_texts.cache_clear()


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    name = f"p{abs(hash(tmp_path))}"
    for file, text in PACKAGE.items():
        path = tmp_path / "lib" / name / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.syspath_prepend(tmp_path / "lib")
    return name


def again(stage: str) -> str:
    sources.stage_sources.cache_clear()
    sources.sources_hash.cache_clear()
    return sources_hash(stage)


def edit(package: str, name: str, text: str) -> None:
    path = module_file(f"{package}.{name}")
    assert path is not None
    path.write_text(text)
    later = path.stat().st_mtime_ns + 1_000_000_000
    os.utime(path, ns=(later, later))


def test_imports_are_followed_inside_functions_and_relative_ones_too(package: str) -> None:
    names = [
        path.relative_to(path.parents[1]) for path in sources.stage_sources(f"{package}.stage")
    ]
    assert {path.name for path in names} == {
        "__init__.py",
        "deep.py",
        "noun.py",
        "sibling.py",
        "stage.py",
    }
    assert not any(name.startswith(package) for name in sys.modules)


def test_a_changed_comment_is_no_changed_code(package: str) -> None:
    before = sources_hash(f"{package}.stage")
    edit(package, "noun", "import numpy\n# why\nx  =  1\n")
    assert again(f"{package}.stage") == before
    edit(package, "noun", "import numpy\nx = 2\n")
    changed = again(f"{package}.stage")
    assert changed != before
    edit(package, "stranger", "z = 4\n")
    assert again(f"{package}.stage") == changed


def test_code_far_behind_counts(package: str) -> None:
    before = sources_hash(f"{package}.stage")
    edit(package, "sibling", "y = 3\n")
    assert again(f"{package}.stage") != before


def test_modules_that_are_plugged_in_count(package: str, tmp_path: Path) -> None:
    """Those of another package, and what they import from it."""
    (tmp_path / "lib" / f"{package}_plug").mkdir()
    for file, text in {"__init__": "", "row": "from . import part\n", "part": "a = 1\n"}.items():
        (tmp_path / "lib" / f"{package}_plug" / f"{file}.py").write_text(text)
    stage, plugged = f"{package}.stage", (f"{package}_plug.row",)
    alone, before = sources_hash(stage), sources_hash(stage, plugged)
    assert alone != before
    added = set(sources.stage_sources(stage, plugged)) - set(sources.stage_sources(stage))
    assert {path.name for path in added} == {"__init__.py", "row.py", "part.py"}
    edit(f"{package}_plug", "part", "a = 2\n")
    assert again(stage) == alone
    assert sources_hash(stage, plugged) != before
    code = code_of(stage, tmp_path, plugged)
    assert code.files == sources.stage_sources(stage, plugged)
    assert code.digest == sources_hash(stage, plugged)


def test_the_hash_is_the_same_with_and_without_a_memory(package: str, tmp_path: Path) -> None:
    first = sources_hash(f"{package}.stage")
    sources._known_texts.cache_clear()  # reads what was kept on disk
    assert again(f"{package}.stage") == first
    kept = tmp_path / "cache" / "factbook" / "code.json"
    kept.write_text("not json")
    sources._known_texts.cache_clear()
    assert again(f"{package}.stage") == first


def test_a_file_with_a_fault_is_hashed_all_the_same(package: str) -> None:
    before = sources_hash(f"{package}.stage")
    edit(package, "noun", "def broken(:\n")
    assert again(f"{package}.stage") != before


def test_modules_are_found_as_python_finds_them(package: str) -> None:
    import registry.declare.stage

    assert module_file("registry.declare.stage") == Path(registry.declare.stage.__file__)
    assert module_file("registry").name == "__init__.py"
    assert module_file(f"{package}.inner").name == "__init__.py"
    for name in ("sys", "no_such_package", f"{package}.nothing", f"{package}.noun.x", "math"):
        assert module_file(name) is None


def test_the_code_of_a_stage(package: str, tmp_path: Path) -> None:
    code = code_of(f"{package}.stage", tmp_path)
    assert code.main.name == "stage.py"
    assert code.main in code.files
    assert code.digest == sources_hash(f"{package}.stage")
    assert code.commit is None
    with pytest.raises(sources.StageError, match=r"'no\.stage' has no source file"):
        code_of("no.stage", tmp_path)


def test_a_source_that_is_gone_is_named_unless_this_process_has_loaded_it(
    package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = f"{package}.noun"
    planned = code_of(stage, tmp_path)
    text = planned.main.read_bytes()
    planned.main.unlink()
    with pytest.raises(StageError, match=rf"{planned.main} of stage '{stage}' is gone: put it"):
        code_as_loaded(planned, stage)
    with pytest.raises(StageError, match=rf"{planned.main} is gone: put it back"):
        loaded_sources(planned)
    module = ModuleType(stage)
    module.__file__ = str(planned.main)
    monkeypatch.setitem(sys.modules, stage, module)
    sources.code_of.cache_clear()
    with pytest.raises(StageError, match=rf"{planned.main} of stage '{stage}' is gone: put it"):
        code_of(stage, tmp_path)
    monkeypatch.setitem(loaded._TEXTS, str(planned.main), text)
    assert code_as_loaded(planned, stage) == planned, "as it was loaded"
    assert loaded_sources(planned)[planned.main][1] == text


def test_packages_are_those_that_running_needs() -> None:
    code = code_of("fact.train_sae", Path())
    versions = code.packages
    assert versions["numpy"] == metadata.version("numpy")
    assert versions["factbook"] == metadata.version("factbook")
    assert "pytest" not in versions
    assert code.package_hashes.keys() == versions.keys()
    assert len(code.package_hashes["numpy"]) == 16


def git(folder: Path, *arguments: str) -> str:
    who = ["-c", "user.name=a", "-c", "user.email=a@b"]
    command = ["git", "-C", str(folder), *who, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_the_state_of_a_repository(tmp_path: Path) -> None:
    folder = tmp_path / "repository" / "inner"
    folder.mkdir(parents=True)
    assert commit_of(folder) is None
    git(tmp_path / "repository", "init", "-q")
    commit_of.cache_clear()
    assert commit_of(folder) is None  # nothing is committed yet
    (folder / "a.py").write_text("1\n")
    git(folder, "add", "a.py")
    git(folder, "commit", "-q", "-m", "one")
    commit_of.cache_clear()
    found = commit_of(folder)
    assert found is not None
    assert found.commit == git(folder, "rev-parse", "HEAD")
    assert not found.dirty
    assert Path(found.repository) == tmp_path / "repository"
    (folder / "a.py").write_text("2\n")
    git(folder, "remote", "add", "origin", "https://example.org/a.git")
    commit_of.cache_clear()
    found = commit_of(folder)
    assert found is not None
    assert found.dirty
    assert found.repository == "https://example.org/a.git"
