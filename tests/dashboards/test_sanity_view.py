"""The sanity checks: verdicts with signs, ours beside the published, by frequency, one metric."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from dashboards.views.parts.parts import Figure, Heading, Note, Numbers, Part, Table, frame_of
from dashboards.views.results import sanity
from evals.metrics import table as metrics_table
from evals.metrics.registered import list_metrics
from evals.metrics.table import metric
from evals.metrics.tolerance import FAULTY
from tests.dashboards import fabricate_results
from tests.dashboards.fabricate_results import METRICS


def tables(parts: list[Part]) -> dict[str, pd.DataFrame]:
    return {part.title: part.frame for part in parts if isinstance(part, Table)}


def test_verdicts_come_in_order_with_sign_and_word() -> None:
    frame = tables(sanity.VIEW.parts({"a": fabricate_results.sanity()}))["Verdicts"]
    assert frame["metric"].tolist() == ["iou", "cosine", METRICS[2], "recall"]
    expected = ["✓ passes", "✓ passes", "? undecided", "✗ fails"]
    assert frame["verdict"].tolist() == expected


def test_ours_stand_beside_the_published() -> None:
    frame = sanity.verdict_frame(fabricate_results.sanity()).set_index("metric")
    assert frame.loc["recall", "theoretical, extra"] == "✗ 0.0 (0.0)"
    assert frame.loc["cosine", "theoretical, extra"] == "✓ 100.0 (60.0)"
    assert frame.loc["recall", "experimental, missing"] == "✓ 98.7"
    assert frame.loc[METRICS[2], "theoretical, extra"] == "? 90.0"
    assert not [name for name in frame if name.startswith("semantic")]


def test_a_test_that_was_not_run_is_a_dash() -> None:
    own = fabricate_results.sanity()
    own["decrease_accuracy"][:, 2, 1] = 1.0
    frame = sanity.verdict_frame(own).set_index("metric")
    assert frame.loc["iou", "semantic, missing"] == "–"
    own["decrease_accuracy"][:] = np.nan
    assert list(sanity.verdict_frame(own)) == ["metric", "verdict"]


def test_every_test_is_a_row_in_per_cent() -> None:
    own = fabricate_results.sanity()
    frame = sanity.cell_frame(own)
    assert len(frame) == 4 * 2 * 2
    row = frame.query("metric == 'cosine' and form == 'theoretical' and test == 'extra'").iloc[0]
    assert (row["ours"], row["published"], row["apart"]) == (100, 60, 40)
    assert row["low"] == pytest.approx(98)
    assert row["reason"] == "a coin toss"
    assert frame["published"].isna().sum() == 16 - 6


def test_theoretical_tests_alone() -> None:
    own = fabricate_results.sanity(real=False)
    assert sanity.forms_run(own) == ["theoretical"]
    words = [part.text for part in sanity.VIEW.parts({"a": own}) if isinstance(part, Note)]
    assert "Experimental: not run here." in words[0]


def test_reasons_are_told_once_with_what_they_explain() -> None:
    own = fabricate_results.sanity()
    own["difference"][:, 1, :] = "other data"
    parts = sanity.reasons(own)
    words = [part.text for part in parts if isinstance(part, Note)]
    assert words == ["experimental: other data.", "cosine (extra): a coin toss."]
    assert sanity.reasons(own.assign(difference=own["difference"].where(False, ""))) == []


def test_frequencies_are_rows_of_their_cells() -> None:
    own = fabricate_results.sanity()
    frame = frame_of(sanity.FREQUENCIES, own)
    assert len(frame) == 4 * 2 * 2
    for row in frame.to_dict("records"):
        at = {name: row[name] for name in ("metric", "test", "frequency")}
        assert row["decrease_rate"] == float(own["decrease_rate"].sel(at))
        assert row["score_change"] == float(own["score_change"].sel(at))


def test_numbers_of_the_protocol() -> None:
    parts = sanity.VIEW.parts({"a": fabricate_results.sanity()})
    numbers = {
        n.label: n.value for part in parts if isinstance(part, Numbers) for n in part.numbers
    }
    assert numbers["✓ pass"] == "2"
    assert numbers["? undecided"] == "1"
    assert numbers["✗ fail"] == "1"
    assert (numbers["required"], numbers["epsilon"]) == ("90 %", "0.001")
    notes = " ".join(part.text for part in parts if isinstance(part, Note))
    assert "Experimental: real neurons, labels corrupted at random (7 tested)." in notes


def test_one_metric_in_detail() -> None:
    own = fabricate_results.sanity()
    parts = sanity.VIEW.parts({"a": own}, metric="recall")
    assert parts[2] == Heading("recall: ✗ fails (a)")
    seeds = tables(parts)["Seed by seed"]
    assert len(seeds) == 2 * 2 * 2
    assert set(seeds["metric"]) == {"recall"}
    assert [part.title for part in parts[:6] if isinstance(part, Figure)]
    without = sanity.VIEW.parts({"a": own.drop_vars("seed_accuracy")}, metric="recall")
    assert "Seed by seed" not in tables(without)


def test_a_metric_that_nobody_tested_has_no_detail() -> None:
    own = fabricate_results.sanity()
    assert len(sanity.VIEW.parts({"a": own}, metric="mad")) == len(sanity.VIEW.parts({"a": own}))


def test_settings_are_compared_by_verdict() -> None:
    one = fabricate_results.sanity()
    other = one.isel(metric=[0, 1]).assign(passed=("metric", np.array(["passes", "fails"])))
    frame = tables(sanity.VIEW.parts({"a": one, "b": other}))["Verdicts, setting by setting"]
    assert frame["metric"].tolist() == ["iou", "cosine", METRICS[2], "recall"]
    assert frame["b"].tolist() == ["✗ fails", "– not run", "– not run", "✓ passes"]


def test_one_that_failed_itself_has_no_verdict() -> None:
    own = fabricate_results.sanity()
    verdicts = own["passed"].where(own["metric"] != "recall", "").astype(str)
    own = own.assign(passed=verdicts).assign_attrs({FAULTY: "recall: ZeroDivisionError: division"})
    parts = sanity.VIEW.parts({"a": own})
    frame = tables(parts)["Verdicts"].set_index("metric")
    assert frame.loc["recall", "verdict"] == "– no verdict"
    notes = [part.text for part in parts if isinstance(part, Note)]
    assert any("recall: ZeroDivisionError" in note for note in notes)
    both = tables(sanity.VIEW.parts({"a": own, "b": own}))["Verdicts, setting by setting"]
    assert both["metric"].tolist()[-1] == "recall"
    assert (
        sanity.metric_frame({"a": own}).set_index("metric")["verdict"]["recall"] == "– no verdict"
    )


def test_the_table_of_metrics_holds_a_strangers(monkeypatch: pytest.MonkeyPatch) -> None:
    list_metrics()
    monkeypatch.setattr(metrics_table, "_TABLE", dict(metrics_table._TABLE))

    @metric("overlap", bounds=(0, 2), family="contingency", needs=("alpha",), source="Mine 2026")
    def overlap(counts: object) -> np.ndarray:
        """Say how ``much`` overlaps. More is better."""
        raise NotImplementedError

    frame = sanity.metric_frame({"a": fabricate_results.sanity()}).set_index("metric")
    assert set(list_metrics()) | set(METRICS) == set(frame.index)
    own = frame.loc["overlap"]
    assert own["meaning"] == "Say how much overlaps"
    assert (own["bounds"], own["needs"], own["source"]) == ("0, 2", "alpha", "Mine 2026")
    assert own["verdict"] == "– not run"
    assert frame.loc[METRICS[2], "meaning"] == "not registered here"
    assert frame.loc["recall", "verdict"] == "✗ fails"


def test_every_metric_may_be_chosen_and_none() -> None:
    (choice,) = sanity.sanity_choices({"a": fabricate_results.sanity()})
    assert choice.optional
    assert tuple(choice.options) == METRICS
