"""The baselines of the C2-score, from images to scores, against a computation without stages."""

from __future__ import annotations

import functools
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import xarray as xr
from PIL import Image
from torch.nn import functional

import evals
import fact
import registry
from fact.data.images import Geometry
from fact.data.shapes import CLASSES, Shapes
from fact.encode.crp import collected_layer
from fact.encode.encodings import random_weights
from registry.declare.stage import load_stage
from registry.plan.project import Project
from tests.fact.chain import run_all
from tests.fact.encode.test_craft import best_by_search
from tests.fact.encode.test_encodings import brute_force
from tests.fact.test_stages import PartialRun, Stopped, content_of_whole, run_stage
from tests.in_parts import closed_over

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("encoder_built_once")]
DECLARATION = """
[datasets.shapes]
kind = "image-folder"
root = "ROOT/images"

[networks.resnet]
kind = "torchvision"
architecture = "resnet18"
resize = 32
crop = 32
seed = 3

[experiments.channels]
stage = "fact.collect_activations"
needs = { images = "shapes", network = "resnet" }
config = { layer = "layer1", pooling = "sum" }

[experiments.crp-encodings]
stage = "fact.encode_crp"
needs = { activations = "channels" }
config = { side = 64, n_images = 12, quantile = 0.9, least = 3, batch = 8 }

[experiments.crp-consistency]
stage = "evals.measure_consistency"
needs = { encodings = "crp-encodings" }
config = { least_images = 3 }

[experiments.craft]
stage = "fact.fit_craft"
needs = { images = "shapes", network = "resnet" }
config = { layer = "layer3", n_concepts = 3, images_per_class = 6, crop = 16, iterations = 40 }

[experiments.craft-encodings]
stage = "fact.encode_craft"
needs = { craft = "craft" }
config = { side = 64, quantile = 0.5, least = 3, batch = 4 }

[experiments.craft-consistency]
stage = "evals.measure_consistency"
needs = { encodings = "craft-encodings" }
config = { least_images = 3 }

# Whose logits have the names of the images' classes, and one more.
[networks.named]
kind = "torchvision"
architecture = "resnet18"
classes = "ROOT/names.txt"
resize = 32
crop = 32
seed = 7

[experiments.named-craft]
stage = "fact.fit_craft"
needs = { images = "shapes", network = "named" }
config = { layer = "layer3", n_concepts = 2, images_per_class = 2, crop = 24, iterations = 20 }

[experiments.named-fidelity]
stage = "fact.measure_fidelity"
needs = { model = "named-craft", images = "shapes" }
config = { batch = 7, n_bootstrap = 10 }

[experiments.named-seen-fidelity]
stage = "fact.measure_fidelity"
needs = { model = "named-craft", images = "shapes" }
config = { split = "train", n_bootstrap = 10 }
"""
IMAGES = {"cool dots": (7, 8), "fresh plain": (5, 7), "warm stripes": (4, 1)}
"""By class, how many images there are to fit and to test."""
CHOICE = fact.EncoderChoice(side=64)
GEOMETRY = Geometry(32, 32)


def write_images(root: Path) -> None:
    """Write shapes of three classes, as many as `IMAGES` says."""
    shapes = Shapes(120, 120, size=32)
    for name, counts in IMAGES.items():
        for split, count in zip(("train", "test"), counts, strict=True):
            (root / split / name).mkdir(parents=True)
            ids = shapes.ids(split)[shapes.labels(split) == CLASSES.index(name)]
            for number, pixels in enumerate(shapes.read(ids[:count])):
                Image.fromarray(pixels).save(root / split / name / f"{number}.png")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, encoder_built_once: None) -> Project:
    root = tmp_path_factory.mktemp("baselines")
    write_images(root / "images")
    (root / "names.txt").write_text("\n".join(["none of them", *IMAGES]))
    return run_all(DECLARATION.replace("ROOT", str(root)), root)


@pytest.fixture(scope="module")
def open_(project: Project):
    @functools.cache
    def open_one(name: str) -> xr.Dataset:
        with registry.open_dataset(project.current(name)) as dataset:
            return dataset.load()

    return open_one


@pytest.fixture(scope="module")
def images(project: Project) -> fact.ImageDataset:
    return project.declaration.resources["shapes"].settings.load()


@pytest.fixture(scope="module")
def network(project: Project) -> fact.Network:
    return project.declaration.resources["resnet"].settings.load()


def test_every_dataset_follows_its_schema(project: Project) -> None:
    for cell in project.graph.cells.values():
        dataset = xr.open_dataset(project.current(cell.name))
        load_stage(cell.stage).output.check(dataset)


def whole_mean(pictures: np.ndarray) -> np.ndarray:
    return fact.encode_maps(pictures, np.ones(pictures.shape[:3]), CHOICE, device="cpu").mean(
        "image"
    )


# -- CRP -----------------------------------------------------------------------------------------


def test_channels_are_judged_by_the_images_they_are_strongest_in(open_, images, network) -> None:
    channels, encodings, scores = (
        open_("channels"),
        open_("crp-encodings"),
        open_("crp-consistency"),
    )
    seen = encodings["image"].values[encodings["map"].values == "whole"].astype(str)
    assert len(seen) == 12
    pictures = images.read(seen, GEOMETRY)
    outputs = []
    handle = network.module.layer1.register_forward_hook(lambda _p, _a, out: outputs.append(out))
    network.module(network.encode(pictures))
    handle.remove()
    sums = outputs[0].sum((2, 3)).numpy()
    np.testing.assert_allclose(channels["activation"].sel(image=seen), sums, rtol=1e-4)
    for concept in (0, 7, 40):
        own = (encodings["map"].values == "concept") & (encodings["group"].values == concept)
        expected = brute_force(sums[:, concept], 0.9, 3)
        assert encodings["image"].values[own].tolist() == seen[expected].tolist()
        np.testing.assert_allclose(encodings["presence"][own], sums[expected, concept], rtol=1e-4)
        channel = np.full(expected.sum(), concept)
        maps = fact.relevance_maps(network, "layer1", pictures[expected], channel)
        found = fact.encode_maps(pictures[expected], maps.values, CHOICE, device="cpu")
        np.testing.assert_allclose(encodings["encoding"][own], found, rtol=1e-3, atol=1e-4)
        score = evals.c2_score(found, sums[expected, concept], whole_mean(pictures))
        assert scores["score"].sel(concept=concept) == pytest.approx(score, abs=1e-4)


def test_channels_share_one_random_baseline(open_) -> None:
    encodings, scores = open_("crp-encodings"), open_("crp-consistency")
    assert (encodings["map"].values == "random").sum() == encodings["n_images"] == 12
    assert scores["baseline_class"].values.tolist() == [0]
    assert np.isfinite(scores["difference"])


@pytest.mark.parametrize(
    ("layer", "pooling", "transform"),
    [("", "sum", "none"), ("layer1", "mean", "none"), ("layer1", "sum", "sigmoid")],
)
def test_presences_must_be_sums_of_a_layer(layer: str, pooling: str, transform: str) -> None:
    config = {"layer": layer, "pooling": pooling, "transform": transform}
    given = SimpleNamespace(name="other", config=config, origin=lambda _slot: given)
    with pytest.raises(ValueError, match="expected a layer, pooling 'sum', transform 'none'"):
        collected_layer(given, "cpu")


# -- CRAFT ---------------------------------------------------------------------------------------


def test_concepts_are_of_a_class_and_not_below_0(open_, images) -> None:
    craft = open_("craft")
    classes = sorted(set(images.labels("train").tolist()))
    expected = [(images.classes[label], number) for label in classes for number in range(3)]
    assert craft["concept_name"].values.tolist() == [f"{name}/{k}" for name, k in expected]
    assert craft["concept_class"].values.tolist() == [name for name, _ in expected]
    assert craft["concept"].values.tolist() == [3 * c + k for c in classes for k in range(3)]
    assert (craft["basis"] >= 0).all()
    assert (craft["basis"].sum("channel") > 0).all()
    assert ((craft["error"] > 0) & (craft["error"] < 1)).all()
    counts = np.minimum(np.bincount(images.labels("train")), 6)
    np.testing.assert_array_equal(craft["crops"], np.repeat(counts[classes] * 4, 3))


def expected_rows(images, network, craft, label: int) -> dict[str, np.ndarray]:
    """What one class contributes, image by image, with nothing of the stage's code."""
    ids = images.ids("test")[images.labels("test") == label]
    pictures = images.read(ids, GEOMETRY)
    module, x = network.module, network.encode(pictures)
    for part in (module.conv1, module.bn1, module.relu, module.maxpool, module.layer1):
        x = part(x)
    activations = module.layer3(module.layer2(x)).permute(0, 2, 3, 1).numpy()
    basis = craft["basis"].values[craft["concept"].values // 3 == label].astype(np.float64)
    maps = np.array(
        [[[best_by_search(v.astype(float), basis) for v in r] for r in a] for a in activations]
    )
    random = np.array([random_weights(name, (32, 32), 0).sum() for name in ids])
    return {"ids": ids, "pictures": pictures, "maps": maps, "random": random}


def test_concepts_of_a_class_are_judged_within_it_beside_its_own_baseline(
    open_, images, network
) -> None:
    craft, encodings, scores = open_("craft"), open_("craft-encodings"), open_("craft-consistency")
    every = images.ids("test")
    centre = whole_mean(images.read(every, GEOMETRY))
    kinds, groups = encodings["map"].values, encodings["group"].values
    assert sorted(encodings["image"].values[kinds == "whole"]) == sorted(every)
    assert encodings["n_images"] == len(every)
    assert encodings["n_encodings"] == (kinds == "concept").sum()
    baselines, shown = [], []
    for label in sorted(set(images.labels("test").tolist())):
        found = expected_rows(images, network, craft, label)
        ids, pictures = found["ids"], found["pictures"]
        for number in range(3):
            concept, maps = 3 * label + number, found["maps"][..., number]
            presence = maps.sum((1, 2))
            own = (kinds == "concept") & (groups == concept)
            chosen = brute_force(presence, 0.5, 3)
            assert encodings["image"].values[own].tolist() == ids[chosen].tolist()
            np.testing.assert_allclose(encodings["presence"][own], presence[chosen], rtol=1e-4)
            if not chosen.any():
                assert np.isnan(encodings["threshold"].sel(concept=concept))
                continue
            weakest = encodings["threshold"].sel(concept=concept)
            assert weakest == pytest.approx(presence[chosen].min(), rel=1e-4)
            large = functional.interpolate(
                torch.from_numpy(maps[chosen])[:, None], (32, 32), mode="bilinear"
            )
            points = fact.encode_maps(pictures[chosen], large[:, 0].numpy(), CHOICE, device="cpu")
            np.testing.assert_allclose(encodings["encoding"][own], points, rtol=1e-3, atol=1e-4)
            expected = evals.c2_score(points, presence[chosen], centre)
            assert scores["score"].sel(concept=concept) == pytest.approx(expected, abs=1e-3)
        chosen = brute_force(found["random"], 0.5, 3)
        own = (kinds == "random") & (groups == label)
        assert encodings["image"].values[own].tolist() == ids[chosen].tolist()
        if not chosen.any():  # of too few images there is no baseline
            continue
        shown.append(images.classes[label])
        maps = [random_weights(name, (32, 32), 0) for name in ids[chosen]]
        points = fact.encode_maps(pictures[chosen], maps, CHOICE, device="cpu")
        baselines.append(evals.c2_score(points, found["random"][chosen], centre))
    np.testing.assert_allclose(scores["baseline_score"], baselines, atol=1e-4)
    assert scores["baseline"] == pytest.approx(np.nanmean(baselines), abs=1e-4)
    assert scores["baseline_name"].values.tolist() == shown
    assert len(shown) < len(set(images.labels("test").tolist()))
    of_class = dict(zip(scores["baseline_name"].values, baselines, strict=True))
    beside = [of_class.get(name, np.nan) for name in craft["concept_class"].values]
    np.testing.assert_allclose(scores["concept_baseline"], beside, atol=1e-4)
    assert scores["concept_name"].values.tolist() == craft["concept_name"].values.tolist()


def test_fidelity_is_by_the_concepts_of_the_class_that_is_predicted(
    project: Project, open_, images
) -> None:
    craft, found = open_("named-craft"), open_("named-fidelity")
    network = project.declaration.resources["named"].settings.load()
    ids = images.ids("test")
    x = network.encode(images.read(ids, GEOMETRY))
    module = network.module
    with torch.no_grad():
        whole = module(x)
        for part in (module.conv1, module.bn1, module.relu, module.maxpool, module.layer1):
            x = part(x)
        activations = module.layer3(module.layer2(x)).permute(0, 2, 3, 1).double().numpy()
    predicted = [network.classes[logit] for logit in whole.argmax(dim=1).tolist()]
    of_class = craft["concept_class"].values
    known = np.isin(predicted, of_class)
    assert 0 < known.sum() < len(known)
    assert found["image"].values.tolist() == ids[known].tolist()
    assert found["n_without_concepts"] == (~known).sum()
    rebuilt = []
    for image in np.flatnonzero(known):
        basis = craft["basis"].values[of_class == predicted[image]].astype(np.float64)
        flat = activations[image].reshape(-1, basis.shape[1])
        amounts = np.array([best_by_search(row, basis) for row in flat])
        rebuilt.append((amounts @ basis).reshape(activations[image].shape))
    rows = activations[known]
    rest = rows - np.array(rebuilt)
    variance = ((rows - rows.mean(axis=(0, 1, 2))) ** 2).sum()
    assert found["normalised_mse"] == pytest.approx((rest**2).sum() / variance, rel=1e-3)
    with torch.no_grad():
        x = torch.from_numpy(np.array(rebuilt)).permute(0, 3, 1, 2).float()
        spliced = module.fc(module.avgpool(module.layer4(x)).flatten(1))
    divergence = functional.kl_div(
        spliced.double().log_softmax(1),
        whole[torch.from_numpy(known)].double().log_softmax(1),
        reduction="batchmean",
        log_target=True,
    )
    assert found["kl"] == pytest.approx(divergence.item(), rel=1e-3)
    assert 0 < found["kl"] < found["ablated_kl"]


def test_images_that_were_factorised_are_omitted(open_, images) -> None:
    found, label = open_("named-seen-fidelity"), images.labels("train")
    factorised = np.minimum(np.bincount(label), 2).sum()
    assert found["n_omitted"] == factorised
    measured = found["n_images"] + found["n_without_concepts"]
    assert measured == len(label) - factorised


def test_another_seed_gives_other_concepts(project: Project, tmp_path: Path) -> None:
    schema = load_stage("fact.fit_craft").output
    other = run_stage(project, "craft", PartialRun(tmp_path / "b", schema), seed=1)
    assert other.content != content_of_whole(project, "craft")


@pytest.mark.parametrize("name", ["crp-encodings", "craft", "craft-encodings"])
def test_a_stopped_run_goes_on_at_its_next_part(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr("fact.encode.shared_concepts.SHARD_IMAGES", 1)
    schema = load_stage(project.graph.cells[name].stage).output
    with pytest.raises(Stopped):
        run_stage(project, name, PartialRun(tmp_path / "a", schema, stop_after=2))
    written = sorted((tmp_path / "a/output").glob("part-*.nc"))
    before = [path.stat().st_mtime_ns for path in written]
    resumed = run_stage(project, name, PartialRun(tmp_path / "a", schema))
    assert len(written) == 2
    assert [path.stat().st_mtime_ns for path in written] == before
    assert resumed.content == content_of_whole(project, name)


@pytest.mark.parametrize("name", ["crp-encodings", "craft"])
def test_parts_give_the_digest_of_one_run(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr("fact.encode.shared_concepts.SHARD_IMAGES", 1)
    schema = load_stage(project.graph.cells[name].stage).output
    closed = closed_over(
        lambda run: run_stage(project, name, run), lambda: PartialRun(tmp_path / "a", schema), 2
    )
    assert len(closed.rows) > 1
    assert closed.content == content_of_whole(project, name)


@pytest.mark.parametrize("name", ["craft", "craft-encodings"])
def test_a_split_without_images_is_an_error(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(
        "fact.data.folder.FolderImages.labels", lambda _self, _split: np.zeros(0, int)
    )
    monkeypatch.setattr("fact.data.folder.FolderImages.ids", lambda _self, _split: np.zeros(0, str))
    schema = load_stage(project.graph.cells[name].stage).output
    with pytest.raises(ValueError, match="has no images"):
        run_stage(project, name, PartialRun(tmp_path / "a", schema))
