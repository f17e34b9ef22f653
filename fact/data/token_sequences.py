"""Sequences of tokens, or texts that a tokenizer makes some of, from files of anybody's.

Text files, JSON lines, arrays of token ids, parquet, and the folders in which the package
``datasets`` keeps a data set on the disk, which are read without that package.
"""

from __future__ import annotations

import json
import pickle
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

import registry
from fact.data.array_file import LOOKED_AT, PARQUET, TORCH
from fact.data.saved import KEPT, STATE, saved_files
from fact.data.torch_file import read_torch
from registry.declare.requirements import Finding, Requirement
from registry.suggest import RefusalError, nearest
from registry.wording import counted

Ids: TypeAlias = NDArray[np.int64]
"""Ids of tokens, (position,)."""

COLUMNS = ("tokens", "input_ids", "text")
"""Columns that hold sequences, unless another one is named."""

SampleBy = Literal["line", "paragraph", "document"]


class TokenSequencesError(RefusalError, ValueError):
    """A file that holds no sequences, or not those that are asked for."""


@registry.kind("datasets", "token-sequences", provides="texts")
@dataclass(frozen=True)
class TokenSequences:
    """Sequences of tokens, or texts, that a language model reads.

    Parameters
    ----------
    path : str
        ``.txt`` (texts), ``.jsonl`` (each line a text, a list of token ids, or an object with such
        a column), ``.npy``, ``.npz`` or ``.pt`` (token ids, (sequence, position)), ``.parquet``,
        ``.arrow``, or the folder of a Hugging Face data set, as ``save_to_disk`` writes it, as
        ``load_dataset`` keeps it or with its parquet files; relative to the folder of the
        declaration.
    column : str
        Column, key or array that holds them; by default ``tokens``, ``input_ids`` or ``text``.
    split : str
        Of a folder with several.
    sample_by : str
        What a text is in ``.txt``: a ``line``, a ``paragraph`` (up to an empty line), or the whole
        ``document``.
    """

    path: registry.Runtime[str]
    column: str = ""
    split: str = "train"
    sample_by: SampleBy = "line"

    source = (
        "https://huggingface.co/datasets/NeelNanda/openwebtext-tokenized-9b has the tokens of the "
        "paper's language models: its first file of parquet, or "
        'datasets.load_dataset("NAME").save_to_disk("FOLDER") of any other; texts of yours do too'
    )

    def identity(self) -> str:
        """Return a content hash of the file or folder.

        Raises
        ------
        registry.plan.contents.IdentityError
            If it is not there.
        """
        return registry.content_identity(self.path)

    def check(self, every: bool) -> Iterator[Finding]:
        """Yield what the file holds: its first sequence, or the count of ``every`` one."""
        count, first = 0, ""
        try:
            for one in self.load():
                is_text = isinstance(one, str)
                first = first or f"{len(one):,} {'characters' if is_text else 'token ids'}"
                count += 1
                if not every:
                    break
        except TokenSequencesError as error:
            yield Finding(str(error))
            return
        if not count:
            yield Finding(f"{self.path} holds no sequence")
            return
        told = counted(count, "sequence") if every else "sequences"
        yield Finding(f"{told}, the first of {first}", is_missing=False)

    def lacks(self) -> Callable[[Mapping[str, Any]], Iterable[str]]:
        """Return what tells of a task what it would fail for: what cannot be read, no such split.

        It says what ``factbook data check`` says. Larger files than `LOOKED_AT` are left to it.
        """
        path = Path(self.path).expanduser()
        if path.is_file() and path.stat().st_size > LOOKED_AT:
            return lambda config: ()
        faults = [str(found) for found in self.check(False) if found.is_missing]
        return lambda config: faults

    def requires(self) -> Iterator[Requirement]:
        """Yield the package that reads the file, where one is needed."""
        path = Path(self.path).expanduser()
        if path.suffix in (".parquet", ".arrow") or path.is_dir():
            yield PARQUET
        elif path.suffix in (".pt", ".pth"):
            yield TORCH

    def load(self) -> TextSource:
        """Open the file, which is read as it is gone through.

        Raises
        ------
        TokenSequencesError
            If it is missing, of another kind, or has no such column or split.
        """
        path = Path(self.path).expanduser()
        if path.is_dir():
            return TextSource(path, lambda: _read_folder(path, self.column, self.split))
        if not path.is_file():
            raise TokenSequencesError(f"no file or folder at {path}")
        if path.suffix == ".txt":
            return TextSource(path, lambda: _read_texts(path, self.sample_by))
        reader = _READERS.get(path.suffix.lower())
        if reader is None:
            known = ".txt, " + ", ".join(_READERS)
            raise TokenSequencesError(f"{path.name}: expected one of {known}, or a folder")
        return TextSource(path, lambda: reader(path, self.column))


@dataclass(frozen=True)
class TextSource:
    """Texts and sequences of token ids, in order, read anew each time that they are gone through.

    Attributes
    ----------
    path : Path
        Where they are, for errors.
    read : callable
        Yields what the file holds.
    """

    path: Path
    read: Callable[[], Iterator[Any]]

    def __iter__(self) -> Iterator[str | Ids]:
        """Yield each text, or the ids (position,) of each sequence; empty ones are left out.

        Raises
        ------
        TokenSequencesError
            If the file is damaged, or one is neither.
        """
        try:
            for number, value in enumerate(self.read()):
                found = self._checked(value, number)
                if len(found):
                    yield found
        except TokenSequencesError as error:
            raise TokenSequencesError(f"{self.path}: {error}") from None
        except _UNREADABLE as error:
            raise TokenSequencesError(f"{self.path} cannot be read: {error}") from error

    def _checked(self, value: Any, number: int) -> str | Ids:
        if isinstance(value, str):
            return value
        ids = np.asarray(value)
        if ids.ndim != 1 or (ids.size and ids.dtype.kind not in "iu"):
            what = f"{type(value).__name__} of shape {ids.shape}" if ids.ndim else repr(value)
            raise TokenSequencesError(
                f"sequence {number} is a {what[:80]}; expected a text, or a list of token ids"
            )
        if ids.size and ids.min() < 0:
            raise TokenSequencesError(f"sequence {number} has the token id {ids.min()}")
        return ids.astype(np.int64)


_UNREADABLE = (
    *(OSError, EOFError, ImportError, KeyError, RuntimeError, ValueError),
    *(pickle.UnpicklingError, zipfile.BadZipFile),
)


# --- texts ----------------------------------------------------------------------------------


def _read_texts(path: Path, sample_by: SampleBy) -> Iterator[str]:
    if sample_by == "document":
        yield path.read_text(encoding="utf-8-sig")
        return
    gathered: list[str] = []
    with path.open(encoding="utf-8-sig") as file:
        for line in file:
            if sample_by == "line":
                yield line.rstrip("\n") if line.strip() else ""
            elif line.strip():
                gathered.append(line)
            elif gathered:
                yield "".join(gathered).rstrip("\n")
                gathered = []
    if gathered:
        yield "".join(gathered).rstrip("\n")


def _read_json_lines(path: Path, column: str) -> Iterator[Any]:
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                value = json.loads(line)
            except ValueError as error:
                raise TokenSequencesError(f"line {number} is no JSON: {error}") from None
            yield value[_find(column, list(value))] if isinstance(value, dict) else value


# --- arrays ---------------------------------------------------------------------------------


def _read_npy(path: Path, _column: str) -> Iterator[Any]:
    yield from _rows(np.load(path, allow_pickle=False, mmap_mode="r"))


def _read_npz(path: Path, column: str) -> Iterator[Any]:
    with np.load(path, allow_pickle=False) as file:
        yield from _rows(file[_only(column, file.files)])


def _read_torch(path: Path, column: str) -> Iterator[Any]:
    found = read_torch(path)
    if isinstance(found, Mapping):
        found = found[_only(column, [str(name) for name in found])]
    yield from _rows(found.numpy() if hasattr(found, "numpy") else np.asarray(found))


def _rows(array: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """Yield sequences of an array (sequence, position); one of (position,) is one sequence."""
    if array.ndim not in (1, 2):
        raise TokenSequencesError(f"shape {array.shape}; expected (sequence, position)")
    yield from array[None] if array.ndim == 1 else array


# --- tables ---------------------------------------------------------------------------------


def _read_parquet(path: Path, column: str) -> Iterator[Any]:
    from pyarrow import parquet

    with parquet.ParquetFile(path) as file:
        name = _find(column, file.schema_arrow.names)
        for batch in file.iter_batches(batch_size=64, columns=[name]):
            yield from batch.column(0).to_pylist()


def _read_arrow(path: Path, column: str) -> Iterator[Any]:
    import pyarrow as pa

    with pa.memory_map(str(path)) as source:
        try:
            batches: Any = pa.ipc.open_stream(source)
        except pa.ArrowInvalid:  # the other of Arrow's two formats
            file = pa.ipc.open_file(source)
            batches = map(file.get_batch, range(file.num_record_batches))
        for batch in batches:
            values = batch.column(_find(column, batch.schema.names))
            for start in range(0, len(values), 64):
                yield from values.slice(start, 64).to_pylist()


def _read_folder(folder: Path, column: str, split: str) -> Iterator[Any]:
    if files := saved_files(folder):
        if split not in files and not (folder / STATE).is_file():
            raise TokenSequencesError(f"no split {split!r}{nearest(split, files)}")
        (alone, *_) = files.values()
        for path in files.get(split, alone):
            yield from _read_arrow(path, column)
        return
    for path in _parquet_files(folder, split):
        yield from _read_parquet(path, column)


def _parquet_files(folder: Path, split: str) -> list[Path]:
    """Return the files of a split, whose names or folders begin with it; all if none does."""
    files = sorted(folder.rglob("*.parquet"))
    own = [
        path
        for path in files
        if any(part.startswith(split) for part in path.relative_to(folder).parts)
    ]
    if not files:
        raise TokenSequencesError(KEPT)
    splits = {path.name.partition("-")[0] for path in files if "-of-" in path.name}
    if not own and splits:
        raise TokenSequencesError(f"no split {split!r}{nearest(split, splits)}")
    return own or files


def _find(column: str, names: Sequence[str]) -> str:
    """Return the column that is meant, of those that there are."""
    wanted = [column] if column else [name for name in COLUMNS if name in names]
    if not wanted or wanted[0] not in names:
        if column:
            raise TokenSequencesError(f"no column {column!r}{nearest(column, names)}")
        raise TokenSequencesError(
            f"no column of {', '.join(COLUMNS)} among {list(names)}; say which by `column`"
        )
    return wanted[0]


def _only(column: str, names: Sequence[str]) -> str:
    """Return the array that is meant; the only one, where there is one."""
    return names[0] if len(names) == 1 and not column else _find(column, names)


_READERS: Mapping[str, Callable[[Path, str], Iterator[Any]]] = {
    ".jsonl": _read_json_lines,
    ".npy": _read_npy,
    ".npz": _read_npz,
    ".pt": _read_torch,
    ".pth": _read_torch,
    ".parquet": _read_parquet,
    ".arrow": _read_arrow,
}
