"""What results are shown as: numbers held against those of the datasets, and their order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from dashboards.views.concepts import concept_model
from dashboards.views.concepts.concept_model import label_counts
from dashboards.views.concepts.labels import LABEL, best_names
from dashboards.views.parts.parts import (
    MISSING,
    Figure,
    Note,
    Number,
    Numbers,
    Part,
    Table,
    frame_of,
)
from dashboards.views.results import (
    consistency,
    fidelity,
    identification,
    intervention,
    localisation,
    names,
    scores,
    stability,
)
from evals import schemas
from evals.naming import tables
from registry.columns import Column
from tests.dashboards import fabricate, fabricate_results
from tests.dashboards.fabricate import CONCEPTS
from tests.dashboards.fabricate_results import METRICS


def table(parts: list[Part], title: str) -> pd.DataFrame:
    return next(p.frame for p in parts if isinstance(p, Table) and p.title == title)


def numbers(parts: list[Part]) -> dict[str, Number]:
    return {n.label: n for part in parts if isinstance(part, Numbers) for n in part.numbers}


@pytest.mark.parametrize(
    ("show", "one", "other"),
    [
        (consistency.VIEW.parts, fabricate_results.consistency, {"score": 0.1}),
        (identification.VIEW.parts, fabricate_results.identification, {"shift": 1.0}),
        (intervention.VIEW.parts, fabricate_results.intervention, {"labelled": False}),
        (fidelity.VIEW.parts, fabricate_results.fidelity, {"defined": False, "l0": 3.0}),
        (stability.VIEW.parts, fabricate_results.matching, {"share": 0.2}),
        (localisation.VIEW.parts, fabricate_results.localisation, {"n_concepts": 9}),
        (scores.VIEW.parts, fabricate_results.scores, {"n_neurons": 70}),
        (names.VIEW.parts, fabricate.names, {}),
    ],
)
@pytest.mark.slow
def test_every_part_can_be_downloaded(
    show: Callable[..., list[Part]], one: Callable[..., xr.Dataset], other: dict[str, Any]
) -> None:
    drawn: set[tuple[type[Part], str]] = set()  # what is alike in both is drawn once
    for datasets in ({"a": one(), "b[k=1]": one(**other)}, {"a": one()}):
        parts = [part for part in show(datasets) if isinstance(part, Table | Figure)]
        known = {(type(part), part.name) for part in parts}
        assert len(known) == len(parts)
        for part in parts:
            if isinstance(part, Table):
                assert part.csv().count("\n") == len(part.frame) + 1
                assert "\\begin{tabular}" in part.latex()
            elif (Figure, part.name) not in drawn:
                assert part.svg().startswith("<svg")
        drawn |= known


# -- known neurons ----------------------------------------------------------------------------


def test_metrics_come_by_auprc_with_what_splits_chose() -> None:
    frame = identification.metric_frame(fabricate_results.identification())
    assert frame["metric"].tolist() == ["cosine", "iou", METRICS[2], "recall"]
    rows = frame.set_index("metric")
    assert rows.loc["iou", "auprc"] == pytest.approx(0.85)
    assert rows.loc["iou", "alpha"] == "0.02 (1 of 2)"
    assert rows.loc["recall", "alpha"] == "0.1"
    assert rows.loc["cosine", "alpha"] == ""
    assert "published" in frame
    without = fabricate_results.identification()
    without["published"][:] = np.nan
    assert "published" not in identification.metric_frame(without)


@pytest.mark.slow
def test_a_fall_between_settings_is_told_in_words() -> None:
    datasets = {
        "plain": fabricate_results.identification(),
        "shifted": fabricate_results.identification(1.0),
    }
    parts = identification.VIEW.parts(datasets)
    assert parts[3] == Note(
        "From plain to shifted, AUPRC changes by more than 0.05: cosine 0.990 → 0.090.", "info"
    )
    frame = table(parts, "Setting by setting")
    assert frame["metric"].iloc[0] == "cosine"
    assert frame["change shifted"].iloc[0] == pytest.approx(-0.9)
    same = identification.VIEW.parts({"a": datasets["plain"], "b": datasets["plain"]})
    assert "by no metric" in same[2].text  # type: ignore[union-attr]


def test_settings_of_other_metrics_are_compared_where_they_can_be() -> None:
    whole = fabricate_results.identification()
    frame = identification.auprc_frame({"a": whole.isel(metric=[0, 1]), "b": whole})
    assert frame.groupby("label", sort=False).size().to_dict() == {
        "iou": 2,
        "recall": 2,
        METRICS[2]: 1,
        "cosine": 1,
    }


def test_neurons_are_told_with_right_and_best_concept() -> None:
    frame = frame_of(
        identification.NEURONS, fabricate_results.identification().sel(metric=METRICS[2])
    )
    assert frame["neuron"].tolist() == [3, 5, 8]
    assert frame["rank"].tolist() == [9, 1, 1]
    assert frame["found"].tolist() == ["✗ another", "✓ found", "✓ found"]
    untested = frame_of(
        identification.NEURONS, fabricate_results.identification().sel(metric="recall")
    )
    assert untested["found"].tolist()[-1] == "– not tested"


def test_splits_are_those_of_the_dataset() -> None:
    own = fabricate_results.identification()
    frame = frame_of(identification.SPLITS, own)
    assert len(frame) == 8
    for row in frame.to_dict("records"):
        at = own.sel(metric=row["metric"], seed=row["seed"])
        assert row["auprc"] == float(at["split_auprc"])
        assert row["validation"] == float(at["validation_auprc"])


def test_the_metric_of_neurons_is_the_best_at_first() -> None:
    (choice,) = identification.identification_choices({"a": fabricate_results.identification()})
    assert choice.options[0] == "cosine"


# -- consistency ------------------------------------------------------------------------------


def test_scores_come_highest_first_and_few_images_last() -> None:
    own = fabricate_results.consistency()
    frame = consistency.score_frame(own)
    counted = frame[frame["counts"] == "✓ counts"]
    assert len(counted) == own.sizes["concept"] - 2
    assert counted["score"].is_monotonic_decreasing
    assert frame["counts"].tolist()[-2:] == ["✗ too few", "✗ too few"]
    assert np.isnan(frame["score"].iloc[-1])


@pytest.mark.slow
def test_concepts_of_few_images_are_not_drawn_beside_those_that_count() -> None:
    own = fabricate_results.consistency()
    parts = consistency.VIEW.parts({"toy": own})
    (figure,) = [p for p in parts if isinstance(p, Figure) and p.name.endswith("sizes")]
    drawn = figure.svg()
    counts = consistency.score_frame(own).set_index("concept")["counts"]
    for concept, told in counts.items():
        assert (f"concept {concept}" in drawn) == (told == "✓ counts")


def test_names_of_the_dataset_win_over_those_that_were_found() -> None:
    own = fabricate_results.consistency()
    labelled = own.assign({LABEL: ("concept", np.array(list("abcdef")))})
    assert sorted(consistency.score_frame(labelled)["name"]) == list("abcdef")
    named = labelled.assign(concept_name=("concept", np.array(list("uvwxyz"))))
    assert sorted(consistency.score_frame(named)["name"]) == list("uvwxyz")


def test_bins_reach_from_the_first_filled_to_the_last() -> None:
    own = fabricate_results.consistency()
    frame = concept_model.score_bins(own)
    assert frame["value"].sum() == pytest.approx(1)
    assert frame["value"].iloc[0] == frame["value"].iloc[-1] == 0
    assert len(frame) < own.sizes["bin"]
    assert (frame["high"] - frame["low"]).to_numpy() == pytest.approx(0.2)
    empty = own.assign(share=own["share"] * 0)
    assert len(concept_model.score_bins(empty)) == own.sizes["bin"]


def test_the_share_above_random_counts_concepts_with_enough_images() -> None:
    own = fabricate_results.consistency(score=0.2, n_concepts=40)
    own = own.assign(baseline=0.2)
    scored = own["score"].values[:-2]
    shown = numbers(consistency.VIEW.parts({"a": own}))["above random"]
    assert shown.value == f"{100 * np.mean(scored > 0.2):.3g} %"


def test_concepts_stand_beside_the_baseline_of_their_class() -> None:
    own = fabricate_results.consistency(n_classes=2, score=0.2, n_concepts=6)
    baseline = own["score"].fillna(0) + np.array([-0.1, -0.1, -0.1, 0.1, 0, 0])
    own = own.assign(
        concept_baseline=baseline, baseline_name=("baseline_class", np.array(["cat", "dog"]))
    )
    parts = consistency.VIEW.parts({"a": own})
    assert numbers(parts)["above random"].value == "75 %"
    rows = table(parts, "Concepts").set_index("concept")
    assert rows["baseline"].to_dict() == baseline.to_series().to_dict()
    figure = next(p for p in parts if isinstance(p, Figure) and p.title.startswith("Random maps"))
    assert figure.chart.data["label"].tolist() == ["dog", "cat"]


@pytest.mark.parametrize("n_classes", [3, 100])
def test_baselines_by_class_are_drawn(n_classes: int) -> None:
    own = fabricate_results.consistency(n_classes=n_classes)
    titles = [p.title for p in consistency.VIEW.parts({"a": own}) if isinstance(p, Figure)]
    assert "Random maps, class by class" in titles


def test_classes_of_concepts_are_summed_up() -> None:
    own = fabricate_results.consistency()
    own = own.assign(concept_class=("concept", np.array(list("aabbbb"))))
    frame = consistency.class_frame(own).set_index("class")
    scores_ = own["score"].values
    assert frame.loc["a", "score"] == pytest.approx(scores_[:2].mean())
    assert frame.loc["b", "concepts"] == 3
    assert frame["score"].is_monotonic_decreasing


@pytest.mark.slow
def test_settings_of_other_variants_are_warned_of() -> None:
    one = fabricate_results.consistency()
    parts = consistency.VIEW.parts({"a": one, "b": one.assign(variant="another")})
    assert next(part.kind for part in parts if isinstance(part, Note)) == "warning"
    alike = consistency.VIEW.parts({"a": one, "b": one})
    assert not [p for p in alike if isinstance(p, Note) and p.kind == "warning"]


# -- fidelity ---------------------------------------------------------------------------------


def test_what_is_recovered_stands_beside_the_network_and_the_ablated_layer() -> None:
    parts = fidelity.VIEW.parts({"a": fabricate_results.fidelity()})
    told = numbers(parts)
    assert told["KL recovered"].value == told["CE recovered"].value == "90 %"
    assert "95 % interval 85 % to 95 %" in told["KL recovered"].meaning
    assert (told["accuracy lost"].value, told["accuracy lost"].of) == ("+2.5 %", "of 6 test images")
    assert "3 omitted, on which the concepts were fitted" in told["images"].meaning
    frame = table(parts, "What the network says with concepts in the layer's place")
    assert frame["ce"].tolist() == [0.3, 0.35, 0.8]
    assert frame["accuracy"].tolist() == [0.9, 0.875, 0.1]
    assert not [part for part in parts if isinstance(part, Note)]


def test_a_fraction_that_is_not_defined_is_told() -> None:
    parts = fidelity.VIEW.parts({"a": fabricate_results.fidelity(defined=False)})
    assert numbers(parts)["KL recovered"].value == MISSING
    told = [part.text for part in parts if isinstance(part, Note)]
    assert told == [
        "Not defined, since.",
        "No fraction is defined: the ablated layer loses nothing.",
    ]


def test_concepts_are_counted_by_the_decade_of_their_density() -> None:
    own = fabricate_results.fidelity(n_concepts=40)
    frame = fidelity.density_frame(own)
    assert frame["from"].tolist() == ["10^-4", "10^-3", "10^-2", "10^-1"]
    for name, of in (("position_density", "of positions"), ("image_density", "of images")):
        density = own[name].values
        for exponent, count in zip(range(-4, 0), frame[f"concepts, {of}"], strict=True):
            inside = (density >= 10.0**exponent) & (density < 10.0 ** (exponent + 1))
            assert count == inside.sum()
    figure = concept_model.density_figure("a", own)
    assert "Of 40 concepts 1 is dead" in figure.note


def test_settings_are_compared_over_seeds_and_against_sparsity() -> None:
    cells = {
        f"a[k={k},seed={seed}]": fabricate_results.fidelity(l0=float(k - seed))
        for k in (8, 16)
        for seed in (0, 1)
    }
    parts = fidelity.VIEW.parts(cells)
    titles = [part.title for part in parts if isinstance(part, Figure)]
    assert titles[:2] == ["What is recovered", "Fidelity against sparsity"]
    frame = table(parts, "Setting by setting")
    assert frame["dead"].tolist() == [1 / CONCEPTS] * 4
    assert frame["l0"].tolist() == [8, 7, 16, 15]


# -- intervention -----------------------------------------------------------------------------


def test_curves_hold_the_values_of_every_order_and_the_promise() -> None:
    own = fabricate_results.intervention()
    frame = intervention.curve_frame(own, "logit", "deletion")
    assert frame["series"].unique().tolist() == ["contribution", "random", "contribution, promised"]
    first = frame[frame["series"] == "contribution"]
    assert first["share"].tolist() == [0, 0.5, 1]
    assert first["value"].tolist() == [1, 0.1, 0]
    promised = frame[frame["series"] == "contribution, promised"]
    assert promised["value"].to_numpy() == pytest.approx([0.8, 0.08, 0])
    assert promised["low"].isna().all()
    assert "promised" not in " ".join(
        intervention.curve_frame(own, "probability", "insertion")["series"]
    )


def test_areas_say_how_far_from_random_they_are() -> None:
    frame = intervention.area_frame(fabricate_results.intervention())
    probability = frame[frame["measure"] == "probability"].set_index(["curve", "order"])
    assert probability.loc[("deletion", "contribution"), "area"] == pytest.approx(0.3)
    assert probability.loc[("deletion", "contribution"), "gain"] == pytest.approx(0.2)
    assert probability.loc[("insertion", "contribution"), "gain"] == pytest.approx(0.2)
    assert np.isnan(probability.loc[("insertion", "random"), "gain"])


def test_accuracy_is_offered_only_where_labels_were_given() -> None:
    labelled = fabricate_results.intervention()
    without = fabricate_results.intervention(labelled=False)
    (choice,) = intervention.intervention_choices({"a": labelled})
    assert choice.options == ["probability", "logit", "accuracy"]
    (choice,) = intervention.intervention_choices({"a": without})
    assert choice.options == ["probability", "logit"]
    assert set(intervention.area_frame(without)["measure"]) == {"probability", "logit"}


def test_changes_are_those_of_moved_concepts_alone() -> None:
    own = fabricate_results.intervention()
    frame = intervention.change_frame(own)
    assert len(frame) == 2 * own.sizes["image"] - 1
    assert (frame["y"] / frame["x"]).to_numpy() == pytest.approx(1.5)
    assert frame["label"].iloc[0] == "test/00000, concept 4"


def test_many_changes_are_thinned() -> None:
    own = fabricate_results.intervention(n_images=9_000)
    parts = intervention.VIEW.parts({"a": own})
    figure = next(p for p in parts if isinstance(p, Figure) and "Measured" in p.title)
    assert "17,999 concepts of 9,000 images" in figure.note
    assert len(figure.chart.layer[0].data) == 4_000


def test_no_concept_was_moved_alone() -> None:
    own = fabricate_results.intervention()
    nothing = own.assign(promised_change=own["promised_change"] * np.nan)
    words = [p.text for p in intervention.VIEW.parts({"a": nothing}) if isinstance(p, Note)]
    assert words == ["No concept was moved alone."]


def test_a_single_step_and_no_random_order() -> None:
    own = fabricate_results.intervention().isel(order=[0])
    frame = intervention.area_frame(own)
    assert frame["gain"].isna().all()


# -- stability --------------------------------------------------------------------------------


def test_matched_shares_stand_beside_their_null() -> None:
    frame = stability.share_frame(fabricate_results.matching(0.4), ["decoder"])
    assert frame["series"].tolist() == ["decoder"] * 2 + ["decoder, null"] * 2
    assert frame["value"].tolist() == [0.4, 0.2, 0, 0]
    assert frame["low"].iloc[0] == pytest.approx(0.3)
    assert frame.loc[frame["is_null"], "low"].isna().all()


def test_matches_come_by_similarity_and_none_is_told() -> None:
    own = fabricate_results.matching()
    frame = stability.match_frame(own.assign({LABEL: ("concept", list("abcdef"))}), "presence")
    assert frame["concept"].tolist() == [5, 4, 3, 2, 1, 0]
    assert frame["label"].tolist() == list("fedcba")
    assert frame["match"].iloc[-1] is pd.NA
    assert np.isnan(frame["similarity"].iloc[-1])
    assert frame.set_index("concept").loc[1, "mutual"] == "✓ mutual"


@pytest.mark.slow
def test_sweeps_are_put_together_over_seeds() -> None:
    datasets = {
        f"sweep[k={k},seed={seed}]": fabricate_results.matching((k + seed) / 20)
        for k in (4, 8)
        for seed in (0, 1, 2)
    }
    parts = stability.VIEW.parts(datasets, basis="presence")
    frame = table(parts, "Over seeds, by presence").set_index(["result", "setting"])
    row = frame.loc[("matched at 0.5, fraction", "sweep[k=8]")]
    values = [(8 + seed) / 20 for seed in (0, 1, 2)]
    assert row["mean"] == pytest.approx(np.mean(values))
    assert row["deviation"] == pytest.approx(np.std(values, ddof=1))
    assert row["n"] == 3
    half = 4.302653 * np.std(values, ddof=1) / 3**0.5
    assert row["high"] - row["mean"] == pytest.approx(half, rel=1e-5)
    frame = table(parts, "Compared over seeds, by presence").set_index(["result", "setting"])
    row = frame.loc[("matched at 0.5, fraction", "sweep[k=8]")]
    assert (row["difference"], row["verdict"]) == (pytest.approx(0.2), "no spread")


def test_what_was_not_matched_by_a_basis_is_told() -> None:
    own = fabricate_results.matching().isel(basis=[1])
    words = [
        p.text for p in stability.VIEW.parts({"a": own}, basis="decoder") if isinstance(p, Note)
    ]
    assert words == ["Nothing was matched by decoder."]
    assert stability.VIEW.parts({"a": own})


# -- localisation -----------------------------------------------------------------------------


def test_means_over_concepts_have_intervals_by_their_deviation() -> None:
    own = fabricate_results.localisation()
    frame = localisation.mean_frame(own).set_index(["label", "series"])
    values = own["score"].sel(measure="iou").values[:-1]
    row = frame.loc[("iou", "the name's masks")]
    half = 1.96 * values.std(ddof=1) / np.sqrt(len(values))
    assert row["value"] == pytest.approx(values.mean())
    assert row["high"] - row["value"] == pytest.approx(half, rel=1e-3)


def test_concepts_come_by_lift_and_open_ones_last() -> None:
    own = fabricate_results.localisation()
    frame = localisation.concept_frame(own, "energy")
    assert frame["concept"].tolist() == [0, 1, 2, 3, 4]
    assert frame["verdict"].iloc[0] == "✓ above chance"
    assert frame["verdict"].iloc[-1] == "– not judged"
    assert frame["shown"].iloc[1] == "4 of 8"
    low = own["lift_low"].sel(measure="energy").values
    located = frame["verdict"] == "✓ above chance"
    assert located.sum() == (low > 0).sum()


@pytest.mark.parametrize(
    ("made", "shown", "key"),
    [
        (fabricate_results.scores, scores, "metric"),
        (fabricate_results.identification, identification, "metric"),
        (fabricate_results.localisation, localisation, "measure"),
    ],
)
def test_a_best_label_without_a_null_is_said_to_have_none(
    made: Callable[[], xr.Dataset], shown: Any, key: str
) -> None:
    own = made()
    chosen = str(own[key].values[0])
    parts = shown.VIEW.parts({"a": own}, **{key: chosen})
    tables = [p for p in parts if isinstance(p, Table) and p.title.startswith(TITLES)]
    assert tables
    assert all("not tested against chance" in table.note for table in tables)


def test_the_consensus_stands_beside_the_next_one() -> None:
    given = fabricate.with_chance(fabricate.names())
    assert "next" not in names.concept_frame(given)
    n = given.sizes["concept"]
    given = given.assign(
        consensus_second=("concept", np.array(["dots"] * n, dtype=object)),
        consensus_second_votes=("concept", np.ones(n, dtype=np.int64)),
        consensus_second_p=("concept", np.full(n, 0.3)),
    )
    frame = names.concept_frame(given)
    assert set(frame["next"]) == {"dots, 1 of 1 vote, at chance"}


TITLES = ("Best concept of", "Concepts that explain", "Neurons by", "Concepts by")
"""Of tables that show the best of many labels."""


def test_energy_is_the_first_measure() -> None:
    (choice,) = localisation.localisation_choices({"a": fabricate_results.localisation()})
    assert choice.options == ["energy", "pointing", "iou"]


def test_many_concepts_are_drawn_from_both_ends() -> None:
    own = fabricate_results.localisation(n_concepts=200)
    parts = localisation.VIEW.parts({"a": own}, measure="pointing")
    figure = next(p for p in parts if isinstance(p, Figure) and p.title.startswith("Concepts"))
    assert figure.title == "Concepts furthest above chance, and least, by pointing"
    drawn = figure.chart.data["label"].tolist()
    assert len(drawn) == localisation.MOST_DRAWN
    assert drawn[0] == "shape: 0 (0)"
    assert drawn[-1] == "shape: 197 (197)"


# -- scores -----------------------------------------------------------------------------------


def test_best_pairs_are_those_of_a_loop() -> None:
    own = fabricate_results.scores(n_neurons=7)
    frame = scores.pair_frame(own, "iou").set_index("neuron")
    for neuron in own["neuron"].values[:-1]:
        values = own["score"].sel(neuron=neuron, metric="iou").to_series().sort_values()
        row = frame.loc[neuron]
        assert (row["concept"], row["second"]) == (values.index[-1], values.index[-2])
        assert row["score"] == values.iloc[-1]
        assert row["margin"] == pytest.approx(values.iloc[-1] - values.iloc[-2])
        assert row["labelled_share"] == float(own["labelled_share"].sel(concept=row["concept"]))
    last = frame.iloc[-1]
    assert last.name == own["neuron"].values[-1]
    assert (last["concept"], last["undefined"]) == ("", 4)
    assert np.isnan(last["score"])


def test_blocks_of_neurons_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    own = fabricate_results.scores(n_neurons=23)
    whole = scores.pair_frame(own, "recall")
    monkeypatch.setattr(scores, "BLOCK_BYTES", 2 * 3 * 4 * 8)
    pd.testing.assert_frame_equal(scores.pair_frame(own, "recall"), whole)


def test_the_first_metric_is_the_one_that_was_published_as_the_safest() -> None:
    own = xr.Dataset(
        coords={"metric": ["recall", "mine", "auprc", "correlation", "combined_auc", "f1_score"]}
    )
    own = own.assign(score=(("neuron", "metric", "concept"), np.zeros((1, 6, 1))))
    [choice] = scores.scores_choices({"a": own})
    # table 2 and section 4.2: correlation 99.4, AUPRC 95.6, F1 93.7, recall 0 at worst
    assert choice.options[:4] == ["correlation", "auprc", "f1_score", "recall"]
    assert choice.options[4:] == ["mine", "combined_auc"], "not published: as they stand"


def test_one_concept_has_no_second() -> None:
    frame = scores.pair_frame(fabricate_results.scores(n_concepts=1), "recall")
    assert (frame["second"] == "").all()
    assert frame["margin"].isna().all()


def test_too_many_neurons_are_read_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    own = fabricate_results.scores(n_neurons=10)
    [choice] = scores.scores_choices({"a": own})
    assert choice.key == "metric"
    assert sorted(choice.options) == sorted(own["metric"].values.astype(str))
    monkeypatch.setattr(scores, "MOST_BYTES", 4 * 3 * 4 * 8)
    choice = scores.scores_choices({"a": own})[1]
    assert choice.options == ["0 to 3", "4 to 7", "8 to 9"]
    parts = scores.VIEW.parts({"a": own}, metric="recall", neurons="8 to 9")
    pairs = table(parts, "Best concept of every neuron, by recall")
    assert sorted(pairs["neuron"]) == own["neuron"].values[8:].tolist()
    assert Note("Neurons 8 to 9 of 10.") in parts


def test_a_heat_map_is_never_larger_than_it_can_be_read() -> None:
    own = fabricate_results.scores(n_neurons=100, n_concepts=90)
    parts = scores.VIEW.parts({"a": own}, metric="recall")
    figure = next(p for p in parts if isinstance(p, Figure) and p.title == "Scores by recall")
    data = figure.chart.data
    assert data["x"].nunique() <= scores.MOST_DRAWN
    assert data["y"].nunique() == scores.MOST_DRAWN
    best = table(parts, "Best concept of every neuron, by recall")
    assert set(best["concept"].head(scores.MOST_DRAWN)) <= set(data["x"])


def test_concepts_are_counted_by_the_neurons_that_they_explain() -> None:
    own = fabricate_results.scores(n_neurons=30)
    pairs = scores.pair_frame(own, "iou")
    frame = scores.concept_frame(pairs, own)
    best = own["score"].sel(metric="iou").isel(neuron=slice(0, 29)).argmax("concept").values
    counts = np.bincount(best, minlength=4)
    assert frame["neurons"].sum() == 29
    assert dict(zip(frame["concept"], frame["neurons"], strict=True)) == {
        f"label: {place}": count for place, count in enumerate(counts) if count
    }


def test_a_metric_that_was_not_scored_is_told() -> None:
    own = fabricate_results.scores()
    other = own.isel(metric=[0])
    parts = scores.VIEW.parts({"a": own, "b": other}, metric="iou")
    assert Note("Nothing was scored by iou here.") in parts


# -- names ------------------------------------------------------------------------------------


def test_metrics_are_told_as_namers() -> None:
    own = fabricate.names()
    frame = names.metric_frame(own).set_index("metric")
    assert frame.index.tolist() == ["iou", "auprc"]
    assert frame["votes"].tolist() == ["✓ votes", "✗ no vote"]
    assert frame["verdict"].tolist() == ["✓ passes", "? undecided"]
    assert frame["agrees"].tolist() == [1, 0]
    assert frame.loc["iou", "score"] == pytest.approx(np.mean([0.9, 0.8, 0.7, 0.6, 0.5]))
    untested = own.assign(verdict=("metric", np.array(["untested"] * 2)))
    assert set(names.metric_frame(untested)["verdict"]) == {"– untested"}


def test_names_above_chance_come_first_and_the_page_says_how_they_were_tested() -> None:
    own = fabricate.with_chance(fabricate.names())
    schemas.NAMES.check(own)
    frame = names.concept_frame(own)
    assert frame["chance"].tolist() == [
        *("above chance", "undecided", "untested", "untested", "at chance")
    ]
    assert frame["p"].tolist()[:2] == [0.005, 0.03]
    parts = names.VIEW.parts({"a": own})
    (numbers,) = [part for part in parts if isinstance(part, Numbers)]
    shown = {number.label: number.value for number in numbers.numbers}
    assert shown["of these above chance"] == "33.3 %"
    (metrics, concepts) = [p for p in parts if isinstance(p, Table)][:2]
    assert "Chance: 199 permutations of labels, for 3 of 6 concepts" in metrics.note
    assert metrics.frame["by_chance"].tolist() == [pytest.approx(0.3)] * 2
    assert concepts.frame["chance"].tolist()[0] == "above chance"
    before = names.concept_frame(fabricate.names())
    assert set(before["chance"]) == {"untested"}
    assert "p" not in before


def test_a_column_that_is_declared_is_shown_on_the_console_and_on_the_page(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    column = Column(".2f", "spread", "deviation of scores", lambda own: own["score"].std("concept"))
    monkeypatch.setitem(tables.NAMERS.columns, "spread", column)  # type: ignore[arg-type]
    own = fabricate.names()
    expected = own["score"].std("concept")
    [page] = [
        p for p in names.VIEW.parts({"a": own}) if getattr(p, "title", "") == "Metrics as namers"
    ]
    assert page.columns["spread"] == column
    shown = page.frame.set_index("metric")["spread"]
    assert shown.to_dict() == pytest.approx(expected.to_series().to_dict())
    lines = tables.names_table(own).splitlines()
    header = next(line for line in lines if line.startswith("metric"))
    assert header.split()[-1] == "spread"
    assert f"{expected.sel(metric='iou').item():.2f}" in "".join(lines)


def test_the_forms_behind_verdicts_are_told() -> None:
    own = fabricate.names()
    noted = [p.note for p in names.VIEW.parts({"a": own}) if isinstance(p, Table)]
    assert "forms" not in noted[0]
    own = own.assign(sanity_forms="theoretical")
    noted = [p.note for p in names.VIEW.parts({"a": own}) if isinstance(p, Table)]
    assert noted[0].endswith("Verdicts rest on these forms: theoretical.")


def test_right_names_are_told_where_they_are_known() -> None:
    own = fabricate.names().assign(
        right_share=("metric", [0.5, 0.25]),
        right_label=("concept", np.array(list("abcdef"))),
        n_right_known=6,
        consensus_right_share=0.5,
    )
    parts = names.VIEW.parts({"a": own})
    assert table(parts, "Metrics as namers")["right"].tolist() == [0.5, 0.25]
    assert numbers(parts)["correct"].value == "50 %"
    assert "right" in table(parts, "Concepts")


def test_frequent_names_are_counted() -> None:
    own = fabricate.names()
    frame = label_counts(best_names(own, "iou"))
    chosen = own["name"].sel(metric="iou").values.tolist()
    for label, value in frame.itertuples(index=False):
        assert value == chosen.count(label)
    assert "" not in frame["label"].tolist()
    assert frame["value"].sum() == fabricate.CONCEPTS - 1


def test_agreement_is_one_with_itself_and_even() -> None:
    own = fabricate.names()
    grid = names.agreement(own).pivot(index="y", columns="x", values="value")
    assert grid.loc["iou", "iou"] == grid.loc["auprc", "auprc"] == 1
    assert grid.loc["iou", "auprc"] == grid.loc["auprc", "iou"] == 0
    nameless = own.assign(name=own["name"].where(False, ""))
    assert names.agreement(nameless)["value"].isna().all()


def test_the_surest_names_come_first() -> None:
    own = fabricate.names()
    votes = np.array([1, 2, 2, 0, 1, 0])
    margin = own["margin"].values.copy()
    margin[2, 0] = 0.9
    own = own.assign(
        consensus_votes=("concept", votes), margin=(("concept", "metric"), margin), n_voting=2
    )
    frame = names.concept_frame(own)
    assert frame["concept"].tolist()[:2] == [2, 1]
    assert frame["share"].tolist()[:2] == [1, 1]
    assert len(frame) == fabricate.CONCEPTS - 1


def test_the_help_of_a_column_is_that_of_the_schema_unless_another_is_given() -> None:
    own = fabricate_results.identification()
    for name in ("published", "alpha"):
        own[name].attrs["long_name"] = schemas.IDENTIFICATION.variables[name].long_name
    tables = [p for p in identification.VIEW.parts({"x": own}) if isinstance(p, Table)]
    columns = next(table.columns for table in tables if table.name == "x-metrics")
    assert columns["published"].help.startswith("published AUPRC of the")
    assert columns["alpha"].help.endswith("most splits chose")
