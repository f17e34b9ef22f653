"""Tables from files, through the stages that take them in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr

from fact import import_activations, import_labels
from fact.data import tables
from fact.data.array_file import ArrayFileError, NamedArray, read_array
from fact.kinds import ArrayFile
from registry.declare.plugins import kinds
from registry.declare.stage import Input
from registry.store.shards import ShardWriter

VALUES = np.random.default_rng(0).random((7, 3))
INPUTS = [f"test/{letter}" for letter in "abcdefg"]
NAMES = ["beak", "wing", "tail"]


class FolderRun:
    """A run that writes its shards into a folder."""

    def __init__(self, folder: Path):
        self.folder = folder

    def shards(self, count: int | None = None) -> ShardWriter:
        return ShardWriter(self.folder, import_activations.stage.output)

    def progress(self, done: int, total: int, what: str = "") -> None:
        assert 0 < done <= total


def write(path: Path) -> Path:
    if path.suffix == ".nc":
        coords = {"input": INPUTS, "name": ("neuron", NAMES)}
        xr.Dataset({"activation": (("input", "neuron"), VALUES)}, coords).to_netcdf(
            path, engine="h5netcdf"
        )
    elif path.suffix == ".npz":
        np.savez(path, activation=VALUES, image=INPUTS, name=NAMES)
    elif path.suffix == ".csv":
        pd.DataFrame(VALUES, columns=NAMES).assign(image=INPUTS).to_csv(path, index=False)
    elif path.suffix == ".parquet":
        pd.DataFrame(VALUES, pd.Index(INPUTS, name="image"), NAMES).to_parquet(path)
    elif path.suffix == ".pt":
        torch.save({"activation": torch.tensor(VALUES), "image": INPUTS, "name": NAMES}, path)
    else:
        np.save(path, VALUES)
    return path


def inputs_of(path: Path, **settings: Any) -> dict[str, Input]:
    settings = ArrayFile(str(path), **settings)  # type: ignore[assignment]
    return {"arrays": Input("arrays", "birds", "arrays", "0" * 16, settings=settings)}


@pytest.mark.parametrize("suffix", [".nc", ".npz", ".csv", ".parquet", ".pt", ".npy"])
def test_every_format_gives_the_same_table(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / f"birds{suffix}")
    table = read_array(path, names=NAMES if suffix == ".npy" else ())
    assert table.columns == tuple(NAMES)
    np.testing.assert_array_equal(table.rows(slice(2, 5)), VALUES[2:5].astype(np.float32))
    assert table.are_rows_named == (suffix != ".npy")
    assert table.inputs.tolist() == ([""] * 7 if suffix == ".npy" else INPUTS)
    assert not any(table.right_concepts)


@pytest.mark.parametrize("suffix", [".nc", ".npz"])
@pytest.mark.slow
def test_activations_are_taken_in_shard_by_shard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    monkeypatch.setattr(tables, "SHARD_BYTES", 24)
    stage = import_activations.stage
    inputs = inputs_of(write(tmp_path / f"birds{suffix}"))
    shards = stage(stage.resolve({"known": "name"}), inputs, FolderRun(tmp_path / "out"))
    assert shards.rows == (2, 2, 2, 1)
    parts = [xr.open_dataset(path) for path in sorted((tmp_path / "out").glob("part-*.nc"))]
    whole = xr.concat(parts, "image")
    np.testing.assert_array_equal(whole["activation"], VALUES.astype(np.float32))
    assert whole["image"].values.tolist() == INPUTS
    summary = xr.open_dataset(tmp_path / "out/summary.nc")
    assert summary["right_concept"].values.tolist() == summary["name"].values.tolist() == NAMES
    assert summary["n_known"] == 3


def test_the_file_may_say_what_neurons_stand_for(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", values=VALUES, right_concept=["class:owl", "", "class:jay"])
    stage = import_activations.stage
    stage(stage.resolve({}), inputs_of(tmp_path / "a.npz"), FolderRun(tmp_path / "out"))
    summary = xr.open_dataset(tmp_path / "out/summary.nc")
    assert summary["right_concept"].values.tolist() == ["class:owl", "", "class:jay"]
    assert summary["name"].values.tolist() == ["0", "1", "2"]
    assert summary["n_known"] == 2


def test_the_file_may_say_what_neurons_were_trained_on(tmp_path: Path) -> None:
    trained = ["train/b", "train/a", "train/b"]
    np.savez(tmp_path / "own.npz", activation=VALUES, image=INPUTS, trained=trained)
    table = read_array(tmp_path / "own.npz")
    assert table.trained == ("train/a", "train/b")
    stage = import_activations.stage
    stage(stage.resolve({}), inputs_of(tmp_path / "own.npz"), FolderRun(tmp_path / "out"))
    with xr.open_dataset(tmp_path / "out/summary.nc") as summary:
        assert summary["trained"].values.tolist() == ["train/a", "train/b"]


def test_labels_are_probabilities(tmp_path: Path) -> None:
    stage = import_labels.stage
    labels = stage(stage.resolve({}), inputs_of(write(tmp_path / "l.csv")), None)
    stage.output.check(labels)
    np.testing.assert_array_equal(labels["value"], VALUES.astype(np.float32))
    assert labels["label"].values.tolist() == NAMES
    np.save(tmp_path / "l.npy", VALUES + 0.5)
    with pytest.raises(ValueError, match=r"labels are outside \[0, 1\]"):
        stage(stage.resolve({}), inputs_of(tmp_path / "l.npy"), None)


def test_an_empty_id_of_a_csv_cuts_no_other(tmp_path: Path) -> None:
    lines = ["image,a,b", "wren one,1,2", "wren two,3,4", ",5,6"]
    (tmp_path / "t.csv").write_text("\n".join(lines))
    with pytest.raises(ArrayFileError, match="1 of 3 inputs has no name"):
        ArrayFile(str(tmp_path / "t.csv")).load()


def test_an_id_of_a_csv_is_a_text_whatever_it_says(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("image,a,b\nNA,1,2\nnan,3,4\nNone,4,5\n007,5,6")
    assert read_array(tmp_path / "t.csv").inputs.tolist() == ["NA", "nan", "None", "007"]
    (tmp_path / "t.csv").write_text("code,a,b\nNA,1,NA\nDE,3,4")
    table = read_array(tmp_path / "t.csv", id="code")
    assert table.inputs.tolist() == ["NA", "DE"]
    with pytest.raises(ArrayFileError, match="1 value is not finite"):
        table.rows(slice(0, 2))
    (tmp_path / "t.csv").write_text(",a,b\nNA,1,2\nDE,3,4")
    assert read_array(tmp_path / "t.csv").inputs.tolist() == ["NA", "DE"]


def test_columns_that_are_constant_are_told(
    tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "SHARD_BYTES", 48)
    values = np.stack([VALUES[:, 0], np.full(7, 2.0), 1e9 + VALUES[:, 1], 1e9 * VALUES[:, 2]], 1)
    np.savez(tmp_path / "t.npz", a=values, image=INPUTS, name=["w", "same", "lost", "large"])
    stage = import_activations.stage
    stage(stage.resolve({}), inputs_of(tmp_path / "t.npz"), FolderRun(tmp_path / "out"))
    first, second = capsys.readouterr().out.splitlines()[:2]
    assert first == "1 column is constant in 'birds', of no use to tell inputs apart: 'same'."
    assert second.startswith("1 column is no longer varying in the single precision in which")
    assert second.endswith(": 'lost'.")


def test_names_may_be_those_of_a_list(tmp_path: Path) -> None:
    np.save(tmp_path / "cub.npy", np.zeros((4, 112)))
    table = ArrayFile(str(tmp_path / "cub.npy"), names="cub-attributes").load()
    assert isinstance(table, NamedArray)
    assert table.columns[0] == "has_bill_shape::dagger"
    with pytest.raises(ArrayFileError, match="112 columns, but 365 names"):
        ArrayFile(str(tmp_path / "cub.npy"), names="places365").load()


@pytest.mark.parametrize(
    ("arrays", "fault"),
    [
        ({"a": VALUES, "b": VALUES}, "got 'a', 'b'"),
        ({"a": VALUES[0]}, "got none"),
        ({"a": VALUES, "image": INPUTS[:3]}, "'image' has 3 entries; expected 7"),
        ({"a": VALUES, "image": ["x"] * 7}, "6 names of inputs repeat others: 'x'"),
        ({"a": VALUES, "image": [*INPUTS[:5], "", ""]}, "2 of 7 inputs have no name"),
        ({"a": VALUES, "name": ["x", "y"]}, "'name' has 2 entries; expected 3"),
        ({"a": np.array([[{}]], dtype=object)}, "cannot be read"),
    ],
)
def test_a_bad_file_says_what_is_wrong(tmp_path: Path, arrays: Any, fault: str) -> None:
    np.savez(tmp_path / "bad.npz", **arrays)
    with pytest.raises(ArrayFileError, match=fault):
        read_array(tmp_path / "bad.npz")


def test_other_files_and_numbers_are_errors(tmp_path: Path) -> None:
    with pytest.raises(ArrayFileError, match="no file at"):
        read_array(tmp_path / "none.npz")
    (tmp_path / "a.mat").write_bytes(b"")
    with pytest.raises(ArrayFileError, match=r"expected one of \.csv"):
        read_array(tmp_path / "a.mat")
    (tmp_path / "a.npz").write_bytes(b"no archive")
    with pytest.raises(ArrayFileError, match="cannot be read"):
        read_array(tmp_path / "a.npz")
    np.savez(tmp_path / "b.npz", activation=VALUES)
    with pytest.raises(ArrayFileError, match="did you mean 'activation'"):
        read_array(tmp_path / "b.npz", "activations")
    np.save(tmp_path / "c.npy", np.full((2, 2), np.nan))
    with pytest.raises(ArrayFileError, match="4 values are not finite"):
        read_array(tmp_path / "c.npy").rows(slice(0, 2))


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".npz", ".nc", ".pt"])
def test_the_column_that_names_the_rows_may_be_declared(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"own{suffix}"
    table = pd.DataFrame(VALUES, columns=NAMES).assign(photo=range(10, 17))
    arrays = {"values": VALUES, "photo": table["photo"].to_numpy(), "label": NAMES}
    match suffix:
        case ".csv":
            table.to_csv(path, index=False)
        case ".parquet":
            table.to_parquet(path)
        case ".npz":
            np.savez(path, **arrays)
        case ".nc":
            coords = {"photo": ("photo", arrays["photo"]), "label": NAMES}
            xr.Dataset({"values": (("photo", "label"), VALUES)}, coords).to_netcdf(path)
        case ".pt":
            torch.save({**arrays, "values": torch.tensor(VALUES), "photo": [*range(10, 17)]}, path)
    found = read_array(path, id="photo")
    assert found.inputs.tolist() == [str(number) for number in range(10, 17)]
    assert found.columns == tuple(NAMES)
    np.testing.assert_allclose(found.rows(slice(None)), VALUES.astype(np.float32))
    with pytest.raises(ArrayFileError, match=r"no column or array 'phot'.*'photo'"):
        read_array(path, id="phot")


def test_columns_of_text_are_named(tmp_path: Path) -> None:
    path = tmp_path / "own.csv"
    pd.DataFrame(VALUES, columns=NAMES).assign(file=INPUTS).to_csv(path, index=False)
    with pytest.raises(ArrayFileError, match=r"1 column holds no numbers: 'file'; id = "):
        read_array(path)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_mistyped_id_is_told_with_the_columns_of_the_file(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"own{suffix}"
    table = pd.DataFrame(VALUES, columns=NAMES).assign(**{"Datei name": INPUTS})
    write = {".csv": table.to_csv, ".parquet": table.to_parquet}[suffix]
    write(path, index=False)
    for mistyped, told in {"Dateiname": "; did you mean 'Datei name'", "x": NAMES[0]}.items():
        with pytest.raises(
            ArrayFileError, match=f"no column or array {mistyped!r}.*{told}"
        ) as refused:
            read_array(path, id=mistyped)
        assert "'values'" not in str(refused.value)
    table.rename(columns={"Datei name": "image"}).to_csv(tmp_path / "a.csv", index=False)
    with pytest.raises(
        ArrayFileError, match=r"no column or array 'bild'.*; 'image' names rows without id"
    ):
        read_array(tmp_path / "a.csv", id="bild")
    table.to_csv(tmp_path / "a.csv", index=False, sep=";")
    with pytest.raises(
        ArrayFileError, match=r"no column or array 'Datei name'.* parted by ';'; expected"
    ):
        read_array(tmp_path / "a.csv", id="Datei name")


def test_no_code_is_run_by_a_file_of_torch(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "ran",))

    path = tmp_path / "a.pt"
    torch.save({"values": Evil()}, path)
    with pytest.raises(ArrayFileError, match="cannot be read"):
        read_array(path)
    assert not (tmp_path / "ran").exists()
    torch.save(torch.tensor(VALUES, dtype=torch.bfloat16), path)
    assert read_array(path).values.dtype == np.float32
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(ArrayFileError, match="cannot be read"):
        read_array(path)


def test_other_content_is_another_identity(tmp_path: Path) -> None:
    path = write(tmp_path / "a.npy")
    before = ArrayFile(str(path)).identity()
    assert ArrayFile(str(path), names="imagenet").identity() != before
    np.save(path, VALUES + 1)
    assert ArrayFile(str(path)).identity() != before
    assert kinds("datasets")["array-file"].settings.rules.runtime == {"path", "names", "rows"}


# --- rows that nothing names ----------------------------------------------------------------


def imported(inputs: dict[str, Input]) -> xr.Dataset:
    stage = import_labels.stage
    found: xr.Dataset = stage(stage.resolve({"split": "val"}), inputs, None)
    return found


def test_counted_rows_have_names_of_their_own(tmp_path: Path, capsys: Any) -> None:
    one = imported(inputs_of(write(tmp_path / "a.npy")))
    assert one["image"].values[:2].tolist() == ["val/birds 00000 of 7", "val/birds 00001 of 7"]
    assert one.attrs["row_names"] == "counted"
    assert "rows of 'birds' have no names: counted, they join nothing" in capsys.readouterr().out
    named = imported(inputs_of(write(tmp_path / "a.npz")))
    assert named["image"].values.tolist() == INPUTS
    assert named.attrs["row_names"] == "file"
    shared = imported(inputs_of(tmp_path / "a.npy", rows="wings"))
    assert shared["image"].values[1] == "val/wings 00001 of 7"
    assert shared.attrs["row_names"] == "wings"
    assert not capsys.readouterr().out


def test_a_file_may_name_the_rows(tmp_path: Path) -> None:
    path, names = write(tmp_path / "a.npy"), tmp_path / "ids.txt"
    names.write_text("\n".join(INPUTS))
    assert imported(inputs_of(path, rows=str(names)))["image"].values.tolist() == INPUTS
    before = ArrayFile(str(path), rows=str(names)).identity()
    for text, found in (("\n".join(INPUTS[1:]), 6), ("\n".join([*INPUTS[1:], "test/b"]), 6)):
        names.write_text(text)
        with pytest.raises(
            ArrayFileError, match=rf"has 7 rows, .*ids\.txt {found} different names"
        ):
            imported(inputs_of(path, rows=str(names)))
    assert (
        len({before, ArrayFile(str(path), rows="a").identity(), ArrayFile(str(path)).identity()})
        == 3
    )
    with pytest.raises(ArrayFileError, match="names its rows itself; leave rows 'wings' out"):
        imported(inputs_of(write(tmp_path / "a.npz"), rows="wings"))
    with pytest.raises(ValueError, match=r"expected a text file, as 'ids\.txt', or a word"):
        ArrayFile(str(path), rows="../other names")


def test_columns_that_nothing_names_are_no_known_concepts(tmp_path: Path) -> None:
    stage, run = import_activations.stage, FolderRun(tmp_path / "out")
    inputs = inputs_of(write(tmp_path / "a.npy"))
    with pytest.raises(
        ArrayFileError, match=r"columns of 'birds' have none: .*names = … in \[data"
    ):
        stage(stage.resolve({"known": "name"}), inputs, run)


COUNTS = [range(7), range(1, 8), np.arange(7.0), [f"{row:05d}" for row in range(7)]]


@pytest.mark.parametrize("counts", COUNTS, ids=["0", "1", "floats", "texts"])
def test_rows_that_are_named_by_a_count_are_counted(
    tmp_path: Path, counts: Any, capsys: Any
) -> None:
    """Who writes a table that lost its first row counts the others from 0 on again."""
    table = pd.DataFrame(VALUES, pd.Index(counts), NAMES)
    table.to_csv(tmp_path / "image.csv", index_label="image")
    table.to_csv(tmp_path / "index.csv")
    table.to_csv(tmp_path / "own.csv", index_label="file")
    table.rename_axis("image").to_parquet(tmp_path / "image.parquet")
    np.savez(tmp_path / "image.npz", values=VALUES, image=np.array(counts), name=NAMES)
    for path in sorted(tmp_path.iterdir()):
        settings = {"id": "file"} if path.stem == "own" else {}
        table = read_array(path, **settings)
        assert not table.are_rows_named
        assert table.columns == tuple(NAMES)
        found = imported(inputs_of(path, **settings))
        assert found["image"].values[1] == "val/birds 00001 of 7"
        assert found.attrs["row_names"] == "counted"
        told = capsys.readouterr().out
        assert f"are named {counts[0]} to {counts[-1]}: counted, they join nothing" in told
        assert imported(inputs_of(path, rows="wings", **settings)).attrs["row_names"] == "wings"


def test_a_list_of_rows_that_only_counts_is_refused(tmp_path: Path) -> None:
    (tmp_path / "ids.txt").write_text("\n".join(map(str, range(7))))
    with pytest.raises(ArrayFileError, match=r"ids\.txt only counts, 0 to 6, and so names no row"):
        imported(inputs_of(write(tmp_path / "a.npy"), rows=str(tmp_path / "ids.txt")))


def test_the_index_that_pandas_writes_is_no_column(tmp_path: Path) -> None:
    table = pd.DataFrame(VALUES, INPUTS, NAMES)
    moved = pd.DataFrame(VALUES, [f"{row}" for row in (3, 1, 0, 2, 6, 5, 4)], NAMES)
    for one in (table, moved):
        one.to_csv(tmp_path / "a.csv")
        one.to_parquet(tmp_path / "a.parquet")
        one.reset_index().rename(columns={"index": ""}).to_csv(tmp_path / "twice.csv")
        one.to_csv(tmp_path / "r.csv", header=True)
        text = (tmp_path / "r.csv").read_text()
        (tmp_path / "r.csv").write_text(text.removeprefix(","))  # as R's write.table does
        for name in ("a.csv", "a.parquet", "twice.csv", "r.csv"):
            found = read_array(tmp_path / name)
            assert found.inputs.tolist() == one.index.tolist()
            assert found.columns == tuple(NAMES)
    table.assign(image=INPUTS).reset_index(drop=True).to_csv(tmp_path / "b.csv")
    assert read_array(tmp_path / "b.csv").inputs.tolist() == INPUTS
    assert read_array(tmp_path / "b.csv").columns == tuple(NAMES)
    with pytest.raises(ArrayFileError, match="no column or array 'photo'"):
        read_array(tmp_path / "a.csv", id="photo")


def test_what_may_be_an_index_and_is_not_said_to_be_is_refused(tmp_path: Path) -> None:
    table = pd.DataFrame(VALUES, columns=NAMES)
    table.to_csv(tmp_path / "own.csv", index_label="row")
    with pytest.raises(ArrayFileError, match="column 'row' counts the rows, as an index does"):
        read_array(tmp_path / "own.csv")
    table.set_axis([INPUTS, [text.upper() for text in INPUTS]]).to_csv(tmp_path / "two.csv")
    with pytest.raises(ArrayFileError, match="2 columns have no name; expected one at most"):
        read_array(tmp_path / "two.csv")
    table.rename(columns={"wing": ""}).to_csv(tmp_path / "none.csv", index=False)
    with pytest.raises(ArrayFileError, match="column 1 of 3 has no name"):
        read_array(tmp_path / "none.csv")


def test_columns_of_a_csv_are_called_otherwise_than_each_other(tmp_path):
    path = tmp_path / "labels.csv"
    path.write_text("image,red,red,red.1,blue\na,1,0,1,0\nb,0,1,1,0\n")
    with pytest.raises(ArrayFileError, match=r"names of columns repeat others: 'red'$"):
        ArrayFile(str(path)).load()
    path.write_text("image,red,red.1\na,1,0\nb,0,1\n")
    assert ArrayFile(str(path)).load().columns == ("red", "red.1")


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ("0.5,-1.25,2\n1,0,0\n0,0,1\n", r"first line holds numbers, as 0\.5: expected the names"),
        ("1e-3,2,7\n1,0,0\n0,0,1\n", "first line holds numbers, as 1e-3"),
        ("0,1,0\n1,0,0\n0,0,1\n", "names of columns repeat others: '0'; is it a line of values"),
    ],
)
def test_a_csv_without_names_of_columns_loses_no_row(tmp_path, lines, told):
    path = tmp_path / "neurons.csv"
    path.write_text(lines)
    with pytest.raises(ArrayFileError, match=told):
        ArrayFile(str(path)).load()


def test_columns_that_are_counted_need_no_other_names(tmp_path):
    path = tmp_path / "neurons.csv"
    pd.DataFrame([[0.5, 1.0], [0.25, 0.0], [0.5, 2.0]]).to_csv(path)
    assert ArrayFile(str(path)).load().values.shape == (3, 2)
    path.write_text("281,285\n0.5,1\n0.25,0\n")
    assert ArrayFile(str(path)).load().columns == ("281", "285")
