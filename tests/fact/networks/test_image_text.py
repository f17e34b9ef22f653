"""Pseudo-labels by a tiny model in the format of open_clip, against its own forward pass."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
import xarray as xr
from PIL import Image
from safetensors.torch import save_file
from scipy.special import expit

from fact import encode_images, score_labels
from fact.data.words import Words
from fact.kinds import OpenClip
from fact.networks import image_text
from fact.networks.calibration import CALIBRATION
from fact.networks.image_text import ImageTextError, open_clip_model, text_of
from registry.declare.stage import Input
from registry.store.shards import ShardWriter
from tests.fact.traces.test_activations import Photographs
from tests.in_parts import closed_over

MODEL = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "patch_size": 8, "head_width": 16},
    "text_cfg": {"context_length": 12, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}
MEAN, STD = [0.5, 0.5, 0.5], [0.25, 0.25, 0.25]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clip")
    config = {"model_cfg": MODEL, "preprocess_cfg": {"mean": MEAN, "std": STD}}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = open_clip.CLIP(**MODEL)
    save_file(module.state_dict(), folder / "open_clip_model.safetensors")
    return folder


def expected_shares(folder: Path, images: list[np.ndarray], texts: list[str]) -> np.ndarray:
    """By the module itself, images normalised by hand, cosines in NumPy."""
    module = open_clip.CLIP(**MODEL).eval()
    from safetensors.torch import load_file

    module.load_state_dict(load_file(folder / "open_clip_model.safetensors"))
    shown = []
    for image in images:
        sized = Image.fromarray(image).resize((32, 32), Image.Resampling.BICUBIC)
        scaled = (np.asarray(sized) / 255 - np.array(MEAN)) / np.array(STD)
        shown.append(torch.from_numpy(scaled).permute(2, 0, 1).float())
    tokens = open_clip.tokenizer.SimpleTokenizer(context_length=12)(texts)
    with torch.no_grad():
        seen = module.encode_image(torch.stack(shown)).double().numpy()
        read = module.encode_text(tokens).double().numpy()
    cosine = seen @ read.T / np.outer(np.linalg.norm(seen, axis=1), np.linalg.norm(read, axis=1))
    return expit(20 * (cosine - 0.1))


def test_labels_are_sigmoids_of_calibrated_cosines(folder: Path) -> None:
    model = OpenClip("tiny", folder=str(folder), scale=20, shift=-0.1).load()
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (side, side, 3), dtype=np.uint8) for side in (32, 48, 64)]
    texts = ["a cat", "a dog", "the sea", "red"]
    got = model.probabilities(images, model.encode_texts(texts))
    assert got.shape == (3, 4)
    assert got.std() > 1e-3
    np.testing.assert_allclose(got, expected_shares(folder, images, texts), atol=1e-4)


@pytest.mark.slow
def test_the_stage_judges_every_label_and_goes_on_where_it_stopped(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_text, "SHARD_BYTES", 1)

    class FolderRun:
        def shards(self, count: int | None = None) -> ShardWriter:
            return ShardWriter(tmp_path, score_labels.stage.output)

        def progress(self, done: int, total: int, what: str = "") -> None:
            return None

    images, settings = Photographs(), OpenClip("tiny", folder=str(folder), scale=20, shift=-0.1)

    class Declared:
        def load(self) -> Photographs:
            return images

    inputs = {
        "images": Input("images", "tiny", "images", "0" * 16, settings=Declared()),
        "model": Input("model", "clip", "image_text", "0" * 16, settings=settings),
    }
    stage = score_labels.stage
    given = {"batch": 4, "template": "a photo of a {}", "device": "cpu"}
    config = stage.resolve(given)
    shards = stage(config, inputs, FolderRun())  # type: ignore[arg-type]
    assert shards.rows == (4, 4, 3)
    (tmp_path / "part-000001.nc").unlink()
    assert stage(config, inputs, FolderRun()).content == shards.content  # type: ignore[arg-type]
    shutil.rmtree(tmp_path)
    closed = closed_over(lambda run: stage(config, inputs, run), FolderRun, 2)
    assert closed.content == shards.content
    whole = xr.concat([xr.open_dataset(p) for p in sorted(tmp_path.glob("part-*.nc"))], "image")
    assert whole["label"].values.tolist() == images.concepts("test")["label"].values.tolist()
    texts = [f"a photo of a {name}" for name in (*images.classes, *images.groups)]
    expected = expected_shares(folder, list(images.pixels), texts)
    np.testing.assert_allclose(whole["value"], expected, atol=1e-4)

    shutil.rmtree(tmp_path)
    words = Words(("a stripe", "a wheel", "a stripe"))
    inputs["words"] = Input("words", "mine", "words", "0" * 16, settings=words)
    shards = stage(config, inputs, FolderRun())  # type: ignore[arg-type]
    mine = xr.concat([xr.open_dataset(p) for p in sorted(tmp_path.glob("part-*.nc"))], "image")
    assert mine["label"].values.tolist() == ["a stripe", "a wheel", "a stripe (2)"]
    texts = [f"a photo of a {word}" for word in words.words]  # which repeat as they are written
    expected = expected_shares(folder, list(images.pixels), texts)
    np.testing.assert_allclose(mine["value"], expected, atol=1e-4)


def test_texts_are_names_without_their_kind() -> None:
    assert text_of("class:tiger cat") == "tiger cat"
    assert text_of("group:domestic cat", "a photo of a {}.") == "a photo of a domestic cat."
    assert text_of("has_bill_shape::dagger") == "has_bill_shape::dagger"


def test_constants_are_those_of_the_paper(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    asked: dict[str, Any] = {}
    tiny = open_clip.create_model_and_transforms(f"local-dir:{folder}")

    def create(name: str, **settings: Any) -> Any:
        asked.update(settings, name=name)
        return tiny

    monkeypatch.setattr(open_clip, "create_model_and_transforms", create)
    monkeypatch.setattr(open_clip, "get_tokenizer", lambda name: None)
    model = OpenClip().load()
    assert (model.scale, model.shift) == (58, -0.13)
    assert asked == {
        "name": "ViT-SO400M-14-SigLIP-384",
        "pretrained": "webli",
        "weights_only": True,
    }
    assert CALIBRATION["ViT-L-16-SigLIP-384"][1:] == (60, -0.09)
    assert CALIBRATION["ViT-L-14-336"] == ("openai", 58, -0.25)


def test_models_that_cannot_be_had_say_why(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ImageTextError, match="no calibration of 'ViT-B-32'"):
        open_clip_model("ViT-B-32")
    with pytest.raises(ImageTextError, match="give both scale and shift"):
        open_clip_model("ViT-L-14-336", scale=1)
    other = r"another model than 'ViT-SO400M-14-SigLIP-384'.*\(embed_dim 16, not 1152"
    with pytest.raises(ImageTextError, match=other):
        OpenClip(folder=str(folder)).load()
    scored, seen = {"template": "{}", "split": "test"}, {"split": "test"}
    assert "another model" in "".join(OpenClip(folder=str(folder)).lacks()(scored))
    assert "no calibration" in "".join(OpenClip("ViT-B-32").lacks()(scored))
    assert list(OpenClip("ViT-B-32").lacks()(seen)) == [], "images alone need none"
    assert list(OpenClip(folder=str(folder), scale=1, shift=0).lacks()(scored)) == []
    assert list(OpenClip().lacks()(scored)) == []
    with pytest.raises(ImageTextError, match="cannot be loaded"):
        open_clip_model("tiny", folder=tmp_path / "none", scale=1, shift=0)
    assert len(OpenClip(folder=str(folder)).identity()) == 64
    assert OpenClip().identity() == ""


def test_features_of_images_are_as_the_model_puts_them_out(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class FolderRun:
        def shards(self, count: int | None = None) -> ShardWriter:
            return ShardWriter(tmp_path, encode_images.stage.output)

        def progress(self, done: int, total: int, what: str = "") -> None:
            return None

    images, settings = Photographs(), OpenClip("tiny", folder=str(folder))  # not calibrated

    class Declared:
        def load(self) -> Photographs:
            return images

    inputs = {
        "images": Input("images", "tiny", "images", "0" * 16, settings=Declared()),
        "model": Input("model", "clip", "image_text", "0" * 16, settings=settings),
    }
    config = encode_images.Config(batch=4, device="cpu")
    whole = encode_images.stage(config, inputs, FolderRun())  # type: ignore[arg-type]
    found = xr.open_dataset(tmp_path / "part-000000.nc")["activation"].values
    model = settings.load_images()
    shown = torch.stack([model.preprocess(Image.fromarray(image)) for image in images.pixels])
    with torch.no_grad():
        expected = model.module.encode_image(shown)  # type: ignore[operator]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    lengths = np.linalg.norm(found, axis=1)
    assert (np.abs(lengths - 1) > 1e-3).any()

    shutil.rmtree(tmp_path)
    monkeypatch.setattr(image_text, "SHARD_BYTES", 1)
    closed = closed_over(lambda run: encode_images.stage(config, inputs, run), FolderRun, 2)
    assert (closed.content, closed.rows) == (whole.content, (4, 4, 3))


def test_weights_of_openai_get_the_activation_that_they_were_trained_with(
    monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    asked: list[dict[str, Any]] = []
    tiny = open_clip.create_model_and_transforms(f"local-dir:{folder}")

    def create(name: str, **settings: Any) -> Any:
        asked.append(settings)
        return tiny

    monkeypatch.setattr(open_clip, "create_model_and_transforms", create)
    monkeypatch.setattr(open_clip, "get_tokenizer", lambda name: None)
    OpenClip("ViT-B-32", weights="openai").load_images()
    OpenClip("ViT-B-32", weights="laion2b_s34b_b79k").load_images()
    OpenClip("ViT-B-32", weights="openai", quick_gelu=False).load_images()
    assert [one.get("force_quick_gelu", False) for one in asked] == [True, False, False]


def test_a_template_without_a_place_for_the_name_is_refused() -> None:
    with pytest.raises(ValueError, match=r"expected \{\} for a label's name"):
        score_labels.Config(template="a photo")
