"""Next tokens as neurons: a tiny GPT-2 of transformers, from a folder to scores of its neurons."""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from sklearn.metrics import average_precision_score, roc_auc_score

import fact
import registry
from fact import collect_next_tokens
from fact.data.token_sequences import TextSource, TokenSequences
from fact.kinds import CausalLanguageModel
from fact.networks.language_models import LanguageModelError, commonest, sequences_of
from fact.networks.layers import LayerError
from fact.networks.requirements import CodeOfModel, ModelFolder, look_for_code
from fact.traces.next_tokens import collect
from registry.declare.stage import load_stage
from registry.execute.schedule import Watcher, run_plan
from registry.plan.preflight import look_ahead
from registry.plan.project import Project, open_project
from registry.record.states import State
from registry.store.shards import ShardWriter
from tests.fact.language import CONTEXT, TEXTS, own_model, save_tiny_gpt2
from tests.in_parts import closed_over

pytestmark = pytest.mark.slow
DECLARATION = """
[datasets.stories]
kind = "token-sequences"
path = "stories.jsonl"

[networks.gpt2]
kind = "language-model"
folder = "gpt2"

[experiments.tokens]
stage = "fact.collect_next_tokens"
needs = { texts = "stories", model = "gpt2" }
config = { n_tokens = 12, n_sequences = 24, n_strongest = 5 }

[experiments.identified]
stage = "evals.identify_neurons"
needs = { activations = "tokens", labels = "tokens" }
config = { metrics = ["inverse_auc", "inverse_auprc", "correlation"], n_splits = 2 }

[experiments.scored]
stage = "evals.score_explanations"
needs = { activations = "tokens", labels = "tokens" }
config = { metrics = ["inverse_auc", "inverse_auprc"] }

[experiments.sane]
stage = "evals.sanity_check"
needs = { activations = "tokens", labels = "tokens" }
config = { metrics = ["correlation"] }

[experiments.named]
stage = "evals.name_concepts"
needs = { activations = "tokens", labels = "tokens" }
config = { metrics = ["correlation"], by_sequence = true, n_permutations = 0 }
"""


RUN = ("tokens", "identified", "scored", "named")
"""What is run of it; that sanity checks take next tokens as well is seen by the plan."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_gpt2(tmp_path_factory.mktemp("models") / "gpt2")


@pytest.fixture(scope="module")
def model(folder: Path) -> fact.LanguageModel:
    return fact.language_model(str(folder))


@pytest.fixture(scope="module")
def project(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Project:
    root = tmp_path_factory.mktemp("tokens")
    (root / "gpt2").symlink_to(folder)
    rng = np.random.default_rng(0)
    words = " ".join(TEXTS).split()
    stories = [" ".join(rng.choice(words, 30)) for _ in range(40)]
    (root / "stories.jsonl").write_text("\n".join(json.dumps({"text": one}) for one in stories))
    (root / "experiments.toml").write_text(DECLARATION)
    project = open_project(root / "experiments.toml")
    with contextlib.chdir(root):
        watcher = Watcher()
        outcomes = run_plan(
            project, project.plan(RUN), runner="here", journal_only=True, watcher=watcher
        )
    assert not [one for one in outcomes if one.ending is not State.COMPLETED]
    return project


def open_one(project: Project, name: str) -> xr.Dataset:
    with registry.open_dataset(project.current(name)) as dataset:
        return dataset.load()


def sequences(project: Project, model: fact.LanguageModel) -> list[np.ndarray]:
    source = TokenSequences(str(project.root / "stories.jsonl")).load()
    return sequences_of(model, source, most=24)


# --- the dataset ----------------------------------------------------------------------------


def test_datasets_follow_their_schemas(project: Project) -> None:
    for name in RUN:
        stage = load_stage(project.cell(name).stage)
        stage.output.check(open_one(project, name))


def test_activations_are_those_of_transformers_own_forward_pass(
    project: Project, model: fact.LanguageModel, folder: Path
) -> None:
    tokens = open_one(project, "tokens")
    own = sequences(project, model)
    assert tokens.sizes["input"] == sum(len(ids) - 1 for ids in own) == tokens["n_inputs"]
    at, theirs = 0, own_model(folder)
    for number, ids in enumerate(own):
        with torch.no_grad():
            logits = theirs(torch.as_tensor(ids)[None].long()).logits[0]
        rows = slice(at, at + len(ids) - 1)
        shares = logits.softmax(dim=-1)[:-1, tokens["token"].values]
        np.testing.assert_allclose(tokens["activation"].values[rows], shares, rtol=2e-5, atol=1e-7)
        loss = torch.nn.functional.cross_entropy(
            logits[:-1], torch.as_tensor(ids[1:]).long(), reduction="none"
        )
        np.testing.assert_allclose(tokens["loss"].values[rows], loss, rtol=2e-5, atol=1e-5)
        expected = ids[1:, None] == tokens["token"].values
        assert np.array_equal(tokens["value"].values[rows].astype(bool), expected)
        assert tokens["input"].values[at] == f"test/{number:05d}/0000"
        at = rows.stop
    assert at == tokens.sizes["input"]
    assert float(tokens["mean_loss"]) == pytest.approx(float(tokens["loss"].mean()), rel=1e-6)


def test_channels_of_a_layer_are_neurons_whose_labels_are_next_tokens(
    project: Project, model: fact.LanguageModel, folder: Path, tmp_path: Path
) -> None:
    own = sequences(project, model)[:3]
    config = collect_next_tokens.Config(n_tokens=5, n_strongest=4, layer="transformer.h.0")
    shards = collect(model, own, config, Folder(tmp_path / "units"))  # type: ignore[arg-type]
    units = xr.merge(
        [xr.load_dataset(path, engine="h5netcdf") for path in (tmp_path / "units").glob("*.nc")],
        compat="no_conflicts",
    )
    collect_next_tokens.stage.output.check(units)
    assert shards.rows == (units.sizes["input"],)
    theirs, expected = own_model(folder), []
    for ids in own:
        with torch.no_grad():
            given = torch.as_tensor(ids)[None].long()
            hidden = theirs(given, output_hidden_states=True).hidden_states[1]
        expected.append(hidden[0, :-1])
    np.testing.assert_allclose(units["activation"], torch.cat(expected), rtol=2e-5, atol=1e-5)
    assert units["name"].values.tolist() == [str(channel) for channel in range(16)]
    assert set(units["right_concept"].values) == {""}
    assert (units["token"] == -1).all()
    assert units.sizes["label"] == 5
    whole = open_one(project, "tokens").isel(input=slice(0, units.sizes["input"]))
    np.testing.assert_array_equal(units["value"], whole["value"].sel(label=units["label"]))
    np.testing.assert_array_equal(units["loss"], whole["loss"])
    order = np.argsort(-units["activation"].values, axis=0, kind="stable")[:4]
    assert np.array_equal(units["top_input"].values, order.T)
    assert (units["n_known"], units["n_neurons"]) == (0, 16)
    for layer, told in (("transformer.h.9", "did you mean"), ("transformer.wpe", "expected")):
        with pytest.raises(LayerError, match=told):
            model.channels(torch.as_tensor(own[0])[None].long().repeat(2, 1), layer)


def test_neurons_are_the_commonest_tokens(project: Project, model: fact.LanguageModel) -> None:
    tokens = open_one(project, "tokens")
    counts = Counter(int(token) for ids in sequences(project, model) for token in ids)
    expected = counts.most_common(12)  # equal ones in the order in which they first came
    assert list(zip(tokens["token"].values, tokens["count"].values, strict=True)) == expected
    names = tokens["name"].values.tolist()
    assert len(set(names)) == 12
    assert tokens["label"].values.tolist() == tokens["right_concept"].values.tolist() == names
    assert '" the"' in names


def test_positions_keep_their_text(project: Project, model: fact.LanguageModel) -> None:
    tokens = open_one(project, "tokens")
    for number, ids in enumerate(sequences(project, model)[:3]):
        own = tokens.isel(input=np.flatnonzero(tokens["sequence"].values == number))
        assert own["position"].values.tolist() == list(range(len(ids) - 1))
        whole = "".join(own["text"].values) + own["next_text"].values[-1]
        assert whole == model.tokenizer.decode(ids)
        assert own["next_text"].values[:-1].tolist() == own["text"].values[1:].tolist()


def test_the_strongest_positions_are_those_of_a_sort(project: Project) -> None:
    tokens = open_one(project, "tokens")
    order = np.argsort(-tokens["activation"].values, axis=0, kind="stable")[:5]
    assert np.array_equal(tokens["top_input"].values, order.T)
    expected = np.take_along_axis(tokens["activation"].values, order, axis=0).T
    assert np.array_equal(tokens["top_activation"].values, expected)


def test_scores_are_those_of_scikit_learn(project: Project) -> None:
    tokens, scores = open_one(project, "tokens"), open_one(project, "scored")
    table = {"inverse_auc": roc_auc_score, "inverse_auprc": average_precision_score}
    for metric, own in table.items():
        got = scores[metric] if metric in scores else scores["score"].sel(metric=metric)
        got = got.transpose("neuron", ...).values.reshape(12, 12)
        for neuron in range(0, 12, 4):
            for label in range(12):
                labels = tokens["value"].values[:, label]
                expected = own(labels, tokens["activation"].values[:, neuron])
                assert got[neuron, label] == pytest.approx(expected, rel=1e-9)


def test_known_neurons_are_identified_and_tested(project: Project) -> None:
    found = open_one(project, "identified")
    assert found["n_neurons"] == found["n_concepts"] == 12
    assert found["n_inputs"] == open_one(project, "tokens").sizes["input"]
    assert np.isfinite(found["auprc"].values).all()
    assert open_one(project, "named").sizes["concept"] == 12


# --- parts ----------------------------------------------------------------------------------


class Folder:
    """A run of a stage that writes to a folder."""

    def __init__(self, path: Path, most: int | None = None):
        self.path, self.most = path, most

    def progress(self, done: int, total: int, what: str = "") -> None:
        if self.most is not None and done > self.most:
            raise KeyboardInterrupt

    def shards(self, count: int | None = None) -> ShardWriter:
        return ShardWriter(self.path, collect_next_tokens.stage.output)


def test_a_stopped_collection_goes_on_and_is_the_same(
    model: fact.LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fact.traces.next_tokens.SHARD_BYTES", 1)
    rng = np.random.default_rng(1)
    lengths = (9, 9, 9, 4, 9, 2)
    own = [rng.integers(0, model.n_tokens, size).astype(np.int32) for size in lengths]
    config = collect_next_tokens.Config(n_tokens=7, batch=2)
    whole = collect(model, own, config, Folder(tmp_path / "whole"))  # type: ignore[arg-type]
    with pytest.raises(KeyboardInterrupt):
        collect(model, own, config, Folder(tmp_path / "cut", 2))  # type: ignore[arg-type]
    assert len(list((tmp_path / "cut").glob("part-*.nc"))) == 2
    resumed = collect(model, own, config, Folder(tmp_path / "cut"))  # type: ignore[arg-type]
    assert (resumed.content, resumed.rows) == (whole.content, (16, 11, 9))
    closed = closed_over(
        lambda run: collect(model, own, config, run), lambda: Folder(tmp_path / "parts"), 2
    )
    assert (closed.content, closed.rows) == (whole.content, whole.rows)


def test_tokens_are_found_by_text_and_id(model: fact.LanguageModel) -> None:
    entry = model.tokenizer.get_vocab()
    assert model.find([" the", 5, "Ġcat"]).tolist() == [entry["Ġthe"], 5, entry["Ġcat"]]
    with pytest.raises(LanguageModelError, match="'the zebra' is no single token"):
        model.find(["the zebra"])
    with pytest.raises(LanguageModelError, match="are the same one"):
        model.find([" the", entry["Ġthe"]])
    with pytest.raises(LanguageModelError, match="knows 0 to"):
        model.find([10_000])
    names = model.names(range(model.n_tokens))
    assert len(set(names)) == model.n_tokens


def test_sequences_are_cut_or_joined(model: fact.LanguageModel) -> None:
    texts = TextSource(Path("texts"), lambda: iter([*TEXTS, ""]))
    encoded = [model.encode(text) for text in TEXTS]
    cut = sequences_of(model, texts, length=10)
    assert np.array_equal(np.concatenate(cut[:2]), encoded[0][:20])
    assert max(map(len, cut)) == 10
    joined = sequences_of(model, texts, length=10, join=True)
    end = model.separator
    stream = np.concatenate([part for ids in encoded for part in (ids, [end])])
    assert all(len(ids) == 10 and ids[0] == end for ids in joined)
    expected = stream[: 9 * (len(stream) // 9)]
    assert np.array_equal(np.concatenate([ids[1:] for ids in joined]), expected)
    assert len(sequences_of(model, texts, most=2)) == 2
    with pytest.raises(LanguageModelError, match=f"reads {CONTEXT} positions at most"):
        sequences_of(model, texts, length=CONTEXT + 1)
    with pytest.raises(LanguageModelError, match="made by another tokenizer"):
        sequences_of(model, [np.array([0, model.n_tokens])])


def test_equally_common_tokens_come_as_they_stand() -> None:
    own = [np.array([5, 3, 3], np.int32), np.array([9, 5, 1, 7, 7, 7], np.int32)]
    assert commonest(own, 4).tolist() == [7, 5, 3, 9]
    assert commonest(own, 40).tolist() == [7, 5, 3, 9, 1]


# --- preflight ------------------------------------------------------------------------------


def test_what_is_missing_is_told_before_anything_runs(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "experiments.toml").write_text(DECLARATION)
    (tmp_path / "gpt2").mkdir()
    monkeypatch.setattr(
        "registry.declare.requirements._is_importable", lambda module: module != "transformers"
    )
    project = open_project(tmp_path / "experiments.toml")
    missing = "\n".join(map(str, look_ahead(project, project.plan().tasks).missing))
    assert "transformers for language models: pip install -U 'factbook[language]'" in missing
    assert "gpt2 has no config.json" in missing
    assert "the data of 'stories' cannot be read" in missing


def test_code_that_comes_with_a_model_has_to_be_trusted(folder: Path, tmp_path: Path) -> None:
    snapshot = tmp_path / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    for name in ("config.json", "model.safetensors"):
        (snapshot / name).write_bytes((folder / name).read_bytes())
    assert ModelFolder(str(snapshot)).look() is None
    config: dict[str, Any] = json.loads((snapshot / "config.json").read_text())
    config["auto_map"] = {"AutoModelForCausalLM": "code.Model"}
    (snapshot / "config.json").write_text(json.dumps(config))
    for finding in (ModelFolder(str(snapshot)).look(), CodeOfModel(tmp_path).look()):
        assert finding is not None
        assert "`trusted = true` in the table of the model" in finding.remedy
    assert ModelFolder(str(snapshot), trusts=True).look() is None
    assert look_for_code(tmp_path) is None


def test_a_model_is_named_or_lies_in_a_folder(folder: Path) -> None:
    with pytest.raises(ValueError, match="either a model or a folder"):
        CausalLanguageModel()
    assert CausalLanguageModel("gpt2").identity() == ""
    assert len(CausalLanguageModel(folder=str(folder)).identity()) == 64
