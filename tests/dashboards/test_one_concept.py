"""One concept: presence over images and classes, what is like it, what rests on it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from dashboards.views.concepts.one_concept import (
    class_contributions,
    class_shares,
    decision_frame,
    location_parts,
    presence_bins,
    presence_note,
    presence_parts,
    returns,
)
from dashboards.views.concepts.similar import cosines, most_similar, unit_directions
from dashboards.views.parts.parts import Figure, Note, Table
from fact.traces.by_concept import Presences, read_presences
from tests.dashboards import fabricate, fabricate_concepts
from tests.dashboards.fabricate import CLASSES, CONCEPTS, HOSTILE, IMAGES

LABELS = np.array([0, 1, 2, 0, 1, -1, 0, 1])


def entries(rows: list[int], contribution: list[float]) -> np.ndarray:
    presence = np.zeros((8, 1), np.float32)
    given = np.zeros((8, 1), np.float32)
    presence[rows, 0], given[rows, 0] = 1, contribution
    dims = ("image", "concept")
    dataset = xr.Dataset({"presence": (dims, presence), "contribution": (dims, given)})
    return read_presences(dataset).column(0)


def test_a_histogram_counts_every_present_image_once() -> None:
    values = np.random.default_rng(0).gamma(2, 3, 500).astype(np.float32)
    bins = presence_bins(values, 7)
    assert bins["value"].sum() == 500
    assert (bins["low"].iloc[0], bins["high"].iloc[-1]) == (0, pytest.approx(values.max()))
    for row in bins.iloc[:-1].itertuples():
        assert row.value == sum(row.low <= value < row.high for value in values.astype(float))


def test_negative_presences_have_bins_too() -> None:
    bins = presence_bins(np.array([-3.0, -1.0, 2.0]), 5)
    assert bins["low"].iloc[0] == -3
    assert bins["value"].tolist() == [1, 0, 1, 0, 1]
    assert presence_bins(np.array([])).empty


def test_the_share_of_zero_is_told() -> None:
    assert presence_note(30, 120) == "Present in 30 of 120 images; its presence is 0 in 75 %."
    assert presence_note(0, 0).startswith("No images")


def test_shares_of_classes_are_those_of_pandas() -> None:
    rows = np.array([0, 3, 4, 5])
    shares = class_shares(rows, LABELS, ["a", "b", "c"])
    frame = pd.DataFrame({"label": LABELS, "there": np.isin(np.arange(8), rows)})
    expected = frame[frame["label"] >= 0].groupby("label")["there"].mean()
    assert shares["label"].tolist() == ["a", "b"]
    np.testing.assert_allclose(shares["value"], expected[[0, 1]])
    assert shares["images"].tolist() == [3, 3]


def test_contributions_to_classes_are_means_over_all_their_images() -> None:
    column = entries([0, 1, 3, 5], [2.0, -9.0, 4.0, 7.0])
    given = class_contributions(column, LABELS, ["a", "b", "c"])
    assert given[["label", "value", "images"]].values.tolist() == [["b", -3.0, 3], ["a", 2.0, 3]]


def test_an_unlabelled_dataset_is_grouped_by_prediction() -> None:
    dataset = fabricate.concepts()
    unlabelled = dataset.assign(label=("image", np.full(IMAGES, -1)))
    unlabelled["prediction"][:] = 1
    figures = presence_parts("x", read_presences(dataset), 0, unlabelled)
    assert isinstance(figures[1], Figure)
    spec = figures[1].chart.to_dict()
    assert [row["label"] for row in next(iter(spec["datasets"].values()))] == ["square"]


def test_parts_are_of_what_was_read_so_far() -> None:
    dataset = fabricate.concepts()
    known = read_presences(dataset)
    figures = presence_parts("x", known, 0, dataset)
    assert [type(part) for part in figures] == [Figure] * 3
    present = int((dataset["presence"].values[:, 0] > 0).sum())
    assert f"Present in {present} of 30 images" in figures[0].note  # type: ignore[union-attr]
    none = presence_parts("x", Presences(IMAGES, ()), 0, dataset)
    assert isinstance(none[0], Note)
    assert "0 of 30 images" in none[0].text


def test_a_dead_concept_has_a_note_alone() -> None:
    dataset = fabricate.concepts()
    parts = presence_parts("x", read_presences(dataset), CONCEPTS - 1, dataset)
    assert len(parts) == 1
    assert isinstance(parts[0], Note)
    assert "Present in 0 of 30 images" in parts[0].text


# -- what is like it --------------------------------------------------------------------------


def test_the_most_similar_are_those_of_a_full_sort() -> None:
    similarity = np.array([0.2, 1.0, np.nan, 0.9, -0.5, 0.9])
    concepts = np.array([10, 11, 12, 13, 14, 15])
    found = most_similar(similarity, concepts, 1, 3)
    assert list(found.items()) == [(13, 0.9), (15, 0.9), (10, 0.2)]
    assert len(most_similar(similarity, concepts, 1, 99)) == 4
    assert most_similar(np.full(6, np.nan), concepts, 0).empty


@pytest.mark.parametrize("dims", [("channel", "concept"), ("concept", "channel")])
def test_cosines_of_directions(dims: tuple[str, str]) -> None:
    decoder = fabricate_concepts.sae()["decoder"].transpose(*dims)
    known = unit_directions(decoder)
    columns = decoder.transpose("concept", "channel").values.astype(np.float64)
    for place in range(CONCEPTS - 1):
        one = columns[place]
        expected = [one @ two / np.linalg.norm(one) / np.linalg.norm(two) for two in columns[:-1]]
        found = cosines(known, place)
        np.testing.assert_allclose(found[:-1], expected, atol=1e-6)
        assert np.isnan(found[-1])
    assert np.isnan(cosines(known, CONCEPTS - 1)).all()
    assert np.isnan(cosines(known, CONCEPTS + 7)).all()


# -- what rests on it -------------------------------------------------------------------------


def test_decisions_that_use_a_concept() -> None:
    decisions = fabricate_concepts.decisions()
    found = decision_frame(decisions, 0)
    assert found["image"].tolist() == ["test/00000", f"test/{HOSTILE}"]
    assert found["explained"].tolist() == list(CLASSES[:2])
    assert found["rank"].tolist() == [1, 2]
    np.testing.assert_allclose(found["share"], [0.5, 0.1])
    np.testing.assert_allclose(found["contribution"], [5, 1])
    assert decision_frame(decisions, 5).empty


def test_where_a_concept_is() -> None:
    localisation = fabricate_concepts.localisation()
    [first] = location_parts("x", localisation, 0)
    frame = first.frame.set_index("measure")  # type: ignore[union-attr]
    assert frame.loc["pointing", "lift"] == pytest.approx(0.3)
    assert frame.loc["energy", "score"] == pytest.approx(0.6)
    assert location_parts("x", localisation, 99) == []
    [table] = location_parts("x", localisation, 1)
    assert isinstance(table, Table)
    assert repr(HOSTILE) in table.note
    assert location_parts("x", localisation, 99) == []


def test_a_match_is_read_forwards_and_backwards() -> None:
    matching = fabricate_concepts.matching()
    decoder, presence = returns(matching, 0)
    assert (decoder.basis, decoder.concept, decoder.similarity) == ("decoder", 3, 0.9)
    assert (decoder.chance, decoder.threshold) == (0.3, 0.7)
    assert presence.text == "by presence: concept 3, correlation 0.8 (by chance 0.3)"
    back = returns(matching, 3, is_first=False)
    assert [one.concept for one in back] == [0, 0]
    assert [one.similarity for one in back] == [0.9, 0.8]
    assert [one.is_there for one in returns(matching, 5)] == [False, False]
    assert [one.is_there for one in returns(matching, 5, is_first=False)] == [False, False]
    assert returns(matching, 5)[0].text == "by decoder: no match"
