"""The command that prints the table of metrics."""

from __future__ import annotations

import csv
import io

import pytest
from click.testing import CliRunner

import evals
from evals.commands import metrics
from evals.metrics import table


@pytest.fixture(autouse=True)
def outside_a_project(monkeypatch, tmp_path):
    monkeypatch.delenv("FACTBOOK_PROJECT", raising=False)
    monkeypatch.chdir(tmp_path)


def printed(*arguments: str) -> str:
    done = CliRunner().invoke(metrics, arguments)
    assert done.exit_code == 0, done.output
    return done.output


def test_every_metric_is_one_line():
    lines = printed().splitlines()
    assert lines[0].split() == ["metric", "bounds", "needs", "family", "partner", "source"]
    assert [line.split()[0] for line in lines[1:]] == list(evals.list_metrics())
    wpmi = next(line for line in lines if line.startswith("wpmi"))
    assert "by data" in wpmi
    assert "alpha, lam" in wpmi
    assert "2201.11114" in wpmi


def test_the_table_as_values():
    rows = list(csv.DictReader(io.StringIO(printed("--csv"))))
    assert [row["metric"] for row in rows] == list(evals.list_metrics())
    assert rows[3]["bounds"] == "0, 1"
    assert rows[12]["units"] == "activation"
    assert all(row["title"] for row in rows)


def test_the_table_in_latex():
    lines = printed("iou", "inverse_auc", "--latex").splitlines()
    assert lines[0] == r"\begin{tabular}{llllll}"
    assert lines[4].startswith("iou & 0, 1 & alpha & contingency & iou & Bau et al. 2017")
    assert lines[5].startswith(r"inverse\_auc & 0, 1 &  & statistics & auc & ")
    assert all(line.endswith(r"\\") for line in lines[4:6])


def test_some_in_full():
    told = printed("auprc", "mad")
    one, other = told.split("\n\nmad\n")
    assert one.startswith("auprc\n  Average precision of the label as a score of active inputs.\n")
    assert "partner: inverse_auprc" in one
    assert "units:   activation" in other
    assert "bounds:  by data" in other
    assert "partner: none" in other


def test_an_unknown_name():
    done = CliRunner().invoke(metrics, ["iuo"])
    assert done.exit_code == 2
    assert "unknown metric 'iuo'; did you mean 'iou'" in done.output


def test_a_strangers_metric_is_in_the_table(monkeypatch):
    monkeypatch.setattr(table, "_TABLE", dict(evals.list_metrics()))
    evals.metric("plain")(lambda activations, labels: activations.T @ labels)
    lines = printed().splitlines()
    assert lines[-1].split() == ["plain", "by", "data", "arrays"]
    assert "source:  not given" in printed("plain")
