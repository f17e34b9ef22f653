"""Concepts: statistics, galleries, search."""

from __future__ import annotations

import base64
import io

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from PIL import Image

from dashboards.screens.concepts import WIDTHS
from dashboards.views.concepts.concepts import (
    TABLE_COLUMNS,
    about,
    concept_table,
    concepts_frame,
    first_tiles,
    meant_concept,
    neighbour,
    not_meant,
    order,
    page_count,
    page_with,
    pictures_of,
    search,
    similar_table,
    strongest,
    summary,
    tiles,
    with_noted,
)
from dashboards.views.concepts.exactness import MARK
from dashboards.views.concepts.labels import best_names
from dashboards.views.parts.parts import numbers_line
from dashboards.views.parts.pictures import thumbnail, veil
from dashboards.views.runs.settings import cells_of, first_made
from registry.catalog.access import Catalog
from registry.catalog.lineage import Lineage
from tests.dashboards import fabricate, fabricate_concepts
from tests.dashboards.fabricate import CONCEPTS, RANKS, SIDE

SMALL = 75
"""Pixels of a column of Streamlit's that is called small."""


@pytest.fixture
def lineage(catalog: Catalog) -> Lineage:
    return catalog.lineage()


def test_cells_by_what_they_make_and_from_what(lineage: Lineage) -> None:
    assert cells_of(lineage, "concepts") == ["toy-concepts"]
    assert cells_of(lineage, "sae") == ["toy-sae[k=8]", "toy-sae[k=16]"]
    assert cells_of(lineage, "gallery", made_from="toy-concepts") == ["toy-gallery"]
    assert cells_of(lineage, "gallery", made_from="toy-names") == []
    assert cells_of(lineage, "decisions") == []


def test_the_first_cell_with_a_dataset(lineage: Lineage) -> None:
    assert first_made(lineage, ["toy-sae[k=8]", "toy-names", "toy-concepts"]) == 1
    assert first_made(lineage, ["toy-sae[k=8]", "toy-sae[k=16]"]) == 0


def test_the_summary_names_units_and_leaves_out_what_is_absent() -> None:
    dataset = fabricate.concepts()
    numbers = {number.label: number.value for number in summary(dataset)}
    assert numbers["accuracy, spliced"] == "81.2 %"
    assert numbers["alive concepts"] == "83.3 %"
    without = summary(dataset.drop_vars(["accuracy", "image_l0"]))
    assert len(without) == len(numbers) - 2
    assert all(number.meaning for number in without)


def test_headers_of_the_table_fit_into_their_columns() -> None:
    """Streamlit cuts what is longer; a letter takes six pixels or seven, the edges sixteen."""
    headers = {name: column.header or name for name, column in TABLE_COLUMNS.items()}
    headers["mean_contribution"] = MARK
    for name, header in headers.items():
        assert 6.3 * len(header) + 16 <= WIDTHS.get(name, SMALL), header


def test_accuracies_say_of_which_images_they_are_and_a_line_says_it_once() -> None:
    dataset = fabricate.concepts()
    spliced, alone, *_ = summary(dataset)
    of = f"of {dataset.sizes['image']} test images"
    assert spliced.title == f"accuracy, spliced, {of}"
    assert numbers_line([spliced, alone]) == (
        f"accuracy, spliced 81.2 % {of} · accuracy, network {alone.value}"
    )
    some = dataset.assign(label=dataset["label"].where(dataset["image"] != dataset["image"][0], -1))
    assert summary(some)[0].of == f"of {dataset.sizes['image'] - 1} labelled test images"
    assert not [number.of for number in summary(dataset)[2:] if number.of]
    untold = dataset.assign_coords(image=np.arange(dataset.sizes["image"]).astype(str))
    assert summary(untold)[0].of == f"of {dataset.sizes['image']} images"


def test_contributions_that_are_an_approximation_say_so_beside_the_number() -> None:
    exact, other = fabricate.concepts(), fabricate.concepts().assign(exact=False)
    assert "contributions" not in {number.label for number in summary(exact)}
    told = {number.label: number for number in summary(other)}["contributions"]
    assert (told.value, told.meaning[:30]) == ("approximate", "Contributions are approximate:")
    for dataset, header in ((exact, "contribution"), (other, "≈ contribution")):
        frame = order(search(concepts_frame(dataset), ""), "images")
        table = concept_table("cell", frame)
        assert table.columns["mean_contribution"].header == header
        assert ("(approximate)" in about(frame, 0)[1]) == (header != "contribution")


def test_the_table_begins_with_what_contributes_most() -> None:
    dataset, names = fabricate.concepts(), fabricate.names()
    frame = concepts_frame(dataset, best_names(names, "iou"))
    expected = dataset["mean_contribution"].to_series().sort_values(ascending=False)
    np.testing.assert_array_equal(frame["mean_contribution"], expected)
    row = frame.set_index("concept").loc[2]
    assert row["name"] == str(names["name"].sel(concept=2, metric="iou").values)
    assert row["score"] == pytest.approx(0.7)
    assert row["image_share"] == float(dataset["image_share"].sel(concept=2))
    dead = frame.set_index("concept").loc[CONCEPTS - 1]
    assert (dead["name"], np.isnan(dead["score"])) == ("", True)


def test_the_table_without_names_and_with_names_of_some() -> None:
    dataset = fabricate.concepts()
    assert (concepts_frame(dataset)["name"] == "").all()
    some = pd.DataFrame({"name": ["x"], "score": [0.5]}, index=pd.Index([3], name="concept"))
    named = concepts_frame(dataset, some).set_index("concept")
    assert named["name"].tolist().count("x") == 1
    assert named.loc[3, "score"] == 0.5


def test_a_concept_in_words() -> None:
    dataset = fabricate.concepts()
    frame = concepts_frame(dataset, best_names(fabricate.names(), "iou"))
    title, line = about(frame, 2)
    assert title == "Concept 2: texture: dots"
    share = float(dataset["image_share"].sel(concept=2))
    assert f"present in {100 * share:.1f} % of the images" in line
    assert about(frame, CONCEPTS - 1)[0] == f"Concept {CONCEPTS - 1}"
    assert about(frame[["concept", "name"]], 0)[1] == ""


def test_search_by_words_and_by_number() -> None:
    frame = pd.DataFrame(
        {"concept": [1, 2, 12], "name": ["colour: red", "a [b", "shape: red star"]}
    )
    assert search(frame, "")["concept"].tolist() == [1, 2, 12]
    assert search(frame, "RED")["concept"].tolist() == [1, 12]
    assert search(frame, "star red")["concept"].tolist() == [12]
    assert search(frame, "[b")["concept"].tolist() == [2]
    assert search(frame, "12")["concept"].tolist() == [12]
    assert search(frame, "nothing").empty


def test_tags_stand_in_the_table_and_are_found() -> None:
    frame = pd.DataFrame({"concept": [4, 5, 6], "name": ["red", "blue", ""]})
    assert with_noted(frame, "tags", {5: ""}) is frame
    tagged = with_noted(frame, "tags", {5: "odd Check", 99: "gone"})
    assert tagged["tags"].tolist() == ["", "odd Check", ""]
    assert search(tagged, "check")["concept"].tolist() == [5]
    assert search(tagged, "blue odd")["concept"].tolist() == [5]
    assert concept_table("x", tagged).frame["tags"].tolist() == ["", "odd Check", ""]


def test_tiles_are_the_gallery_in_order() -> None:
    gallery = fabricate.gallery()
    shown = tiles(gallery, 0)
    assert [tile.image for tile in shown] == [f"test/{n:05d}" for n in range(RANKS)]
    assert [tile.label for tile in shown] == ["circle", "square", "<b>star</b>", "circle"]
    assert shown[0].classes == "circle, taken for square"
    assert shown[1].classes == "square"
    presence = [tile.presence for tile in shown]
    assert presence == sorted(presence, reverse=True)
    picture = gallery["picture"].sel(concept=0, rank=1).values
    step = shown[1].picture.shape[0] // SIDE
    np.testing.assert_array_equal(shown[1].picture[::step, ::step], picture)


def test_places_without_an_image_are_left_out() -> None:
    gallery = fabricate.gallery()
    assert len(tiles(gallery, 1)) == 2
    assert tiles(gallery, CONCEPTS - 1) == []
    assert tiles(gallery, 10**6) == []


def test_the_first_image_of_each_is_one_that_none_before_it_shows() -> None:
    gallery = fabricate.gallery()
    own = gallery["image"].values
    own[1:3, 0] = own[0, 0]
    own[2, 1:] = ""  # it has no other image
    shown = first_tiles(gallery, [0, 1, 2, CONCEPTS - 1, 99], distinct=True)
    assert [tile.image for tile in shown.values()] == [own[0, 0], own[1, 1], own[2, 0]]
    assert list(shown) == [0, 1, 2]
    np.testing.assert_array_equal(shown[1].picture, gallery["picture"].values[1, 1])
    alike = first_tiles(gallery, [0, 1])
    assert alike[1].image == own[0, 0]


def test_thumbnails_are_the_first_images_of_those_asked_for() -> None:
    gallery = fabricate.gallery()
    pictures = pictures_of(gallery, [2, CONCEPTS - 1, 0, 10**12])
    assert set(pictures) == {0, 2}
    for concept, address in pictures.items():
        data = base64.b64decode(address.removeprefix("data:image/png;base64,"))
        shown = np.asarray(Image.open(io.BytesIO(data)))
        np.testing.assert_array_equal(shown, gallery["picture"].sel(concept=concept, rank=0))
    assert pictures_of(gallery, [CONCEPTS - 1]) == {}
    none = gallery.assign(image=(("concept", "rank"), np.full((5, RANKS), "", dtype=object)))
    assert pictures_of(none, [0]) == {}


def test_only_pictures_that_are_asked_for_are_read() -> None:
    size = {"concept": 100_000, "rank": 1, "y": 224, "x": 224, "colour": 3}
    huge = xr.Variable(tuple(size), np.broadcast_to(np.uint8(7), tuple(size.values())))
    image = (("concept", "rank"), np.full((100_000, 1), "test/0", dtype=object))
    gallery = xr.Dataset({"picture": huge, "image": image}, {"concept": np.arange(100_000)})
    assert set(pictures_of(gallery, [5, 99_999])) == {5, 99_999}


def test_concepts_in_every_order() -> None:
    names = fabricate.names()
    frame = concepts_frame(
        fabricate.concepts(), best_names(names, "iou"), fabricate_concepts.consistency()
    )
    assert order(frame, "contribution")["concept"].tolist() == frame["concept"].tolist()
    assert order(frame, "number")["concept"].tolist() == list(range(CONCEPTS))
    by_score = order(frame, "score")
    assert by_score["score"].iloc[:-1].is_monotonic_decreasing
    assert np.isnan(by_score["score"].iloc[-1])
    by_c2 = order(frame, "C2-score")
    assert by_c2["concept"].tolist() == list(range(CONCEPTS))
    by_name = order(frame, "name")["name"].tolist()
    assert by_name == [*sorted(by_name[:-1]), ""]
    assert order(frame, "no such order")["concept"].tolist() == frame["concept"].tolist()
    assert len(order(concepts_frame(fabricate.concepts()), "C2-score")) == CONCEPTS


def test_pages_hold_every_concept_once() -> None:
    frame = pd.DataFrame({"concept": np.random.default_rng(0).permutation(23)})
    assert page_count(23, 10) == 3
    assert (page_count(0), page_count(50, 50), page_count(51, 50)) == (1, 1, 2)
    for place, concept in enumerate(frame["concept"]):
        assert page_with(frame, concept, 10) == place // 10 + 1
    assert page_with(frame, 99, 10) == 1


def test_the_table_says_what_a_name_is_by() -> None:
    frame = concepts_frame(fabricate.concepts(), best_names(fabricate.names(), "iou"))
    by_metric = concept_table("x", frame, "iou")
    assert by_metric.columns["name"].help == "by iou"
    assert by_metric.frame["verdict"].tolist() == ["passes"] * 5 + [""]
    assert "score" not in concept_table("x", frame, "consensus").frame
    drawn = concept_table("x", frame.assign(picture="data:x"), "iou")
    assert "picture" in drawn.frame
    assert "data:x" not in drawn.csv() + drawn.latex()


def test_the_strongest_images_have_names() -> None:
    frame = concepts_frame(fabricate.concepts(), best_names(fabricate.names(), "iou"))
    shown = strongest(frame, fabricate.gallery(), count=3, link="concepts?concept={}".format)
    captions = [picture.caption for picture in shown.pictures]
    first = frame.iloc[0]
    assert captions[0] == f"{first['name']}\nmetric passes\nconcept {first['concept']}"
    assert len(captions) == 3
    assert shown.pictures[0].link == f"concepts?concept={first['concept']}"
    assert len(strongest(frame, fabricate.gallery(), count=99).pictures) == CONCEPTS - 1


def test_similar_concepts_have_names() -> None:
    frame = concepts_frame(fabricate.concepts(), best_names(fabricate.names(), "iou"))
    table = similar_table("x", frame, pd.Series({2: 0.5, 77: 0.25}), "alike", "cosine")
    assert table.frame.values.tolist() == [[2, "texture: dots", 0.5], [77, "", 0.25]]


def test_an_image_is_faint_where_a_concept_is_not() -> None:
    picture = np.full((1, 3, 3), 55, np.uint8)
    explanation = np.zeros((1, 3, 4), np.uint8)
    explanation[0, :, 3] = [0, 255, 51]
    white = veil(explanation).astype(int)
    opacity = white[..., 3:] / 255
    shown = np.rint(picture * (1 - opacity) + white[..., :3] * opacity).astype(int)
    assert shown[0, 1].tolist() == [55] * 3
    assert shown[0, 0].tolist() == [255 - 40] * 3  # a fifth of 200
    assert shown[0, 2].tolist() == [255 - 72] * 3  # a fifth, and a fifth of the rest


def test_a_large_picture_becomes_a_small_thumbnail() -> None:
    picture = np.zeros((224, 448, 3), np.uint8)
    data = base64.b64decode(thumbnail(picture, 48).partition(",")[2])
    assert Image.open(io.BytesIO(data)).size == (48, 24)


@pytest.mark.parametrize(
    ("asked", "meant"),
    [
        *(("5", 5), ("0", 2), ("100", 9), (" 6", 5), ("8", 9)),
        *(("", 9), ("-3", 9), ("1e400", 9), ("9" * 50, 9), ("x", 9), ("²", 9)),
    ],
)
def test_a_concept_that_is_not_there_means_the_nearest_or_the_first(asked: str, meant: int) -> None:
    assert meant_concept(asked, [9, 2, 5]) == meant


def test_concepts_are_walked_through_in_order() -> None:
    assert [neighbour(2, [9, 2, 5], step) for step in (-1, 1)] == [9, 5]
    assert neighbour(9, [9, 2, 5], -1) is None
    assert neighbour(5, [9, 2, 5], 1) is None


@pytest.mark.parametrize("asked", ["2", " 2 ", "02", "", "  "])
def test_a_concept_that_is_meant_needs_no_words(asked: str) -> None:
    assert not_meant(asked, 2) == ""


@pytest.mark.parametrize("asked", ["999", "-2", "two", "2.0", "9" * 5000])
def test_a_concept_that_is_not_there_is_told(asked: str) -> None:
    assert {f"{asked}.", "2."} <= set(not_meant(asked, 2).split())
