"""Released checkpoints: fetched once, told by their hash, refused where that is another."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch

import fact
from fact.kinds import ReleasedSAE
from fact.sae import releases

GIVEN = {"architecture": "resnet50_long", "layer": "layer4", "n_concepts": 12, "k": 3, "lr": 1e-3}
NAME = "v0.1-resnet50_long-layer4-BiasFreeTopK-K12-S3-LR0.001.pt"


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file in the layout of a release, where releases are looked for; no cache."""
    monkeypatch.setattr(releases, "RELEASES", (tmp_path / "releases").as_uri())
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    file = tmp_path / "releases" / "v0.1" / NAME
    file.parent.mkdir(parents=True)
    state = {"encoder.weight": torch.randn(12, 5), "decoder.weight": torch.randn(5, 12)}
    torch.save({**state, "k": torch.tensor(3), "threshold": torch.tensor(-1.0)}, file)
    return file


def test_it_is_fetched_once_and_its_hash_is_told(served: Path, capsys) -> None:
    kind = ReleasedSAE(**GIVEN)
    [_, download] = kind.requires()
    assert kind.url.endswith(f"/v0.1/{NAME}")
    assert not download.target.exists()
    sae = kind.load()
    digest = hashlib.sha256(served.read_bytes()).hexdigest()
    assert f'SHA-256 {digest}; pin it by sha256 = "{digest}"' in capsys.readouterr().out
    state = torch.load(served, weights_only=True)
    assert torch.equal(sae.encoder, state["encoder.weight"])
    assert (sae.n_concepts, sae.k) == (12, 3)
    assert download.look() is None
    served.unlink()
    assert torch.equal(ReleasedSAE(**GIVEN, sha256=digest).load().encoder, sae.encoder)
    assert capsys.readouterr().out.strip().endswith(digest)


def test_what_is_another_file_is_refused(served: Path) -> None:
    with pytest.raises(fact.SAEFileError, match="expected 00"):
        ReleasedSAE(**GIVEN, sha256="00").load()
    served.rename(served.with_name(NAME.replace("K12", "K13")))
    with pytest.raises(fact.SAEFileError, match="12 concepts, k 3; expected 13 concepts"):
        ReleasedSAE(**{**GIVEN, "n_concepts": 13}).load()
    with pytest.raises(fact.SAEFileError, match="could not be fetched"):
        ReleasedSAE(**{**GIVEN, "n_concepts": 14}).load()


def test_it_is_known_by_its_address_and_the_hash_that_is_asked_for() -> None:
    kind = ReleasedSAE(**GIVEN)
    assert kind.identity() == f"{releases.RELEASES}/v0.1/{NAME}"
    assert ReleasedSAE(**GIVEN, sha256="ab").identity() == f"{kind.identity()} ab"
