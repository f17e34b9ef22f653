"""Which concepts are drawn and which decisions explained, against plain loops."""

from __future__ import annotations

import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import xarray as xr

from fact import schemas
from fact.traces import decisions, maps
from fact.traces.choices import ChoiceError, choose_concepts, rows_of_images
from fact.traces.config import DecidedImages, DecisionConfig, GalleryConfig
from fact.traces.spliced import ConceptSource
from tests.evals.runs import FakeRun
from tests.fact import tiny

CLASSES = ["ape", "bee", "7"]
LABEL = np.array([0, 1, 2, 0, 1, -1, 2, 0, 1, -1])
PREDICTION = np.array([0, 1, 2, 1, 1, 0, 2, 0, 0, 2])
N_IMAGES, N_CONCEPTS = len(LABEL), 9


def measured() -> xr.Dataset:
    """Contributions of nine concepts to ten images, the last concept dead."""
    rng = np.random.default_rng(0)
    contribution = rng.normal(size=(N_IMAGES, N_CONCEPTS)).astype(np.float32)
    contribution *= rng.random(contribution.shape) < 0.6
    contribution[:, 8] = 0
    presence = np.abs(contribution)
    return xr.Dataset(
        {
            "contribution": (("image", "concept"), contribution),
            "presence": (("image", "concept"), presence),
            "label": ("image", LABEL),
            "prediction": ("image", PREDICTION),
            "target": ("image", PREDICTION),
            "image_share": ("concept", (presence > 0).mean(axis=0)),
            "contributing_share": ("concept", (contribution != 0).mean(axis=0)),
        },
        {
            "image": [f"test/{i:02d}" for i in range(N_IMAGES)],
            "concept": np.arange(N_CONCEPTS),
            "class": CLASSES,
        },
    )


def strongest(values: np.ndarray, each: int) -> set[int]:
    ranked = sorted(range(len(values)), key=lambda i: (-values[i], i))
    return {i for i in ranked[:each] if values[i] > 0}


def test_a_class_goes_by_its_number_in_wordnet_too():
    named = measured().assign_coords({"class": ["tench", "goldfish", "ape"]})
    for images, classes in (("n01443537[1]", "n01443537"), ("goldfish[1]", "goldfish")):
        assert rows_of_images(named, DecidedImages(images=(images,))).tolist() == [4]
        chosen = DecidedImages(classes=(classes,), per_class=2)
        assert rows_of_images(named, chosen).tolist() == [1, 4]
    with pytest.raises(ChoiceError, match="no class 'n01484850'"):
        rows_of_images(named, DecidedImages(images=("n01484850[0]",)))


def test_a_class_of_which_nothing_was_measured_is_told():
    named = measured().assign_coords({"class": ["tench", "goldfish", "ape"]})
    alone = named.isel(image=np.flatnonzero(named["label"].values != 1))
    for images in (DecidedImages((), ("tench", "goldfish")), DecidedImages(("goldfish[0]",))):
        with pytest.raises(ChoiceError, match=r"^no image of class 'goldfish' was measured$"):
            rows_of_images(alone, images)


def test_those_that_are_alive_are_drawn_by_default():
    found = choose_concepts(measured(), GalleryConfig())
    assert found.tolist() == list(range(8))
    share = measured()["image_share"].values
    kept = sorted(sorted(range(8), key=lambda i: (-share[i], i))[:3])
    assert choose_concepts(measured(), GalleryConfig(most=3)).tolist() == kept


@pytest.mark.parametrize("each", [1, 2, 20])
def test_the_strongest_of_each_class_are_those_of_largest_mean_contribution(each):
    values, expected = measured()["contribution"].values, set()
    for target in range(len(CLASSES)):
        rows = values[target == PREDICTION]
        expected |= strongest(rows.mean(axis=0), each)
    found = choose_concepts(measured(), GalleryConfig(choose="class", each=each))
    assert set(found.tolist()) == expected
    assert found.tolist() == sorted(expected)


@pytest.mark.parametrize("each", [1, 3])
def test_concepts_of_decisions_are_those_that_decisions_show(each):
    config = GalleryConfig(choose="decisions", each=each, per_class=1)
    rows, seen = [], set()
    for row, (label, prediction) in enumerate(zip(LABEL, PREDICTION, strict=True)):
        own = ("label", label) if label >= 0 else ("prediction", prediction)
        if own not in seen:
            seen.add(own)
            rows.append(row)
    values = measured()["contribution"].values
    expected = set().union(*(strongest(values[row], each) for row in rows))
    assert set(choose_concepts(measured(), config).tolist()) == expected


def test_the_most_consistent_have_the_highest_scores_of_enough_images():
    scores = xr.Dataset(
        {
            "score": ("concept", [0.1, 0.9, np.nan, 0.5, 0.8, 0.3]),
            "n_images": ("concept", [9, 2, 9, 9, 9, 5]),
            "least_images": 5,
        },
        {"concept": [0, 1, 2, 3, 4, 6]},
    )
    config = GalleryConfig(choose="consistency", most=2)
    assert choose_concepts(measured(), config, scores).tolist() == [3, 4]
    every = GalleryConfig(choose="consistency")
    assert choose_concepts(measured(), every, scores).tolist() == [0, 3, 4, 6]
    with pytest.raises(ValueError, match="fill the slot `consistency`"):
        choose_concepts(measured(), config)
    of_class = scores.assign(concept_class=("concept", list("aabbcc")))
    with pytest.raises(ValueError, match="concepts of one class each"):
        choose_concepts(measured(), config, of_class)


def test_listed_concepts_are_drawn_and_no_others():
    assert choose_concepts(measured(), GalleryConfig(concepts=(8, 1, 1))).tolist() == [1, 8]
    with pytest.raises(ValueError, match="no concepts 9, 12; expected indices from 0 to 8"):
        choose_concepts(measured(), GalleryConfig(concepts=(1, 9, 12)))


def test_a_bound_keeps_those_in_most_images():
    config = GalleryConfig(choose="class", each=20)
    every, share = choose_concepts(measured(), config), measured()["image_share"].values
    few = choose_concepts(measured(), GalleryConfig(choose="class", each=20, most=2))
    assert few.tolist() == sorted(sorted(every, key=lambda i: (-share[i], i))[:2])


@pytest.mark.parametrize(
    ("images", "expected"),
    [
        (DecidedImages(("test/03", "test/00")), [3, 0]),
        (DecidedImages(("ape[1]", "bee[0]", "test/09")), [3, 1, 9]),
        (DecidedImages(("0[2]", "7[1]")), [5, 6]),  # an index, and a class of that name
        (DecidedImages((), ("bee", "0"), 2), [1, 4, 0, 3]),
        (DecidedImages((), ("7",), 9), [2, 6, 9]),
        (DecidedImages((), (), 1), [0, 1, 2, 5, 9]),
    ],
)
def test_images_are_listed_by_id_by_class_and_place_or_taken_of_classes(images, expected):
    assert rows_of_images(measured(), images).tolist() == expected


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (DecidedImages(("test/3",)), "'test/3' was not measured; did you mean"),
        (DecidedImages(("aep[0]",)), "no class 'aep'; did you mean 'ape'"),
        (DecidedImages(("ape[4]",)), r"class 'ape' has 4 images, from 0"),
        (DecidedImages((), ("3",)), "no class '3'"),
        (DecidedImages(("aep[0]", "test/3")), r"no class 'aep'.*; image 'test/3' was not measured"),
    ],
)
def test_images_that_there_are_not_are_told(images, message):
    with pytest.raises(ChoiceError, match=message):
        rows_of_images(measured(), images)


@pytest.mark.parametrize("config", [GalleryConfig, DecisionConfig])
def test_images_and_classes_are_not_given_both(config):
    choice = {"choose": "decisions"} if config is GalleryConfig else {}
    with pytest.raises(ValueError, match="give one"):
        config(images=("test/00",), classes=("ape",), **choice)


def test_what_does_not_go_together_is_refused():
    with pytest.raises(ValueError, match="listed, or chosen"):
        GalleryConfig(concepts=(1,), choose="class")
    with pytest.raises(ValueError, match="choose = 'decisions'"):
        GalleryConfig(images=("test/00",))


class Traced:
    """The input `concepts` of a stage: nine concepts of a tiny network, measured in ten images."""

    kind = "concepts"

    def __init__(self, monkeypatch):
        source = ConceptSource(tiny.convnet(), "features.1", tiny.sae(6))
        monkeypatch.setattr(ConceptSource, "of_concepts", lambda *_: source)
        pictures = tiny.images(N_IMAGES)
        rows = {name: row for row, name in enumerate(measured()["image"].values.tolist())}
        read = lambda ids, geometry=None: pictures[[rows[name] for name in ids]]  # noqa: E731
        self.images = SimpleNamespace(read=read, name="pictures")

    def origin(self, _slot):
        return SimpleNamespace(load=lambda: self.images)

    def open(self):
        return measured()


def test_galleries_go_to_the_disk_in_parts_and_are_those_that_memory_holds(tmp_path, monkeypatch):
    inputs, config = {"concepts": Traced(monkeypatch)}, GalleryConfig(n_images=3)
    whole = maps.draw_concepts(config, inputs, FakeRun(tmp_path / "whole", schemas.GALLERY))
    schemas.GALLERY.check(whole)
    monkeypatch.setattr(maps, "WHOLE_BYTES", 3 * 3 * 7 * 8 * 8)  # three concepts
    run = FakeRun(tmp_path / "parts", schemas.GALLERY)
    parts = maps.draw_concepts(config, inputs, run)
    assert parts.rows == (3, 3, 2)
    assert [done for done, _, _ in run.told] == [3, 6, 8]
    paths = sorted((tmp_path / "parts").glob("part-*.nc"))
    found = xr.concat([xr.load_dataset(path, engine="h5netcdf") for path in paths], "concept")
    for name in found.data_vars:
        np.testing.assert_array_equal(found[name], whole[name], err_msg=name)
    pictures = {
        path.name: path.read_bytes()
        for path in (tmp_path / "parts" / "attached").glob("pictures/*")
    }
    assert len(pictures) == 8
    shutil.rmtree(tmp_path / "parts" / "attached")  # as of a run that was stopped
    paths[-1].unlink()
    again = maps.draw_concepts(config, inputs, FakeRun(tmp_path / "parts", schemas.GALLERY))
    assert again.rows == parts.rows
    for path in (tmp_path / "parts" / "attached").glob("pictures/*"):
        assert path.read_bytes() == pictures.pop(path.name)
    assert not pictures


def test_more_than_anybody_meant_is_refused_with_its_size(tmp_path, monkeypatch):
    inputs = {"concepts": Traced(monkeypatch)}
    monkeypatch.setattr(maps, "MEANT_BYTES", 8 * 16 * 7 * 8 * 8 - 1)
    run = FakeRun(tmp_path, schemas.GALLERY)
    with pytest.raises(ValueError, match=r"galleries of 8 concepts take .* most = 8"):
        maps.draw_concepts(GalleryConfig(pictures=False), inputs, run)
    meant = maps.draw_concepts(GalleryConfig(pictures=False, most=8), inputs, run)
    assert meant.sizes["concept"] == 8


def test_concepts_of_decisions_without_a_gallery_are_told(capsys):
    explained = xr.Dataset({"top_concept": (("image", "rank"), [[3, 1], [4, -1]])})
    decisions._tell_missing(explained, xr.Dataset(coords={"concept": [1, 2]}))
    assert capsys.readouterr().out.startswith("2 of 3 concepts that are shown have no gallery")
    decisions._tell_missing(explained, xr.Dataset(coords={"concept": [1, 3, 4]}))
    assert not capsys.readouterr().out
