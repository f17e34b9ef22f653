import hashlib
import json
import os
import threading
import time

import numpy as np
import pytest

from registry.plan import contents, listing
from registry.plan.contents import IdentityError, content_identity
from registry.plan.looking import hashing_told, looked_at_once


@pytest.fixture
def reads(monkeypatch):
    """The paths of the files that are read."""
    paths, read = [], contents._FileHasher._hash

    def counted(self, path):
        paths.append(path)
        return read(self, path)

    monkeypatch.setattr(contents._FileHasher, "_hash", counted)
    return paths


def age(*paths, seconds=10):
    for path in paths:
        past = time.time_ns() - seconds * 10**9
        os.utime(path, ns=(past, past))


@pytest.fixture
def old_changes(monkeypatch):
    """Let files have changed long ago: their change time cannot be set from here."""
    monkeypatch.setattr(listing, "RACY_NS", -(10**12))


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
    folder, read = tree(tmp_path / "data", a="x"), contents._FileHasher._hash

    def busy(self, path):
        with open(path, "a") as file:
            file.write("more")
        return read(self, path)

    monkeypatch.setattr(contents._FileHasher, "_hash", busy)
    with pytest.raises(IdentityError, match="changes while it is being read"):
        content_identity(folder)


def test_a_file_that_appears_while_others_are_read_is_counted(tmp_path, monkeypatch):
    folder, read, added = tree(tmp_path / "data", a="x"), contents._FileHasher._hash, []

    def adding(self, path):
        if not added:
            added.append(tree(folder, b="y"))
        return read(self, path)

    monkeypatch.setattr(contents._FileHasher, "_hash", adding)
    found = content_identity(folder)
    assert added
    assert found == content_identity(tree(tmp_path / "same", a="x", b="y"))


STRAYS = {".DS_Store": "Bud1", "dog__._1": "x", "dog__Thumbs.db": "x", "cat__desktop.ini": "x"}


def test_what_file_managers_leave_is_no_content(tmp_path, old_changes):
    folder, cache = tree(tmp_path / "data", dog__1="x", cat__1="y"), tmp_path / "identities.json"
    before = content_identity(folder, cache)
    assert content_identity(tree(folder, **STRAYS), cache) == before
    assert content_identity(folder) == before
    assert content_identity(tree(folder, cat__DS_Store="x")) != before
    with pytest.raises(IdentityError, match="holds no files"):
        content_identity(tree(tmp_path / "strays", **STRAYS))


def former_state(folder):
    """Return the state as it was written at first: every file, its size and the later time."""
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        stat = path.stat()
        changed = max(stat.st_mtime_ns, stat.st_ctime_ns)
        digest.update(
            f"{path.relative_to(folder).as_posix()}\0{stat.st_size}\0{changed}\n".encode()
        )
    return digest.hexdigest()


def test_what_was_hashed_with_strays_stays_what_it_is(tmp_path):
    """So that nothing is run again because they no longer count."""
    folder, cache = tree(tmp_path / "data", dog__1="x", **STRAYS), tmp_path / "identities.json"
    state = former_state(folder)
    cache.write_text(json.dumps({str(folder.resolve()): {"state": state, "hash": "as it was"}}))
    assert content_identity(folder, cache) == "as it was"
    (folder / ".DS_Store").unlink()
    assert content_identity(folder, cache) != "as it was"


def test_an_identity_is_that_of_the_sorted_names_and_the_hashes_of_files(tmp_path):
    folder = tree(
        tmp_path / "data", **{"a-b": "1", "a__c": "22", "é": "", "z__z__z": "4" * 300_000}
    )
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*"), key=lambda path: path.relative_to(folder).as_posix()):
        if path.is_file():
            digest.update(path.relative_to(folder).as_posix().encode() + b"\0")
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    assert content_identity(folder) == digest.hexdigest()
    assert content_identity(folder / "a-b") == hashlib.sha256(b"1").hexdigest()


def test_of_a_folder_only_what_has_changed_is_read_again(tmp_path, reads, old_changes):
    files = {f"{group}__{number}": f"{group} {number}" for group in "ab" for number in range(100)}
    folder, cache = tree(tmp_path / "data", **files), tmp_path / "identities.json"
    content_identity(folder, cache)
    assert len(reads) == 200
    (folder / "a" / "7").write_text("other")
    tree(folder, c__1="more")
    (folder / "b" / "8").unlink()
    (folder / "b" / "9").rename(folder / "b" / "10x")
    del reads[:]
    found = content_identity(folder, cache)
    read = {"a/7", "c/1", "b/10x"}
    assert {os.path.relpath(path, folder) for path in reads} == read
    assert found == content_identity(folder)
    tree(folder, b__8="b 8")
    del reads[:]
    content_identity(folder, cache)
    assert len(reads) == 1


def test_a_file_in_the_place_of_another_is_read(tmp_path, reads, old_changes):
    folder, cache = tree(tmp_path / "data", a="x"), tmp_path / "identities.json"
    content_identity(folder, cache)
    kept = contents.Hashes(*other_inode(folder), 32)
    kept.recall(
        listing.read_arrays(listing.kept_file(tmp_path, folder, "hashes-sha256"), str(folder))
    )
    assert not kept.known.any()


def other_inode(folder):
    found = listing.list_files(folder)
    return found.names, found.states + np.array([0, 0, 1])


def test_what_was_hashed_before_an_interruption_is_not_hashed_again(
    tmp_path, reads, old_changes, monkeypatch
):
    files = {f"{number:04d}": str(number) for number in range(1000)}
    folder, cache, told = tree(tmp_path / "data", **files), tmp_path / "identities.json", []
    read = contents._FileHasher._hash

    def interrupt(hashing):
        told.append(hashing.files)
        if hashing.files:
            raise KeyboardInterrupt

    def slow(self, path):
        # Eight threads have finished a portion by then, so that the interruption comes first.
        if len(reads) >= 500:
            assert self.stop.wait(60)
            raise contents._StoppedError
        return read(self, path)

    with monkeypatch.context() as patch, hashing_told(interrupt):
        patch.setattr(contents, "_TELL_EVERY", 0.0)
        patch.setattr(contents, "_MOST_FILES", 50)
        patch.setattr(contents.os, "cpu_count", lambda: 1)
        patch.setattr(contents._FileHasher, "_hash", slow)
        with pytest.raises(KeyboardInterrupt):
            content_identity(folder, cache)
    assert told[0] == 0
    done = len(reads)
    assert 0 < done < 600
    assert not cache.exists()
    found = content_identity(folder, cache)
    assert len(reads) < 1000 + done
    assert found == content_identity(folder)


def test_hashing_is_told(tmp_path):
    folder, told = tree(tmp_path / "data", a="x", b="y" * 600_000), []
    with hashing_told(lambda now: told.append((now.path, now.files, now.bytes, now.n_bytes))):
        content_identity(folder)
    assert told[0] == (str(folder), 0, 0, 600_001)
    assert told[-1] == (str(folder), 2, 600_001, 600_001)


def test_another_algorithm_changes_no_identity_of_what_is_known(
    tmp_path, monkeypatch, reads, old_changes
):
    folder, cache = tree(tmp_path / "data", a="x", b="y"), tmp_path / "identities.json"
    first = content_identity(folder, cache)
    monkeypatch.setattr(contents, "ALGORITHM", "blake2b")
    assert content_identity(folder, cache) == first
    os.utime(folder / "a")  # read again, by the algorithm that it was known by
    assert content_identity(folder, cache) == first
    tree(folder, b="z")
    assert content_identity(folder, cache) != first
    tree(folder, b="y")
    assert content_identity(folder, cache) == first
    new = content_identity(tree(tmp_path / "new", a="x", b="y"), cache)
    assert new.startswith("blake2b:")
    assert len(new) == len("blake2b:") + 128


def test_what_is_asked_for_several_times_in_a_moment_is_looked_at_once(tmp_path):
    folder = tree(tmp_path / "data", a="x")
    with looked_at_once():
        first = content_identity(folder)
        tree(folder, a="y")
        with looked_at_once():
            assert content_identity(folder) == first
    assert content_identity(folder) != first
