"""The stages of fact and evals together, on a few small images: one chain, run once."""

from __future__ import annotations

import dataclasses
import functools
import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from PIL import Image
from torch import nn

import registry
from registry.declare.stage import Input, load_stage
from registry.plan.project import Project
from registry.store.shards import ShardWriter
from tests.conftest import MakeOnce
from tests.fact.chain import chain_with
from tests.in_parts import closed_over

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("encoder_built_once")]
DECLARATION = """
[experiments.kinds-sae]
stage = "fact.train_sae"
needs = { features = "features" }
[experiments.kinds-sae.config]
n_concepts = 24
k = 4
batch = 256
epochs = 2
lr = 1e-2
activation = "batch_topk"
prefixes = [6, 12]
dictionary = "archetypal"
n_points = 30
relaxation = 0.1

[experiments.kinds-concepts]
stage = "fact.measure_concepts"
needs = { sae = "kinds-sae", images = "shapes" }
config = { batch = 16 }

[experiments.tokens-classifier]
stage = "fact.train_classifier"
needs = { images = "shapes" }
config = { architecture = "small-vit", patch_size = 6, dim = 16, depth = 2, epochs = 1, batch = 32 }

[experiments.tokens-features]
stage = "fact.collect_features"
needs = { images = "shapes", network = "tokens-classifier" }
config = { layer = "0.transformer.encoder_0", samples_per_image = 8 }

[experiments.tokens-sae]
stage = "fact.train_sae"
needs = { features = "tokens-features" }
config = { n_concepts = 20, k = 3, batch = 256, epochs = 2, lr = 1e-2 }

[experiments.tokens-concepts]
stage = "fact.measure_concepts"
needs = { sae = "tokens-sae", images = "shapes" }
config = { batch = 16 }

[experiments.ordinary]
stage = "fact.train_classifier"
needs = { images = "shapes" }
config = { architecture = "torchvision-vit", patch_size = 6, dim = 16, epochs = 1, lr = 1e-2 }

[experiments.bcosified]
stage = "fact.bcosify_network"
needs = { images = "shapes", network = "ordinary" }
config = { epochs = 2, batch = 32, lr = 1e-2 }

[experiments.bcosified-features]
stage = "fact.collect_features"
needs = { images = "shapes", network = "bcosified" }
config = { layer = "encoder.layers.encoder_layer_0", samples_per_image = 8 }

[experiments.bcosified-sae]
stage = "fact.train_sae"
needs = { features = "bcosified-features" }
config = { n_concepts = 20, k = 3, batch = 256, epochs = 2, lr = 1e-2 }

[experiments.bcosified-concepts]
stage = "fact.measure_concepts"
needs = { sae = "bcosified-sae", images = "shapes" }
config = { batch = 16 }

[experiments.bcosified-gallery]
stage = "fact.draw_concepts"
needs = { concepts = "bcosified-concepts" }
config = { n_images = 2, most = 2, pictures = false }

[experiments.bcosified-decisions]
stage = "fact.explain_decisions"
needs = { concepts = "bcosified-concepts", gallery = "bcosified-gallery" }
config = { per_class = 1, most = 2 }

[experiments.gallery]
stage = "fact.draw_concepts"
needs = { concepts = "concepts" }
config = { n_images = 3 }

[experiments.decisions]
stage = "fact.explain_decisions"
needs = { concepts = "concepts", gallery = "gallery" }
config = { per_class = 1, most = 3 }

[experiments.encodings]
stage = "fact.encode_concepts"
needs = { concepts = "concepts" }
config = { side = 64, quantile = 0.5, least = 4, batch = 16 }

[experiments.consistency]
stage = "evals.measure_consistency"
needs = { encodings = "encodings" }
config = { least_images = 3 }

[experiments.intervention]
stage = "fact.intervene_concepts"
needs = { concepts = "concepts" }
config = { n_images = 20, n_steps = 3, batch = 8, n_bootstrap = 20 }

[experiments.tokens-intervention]
stage = "fact.intervene_concepts"
needs = { concepts = "tokens-concepts" }
config = { n_images = 8, n_steps = 2, n_bootstrap = 20, scale = 0.5 }

[experiments.fidelity]
stage = "fact.measure_fidelity"
needs = { model = "sae", images = "shapes" }
config = { batch = 16, n_bootstrap = 20 }

[experiments.tokens-fidelity]
stage = "fact.measure_fidelity"
needs = { model = "tokens-sae", images = "shapes" }
config = { n_bootstrap = 20, ablation = "mean" }

[experiments.held-out-fidelity]
stage = "fact.measure_fidelity"
needs = { model = "sae", images = "shapes" }
config = { split = "train", n_bootstrap = 20 }

[experiments.seen-fidelity]
stage = "fact.measure_fidelity"
needs = { model = "sae", images = "shapes" }
config = { split = "train", n_bootstrap = 20, seen_images = "allow" }

[experiments.scores]
stage = "evals.score_explanations"
needs = { activations = "concepts", labels = "labels" }
"""


@pytest.fixture(scope="module")
def project(
    tmp_path_factory: pytest.TempPathFactory, make_once: MakeOnce, encoder_built_once: None
) -> Project:
    return chain_with(DECLARATION, make_once, tmp_path_factory.mktemp("stages"))


@pytest.fixture(scope="module")
def open_(project: Project):
    @functools.cache
    def open_one(name: str) -> xr.Dataset:
        with registry.open_dataset(project.current(name)) as dataset:
            return dataset.load()

    return open_one


def test_every_dataset_follows_its_schema_and_explains_itself(project: Project) -> None:
    for cell in project.graph.cells.values():
        path = project.current(cell.name)
        dataset = xr.open_dataset(path)
        load_stage(cell.stage).output.check(dataset)
        assert dataset.attrs["experiment"] == cell.name
        assert dataset.attrs["Conventions"].startswith("CF")
        for name, variable in dataset.data_vars.items():
            assert variable.attrs["long_name"], name
            assert "units" in variable.attrs or variable.dtype.kind in "OUT", name


@pytest.mark.parametrize("name", ["concepts", "channels", "tokens-concepts", "bcosified-concepts"])
def test_contributions_add_up_to_the_logit_of_every_image(open_, name: str) -> None:
    concepts = open_(name)
    target = concepts["target"].values
    logit = np.take_along_axis(concepts["logit"].values, target[:, None], 1)[:, 0]
    contribution = concepts["contribution"].values.astype(np.float64)
    residual = abs(contribution.sum(1) - logit) / abs(contribution).sum(1)
    assert residual.max() < 1e-5
    assert (concepts["residual"] <= 1e-5).all()
    assert (concepts["input_residual"] <= 1e-5).all()
    assert abs(contribution).sum() > 0


def test_tokens_tell_what_comes_from_their_position(open_) -> None:
    assert "position_share" not in open_("concepts")
    for name in ("tokens-concepts", "bcosified-concepts"):
        share = open_(name)["position_share"]
        assert np.isfinite(share).all()
        assert float(abs(share).max()) > 1e-3


def test_a_bcosified_network_tells_what_its_conversion_did(open_) -> None:
    before, made = open_("ordinary"), open_("bcosified")
    steps = made["conversion"].values.tolist()
    assert steps == ["six colours", "average pooling", "no biases", "b 2"]
    assert made["original_accuracy"] == before["test_accuracy"]
    assert made["conversion_accuracy"][0] == before["test_accuracy"]
    assert (made["conversion_change"][:2] < 1e-5).all()  # the second had nothing to pool
    assert (made["conversion_change"][2:] > 1e-3).all()
    assert made["epoch_accuracy"].sizes["pass"] == 2
    assert made["epoch_accuracy"][-1] == made["test_accuracy"]
    assert made["probe"] < 1e-5
    assert made["class"].values.tolist() == before["class"].values.tolist()


def test_the_target_is_the_one_that_was_asked_for(open_) -> None:
    concepts, channels = open_("concepts"), open_("channels")
    assert (concepts["target"] == concepts["prediction"]).all()
    assert (channels["target"] == channels["label"]).all()
    assert (channels["prediction"] == channels["network_prediction"]).all()


def _commonest(dataset: xr.Dataset) -> float:
    """Return the share of the commonest class, by sorting the labels."""
    counts = sorted(Counter(dataset["label"].values.tolist()).values())
    return counts[-1] / sum(counts)


@pytest.mark.parametrize("name", ["classifier", "bcosified"])
def test_a_network_says_what_always_the_commonest_class_would_reach(open_, name: str) -> None:
    network = open_(name)
    assert network["commonest_share"] == _commonest(network)
    assert network["n_labelled"] == network.sizes["image"]


def test_statistics_are_those_of_the_arrays(open_) -> None:
    concepts = open_("concepts")
    presence, contribution = concepts["presence"].values, concepts["contribution"].values
    assert concepts["image_l0"] == pytest.approx((presence > 0).sum(1).mean())
    assert concepts["alive_share"] == pytest.approx((contribution != 0).any(0).mean())
    assert concepts["accuracy"] == (concepts["prediction"] == concepts["label"]).mean()
    assert concepts["commonest_share"] == _commonest(concepts)
    needed = []
    for row in contribution.astype(float):
        positive = np.sort(row[row > 0])[::-1]
        shares = np.cumsum(positive) / positive.sum()
        needed.append(int(np.argmax(shares >= 0.8 * (1 - 1e-12))) + 1)
    assert concepts["concepts_for_80"] == pytest.approx(np.mean(needed))
    assert np.all(np.diff(concepts["coverage"]) >= -1e-12)
    assert concepts["coverage"][-1] == pytest.approx(1)


def test_galleries_show_the_strongest_images_first(open_) -> None:
    concepts, gallery = open_("concepts"), open_("gallery")
    for concept in gallery["concept"].values:
        presence = concepts["presence"].sel(concept=concept)
        shown = gallery.sel(concept=concept)
        names = [name for name in shown["image"].values if name]
        strongest = np.sort(presence.values)[::-1][: len(names)]
        np.testing.assert_array_equal(presence.sel(image=names), strongest)
        np.testing.assert_array_equal(shown["presence"][: len(names)], strongest)


def test_gallery_pictures_are_the_images_themselves(project: Project, open_) -> None:
    gallery = open_("gallery")
    images = project.declaration.resources["shapes"].settings.load()
    shown = gallery.isel(concept=0, rank=0)
    np.testing.assert_array_equal(shown["picture"], images.read([str(shown["image"].values)])[0])
    path = project.current("gallery") / f"pictures/concept-{int(shown['concept']):05d}.png"
    with Image.open(path) as picture:
        assert min(picture.size) > 100


def test_shares_of_a_decision_add_to_one_and_maps_to_the_logit(open_) -> None:
    decisions, concepts = open_("decisions"), open_("concepts")
    shares = decisions["share"].sum("rank") + decisions["others_share"]
    np.testing.assert_allclose(shares, 1, atol=1e-6)
    whole = decisions["contribution"].sum("rank") + decisions["others"]
    np.testing.assert_allclose(whole, decisions["logit"], rtol=1e-4, atol=1e-5)
    maps = decisions["concept_map"].sum("rank") + decisions["others_map"]
    np.testing.assert_allclose(maps, decisions["logit_map"], atol=1e-5)
    summed = decisions["logit_map"].sum(["y", "x"])
    np.testing.assert_allclose(summed, decisions["logit"], rtol=1e-4, atol=1e-5)
    for image in decisions["image"].values:
        best = concepts["contribution"].sel(image=image).argmax("concept")
        assert decisions["top_concept"].sel(image=image)[0] == best


def test_names_and_scores_cover_every_concept(open_) -> None:
    concepts, names, scores = open_("concepts"), open_("names"), open_("scores")
    assert names.sizes["concept"] == scores.sizes["neuron"] == concepts.sizes["concept"]
    assert np.isfinite(scores["score"]).any()


def test_encodings_are_of_the_images_that_a_concept_is_strongest_in(open_) -> None:
    concepts, encodings, scores = open_("concepts"), open_("encodings"), open_("consistency")
    presence = concepts["presence"]
    of_concept = encodings.isel(sample=encodings["map"].values == "concept")
    assert encodings["n_images"] == concepts.sizes["image"]
    assert encodings["n_encodings"] == of_concept.sizes["sample"] > 0
    for concept in concepts["concept"].values:
        own = of_concept.isel(sample=of_concept["group"].values == concept)
        column = presence.sel(concept=concept)
        positive = np.sort(column.values[column.values > 0])
        if len(positive) < 2:
            assert own.sizes["sample"] == 0
            continue
        threshold = min(np.quantile(positive, 0.5), positive[-min(4, len(positive))])
        if len(positive) <= 4:
            threshold = positive[0]
        strong = column["image"].values[column.values >= threshold]
        assert own["image"].values.tolist() == strong.tolist()
        np.testing.assert_array_equal(own["presence"], column.sel(image=strong))
        assert scores["n_images"].sel(concept=concept) == len(strong)


def test_an_encoding_is_what_the_encoder_sees_where_the_concept_is(project, open_) -> None:
    import evals
    import fact
    from fact.traces.spliced import ConceptSource

    concepts, encodings, scores = open_("concepts"), open_("encodings"), open_("consistency")
    given = inputs_of(project, "encodings")["concepts"]
    source, images = ConceptSource.of_concepts(given, "cpu"), given.origin("images").load()
    concept = int(scores["n_images"].values.argmax())
    own = (encodings["map"].values == "concept") & (encodings["group"].values == concept)
    ids = encodings["image"].values[own].astype(str)
    pictures = images.read(ids, source.network.geometry)
    maps = fact.concept_maps(source.network, source.layer, source.sae, pictures, [concept])
    choice = fact.EncoderChoice(side=64)
    expected = fact.encode_maps(pictures, maps["map"].values[:, 0], choice, device="cpu")
    np.testing.assert_allclose(encodings["encoding"][own], expected, rtol=1e-4, atol=1e-5)
    every = images.read(concepts["image"].values.astype(str), source.network.geometry)
    whole = fact.encode_maps(every, np.ones(every.shape[:3]), choice, device="cpu").mean("image")
    presence = encodings["presence"].values[own]
    score = evals.c2_score(expected, presence, whole)
    assert scores["score"].sel(concept=concept) == pytest.approx(score, abs=1e-5)


@pytest.mark.parametrize("name", ["", "tokens-"])
def test_interventions_begin_and_end_at_the_measured_logits(open_, name: str) -> None:
    concepts, intervention = open_(f"{name}concepts"), open_(f"{name}intervention")
    own = concepts.sel(image=intervention["image"].values)
    logit = np.take_along_axis(own["logit"].values, own["target"].values[:, None], 1)
    whole = intervention["logit"].sel(curve="deletion", step=0)
    np.testing.assert_allclose(whole, logit.mean(), rtol=1e-4)
    last = intervention.sizes["step"] - 1
    np.testing.assert_allclose(
        intervention["logit"].sel(curve="insertion", step=last), logit.mean(), rtol=1e-4
    )
    correct = (own["prediction"] == own["label"]).mean()
    np.testing.assert_allclose(intervention["accuracy"].sel(curve="deletion", step=0), correct)
    promised = intervention["promised_logit"].sel(curve="deletion")
    scale = intervention["scale"].item()
    np.testing.assert_allclose(promised.sel(step=last), scale * logit.mean(), rtol=1e-4, atol=1e-5)
    removed = intervention["removed"].values[:, 0]
    largest = own["contribution"].values.max(axis=1)
    found = np.take_along_axis(own["contribution"].values, removed[:, None], 1)[:, 0]
    np.testing.assert_allclose(found, largest, rtol=1e-4)
    np.testing.assert_allclose(
        intervention["promised_change"].values[:, 0], (scale - 1) * largest, rtol=1e-4
    )


@pytest.mark.parametrize("name", ["", "tokens-"])
def test_fidelity_is_of_the_network_that_concepts_are_measured_in(open_, name: str) -> None:
    concepts, fidelity = open_(f"{name}concepts"), open_(f"{name}fidelity")
    assert fidelity["image"].values.tolist() == concepts["image"].values.tolist()
    for case, prediction in (("network", "network_prediction"), ("spliced", "prediction")):
        np.testing.assert_array_equal(fidelity["prediction"].sel(case=case), concepts[prediction])
    assert fidelity["accuracy"] == concepts["accuracy"]
    assert fidelity["network_accuracy"] == concepts["network_accuracy"]
    assert fidelity["commonest_share"] == concepts["commonest_share"] == _commonest(concepts)
    np.testing.assert_allclose(fidelity["image_density"], concepts["image_share"])
    logit, label = concepts["logit"].values.astype(np.float64), concepts["label"].values
    entropy = np.log(np.exp(logit).sum(axis=1)) - np.take_along_axis(logit, label[:, None], 1)[:, 0]
    np.testing.assert_allclose(fidelity["ce"], entropy.mean(), rtol=1e-5)
    assert fidelity["ablated_kl"] > 0
    assert (fidelity["n_omitted"], fidelity["n_fitted"]) == (0, 0)


def test_images_that_the_sae_was_trained_on_are_omitted_unless_asked_for(open_) -> None:
    features, held, seen = (open_(n) for n in ("features", "held-out-fidelity", "seen-fidelity"))
    trained = set(features["image"].values.tolist())
    assert not trained & set(held["image"].values.tolist())
    assert held["n_omitted"] == seen["n_fitted"] == len(trained)
    assert held.sizes["image"] == features["n_held_out"] == 240 - len(trained)
    assert (held["n_fitted"], seen["n_omitted"], seen.sizes["image"]) == (0, 0, 240)


def test_where_every_image_was_trained_on_nothing_is_measured() -> None:
    from fact.fidelity.measurement import NoImagesError, _require_images

    every = np.ones(3, dtype=bool)
    with pytest.raises(NoImagesError, match=r"fitted on all 3 images of split 'train'.*\"allow\""):
        _require_images(~every, every, "train")
    with pytest.raises(NoImagesError, match="split 'test' has no images"):
        _require_images(every[:0], every[:0], "test")


def test_the_held_out_loss_is_that_of_the_weights_at_the_end_of_every_epoch(
    project: Project, open_, tmp_path: Path
) -> None:
    from fact.networks.files import open_network
    from fact.sae.model import TopKSAE
    from fact.sae.sampling import draw_features

    run = PartialRun(tmp_path / "a", load_stage("fact.train_sae").output)
    run_stage(project, "sae", run)
    sae, features = open_("sae"), inputs_of(project, "sae")["features"]
    images = features.inputs["images"].load()
    network = open_network(features.inputs["network"], "cpu")
    ids = open_("held-out-fidelity")["image"].values.astype(str)
    rows = draw_features(network, "features.1", images.read(ids), 20, np.random.default_rng(0))
    weights = TopKSAE.from_dataset(xr.load_dataset(tmp_path / "a/final.nc"))
    ends = sae["held_out_l0"].dropna("step")["step"].values.tolist()
    assert ends == [step for step, _ in run.points["training.never_firing"]]
    x = torch.from_numpy(rows["feature"]) / float(open_("features")["root_mean_square"])
    with torch.no_grad():
        codes, rest = weights.encode(x), x - weights(x)
    last = sae.isel(step=-1)
    # Which positions are drawn differs in number and order: each image draws the same count.
    expected = {
        "reconstruction_loss": rest.square().sum(dim=1).mean(),
        "explained_variance": 1 - rest.var(dim=0).sum() / x.var(dim=0).sum(),
        "l0": (codes > 0).sum(dim=1).float().mean(),
    }
    for name, value in expected.items():
        assert last[f"held_out_{name}"] == pytest.approx(float(value), rel=0.15), name
        logged = run.points[f"validation.{name}"]
        assert [value for _, value in logged] == sae[f"held_out_{name}"].dropna(
            "step"
        ).values.tolist()
    assert last["held_out_reconstruction_loss"] < sae["held_out_reconstruction_loss"][ends[0]]
    assert 0 <= last["held_out_dead"] <= 24


# -- stopped and continued ---------------------------------------------------------------------


class Stopped(Exception):
    pass


class PartialRun:
    """A run that is stopped after so many calls of progress."""

    uid, experiment, fingerprint = "test", "test", "0" * 16

    def __init__(self, folder: Path, schema: registry.Schema, stop_after: int | None = None):
        self.partial, self.schema, self.stop_after = folder, schema, stop_after
        self.calls = 0
        folder.mkdir(exist_ok=True)
        self.points: dict[str, list[tuple[int, float]]] = {}

    def log(self, name: str, value: float, step: int) -> None:
        self.points.setdefault(name, []).append((step, value))

    def progress(self, done: int, total: int, what: str = "") -> None:
        self.calls += 1
        if self.calls == self.stop_after:
            raise Stopped

    def attach(self, name: str) -> Path:
        return self.partial / name

    def checkpoint(self, name: str) -> registry.Checkpoint:
        return registry.Checkpoint(self.partial, name)

    def shards(self, count: int | None = None) -> ShardWriter:
        return ShardWriter(self.partial / "output", self.schema)


def inputs_of(project: Project, name: str) -> dict[str, Input]:
    cell = project.graph.cells[name]
    return project.inputs(project.graph, cell, project.fingerprints(project.graph, name))


def run_stage(project: Project, name: str, run: PartialRun, **config: Any) -> Any:
    cell = project.graph.cells[name]
    stage = load_stage(cell.stage)
    return stage(stage.resolve({**cell.config, **config}), inputs_of(project, name), run)


CONFIG: dict[str, dict[str, Any]] = {
    name: {"checkpoint_seconds": 0} for name in ("sae", "kinds-sae", "fidelity")
}
"""By experiment, what lets a run note after every step how far it is."""


@pytest.fixture(scope="module")
def unbroken(project: Project, tmp_path_factory: pytest.TempPathFactory):
    """What a training gives that is not stopped, and the calls of progress that it makes."""

    @functools.cache
    def run(name: str) -> tuple[xr.Dataset, int]:
        schema = load_stage(project.graph.cells[name].stage).output
        whole = PartialRun(tmp_path_factory.mktemp(name), schema)
        return run_stage(project, name, whole, **CONFIG.get(name, {})), whole.calls

    return run


@pytest.fixture(scope="module")
def left_by(project: Project, tmp_path_factory: pytest.TempPathFactory):
    """Makes a folder with what a run leaves that is stopped after so many calls of progress."""

    @functools.cache
    def stop(name: str, after: int) -> Path:
        schema = load_stage(project.graph.cells[name].stage).output
        folder = tmp_path_factory.mktemp(name)
        with pytest.raises(Stopped):
            run_stage(project, name, PartialRun(folder, schema, after), **CONFIG.get(name, {}))
        return folder

    def copy(name: str, after: int, folder: Path) -> PartialRun:
        shutil.copytree(stop(name, after), folder)
        return PartialRun(folder, load_stage(project.graph.cells[name].stage).output)

    return copy


def content_of_whole(project: Project, name: str) -> str:
    """The content digest of what the chain made in one go, cut into parts of another size."""
    manifest = (project.current(name) / "manifest.json").read_text()
    return str(json.loads(manifest)["content"])


@pytest.mark.parametrize(
    ("name", "stop_after"),
    [("sae", 9), ("kinds-sae", 9), ("classifier", 12), ("bcosified", 12), ("fidelity", 3)],
)
def test_a_stopped_training_goes_on_to_the_same_result(
    project: Project, tmp_path: Path, unbroken, left_by, name: str, stop_after: int
) -> None:
    resumed = left_by(name, stop_after, tmp_path / "a")
    second = run_stage(project, name, resumed, **CONFIG.get(name, {}))
    first, calls = unbroken(name)
    xr.testing.assert_identical(first.drop_attrs(), second.drop_attrs())
    assert resumed.calls < calls


def test_the_published_code_evaluates_before_the_last_updates_and_keeps_the_later(
    project: Project, unbroken, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fact.sae.training.HeldOutAccuracy.__call__", lambda self, sae: 0.5)
    schema = load_stage("fact.train_sae").output
    per_epoch = unbroken("sae")[0].sizes["step"] // 2
    config = {"compat": "fact", "checkpoint_seconds": 0}
    whole = run_stage(project, "sae", PartialRun(tmp_path / "a", schema), **config)
    assert whole["evaluated_step"].values.tolist() == [per_epoch - 2, 2 * per_epoch - 2]
    assert whole["best_step"] == 2 * per_epoch - 2
    usual = run_stage(project, "sae", PartialRun(tmp_path / "b", schema), **CONFIG["sae"])
    assert usual["best_step"] == per_epoch
    xr.testing.assert_equal(whole["dead"], usual["dead"])  # trained to its end as ever
    stopped = PartialRun(tmp_path / "c", schema, per_epoch - 1)
    with pytest.raises(Stopped):  # at once after it was evaluated
        run_stage(project, "sae", stopped, **config)
    again = run_stage(project, "sae", PartialRun(tmp_path / "c", schema), **config)
    xr.testing.assert_identical(whole.drop_attrs(), again.drop_attrs())


def test_all_kinds_of_saes_at_once_are_served_as_they_were_trained(open_, tmp_path: Path) -> None:
    """BatchTopK, Matryoshka, archetypal: the gate holds with a frozen threshold; it goes out."""
    import fact

    trained, concepts = open_("kinds-sae"), open_("kinds-concepts")
    sae = fact.SAE.from_dataset(trained)
    assert isinstance(sae, fact.BatchTopKSAE)
    assert len(set(sae.threshold.tolist())) == 1
    assert float(sae.threshold[0]) > 0
    assert 0 < float(concepts["residual_max"]) < 1e-5
    assert 0 < float(concepts["input_residual_max"]) < 1e-5
    assert 1 < float(trained["held_out_l0"].dropna("step")[-1]) < 16
    shares = trained["prefix_explained_variance"]
    assert shares["prefix"].values.tolist() == [6, 12, 24]
    best = trained["held_out_explained_variance"].sel(step=int(trained["best_step"]) - 1)
    assert float(shares[-1]) == pytest.approx(float(best), abs=1e-6)
    assert (shares < 1).all()
    atoms = trained["mixing"] @ trained["point_feature"] * float(trained["gain"])
    away = np.linalg.norm((trained["decoder"].T - atoms).values, axis=1)
    assert 0 < away.max() <= 0.1 * float(trained["gain"]) * (1 + 1e-5)
    fact.write_sae(trained, tmp_path / "lens", "sae_lens")
    x = 5 * torch.randn(20, sae.n_channels)
    torch.testing.assert_close(fact.read_sae(tmp_path / "lens")(x), sae(x))


def test_a_classifier_learns_the_same_whether_memory_holds_its_images(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unbroken
) -> None:
    monkeypatch.setattr("fact.networks.classifier.MOST_KEPT", 0)
    schema = load_stage("fact.train_classifier").output
    read_anew = run_stage(project, "classifier", PartialRun(tmp_path / "a", schema))
    first, _ = unbroken("classifier")
    xr.testing.assert_identical(first.drop_attrs(), read_anew.drop_attrs())


def test_a_training_goes_on_from_a_state_that_knows_no_held_out_loss(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unbroken
) -> None:
    schema, config = load_stage("fact.train_sae").output, CONFIG["sae"]
    with monkeypatch.context() as patch:
        patch.setattr("fact.sae.training.SAETraining._validate", lambda *_: None)
        with pytest.raises(Stopped):
            run_stage(project, "sae", PartialRun(tmp_path / "a", schema, stop_after=22), **config)
    resumed = run_stage(project, "sae", PartialRun(tmp_path / "a", schema), **config)
    first, _ = unbroken("sae")
    held_out = [
        name for name in first if str(name).startswith("held_out_") and name != "held_out_accuracy"
    ]
    xr.testing.assert_identical(
        first.drop_vars(held_out).drop_attrs(), resumed.drop_vars(held_out).drop_attrs()
    )
    for name in held_out:
        whole, rest = (own[name].dropna("step") for own in (first, resumed))
        assert 0 < rest.sizes["step"] < whole.sizes["step"]
        xr.testing.assert_equal(rest, whole[-rest.sizes["step"] :])


@pytest.mark.parametrize(
    ("name", "files", "stop_after"),
    [
        ("sae", "training.*", 9),
        ("sae", "best-*", 22),
        ("classifier", "training.*", 12),
        ("fidelity", "fidelity.*", 3),
    ],
)
@pytest.mark.parametrize("damage", ["bit", "cut", "empty"])
def test_a_training_whose_state_is_damaged_begins_again(
    project: Project,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    unbroken,
    left_by,
    name: str,
    files: str,
    stop_after: int,
    damage: str,
) -> None:
    resumed = left_by(name, stop_after, tmp_path / "a")
    [state] = (tmp_path / "a").glob(files)
    data = bytearray(state.read_bytes())
    data[len(data) // 2] ^= 1
    state.write_bytes({"bit": data, "cut": data[:-100], "empty": b""}[damage])
    second = run_stage(project, name, resumed, **CONFIG.get(name, {}))
    printed = capsys.readouterr().out
    first, calls = unbroken(name)
    assert printed.count("is damaged; what it would have resumed begins again") == 1
    assert str(state) in printed
    assert resumed.calls == calls
    xr.testing.assert_identical(first.drop_attrs(), second.drop_attrs())


@pytest.mark.parametrize("name", ["features", "concepts", "encodings"])
def test_a_stopped_collection_goes_on_at_its_next_shard(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr("fact.sae.sampling.SHARD_BYTES", 1)
    monkeypatch.setattr("fact.traces.measurement.SHARD_BYTES", 1)
    monkeypatch.setattr("fact.encode.shared_concepts.SHARD_IMAGES", 1)
    schema = load_stage(project.graph.cells[name].stage).output
    if name == "encodings":
        expected = content_of_whole(project, name)
    else:  # shards are drawn by seeds of their own, or summed up in another order
        expected = run_stage(project, name, PartialRun(tmp_path / "b", schema)).content
    with pytest.raises(Stopped):
        run_stage(project, name, PartialRun(tmp_path / "a", schema, stop_after=2))
    written = sorted((tmp_path / "a/output").glob("part-*.nc"))
    before = [path.stat().st_mtime_ns for path in written]
    resumed = run_stage(project, name, PartialRun(tmp_path / "a", schema))
    assert len(written) >= 2
    assert [path.stat().st_mtime_ns for path in written] == before
    assert resumed.content == expected


@pytest.mark.parametrize("name", ["features", "concepts", "channels", "encodings"])
def test_parts_of_a_collection_give_the_digest_of_one_run(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr("fact.sae.sampling.SHARD_BYTES", 1)
    monkeypatch.setattr("fact.traces.measurement.SHARD_BYTES", 1)
    monkeypatch.setattr("fact.encode.shared_concepts.SHARD_IMAGES", 1)
    schema = load_stage(project.graph.cells[name].stage).output
    whole = run_stage(project, name, PartialRun(tmp_path / "whole", schema))
    closed = closed_over(
        lambda run: run_stage(project, name, run), lambda: PartialRun(tmp_path / "a", schema), 2
    )
    assert len(whole.rows) > 2
    assert (closed.content, closed.rows) == (whole.content, whole.rows)


# -- what must not go unnoticed ----------------------------------------------------------------


class Biased(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + 1e-2


@pytest.mark.parametrize(("before", "expected"), [(True, "before the layer"), (False, "after")])
def test_a_bias_makes_the_measurement_fail(
    project: Project,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    before: bool,
    expected: str,
) -> None:
    from fact import CompletenessError, Network
    from fact.networks.files import open_network
    from fact.traces import spliced

    def with_bias(source: Input, device: str) -> Network:
        network = open_network(source, device)
        module = network.module
        if before:
            module.features = nn.Sequential(
                nn.Sequential(module.features[0], Biased()), module.features[1]
            )
        else:
            module.classifier = nn.Sequential(Biased(), module.classifier)
        return dataclasses.replace(network, module=module)

    monkeypatch.setattr(spliced, "open_network", with_bias)
    schema = load_stage("fact.measure_concepts").output
    with pytest.raises(CompletenessError, match=expected):
        run_stage(project, "concepts", PartialRun(tmp_path / "a", schema))


def test_an_unknown_layer_names_the_nearest(project: Project, tmp_path: Path) -> None:
    from fact.networks.layers import LayerError

    schema = load_stage("fact.collect_features").output
    with pytest.raises(LayerError, match=r"did you mean 'features\.1'"):
        run_stage(project, "features", PartialRun(tmp_path / "a", schema), layer="featurs.1")
