"""Networks see images as they should, give logits before the bias, and survive a file."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import safetensors.torch
import torch
from bcos.modules import BcosConv2d, BcosSequential, LogitLayer
from torch import nn

import registry
from fact import kinds as network_kinds
from fact.data.images import Geometry
from fact.networks.bcos_networks import bcos_network, build_bcos, small_bcos, small_vit
from fact.networks.files import WEIGHTS_FILE, load_network, open_network, save_network
from fact.networks.network import Architecture, Network, NetworkError, as_network, explanation_mode
from registry.declare.settings import Settings
from registry.store.manifest import write_manifest
from tests.fact import tiny

# --- encoding --------------------------------------------------------------------------------


def test_an_image_is_joined_with_its_complement():
    images = tiny.images(2, side=4)
    encoded = tiny.convnet().encode(images)
    assert encoded.shape == (2, 6, 4, 4)
    for colour in range(3):
        expected = images[..., colour] / 255
        np.testing.assert_array_equal(encoded[:, colour].numpy(), expected)
        np.testing.assert_array_equal(encoded[:, colour + 3].numpy(), 1 - expected)


def test_bytes_floats_and_tensors_are_encoded_alike():
    network = tiny.convnet(dtype=torch.float32)
    images = tiny.images(2)
    expected = network.encode(images)
    as_tensor = torch.from_numpy(images).permute(0, 3, 1, 2)
    for same in (images / 255, as_tensor, as_tensor / 255, expected):
        torch.testing.assert_close(network.encode(same), expected, rtol=0, atol=1e-7)
    assert expected.dtype == torch.float32


def test_encoding_is_that_of_the_networks_own_transform():
    from PIL import Image

    network = bcos_network("resnet18")
    image = tiny.images(1, side=40)[0]
    resized = network.geometry.apply(image)
    assert resized.shape == (224, 224, 3)
    own = network.module.transform(Image.fromarray(image))
    torch.testing.assert_close(network.encode(resized[None])[0], own, rtol=0, atol=1e-7)


def test_a_standard_network_gets_normalised_colours():
    network = Network(nn.Conv2d(3, 2, 1), bcos=False)
    encoded = network.encode(np.full((1, 2, 2, 3), 0.5, dtype=np.float32))
    expected = [(0.5 - 0.485) / 0.229, (0.5 - 0.456) / 0.224, (0.5 - 0.406) / 0.225]
    np.testing.assert_allclose(encoded[0, :, 0, 0], expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((2, 8, 8), np.uint8), "expected an array"),
        (np.zeros((2, 8, 8, 4), np.uint8), "expected an array"),
        (np.zeros((2, 3, 8, 8), np.uint8), "expected an array"),
        (np.full((1, 2, 2, 3), 1.5), r"\[0, 1\]"),
        (np.full((1, 2, 2, 3), np.nan), r"\[0, 1\]"),
        (torch.zeros(1, 4, 2, 2), "expected an array"),
    ],
)
def test_images_of_another_shape_or_range_are_refused(images, message):
    with pytest.raises(NetworkError, match=message):
        tiny.convnet().encode(images)


# --- logits ----------------------------------------------------------------------------------


@pytest.mark.parametrize("build", [tiny.convnet, tiny.vit])
def test_logits_are_the_output_without_the_bias(build):
    network = build()
    encoded = network.encode(tiny.images())
    expected = network.module(encoded) - network.logit_bias
    torch.testing.assert_close(network.logits(encoded), expected, rtol=0, atol=1e-12)
    assert network.logit_bias == pytest.approx(np.log(1 / 2))


def test_a_small_logit_keeps_its_digits():
    small = nn.Sequential(nn.Linear(1, 1, bias=False), LogitLayer(logit_bias=-7.0))
    small[0].weight.data.fill_(1.2345678e-6)
    logit = Network(small).logits(torch.ones(1, 1)).item()
    assert logit == pytest.approx(1.2345678e-6, rel=1e-7)
    assert (small(torch.ones(1, 1)) + 7).item() != pytest.approx(1.2345678e-6, rel=1e-3)


def test_the_temperature_stays_and_maps_are_pooled_as_the_network_pools_them():
    class Pooling(nn.Module):
        def __init__(self):
            super().__init__()
            self.deep = nn.ModuleDict({"inside": LogitLayer(logit_temperature=0.25, logit_bias=3)})

        def forward(self, maps):
            return self.deep["inside"](maps).amax(dim=(2, 3))

    maps = torch.randn(2, 3, 4, 4)
    torch.testing.assert_close(Network(Pooling()).logits(maps), maps.amax(dim=(2, 3)) * 4)


def test_maps_of_logits_that_are_left_are_averaged():
    module = nn.Sequential(BcosConv2d(6, 3, 1), LogitLayer(logit_bias=-2.0))
    encoded = torch.rand(2, 6, 4, 4)
    expected = module[0](encoded).mean(dim=(2, 3))
    torch.testing.assert_close(Network(module).logits(encoded), expected)


def test_a_network_without_a_logit_layer_gives_its_output():
    module = nn.Sequential(nn.Flatten(), nn.Linear(12, 2))
    network = as_network(module)
    assert not network.bcos
    assert network.logit_bias is None
    encoded = torch.rand(2, 3, 2, 2)
    assert torch.equal(network.logits(encoded), module(encoded))


def test_two_logit_layers_are_an_error():
    module = BcosSequential(nn.Linear(2, 2), LogitLayer(), nn.Sequential(LogitLayer()))
    with pytest.raises(NetworkError, match=r"2 logit layers, 1, 2\.0; expected at most one"):
        Network(module).logits(torch.zeros(1, 2))


def test_an_output_that_is_no_logit_is_an_error():
    with pytest.raises(NetworkError, match=r"puts out \(2, 3, 4\); expected \(image, class\)"):
        Network(nn.Identity()).logits(torch.zeros(2, 3, 4))


def test_the_bias_is_back_after_an_exception():
    network = tiny.convnet()
    with pytest.raises(RuntimeError):
        network.logits(torch.zeros(1, 5, 8, 8, dtype=torch.float64))
    encoded = network.encode(tiny.images(1))
    assert torch.equal(network.module(encoded), network.logits(encoded) + network.logit_bias)


def test_names_of_classes_must_be_as_many_as_logits():
    network = tiny.convnet()
    assert network.class_names(3) == tiny.CLASSES
    assert as_network(network.module).class_names(2) == ("0", "1")
    with pytest.raises(NetworkError, match="4 logits, but 3 names"):
        network.class_names(4)


# --- explanation mode ------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_frozen_a_convolutional_network_is_its_gradient_times_its_input(seed):
    network = tiny.convnet(seed)
    encoded = network.encode(tiny.images(seed=seed)).requires_grad_()
    with network.explanation_mode():
        logits = network.logits(encoded)
    for index in range(3):
        (weight,) = torch.autograd.grad(logits[:, index].sum(), encoded, retain_graph=True)
        sums = (weight * encoded).sum(dim=(1, 2, 3))
        torch.testing.assert_close(sums, logits[:, index], rtol=1e-12, atol=1e-14)


def test_the_frozen_gradient_is_the_dynamic_weight_and_the_free_one_is_not():
    """``W(x) = |cos(x, w)| w / |w|`` for a 1 x 1 convolution; both gradients add up to the output,
    which is homogeneous in its input, so that completeness alone does not tell them apart."""
    module = nn.Sequential(BcosConv2d(6, 2, 1)).double()
    x = torch.rand(1, 6, 1, 1, dtype=torch.float64).requires_grad_()
    row = module[0].linear.weight[0].flatten()
    cosine = (x.flatten() @ row) / (x.norm() ** 2 + 1e-6).sqrt() / row.norm()
    expected = cosine.abs() * row / row.norm()
    with explanation_mode(module):
        (frozen,) = torch.autograd.grad(module(x)[0, 0].sum(), x)
    (free,) = torch.autograd.grad(module(x)[0, 0].sum(), x)
    torch.testing.assert_close(frozen.flatten(), expected, rtol=1e-12, atol=1e-14)
    assert (free.flatten() - expected).norm() > 0.1 * expected.norm()


def state(module):
    return [(part.training, getattr(part, "detach", None)) for part in module.modules()]


def test_every_part_is_afterwards_as_it_was_even_after_an_exception():
    module = tiny.convnet().module
    module.train()
    module.features[1].eval()
    module.features[2][0].set_explanation_mode(True)
    before = state(module)

    def fail_inside():
        with explanation_mode(module):
            assert all(part.detach for part in module.modules() if isinstance(part, BcosConv2d))
            assert not any(part.training for part in module.modules())
            raise KeyError

    with pytest.raises(KeyError):
        fail_inside()
    assert state(module) == before


def test_explanation_mode_can_be_nested():
    network = tiny.convnet()
    with network.explanation_mode():
        with network.explanation_mode():
            pass
        assert network.module.classifier.is_in_explanation_mode
    assert not network.module.classifier.is_in_explanation_mode


def test_running_statistics_do_not_move():
    network = tiny.convnet()
    network.module.train()
    before = network.module.features[0][1].running_var.clone()
    with network.explanation_mode():
        network.logits(network.encode(tiny.images()))
    assert torch.equal(network.module.features[0][1].running_var, before)


# --- builders --------------------------------------------------------------------------------


def test_the_small_network_is_laid_out_as_asked():
    network = small_bcos(tiny.CLASSES, channels=(4, 8), strides=(2, 1))
    assert network.logits(network.encode(tiny.images(2))).shape == (2, 3)
    assert network.module.features[1](torch.rand(2, 4, 4, 4)).shape == (2, 8, 4, 4)
    assert network.bcos
    assert not any("bias" in name for name, _ in network.module.named_parameters())


@pytest.mark.parametrize("build", [small_bcos, small_vit])
def test_the_seed_alone_draws_the_weights(build):
    torch.manual_seed(1)
    global_state = torch.get_rng_state()
    first = build(tiny.CLASSES, seed=3).module.state_dict()
    torch.manual_seed(2)
    again = build(tiny.CLASSES, seed=3).module.state_dict()
    other = build(tiny.CLASSES, seed=4).module.state_dict()
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert any(not torch.equal(first[key], other[key]) for key in first)
    torch.manual_seed(1)
    build(tiny.CLASSES, seed=3)
    assert torch.equal(torch.get_rng_state(), global_state)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: small_bcos(("one",)), "expected names of at least 2"),
        (lambda: small_bcos("ab"), "expected names of at least 2"),
        (lambda: small_bcos(tiny.CLASSES, channels=(4,), strides=(1, 1)), "expected as many"),
        (lambda: small_vit(tiny.CLASSES, image_size=30, patch_size=8), "multiple of patch_size"),
        (lambda: Architecture("small-bcoz").build(), "did you mean 'small-bcos'"),
        (lambda: bcos_network("densenet121_lang"), "did you mean 'densenet121_long'"),
    ],
)
def test_what_cannot_be_built_says_why(build, message):
    with pytest.raises(NetworkError, match=message):
        build()


@pytest.mark.parametrize("build", [tiny.convnet, tiny.vit])
@pytest.mark.slow
def test_small_networks_learn(build):
    network = build(dtype=torch.float32)
    encoded = network.encode(np.stack([np.full((8, 8, 3), v, np.uint8) for v in (10, 120, 240)]))
    wanted = torch.eye(3)
    module = network.module.train()
    optimiser = torch.optim.Adam(module.parameters(), lr=1e-2)
    losses = []
    for _ in range(60):
        optimiser.zero_grad()
        loss = nn.functional.binary_cross_entropy_with_logits(module(encoded), wanted)
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]


# --- the package's architectures -------------------------------------------------------------


def test_the_table_of_architectures_is_the_packages():
    from bcos.models import pretrained

    assert sorted(network_kinds.ARCHITECTURES) == sorted(pretrained.list_available())


@pytest.mark.parametrize(
    ("architecture", "resize"),
    [("densenet121_long", 232), ("resnet50_long", 232), ("vitc_ti_patch1_14", 256)],
)
def test_an_architecture_brings_classes_geometry_and_a_logit_layer(architecture, resize):
    network = bcos_network(architecture)
    assert network.geometry == Geometry(resize, 224)
    assert len(set(network.classes)) == len(network.classes) == 1000
    assert network.logit_bias == pytest.approx(np.log(1 / 999))
    assert network.bcos
    assert not network.module.training
    assert not any(parameter.requires_grad for parameter in network.module.parameters())


def test_a_standard_architecture_is_not_bcos():
    network = bcos_network("standard_vitc_ti_patch1_14")
    assert not network.bcos
    assert network.logit_bias is None


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.slow
def test_local_weights_are_read(tmp_path, suffix):
    state = build_bcos("resnet18").state_dict()
    path = tmp_path / f"weights{suffix}"
    if suffix == ".pth":
        torch.save(state, path)
    else:
        safetensors.torch.save_file(state, path)
    loaded = bcos_network("resnet18", weights=path).module.state_dict()
    assert all(torch.equal(loaded[key], state[key]) for key in state)


@pytest.mark.parametrize("fault", [OSError("no route to host"), RuntimeError("invalid hash value")])
def test_weights_that_cannot_be_fetched_say_what_to_do(monkeypatch, fault):
    def fail(url, *, check_hash, **_):
        assert check_hash
        raise fault

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", fail)
    with pytest.raises(NetworkError, match=f"'resnet18' cannot be fetched: {fault}; a copy"):
        bcos_network("resnet18", pretrained=True)


class Trap:
    def __reduce__(self):
        return print, ("code ran",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (Trap(), "cannot be read as weights"),
        ([1, 2], "holds a list; expected a state dict"),
        ({"conv1.linear.weight": torch.zeros(1)}, "does not belong to this architecture"),
    ],
)
def test_weights_that_are_not_are_refused(tmp_path, content, message, capsys):
    path = tmp_path / "weights.pth"
    torch.save(content, path)
    with pytest.raises(NetworkError, match=message):
        bcos_network("resnet18", weights=path)
    assert "code ran" not in capsys.readouterr().out


# --- declared --------------------------------------------------------------------------------


def declared(**values):
    return Settings(network_kinds.BcosNetwork).validate(values)


def test_a_declared_network_is_loaded_with_its_geometry():
    network = declared(architecture="resnet18", resize=100).load()
    assert network.geometry == Geometry(100, 224)
    assert network.name == "resnet18"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"architecture": "resnet51"}, "did you mean 'resnet50'"),
        ({"architecture": "resnet18", "pretraned": True}, "did you mean 'pretrained'"),
        ({"architecture": "resnet18", "pretrained": True, "weights": "x.pth"}, "at most one"),
        ({"architecture": "resnet18", "crop": 0}, "crop"),
        ({}, "architecture: missing"),
    ],
)
def test_a_fault_of_the_declaration_is_named(values, message):
    with pytest.raises(registry.ConfigError, match=message):
        declared(**values)


def test_the_identity_is_that_of_the_weights(tmp_path):
    path = tmp_path / "weights.pth"
    path.write_bytes(b"one")
    first = declared(architecture="resnet18", weights=str(path)).identity()
    path.write_bytes(b"two")
    assert first != declared(architecture="resnet18", weights=str(path)).identity()
    assert declared(architecture="resnet18").identity() == ""


@pytest.mark.slow
def test_declaring_does_not_import_torch():
    code = "import sys, fact.kinds; print('torch' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"


# --- files -----------------------------------------------------------------------------------


@pytest.mark.parametrize("build", [tiny.convnet, tiny.vit])
def test_a_network_survives_a_file(tmp_path, build):
    network = replace(build(dtype=torch.float32), name="mine", geometry=Geometry(9, 8))
    save_network(network, tmp_path / WEIGHTS_FILE)
    loaded = load_network(tmp_path)
    encoded = network.encode(tiny.images())
    assert torch.equal(loaded.logits(encoded), network.logits(encoded))
    assert replace(loaded, module=network.module) == network
    assert not any(parameter.requires_grad for parameter in loaded.module.parameters())
    assert [path.name for path in tmp_path.iterdir()] == [WEIGHTS_FILE]


def test_what_rebuilds_a_network_is_plain_json_in_the_file(tmp_path):
    save_network(tiny.convnet(), tmp_path / "n.safetensors")
    with safetensors.safe_open(tmp_path / "n.safetensors", framework="pt") as file:
        metadata = json.loads(file.metadata()["factbook"])
    assert metadata["builder"] == "small-bcos"
    assert metadata["settings"]["channels"] == [5, 6, 7]
    assert metadata["classes"] == list(tiny.CLASSES)


@pytest.mark.slow
def test_an_architecture_of_the_package_survives_a_file(tmp_path):
    network = bcos_network("resnet18", seed=3)
    save_network(network, tmp_path / "n.safetensors")
    loaded = load_network(tmp_path / "n.safetensors")
    expected = network.module.state_dict()
    assert all(torch.equal(v, expected[k]) for k, v in loaded.module.state_dict().items())
    assert loaded.classes == network.classes


def test_ones_own_module_cannot_be_saved(tmp_path):
    with pytest.raises(NetworkError, match="give it an Architecture"):
        save_network(as_network(nn.Linear(2, 2)), tmp_path / "n.safetensors")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda path: None, "no network at"),
        (lambda path: path.write_bytes(b"not a network"), "cannot be read as safetensors"),
        (lambda path: safetensors.torch.save_file({"a": torch.zeros(1)}, path), "no metadata"),
        (
            lambda path: safetensors.torch.save_file(
                {"a": torch.zeros(1)}, path, {"factbook": json.dumps({"format": 99})}
            ),
            "format 99; expected at most 1",
        ),
    ],
)
def test_a_file_that_holds_no_network_of_ours_is_refused(tmp_path, write, message):
    path = tmp_path / "n.safetensors"
    write(path)
    with pytest.raises(NetworkError, match=message):
        load_network(path)


def test_a_stage_loads_what_fills_its_slot(tmp_path):
    save_network(tiny.convnet(dtype=torch.float32), tmp_path / WEIGHTS_FILE)
    write_manifest(tmp_path, {})
    trained = registry.Input("network", "shapes-classifier", "network", "0" * 16, path=tmp_path)
    assert open_network(trained).name == "shapes-classifier"
    settings = declared(architecture="resnet18")
    resource = registry.Input("network", "rn", "network", "0" * 16, settings=settings)
    assert open_network(resource).name == "rn"
    nothing = registry.Input("network", "void", "network", "0" * 16)
    with pytest.raises(NetworkError, match="'void' has neither"):
        open_network(nothing)
    weights = tmp_path / WEIGHTS_FILE
    content = bytearray(weights.read_bytes())
    content[-5] ^= 1  # one bit of one weight: it can still be read
    weights.write_bytes(content)
    load_network(tmp_path)
    with pytest.raises(registry.StoreError, match="has another checksum than when it was written"):
        open_network(trained)
