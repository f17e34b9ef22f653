"""Decisions as they are shown, held against arithmetic on the datasets that they are of."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from dashboards.report import render
from dashboards.views.concepts import decision as one_decision
from dashboards.views.concepts import decision_charts as charts
from dashboards.views.concepts import decision_names as names
from dashboards.views.concepts import decision_pictures as pictures
from dashboards.views.concepts import decision_words as words
from dashboards.views.concepts import decisions as view
from dashboards.views.concepts import what_if
from dashboards.views.concepts.decision_names import NAMELESS, Naming
from dashboards.views.concepts.labels import CONSENSUS
from dashboards.views.parts.parts import Figure, Pictures, Table
from dashboards.views.sections import Section
from fact import schemas
from fact.traces.plots import decision_shares
from tests.dashboards import fabricate

HOSTILE = "<script>alert(1)</script>"
CONTRIBUTION = np.array([4.0, -1.5, 0.0, 2.0, 0.25, -0.5, 0.125])
SIDE = 4


def explained(against: int = -1, **changes: Any) -> xr.Dataset:
    """As fact.explain_image returns it: concepts 0, 3 and 4 for it, 1 and 5 against it."""
    random = np.random.default_rng(0)
    shown = np.array([0, 3, 1, 5])
    maps = random.normal(size=(len(shown), SIDE, SIDE)).astype(np.float32)
    pixels = random.integers(0, 256, (len(shown) + 2, SIDE, SIDE, 4)).astype(np.uint8)
    logit = CONTRIBUTION.sum()
    whole = np.full((SIDE, SIDE), logit / SIDE**2)
    variables: dict[str, Any] = {
        "contribution": ("concept", CONTRIBUTION.astype(np.float32)),
        "presence": ("concept", np.array([1, 1, 3, 1, 1, 1, 0], np.float32)),
        "logits": ("class", np.array([logit, -2.0, 1.0])),
        "probability": ("class", np.array([0.99, 0.0001, 0.7])),
        "logit": ((), logit),
        "prediction": ((), 0),
        "target": ((), 0),
        "against": ((), against),
        "residual": ((), 3e-8),
        "top_concept": ("rank", shown),
        "explanation": (("rank", "y", "x", "rgba"), pixels[:-2]),
        "concept_map": (("rank", "y", "x"), maps),
        "others_explanation": (("y", "x", "rgba"), pixels[-2]),
        "others_map": (("y", "x"), whole - maps.sum(axis=0)),
        "logit_explanation": (("y", "x", "rgba"), pixels[-1]),
        "logit_map": (("y", "x"), whole),
        "picture": (("y", "x", "colour"), pixels[0, ..., :3]),
    }
    coords = {"concept": np.arange(7), "class": ["ape", HOSTILE, "cow"]}
    return xr.Dataset(variables | changes, coords)


def stored(contribution: np.ndarray = CONTRIBUTION, most: int = 2) -> xr.Dataset:
    """Of the schema ``decisions``: the same image, and one for which nothing speaks."""
    both = np.stack([contribution, -np.abs(contribution)])
    shares = decision_shares(
        xr.DataArray(both, dims=("image", "concept"), coords={"image": ["test/0", "test/1"]}), most
    )
    arrays: dict[str, Any] = {}
    sizes = {"image": 2, "rank": most, "y": SIDE, "x": SIDE, "colour": 3, "rgba": 4}
    for name, variable in schemas.DECISIONS.variables.items():
        shape = [sizes[dim] for dim in variable.dims]
        arrays[name] = (variable.dims, np.zeros(shape, variable.dtype))
    arrays |= {name: (array.dims, array.values) for name, array in shares.data_vars.items()}
    arrays["exact"] = ((), True)
    arrays["logit"] = ("image", both.sum(axis=1).astype(np.float32))
    arrays["label"] = ("image", np.array([2, -1]))
    coords = {
        "image": ["test/0", "test/1"],
        "class": ["ape", HOSTILE, "cow"],
        "rank": np.arange(most),
        "colour": ["red", "green", "blue"],
        "rgba": ["red", "green", "blue", "opacity"],
    }
    return xr.Dataset(arrays, coords)


NAMING = Naming({0: "fur", 1: HOSTILE}, {0: "chosen by 5 of 6 metrics"})


# -- sums and shares --------------------------------------------------------------------------


def test_a_waterfall_adds_up_to_its_total() -> None:
    decision = one_decision.of_image(explained(), "ape")
    frame = charts.waterfall_frame(decision, NAMING)
    assert frame["label"].tolist() == [
        "0 · fur",
        "concept 3",
        f"1 · {HOSTILE}",
        "concept 5",
        "all others",
        "logit",
    ]
    assert frame["kind"].tolist() == ["for", "for", "against", "against", "for", "total"]
    assert frame["value"][:-1].sum() == pytest.approx(CONTRIBUTION.sum(), rel=1e-6)
    assert frame["value"].iloc[-1] == CONTRIBUTION.sum()
    assert frame["value"][4] == pytest.approx(0.375)


def test_shares_are_of_what_speaks_for_it() -> None:
    decision = one_decision.of_image(explained())
    positive = 4.0 + 2.0 + 0.25 + 0.125
    assert decision.positive == pytest.approx(positive)
    assert decision.negative == pytest.approx(-2.0)
    assert [term.share for term in decision.for_it] == pytest.approx(
        [4 / positive, 2 / positive], abs=1e-3
    )
    assert decision.others_share == pytest.approx(0.375 / positive, abs=1e-3)
    assert all(np.isnan(term.share) for term in decision.against_it)
    frame = charts.shares_frame(decision, NAMING)
    parts = frame["share"][~frame["name"].str.contains("all that")]
    assert round(parts.sum(), 12) == 1
    assert frame["name"].iloc[-1] == "logit of ape"
    summed = frame["contribution"][~frame["name"].str.contains("all that")].iloc[:-1].sum()
    assert summed == pytest.approx(CONTRIBUTION.sum())


def test_a_stored_decision_is_the_same_as_a_new_one() -> None:
    new, old = one_decision.of_image(explained(), "cow"), one_decision.of_stored(stored(), "test/0")
    for name in ("target", "prediction", "label", "against"):
        assert getattr(new, name) == getattr(old, name)
    for name in ("positive", "negative", "logit", "others_for"):
        assert getattr(old, name) == pytest.approx(getattr(new, name), rel=1e-6)
    assert [t.concept for t in old.terms] == [t.concept for t in new.for_it]
    assert [t.share for t in old.terms] == [t.share for t in new.for_it]
    assert old.others_share == new.others_share
    assert old.others == pytest.approx(CONTRIBUTION.sum() - 6)
    frame = charts.waterfall_frame(old)
    assert frame["value"][:-1].sum() == pytest.approx(CONTRIBUTION.sum(), rel=1e-6)


def test_where_nothing_speaks_for_it_there_are_no_shares() -> None:
    decision = one_decision.of_stored(stored(), "test/1")
    assert decision.terms == ()
    assert decision.positive == decision.others_share == 0
    assert decision.negative == pytest.approx(-np.abs(CONTRIBUTION).sum())
    assert decision.label == ""
    assert "No concept speaks for it" in words.reason_line(decision)
    assert charts.waterfall_frame(decision)["kind"].tolist() == ["against", "total"]


@settings(max_examples=60)
@given(parts=st.lists(st.floats(0, 1e6), min_size=1, max_size=20), digits=st.integers(1, 4))
def test_rounded_shares_add_up_and_are_near(parts: list[float], digits: int) -> None:
    shares = one_decision.whole_shares(parts, digits)
    if sum(parts) == 0:
        assert not shares.any()
        return
    assert round(float(shares.sum()), 9) == 1
    exact = np.asarray(parts) / np.sum(parts)
    assert np.abs(shares - exact).max() < 10.0**-digits


# -- words ------------------------------------------------------------------------------------


def test_it_is_told_what_the_network_says_and_whether_that_is_right() -> None:
    right = words.verdict_line(one_decision.of_image(explained(), "ape"))
    assert right == "The network says ape (probability 99 %), and is right."
    wrong = words.verdict_line(one_decision.of_image(explained(), "cow"))
    assert wrong.endswith("and is wrong: the label is cow.")
    assert words.verdict_line(one_decision.of_image(explained())) == (
        "The network says ape (probability 99 %)."
    )
    whole = explained(probability=("class", np.array([0.4, 0.3, 0.3])))
    assert words.verdict_line(one_decision.of_image(whole)).endswith("no class reaches 50 %).")
    assert words.verdict_line(one_decision.of_stored(stored(), "test/1")) == "The network says ape."
    none = explained(probability=("class", np.array([0.07, 0.05, 0.06])))
    assert words.verdict_line(one_decision.of_image(none)) == (
        "The network says ape (probability 7 %, and no class reaches 50 %; each class has "
        "a sigmoid of its own, so they need not add up to 100 %)."
    )


def test_the_question_and_what_it_is_about() -> None:
    plain, other = (
        one_decision.of_image(explained()),
        one_decision.of_image(explained(target=((), 2))),
    )
    both = one_decision.of_image(explained(against=2))
    assert (plain.question, plain.quantity) == ("Why ape?", "logit of ape")
    assert other.question == "What speaks for cow?"
    assert both.question == "Why ape, and not cow?"
    assert both.quantity == "logit of ape minus that of cow"
    assert (plain.favours, plain.opposes) == ("speak for ape", "speak against ape")
    assert both.favours == "speak more for ape than for cow"
    assert both.opposes == "speak more for cow than for ape"
    assert "these differences" in words.meaning_of_shares(both)
    assert charts.waterfall_frame(both)["label"].iloc[-1] == "difference"


def test_the_reason_in_one_sentence() -> None:
    line = words.reason_line(one_decision.of_image(explained()), NAMING)
    assert line == (
        "The logit of ape is 4.38, which is exactly what 6 concepts add up to: +6.38 for it, "
        "-2 against it. Of what speaks for it: 62.7 % fur (0), 31.4 % concept 3, 5.9 % all others."
    )


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (1, "100 %"),
        (0, "0 %"),
        (0.9999, "> 99.9 %"),
        (1e-7, "< 0.1 %"),
        (0.9994, "99.9 %"),
        (np.nan, "–"),
    ],
)
def test_percent(share: float, text: str) -> None:
    assert words.percent_text(share) == text


def test_what_maps_leave_out_is_told_where_it_matters() -> None:
    assert words.position_line(one_decision.of_image(explained())) == ""
    short = explained()
    short["logit_map"] = short["logit_map"] * 0.5
    told = words.position_line(one_decision.of_image(short))
    assert told.startswith("2.19 of it comes through a positional embedding")


def test_what_is_asked_next() -> None:
    assert charts.runner_up(one_decision.of_image(explained(), "ape")) == "cow"
    assert charts.runner_up(one_decision.of_image(explained(), HOSTILE)) == HOSTILE
    assert charts.runner_up(one_decision.of_stored(stored(), "test/1")) == ""


def test_what_can_be_asked_begins_with_what_it_should_have_been() -> None:
    assert charts.rivals(one_decision.of_image(explained(), "ape")) == ["cow", HOSTILE]
    assert charts.rivals(one_decision.of_image(explained(), HOSTILE)) == [HOSTILE, "cow"]
    assert charts.rivals(one_decision.of_image(explained(), HOSTILE), 1) == [HOSTILE]
    assert charts.rivals(one_decision.of_stored(stored(), "test/1")) == []


def scaled(**numbers: Any) -> xr.Dataset:
    """As fact.traces.interventions.scale_concepts returns it."""
    known = {"before": 4.375, "promised": 0.375, "measured": 1.0, "prediction": 2, "exact": True}
    classes = {
        "logits": ("class", np.array([1.0, -2.0, 1.5])),
        "probability": ("class", np.array([0.3, 0.1, 0.625])),
    }
    return xr.Dataset(classes | known | numbers, {"class": ["ape", HOSTILE, "cow"]})


def test_what_was_promised_stands_beside_what_happens() -> None:
    decision = one_decision.of_image(explained())
    assert what_if.concepts_to_scale(explained()) == [0, 3, 1, 5, 4, 6]
    assert what_if.answer_line(decision, scaled(), {0: 1.0}).startswith("Nothing is changed yet")
    line = what_if.answer_line(decision, scaled(), {0: 0.0})
    assert line == (
        "The logit of ape is 4.38. Promised: 0.375 (-4). It becomes 1 (-3.38). "
        "The network then says cow (probability 62.5 %)."
    )
    still = what_if.answer_line(decision, scaled(prediction=0), {0: 0.0})
    assert still.endswith(
        "says ape (probability 30 %; each class has a sigmoid of its own, so they need not add up "
        "to 100 %)."
    )
    rough = dataclasses.replace(decision, exact=False)
    assert "Promised: ≈ 0.375 (≈ -4)." in what_if.answer_line(rough, scaled(), {0: 0.0})
    drawn = what_if.promise_figure(rough, scaled()).chart.to_dict()
    assert "≈ promised" in str(drawn)
    assert "then" in str(what_if.classes_figure(decision, scaled()).chart.to_dict())


def test_what_speaks_against_it_may_matter() -> None:
    assert words.matters(one_decision.of_image(explained()))
    assert not words.matters(dataclasses.replace(one_decision.of_image(explained()), negative=-0.1))


# -- names ------------------------------------------------------------------------------------


def test_names_by_consensus_say_how_many_metrics_choose_them() -> None:
    given = fabricate.names()
    naming = names.naming_of(given, CONSENSUS)
    consensus = given["consensus"].values.astype(str)
    assert naming.name == {c: n for c, n in enumerate(consensus) if n}
    concept = next(iter(naming.name))
    votes, voting = int(given["consensus_votes"][concept]), int(given["n_voting"])
    assert naming.verdict[concept].startswith(f"chosen by {votes} of {voting} metrics")


@pytest.mark.parametrize("verdict", ["passes", "fails", "undecided", "untested"])
def test_names_by_a_metric_say_whether_it_passes(verdict: str) -> None:
    given = fabricate.names()
    metric = str(given["metric"].values[0])
    given["verdict"] = ("metric", np.array([verdict] * given.sizes["metric"], dtype=object))
    naming = names.naming_of(given, metric)
    concept = next(iter(naming.name))
    assert naming.name[concept] == str(given["name"].values[concept, 0])
    assert naming.verdict[concept].startswith(metric)
    assert f"{names.VERDICTS[verdict]}; not tested against chance" in naming.verdict[concept]
    judged = fabricate.with_chance(given)
    assert names.naming_of(judged, metric).verdict[concept].endswith("; above chance")
    assert names.naming_of(judged, CONSENSUS).verdict[1].endswith("; at chance")


def test_what_a_concept_is_called() -> None:
    assert NAMING.title(0) == "Concept 0: fur"
    assert NAMING.title(7) == "Concept 7"
    assert Naming({3: "x" * 99}, {}).short(3) == f"3 · {'x' * 33}…"
    assert NAMELESS.called(3) == "concept 3"


def test_a_name_that_repeats_the_class_stands_beside_the_next_one() -> None:
    decision = one_decision.of_image(explained())
    label = f"class:{decision.target}"
    given = fabricate.with_chance(fabricate.names())
    shape = given["name"].shape
    given["name"] = given["name"].copy()
    given["name"][:, 0] = label
    given = given.assign(
        second_name=(("concept", "metric"), np.full(shape, "texture:stripes", dtype=object)),
        second_score=(("concept", "metric"), np.full(shape, 0.714)),
        second_p=(("concept", "metric"), np.broadcast_to([[0.005], [0.4]] * 3, shape)),
    )
    naming = names.naming_of(given, "iou")
    assert naming.called(0) == f"{label} (0)"
    told = naming.explaining(decision.target)
    following = "next: texture:stripes, 0.71, not at chance by itself"
    assert told.title(0) == f"Concept 0: {label} (repeats the class; {following})"
    assert told.called(0) == f"concept 0 ({following})"
    assert told.name[1].endswith("next: texture:stripes, 0.71, at chance)")
    assert told.short(0) == f"0 · {label}, then texture:stripes"
    assert told.short(1) == f"1 · at chance: {label}", "the second too"
    assert told.repeated == label
    other = naming.explaining("another class")
    assert other.called(1) == f"concept 1 (at chance: {label})"
    assert "repeats" not in words.reason_line(decision, other)
    assert naming.explaining("another") == naming
    line = words.reason_line(decision, told)
    assert line.count("repeats the class") == 1
    assert line.count(label) == 1
    assert f"concept 0 ({following})" in line
    shares = view.decision_parts(decision, naming, "one", "Why?")
    frame = next(part.frame for part in shares if isinstance(part, Table))
    assert frame["name"].str.contains("repeats the class").any()


def test_second_labels_stand_in_for_names_that_repeat_the_class() -> None:
    decision = one_decision.of_image(explained())
    seconds = {0: "fur", 3: "tail"}
    naming = Naming({0: "class:ape", 1: "sea", 3: "ape", 4: "tree"}, {}, beyond=seconds)
    shown = naming.otherwise("ape")
    assert [shown.short(one) for one in (0, 1, 3, 4)] == [
        "0 · fur",
        "1 · sea",
        "3 · tail",
        "4 · tree",
    ]
    assert shown.notes == dict.fromkeys((0, 3), names.NEXT_LABEL)
    repeated = "2 of 2 names only repeat the class ape"
    assert words.repeats_line(decision, shown) == repeated
    at_chance = dataclasses.replace(naming, beyond={3: "tail"}).otherwise("ape")
    assert at_chance.title(0) == "Concept 0: class:ape (repeats the class)"
    assert at_chance.notes[0] == names.REPEATS
    assert words.repeats_line(decision, naming.explaining("ape")) == repeated
    assert words.repeats_line(decision, naming.otherwise("cow")) == ""
    link = "concepts?concept={}".format
    [first, _] = pictures.term_pictures(decision, shown, decision.for_it, link).pictures
    assert first.caption.split("\n") == ["0 · fur", "+4 · 62.7 %", "its second label"]
    assert first.link == "concepts?concept=0"
    assert "of the +6.38 for it" in first.details


def test_names_of_older_datasets_only_say_that_they_repeat_the_class() -> None:
    naming = Naming({0: "ape"}, {}).explaining("ape")
    assert naming.name == {0: "ape (repeats the class)"}
    assert naming.short(0) == "0 · ape"
    assert naming.called(0) == "concept 0"


def test_the_consensus_has_a_second_one_by_its_votes() -> None:
    given = fabricate.with_chance(fabricate.names())
    concepts = given.sizes["concept"]
    given = given.assign(
        consensus_second=("concept", np.array(["b"] * (concepts - 1) + [""], dtype=object)),
        consensus_second_votes=("concept", np.ones(concepts, dtype=np.int64)),
        consensus_second_p=("concept", np.array([0.005, 0.4] + [np.nan] * (concepts - 2))),
    )
    second = names.naming_of(given, CONSENSUS).second
    assert [second[concept] for concept in range(3)] == [
        "b, 1 of 1 vote, not at chance by itself",
        "b, 1 of 1 vote, at chance",
        "b, 1 of 1 vote, untested",
    ]
    assert concepts - 1 not in second


# -- tables, figures, pictures ----------------------------------------------------------------


def test_the_classes_that_matter_are_listed() -> None:
    many = (
        explained()
        .drop_dims("class")
        .assign(
            logits=("class", np.arange(40.0)[::-1]),
            probability=("class", np.full(40, 0.5)),
            target=((), 35),
        )
    )
    many = many.assign_coords({"class": [f"c{n}" for n in range(39)] + ["c0"]})
    frame = charts.classes_frame(one_decision.of_image(many, "c0 [39]"), most=3)
    told = ["c0 [0]", "c1", "c2", "c35 (explained)", "c0 [39] (label)"]
    assert frame["label"].tolist() == told
    assert charts.classes_figure(one_decision.of_stored(stored(), "test/0")) is None


def test_all_concepts_that_are_present_or_contribute() -> None:
    table = charts.contributions_table(explained(), NAMING)
    assert table.frame["concept"].tolist() == [0, 3, 4, 6, 2, 5, 1]
    assert table.frame["name"].iloc[0] == "fur"
    absent = explained()
    absent["presence"][2] = 0
    assert 2 not in charts.contributions_table(absent).frame["concept"].tolist()


def test_a_map_shows_what_adds_and_what_takes_away() -> None:
    picture = np.full((2, 2, 3), 100, np.uint8)
    layer = pictures.heat(np.array([[1.0, -1.0], [0.0, 0.25]]))
    shown = pictures.over_faded(layer, picture).astype(int)
    blue, vermilion = np.array([0x00, 0x72, 0xB2]), np.array([0xD5, 0x5E, 0x00])
    ground = round(255 - 0.3 * 155)
    np.testing.assert_allclose(shown[0, 0], blue, atol=1)
    np.testing.assert_allclose(shown[0, 1], vermilion, atol=1)
    np.testing.assert_array_equal(shown[1, 0], [ground] * 3)
    np.testing.assert_allclose(shown[1, 1], (ground + blue) / 2, atol=2)
    flat = pictures.heat(np.zeros((2, 2)))
    assert (pictures.over_faded(flat, picture) == ground).all()


@pytest.mark.slow
def test_figures_can_be_drawn_without_a_browser() -> None:
    decision = one_decision.of_image(explained(against=2), "cow")
    assert "<svg" in charts.waterfall_figure(decision, NAMING).svg()
    figure = charts.classes_figure(decision)
    assert figure is not None
    assert "<svg" in figure.svg()


@pytest.mark.slow
def test_a_report_shows_every_part_and_no_stored_markup() -> None:
    parts = view.decision_parts(
        one_decision.of_image(explained(), HOSTILE), NAMING, "d-0", "test/0: Why?"
    )
    assert [type(part) for part in parts].count(Figure) == 2
    assert sum(isinstance(part, Pictures) for part in parts) == 1
    shares = next(part for part in parts if isinstance(part, Table))
    assert shares.texts()["share"].tolist()[3] == "100 %"
    html = render("report", "", [Section("d", parts)])
    assert HOSTILE not in html
    assert "&lt;script&gt;" in html


@pytest.mark.parametrize(
    ("probability", "text"),
    [(1, "> 99.9 %"), (0.9999, "> 99.9 %"), (0.9994, "99.9 %"), (0, "< 0.1 %"), (np.nan, "–")],
)
def test_a_probability_is_never_all_or_none(probability: float, text: str) -> None:
    assert words.probability_text(probability) == text


def test_a_share_stands_beside_what_it_is_of() -> None:
    decision = one_decision.of_image(explained())
    first, last = decision.for_it[0], decision.against_it[-1]
    told = words.term_line(first, decision)
    assert f"of the {decision.positive:+.3g} for it: {100 * first.share:.1f} %" in told
    assert f"of the {decision.negative:+.3g} against it" in words.term_line(last, decision)


# -- approximations ---------------------------------------------------------------------------


@pytest.mark.parametrize("offset", [0.8, -0.8])
def test_what_an_approximation_misses_is_beside_the_offset(offset: float) -> None:
    whole = explained(exact=((), False), logit=((), 7.0), offset=((), offset))
    decision = one_decision.of_image(whole)
    assert decision.missed == pytest.approx(7.0 - CONTRIBUTION.sum() - offset)
    assert charts.waterfall_frame(decision)["value"][:-1].sum() == pytest.approx(7.0)


def test_what_an_approximation_misses_stands_beside_it() -> None:
    exact = one_decision.of_image(explained())
    whole = explained(exact=((), False), logit=((), 7.0), residual=((), 0.3))
    decision = one_decision.of_image(whole)
    missed = 7.0 - CONTRIBUTION.sum()
    assert (exact.missed, decision.missed) == (0, pytest.approx(missed))
    rows = charts.waterfall_frame(decision)
    assert rows["value"][:-1].sum() == pytest.approx(7.0)
    assert charts.MISSED in rows["label"].tolist()
    assert charts.MISSED not in charts.waterfall_frame(exact)["label"].tolist()
    assert set(rows["mark"][:-2]) == {"≈ "}, "beside each number that is an approximation"
    assert rows["mark"][-2:].tolist() == ["", ""]
    assert set(charts.waterfall_frame(exact)["mark"]) == {""}
    assert "≈" in charts.waterfall_figure(decision).title
    assert "≈ +6.38 for it, ≈ -2 against it" in words.sum_line(decision)
    assert words.others_line(decision).count("≈") == 4
    assert "≈" not in words.sum_line(exact) + words.others_line(exact)
    table = charts.shares_table(decision)
    assert table.columns["contribution"].header == "≈ contribution"
    assert table.frame.set_index("name")["contribution"][charts.MISSED] == pytest.approx(missed)
    assert "which is exactly what" in words.reason_line(exact)
    assert "approximate: gradient times activation" in words.reason_line(decision)
    assert "allowed" in words.residual_line(exact)
    assert "miss it by 0.3 of the sum" in words.residual_line(decision)
    parts = view.decision_parts(decision, NAMELESS, "d", "x")
    said = render("report", "", [Section("d", parts)])
    assert said.count("approximate") >= 3
