"""Sequences of tokens, and texts, from every kind of file, each made here in its own format."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from pyarrow import parquet

from fact.data.token_sequences import TokenSequences, TokenSequencesError

IDS = [[5, 6, 7], [8, 9, 5]]
TEXT = "one\ntwo\n\nthree\n"


def read(path: Path, **keys: Any) -> list[Any]:
    found = TokenSequences(str(path), **keys).load()
    return [one if isinstance(one, str) else one.tolist() for one in found]


def test_texts_are_lines_paragraphs_or_documents(tmp_path: Path) -> None:
    path = tmp_path / "texts.txt"
    path.write_text(TEXT)
    assert read(path) == ["one", "two", "three"]
    assert read(path, sample_by="paragraph") == ["one\ntwo", "three"]
    assert read(path, sample_by="document") == [TEXT]


def test_lines_of_json_are_texts_ids_or_objects(tmp_path: Path) -> None:
    path = tmp_path / "texts.jsonl"
    path.write_text('"a b"\n\n[5, 6, 7]\n{"id": 3, "text": "c"}\n{"tokens": [8, 9]}\n')
    assert read(path) == ["a b", [5, 6, 7], "c", [8, 9]]
    path.write_text('{"body": "c", "text": "d"}\n')
    assert read(path, column="body") == ["c"]


def test_arrays_hold_ids(tmp_path: Path) -> None:
    np.save(tmp_path / "ids.npy", np.array(IDS, np.uint16))
    np.savez(tmp_path / "ids.npz", tokens=np.array(IDS), other=np.zeros(3))
    torch.save(torch.tensor(IDS), tmp_path / "ids.pt")
    torch.save({"tokens": torch.tensor(IDS)}, tmp_path / "named.pt")
    np.save(tmp_path / "one.npy", np.array(IDS[0]))
    for name in ("ids.npy", "ids.npz", "ids.pt", "named.pt"):
        assert read(tmp_path / name) == IDS
    assert read(tmp_path / "one.npy") == IDS[:1]


def save_to_disk(folder: Path, table: pa.Table, n_files: int = 2) -> None:
    """Write a table in the layout that the package ``datasets`` gives to one on the disk."""
    folder.mkdir(parents=True)
    names = [f"data-{i:05d}-of-{n_files:05d}.arrow" for i in range(n_files)]
    size = -(-len(table) // n_files)
    for index, name in enumerate(names):
        with (
            pa.OSFile(str(folder / name), "wb") as file,
            pa.ipc.new_stream(file, table.schema) as writer,
        ):
            writer.write_table(table.slice(index * size, size), max_chunksize=1)
    state = {"_data_files": [{"filename": name} for name in names], "_split": "train"}
    (folder / "state.json").write_text(json.dumps(state))
    (folder / "dataset_info.json").write_text("{}")


def test_data_sets_of_hugging_face_are_read_from_the_disk(tmp_path: Path) -> None:
    table = pa.table({"tokens": pa.array(IDS, pa.list_(pa.int32())), "id": [0, 1]})
    save_to_disk(tmp_path / "one", table)
    assert read(tmp_path / "one") == IDS
    save_to_disk(tmp_path / "several/train", table)
    save_to_disk(tmp_path / "several/test", table.slice(1), 1)
    (tmp_path / "several/dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    assert read(tmp_path / "several") == IDS
    assert read(tmp_path / "several", split="test") == IDS[1:]
    data = tmp_path / "hub/data"
    data.mkdir(parents=True)
    for index in range(2):
        part = table.slice(index, 1)
        parquet.write_table(part, data / f"train-{index:05d}-of-00002-0123456789abcdef.parquet")
    parquet.write_table(table.slice(1), data / "validation-00000-of-00001.parquet")
    assert read(tmp_path / "hub") == IDS
    assert read(tmp_path / "hub", split="validation") == IDS[1:]
    assert read(data / "validation-00000-of-00001.parquet") == IDS[1:]
    path = tmp_path / "file.arrow"
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)
    assert read(tmp_path / "file.arrow") == IDS
    assert list(TokenSequences(path=str(tmp_path / "hub")).lacks()({})) == []
    for name, split in (("several", "trian"), ("hub", "trian")):
        given = TokenSequences(path=str(tmp_path / name), split=split)
        assert "no split 'trian'" in "".join(given.lacks()({}))
        with pytest.raises(TokenSequencesError, match="no split 'trian'; did you mean 'train'"):
            read(tmp_path / name, split=split)


def test_what_load_dataset_keeps_of_texts(tmp_path: Path) -> None:
    told = {"splits": {"train": {}, "test": {}}}
    (tmp_path / "dataset_info.json").write_text(json.dumps(told))
    for split, ids in (("train", IDS), ("test", IDS[:1])):
        own = pa.table({"tokens": ids})
        path = str(tmp_path / f"text-{split}.arrow")
        with pa.OSFile(path, "wb") as file, pa.ipc.new_stream(file, own.schema) as writer:
            writer.write_table(own)
    assert read(tmp_path) == IDS
    assert read(tmp_path, split="test") == IDS[:1]
    with pytest.raises(
        TokenSequencesError, match=r"no split 'val'; expected one of 'test', 'train'$"
    ):
        read(tmp_path, split="val")


@pytest.mark.parametrize("entry", ["_indices_data_files", "_indices_files"])
def test_a_selection_of_rows_is_refused(entry: str, tmp_path: Path) -> None:
    save_to_disk(tmp_path / "d/train", pa.table({"tokens": IDS}), 1)
    (tmp_path / "d/dataset_dict.json").write_text('{"splits": ["train"]}')
    path = tmp_path / "d/train/state.json"
    state = json.loads(path.read_text())
    path.write_text(json.dumps({**state, entry: [{"filename": "indices.arrow"}]}))
    for folder in (tmp_path / "d", tmp_path / "d/train"):
        with pytest.raises(TokenSequencesError, match="selection of rows; save it again by"):
            read(folder)
        [finding] = TokenSequences(str(folder)).check(False)
        assert finding.is_missing


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ('{"words": "a"}', "no column of tokens, input_ids, text among"),
        ("[[1], [2]]", "sequence 0 is a list of shape"),
        ("[0.5]", "expected a text, or a list of token ids"),
        ("[-1, 3]", "has the token id -1"),
        ("3", "expected a text, or a list of token ids"),
        ("{", "line 1 is no JSON"),
    ],
)
def test_what_is_no_sequence_is_named(line: str, fault: str, tmp_path: Path) -> None:
    path = tmp_path / "texts.jsonl"
    path.write_text(line)
    with pytest.raises(TokenSequencesError, match=fault) as raised:
        read(path)
    assert str(path) in str(raised.value)


def test_a_check_says_what_a_file_holds(tmp_path: Path) -> None:
    path = tmp_path / "texts.jsonl"
    path.write_text("[5, 6, 7]\n[8]\n")

    def found(every: bool) -> list[tuple[str, bool]]:
        given = TokenSequences(str(path)).check(every)
        return [(finding.text, finding.is_missing) for finding in given]

    assert found(False) == [("sequences, the first of 3 token ids", False)]
    assert found(True) == [("2 sequences, the first of 3 token ids", False)]
    path.write_text("3")
    assert [is_missing for _, is_missing in found(False)] == [True]
    path.write_text("")
    assert found(False) == [(f"{path} holds no sequence", True)]


def test_files_that_are_not_there_or_damaged_are_told(tmp_path: Path) -> None:
    with pytest.raises(TokenSequencesError, match="no file or folder"):
        read(tmp_path / "none.npy")
    (tmp_path / "ids.csv").write_text("1,2")
    with pytest.raises(TokenSequencesError, match=r"expected one of \.txt, \.jsonl"):
        read(tmp_path / "ids.csv")
    (tmp_path / "ids.npy").write_bytes(b"\x93NUMPY")
    with pytest.raises(TokenSequencesError, match="cannot be read"):
        read(tmp_path / "ids.npy")
    (tmp_path / "empty").mkdir()
    with pytest.raises(TokenSequencesError, match="nor files of parquet"):
        read(tmp_path / "empty")
