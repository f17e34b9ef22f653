"""The C2-score of a folder: its layouts, its faults, and real photographs by one command."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr
from click.testing import CliRunner
from PIL import Image

import evals
import fact
from evals import schemas
from fact.data.images import ImageDataError
from fact.encode.c2 import _write, c2
from fact.encode.concept_folder import read_folder, read_map, score_folder
from fact.encode.encoders import EncoderChoice
from fact.encode.encodings import random_weights
from registry.cli import main
from tests.fact import photographs
from tests.fact.encode.test_encodings import PATCHES

RNG = np.random.default_rng(0)
WRITERS = {
    ".npy": lambda path, map: np.save(path, map),
    ".npz": lambda path, map: np.savez(path, weights=map),
    ".nc": lambda path, map: xr.Dataset({"m": (("y", "x"), map)}).to_netcdf(path),
    ".pt": lambda path, map: torch.save(torch.from_numpy(map), path),
}


def write_pair(image: Path, picture: np.ndarray, map: np.ndarray, suffix: str = ".npy") -> None:
    image.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(image)
    WRITERS[suffix](image.with_suffix(suffix), map)


def write_table(root: Path, rows: list[tuple[str, str, object]]) -> None:
    with (root / "presences.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("concept", "image", "presence"), *rows])


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two concepts of real photographs: one object, and anything."""
    root = tmp_path_factory.mktemp("photos")
    rows = []
    for concept, made in {
        "anything": photographs.anything(),
        "bloom": photographs.same_object(),
    }.items():
        for number, (crop, map) in enumerate(zip(*made, strict=True)):
            write_pair(root / concept / f"{number}.png", crop, map)
            rows.append((concept, f"{number}.png", 1 + number / 10))
    write_table(root, rows)
    return root


@pytest.mark.slow
def test_one_command_tells_the_coherent_concept(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "scores.csv"
    result = CliRunner().invoke(main, ["c2", str(photos), "--out", str(out), "--device", "cpu"])
    assert result.exit_code == 0, result.output
    assert result.output.startswith("C2-score ")
    variant = "efficientnet-lite0 with bilinear, images of side 224; all images; not centred"
    assert result.output.splitlines()[1] == variant
    with out.open() as file:
        scores = {row["name"]: row for row in csv.DictReader(file)}
    assert float(scores["bloom"]["score"]) > 0.8 > 0.5 > float(scores["anything"]["score"])
    assert scores["bloom"]["n_images"] == "8"
    assert {row["variant"] for row in scores.values()} == {variant}
    assert len({row["baseline"] for row in scores.values()}) == 1
    crops, maps = photographs.same_object()
    encodings = fact.encode_maps(crops, maps, device="cpu")
    expected = evals.c2_score(encodings, 1 + np.arange(8) / 10)
    assert float(scores["bloom"]["score"]) == pytest.approx(expected, abs=1e-6)


@pytest.mark.slow
def test_centring_keeps_the_order_and_is_recorded(photos: Path) -> None:
    plain = score_folder(photos, device="cpu")
    centred = score_folder(photos, centred=True, device="cpu")
    assert plain["concept_name"].values.tolist() == ["anything", "bloom"]
    assert plain["variant"].item().endswith("all images; not centred")
    assert centred["variant"].item().endswith("all images; centred")
    assert centred["score"][1] > centred["score"][0] + 0.2
    assert centred["baseline"] < plain["baseline"]


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """Concepts a and b of three images each, in all formats of maps."""
    rows = []
    for concept in "ab":
        for number, suffix in enumerate([".npy", ".nc", ".pt"]):
            picture = RNG.integers(0, 256, (12, 16, 3), dtype=np.uint8)
            write_pair(tmp_path / concept / f"{number}.png", picture, RNG.random((6, 8)), suffix)
            rows.append((concept, f"{number}", 0.5 + number))
    write_table(tmp_path, rows)
    return tmp_path


def scores_of(root: Path, **options: object) -> np.ndarray:
    return score_folder(root, PATCHES, device="cpu", **options)["score"].values


def test_images_apart_from_maps_give_the_same(small: Path, tmp_path: Path) -> None:
    expected = scores_of(small)
    other = tmp_path / "apart"
    rows = []
    for pair in read_folder(small).pairs:
        name = f"{pair.concept}{pair.image.stem}"
        (other / "images").mkdir(parents=True, exist_ok=True)
        (other / "maps" / pair.concept).mkdir(parents=True, exist_ok=True)
        pair.image.rename(other / "images" / f"{name}.png")
        pair.map.rename(other / "maps" / pair.concept / f"{name}{pair.map.suffix}")
        rows.append((pair.concept, f"{name}.png", pair.presence))
    write_table(other, rows)
    np.testing.assert_array_equal(scores_of(other), expected)


def test_the_published_layout_is_read_as_it_is(tmp_path: Path) -> None:
    pictures = RNG.integers(0, 256, (3, 12, 16, 3), dtype=np.uint8)
    maps, presence = RNG.normal(size=(3, 12, 16)), [18.9665, 15.5, 2.25]
    folder = tmp_path / "concept_1"
    folder.mkdir()
    for number in range(3):
        Image.fromarray(pictures[number]).save(folder / f"id_{number}_act_{presence[number]}.png")
        torch.save(torch.from_numpy(maps[number])[None], folder / f"id_{number}_actmap.pt")
    expected = evals.c2_score(fact.encode_maps(pictures, maps, PATCHES, device="cpu"), presence)
    assert scores_of(tmp_path)[0] == pytest.approx(expected, abs=1e-6)


def test_maps_as_pictures(small: Path) -> None:
    path = small / "a" / "0.npy"
    grey = np.rint(255 * np.load(path)).astype(np.uint8)
    path.unlink()
    Image.fromarray(grey).save(small / "a" / "0_map.png")
    np.testing.assert_array_equal(read_map(small / "a" / "0_map.png"), grey)
    assert len(read_folder(small).pairs) == 6


def test_a_copy_of_an_image_is_the_same_image(small: Path) -> None:
    for suffix in (".png", ".npy"):
        copied = (small / "a" / f"0{suffix}").read_bytes()
        (small / "b" / f"copy{suffix}").write_bytes(copied)
    with (small / "presences.csv").open("a") as file:
        file.write("b,copy.png,1\n")
    folder = read_folder(small)
    assert len(folder.images) == 6
    assert len(folder.pairs) == 7
    assert sorted(pair.concept for pair in folder.images["a/0.png"]) == ["a", "b"]


def test_classes_have_baselines_through_the_same_quantile(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = []
    for name in ("zebra", "ant"):
        for number in range(14):
            picture = RNG.integers(0, 256, (12, 16, 3), dtype=np.uint8)
            write_pair(tmp_path / name / "7" / f"{number}.png", picture, RNG.random((12, 16)))
            rows.append((f"{name}/7", f"{number}.png", RNG.gamma(2)))
    write_table(tmp_path, rows)
    scores = score_folder(tmp_path, PATCHES, by_class=True, quantile=0.2, device="cpu")
    assert scores["concept_class"].values.tolist() == ["ant", "zebra"]
    expected = []
    for name in ("ant", "zebra"):
        images = [f"{name}/7/{number}.png" for number in range(14)]
        maps = np.stack([random_weights(image, (12, 16), 0) for image in images])
        presence = maps.sum((1, 2))
        chosen = np.flatnonzero(presence >= np.quantile(presence, 0.2))
        assert 10 <= len(chosen) < 14
        pictures = [np.asarray(Image.open(tmp_path / images[i])) for i in chosen]
        encodings = fact.encode_maps(pictures, maps[chosen], PATCHES, device="cpu")
        expected.append(evals.c2_score(encodings, presence[chosen]))
    np.testing.assert_allclose(scores["baseline_score"], expected, atol=1e-6)
    assert scores["baseline"] == pytest.approx(np.mean(expected), abs=1e-6)
    schemas.CONSISTENCY.check(scores)
    assert scores["baseline_name"].values.tolist() == ["ant", "zebra"]
    np.testing.assert_array_equal(scores["concept_baseline"], scores["baseline_score"])
    _, variant, head, *lines = capsys.readouterr().out.splitlines()
    assert variant.endswith(
        "presence from the 0.2-quantile on, at least 10 images; a baseline for each class; "
        "not centred"
    )
    assert head.split()[:3] == ["concept", "score", "random"]
    for name, value in zip(("ant", "zebra"), expected, strict=True):
        [line] = [line.split() for line in lines if line.split()[0] == f"{name}/7"]
        assert float(line[2]) == pytest.approx(value, abs=6e-4)
    out = tmp_path.parent / "scores.csv"
    _write(scores, out)
    table = pd.read_csv(out)
    np.testing.assert_allclose(table["baseline"], expected, atol=1e-6)
    assert table["variant"].tolist() == [variant] * 2
    given = np.array([float(row[2]) for row in rows if row[0] == "ant/7"])
    assert scores["n_images"][0] == max((given >= np.quantile(given, 0.2)).sum(), 10)


def test_every_fault_is_told_at_once(small: Path) -> None:
    (small / "a" / "0.npy").unlink()
    with (small / "presences.csv").open("a") as file:
        file.write("b,2,1\nb,9,1\nb,1.png,much\n")
    Image.new("RGB", (4, 4)).save(small / "b" / "new.png")
    np.save(small / "b" / "new.npy", np.ones((2, 2)))
    with pytest.raises(ImageDataError) as error:
        read_folder(small)
    said = str(error.value)
    for expected in (
        "a/0.png has no map; expected 0.npy by it",
        "line 8: '2' of 'b' occurs twice",
        "line 9: no image '9' of concept 'b'",
        "line 10: presence 'much'; expected 0 or more",
        "b/new.png has no presence of concept 'b'; expected a line 'b,new.png,…'",
    ):
        assert expected in said


def test_a_folder_of_a_concept_may_hold_another_one(small: Path) -> None:
    (small / "a" / "b").mkdir()
    for file in (small / "b").iterdir():
        file.rename(small / "a" / "b" / file.name)
    table = (small / "presences.csv").read_text().replace("\nb,", "\na/b,")
    (small / "presences.csv").write_text(table)
    folder = read_folder(small)
    assert folder.concepts == ("a", "a/b")
    assert len(folder.pairs) == 6


def test_folders_that_lie_too_deep_are_no_silent_loss(small: Path) -> None:
    (small / "a" / "x" / "y").mkdir(parents=True)
    assert read_folder(small).concepts == ("a", "b")
    (small / "b").rename(small / "a" / "x" / "y" / "b")
    with pytest.raises(ImageDataError, match="a/x/y lies too deep; expected a folder for each con"):
        read_folder(small)


def test_two_files_of_one_name_are_an_error(small: Path) -> None:
    Image.new("RGB", (4, 4)).save(small / "a" / "0.jpg")
    np.savez(small / "b" / "0.npz", np.ones((2, 2)))
    with pytest.raises(ImageDataError) as error:
        read_folder(small)
    assert "a/0.png is called as 0.jpg is; expected one" in str(error.value)
    assert "b/0.png has several maps: 0.npy, 0.npz" in str(error.value)


def test_two_files_of_one_name_are_an_error_where_images_lie_apart(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "maps" / "a").mkdir(parents=True)
    for suffix in ("jpg", "png"):
        Image.new("RGB", (4, 4)).save(tmp_path / "images" / f"0.{suffix}")
    np.save(tmp_path / "maps" / "a" / "0.npy", np.ones((2, 2)))
    np.savez(tmp_path / "maps" / "a" / "0.npz", np.ones((2, 2)))
    write_table(tmp_path, [("a", "0", 1)])
    with pytest.raises(ImageDataError) as error:
        read_folder(tmp_path)
    assert "images/0.png is called as 0.jpg is; expected one" in str(error.value)
    assert "maps/a/0.npz is called as 0.npy is; expected one" in str(error.value)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.ones((2, 2, 3)), r"shape \(2, 2, 3\); expected \(y, x\)"),
        (np.array([[1, np.nan]] * 2), "not finite"),
        (np.array([["a", "b"]] * 2), "expected"),
        (np.array([[{}, 1]] * 2, dtype=object), "pickle"),
    ],
)
def test_maps_that_are_none_are_errors(tmp_path: Path, values: np.ndarray, message: str) -> None:
    np.save(tmp_path / "map.npy", values)
    with pytest.raises(ImageDataError, match=message):
        read_map(tmp_path / "map.npy")


def test_a_map_with_code_in_it_is_not_read(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path.touch, (tmp_path / "ran",))

    torch.save({"map": Evil()}, tmp_path / "map.pt")
    with pytest.raises(ImageDataError):
        read_map(tmp_path / "map.pt")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--encoder", "dino"], "unknown encoder 'dino'"),
        (["--by-class"], "concept 'a' is of no class; expected 'class/concept'"),
        (["--side", "100", "--encoder", "dinov2-vits14"], "multiples of 14"),
    ],
)
def test_what_cannot_be_done_is_one_line(small: Path, options: list[str], message: str) -> None:
    result = CliRunner().invoke(c2, [str(small), *options])
    assert result.exit_code == 1
    assert message in result.output
    assert "Traceback" not in result.output


def test_an_empty_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ImageDataError, match="holds no concepts; expected a folder for each"):
        score_folder(tmp_path, EncoderChoice(), device="cpu")
