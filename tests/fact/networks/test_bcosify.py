"""An ordinary network becomes a B-cos network: equal where it should be, linear at the end."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import fact
from fact.data.images import Geometry
from fact.networks.bcosify import ConversionError, Recipe, bcosify, examine, steps
from fact.networks.clipping import clip_adaptively
from fact.networks.config import ClassifierConfig, PointingConfig
from fact.networks.files import load_network, save_network
from fact.networks.frozen import GATES, Gate, bcos_convolution, uncentred_batch_norm
from fact.networks.network import Network, NetworkError, Normalisation
from fact.networks.pointing import draw_grids, enlarge, pointing_scores, tile
from fact.networks.standard import small_standard
from registry.declare.stage import load_stage
from tests.fact import tiny

SIDE = 16
SAME = steps()["six colours"]
CONFIGS = {
    "cnn": ClassifierConfig(architecture="standard-cnn", channels=(5, 6), strides=(2, 1)),
    "resnet": ClassifierConfig(
        architecture="torchvision-resnet", channels=(5, 6), strides=(1, 2), depth=1
    ),
    "vit": ClassifierConfig(architecture="torchvision-vit", patch_size=8, dim=8),
    "sines": ClassifierConfig(architecture="standard-vit", patch_size=8, dim=8),
    "stem": ClassifierConfig(architecture="standard-vit", patch_size=4, dim=8, stem=(5, 5, 6)),
}
NETWORKS = (*CONFIGS, "timm")
LAYERS = {
    "cnn": "features.0",
    "resnet": "layer1",
    "vit": "encoder.layers.encoder_layer_0",
    "sines": "transformer.encoder_0",
    "stem": "transformer.encoder_0",
    "timm": "blocks.0",
}


def ordinary(name: str, dtype: torch.dtype = torch.float64) -> Network:
    """A network whose biases, statistics and tokens are all away from 0 and 1."""
    network = _timm() if name == "timm" else small_standard(CONFIGS[name], tiny.CLASSES, SIDE)
    generator = torch.Generator().manual_seed(0)
    network.module.to(dtype).requires_grad_(False)
    with torch.no_grad():
        for key, parameter in network.module.named_parameters():
            if parameter.ndim == 1 or "token" in key or "head" in key:
                parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
        for part in network.module.modules():
            if isinstance(part, nn.BatchNorm2d):
                part.running_mean.normal_(0, 0.3, generator=generator)
                part.running_var.uniform_(0.5, 2, generator=generator)
    return network


def _timm() -> Network:
    import timm

    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = timm.create_model(
            "vit_tiny_patch16_224",
            img_size=SIDE,
            patch_size=8,
            embed_dim=12,
            depth=2,
            num_heads=3,
            num_classes=3,
            reg_tokens=1,
            init_values=0.5,
        )
    return Network(module.eval(), "timm", tiny.CLASSES, bcos=False, linear=False)


def outputs(network: Network, images: np.ndarray) -> dict[str, Tensor]:
    """What every layer puts out, where that is one tensor."""
    found: dict[str, Tensor] = {}

    def keep(name: str):
        def hook(_part: nn.Module, _args: object, output: object) -> None:
            output = output[0] if isinstance(output, tuple) else output
            found[name] = output.detach().clone()

        return hook

    hooks = [
        part.register_forward_hook(keep(name))
        for name, part in network.module.named_modules()
        if name
    ]
    network.module(network.encode(images))
    for hook in hooks:
        hook.remove()
    return found


# --- where the converted network is what it was ---------------------------------------------------


def test_six_colours_are_normalised_so_that_half_of_them_is_the_negative_of_the_other():
    images = tiny.images(2)
    network = Network(
        nn.Conv2d(6, 3, 1).double(),
        bcos=True,
        normalised=True,
        normalisation=Normalisation((0.1, 0.2, 0.3), (0.5, 0.6, 0.7)),
    )
    encoded = network.encode(images).numpy()
    expected = (images / 255 - [0.1, 0.2, 0.3]) / [0.5, 0.6, 0.7]
    np.testing.assert_allclose(np.moveaxis(encoded[:, :3], 1, -1), expected, atol=1e-12)
    np.testing.assert_allclose(encoded[:, 3:], -encoded[:, :3], atol=1e-12)
    assert "normalised" in network.encoding
    assert "normalised" not in tiny.convnet().encoding


@pytest.mark.parametrize("name", NETWORKS)
def test_with_biases_and_b_1_every_layer_is_what_it_was(name: str):
    images, network = tiny.images(2, SIDE), ordinary(name)
    before, after = outputs(network, images), outputs(bcosify(network, images, SAME), images)
    shared = [layer for layer in before if layer in after]
    # The head of a convolutional network stands before the average.
    shared = [layer for layer in shared if after[layer].shape == before[layer].shape]
    assert LAYERS[name] in shared
    assert len(shared) > len(before) / 2
    for layer in shared:
        torch.testing.assert_close(after[layer], before[layer], rtol=1e-9, atol=1e-11, msg=layer)
    converted = bcosify(network, images, SAME)
    found, expected = (own.logits(own.encode(images)) for own in (converted, network))
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-11)


def test_the_network_that_is_converted_stays_as_it_is():
    images, network = tiny.images(2, SIDE), ordinary("resnet")
    before = {key: value.clone() for key, value in network.module.state_dict().items()}
    bcosify(network, images)
    for key, value in network.module.state_dict().items():
        torch.testing.assert_close(value, before[key], rtol=0, atol=0)
    assert network.encode(images).shape[1] == 3


@pytest.mark.parametrize("activation", GATES)
def test_activations_are_their_gate_times_the_input(activation: str):
    x = torch.linspace(-8, 8, 401, dtype=torch.float64)
    known = {
        "gelu": functional.gelu,
        "gelu_tanh": lambda x: functional.gelu(x, approximate="tanh"),
        "silu": functional.silu,
        "relu6": functional.relu6,
        "hardswish": functional.hardswish,
    }
    gate = Gate(activation)
    torch.testing.assert_close(gate(x), known[activation](x), rtol=1e-12, atol=1e-12)
    gate.set_explanation_mode(True)
    leaf = x.clone().requires_grad_()
    gate(leaf).sum().backward()
    torch.testing.assert_close(leaf.grad * x, gate(x), rtol=1e-12, atol=1e-12)


def test_pooling_changes_nothing_but_what_is_pooled():
    images, network = tiny.images(2, SIDE), ordinary("resnet")
    before = outputs(bcosify(network, images, SAME), images)
    after = outputs(bcosify(network, images, Recipe(biases=True, b=1)), images)
    torch.testing.assert_close(before["bn1"], after["bn1"])
    first = functional.relu(before["bn1"])
    torch.testing.assert_close(before["maxpool"], functional.max_pool2d(first, 3, 2, 1))
    torch.testing.assert_close(after["maxpool"], functional.avg_pool2d(first, 3, 2, 1))
    assert (before["maxpool"] - after["maxpool"]).abs().max() > 1e-3


# --- the layers, by loops over what they say ------------------------------------------------------


@pytest.mark.parametrize(
    "settings",
    [
        {"padding": 1},
        {"stride": 2, "padding": 1, "groups": 2},
        {"padding": 2, "dilation": 2},
        {"padding": 3},
        {"padding": "same"},
    ],
)
def test_a_b_cos_convolution_scales_by_its_answer_over_the_patch(settings: dict):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        conv = nn.Conv2d(4, 6, 3, **settings).double()
        x = torch.randn(2, 4, 7, 7, dtype=torch.float64)
    made = bcos_convolution(conv, b=2, bias=False)
    answer = functional.conv2d(
        x, conv.weight, None, conv.stride, conv.padding, conv.dilation, conv.groups
    )
    squares = functional.conv2d(
        x.square(),
        torch.ones_like(conv.weight),
        None,
        conv.stride,
        conv.padding,
        conv.dilation,
        conv.groups,
    )
    torch.testing.assert_close(made(x), answer * answer.abs() / (squares + 1e-6).sqrt())


def test_a_batch_norm_without_bias_only_scales():
    norm = nn.BatchNorm2d(3).double().eval()
    with torch.no_grad():
        norm.running_mean.uniform_(-1, 1)
        norm.running_var.uniform_(0.5, 2)
        norm.weight.uniform_(0.5, 2)
        norm.bias.uniform_(-1, 1)
    x = torch.randn(2, 3, 4, 4, dtype=torch.float64)
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    made = uncentred_batch_norm(norm, bias=False).eval()
    torch.testing.assert_close(made(x), x * scale[:, None, None])
    torch.testing.assert_close(uncentred_batch_norm(norm, bias=True).eval()(x), norm(x))


def test_the_logits_of_a_converted_network_by_hand():
    """Convolution, norm, ReLU, head and mean, patch by patch, in NumPy."""
    images, network = tiny.images(1, side=4), ordinary("cnn")
    converted = bcosify(network, images)
    module = network.module
    rgb = np.moveaxis(images[0] / 255.0, -1, 0)
    mean = np.array((0.485, 0.456, 0.406))[:, None, None]
    std = np.array((0.229, 0.224, 0.225))[:, None, None]
    x = np.concatenate([(rgb - mean) / std, (mean - rgb) / std])
    for index, stride in ((0, 2), (1, 1)):
        conv, norm, _ = module.features[index]
        weight = conv.weight.detach().numpy()
        if not index:
            weight = np.concatenate([weight, -weight], axis=1) / 2
        padded = np.pad(x, ((0, 0), (1, 1), (1, 1)))
        side = (padded.shape[1] - 3) // stride + 1
        out = np.zeros((len(weight), side, side))
        for row in range(side):
            for column in range(side):
                patch = padded[:, row * stride :, column * stride :][:, :3, :3]
                answers = np.einsum("ocyx,cyx->o", weight, patch)
                length = math.sqrt((patch**2).sum() + 1e-6)
                out[:, row, column] = answers * abs(answers) / length
        scale = norm.weight.detach() / (norm.running_var + norm.eps).sqrt()
        x = np.maximum(out * scale.numpy()[:, None, None], 0)
    head = module.head.weight.detach().numpy()
    answers = np.einsum("oc,cyx->oyx", head, x)
    expected = (answers * abs(answers) / np.sqrt((x**2).sum(axis=0) + 1e-6)).mean(axis=(1, 2))
    encoded = converted.encode(images)
    np.testing.assert_allclose(converted.logits(encoded)[0].numpy(), expected, rtol=1e-9)
    assert converted.logit_bias == pytest.approx(-math.log(len(tiny.CLASSES) - 1))


# --- what a converted network is held to ----------------------------------------------------------


@pytest.mark.parametrize("name", NETWORKS)
def test_contributions_and_maps_of_a_converted_network_add_up(name: str):
    images = tiny.images(3, SIDE)
    converted = bcosify(ordinary(name), images)
    assert converted.linear
    assert converted.probe is not None
    assert converted.probe < 1e-10
    traced = fact.trace_concepts(converted, LAYERS[name], None, images, target=1)
    assert bool(traced["exact"])
    for residual in ("residual", "input_residual"):
        assert (traced[residual] <= 1e-10).all(), residual
    summed = traced["contribution"].sum("concept").values
    logits = converted.logits(converted.encode(images))[:, 1]
    np.testing.assert_allclose(summed, logits.numpy(), rtol=1e-9)
    position = traced.get("position_share")
    if name in ("cnn", "resnet"):
        assert position is None
    else:
        assert position is not None
        assert (abs(position) > 1e-4).all()
    maps = fact.logit_maps(converted, LAYERS[name], None, images[:1], target=1)
    assert maps.attrs["encoding"] == converted.encoding


def test_a_bias_that_slipped_into_a_converted_network_is_found():
    images = tiny.images(2, SIDE)
    converted = bcosify(ordinary("vit"), images)
    tiny.add_bias(converted.module.get_submodule("encoder.layers.encoder_layer_0.ln_1"))
    with pytest.raises(fact.CompletenessError, match="before the layer"):
        fact.trace_concepts(converted, LAYERS["vit"], None, images)


@pytest.mark.parametrize("name", CONFIGS)
def test_a_converted_network_survives_a_file(tmp_path: Path, name: str):
    images = tiny.images(2, SIDE)
    converted = bcosify(ordinary(name, torch.float32), images)
    save_network(converted, tmp_path / "network.safetensors")
    again = load_network(tmp_path)
    assert (again.bcos, again.normalised, again.linear) == (True, True, True)
    assert again.probe == converted.probe
    torch.testing.assert_close(
        again.logits(again.encode(images)), converted.logits(converted.encode(images))
    )


# --- what stands in the way -----------------------------------------------------------------------


class Odd(nn.Module):
    """A network with parts that have no B-cos twin, one after the other."""

    def __init__(self, middle: nn.Module):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.middle = middle
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.pool(self.middle(self.stem(x))).flatten(1))


class Between(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function
        self.register_buffer("constant", torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self, x)


class Excited(nn.Module):
    def __init__(self):
        super().__init__()
        self.gate = nn.Sequential(nn.Conv2d(4, 4, 1), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(x)


class OddConv(nn.Conv2d):
    pass


@pytest.mark.parametrize(
    ("middle", "faults"),
    [
        (nn.Sigmoid(), ["middle (Sigmoid) calls sigmoid"]),
        (nn.Sequential(nn.Softplus(), nn.Tanh()), ["middle.0 (Softplus)", "middle.1 (Tanh)"]),
        (Excited(), ["middle.gate.1 (Sigmoid) calls", "middle (Excited) multiplies"]),
        (nn.Conv2d(4, 4, 3, padding=1, padding_mode="circular"), ["padded by 'circular'"]),
        (nn.BatchNorm2d(4, track_running_stats=False), ["keeps no running statistics"]),
        (OddConv(4, 4, 1), ["middle (OddConv) calls conv2d"]),
        (Between(lambda _, x: functional.gelu(x)), ["middle (Between) calls gelu"]),
        (Between(lambda _, x: x + 1), ["middle (Between) adds a constant"]),
        (Between(lambda own, x: x + own.constant), ["middle (Between) adds a constant"]),
        (Between(lambda _, x: x / x.norm()), ["middle (Between) calls norm"]),
        (nn.InstanceNorm2d(4), ["middle (InstanceNorm2d) calls"]),
        (nn.MaxPool2d(2, 1, dilation=2), ["is max pooling with dilation"]),
        (
            Between(lambda _, x: functional.max_pool2d(x, 3, 1, 1)),
            ["middle (Between) calls", "make it a layer nn.MaxPool2d"],
        ),
    ],
)
def test_what_cannot_be_converted_is_named_by_its_layer(middle: nn.Module, faults: list[str]):
    network = Network(Odd(middle).double().eval(), "odd", bcos=False, linear=False)
    with pytest.raises(ConversionError) as caught:
        bcosify(network, tiny.images(2, 8))
    for fault in faults:
        assert fault in str(caught.value)


def test_every_fault_is_named_at_once_also_of_the_ends():
    module = nn.Sequential(nn.Conv2d(1, 4, 1), nn.Sigmoid(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    single = nn.Sequential(nn.Conv2d(3, 1, 1), *module)
    network = Network(single.double().eval(), "odd", bcos=False, linear=False)
    with pytest.raises(ConversionError, match=r"(?s)2 \(Sigmoid\).*3 \(AdaptiveAvgPool2d\) comes"):
        examine(network, tiny.images(2, 8))
    grey = Network(nn.Sequential(nn.Flatten(), nn.Linear(192, 3)).double(), bcos=False)
    with pytest.raises(ConversionError, match=r"1 \(Linear\) sees the image"):
        examine(grey, tiny.images(2, 8))
    with pytest.raises(ConversionError, match="nothing to convert"):
        bcosify(tiny.convnet(), tiny.images(2, 8))


def test_a_scale_between_layers_is_a_weight_and_no_fault():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.gamma = nn.Parameter(torch.full((4,), 0.5))

        def forward(self, x: Tensor) -> Tensor:
            return x * self.gamma.view(1, -1, 1, 1) / 2

    network = Network(Odd(Scaled()).double().eval(), "scaled", bcos=False, linear=False)
    images = tiny.images(2, 8)
    assert examine(network, images).embeddings == ()
    assert bcosify(network, images).linear


# --- how it is trained ----------------------------------------------------------------------------


def test_gradients_are_clipped_by_the_norms_of_their_units():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        parts = [nn.Parameter(torch.randn(3, 2, 2, 2)), nn.Parameter(torch.zeros(4))]
        gradients = [torch.randn(3, 2, 2, 2), torch.randn(4)]
    gradients[0][1] *= 1e-6
    for part, gradient in zip(parts, gradients, strict=True):
        part.grad = gradient.clone()
    clip_adaptively([*parts, nn.Parameter(torch.ones(1))], 0.1)
    for unit in range(3):
        weight, gradient = parts[0].detach()[unit].norm(), gradients[0][unit]
        expected = gradient * min(1, 0.1 * weight / gradient.norm())
        torch.testing.assert_close(parts[0].grad[unit], expected)
    torch.testing.assert_close(parts[1].grad, gradients[1] * (1e-4 / gradients[1].norm()))


class Pictures:
    """Images of three classes, as a slot is filled with them."""

    classes = tiny.CLASSES

    def load(self) -> Pictures:
        return self

    def ids(self, split: str) -> np.ndarray:
        return np.array([f"{split}/{number}" for number in range(9)])

    def labels(self, split: str) -> np.ndarray:
        return np.arange(9) % 3

    def read(self, ids: np.ndarray, geometry: Geometry) -> np.ndarray:
        return tiny.images(len(ids), SIDE)


def test_a_first_look_names_what_cannot_be_converted_before_a_suite_runs(monkeypatch):
    from fact.networks import bcosification

    def look(network: Network) -> dict:
        monkeypatch.setattr(bcosification, "open_network", lambda *_: network)
        inputs = {"images": Pictures(), "network": None}
        return load_stage("fact.bcosify_network").probe({"epochs": 3}, inputs)

    assert look(ordinary("vit"))["embeddings"] == ("class_token", "encoder.pos_embedding")
    odd = Network(Odd(nn.Sigmoid()).double().eval(), "odd", tiny.CLASSES, bcos=False, linear=False)
    with pytest.raises(ConversionError, match=r"middle \(Sigmoid\) calls sigmoid"):
        look(replace(odd, architecture=ordinary("cnn").architecture))
    with pytest.raises(NetworkError, match="give it an Architecture"):
        look(odd)
    with pytest.raises(NetworkError, match="no image of the split 'train' has a class of 'cnn'"):
        look(replace(ordinary("cnn"), name="cnn", classes=("x", "y", "z")))


@pytest.mark.parametrize("name", ["cnn", "vit"])
def test_every_layer_of_a_network_drawn_anew_learns(name):
    """A ViT of torchvision begins with a head of zeros, where a B-cos layer's gradient is 0."""
    from fact.networks.bcosification import draw_anew

    network = small_standard(CONFIGS[name], tiny.CLASSES, SIDE)
    if name == "vit":
        assert not network.module.heads.head.weight.any()
    pixels = tiny.images(6, SIDE)
    drawn, again, other = (draw_anew(bcosify(network, pixels), seed) for seed in (1, 1, 2))
    drawn.module.train().requires_grad_(True)
    labels = torch.arange(6) % len(tiny.CLASSES)
    functional.cross_entropy(drawn.module(drawn.encode(pixels)), labels).backward()
    for (key, weights), same, different in zip(
        drawn.module.named_parameters(),
        again.module.parameters(),
        other.module.parameters(),
        strict=True,
    ):
        torch.testing.assert_close(weights, same)
        if weights.ndim > 1 and "bias" not in key:
            assert weights.grad.any(), key
            assert not torch.equal(weights, different) or "token" in key, key


# --- the grid pointing game -----------------------------------------------------------------------


def test_a_class_scores_by_what_of_its_map_lies_in_its_own_cell():
    """A network whose logits are sums of colours: each map is where that colour is."""

    class Colours(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(1, dtype=torch.float64))

        def forward(self, x: Tensor) -> Tensor:
            maps = x[:, :3] * self.weight
            return torch.cat([maps, maps.flip(1)[:, :1]], dim=1).mean(dim=(2, 3))

    network = Network(Colours(), bcos=True, linear=True)
    pictures = np.zeros((1, 4, 2, 2, 3), np.uint8)
    pictures[0, 0, ..., 0] = 255  # red alone, in its cell
    pictures[0, 1, ..., 1] = 255  # green, as much in another cell
    pictures[0, 2, ..., 1] = 255
    pictures[0, 3, 0, 0, 2] = 255  # blue, one of the pixels of each of two cells
    pictures[0, 2, 0, 0, 2] = 255
    grid = tile(pictures)
    assert grid.shape == (1, 4, 4, 3)
    np.testing.assert_array_equal(grid[0, :2, 2:], pictures[0, 1])
    np.testing.assert_array_equal(grid[0, 2:, :2], pictures[0, 2])
    scores = pointing_scores(network, grid, np.array([[0, 1, 1, 2]]))
    np.testing.assert_allclose(scores, [[1, 0.5, 0.5, 0.5]])
    of_nothing = pointing_scores(network, np.zeros_like(grid), np.array([[0, 1, 1, 2]]))
    np.testing.assert_array_equal(of_nothing, 0)


def test_grids_are_of_different_classes_and_of_images_that_may_be_drawn():
    labels = np.array([0, 1, -1, 2, 3, 3, 0, -1])
    drawn = draw_grids(labels, 4, 20, seed=0)
    assert drawn.shape == (20, 4)
    assert all(len(set(labels[row])) == 4 and -1 not in labels[row] for row in drawn)
    assert {4, 5} <= set(drawn.ravel().tolist())
    assert not np.array_equal(drawn, draw_grids(labels, 4, 20, seed=1))
    with pytest.raises(NetworkError, match=r"4 classes are recognised.*at least 9"):
        draw_grids(labels, 9, 1, seed=0)


@pytest.mark.parametrize("name", CONFIGS)
def test_a_converted_network_takes_grids(name: str):
    images = tiny.images(9, SIDE)
    converted = bcosify(ordinary(name, torch.float32), images)
    enlarged = enlarge(converted, 3)
    scores = pointing_scores(enlarged, tile(images[None]), np.arange(9)[None] % 3, smooth=3)
    assert scores.shape == (1, 9)
    assert ((scores >= 0) & (scores <= 1)).all()
    if name == "vit":
        small = dict(converted.module.named_parameters())
        large = dict(enlarged.module.named_parameters())
        key = "encoder.parametrizations.pos_embedding.original"
        torch.testing.assert_close(large[key][:, 0], small[key][:, 0])
        assert large[key].shape[1] == 1 + 9 * (small[key].shape[1] - 1)
        with pytest.raises(NetworkError, match="does not take images of 48 x 48"):
            pointing_scores(converted, tile(images[None]), np.arange(9)[None] % 3)


def test_the_game_is_played_with_the_images_that_a_network_recognises(monkeypatch):
    """Of four plain colours, each logit counts what its own colour has in common with a pixel."""
    from fact.networks import pointing

    class Plain(nn.Module):
        def __init__(self):
            super().__init__()
            likes = [[1, 0, 0, 0, 1, 1], [0, 1, 0, 1, 0, 1], [0, 0, 1, 1, 1, 0], [0, 0, 0, 1, 1, 1]]
            self.likes = nn.Parameter(torch.tensor(likes, dtype=torch.float32))

        def forward(self, x: Tensor) -> Tensor:
            return torch.einsum("kc,icyx->ik", self.likes, x) / x[0, 0].numel()

    class Plains(Pictures):
        classes = ("red", "green", "blue", "black")

        def labels(self, split: str) -> np.ndarray:
            return np.array([0, 1, 2, 3, 0, 1, 2, 3, 3])

        def read(self, ids: np.ndarray, geometry: Geometry) -> np.ndarray:
            numbers = [int(name.rpartition("/")[2]) for name in ids]
            shown = np.array([0, 1, 2, 3, 0, 1, 2, 3, 0])[numbers]  # the last is labelled wrongly
            colours = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [0, 0, 0]], np.uint8)
            return np.broadcast_to(colours[shown][:, None, None], (len(ids), 2, 2, 3))

    class Told:
        done = 0

        def progress(self, done: int, total: int, what: str) -> None:
            self.done = done

    network = Network(Plain(), "plain", Plains.classes, bcos=True, linear=True)
    monkeypatch.setattr(pointing, "open_network", lambda *_: network)
    config, told = PointingConfig(rows=2, n_grids=5, batch=2), Told()
    found = pointing.measure_pointing(config, {"images": Plains(), "network": None}, told)
    load_stage("fact.measure_pointing").output.check(found)
    assert found["n_confident"] == 8
    assert "test/8" not in found["image"].values
    np.testing.assert_allclose(found["score"], np.where(found["class_index"] == 3, 3 / 9, 3 / 7))
    assert found["mean_score"] == pytest.approx((3 * 3 / 7 + 3 / 9) / 4)
    assert (found["chance"], found["exact"], told.done) == (0.25, True, 5)
