"""Listings are those of the folder as it is, however it was changed."""

import os
import shutil

import numpy as np
import pytest

from registry.plan import listing
from registry.plan.listing import list_files, listing_of


@pytest.fixture(autouse=True)
def old_changes(monkeypatch):
    """Let folders have changed long ago: their change time cannot be set from here."""
    monkeypatch.setattr(listing, "RACY_NS", -(10**12))


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "data"
    for name in ("train/cat/a.png", "train/cat/b.png", "train/dog/é.png", "val/cat/c.png"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    return root


@pytest.fixture
def walks(monkeypatch):
    """The folders that are listed."""
    seen, walk = [], listing.list_files
    monkeypatch.setattr(listing, "list_files", lambda root: seen.append(root) or walk(root))
    return seen


def names_of(found):
    return found.text.tolist()


def test_a_folder_is_listed_once(folder, tmp_path, walks):
    state = tmp_path / ".factbook"
    first = listing_of(folder, state)
    again = listing_of(str(folder) + "/../data", state)
    assert walks == [folder.resolve()]
    assert names_of(again) == names_of(first) == sorted(names_of(list_files(folder)))
    np.testing.assert_array_equal(again.states, first.states)
    assert sorted(again.folders.tolist()) == [
        b"",
        b"train",
        b"train/cat",
        b"train/dog",
        b"val",
        b"val/cat",
    ]


CHANGES = {
    "added": lambda root: (root / "val/cat/new.png").write_text("x"),
    "removed": lambda root: (root / "train/cat/a.png").unlink(),
    "renamed": lambda root: (root / "train/cat/a.png").rename(root / "train/cat/z.png"),
    "moved": lambda root: (root / "train/cat/a.png").rename(root / "val/cat/a.png"),
    "folder added": lambda root: (root / "val/empty").mkdir(),
    "folder removed": lambda root: shutil.rmtree(root / "val/cat"),
    "folder renamed": lambda root: (root / "train/cat").rename(root / "train/lion"),
    "linked": lambda root: (root / "val/link.png").symlink_to(root / "train/cat/a.png"),
    "swapped": lambda root: swap(root / "train/cat", root / "val/cat"),
}


def swap(one, other):
    one.rename(one.with_name("aside"))
    other.rename(one)
    one.with_name("aside").rename(other)


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_every_change_of_names_is_seen(folder, tmp_path, change):
    state = tmp_path / ".factbook"
    listing_of(folder, state)
    change(folder)
    fresh = list_files(folder)
    found = listing_of(folder, state)
    assert names_of(found) == names_of(fresh)
    assert sorted(found.folders.tolist()) == sorted(fresh.folders.tolist())
    assert names_of(listing_of(folder, state)) == names_of(fresh)


def test_a_link_to_another_folder_is_seen(folder, tmp_path):
    state, other = tmp_path / ".factbook", tmp_path / "other"
    (other / "one").mkdir(parents=True)
    (other / "two").mkdir()
    (other / "two" / "new.png").write_text("x")
    (tmp_path / "hop").symlink_to(other / "one")
    (folder / "linked").symlink_to(tmp_path / "hop")
    assert "linked/new.png" not in names_of(listing_of(folder, state))
    (tmp_path / "hop").unlink()  # outside of the folder
    (tmp_path / "hop").symlink_to(other / "two")
    assert "linked/new.png" in names_of(listing_of(folder, state))


def test_a_folder_that_has_just_changed_is_listed_again(folder, tmp_path, walks, monkeypatch):
    monkeypatch.setattr(listing, "RACY_NS", 2_000_000_000)
    for _ in range(2):
        listing_of(folder, tmp_path / ".factbook")
    assert len(walks) == 2


@pytest.mark.parametrize("damage", [b"", b"PK\3\4", b"[1]"])
def test_a_damaged_listing_costs_only_time(folder, tmp_path, damage):
    state = tmp_path / ".factbook"
    first = listing_of(folder, state)
    [kept] = (state / "listings").iterdir()
    whole = kept.read_bytes()
    kept.write_bytes(damage or whole[: len(whole) // 2])
    assert names_of(listing_of(folder, state)) == names_of(first)
    kept.write_bytes(whole[:200] + b"\xff" * 8 + whole[208:])
    assert names_of(listing_of(folder, state)) == names_of(first)


def test_what_links_nowhere_or_in_a_ring_is_told_of(folder):
    (folder / "up").symlink_to(folder)
    (folder / "broken.png").symlink_to("nowhere")
    found = list_files(folder)
    assert found.rings == ("up",)
    assert found.states[names_of(found).index("broken.png")].tolist() == [-1, -1, -1]


def test_names_that_are_no_utf8_come_back_as_they_are(tmp_path):
    name = os.fsdecode(b"\xff\xfe.png")
    try:
        (tmp_path / name).write_text("x")
    except OSError:
        pytest.skip("this file system has only names in UTF-8")
    assert name in names_of(list_files(tmp_path))
