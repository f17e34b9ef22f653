import json
import os
import threading
import time

import pytest

import registry.plan.sources
from registry.plan.sources import IdentityError, content_identity


@pytest.fixture
def reads(monkeypatch):
    """The paths of the files that are read."""
    paths, read = [], registry.plan.sources.file_sha256
    monkeypatch.setattr(
        registry.plan.sources, "file_sha256", lambda path: paths.append(str(path)) or read(path)
    )
    return paths


def age(*paths, seconds=10):
    for path in paths:
        past = time.time_ns() - seconds * 10**9
        os.utime(path, ns=(past, past))


@pytest.fixture
def old_changes(monkeypatch):
    """Let files have changed long ago: their change time cannot be set from here."""
    monkeypatch.setattr(registry.plan.sources, "RACY_NS", -(10**12))


def tree(folder, **files):
    for name, text in files.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def test_content_and_names_make_the_identity(tmp_path):
    first = content_identity(tree(tmp_path / "a", dog__1="x", dog__2="y", cat__1="z"))
    assert len(first) == 64
    assert content_identity(tree(tmp_path / "b", cat__1="z", dog__2="y", dog__1="x")) == first
    for number, files in enumerate(
        [
            {"dog__1": "x", "dog__2": "y", "cat__1": "Z"},
            {"dog__1": "y", "dog__2": "x", "cat__1": "z"},
            {"dog__1": "x", "dog__2": "y", "cat__2": "z"},
            {"dog__1": "x", "dog__2": "y"},
            {"dog__1": "x", "dog__2": "y", "cat__1": "z", "cat__3": ""},
        ]
    ):
        assert content_identity(tree(tmp_path / f"c{number}", **files)) != first


def test_a_file_has_its_own_identity(tmp_path):
    tree(tmp_path, a="x", b="x", c="y")
    assert content_identity(tmp_path / "a") == content_identity(tmp_path / "b")
    assert content_identity(tmp_path / "a") != content_identity(tmp_path / "c")


def test_the_second_time_nothing_is_read(tmp_path, reads, old_changes):
    folder, cache = tree(tmp_path / "data", a="x", b__c="y"), tmp_path / "cache" / "identities.json"
    first = content_identity(folder, cache)
    assert len(reads) == 2
    assert content_identity(folder, cache) == first
    assert content_identity(str(folder) + "/../data", cache) == first
    assert len(reads) == 2
    (folder / "a").write_text("z")
    changed = content_identity(folder, cache)
    assert changed != first
    assert content_identity(folder, None) == changed


def test_a_change_that_keeps_size_and_time_is_noticed(tmp_path, old_changes):
    folder, cache = tree(tmp_path / "data", a="x"), tmp_path / "identities.json"
    age(folder / "a")
    before = (folder / "a").stat()
    first = content_identity(folder, cache)
    (folder / "a").write_text("y")
    os.utime(folder / "a", ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (folder / "a").stat().st_mtime_ns == before.st_mtime_ns
    assert content_identity(folder, cache) != first


def test_a_file_that_has_just_changed_is_not_trusted(tmp_path, reads):
    folder, cache = tree(tmp_path / "data", a="x"), tmp_path / "identities.json"
    content_identity(folder, cache)
    content_identity(folder, cache)
    assert len(reads) == 2
    assert not cache.exists()


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"x": 3}', "null"])
def test_a_damaged_cache_costs_only_time(tmp_path, old_changes, text):
    folder, cache = tree(tmp_path / "data", a="x"), tmp_path / "identities.json"
    cache.write_text(text)
    first = content_identity(folder, cache)
    assert json.loads(cache.read_text())[str(folder)]["hash"] == first
    cache.write_text(json.dumps({str(folder): 3}))
    assert content_identity(folder, cache) == first


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path, old_changes):
    folder = tree(tmp_path / "data", a="x")
    (tmp_path / "file").touch()
    assert content_identity(folder, tmp_path / "file" / "cache.json") == content_identity(folder)


def test_many_at_once_share_a_cache(tmp_path, old_changes):
    cache = tmp_path / "identities.json"
    folders = [tree(tmp_path / f"d{i}", a=str(i)) for i in range(8)]
    expected, found = [content_identity(folder) for folder in folders], {}

    def look(index):
        for _ in range(5):
            found[index] = content_identity(folders[index], cache)
            json.loads(cache.read_text())

    threads = [threading.Thread(target=look, args=(index,)) for index in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[index] for index in range(8)] == expected


def test_the_cache_of_the_project_around(tmp_path, monkeypatch, old_changes):
    (tmp_path / "experiments.toml").touch()
    (tmp_path / "deep").mkdir()
    monkeypatch.chdir(tmp_path / "deep")
    content_identity(tree(tmp_path / "data", a="x"))
    assert (tmp_path / ".factbook" / "identities.json").exists()


def test_what_is_not_there_is_told(tmp_path):
    with pytest.raises(IdentityError, match=r"no file or folder at .*nothing"):
        content_identity(tmp_path / "nothing")
    with pytest.raises(IdentityError, match="holds no files"):
        content_identity(tmp_path)
    (tmp_path / "broken").symlink_to("nowhere")
    with pytest.raises(IdentityError, match="broken"):
        content_identity(tmp_path)


def test_links_are_followed_but_not_in_circles(tmp_path):
    data = tree(tmp_path / "data", a="x", b="y")
    linked = tree(tmp_path / "linked", a="x")
    (linked / "b").symlink_to(data / "b")
    assert content_identity(linked) == content_identity(data)
    (linked / "up").symlink_to(linked)
    with pytest.raises(IdentityError, match="is a link to a folder that it lies in"):
        content_identity(linked)


def test_data_that_changes_while_it_is_read_is_told(tmp_path, monkeypatch):
    folder = tree(tmp_path / "data", a="x")

    def busy(path):
        with open(path, "a") as file:
            file.write("more")
        return "0" * 64

    monkeypatch.setattr(registry.plan.sources, "file_sha256", busy)
    with pytest.raises(IdentityError, match="changes while it is being read"):
        content_identity(folder)


STRAYS = {".DS_Store": "Bud1", "dog__._1": "x", "dog__Thumbs.db": "x", "cat__desktop.ini": "x"}


def test_what_file_managers_leave_is_no_content(tmp_path, old_changes):
    folder, cache = tree(tmp_path / "data", dog__1="x", cat__1="y"), tmp_path / "identities.json"
    before = content_identity(folder, cache)
    assert content_identity(tree(folder, **STRAYS), cache) == before
    assert content_identity(folder) == before
    assert content_identity(tree(folder, cat__DS_Store="x")) != before
    with pytest.raises(IdentityError, match="holds no files"):
        content_identity(tree(tmp_path / "strays", **STRAYS))


def test_what_was_hashed_with_strays_stays_what_it_is(tmp_path):
    """So that nothing is run again because they no longer count."""
    folder, cache = tree(tmp_path / "data", dog__1="x", **STRAYS), tmp_path / "identities.json"
    state, _ = registry.plan.sources._state(folder.resolve(), strays=True)
    cache.write_text(json.dumps({str(folder.resolve()): {"state": state, "hash": "as it was"}}))
    assert content_identity(folder, cache) == "as it was"
    (folder / ".DS_Store").unlink()
    assert content_identity(folder, cache) != "as it was"
