"""The stages: what they read, what they write, how they go on after being stopped."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import dask
import numpy as np
import pytest
import xarray as xr

import evals
import registry
from dashboards.views.concepts.labels import PREFERRED
from evals import name_concepts, schemas, score_explanations
from evals.metrics import table
from evals.metrics.tolerance import FAULTY, SILENT, faults_of_parts
from evals.sanity.protocol import FORMS
from registry.declare.faults import ConfigError
from tests.evals.runs import FakeInput, FakeRun
from tests.in_parts import closed_over

N_IMAGES, N_CONCEPTS = 300, 12
PART = 7  # concepts of the first of two parts, where results are written in parts
LABEL_NAMES = ["red", "square", "striped", "left", "never"]


def make_datasets() -> tuple[xr.Dataset, xr.Dataset]:
    """Concepts that each detect one label, concept 0 dead; labels of more images, shuffled."""
    rng = np.random.default_rng(0)
    images = [f"test/{i:05d}" for i in range(N_IMAGES)]
    labels = rng.random((N_IMAGES, 5)) < 0.2
    labels[:, 4] = False
    cause = np.arange(N_CONCEPTS) % 4
    presence = rng.gamma(2, size=(N_IMAGES, N_CONCEPTS)) * labels[:, cause]
    presence += rng.gamma(1, size=presence.shape) * (rng.random(presence.shape) < 0.05)
    presence[:, 0] = 0
    concepts = xr.Dataset(
        {
            "presence": (("image", "concept"), presence.astype(np.float32)),
            "contribution": (("image", "concept"), -presence.astype(np.float32)),
            "prediction": ("image", np.zeros(N_IMAGES, dtype=np.int64)),
        },
        {"image": images, "concept": np.arange(N_CONCEPTS)},
    )
    more = xr.Dataset(
        {"present": (("input", "label"), np.vstack([labels, labels[:50]]))},
        {"input": [*images, *(f"train/{i:05d}" for i in range(50))], "label": LABEL_NAMES},
    )
    return concepts, more.isel(input=rng.permutation(N_IMAGES + 50))


@pytest.fixture
def inputs(tmp_path):
    concepts, labels = make_datasets()
    return {
        "activations": FakeInput.of(concepts, tmp_path / "concepts.nc"),
        "labels": FakeInput.of(labels, tmp_path / "labels.nc"),
    }


@pytest.mark.slow
def test_scores_follow_their_schema(inputs, tmp_path):
    run = FakeRun(tmp_path / "run", schemas.SCORES)
    scores = score_explanations.stage(score_explanations.Config(), inputs, run)
    schemas.SCORES.check(scores)
    concepts, labels = make_datasets()
    labels = labels.present.sel(input=concepts.image.values)
    for name in score_explanations.Config().metrics:
        expected = evals.score(name, concepts.presence, labels, alpha=0.02)
        got = scores.score.sel(metric=name)
        np.testing.assert_array_equal(got, expected)
        assert scores.undefined.sel(metric=name).sum() == expected.attrs["undefined"]
        bounds = scores[["lower", "upper"]].sel(metric=name).to_array().values
        np.testing.assert_array_equal(bounds, evals.find_metric(name).bounds or (np.nan, np.nan))
    assert scores.n_inputs == N_IMAGES
    assert scores.concept.values.tolist() == LABEL_NAMES
    assert scores.undefined_share == pytest.approx(float(scores.score.isnull().mean()))
    np.testing.assert_allclose(scores.labelled_share, labels.mean("input"))
    assert run.told[-1] == (N_CONCEPTS, N_CONCEPTS, "neurons")


@pytest.mark.slow
def test_many_scores_are_written_in_parts_and_resumed(inputs, tmp_path, monkeypatch):
    config = score_explanations.Config(metrics=("iou", "cosine"))
    whole = score_explanations.stage(config, inputs, FakeRun(tmp_path, schemas.SCORES))
    monkeypatch.setattr("evals.scoring.scoring.SHARDED_FROM", 10)
    monkeypatch.setattr("evals.kernels.blocks.BLOCK_VALUES", 5 * N_IMAGES)
    run = FakeRun(tmp_path / "parts", schemas.SCORES)

    def stop_after_the_first(done, total, what):
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "progress", stop_after_the_first)
    with pytest.raises(KeyboardInterrupt):
        score_explanations.stage(config, inputs, run)
    assert run.shards().done == (0,)
    again = FakeRun(tmp_path / "parts", schemas.SCORES)
    shards = score_explanations.stage(config, inputs, again)
    assert [done for done, _, _ in again.told] == [10, 12]
    assert shards.sizes == {"neuron": N_CONCEPTS, "metric": 2, "concept": 5}
    paths = sorted((tmp_path / "parts").glob("part-*.nc"))
    parts = xr.concat([registry.open_dataset(path) for path in paths], "neuron")
    xr.testing.assert_equal(parts.load(), whole[["score", "undefined"]])
    assert shards.scalars["undefined_share"]["value"] == whole.undefined_share.item()
    finished = score_explanations.stage(config, inputs, FakeRun(tmp_path / "parts", schemas.SCORES))
    assert finished.content == shards.content
    monkeypatch.setattr("evals.kernels.blocks.BLOCK_VALUES", 3 * N_IMAGES)
    closed = closed_over(
        lambda run: score_explanations.stage(config, inputs, run),
        lambda: FakeRun(tmp_path / "runs", schemas.SCORES),
        3,
    )
    assert (closed.content, closed.rows) == (shards.content, (3, 3, 3, 3))


def test_a_gap_in_the_scores_is_filled_alone(inputs, tmp_path, monkeypatch):
    monkeypatch.setattr("evals.scoring.scoring.SHARDED_FROM", 1)
    monkeypatch.setattr("evals.scoring.scoring.most_neurons", lambda n_inputs: 3)
    config = score_explanations.Config(metrics=("iou",), alpha=0.1)
    whole = score_explanations.stage(config, inputs, FakeRun(tmp_path, schemas.SCORES))
    (tmp_path / "part-000001.nc").unlink()
    again = FakeRun(tmp_path, schemas.SCORES)
    assert score_explanations.stage(config, inputs, again).content == whole.content
    assert [done for done, _, _ in again.told] == [6]


@pytest.mark.slow
def test_names_follow_their_schema_and_find_the_cause(inputs, tmp_path):
    run = FakeRun(tmp_path, schemas.NAMES)
    config = name_concepts.Config(alpha=0.1, n_bootstrap=30, n_permutations=19)
    names = name_concepts.stage(config, inputs, run)
    schemas.NAMES.check(names)
    cause = np.array(LABEL_NAMES)[np.arange(N_CONCEPTS) % 4]
    assert names.metric.values.tolist() == list(evals.list_metrics())
    assert (names.name[1:].sel(metric=list(PREFERRED)) == cause[1:, None]).all()
    assert (names.consensus[1:] == cause[1:]).all()
    assert (names.name[0] == "").all()
    assert run.told[-1] == (N_CONCEPTS, N_CONCEPTS, "concepts")
    assert names.n_choosing == names.n_scoring == N_IMAGES // 2
    assert names.n_rare_labels == 1
    voters = set(names.metric.values[names.votes.values])
    assert set(PREFERRED) <= voters < set(names.metric.values)
    assert (names.verdict != "untested").all()  # the exact tests are run where none is given
    assert names.sanity_forms.item() == "theoretical"
    assert (names.n_permutations, names.n_tested) == (19, N_CONCEPTS)
    assert (names.consensus_chance[1:] == "above chance").all()


@pytest.mark.slow
def test_names_of_many_concepts_are_written_in_parts_and_resumed(inputs, tmp_path, monkeypatch):
    config = name_concepts.Config(metrics=("iou", "cosine"), n_bootstrap=10, n_permutations=19)
    whole = name_concepts.stage(config, inputs, FakeRun(tmp_path, schemas.NAMES))
    monkeypatch.setattr("evals.naming.naming.PART_VALUES", 5 * N_IMAGES)
    run = FakeRun(tmp_path / "parts", schemas.NAMES)

    def stop_in_the_second(done, total, what):
        if what == "concepts" and done > 5:
            raise KeyboardInterrupt

    monkeypatch.setattr(run, "progress", stop_in_the_second)
    with pytest.raises(KeyboardInterrupt):
        name_concepts.stage(config, inputs, run)
    assert run.shards().done == (0,)
    again = FakeRun(tmp_path / "parts", schemas.NAMES)
    shards = name_concepts.stage(config, inputs, again)
    assert next(done for done, _, what in again.told if what == "concepts") == 10
    assert shards.rows == (5, 5, 2)
    paths = sorted((tmp_path / "parts").glob("part-*.nc"))
    parts = xr.concat([registry.open_dataset(p).load() for p in paths], "concept", data_vars="all")
    for name, variable in parts.data_vars.items():
        if variable.dtype.kind == "f":
            np.testing.assert_allclose(variable, whole[name], rtol=1e-12, err_msg=name)
        else:
            np.testing.assert_array_equal(variable.values, whole[name].values, err_msg=name)
    with xr.open_dataset(tmp_path / "parts" / "summary.nc", engine="h5netcdf") as summary:
        assert summary.n_silent == whole.n_silent == 1
        assert summary.consensus_share == whole.consensus_share
        assert summary.verdict.values.tolist() == ["passes"] * 2
        assert summary.consensus_at_chance_share == whole.consensus_at_chance_share


class Flaky:
    """A metric of one's own that fails while it is told to, and counts how often it is asked."""

    def __init__(self):
        self.is_broken, self.asked = False, 0

    def __call__(self, activations, labels):
        self.asked += 1
        if self.is_broken:
            raise ZeroDivisionError("out of order")
        return activations.T @ labels / len(labels)


class StoppedError(Exception):
    """A run was stopped."""


def stop_at(run: FakeRun, of: str, done: int) -> FakeRun:
    """Return a run that is stopped when more than so much is done."""

    def progress(now: int, total: int, what: str) -> None:
        FakeRun.progress(run, now, total, what)
        if what == of and now > done:
            raise StoppedError

    run.progress = progress
    return run


@pytest.fixture
def flaky(monkeypatch):
    monkeypatch.setattr(table, "_TABLE", dict(evals.list_metrics()))
    flaky = Flaky()
    evals.metric("flaky")(lambda activations, labels: flaky(activations, labels))
    return flaky


def read_parts(folder):
    paths = sorted(folder.glob("part-*.nc"))
    return xr.concat([registry.open_dataset(p).load() for p in paths], "concept", data_vars="all")


@pytest.mark.parametrize("when", ["permutations", "concepts"])
@pytest.mark.slow
def test_a_resumed_run_remembers_which_metric_failed_and_what_chance_gave(
    inputs, tmp_path, monkeypatch, flaky, capsys, when
):
    config = name_concepts.Config(metrics=("iou", "flaky"), n_bootstrap=0, n_permutations=19)
    monkeypatch.setattr("evals.naming.naming.PART_VALUES", PART * N_IMAGES)
    if when == "permutations":  # two chunks; the second is not tested to its end
        monkeypatch.setattr("evals.naming.chance.CHUNK_VALUES", PART * N_IMAGES)
    flaky.is_broken = True
    stopped = stop_at(FakeRun(tmp_path, schemas.NAMES), when, {"permutations": 19}.get(when, PART))
    with pytest.raises(StoppedError):
        name_concepts.stage(config, inputs, stopped)
    flaky.is_broken, flaky.asked = False, 0
    again = FakeRun(tmp_path, schemas.NAMES)
    name_concepts.stage(config, inputs, again)
    assert flaky.asked == 0  # left out from then on, as it is in a run that is not stopped
    assert next(now for now, _, of in again.told if of == "permutations") == 19
    with xr.open_dataset(tmp_path / "summary.nc", engine="h5netcdf") as summary:
        assert summary.attrs[FAULTY] == "flaky: ZeroDivisionError: out of order"
    assert "metric flaky: ZeroDivisionError: out of order" in capsys.readouterr().out
    names = read_parts(tmp_path)
    alone = name_concepts.Config(metrics=("iou",), n_bootstrap=0, n_permutations=19)
    name_concepts.stage(alone, inputs, FakeRun(tmp_path / "alone", schemas.NAMES))
    expected = read_parts(tmp_path / "alone")
    for name in ("name", "score_p", "score_family_p", "second_p", "chance"):
        np.testing.assert_array_equal(names[name][:, 0], expected[name][:, 0], err_msg=name)
    np.testing.assert_array_equal(names.consensus_p, expected.consensus_p)


def name_until_killed(config: name_concepts.Config, inputs, folder: Path) -> int:
    """Name concepts in a forked process that is killed in the second part; return how it ended."""

    class Killed(FakeRun):
        def progress(self, done: int, total: int, what: str) -> None:
            if what == "concepts" and done > PART:
                os.kill(os.getpid(), signal.SIGKILL)

    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    try:
        with dask.config.set(scheduler="synchronous"):  # threads of its pool are not forked
            name_concepts.stage(config, inputs, Killed(folder, schemas.NAMES))
    finally:
        os._exit(1)


@pytest.mark.slow
def test_a_run_that_was_killed_remembers_which_metric_failed(inputs, tmp_path, monkeypatch, flaky):
    monkeypatch.setattr("evals.naming.naming.PART_VALUES", PART * N_IMAGES)
    config = name_concepts.Config(metrics=("iou", "flaky"), n_bootstrap=0, n_permutations=19)
    flaky.is_broken = True
    assert name_until_killed(config, inputs, tmp_path / "names") == -signal.SIGKILL
    flaky.is_broken, flaky.asked = False, 0
    again = FakeRun(tmp_path / "names", schemas.NAMES)
    name_concepts.stage(config, inputs, again)
    assert flaky.asked == 0
    assert [now for now, _, what in again.told if what == "permutations"] == [19]
    with xr.open_dataset(tmp_path / "names/summary.nc", engine="h5netcdf") as summary:
        assert summary.attrs[FAULTY] == "flaky: ZeroDivisionError: out of order"


def test_scores_that_are_resumed_remember_which_metric_failed(
    inputs, tmp_path, monkeypatch, flaky, capsys
):
    monkeypatch.setattr("evals.scoring.scoring.SHARDED_FROM", 1)
    monkeypatch.setattr("evals.scoring.scoring.most_neurons", lambda n_inputs: 5)
    config = score_explanations.Config(metrics=("iou", "flaky"), alpha=0.1)
    flaky.is_broken = True
    stopped = stop_at(FakeRun(tmp_path, schemas.SCORES), "neurons", 5)
    with pytest.raises(StoppedError):
        score_explanations.stage(config, inputs, stopped)
    flaky.is_broken = False
    score_explanations.stage(config, inputs, FakeRun(tmp_path, schemas.SCORES))
    with xr.open_dataset(tmp_path / "summary.nc", engine="h5netcdf") as summary:
        assert summary.attrs[FAULTY] == "flaky: ZeroDivisionError: out of order"
    assert "metric flaky: ZeroDivisionError: out of order" in capsys.readouterr().out


def test_a_metric_is_undefined_everywhere_only_if_it_is_so_in_every_part():
    silent, broken = f"own: {SILENT}", "other: it broke"
    parts = [xr.Dataset(attrs={FAULTY: text}) for text in (silent, f"{silent}\n{broken}")]
    assert faults_of_parts(parts) == {FAULTY: f"{silent}\n{broken}"}
    assert faults_of_parts([*parts, xr.Dataset()]) == {FAULTY: broken}
    assert faults_of_parts([parts[0], xr.Dataset()]) == {}


def make_sanity(experimental: str) -> xr.Dataset:
    """Verdicts of which cosine passes, in the theoretical form and, if told, the experimental."""
    verdict = np.full((2, 3, 2), "", dtype=object)
    verdict[:, 0], verdict[:, 1] = "passes", experimental
    return xr.Dataset(
        {
            "passed": ("metric", np.array(["passes", "fails"], dtype=object)),
            "verdict": (("metric", "form", "test"), verdict),
        },
        {"metric": ["cosine", "recall"], "form": list(FORMS)},
    )


@pytest.mark.parametrize(
    ("experimental", "forms", "note", "part"),
    [
        ("", "theoretical", "Metrics were tested theoretically only", N_CONCEPTS),
        ("fails", "theoretical, experimental", "Sanity check: theoretical, experimental.", 6),
    ],
)
@pytest.mark.slow
def test_names_tell_in_which_forms_their_metrics_were_tested(
    inputs, tmp_path, capsys, monkeypatch, experimental, forms, note, part
):
    inputs["sanity"] = FakeInput.of(make_sanity(experimental), tmp_path / "sanity.nc")
    config = name_concepts.Config(metrics=("recall", "cosine"), n_bootstrap=0, n_permutations=19)
    monkeypatch.setattr("evals.naming.naming.PART_VALUES", part * N_IMAGES)
    run = FakeRun(tmp_path / "names", schemas.NAMES)
    names = name_concepts.stage(config, inputs, run)
    if part < N_CONCEPTS:
        names = xr.load_dataset(tmp_path / "names" / "summary.nc", engine="h5netcdf")
    else:
        schemas.NAMES.check(names)
    assert names.sanity_forms.item() == forms
    assert note in capsys.readouterr().out


def test_names_stand_beside_the_sanity_tests_of_their_metrics(inputs, tmp_path, capsys):
    inputs["sanity"] = FakeInput.of(make_sanity("fails"), tmp_path / "sanity.nc")
    config = name_concepts.Config(
        metrics=("recall", "cosine", "iou"), n_bootstrap=0, n_permutations=19
    )
    names = name_concepts.stage(config, inputs, FakeRun(tmp_path, schemas.NAMES))
    assert names.verdict.values.tolist() == ["fails", "passes", "untested"]
    assert names.votes.values.tolist() == [False, True, False]
    assert "untested" in capsys.readouterr().out


def test_neurons_of_known_concept_are_named_and_counted(inputs, tmp_path):
    concepts, _ = make_datasets()
    cause = np.array(LABEL_NAMES)[np.arange(N_CONCEPTS) % 4]
    neurons = xr.Dataset(
        {
            "activation": (("image", "neuron"), concepts.presence.values),
            "name": ("neuron", [f"neuron {i}" for i in range(N_CONCEPTS)]),
            "right_concept": ("neuron", np.where(np.arange(N_CONCEPTS) < 8, cause, "")),
        },
        {"image": concepts.image.values, "neuron": np.arange(N_CONCEPTS)},
    )
    inputs["activations"] = FakeInput.of(neurons, tmp_path / "neurons.nc")
    config = name_concepts.Config(metrics=("cosine",), n_bootstrap=0)
    names = name_concepts.stage(config, inputs, FakeRun(tmp_path, schemas.NAMES))
    schemas.NAMES.check(names)
    assert names.n_right_known == 8
    assert names.consensus_right_share == 7 / 8  # neuron 0 is silent


def test_a_split_and_another_variable(inputs, tmp_path):
    run = FakeRun(tmp_path, schemas.SCORES)
    options = {"metrics": ("correlation",), "variable": "contribution"}
    scores = score_explanations.stage(
        score_explanations.Config(**options, split="test"), inputs, run
    )
    presence = score_explanations.stage(
        score_explanations.Config(metrics=("correlation",)), inputs, run
    )
    np.testing.assert_allclose(scores.score, -presence.score, rtol=1e-12)
    with pytest.raises(ValueError, match="no input is of split 'tset'; did you mean 'test'"):
        score_explanations.stage(score_explanations.Config(split="tset"), inputs, run)
    with pytest.raises(ValueError, match="unknown variable 'presense'; did you mean 'presence'"):
        score_explanations.stage(score_explanations.Config(variable="presense"), inputs, run)


def test_names_that_are_spelt_otherwise_stand_beside_what_is_missing(inputs, tmp_path):
    _, labels = make_datasets()
    spelt = labels.assign_coords(input=[f"{name}.png" for name in labels["input"].values])
    inputs["labels"] = FakeInput.of(spelt, tmp_path / "x")
    with pytest.raises(ValueError, match=r"'test/00000', .*; they have \d+ others: '.*\.png'"):
        score_explanations.stage(
            score_explanations.Config(), inputs, FakeRun(tmp_path, schemas.SCORES)
        )


def test_an_input_without_labels_is_an_error(inputs, tmp_path):
    _, labels = make_datasets()
    inputs["labels"] = FakeInput.of(labels.sel(input=labels.input != "test/00007"), tmp_path / "x")
    with pytest.raises(ValueError, match="labels lack 1 input: 'test/00007'"):
        score_explanations.stage(
            score_explanations.Config(), inputs, FakeRun(tmp_path, schemas.SCORES)
        )


@pytest.mark.parametrize("module", [score_explanations, name_concepts])
@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"metrics": ["iuo"]}, "unknown metric 'iuo'; did you mean 'iou'"),
        ({"metrics": ["iou", "iou"]}, "named twice"),
        ({"alpha": 0}, "greater than 0"),
        ({"alpha": 1.1}, "less than or equal to 1"),
        ({"alfa": 0.1}, "did you mean 'alpha'"),
        ({"workers": 0}, "greater than or equal to 1"),
    ],
)
def test_configurations_are_checked(module, values, message):
    with pytest.raises(ConfigError, match=message):
        module.stage.resolve(values)


@pytest.mark.parametrize("module", [score_explanations, name_concepts])
def test_all_metrics_are_meant_where_none_is_named(module):
    for values in ({}, {"metrics": []}):
        assert module.stage.resolve(values).metrics == tuple(evals.list_metrics())


@pytest.mark.parametrize("module", [score_explanations, name_concepts])
def test_threads_are_no_part_of_the_result(module):
    assert module.stage.settings.rules.runtime == {"workers"}


@pytest.mark.parametrize("slot", ["activations", "labels"])
def test_positions_of_texts_are_named_by_whole_texts_alone(inputs, tmp_path, slot):
    concepts, _ = make_datasets()
    config = name_concepts.Config(metrics=("iou",), n_bootstrap=0)
    if slot == "activations":
        texts = concepts.assign_coords(sequence=("image", np.arange(N_IMAGES) // 10))
        inputs["activations"] = FakeInput.of(texts, tmp_path / "texts.nc")
    else:  # of activations of one's own only the labels say what their inputs are
        held = inputs["labels"].open().load()
        dim = next(dim for dim in ("input", "image") if dim in held.dims)
        texts = held.assign_coords(sequence=(dim, np.arange(held.sizes[dim]) // 10))
        inputs["labels"] = FakeInput.of(texts, tmp_path / "texts.nc")
    with pytest.raises(ValueError, match="by_sequence = true keeps each text whole"):
        name_concepts.stage(config, inputs, FakeRun(tmp_path, schemas.NAMES))
