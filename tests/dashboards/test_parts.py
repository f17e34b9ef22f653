"""What pages and reports are made of, and what can be downloaded of it."""

from __future__ import annotations

import csv
import io
import xml.etree.ElementTree as ElementTree

import numpy as np
import pandas as pd
import pytest

from dashboards.screens.parts import ROOM, as_shown, columns_of, widths_of
from dashboards.views.parts import charts
from dashboards.views.parts.parts import PADDING, Figure, Table, file_name
from registry.columns import BYTES, DURATION, Column
from registry.terminal import escape_latex

HOSTILE = r"50 % of a_b & {c} $x$ #1 ~ ^ \input{/etc/passwd} <script>"
FRAME = pd.DataFrame(
    {"metric": ["iou", HOSTILE], "score": [0.123456789012345, np.nan], "share": [0.5, 1.0]}
)
TABLE = Table(
    "scores", FRAME, columns={"score": Column(".3f", "score (1)"), "share": Column(".1%")}
)


def test_csv_keeps_every_digit() -> None:
    rows = list(csv.DictReader(io.StringIO(TABLE.csv())))
    assert [row["metric"] for row in rows] == ["iou", HOSTILE]
    assert float(rows[0]["score"]) == 0.123456789012345
    assert rows[1]["score"] == ""


def test_latex_shows_what_the_page_shows() -> None:
    lines = TABLE.latex().splitlines()
    assert lines[0] == r"\begin{tabular}{lrr}"
    assert lines[2] == r"metric & score (1) & share \\"
    assert lines[4] == r"iou & 0.123 & 50 \% \\"
    assert lines[5].endswith(r"& -- & 100 \% \\")


@pytest.mark.parametrize("letter", list(r"\{}$&#^_%~"))
def test_no_letter_of_a_text_acts_in_latex(letter: str) -> None:
    escaped = escape_latex(f"a{letter}b")
    for harmless in (r"\textbackslash{}", r"\textasciicircum{}", r"\textasciitilde{}"):
        escaped = escaped.replace(harmless, "")
    assert escaped.replace(f"\\{letter}", "") == "ab"


def test_columns_fit_into_a_page_and_the_widest_are_narrowed() -> None:
    names = [f"fashion-sae[k=16,seed={seed}]" for seed in range(20)] + ["fashion-sae-much-wider"]
    frame = pd.DataFrame({"task": names, "reason": "changed " * 30, "other": "changed " * 40})
    frame = frame.assign(took=np.arange(21.0), size=np.nan)
    columns = {"took": Column(DURATION), "size": Column(BYTES)}
    widths = widths_of(frame, columns)
    assert sum(widths.values()) <= ROOM < sum(widths.values()) + 5
    assert widths["reason"] - widths["other"] in (-1, 0)
    assert widths["task"] > 6.5 * len(names[-2])
    assert widths["size"] < widths["took"] < widths["task"] < widths["reason"]
    few = frame[["task", "size"]]
    assert widths_of(few, columns) == {name: widths[name] for name in few}
    assert columns_of(Table("t", few, columns=columns))["task"]["width"] == widths["task"]


def test_sizes_are_told_in_units_that_a_person_uses() -> None:
    table = Table("t", pd.DataFrame({"size": [88_400, None]}), columns={"size": Column(BYTES)})
    assert table.texts()["size"].tolist() == ["86.3 KiB", "–"]
    assert columns_of(table)["size"]["type_config"]["format"] == "bytes"
    assert as_shown(pd.DataFrame({"size": [None, ""]}), table.columns)["size"].isna().all()


def test_names_of_files_lead_nowhere_else() -> None:
    assert file_name("../../etc/passwd", "[k=8]") == "etc-passwd-k-8"
    assert file_name("..") == "factbook"


def test_figures_are_drawn_without_a_browser() -> None:
    frame = pd.DataFrame(
        {
            "label": ["a<b", HOSTILE],
            "value": [0.25, 0.5],
            "low": [0.2, 0.4],
            "high": [0.3, 0.6],
            "mark": [0.3, np.nan],
        }
    )
    svg = Figure("f", charts.bars(frame, x_title="score (1)", mark="published")).svg()
    told = "".join(ElementTree.fromstring(svg).itertext())
    assert "score (1)" in told
    assert "a<b" in told
    assert "<script>" not in svg


def test_a_waterfall_ends_at_its_total() -> None:
    frame = pd.DataFrame(
        {
            "label": ["one", "two", "three", "logit"],
            "value": [2.0, -0.5, 1.0, 2.5],
            "kind": ["for", "against", "for", "total"],
        }
    )
    chart = charts.waterfall(frame, x_title="logit")
    assert chart.to_dict()["padding"]["right"] > PADDING["right"], "for numbers beside bars"
    data = chart.data
    assert data["start"].tolist() == [0.0, 2.0, 1.5, 0.0]
    assert data["end"].tolist() == [2.0, 1.5, 2.5, 2.5]


def test_histograms_mark_what_is_compared() -> None:
    frame = pd.DataFrame({"low": [0.0, 0.5], "high": [0.5, 1.0], "value": [0.25, 0.75]})
    chart = charts.histogram(frame, x_title="score", rules=[("random maps", 0.1)])
    assert "random maps" in Figure("h", chart).svg()
