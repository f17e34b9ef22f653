"""Rows that were only counted join nothing, unless it is declared that they belong together."""

from __future__ import annotations

import contextlib
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import evals
from evals.scoring.labelled import AlignmentError, pair_datasets
from fact.data import tables
from registry.execute.schedule import run_plan
from registry.plan.project import open_project
from registry.record.states import State

N_ROWS = 300
RNG = np.random.default_rng(0)
LABELS = (RNG.random((N_ROWS, 3)) < 0.3).astype(float)
NEURONS = LABELS + 0.01 * RNG.random((N_ROWS, 3))

DECLARATION = """
[datasets.neurons]
kind = "array-file"
path = "neurons.npy"

[datasets.shared]
kind = "array-file"
path = "neurons.npy"
rows = "ours"

[datasets.shared-truth]
kind = "array-file"
path = "truth.npy"
rows = "ours"

[datasets.shared-shortened]
kind = "array-file"
path = "shortened.npy"
rows = "ours"

[datasets.shortened]
kind = "array-file"
path = "shortened.npy"

[datasets.truth]
kind = "array-file"
path = "truth.npy"

[experiments.labels]
stage = "fact.import_labels"
needs = { arrays = "truth" }

[experiments.counted]
stage = "fact.import_activations"
needs = { arrays = "neurons" }

[experiments.shorter]
stage = "fact.import_activations"
needs = { arrays = "shortened" }

[experiments.joined]
stage = "fact.import_activations"
needs = { arrays = "shared" }

[experiments.too-short]
stage = "fact.import_activations"
needs = { arrays = "shared-shortened" }

[experiments.shared-labels]
stage = "fact.import_labels"
needs = { arrays = "shared-truth" }
"""
SCORES = """
[experiments.scores-{name}]
stage = "{stage}"
needs = {{ activations = "{name}", labels = "{labels}" }}
config = {{ {config} }}
"""
STAGES = {
    "evals.score_explanations": 'metrics = ["auprc"], alpha = 0.3',
    "evals.name_concepts": 'metrics = ["auprc"], n_bootstrap = 2',
    "evals.identify_neurons": 'metrics = ["auprc"], n_splits = 1',
    "evals.sanity_check": 'metrics = ["auprc"], n_inputs = 100, frequencies = [0.1], n_draws = 2',
}


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """The message of every experiment: "" where it completed."""
    root: Path = tmp_path_factory.mktemp("rows")
    np.save(root / "neurons.npy", NEURONS)
    np.save(root / "shortened.npy", NEURONS[1:])
    np.save(root / "truth.npy", LABELS)
    stage, declared = "evals.score_explanations", DECLARATION
    for name in ("joined", "too-short"):
        declared += SCORES.format(
            name=name, stage=stage, config=STAGES[stage], labels="shared-labels"
        )
    for name in ("counted", "shorter"):
        for stage, config in STAGES.items():
            text = SCORES.format(name=name, stage=stage, config=config, labels="labels")
            declared += text.replace("scores-", f"{stage.split('.')[1].replace('_', '-')}-")
    (root / "experiments.toml").write_text(declared)
    project = open_project(root)
    with contextlib.chdir(root):
        ran = run_plan(project, project.plan(), runner="here", journal_only=True)
    found = {one.name: "" if one.ending is State.COMPLETED else str(one.message) for one in ran}
    return found, root


def test_the_declaration_joins_them(outcomes):
    found, root = outcomes
    assert found["scores-joined"] == ""
    [path] = (root / "artifacts/scores-joined").glob("*/current")
    with xr.open_dataset(path, engine="factbook") as scores:
        expected = evals.score("auprc", NEURONS.astype(np.float32), LABELS, alpha=0.3)
        np.testing.assert_array_equal(scores.score.values[:, 0], expected)


@pytest.mark.parametrize("stage", STAGES)
def test_every_evaluator_refuses_what_was_counted(outcomes, stage):
    found, _ = outcomes
    stem = stage.split(".")[1].replace("_", "-")
    told = found[f"{stem}-counted"]
    assert "the 300 rows of 'counted' were only counted, and so join none of 'labels'" in told
    assert 'by the same word, rows = "…" in [datasets.neurons] and [datasets.truth]' in told
    told = found[f"{stem}-shorter"]
    assert "the 299 rows of 'shorter' were only counted, and so join none of 'labels'" in told
    assert "which has 300: name the rows of both" in told


def test_a_table_without_its_first_row_is_none_of_another(outcomes):
    told = outcomes[0]["scores-too-short"]
    assert "the 299 rows of 'too-short' were only counted, and so join none of 'shared-lab" in told


def old_import(stage: str, values: np.ndarray, ids: list[str]) -> xr.Dataset:
    """A dataset as it was written when rows were numbered alike."""
    made = (
        tables.activation_part(values.astype(np.float32), np.array(ids))
        if stage == "activations"
        else tables.label_part(values, np.array(ids), ["a", "b", "c"])
    )
    attrs = {"source": f"fact.import_{stage} version 1", "experiment": f"old-{stage}"}
    return made.assign_attrs({**attrs, "inputs": {"arrays": {"name": "file"}}})


def test_datasets_that_were_numbered_alike_do_not_join_either():
    ids = [f"test/{row:05d}" for row in range(N_ROWS)]
    old = old_import("activations", NEURONS, ids), old_import("labels", LABELS, ids)
    with pytest.raises(AlignmentError, match="rows of 'old-activations' were only counted"):
        pair_datasets(*old, "")
    named = [f"test/image-{row}" for row in range(N_ROWS)]
    pair = old_import("activations", NEURONS, named), old_import("labels", LABELS, named)
    assert pair_datasets(*pair, "")[0].sizes["input"] == N_ROWS
    said = [one.assign_attrs(row_names="file") for one in old]  # by the file, it says
    assert pair_datasets(*said, "")[0].sizes["input"] == N_ROWS


@pytest.mark.parametrize(
    ("name", "first"), [("img_{:05d}", 0), ("test/img_{:05d}.png", 1), ("a 1-{}", 0)]
)
def test_names_that_look_counted_are_told_where_tables_are_of_other_lengths(name, first, capsys):
    names = [name.format(first + row) for row in range(N_ROWS)]
    shorter = old_import("activations", NEURONS[1:], names[:-1])
    labels = old_import("labels", LABELS, names)
    assert pair_datasets(shorter, labels, "")[0].sizes["input"] == N_ROWS - 1
    told = capsys.readouterr().out
    assert told.startswith(f"Names that look counted, as {names[0]!r}, joined 299 rows of activat")
    assert "to 300 rows of labels" in told
    assert "a table of labels of these 299 rows alone" in told
    pair_datasets(old_import("activations", NEURONS, names), labels, "")  # as many
    declared = shorter.assign_attrs(source="fact.collect_activations version 1")
    pair_datasets(declared, labels, "")  # images of a data set that is declared
    gaps = [*names[:9], *names[10:]]
    pair_datasets(old_import("activations", NEURONS[1:], gaps), labels, "")
    assert capsys.readouterr().out == ""


def test_rows_that_a_file_names_by_counts_do_not_join():
    """As imports wrote them that took a count for names, which is what their attribute says."""
    counts = [str(row) for row in range(N_ROWS)]
    old = (
        old_import("activations", NEURONS[1:], counts[:-1]).assign_attrs(row_names="file"),
        old_import("labels", LABELS, counts).assign_attrs(row_names="file"),
    )
    with pytest.raises(AlignmentError, match=r"299 rows of .* only counted.* has 300: .*not by"):
        pair_datasets(*old, "")


def test_counted_rows_are_to_be_named_where_the_others_are():
    """The same word is refused of a file that names its rows."""
    named = [f"im{row}.jpg" for row in RNG.permutation(N_ROWS)]
    counts = [f"test/labels {row:05d} of {N_ROWS}" for row in range(N_ROWS)]
    own = old_import("activations", NEURONS, named).assign_attrs(row_names="file")
    labels = old_import("labels", LABELS, counts).assign_attrs(row_names="counted")
    for pair in ((own, labels), (own.isel(image=slice(1, None)), labels)):
        with pytest.raises(AlignmentError, match="only counted") as told:
            pair_datasets(*pair, "")
        remedy = "an array 'image' in the file, or by rows = \"ids.txt\" in [datasets.file]"
        assert str(told.value).endswith(remedy)
        assert "same word" not in str(told.value)


def test_in_a_call_plain_arrays_join_by_position_where_they_are_as_many():
    assert np.isfinite(evals.score("auprc", NEURONS, LABELS, alpha=0.3)).all()
    with pytest.raises(AlignmentError, match="are of 299 and 300 inputs, not named"):
        evals.score("auprc", NEURONS[1:], LABELS, alpha=0.3)


MOVED = np.random.default_rng(1).permutation(N_ROWS)


@pytest.mark.parametrize(
    "names", [range(N_ROWS), np.arange(float(N_ROWS)), [str(row) for row in range(N_ROWS)]]
)
def test_rows_that_were_moved_join_nothing_without_names(names):
    """By whatever numbers an index tells it; the others are in the order of 0, 1, 2."""
    moved = pd.DataFrame(NEURONS, pd.Index(names)).iloc[MOVED]
    labelled = xr.DataArray(moved.to_numpy(), {"input": list(moved.index)}, ("input", "neuron"))
    for one in (moved, labelled):
        for other in (LABELS, pd.DataFrame(LABELS)):
            with pytest.raises(AlignmentError, match=r"\.to_numpy\(\) says so|reset_index"):
                evals.score("correlation", one, other)
    whole = evals.score("correlation", NEURONS, LABELS)
    same = pd.DataFrame(LABELS, pd.Index(names)).iloc[::-1]
    np.testing.assert_allclose(evals.score("correlation", moved, same), whole)
    plain = evals.score("correlation", moved.to_numpy(), LABELS[MOVED])
    np.testing.assert_allclose(plain, whole)
    with pytest.raises(AlignmentError, match=r"labels.to_numpy\(\) says so"):
        evals.score("correlation", NEURONS, pd.DataFrame(LABELS)[::-1])


def test_rows_that_one_array_names_join_by_position_with_a_warning():
    images = [f"test/{row}" for row in range(N_ROWS)]
    named = pd.DataFrame(NEURONS, images)
    labelled = xr.DataArray(NEURONS, {"image": images}, ("image", "concept"))
    shortened = pd.DataFrame(NEURONS).iloc[1:]
    pairs = [(named, LABELS), (named, pd.DataFrame(LABELS)), (labelled, LABELS)]
    for one, other in (*pairs, (shortened, LABELS[1:])):
        with pytest.warns(UserWarning, match="rows join by position.*to_numpy") as told:
            evals.score("correlation", one, other)
        assert told[0].filename == __file__
        with pytest.warns(UserWarning, match="rows join by position") as told:
            evals.score_matrix(one, other, ["correlation"])
        assert told[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        evals.score("correlation", pd.DataFrame(NEURONS, [*range(N_ROWS)]), LABELS)
        evals.score("correlation", named.to_numpy(), LABELS)


def test_frames_that_lost_other_rows_do_not_join_by_position():
    neurons, labels = pd.DataFrame(NEURONS), pd.DataFrame(LABELS)
    for one, other in (
        (neurons[1:], labels[:-1]),
        (neurons[1:], labels[:-1].reset_index(drop=True)),
        (neurons.drop(index=7), labels[:-1]),
    ):
        with pytest.raises(AlignmentError, match=r"number their rows .*reset_index\(drop=True\)"):
            evals.score("auprc", one, other, alpha=0.3)
    same = evals.score("auprc", neurons[1:], labels[1:], alpha=0.3)
    np.testing.assert_array_equal(same, evals.score("auprc", NEURONS[1:], LABELS[1:], alpha=0.3))
    named = evals.score("auprc", neurons.drop(index=7), labels.drop(index=7)[::-1], alpha=0.3)
    assert np.isfinite(named).all()


def test_a_metric_that_is_called_joins_no_rows_of_other_names():
    correlation = evals.find_metric("correlation")
    rng = np.random.default_rng(0)
    ids = [f"photo {number}" for number in range(60)]
    a = pd.DataFrame(rng.normal(size=(60, 3)), ids)
    c = pd.DataFrame((rng.random((60, 2)) < 0.4).astype(float), ids)
    expected = evals.score("correlation", a, c).to_numpy()
    np.testing.assert_allclose(correlation(a, c), expected)
    np.testing.assert_allclose(correlation(a.to_numpy(), c.iloc[::-1][::-1]), expected)
    counted = a.reset_index(drop=True), c.reset_index(drop=True)
    for other in (
        (a, c.sample(frac=1, random_state=0)),
        (counted[0].iloc[1:], counted[1].iloc[:-1]),
        (counted[0].iloc[1:], counted[1].iloc[1:].reset_index(drop=True)),
    ):
        with pytest.raises(AlignmentError, match=r"evals\.score joins them by name"):
            correlation(*other)
