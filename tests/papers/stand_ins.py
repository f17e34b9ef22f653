"""What the papers read, small or untrained, in the formats and places of the real things.

Networks have their real architectures and sizes; no weight is trained. Norms of convolutional B-cos
networks are measured on a few pictures, since without that fifty layers in a row vanish.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from PIL import Image
from pyarrow import parquet
from safetensors.torch import save_file
from torch import Tensor, nn

from fact.data.vocabulary import read_names, wordnet_numbers
from fact.encode.encoders import DINOV2, DINOV2_WEIGHTS, LOFTUP, LOFTUP_WEIGHTS
from fact.networks.bcos_networks import bcos_network
from fact.networks.layers import capture
from fact.networks.network import Network
from fact.networks.released import bcos_weights, torchvision_weights
from fact.networks.standard import torchvision_network
from fact.sae.releases import released_checkpoint, released_checkpoint_url
from registry.declare.requirements import Download
from tests.fact.data.official_files import categories, write_attributes, write_cub, write_kit
from tests.fact.language import CONTEXT, save_tiny_gpt2
from tests.fact.networks.bottleneck import save_bottleneck

LIVE = 4
"""Channels of a layer that are left where each channel is mapped; the others are 0."""

DIRECTIONS = 2
"""Of a released SAE: what its features vary by most; two concepts each, one for either sign."""

# --- images -----------------------------------------------------------------------------------


def spots(seed: int, size: tuple[int, int] = (256, 256)) -> Image.Image:
    """Return soft spots of colour, width by height."""
    coarse = np.random.default_rng(seed).integers(0, 256, (9, 9, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)


def photograph(path: Path, seed: int, size: tuple[int, int] = (300, 260)) -> None:
    """Write a JPEG of a usual size."""
    path.parent.mkdir(parents=True, exist_ok=True)
    spots(seed, size).save(path, "JPEG", quality=90)


def write_imagenet_folders(root: Path, classes: Sequence[int], train: int, val: int) -> None:
    """Write ``train/n01440764/…`` and ``val/n01440764/…``, so many images of each class."""
    numbers = wordnet_numbers()
    for label in classes:
        for split, count in (("train", train), ("val", val)):
            for index in range(count):
                name = f"{numbers[label]}_{index}.JPEG"
                seed = 1000 * label + 10 * index + (split == "val")
                photograph(root / split / numbers[label] / name, seed)


def write_imagenet_flat(root: Path, classes: Sequence[int], each: int) -> None:
    """Write flat validation images beside the development kit, whose order is its own."""
    names, numbers = read_names("imagenet"), wordnet_numbers()
    count = len(numbers)
    own = {count - label: (numbers[label], names[label], 0) for label in range(count)}
    own[count + 1] = ("n02512053", "fish", 2)
    truth = [count - label for label in classes for _ in range(each)]
    write_kit(root, own, truth)
    for number in range(1, len(truth) + 1):
        photograph(root / "val" / f"ILSVRC2012_val_{number:08d}.JPEG", number)


def write_places365(root: Path, classes: Sequence[int], each: int) -> None:
    """Write flat validation images of 256 pixels with their lists."""
    labels = [label for label in classes for _ in range(each)]
    lines = []
    for number, label in enumerate(labels, start=1):
        name = f"Places365_val_{number:08d}.jpg"
        photograph(root / "val_256" / name, 5000 + number, (256, 256))
        lines.append(f"{name} {label}\n")
    (root / "places365_val.txt").write_text("".join(lines))
    (root / "categories_places365.txt").write_text(categories())


# --- weights, where they are looked for before they are fetched ---------------------------------


def _place(download: Download | None) -> Path:
    """Return where a download lies once it is there; its folder is made."""
    if download is None:
        raise ValueError("nothing is known of these weights")
    download.target.parent.mkdir(parents=True, exist_ok=True)
    return download.target


def save_bcos(architecture: str, few: bool = False) -> Network:
    """Leave an untrained network of ``bcos`` as its released weights, and return it.

    With ``few`` its last layer has few channels that are not 0.
    """
    network = bcos_network(architecture)
    measure_norms(network)
    if few:
        keep_few_channels(network.module)
    torch.save(network.module.state_dict(), _place(bcos_weights(architecture)))
    return network


def save_torchvision(architecture: str, weights: str, few: bool = False) -> None:
    """Leave an untrained network of torchvision as its released weights.

    With ``few`` its last layer has few channels that are not 0.
    """
    module = torchvision_network(architecture).module
    if architecture.startswith("vit"):  # which begins with logits of 0
        nn.init.normal_(module.heads.head.weight)
    if few:
        keep_few_channels(module)
    torch.save(module.state_dict(), _place(torchvision_weights(architecture, weights)))


def save_places_resnet(path: Path) -> None:
    """Write a checkpoint as the one of Places365 is: names begin with ``module.``."""
    module = torchvision_network("resnet18", classes="places365").module
    state = {f"module.{name}": value for name, value in module.state_dict().items()}
    torch.save({"epoch": 90, "arch": "resnet18", "state_dict": state}, path)


@torch.no_grad()
def measure_norms(network: Network, count: int = 4) -> None:
    """Set the running variances of batch norms to those of some pictures."""
    norms = [part for part in network.module.modules() if isinstance(part, nn.BatchNorm2d)]
    for norm in norms:  # and nothing else: networks drop layers at random in training
        norm.train()
        norm.momentum = 1.0
    if norms:
        network.module(network.encode(shown(count)))
        network.module.eval()


def shown(count: int) -> np.ndarray:
    """Return pictures as networks see them, (image, y, x, colour)."""
    return np.stack([np.asarray(spots(9000 + number, (224, 224))) for number in range(count)])


@torch.no_grad()
def keep_few_channels(module: nn.Module) -> None:
    """Let the last layer of a ResNet, or of a DenseNet, give 0 in all channels but the first."""
    if hasattr(module, "layer4"):
        norms = [block.bn3 for block in module.layer4]
        norms += [block.downsample[1] for block in module.layer4 if block.downsample is not None]
    else:
        norms = [module.features.norm5]
    for norm in norms:
        for values in (norm.weight, norm.bias):
            if isinstance(values, Tensor):
                values[LIVE:] = 0


def save_release(
    network: Network, architecture: str, layer: str, n_concepts: int, k: int, lr: float
) -> None:
    """Leave an SAE of full size in the format of a release, which reconstructs a part of a layer.

    Its first concepts are the directions by which the layer's features vary most; the encoder of
    all others is 0.
    """
    with torch.no_grad(), network.explanation_mode(), capture(network.module, layer) as captured:
        network.module(network.encode(shown(4)))
    x = captured.positions.flatten(0, 1)
    directions = torch.linalg.svd(x - x.mean(dim=0), full_matrices=False)[2][:DIRECTIONS]
    generator = torch.Generator().manual_seed(0)
    decoder = torch.randn(x.shape[1], n_concepts, generator=generator)
    encoder = torch.zeros(n_concepts, x.shape[1])
    encoder[: 2 * DIRECTIONS] = torch.cat([directions, -directions])
    decoder[:, : 2 * DIRECTIONS] = encoder[: 2 * DIRECTIONS].T
    decoder /= decoder.norm(dim=0)
    state = {"encoder.weight": encoder, "decoder.weight": decoder}
    state |= {"k": torch.tensor(k), "threshold": torch.tensor(-1.0)}
    url = released_checkpoint_url(architecture, layer, n_concepts, k, lr)
    torch.save(state, _place(released_checkpoint(url)))


# --- encoders: code of torch hub, and models of images and texts ---------------------------------

_DINOV2 = """
import torch

ADDRESS = "https://dl.fbaipublicfiles.com/dinov2/dinov2_vits14/dinov2_vits14_pretrain.pth"


class Patches(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.patch_embed = torch.nn.Conv2d(3, 384, 14, 14)

    def forward_features(self, images):
        return {"x_norm_patchtokens": self.patch_embed(images).flatten(2).transpose(1, 2)}


def dinov2_vits14(pretrained=True):
    model = Patches()
    model.load_state_dict(torch.hub.load_state_dict_from_url(ADDRESS))
    return model
"""
_LOFTUP = """
import torch


class Larger(torch.nn.Module):
    def forward(self, features, images):
        return torch.nn.functional.interpolate(features, images.shape[2:], mode="bilinear")


def loftup_dinov2s(pretrained=True):
    return Larger()
"""


def write_encoder() -> None:
    """Put code and weights of DINOv2 and LoftUp where torch hub and Hugging Face's hub keep them:
    one convolution, and an interpolation."""
    for code, text in ((DINOV2, _DINOV2), (LOFTUP, _LOFTUP)):
        code.folder.mkdir(parents=True)
        (code.folder / "hubconf.py").write_text(text)
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(384, 3, 14, 14, generator=generator) / 14
    state = {"patch_embed.weight": weight, "patch_embed.bias": torch.zeros(384)}
    torch.save(state, _place(DINOV2_WEIGHTS))
    LOFTUP_WEIGHTS.target.mkdir(parents=True)


def save_clip(folder: Path, width: int) -> None:
    """Write a small CLIP, untrained, that sees 224 pixels, in the format of open_clip."""
    import open_clip

    model = {
        "embed_dim": width,
        "vision_cfg": {
            **{"image_size": 224, "layers": 1, "width": 32, "patch_size": 32},
            "head_width": 16,
        },
        "text_cfg": {
            **{"context_length": 32, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
        },
    }
    folder.mkdir(parents=True)
    config = {
        "model_cfg": model,
        "preprocess_cfg": {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]},
    }
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        save_file(open_clip.CLIP(**model).state_dict(), folder / "open_clip_model.safetensors")


# --- all of a paper -------------------------------------------------------------------------------

BUSES = (779, 511)
"""The classes whose decisions the paper shows: school buses and convertibles."""

FEW_CLASSES = (0, 1, 2, 7, 8, 151, 152, 281)
"""Of ImageNet: fish, fowl, dogs and a cat, so that there are superclasses of several."""

CLIP_WIDTH = 16


def write_fact(root: Path) -> None:
    """Write what ``papers/fact`` reads."""
    write_imagenet_folders(root / "data/imagenet", BUSES, train=5, val=3)
    write_encoder()
    for architecture in ("densenet121_long", "resnet50_long", "vitc_s_patch1_14"):
        save_bcos(architecture)
    save_torchvision("resnet50", "IMAGENET1K_V2", few=True)


def write_released(root: Path) -> None:
    """Write what ``papers/fact-released`` reads."""
    write_imagenet_folders(root / "data/imagenet", BUSES, train=0, val=3)
    write_encoder()
    save_bcos("densenet121_long", few=True)
    network = save_bcos("resnet50_long", few=True)
    save_release(network, "resnet50_long", "layer4", n_concepts=16384, k=16, lr=1e-3)


def write_neuron_eval(root: Path) -> None:
    """Write what ``papers/neuron-eval`` reads."""
    data = root / "data"
    write_imagenet_flat(data / "imagenet", FEW_CLASSES, each=2)
    write_places365(data / "places365", classes=range(0, 90, 15), each=2)
    write_cub(data, n_each=4, size=(320, 340))
    write_attributes(data)
    save_torchvision("vit_b_16", "IMAGENET1K_V1")
    save_torchvision("resnet50", "IMAGENET1K_V1")
    save_places_resnet(data / "resnet18_places365.pth.tar")
    save_bottleneck(data / "cub_cbm_trained.pth")
    save_clip(root / "clip", CLIP_WIDTH)
    probe = nn.Linear(CLIP_WIDTH, 112)
    torch.save(probe, data / "cub_linear_probe.pth")
    save_tiny_gpt2(root / "gpt2")
    tokens = np.random.default_rng(0).zipf(1.5, (12, CONTEXT)) % 250
    table = pa.table({"tokens": tokens.tolist()})
    parquet.write_table(table, data / "openwebtext.parquet")
    cells = "metric,mean,known-7\nCosine,0.5,0.25\nIoU,0.125,\n"  # of no paper
    (data / "table-4.csv").write_text(cells, encoding="utf-8")
