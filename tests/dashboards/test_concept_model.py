"""A concept model as a whole."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from dashboards.views.concepts.concept_model import (
    METRICS,
    consistency_figure,
    coverage_frame,
    frequency_bins,
    label_counts,
    model_parts,
    residual_note,
)
from dashboards.views.concepts.labels import best_names
from dashboards.views.parts.parts import Figure, Note, Table, frame_of
from tests.dashboards import fabricate, fabricate_concepts, fabricate_results
from tests.dashboards.fabricate import CONCEPTS


def test_frequencies_fill_logarithmic_bins() -> None:
    share = np.array([0, 0, 1, 7, 20, 99, 100, 1000]) / 1000
    bins = frequency_bins(share, 1000, 3)
    np.testing.assert_allclose(bins["low"], [1e-3, 1e-2, 1e-1])
    assert bins["high"].iloc[-1] == 1
    assert bins["value"].tolist() == [2, 2, 2]
    assert frequency_bins(np.zeros(4), 0, 3)["value"].sum() == 0


@pytest.mark.parametrize("images", [1, 7, 30, 12_345])
def test_no_concept_that_is_present_is_lost_to_rounding(images: int) -> None:
    counts = np.arange(1, images + 1)
    assert frequency_bins(counts / images, images)["value"].sum() == images


def test_coverage_is_drawn_as_far_as_it_rises() -> None:
    curve = 1 - 0.5 ** np.arange(1, 2001)
    frame = coverage_frame(curve)
    assert frame["concepts"].iloc[0] == 1
    assert frame["concepts"].iloc[-1] == 10  # 1 - 0.5**10 is above 0.999
    for row in frame.itertuples():
        assert row.share == curve[row.concepts - 1]
    slow = coverage_frame(np.linspace(0, 0.9, 16_384))
    assert len(slow) <= 400
    assert slow["concepts"].iloc[-1] == 16_384
    assert coverage_frame(np.array([1.0]))["concepts"].tolist() == [1]


def test_labels_are_counted_and_those_without_left_out() -> None:
    best = pd.DataFrame({"name": ["b", "", "a", "b", "c", "a"]})
    assert label_counts(best).values.tolist() == [["a", 2], ["b", 2], ["c", 1]]


def test_metrics_with_what_they_name() -> None:
    names = fabricate.names()
    frame = frame_of(METRICS, names).set_index("metric")
    for metric in ("iou", "auprc"):
        own = names["name"].sel(metric=metric).values.tolist()
        assert frame.loc[metric, "named"] == pytest.approx(5 / 6)
        assert frame.loc[metric, "labels"] == len(set(own) - {""})
    assert frame["agrees"].tolist() == [1.0, 0.0]  # the consensus is what iou says
    assert frame["verdict"].tolist() == ["passes", "undecided"]
    assert frame["votes"].tolist() == ["yes", "no"]


def test_c2_scores_stand_beside_random_maps() -> None:
    figure = consistency_figure("x", fabricate_concepts.consistency())
    texts = str(figure.chart.to_dict())
    assert "random maps" in texts
    assert "From 5 images on." in figure.note


@pytest.mark.slow
def test_a_model_has_all_that_there_is_of_it() -> None:
    statistics, names = fabricate.concepts(), fabricate.names()
    alone = model_parts("x", statistics)
    assert [type(part) for part in alone] == [Figure, Figure, Note]
    best = best_names(names, "iou")
    whole = model_parts("x", statistics, names, fabricate_concepts.consistency(), best)
    assert [type(part) for part in whole] == [Figure] * 4 + [Table, Note]
    more = {"fidelity": fabricate_results.fidelity(), "sae": fabricate_concepts.sae()}
    everything = model_parts("x", statistics, names, **more)
    titles = [part.title for part in everything if isinstance(part, Figure | Table)]
    assert titles[2:5] == [
        "How dense concepts are",
        "What the network says with concepts in the layer's place",
        "Reconstruction loss",
    ]
    for part in whole:
        if isinstance(part, Figure):
            assert part.svg().startswith("<svg")
    dead = next(part for part in whole if isinstance(part, Figure))
    assert f"of {CONCEPTS} concepts, present in no image" in dead.note


def test_residuals_are_told_as_far_as_they_are_known() -> None:
    statistics = fabricate.concepts().assign(residual_mean=1e-7, residual_max=3e-6)
    told = residual_note(statistics[["residual_mean", "residual_max"]]).text
    assert told.endswith("Mean 10⁻⁷, largest 3 × 10⁻⁶.")
