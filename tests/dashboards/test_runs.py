"""The table of runs: filters, order, columns, CSV."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from dashboards.server.sparks import Sparks
from dashboards.views.runs.drafts import MAKERS
from dashboards.views.runs.headlines import WORDS, headline, headline_text, measured_on
from dashboards.views.runs.live import MOST_LIVE, live_runs
from dashboards.views.runs.one_run import Progress
from dashboards.views.runs.runs import (
    Row,
    RunQuery,
    choices,
    known_columns,
    named_runs,
    newest_rows,
    results_text,
    row_of,
    run_key,
    runs_csv,
    runs_frame,
    select,
    sort_rows,
    status_counts,
    total_size,
)
from registry.catalog.access import Catalog
from registry.catalog.conditions import QueryError
from registry.catalog.feed import RunFeed
from registry.catalog.notes import Note, run_subject
from registry.catalog.runs import RunView
from registry.declare.stage import load_stage
from registry.store.parts import Part
from tests.dashboards.fabricate import HOSTILE

START = datetime(2026, 11, 22, tzinfo=UTC)


def view(number: int, **told: Any) -> RunView:
    told = {"config": {}, "result": {}, **told}
    return RunView(
        number, f"uid-{number}", "sae", f"sae[k={number}]", "fact.train_sae", "COMPLETED",
        START + timedelta(minutes=number), None, None, 1.5 * number, "lab", **told,
    )  # fmt: skip


def row(number: int, tags: tuple[str, ...] = (), text: str = "", **told: Any) -> Row:
    run = view(number, **told)
    note = Note(run_subject(run), text, tags) if tags or text else None
    return row_of(run, note)


@pytest.fixture
def rows(catalog: Catalog) -> list[Row]:
    """All runs of the project that is lived in, the newest first."""
    feed = RunFeed(catalog)
    feed.refresh()
    return sorted(map(row_of, feed.runs.values()), key=lambda row: row.start, reverse=True)


def cells(rows: list[Row], query: RunQuery) -> list[str]:
    return [row.run.cell for row in select(rows, query)]


def test_all_runs_come_newest_first(catalog: Catalog, rows: list[Row]) -> None:
    assert cells(rows, RunQuery())[:3] == ["toy-names", "toy-gallery", "toy-concepts"]
    assert len(rows) == 9
    assert RunQuery().is_open
    newest = newest_rows(catalog, RunQuery(experiment="toy-sae", limit=3))
    wanted = select(rows, RunQuery(experiment="toy-sae"))[:3]
    assert [run.run.uid for run in newest] == [run.run.uid for run in wanted]


@pytest.mark.parametrize(
    ("query", "count"),
    [
        (RunQuery(experiment="toy-sae"), 5),
        (RunQuery(experiment="toy-sae[k=8]"), 1),
        (RunQuery(stage="tests.dashboards.toy.measure"), 1),
        (RunQuery(status="DIED"), 1),
        (RunQuery(status="RUNNING"), 1),
        (RunQuery(status="FAILED", experiment="toy-names"), 0),
        (RunQuery(host="nowhere"), 0),
        (RunQuery(text="TOY.TRAIN k=16"), 4),
        (RunQuery(text="best_accuracy 0.8125"), 1),
        (RunQuery(text="script alert"), 1),
        (RunQuery(text="nothing like it"), 0),
        (RunQuery(where="config.k=16"), 4),
        (RunQuery(where="config.k>8, config.k<=16"), 4),
        (RunQuery(where="config.k=16, status=FAILED"), 1),
        (RunQuery(where="config.k!=16"), 4),
        (RunQuery(where="config.layer=features.2"), 7),
        (RunQuery(where="result.best_accuracy>0.9"), 0),
        (RunQuery(where="result.best_accuracy>=0.8125"), 1),
        (RunQuery(where="seconds<10"), 1),
        (RunQuery(where="cell~SAE"), 5),
        (RunQuery(where="config.needs~toy-sae"), 1),
        (RunQuery(where="started>=2026-11-22 01:41"), 1),
        (RunQuery(since="2026-11-22 01:41"), 1),
        (RunQuery(until="2026-11-22 01:41"), 8),
        (RunQuery(since="2026-11-22", until="2026-11-22"), 9),
        (RunQuery(until="2026-11-21"), 0),
        (RunQuery(tags=("none",)), 0),
        (RunQuery(experiment=HOSTILE), 1),
        (RunQuery(text="toy"), 8),
    ],
)
def test_filters(rows: list[Row], query: RunQuery, count: int) -> None:
    assert len(select(rows, query)) == count


def test_notes_are_found_by_tag_by_word_and_by_comparison() -> None:
    runs = [row(1, ("a", "b"), "stripes of a zebra"), row(2, ("b",)), row(3)]
    assert [r.run.id for r in select(runs, RunQuery(tags=("b",)))] == [1, 2]
    assert [r.run.id for r in select(runs, RunQuery(tags=("a", "b")))] == [1]
    assert [r.run.id for r in select(runs, RunQuery(text="ZEBRA"))] == [1]
    assert [r.run.id for r in select(runs, RunQuery(where="note~zebra"))] == [1]
    assert [r.run.id for r in select(runs, RunQuery(where="tags=b"))] == [2]
    assert choices(runs) == (["lab"], ["a", "b"])
    assert runs_frame(runs, ["tags"])["tags"].tolist() == ["a b", "b", ""]


def test_order_by_any_column(rows: list[Row]) -> None:
    seconds = [row.run.seconds for row in select(rows, RunQuery(sort="-seconds"))]
    assert seconds == sorted(seconds, reverse=True)
    assert cells(rows, RunQuery(sort="result.best_accuracy"))[0] == "toy-sae[k=8]"
    assert cells(rows, RunQuery(sort="started"))[0] == "toy-sae[k=8]"
    assert len(select(rows, RunQuery(sort="$where"))) == 9


@pytest.mark.parametrize("sign", ["", "-"])
def test_runs_without_a_value_come_last(sign: str) -> None:
    values = [1, None, "text", 2.5, float("nan"), True]
    runs = [row(n, result={"x": value}) for n, value in enumerate(values)]
    ordered = [row.run.id for row in sort_rows(runs, f"{sign}result.x")]
    assert ordered[-2:] == [1, 4]
    assert ordered[:4] == ([0, 5, 3, 2] if sign == "" else [2, 3, 0, 5])


def test_a_column_of_a_run_is_what_stands_in_its_row(rows: list[Row]) -> None:
    for one in rows:
        assert {name: one.value(name) for name in one.run.row()} == one.run.row()
    for name in ("config.no.such", "config.seed.x", "facts.uid", "__class__", "nothing"):
        assert rows[0].value(name) is None


def test_what_no_run_has_is_told_with_the_nearest_name() -> None:
    for where, told in (("config.kk=3", "did you mean 'config.k'"), ("$where=1", "no run has")):
        with pytest.raises(QueryError, match=told):
            select([row(1, config={"k": 3})], RunQuery(where=where))


def test_names_of_runs() -> None:
    names = named_runs("12, a-b  sae[k=8,seed=1],20261122T013355-00000001 12")
    assert names == ["12", "a-b", "sae[k=8,seed=1]", "20261122T013355-00000001"]
    assert named_runs(HOSTILE) == [HOSTILE]
    assert named_runs("") == []


def test_columns_are_those_that_some_run_has() -> None:
    runs = [row(1, config={"k": 8, "deep": {"x": 1}}), row(2, result={"accuracy": 0.5})]
    columns = known_columns(runs)
    assert columns[:2] == ["id", "experiment"]
    assert {"config.k", "config.deep.x", "result.accuracy"} < set(columns)
    assert len(columns) == len(set(columns))
    assert known_columns([]) == columns[:11]


def test_frames_have_one_type_in_a_column() -> None:
    values: list[Any] = [1, None, 2]
    mixed: list[Any] = [1, "a", None]
    huge: list[Any] = [1, 2**80, None]
    lists: list[Any] = [[1, 2], None, ["é"]]
    runs = [
        row(n, result={"int": values[n], "mixed": mixed[n], "huge": huge[n], "list": lists[n]})
        for n in range(3)
    ]
    columns = ["id", "started", *(f"result.{name}" for name in ("int", "mixed", "huge", "list"))]
    frame = runs_frame(runs, [*columns, "nowhere"])
    assert frame["id"].tolist() == [0, 1, 2]
    assert str(frame["started"].dtype).startswith("datetime64")
    assert frame["result.int"].dtype == "Int64"
    assert frame["result.mixed"].tolist() == ["1", "a", ""]
    assert frame["result.huge"].tolist() == ["1", str(2**80), ""]
    assert frame["result.list"].tolist() == ["[1, 2]", "", '["é"]']
    assert frame["nowhere"].tolist() == ["", "", ""]
    assert len(runs_frame([], columns)) == 0


def test_the_first_results_stand_in_the_table() -> None:
    result = {"accuracy": 0.912345, "k": 16, "dead": 3, "never": 5}
    assert results_text(result) == "accuracy 0.912, k 16, dead 3"
    part = row(1, part=Part(2, 3))
    assert runs_frame([part], ["results", "part"]).values.tolist() == [["part 2 of 3", "2/3"]]
    assert runs_frame([row(1, result=result)], ["results"])["results"].tolist() == [
        "accuracy 0.912, k 16, dead 3"
    ]


def test_csv_reads_back_in_full() -> None:
    runs = [row(1, result={"x": 1 / 3, "text": 'a,"b"\nc', "list": [1, "é"]}), row(2)]
    rows = list(csv.DictReader(io.StringIO(runs_csv(runs))))
    assert float(rows[0]["result.x"]) == 1 / 3
    assert rows[0]["result.text"] == 'a,"b"\nc'
    assert rows[0]["result.list"] == '[1, "é"]'
    assert rows[0]["started"] == "2026-11-22T00:01:00+00:00"
    assert rows[1]["result.x"] == ""
    assert runs_csv(runs, ["id"]) == "id\n1\n2\n"


def test_a_run_is_named_by_its_identifier_or_its_number() -> None:
    assert run_key(view(3)) == "uid-3"
    assert run_key(replace(view(3), uid="")) == "3"


def test_a_thousand_runs_make_a_frame_that_keeps_numbers() -> None:
    runs = [row(n, result={"x": float(n)}) for n in range(1000)]
    frame = runs_frame(runs, ["result.x"])
    np.testing.assert_array_equal(frame["result.x"], np.arange(1000.0))


# -- what a list shows of each ------------------------------------------------------------------


def test_archived_runs_are_left_out_unless_they_are_asked_for() -> None:
    runs = [row(1), row(2, ("archived", "best"))]
    assert cells(runs, RunQuery()) == ["sae[k=1]"]
    assert cells(runs, RunQuery(archived=True)) == ["sae[k=1]", "sae[k=2]"]
    assert cells(runs, RunQuery(tags=("archived",))) == ["sae[k=2]"]
    assert cells(runs, RunQuery(tags=("best",))) == []


def test_statuses_and_sizes_are_summed_up() -> None:
    runs = [row(1, output={"bytes": 7}), row(2), row(3, output={"bytes": "many"})]
    assert status_counts(runs) == {"COMPLETED": 3}
    failed = [row_of(replace(run.run, status=status)) for run, status in zip(
        runs, ("ODD", "RUNNING", "FAILED"), strict=True)]  # fmt: skip
    assert list(status_counts(failed)) == ["RUNNING", "FAILED", "ODD"]
    assert total_size(runs) == 7
    assert runs_frame(runs, ["size"])["size"].tolist()[0] == 7


def test_results_of_a_kind_come_first_in_words() -> None:
    result = {"scale": 20.4, "k": 8, "best_accuracy": 0.9934, "final_dead": 1, "never_firing": 0}
    own = view(1, result=result, output={"schema": "sae"})
    assert headline_text(own) == "accuracy, spliced 99.3 % of held-out images; dead 1"
    assert runs_frame([row_of(own)], ["results"])["results"].tolist() == [headline_text(own)]
    assert headline(view(1, result=result, output={"schema": "another"})) == []
    assert headline(view(1, result={"best_accuracy": "odd"}, output={"schema": "sae"})) == []
    odd = headline(view(1, result={"best_accuracy": math.nan}, output={"schema": "sae"}))
    assert [number.value for number in odd] == ["–"]


def test_accuracies_of_a_run_say_on_which_images_they_were_measured() -> None:
    def told(schema: str, result: dict[str, Any], images: int = 100, **config: Any) -> str:
        output = {"schema": schema, "sizes": {"image": images}}
        return headline_text(view(1, result=result, config=config, output=output))

    both = {"accuracy": 0.9, "network_accuracy": 0.91, "alive_share": 0.5}
    line = told("concepts", {**both, "n_labelled": 100}, split="test")
    assert line == "accuracy, spliced 90 % of 100 test images; of the network 91 %; alive 50 %"
    line = told("concepts", {**both, "n_labelled": 80}, split="val")
    assert line.startswith("accuracy, spliced 90 % of 80 labelled val images; of the network 91 %;")
    assert told("concepts", both, split="test").startswith("accuracy, spliced 90 % of test images;")
    line = told("network", {"test_accuracy": 0.5, "n_labelled": 1}, 1, test_split="test")
    assert line == "accuracy 50 % of 1 test image"
    assert measured_on(view(1, result={"mean_score": 0.1}, output={"schema": "consistency"})) == ""
    line = told("sae", {"best_accuracy": 0.75, "n_held_out": 60})
    assert line == "accuracy, spliced 75 % of 60 held-out images"
    line = told("sae", {"best_accuracy": 0.75, "n_held_out": 60, "commonest_share": 0.5})
    assert line.endswith("75 % of 60 held-out images; always the commonest class 50 %")
    line = told("concepts", {**both, "n_labelled": 100, "commonest_share": 0.125}, split="test")
    assert line == (
        "accuracy, spliced 90 % of 100 test images; of the network 91 %; always the commonest "
        "class 12.5 %; alive 50 %"
    )


@pytest.mark.parametrize("schema", MAKERS)
def test_what_a_schema_tells_first_is_told_first_in_words(schema: str) -> None:
    first = load_stage(MAKERS[schema]).output.first
    told = view(1, result=dict.fromkeys(sorted(first), 0.5), output={"schema": schema})
    assert [number.label for number in headline(told)] == [WORDS[key][0] for key in first]


def test_running_runs_tell_how_far_they_are_and_how_long_it_takes() -> None:
    def told(number: int, status: str = "RUNNING", **own: Any) -> Row:
        return row_of(replace(view(number), status=status, cell="sae", **own))

    now = START + timedelta(minutes=10)
    rows = [told(9), told(8, "COMPLETED", seconds=120.0), told(7, "FAILED", seconds=1.0)]
    (live,) = live_runs(rows, lambda run: Progress(1, 4, "steps"), now)
    assert live.key == "uid-9"
    assert live.text == "sae: steps 1 of 4, running for 1 min, 25 %, about 3 min left"
    assert live.share == 0.25
    (silent,) = live_runs(rows, lambda run: None, now)
    assert silent.text == "sae: running for 1 min, about 1 min left"
    assert silent.share == 0.5
    (first,) = live_runs(rows[:1], lambda run: None, now)
    assert (first.text, first.share) == ("sae: running for 1 min", 0.0)
    assert len(live_runs([told(n) for n in range(20)], lambda run: None, now)) == MOST_LIVE


def test_losses_are_read_behind_the_back_of_who_looks(catalog: Catalog, rows: list[Row]) -> None:
    trained = next(row.run for row in rows if row.run.status == "COMPLETED"
                   and row.run.cell == "toy-sae[k=8]")  # fmt: skip
    sparks = Sparks()
    assert sparks.of(catalog, trained) is None
    sparks._pool.shutdown()
    found = sparks.of(catalog, trained)
    assert found is not None
    assert len(found) > 1
    assert sparks.version == 1
