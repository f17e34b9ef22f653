"""Files of torch: tensors and plain values, or a refusal in our own words."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from fact.data.array_file import ArrayFile
from fact.data.token_sequences import TokenSequences
from fact.data.torch_file import CodeInFileError, TorchFileError, read_torch
from fact.encode.concept_folder import read_map
from fact.sae.formats import read_sae
from fact.sae.model import TopKSAE

ADVICE = ("Re-running", "weights_only", "trust", "file an issue")


class Code:
    """What unpickling it would run."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (str(self.path), "w")


READERS: dict[str, Callable[[Path], Any]] = {
    "tokens": lambda path: list(TokenSequences(str(path)).load()),
    "arrays": lambda path: ArrayFile(str(path)).load(),
    "map": read_map,
    "sae": read_sae,
    "checkpoint": TopKSAE.from_checkpoint,
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_readers_refuse_code_without_advice_to_run_it(reader: str, tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    torch.save({"a": Code(tmp_path / "ran")}, path)
    with pytest.raises(
        ValueError, match=r"it names \S*open\), and code in a file is never"
    ) as refused:
        READERS[reader](path)
    assert not any(word in str(refused.value) for word in ADVICE)
    path.write_bytes(pickle.dumps(Code(tmp_path / "ran")))
    with pytest.raises(ValueError, match="code in a file is never run"):
        READERS[reader](path)
    assert not (tmp_path / "ran").exists()


def test_what_is_damaged_or_missing_is_told(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    torch.save({"a": torch.ones(300)}, path)
    assert read_torch(path)["a"].sum() == 300
    whole = path.read_bytes()
    torch.save({"a": torch.ones(300)}, path, _use_new_zipfile_serialization=False)
    old = path.read_bytes()
    for content, told in {
        **{
            whole[: len(whole) * share // 100]: "^cut: .* bytes, without"
            for share in (2, 50, 90, 99)
        },
        **{old[: len(old) * share // 100]: "^cut.*: .* bytes" for share in (1, 10, 50, 90)},
        b"": "no file of torch: an empty file",
        b"hello world": "no file of torch: it begins with b'hello world'",
        b"\n<html>404 Not Found": r"begins with b'\\n<html>404 Not Found': a web page",
        b"version https://git-lfs.github.com/spec/v1": "a pointer of Git LFS; git lfs pull",
    }.items():
        path.write_bytes(content)
        with pytest.raises(TorchFileError, match=told) as raised:
            read_torch(path)
        assert not isinstance(raised.value, CodeInFileError)
    with pytest.raises(FileNotFoundError):
        read_torch(tmp_path / "none.pt")
