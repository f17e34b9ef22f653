"""Arrays of every library give what labelled arrays of the same numbers give."""

from __future__ import annotations

import re
from pathlib import Path

import dask.array
import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr
from scipy import sparse

import evals
from evals.kernels.arrays import AlignmentError
from tests.evals import data

README = Path(__file__).parents[2] / "README.md"
METRICS = ["auprc", "iou", "correlation", "spearman_correlation_top_and_random"]

CONTAINERS = {
    "numpy": np.asarray,
    "list": lambda array: array.tolist(),
    "torch": torch.tensor,
    "torch on a graph": lambda array: torch.tensor(array, requires_grad=True),
    "torch sparse": lambda array: torch.tensor(array).to_sparse(),
    "pandas": pd.DataFrame,
    "csr": sparse.csr_array,
    "csc": sparse.csc_matrix,
    "dask": lambda array: dask.array.from_array(array, chunks=(50, 4)),
    "xarray without names": xr.DataArray,
}
"""What holds numbers without names of rows."""

ROWS = np.array([f"image-{i:03d}" for i in range(160)])
COLUMNS = [f"unit-{j}" for j in range(16)]
ACTIVATIONS, LABELS = data.activations(), data.labels()
BINARY = (LABELS >= 0.5).astype(float)
RIGHT = np.arange(16) % LABELS.shape[1]


@pytest.fixture(params=CONTAINERS)
def hold(request):
    """A container, as a function of a NumPy array."""
    return CONTAINERS[request.param]


def test_score_of_every_container(hold):
    expected = evals.score("auprc", ACTIVATIONS, LABELS, alpha=0.02)
    assert expected.dims == ("neuron", "concept")
    xr.testing.assert_identical(
        evals.score("auprc", hold(ACTIVATIONS), LABELS, alpha=0.02), expected
    )
    xr.testing.assert_identical(
        evals.score("auprc", ACTIVATIONS, hold(LABELS), alpha=0.02), expected
    )


@pytest.mark.slow
def test_many_scores_of_every_container(hold):
    pair, held = (ACTIVATIONS, LABELS), (hold(ACTIVATIONS), hold(LABELS))
    options = {"metrics": METRICS, "alphas": [0.02, 0.1]}
    expected = evals.score_matrix(*pair, **options)
    xr.testing.assert_identical(evals.score_matrix(*held, **options), expected)
    blocks = list(evals.score_blocks(*held, **options, block_size=5))
    assert [block.sizes["neuron"] for block in blocks] == [5, 5, 5, 1]
    np.testing.assert_allclose(
        evals.find_metric("auc")(*held, alpha=0.1), expected_auc(), rtol=1e-12
    )


def expected_auc() -> np.ndarray:
    return evals.score("auc", ACTIVATIONS, LABELS, alpha=0.1).values


@pytest.mark.slow
def test_one_concept_a_neuron_of_every_container(hold):
    sets = [BINARY, evals.corrupt_labels(BINARY, "missing").values]
    right = CONTAINERS["torch"](RIGHT)
    expected = evals.score_pairs(ACTIVATIONS, sets, RIGHT, ["iou"], evals.Parameters(alpha=0.1))
    held = [hold(labels) for labels in sets]
    found = evals.score_pairs(hold(ACTIVATIONS), held, right, ["iou"], evals.Parameters(alpha=0.1))
    xr.testing.assert_identical(found, expected)
    corrupted = evals.corrupt_labels(hold(BINARY), "missing")
    np.testing.assert_array_equal(corrupted, sets[1])


@pytest.mark.slow
def test_known_neurons_of_every_container(hold):
    options = evals.IdentificationOptions(alphas=(0.1,), n_splits=2)
    expected = evals.identify(ACTIVATIONS, LABELS, RIGHT, ["cosine", "iou"], options)
    found = evals.identify(hold(ACTIVATIONS), hold(LABELS), list(RIGHT), ["cosine", "iou"], options)
    xr.testing.assert_identical(found, expected)
    scores = evals.score("cosine", ACTIVATIONS, LABELS).fillna(0).values
    precision = evals.identification_auprc(hold(scores), RIGHT)
    assert precision == pytest.approx(evals.identification_auprc(scores, RIGHT))
    chosen = evals.choose_parameters(hold(ACTIVATIONS), hold(LABELS), RIGHT, ["iou"], [0.1, 0.2])
    assert chosen["alpha"].item() in (0.1, 0.2)


@pytest.mark.slow
def test_sanity_of_every_container(hold):
    options = evals.SanityOptions(alphas=(0.1,))
    names = [str(label) for label in RIGHT]
    expected = evals.experimental_sanity(ACTIVATIONS, BINARY, ["iou"], names, options=options)
    found = evals.experimental_sanity(
        hold(ACTIVATIONS), hold(BINARY), ["iou"], pd.Series(names), options=options
    )
    xr.testing.assert_identical(found, expected)


def test_names_of_every_container(hold):
    options = evals.NamingOptions(n_bootstrap=10, n_permutations=19)
    expected = evals.choose_names(ACTIVATIONS, LABELS, ["correlation", "cosine"], options)
    found = evals.choose_names(hold(ACTIVATIONS), hold(LABELS), ["correlation", "cosine"], options)
    xr.testing.assert_identical(found, expected)


def test_matching_of_every_container(hold):
    rng = np.random.default_rng(0)
    decoder, presence = rng.normal(size=(7, 16)), np.abs(ACTIVATIONS)
    order = rng.permutation(16)
    options = evals.MatchingOptions(n_null=1, n_bootstrap=10)
    one = evals.ConceptSet(hold(decoder), hold(presence))
    other = evals.ConceptSet(hold(decoder[:, order]), hold(presence[:, order]))
    matched = evals.match_sets(one, other, options)
    match = matched["match"].sel(basis="decoder").values[:13]  # the others are always the same
    np.testing.assert_array_equal(order[match], np.arange(13))
    assert matched["concept"].values.tolist() == list(range(16))


def test_consistency_of_every_container(hold):
    rng = np.random.default_rng(0)
    encodings, presence, centre = rng.normal(size=(30, 5)), rng.random(30), rng.normal(size=5)
    expected = evals.c2_score(encodings, presence, centre)
    assert evals.c2_score(hold(encodings), presence, centre) == pytest.approx(expected, rel=1e-12)
    for kind in (list, torch.tensor, pd.Series, xr.DataArray, dask.array.from_array):
        found = evals.c2_score(encodings, kind(presence), kind(centre))
        assert found == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("kind", [np.asarray, torch.tensor, dask.array.from_array])
def test_localisation_of_plain_arrays(kind):
    rng = np.random.default_rng(0)
    arrays = {"map": rng.random((2, 3, 4, 4)), "image": np.full((2, 3), "a", dtype=object)}
    arrays["image"][:, 1] = "b"
    masks = {
        "mask": rng.random((2, 1, 4, 4)) < 0.4,
        "carries": np.ones((2, 1, 1), dtype=bool),
        "image": ["a", "b"],
        "label": ["cat"],
    }
    held = {"map": kind(arrays["map"]), "image": arrays["image"]}
    kept = {**masks, "mask": kind(masks["mask"]), "carries": kind(masks["carries"])}
    options = evals.LocalisationOptions(n_bootstrap=10)
    expected = evals.localise(
        xr.Dataset({"map": (("concept", "rank", "y", "x"), arrays["map"])}).assign(
            image=(("concept", "rank"), arrays["image"])
        ),
        xr.Dataset(
            {
                "mask": (("image", "object", "y", "x"), masks["mask"]),
                "carries": (("image", "object", "label"), masks["carries"]),
            },
            {"image": masks["image"], "label": masks["label"]},
        ),
        xr.DataArray(["cat", ""], {"concept": [0, 1]}, "concept"),
        options,
    )
    xr.testing.assert_identical(evals.localise(held, kept, ["cat", ""], options), expected)
    assert expected["n_shown"].values.tolist() == [3, 0]


# -- names of rows ----------------------------------------------------------------------------


@pytest.mark.parametrize("column", ["image", "input"])
def test_a_column_names_the_rows_of_a_table_as_in_a_file(column):
    shuffled = np.random.default_rng(0).permutation(len(ROWS))
    frame = pd.DataFrame(ACTIVATIONS, ROWS, COLUMNS)
    labels = pd.DataFrame(LABELS, ROWS).iloc[shuffled]
    expected = evals.score("iou", frame, labels, alpha=0.1)
    tables = [each.rename_axis(column).reset_index() for each in (frame, labels)]
    xr.testing.assert_identical(evals.score("iou", *tables, alpha=0.1), expected)
    xr.testing.assert_identical(evals.score("iou", frame, tables[1], alpha=0.1), expected)
    other = frame.rename_axis("file").reset_index()
    with pytest.raises(
        TypeError, match=r"1 column holds others: 'file'; set_index\('file'\) names"
    ):
        evals.score("iou", other, labels, alpha=0.1)
    with pytest.raises(TypeError, match=r"labels: .* hold others: .*astype\(float\)"):
        evals.score("iou", frame, labels.astype(object), alpha=0.1)


def test_rows_of_pandas_join_by_name():
    shuffled = np.random.default_rng(0).permutation(160)
    frame = pd.DataFrame(ACTIVATIONS, ROWS, COLUMNS)
    labels = pd.DataFrame(LABELS, ROWS).iloc[shuffled]
    scores = evals.score("correlation", frame, labels)
    assert scores["neuron"].values.tolist() == COLUMNS
    np.testing.assert_array_equal(scores, evals.score("correlation", ACTIVATIONS, LABELS))
    named = xr.DataArray(LABELS, {"input": ROWS}, ("input", "concept"))[shuffled]
    np.testing.assert_array_equal(evals.score("correlation", frame, named), scores)
    with pytest.raises(AlignmentError, match="labels lack 1 "):
        evals.score("correlation", frame, labels.drop(index=ROWS[3]))


def test_the_default_index_of_pandas_is_no_name():
    kept = pd.DataFrame(LABELS).loc[::-1]  # an index of integers that somebody sorted: names
    with pytest.raises(AlignmentError, match="lack 160"):
        evals.score("cosine", pd.DataFrame(ACTIVATIONS, ROWS), kept.set_axis(np.arange(160) * 2))
    by_position = evals.score("cosine", pd.DataFrame(ACTIVATIONS, ROWS), pd.DataFrame(LABELS))
    np.testing.assert_array_equal(by_position, evals.score("cosine", ACTIVATIONS, LABELS))
    with pytest.raises(AlignmentError, match="160 and 159"):
        evals.score("cosine", pd.DataFrame(ACTIVATIONS, ROWS), LABELS[:-1])


def test_what_is_known_of_neurons_joins_by_name():
    frame = pd.DataFrame(ACTIVATIONS, ROWS, COLUMNS)
    right = pd.Series(RIGHT, COLUMNS)[::-1]
    options = evals.IdentificationOptions(alphas=(0.1,), n_splits=2)
    found = evals.identify(frame, LABELS, right, ["iou"], options)
    expected = evals.identify(ACTIVATIONS, LABELS, RIGHT, ["iou"], options)
    np.testing.assert_array_equal(found["right_rank"], expected["right_rank"])
    with pytest.raises(AlignmentError, match="nothing is known of 1 neuron: 'unit-15'"):
        evals.identify(frame, LABELS, right[1:], ["iou"], options)


def test_other_shapes_are_an_error_that_says_what_is_expected():
    with pytest.raises(
        AlignmentError, match=r"expected \('input', 'neuron'\); got an array of \(160,"
    ):
        evals.score("iou", ACTIVATIONS[:, 0], LABELS, alpha=0.1)
    levels = pd.MultiIndex.from_arrays([ROWS, ROWS])
    with pytest.raises(AlignmentError, match="input is named on 2 levels"):
        evals.score("iou", pd.DataFrame(ACTIVATIONS, levels), LABELS, alpha=0.1)
    with pytest.raises(TypeError, match="booleans or real numbers"):
        evals.score("iou", pd.DataFrame({"a": ["x", "y"]}), LABELS[:2], alpha=0.5)
    mixed = pd.DataFrame({"a": [True, False, True], "b": [0.5, 2.0, 1.0]})
    assert evals.score("cosine", mixed, np.eye(3)).shape == (2, 3)


# -- the README ---------------------------------------------------------------------------------


def test_the_snippets_of_the_readme_run():
    """Every line of the README that calls an evaluator, with plain arrays for its names."""
    rng = np.random.default_rng(0)
    names = {
        "evals": evals,
        "np": np,
        "activations": np.maximum(rng.normal(size=(200, 3)), 0),
        "labels": (rng.random((200, 4)) < 0.3).astype(float),
        "encodings": rng.normal(size=(20, 8)),
        "presence": rng.random(20),
    }
    calls = [
        line
        for block in re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
        for line in block.splitlines()
        if re.match(r"\w+ = evals\.", line)
    ]
    assert len(calls) >= 4
    for call in calls:
        exec(call, names)
    assert names["scores"].dims == ("neuron", "concept")
    assert set(names["table"].data_vars) == set(evals.list_metrics())
    assert "passed" in names["tests"]
    assert -1 <= names["consistency"] <= 1
