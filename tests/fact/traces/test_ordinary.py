"""Networks that are not linear in their frozen weights: approximations that say so.

Held against the same network cut in two by hand, differentiated by autograd alone, and against
loops over pixels.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
import xarray as xr
from torch import nn

import fact
import registry
from evals.concepts.approximate import maps_note
from fact.networks.foresight import refuse_mapping
from fact.networks.layers import LayerError
from fact.networks.linearity import TOLERANCE
from fact.networks.network import Architecture, Network, NetworkError, builder
from fact.traces.attribution import highlight
from fact.traces.code_maps import upsample_positions
from fact.traces.neurons import (
    choose_extremes,
    logit_gradients,
    logit_relevances,
    varying_neurons,
)
from registry.execute.schedule import Watcher, run_plan
from registry.plan.preflight import look_ahead
from registry.plan.probes import Probes
from registry.plan.project import Project, open_project
from registry.record.states import State
from tests.fact import tiny

LAYER = "2"


@builder("tests-ordinary")
def convnet(bias: bool = True) -> nn.Sequential:
    """Convolution, norm and ReLU (layer 2: 5 channels of 4 x 4), again, mean, classifier."""
    norm = nn.BatchNorm2d if bias else (lambda channels: nn.Identity())
    return nn.Sequential(
        *(nn.Conv2d(3, 5, 3, stride=2, padding=1, bias=bias), norm(5), nn.ReLU()),
        *(nn.Conv2d(5, 6, 3, padding=1, bias=bias), nn.ReLU(), nn.AdaptiveAvgPool2d(1)),
        *(nn.Flatten(), nn.Linear(6, 3, bias=bias)),
    )


def ordinary(bias: bool = True, **about: object) -> Network:
    """A small convolutional network in double precision, in evaluation mode."""
    recipe = Architecture("tests-ordinary", {"bias": bias})
    module = recipe.build(seed=1)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.uniform_(-1, 1, generator=torch.Generator().manual_seed(0))
            part.bias.data.uniform_(-0.5, 0.5, generator=torch.Generator().manual_seed(1))
    module.double().eval().requires_grad_(False)
    return Network(module, "small", tiny.CLASSES, bcos=False, architecture=recipe, **about)


# -- the probe ---------------------------------------------------------------------------------


def test_a_network_with_biases_is_found_out_and_one_without_passes() -> None:
    images = tiny.images(4)
    assert ordinary().linear is None
    found = fact.probe_linearity(ordinary(), images)
    assert (found.linear, found.probe > 1e-2) == (False, True)
    without = fact.probe_linearity(ordinary(bias=False), images)
    assert (without.linear, without.probe < 1e-12) == (True, True)


def test_the_probe_is_gradient_times_image_against_a_sum_of_all_logits() -> None:
    network, images = ordinary(), tiny.images(3)
    weights = torch.randn(3, generator=torch.Generator().manual_seed(7)).double()
    worst = 0.0
    for image in images:
        x = network.encode(image[None]).requires_grad_()
        y = (network.module(x)[0] * weights).sum()
        (gradient,) = torch.autograd.grad(y, x)
        parts = gradient * x.detach()
        missed = abs(parts.sum() - y.detach())
        worst = max(worst, float(missed / parts.abs().sum()))
    assert fact.probe_linearity(network, images, seed=7).probe == pytest.approx(worst, rel=1e-6)


@pytest.mark.parametrize("make", [tiny.convnet, tiny.vit])
def test_bcos_networks_pass_the_probe_and_are_taken_at_their_word(make) -> None:
    network = make()
    assert network.linear
    assert network.probe is None
    assert Network(network.module).linear
    assert Network(network.module).bcos
    assert fact.probe_linearity(network, tiny.images()).probe < 1e-9
    tiny.add_bias(next(network.module.children()), 0.1)
    biased = fact.probe_linearity(network, tiny.images())
    assert not biased.linear
    assert biased.probe > TOLERANCE


def test_what_the_probe_found_is_kept_with_the_weights(tmp_path) -> None:
    network = ordinary()
    network.module.float()
    found = fact.probe_linearity(network, tiny.images())
    fact.save_network(found, tmp_path / "network.safetensors")
    loaded = fact.load_network(tmp_path / "network.safetensors")
    assert (loaded.linear, loaded.bcos, loaded.probe) == (False, False, found.probe)


PLUGIN = """
from dataclasses import dataclass

import registry


@dataclass(frozen=True)
class Mine:
    def identity(self):
        return ""

    def load(self):
        from tests.fact.traces.test_ordinary import ordinary

        network = ordinary(bias=self.bias)
        network.module.float()
        return network


@registry.kind("networks", "tests-silent", provides="network")
@dataclass(frozen=True)
class Silent(Mine):
    bias: bool = True


@registry.kind("networks", "tests-declared", provides="network")
@dataclass(frozen=True)
class Declared(Mine):
    linear = False
    bias: bool = True
"""

DECLARATION = """
[project]
plugins = ["plugin_of_ordinary_networks"]

[datasets.shapes]
kind = "shapes"
n_train = 30
n_test = 20
size = 24

[networks.silent]
kind = "tests-silent"

[networks.without-bias]
kind = "tests-silent"
bias = false

[networks.declared]
kind = "tests-declared"

[experiments.features]
stage = "fact.collect_features"
needs = { images = "shapes", network = "silent" }
config = { layer = "2", samples_per_image = 8 }

[experiments.sae]
stage = "fact.train_sae"
needs = { features = "features" }
config = { n_concepts = 12, k = 3, batch = 64, epochs = 2, lr = 1e-2 }

[experiments.concepts]
stage = "fact.measure_concepts"
needs = { sae = "sae", images = "shapes" }

[experiments.linear-channels]
stage = "fact.measure_channels"
needs = { network = "without-bias", images = "shapes" }
config = { layer = "2" }

[experiments.channels]
stage = "fact.measure_channels"
needs = { network = "declared", images = "shapes" }
config = { layer = "2" }

[experiments.gallery]
stage = "fact.draw_concepts"
needs = { concepts = "concepts" }
config = { n_images = 2 }

[experiments.decisions]
stage = "fact.explain_decisions"
needs = { concepts = "concepts", gallery = "gallery" }
config = { per_class = 1 }

[experiments.maps]
stage = "fact.map_concepts"
needs = { concepts = "concepts" }
config = { n_images = 2 }

[experiments.gradient-maps]
stage = "fact.map_concepts"
needs = { concepts = "concepts" }
config = { n_images = 2, maps = "gradient" }

[experiments.crp-maps]
stage = "fact.map_concepts"
needs = { concepts = "concepts" }
config = { n_images = 2, maps = "crp", most = 4 }

[experiments.masks]
stage = "fact.mask_inputs"
needs = { maps = "maps" }

[experiments.labels]
stage = "fact.label_inputs"
needs = { images = "shapes" }

[experiments.names]
stage = "evals.name_concepts"
needs = { activations = "concepts", labels = "labels" }
[experiments.names.config]
metrics = ["correlation", "iou"]
alpha = 0.1
n_bootstrap = 5
n_permutations = 0
min_positives = 1
min_active = 1

[experiments.localisation]
stage = "evals.localise_concepts"
needs = { maps = "maps", masks = "masks", names = "names" }

[experiments.neurons]
stage = "fact.collect_activations"
needs = { images = "shapes", network = "declared" }
config = { layer = "2", pooling = "max" }

[experiments.neuron-gallery]
stage = "fact.draw_concepts"
needs = { concepts = "neurons" }
config = { n_images = 3, most = 2, maps = "crp" }

[experiments.neuron-maps]
stage = "fact.map_concepts"
needs = { concepts = "neurons" }
config = { n_images = 2, most = 3 }

[experiments.neuron-masks]
stage = "fact.mask_inputs"
needs = { maps = "neuron-maps" }

[experiments.neuron-localisation]
stage = "evals.localise_concepts"
needs = { maps = "neuron-maps", masks = "neuron-masks" }

[experiments.logit-gallery]
stage = "fact.draw_concepts"
needs = { concepts = "activations" }
config = { n_images = 3, pictures = false }

[experiments.relevance-gallery]
stage = "fact.draw_concepts"
needs = { concepts = "activations" }
config = { n_images = 2, pictures = false, maps = "crp" }

[datasets.table]
kind = "array-file"
path = "table.npz"

[experiments.imported]
stage = "fact.import_activations"
needs = { arrays = "table" }

[experiments.imported-gallery]
stage = "fact.draw_concepts"
needs = { concepts = "imported", images = "shapes" }
config = { n_images = 2 }

[experiments.encodings]
stage = "fact.encode_concepts"
needs = { concepts = "concepts" }
config = { side = 32, quantile = 0.5, least = 3 }

[experiments.intervention]
stage = "fact.intervene_concepts"
needs = { concepts = "concepts" }
config = { n_images = 6, n_steps = 2, n_bootstrap = 10 }

[experiments.activations]
stage = "fact.collect_activations"
needs = { images = "shapes", network = "declared" }
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A chain of every stage that concepts go through, and what a plan said of it."""
    root = tmp_path_factory.mktemp("ordinary")
    (root / "plugin_of_ordinary_networks.py").write_text(PLUGIN)
    (root / "experiments.toml").write_text(DECLARATION)
    ids = [f"test/{row:05d}" for row in range(20)]
    values = np.random.default_rng(0).normal(size=(20, 2)).astype(np.float32)
    np.savez(root / "table.npz", values=values, input=ids, name=["up", "flat"])
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(root)
        patch.chdir(root)  # where the path of the table begins
        yield open_project(root / "experiments.toml")


@pytest.fixture(scope="module")
def made(project: Project):
    plan = project.plan()
    outcomes = run_plan(project, plan, runner="here", journal_only=True, watcher=Watcher())
    failures = [o for o in outcomes if o.ending is not State.COMPLETED]
    assert not failures, [(o.name, o.message) for o in failures]

    def open_one(name: str) -> xr.Dataset:
        with registry.open_dataset(project.current(name)) as dataset:
            return dataset.load()

    return open_one


def test_a_plan_says_what_follows_once_for_each_network(project: Project) -> None:
    said = project.foreseen(project.plan())
    assert [text.partition(" is ")[0] for text in said] == [
        "whether network 'silent'",
        "whether network 'without-bias'",
        "network 'declared'",
    ]
    assert all("an approximation" in text for text in said)
    assert project.foreseen(project.plan(["activations"])) == ()


@pytest.mark.slow
def test_channels_are_mapped_where_they_are_strongest_and_located(made) -> None:
    maps, neurons, located = (made(f"neuron{n}") for n in ("-maps", "s", "-localisation"))
    assert (maps["maps"], bool(maps["exact"]), maps.sizes["concept"]) == ("codes", False, 3)
    activation = neurons["activation"]
    for concept in maps["concept"].values.tolist():
        own = activation.sel(neuron=concept)
        one = maps.sel(concept=concept)
        assert one["presence"][0] == own.max()
        assert own.sel(image=one["image"].values[1]) == one["presence"][1]
        assert (
            float(one["map"][0].sum()) >= float(own.max()) > 0
        )  # of all positions, not the largest
    assert located.sizes["concept"] == 3


def test_only_what_a_network_gives_has_a_place(project: Project) -> None:
    loaded = {"concepts": project.graph.cells["imported"]}
    [said] = refuse_mapping({"maps": "auto"}, loaded)
    assert said == "no network is behind 'imported': only what a network's layers give has a place"


@pytest.mark.slow
def test_the_whole_chain_goes_through_and_says_what_it_is(made) -> None:
    concepts, channels, linear = (made(n) for n in ("concepts", "channels", "linear-channels"))
    assert [bool(c["exact"]) for c in (concepts, channels, linear)] == [False, False, True]
    assert concepts["probe"] > 1e-2 > 1e-5 > linear["probe"]
    assert "probe" not in channels
    assert concepts["residual"].max() > 1e-3 > linear["residual"].max()
    for name in ("concepts", "decisions", "intervention"):
        assert not made(name)["exact"]
    for name in ("gallery", "decisions", "maps"):
        assert made(name)["maps"] == "codes"
    assert made("gradient-maps")["maps"] == "gradient"
    assert made("crp-maps")["maps"] == made("neuron-gallery")["maps"] == "crp"
    assert not made("maps")["exact"]
    assert made("encodings")["variant"].item().endswith("; maps by codes")
    maps = made("maps")
    present = maps["presence"].fillna(0)
    np.testing.assert_allclose(maps["map"].sum(("y", "x")), present, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_localisation_says_that_it_is_of_approximate_maps(made, project: Project) -> None:
    located, maps = made("localisation"), made("maps")
    assert located["maps"] == "codes"
    assert "up-sampled codes" in maps_note(located)
    assert located.sizes["concept"] == maps.sizes["concept"] > 0
    chance = located["chance"].sel(measure="energy").dropna("concept")
    masks = made("masks")
    for concept in chance["concept"].values:
        name = str(located["name"].sel(concept=concept).item())
        shares = []
        for image in maps["image"].sel(concept=concept).values:
            carriers = masks["carries"].sel(image=image, label=name).values
            if carriers.any():
                shares.append(masks["mask"].sel(image=image).values[carriers].any(axis=0).mean())
        assert chance.sel(concept=concept) == pytest.approx(np.mean(shares))


# -- relevance -----------------------------------------------------------------------------------


def test_flat_relevance_of_a_concept_is_its_code_over_what_each_position_sees() -> None:
    network, sae, images = ordinary(), tiny.sae(5), tiny.images(2)
    maps = fact.concept_maps(network, LAYER, sae, images, [0, 4, 7], by="crp")
    assert maps.attrs["maps"] == "crp"
    assert "weights" not in maps
    for row, image in enumerate(images):
        z, _, _ = spliced_by_hand(network, sae, image, 0)
        for number, concept in enumerate([0, 4, 7]):
            expected = np.zeros((8, 8))
            for y, x in np.ndindex(4, 4):  # a kernel of 3, a stride of 2, a padding of 1
                seen = np.zeros((8, 8))
                seen[max(2 * y - 1, 0) : 2 * y + 2, max(2 * x - 1, 0) : 2 * x + 2] = 1
                expected += z[concept, y, x] * seen / seen.sum()
            np.testing.assert_allclose(maps["map"][row, number], expected, atol=1e-5)


def test_relevance_of_channels_is_that_of_the_baseline_and_adds_up_over_concepts() -> None:
    network, images = ordinary(), tiny.images(2)
    maps = fact.concept_maps(network, "4", None, images, [1, 3], by="crp")
    for number, channel in enumerate([1, 3]):
        expected = fact.relevance_maps(network, "4", images, [channel, channel])
        np.testing.assert_allclose(maps["map"][:, number], expected, rtol=1e-5, atol=1e-7)
    given = network, LAYER, tiny.sae(5), images
    parts = fact.concept_maps(*given, np.arange(9), of="contribution", target=2, by="crp")
    whole = fact.logit_maps(*given, target=2, by="crp")
    np.testing.assert_allclose(parts["map"].sum("concept"), whole["map"], atol=1e-6)
    np.testing.assert_allclose(whole["map"].sum(("y", "x")), whole["total"], atol=1e-5)


@pytest.mark.parametrize(
    "module",
    [
        nn.Sequential(nn.Conv2d(3, 2, 1), nn.LayerNorm(8)),
        nn.Sequential(nn.Conv2d(3, 4, 1), nn.PixelShuffle(2)),
    ],
)
def test_a_sequence_with_a_step_without_a_rule_is_refused(module: nn.Module) -> None:
    network = Network(module.eval(), bcos=False, linear=False)
    lacking = type(list(module)[-1]).__name__
    with pytest.raises(NetworkError, match=f"no rules for {lacking}"):
        fact.concept_maps(network, "0", None, tiny.images(1), [0], by="crp")


REFUSALS = """
[datasets.shapes]
kind = "shapes"
n_train = 10
n_test = 10
size = 24

[networks.resnet]
kind = "torchvision"
architecture = "resnet18"

[networks.transformer]
kind = "torchvision"
architecture = "vit_b_16"

[networks.exact]
kind = "bcos"
architecture = "resnet18"

[networks.own]
kind = "python"
function = "tests.fact.traces.test_ordinary:convnet"
classes = "imagenet"

[experiments.bcos-classifier]
stage = "fact.train_classifier"
needs = { images = "shapes" }

[experiments.cnn-classifier]
stage = "fact.train_classifier"
needs = { images = "shapes" }
config = { architecture = "standard-cnn" }
"""
CHAIN = """
[experiments.{0}-channels]
stage = "fact.measure_channels"
needs = {{ network = "{0}", images = "shapes" }}
config = {{ layer = "layer3" }}

[experiments.{0}-maps]
stage = "fact.map_concepts"
needs = {{ concepts = "{0}-channels" }}
config = {{ maps = "crp" }}

[experiments.{0}-gallery]
stage = "fact.draw_concepts"
needs = {{ concepts = "{0}-channels" }}
"""
NETWORKS = ("resnet", "transformer", "exact", "own", "bcos-classifier", "cnn-classifier")


def test_a_plan_refuses_crp_of_networks_that_it_has_no_rules_for(tmp_path) -> None:
    text = REFUSALS + "".join(CHAIN.format(name) for name in NETWORKS)
    (tmp_path / "experiments.toml").write_text(text)
    project = open_project(tmp_path / "experiments.toml")
    due = project.plan().due
    lacking = look_ahead(project, due).lacking
    assert sorted(lacking) == ["bcos-classifier-maps", "exact-maps", "transformer-maps"]
    assert "CRP of network 'transformer': there are no rules" in lacking["transformer-maps"]
    known = project.fingerprints(project.graph, "own-maps")
    for found in (True, False):
        Probes.of(project).keep(project, {"look": {"resources": {known["own"]: {"crp": found}}}})
        assert ("own-maps" in look_ahead(project, due).lacking) == (not found)


# -- neurons -------------------------------------------------------------------------------------


def test_extremes_of_neurons_are_those_of_a_loop() -> None:
    random = np.random.default_rng(5)
    values = random.normal(size=(12, 4)).round(1).astype(np.float32)
    values[:, 1] = np.maximum(values[:, 1], 0)  # as after a ReLU
    values[:, 2] = np.abs(values[:, 2]) + 1
    values[3, 0] = np.nan
    ids = random.permutation([f"test/{row:02d}" for row in range(12)])
    activation = xr.DataArray(
        values, {"image": ids, "concept": [7, 8, 9, 10]}, ("image", "concept")
    )
    chosen = choose_extremes(activation, 5)
    for column in range(4):
        rows = sorted(range(12), key=lambda row: ids[row])
        known = [row for row in rows if not np.isnan(values[row, column])]
        least = min(values[row, column] for row in known)
        high = [row for row in known if values[row, column] > least]
        high = sorted(high, key=lambda row: -values[row, column])[:5]
        low = [row for row in known if values[row, column] < 0 and row not in high]
        low = sorted(low, key=lambda row: values[row, column])[:5]
        for side, expected in (("", high), ("lowest_", low)):
            names = chosen[f"{side}image"].values[column]
            assert [name for name in names if name] == [ids[row] for row in expected]
            found = chosen[f"{side}presence"].values[column]
            np.testing.assert_array_equal(found[: len(expected)], values[expected, column])
            assert np.isnan(found[len(expected) :]).all()
    assert (chosen["lowest_image"].values[1:3] == "").all()
    rows, is_below = varying_neurons(activation * [1, 1, 0, 1], None)
    assert (rows.tolist(), is_below) == ([0, 1, 3], True)
    assert not varying_neurons(abs(activation), 1)[1]
    with pytest.raises(ValueError, match="no neuron varies"):
        varying_neurons(activation * 0, None)


def test_maps_of_logits_add_up_where_the_network_is_linear_and_no_bias_takes_a_part() -> None:
    images, classes = tiny.images(3), np.array([2, 0, 1])
    linear, biased = tiny.convnet(), ordinary(bias=False)
    wanted = torch.from_numpy(classes)[None]
    with logit_gradients(linear, linear.encode(images)) as locate:
        weights, values = (part[0].numpy() for part in locate(wanted))
    logits = linear.logits(linear.encode(images)).detach().numpy()[np.arange(3), classes]
    np.testing.assert_allclose(values.sum(axis=(1, 2)), logits, atol=1e-9)
    assert weights.shape == (3, 6, 8, 8)
    with logit_relevances(biased, biased.encode(images)) as locate:
        none, (values,) = locate(wanted)
    logits = biased.logits(biased.encode(images)).detach().numpy()[np.arange(3), classes]
    assert none is None
    np.testing.assert_allclose(values.numpy().sum(axis=(1, 2)), logits, atol=1e-4)


@pytest.mark.slow
def test_neurons_have_galleries_as_concepts_have(made, project: Project) -> None:
    images = project.declaration.resources["shapes"].settings.load()
    for name, collected in (
        ("neuron-gallery", "neurons"),
        ("logit-gallery", "activations"),
        ("imported-gallery", "imported"),
    ):
        gallery, values = made(name), made(collected)["activation"]
        for concept in gallery["concept"].values:
            own, column = gallery.sel(concept=concept), values.sel(neuron=concept)
            names = [n for n in own["image"].values if n]
            strongest = column.sortby(column, ascending=False)["image"].values[: len(names)]
            assert set(names) == set(strongest)
            np.testing.assert_allclose(own["presence"][: len(names)], column.sel(image=names))
            expected = images.read(names)
            np.testing.assert_array_equal(own["picture"].values[: len(names)], expected)
    channels, logits, imported = map(made, ("neuron-gallery", "logit-gallery", "imported-gallery"))
    assert channels.sizes["concept"] == 2
    assert (channels["explanation"].values[..., 3] > 0).any()
    assert not channels["exact"]
    assert not {"explanation", "maps"} & set(logits)  # no place, unless one asks for it
    assert "explanation" in made("relevance-gallery")
    assert logits["name"].values.tolist() == made("activations")["name"].values.tolist()
    assert imported["name"].values.tolist() == ["up", "flat"]
    assert (imported["lowest_presence"].values[:, 0] < 0).all()
    assert (imported["label"].values >= 0).all()
    folder = project.current("neuron-gallery")
    assert len(list(folder.glob("pictures/*.png"))) == 2


# -- contributions -----------------------------------------------------------------------------


def spliced_by_hand(network: Network, sae, image: np.ndarray, target: int):
    """Return codes, their gradients (concept, y, x) and the logit, with the network cut in two."""
    with torch.no_grad():
        x = network.module[:3](network.encode(image[None]))[0]
    z = torch.zeros(sae.n_concepts, *x.shape[1:], dtype=torch.double)
    for row in range(x.shape[1]):
        for column in range(x.shape[2]):
            scores = (sae.encoder @ x[:, row, column]).clamp(min=0)
            for concept in scores.argsort(descending=True)[: sae.k]:
                z[concept, row, column] = scores[concept]
    z.requires_grad_()
    logit = network.module[3:](torch.einsum("cf,fyx->cyx", sae.decoder, z)[None])[0, target]
    (gradient,) = torch.autograd.grad(logit, z)
    return z.detach().numpy(), gradient.numpy(), float(logit.detach())


def test_contributions_are_gradient_times_activation_of_the_spliced_network() -> None:
    network, sae, images = ordinary(), tiny.sae(5), tiny.images(3)
    traced = fact.trace_concepts(network, LAYER, sae, images, target=1)
    assert not traced["exact"]
    for row, image in enumerate(images):
        z, gradient, logit = spliced_by_hand(network, sae, image, 1)
        np.testing.assert_allclose(traced["presence"][row], z.sum((1, 2)), atol=1e-12)
        expected = (z * gradient).sum((1, 2))
        np.testing.assert_allclose(traced["contribution"][row], expected, atol=1e-12)
        assert traced["logit"][row] == pytest.approx(logit, abs=1e-12)
        residual = abs(expected.sum() - logit) / abs(expected).sum()
        assert traced["residual"][row] == pytest.approx(residual, rel=1e-9)
    assert traced["residual"].min() > 1e-3


def test_only_a_network_that_is_linear_is_held_to_its_sum() -> None:
    images = tiny.images()
    assert not fact.trace_concepts(ordinary(), LAYER, None, images)["exact"]
    assert not fact.trace_concepts(ordinary(linear=False), LAYER, None, images)["exact"]
    assert fact.trace_concepts(ordinary(bias=False), LAYER, tiny.sae(5), images)["exact"]
    with pytest.raises(fact.CompletenessError):
        fact.trace_concepts(ordinary(linear=True), LAYER, None, images)


# -- maps --------------------------------------------------------------------------------------


def bilinear(count: int, size: int) -> np.ndarray:
    """Weights (pixel, cell) of linear interpolation between centres of cells, by definition."""
    weights = np.zeros((size, count))
    for pixel in range(size):
        place = min(max((pixel + 0.5) * count / size - 0.5, 0), count - 1)
        low = int(np.floor(place))
        high = min(low + 1, count - 1)
        weights[pixel, low] += 1 - (place - low)
        weights[pixel, high] += place - low
    return weights / weights.sum(axis=0)


def test_maps_of_codes_spread_every_position_over_its_pixels() -> None:
    network, sae, images = ordinary(), tiny.sae(5), tiny.images(2)
    maps = fact.concept_maps(network, LAYER, sae, images, np.arange(9))
    assert maps.attrs["maps"] == "codes"
    assert "weights" not in maps
    kernel = bilinear(4, 8)
    for row, image in enumerate(images):
        z, _, _ = spliced_by_hand(network, sae, image, 0)
        for concept in range(9):
            expected = np.zeros((8, 8))
            for y, x in np.ndindex(4, 4):
                expected += z[concept, y, x] * np.outer(kernel[:, y], kernel[:, x])
            np.testing.assert_allclose(maps["map"][row, concept], expected, atol=1e-12)
    np.testing.assert_allclose(maps["map"].sum(("y", "x")), maps["total"], atol=1e-12)


def test_maps_of_contributions_add_up_to_that_of_all_of_them() -> None:
    given = ordinary(), LAYER, tiny.sae(5), tiny.images(2)
    maps = fact.concept_maps(*given, np.arange(9), of="contribution", target=2)
    traced = fact.trace_concepts(*given, target=2)
    np.testing.assert_allclose(maps["total"], traced["contribution"], atol=1e-12)
    whole = fact.logit_maps(*given, target=2)
    np.testing.assert_allclose(maps["map"].sum("concept"), whole["map"], atol=1e-12)
    np.testing.assert_allclose(whole["total"], traced["contribution"].sum("concept"), atol=1e-12)


def test_a_linear_network_can_be_mapped_by_its_codes_too() -> None:
    network, images = tiny.convnet(), tiny.images(2)
    given = network, "features.1", tiny.sae(6), images, [0, 3]
    codes, gradient = (fact.concept_maps(*given, by=by) for by in ("codes", "gradient"))
    np.testing.assert_allclose(codes["total"], gradient["total"], atol=1e-12)
    np.testing.assert_allclose(codes["map"].sum(("y", "x")), codes["total"], atol=1e-12)
    assert (codes["map"] >= 0).all()
    assert abs(codes["map"] - gradient["map"]).max() > 1e-3
    with pytest.raises(ValueError, match="maps by 'code'; expected one of auto, gradient, codes"):
        fact.concept_maps(*given, by="code")


def test_a_class_token_has_no_place_and_tokens_off_a_grid_are_refused() -> None:
    values = torch.arange(10.0, dtype=torch.double)[None]
    tokens = torch.zeros(1, 10, 2)
    map = upsample_positions(values, tokens, (6, 6))[0]
    assert map.sum() == pytest.approx(values[:, 1:].sum().item())
    assert map[0, 0] < map[0, -1] < map[-1, 0] < map[-1, -1]
    with pytest.raises(LayerError, match="7 tokens, which lie in no square"):
        upsample_positions(values[:, :7], tokens[:, :7], (6, 6))
    vector = upsample_positions(values[:, :1] + 3, torch.zeros(1, 2), (6, 6))
    np.testing.assert_allclose(vector[0], 3 / 36)


def test_without_weights_a_picture_shows_itself_where_the_map_is() -> None:
    picture = tiny.images(1)[0]
    map = np.zeros((8, 8))
    map[2, 3], map[5, 5] = 1.0, -1.0
    shown = highlight(picture, map, smooth=1, percentile=100)
    np.testing.assert_allclose(shown[..., :3], picture / 255)
    assert shown[2, 3, 3] == pytest.approx(1)
    assert shown[..., 3].sum() == pytest.approx(1)


# -- decisions and interventions ---------------------------------------------------------------


def test_a_decision_says_what_its_contributions_miss() -> None:
    network, sae, image = ordinary(), tiny.sae(5), tiny.images(1)[0]
    source = fact.ConceptSource(network, LAYER, sae)
    explained = fact.explain_image(source, image, most=2)
    z, gradient, logit = spliced_by_hand(network, sae, image, int(explained["target"]))
    missed = logit - (z * gradient).sum()
    assert not explained["exact"]
    assert explained["missed"] == pytest.approx(missed, abs=1e-9)
    assert abs(missed) > 1e-3
    assert explained["position"] == pytest.approx(0, abs=1e-5)
    maps = explained["concept_map"].sum("rank") + explained["others_map"]
    np.testing.assert_allclose(maps, explained["logit_map"], atol=1e-6)
    assert explained["probability"].sum() == pytest.approx(1)
    assert explained["explanation"].sizes["rgba"] == 4


def test_interventions_promise_to_first_order_from_the_logit_as_it_is() -> None:
    network, sae, images = ordinary(), tiny.sae(5), tiny.images(3)
    done = fact.measure_interventions(network, LAYER, sae, images, target=1, n_draws=5)
    assert not done["exact"]
    found = [spliced_by_hand(network, sae, image, 1) for image in images]
    whole = np.mean([logit for *_, logit in found])
    rest = np.mean([logit - (z * g).sum() for z, g, logit in found])
    promised = done["promised_logit"].sel(curve="deletion", order="contribution")
    np.testing.assert_allclose(promised.isel(step=[0, -1]), [whole, rest], atol=1e-9)
    empty = network.module[3:](torch.zeros(1, 5, 4, 4).double())[0, 1].item()
    measured = done["logit"].sel(curve="deletion", order="contribution")
    np.testing.assert_allclose(measured.isel(step=[0, -1]), [whole, empty], atol=1e-9)
