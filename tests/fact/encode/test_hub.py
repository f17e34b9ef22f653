"""Code from torch hub: pinned, shown before it is trusted, and loaded in the hub's own format."""

from __future__ import annotations

import io
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

import fact
from fact.encode import encoders
from fact.encode.encoders import EncoderChoice, HubCode, UntrustedCodeError

BACKBONE = """
dependencies = ["torch"]
import pathlib
import torch

pathlib.Path(__file__).with_name("was_run").touch()


class Backbone(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))

    def forward_features(self, images):
        patches = torch.nn.functional.avg_pool2d(images, 14) * self.weight
        return {"x_norm_patchtokens": patches.flatten(2).transpose(1, 2)}


def dinov2_vits14(pretrained=True):
    return Backbone()
"""
UPSAMPLERS = """
import torch


class Upsampler(torch.nn.Module):
    def __init__(self, image_first):
        super().__init__()
        self.image_first = image_first

    def forward(self, first, second):
        images, features = (first, second) if self.image_first else (second, first)
        assert images.shape[1] == 3 and images.shape[2:] == (28, 28)
        return torch.nn.functional.interpolate(features, images.shape[2:])


def anyup(pretrained=True):
    return Upsampler(True)


def loftup_dinov2s(pretrained=False):
    assert pretrained
    return Upsampler(False)
"""


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A hub folder that holds repositories of the real names, in the real format."""
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
    for code, text in {
        encoders.DINOV2: BACKBONE,
        encoders.LOFTUP: UPSAMPLERS,
        encoders.ANYUP: UPSAMPLERS,
    }.items():
        code.folder.mkdir()
        (code.folder / "hubconf.py").write_text(text)
    return tmp_path


def test_a_repository_is_pinned_to_a_whole_commit() -> None:
    for commit in ("main", "v1.0", "7764ea0", "G" * 40):
        with pytest.raises(ValueError, match="expected 40 hex digits"):
            HubCode("owner/name", commit)
    for code in (encoders.DINOV2, encoders.LOFTUP, encoders.ANYUP):
        assert code.commit in code.url


@pytest.mark.parametrize("upsampler", ["loftup", "anyup", "bilinear"])
def test_code_is_shown_and_not_run_until_it_is_trusted(hub: Path, upsampler: str) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (1, 28, 28, 3), dtype=np.uint8)
    map = np.zeros((1, 28, 28))
    map[0, 20, 3] = 1
    choice = EncoderChoice("dinov2-vits14", upsampler, side=28)
    with pytest.raises(UntrustedCodeError) as error:
        fact.encode_maps(picture, map, choice, device="cpu")
    said = str(error.value)
    assert "trusted = true" in said
    assert "def dinov2_vits14(pretrained=True):" in said
    for name, commit in choice.revisions.items():
        assert f"https://github.com/{name}/tree/{commit}" in said
    assert not (encoders.DINOV2.folder / "was_run").exists()

    trusted = EncoderChoice("dinov2-vits14", upsampler, side=28, trusted=True)
    encoding = fact.encode_maps(picture, map, trusted, device="cpu")
    assert (encoders.DINOV2.folder / "was_run").exists()
    assert encoding.shape == (1, 3)
    if upsampler != "bilinear":  # then the pixel lies in one patch
        from fact.encode.image_encoder import ImageEncoder

        seen = ImageEncoder(trusted, torch.device("cpu"))._normalised(picture)
        patch = seen[0, :, 14:, :14].mean((1, 2))
        np.testing.assert_allclose(encoding[0], patch, rtol=1e-5)


def test_code_is_fetched_without_being_run(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path / "hub"))
    code = HubCode("owner/name", "0" * 40)
    asked = []

    def download(url: str, target: str, **_: object) -> None:
        asked.append(url)
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as archive:
            archive.writestr("name-000/hubconf.py", "raise SystemExit('run')\n")
            archive.writestr("name-000/package/model.py", "x = 1\ny = 2\n")
        Path(target).write_bytes(packed.getvalue())

    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    shown = code.show()
    assert asked == [f"https://github.com/owner/name/archive/{'0' * 40}.zip"]
    assert "2 files, 3 lines of Python: hubconf.py, package/model.py" in shown
    assert "raise SystemExit('run')" in shown
    assert [path.name for path in (tmp_path / "hub").iterdir()] == [f"owner_name_{'0' * 40}"]
    code.show()
    assert len(asked) == 1
    assert "name" not in sys.modules


def test_without_a_connection_it_says_where_to_read(tmp_path: Path, monkeypatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", fail)
    with pytest.raises(UntrustedCodeError, match=r"tree/7764ea0.*\n.*no route to host"):
        EncoderChoice("dinov2-vits14").require_trust()
    with pytest.raises(OSError, match="no route to host"):
        encoders.DINOV2.load("dinov2_vits14")
    assert list(tmp_path.iterdir()) == []


def test_the_default_needs_no_trust() -> None:
    EncoderChoice().require_trust()
