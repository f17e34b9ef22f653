"""Every metric of the table keeps what it owes, an installed stranger's too."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import evals
from evals.commands import metrics
from evals.kernels.statistics import divide
from evals.metrics import table
from evals.metrics.conformance import CHECKS, examine

README = Path(__file__).parents[3] / "README.md"


@pytest.mark.parametrize("name", list(evals.list_metrics()))
@pytest.mark.slow
def test_every_metric_keeps_what_it_owes(name):
    assert examine(name) == []


@pytest.fixture
def register(monkeypatch):
    monkeypatch.setattr(table, "_TABLE", dict(evals.list_metrics()))

    def add(function, **options):
        return evals.metric("stranger", **options)(function)

    return add


def mean_difference(activations, labels):
    """Mean activation weighted by labels, less the plain mean."""
    return divide(activations.T @ labels, labels.sum(axis=0)) - activations.mean(axis=0)[:, None]


def test_a_strangers_metric_that_keeps_it(register):
    register(mean_difference)
    assert examine("stranger") == []


def test_the_metric_that_the_readme_adds_runs_as_it_stands(monkeypatch):
    monkeypatch.setattr(table, "_TABLE", dict(evals.list_metrics()))
    blocks = README.read_text().split("```python\n")[1:]
    [code] = [block.split("```")[0] for block in blocks if '@metric("overlap"' in block]
    exec(code, {"__name__": "stranger"})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert examine("overlap") == []
        silent = np.zeros((20, 1)), np.arange(20)[:, None] < 3
        assert np.isnan(evals.find_metric("overlap")(*silent, alpha=0.1)).all()


def correlate(activations, labels):
    n_neurons = activations.shape[1]
    return np.corrcoef(activations.T, labels.T)[:n_neurons, n_neurons:]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_numpys_correlation_keeps_it(register):
    register(correlate, bounds=(-1, 1))
    assert examine("stranger") == []


def divide_by_nothing(activations, labels):
    with np.errstate(divide="ignore", invalid="ignore"):
        return (np.abs(activations).T @ np.ones_like(labels)) / labels.sum(axis=0)


def weigh_by_place(activations, labels):
    return (activations * np.arange(len(activations))[:, None]).T @ labels


def rank_among_neurons(activations, labels):
    product = activations.T @ labels
    return product.argsort(axis=0).argsort(axis=0).astype(float)


def share_among_concepts(activations, labels):
    product = np.abs(activations).T @ labels
    return product / product.sum(axis=1, keepdims=True).clip(1e-9)


def draw_anew(activations, labels):
    drawn = np.random.default_rng().integers(len(activations), size=20)
    return activations[drawn].T @ labels[drawn]


def double_labels(activations, labels):
    labels *= 2
    return activations.T @ labels


@pytest.mark.parametrize(
    ("function", "options", "check", "message"),
    [
        (divide_by_nothing, {}, "finite", "scores are infinite"),
        (lambda a, c: a.T @ c, {"bounds": (-1, 1)}, "bounds", "expected -1 to 1"),
        (lambda a, c: 2 * correlate(a, c), {"bounds": (-1, 1)}, "bounds", "expected -1 to 1"),
        (weigh_by_place, {}, "order", "another order of inputs"),
        (rank_among_neurons, {}, "blocks", "beside others than alone"),
        (share_among_concepts, {}, "concepts", "beside others than alone"),
        (draw_anew, {}, "repeated", "draw by needs"),
        (double_labels, {}, "untouched", "are changed"),
        (mean_difference, {"partner": "stranger"}, "partner", "is not 'stranger'"),
        (lambda a, c: (a.T @ c).T, {}, "scores", "returned shape"),
        (lambda a, c: 1 / 0, {}, "scores", "ZeroDivisionError"),
    ],
)
def test_what_is_not_kept_is_told(register, function, options, check, message):
    register(function, **options)
    told = [fault for fault in examine("stranger") if fault.startswith(f"{check}: ")]
    assert any(message in fault for fault in told)


def test_every_check_finds_something():
    """But for what only the kernels behind a formula can tell apart."""
    tried = {"finite", "bounds", "order", "blocks", "concepts", "repeated", "untouched", "partner"}
    assert set(CHECKS) - {"containers", "redrawn"} == tried


def test_the_command_checks(register, monkeypatch, tmp_path):
    monkeypatch.delenv("FACTBOOK_PROJECT", raising=False)
    monkeypatch.chdir(tmp_path)
    register(weigh_by_place)
    done = CliRunner().invoke(metrics, ["iou", "stranger", "--check"])
    assert done.exit_code == 1
    assert done.output.startswith("iou: no faults\nstranger: ")
    assert "\n  order: another order of inputs gives other scores" in done.output
    assert CliRunner().invoke(metrics, ["iou", "--check"]).exit_code == 0
