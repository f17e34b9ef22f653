import errno
import os

import pytest

from registry.store.durable import (
    StoreError,
    append_line,
    clear_temporary,
    disk_errors,
    read_json,
    whole_file,
    write_json,
)


def test_a_file_is_whole_or_not_there(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"a": [1, "é"]})
    assert read_json(path) == {"a": [1, "é"]}
    with pytest.raises(UnicodeEncodeError), whole_file(path) as temporary:
        temporary.write_text("half" * 10_000 + "\udc80")
    assert read_json(path) == {"a": [1, "é"]}
    assert os.listdir(tmp_path) == ["a.json"]


def test_what_cannot_be_read_is_none(tmp_path):
    (tmp_path / "half").write_text('{"a": ')
    (tmp_path / "list").write_text("[1]")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    for name in ("half", "list", "binary", "nothing", "."):
        assert read_json(tmp_path / name) is None


def test_a_torn_line_is_ended(tmp_path):
    path = tmp_path / "lines"
    append_line(path, "one")
    path.write_text(path.read_text() + "tor")
    append_line(path, "two")
    assert path.read_text() == "one\ntor\ntwo\n"


def test_a_full_disk_is_told(tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match=r"disk full: cannot write .*a\.json, which takes up to"):
        write_json(tmp_path / "a.json", {})
    assert os.listdir(tmp_path) == []
    with pytest.raises(StoreError, match="quota used up"), disk_errors(tmp_path / "x"):
        raise OSError(errno.EDQUOT, "quota")
    with pytest.raises(PermissionError), disk_errors(tmp_path / "x"):
        raise PermissionError(errno.EACCES, "no")


def test_leftovers_are_cleared(tmp_path):
    (tmp_path / "deep").mkdir()
    for path in (tmp_path / ".a.nc.1-2.tmp", tmp_path / "deep" / ".b.3-4.tmp", tmp_path / "c.tmp"):
        path.touch()
    clear_temporary(tmp_path)
    assert sorted(os.listdir(tmp_path)) == ["c.tmp", "deep"]
    assert os.listdir(tmp_path / "deep") == []
