"""Linear probes against scikit-learn and a loop of one's own; their weights from files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from safetensors.torch import save_file
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

import fact
from fact import apply_probe, train_probe
from fact.kinds import ProbeFile
from fact.networks.probes import ProbeError, right_share
from registry.declare.stage import Input
from registry.store.shards import ShardWriter
from tests.in_parts import closed_over

N, CHANNELS, LABELS = 90, 6, 4


@pytest.fixture(scope="module")
def data() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(N, CHANNELS)).astype(np.float32)
    truth = rng.normal(size=(CHANNELS, LABELS))
    return features, (rng.random((N, LABELS)) < expit(features @ truth - 0.5)).astype(np.float32)


def test_the_minimum_is_that_of_scikit_learn(data: tuple[np.ndarray, np.ndarray]) -> None:
    features, labels = data
    config = train_probe.Config(solver="lbfgs", penalty=0.02, device="cpu")
    weight, bias, objective, gradient = fact.fit_probe(features, labels, config)
    assert gradient < 1e-8
    assert (np.diff(objective) <= 1e-12).all()
    for label in range(LABELS):
        own = LogisticRegression(C=1 / (0.02 * N), tol=1e-10, max_iter=10_000)
        own.fit(features.astype(np.float64), labels[:, label])
        np.testing.assert_allclose(weight[label], own.coef_[0], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(bias[label], own.intercept_[0], rtol=1e-5, atol=1e-6)


def test_adam_is_the_published_loop(data: tuple[np.ndarray, np.ndarray]) -> None:
    features, labels = map(torch.from_numpy, data)
    config = train_probe.Config(epochs=50, lr=0.01, seed=3, device="cpu")
    weight, bias, objective, _ = fact.fit_probe(*data, config)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        linear = torch.nn.Linear(CHANNELS, LABELS)
    adam, losses = torch.optim.Adam(linear.parameters(), lr=0.01), []
    for _ in range(50):
        loss = torch.nn.BCELoss()(torch.sigmoid(linear(features)), labels)
        adam.zero_grad()
        loss.backward()
        adam.step()
        losses.append(loss.item())
    np.testing.assert_allclose(weight, linear.weight.detach(), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(bias, linear.bias.detach(), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(objective, losses, rtol=1e-5)


# --- the stages -----------------------------------------------------------------------------


class Given(Input):
    """An input in memory."""

    def open(self, proven: float | None = None) -> xr.Dataset:
        return self.settings


class Folder:
    def __init__(self, path: Path):
        self.path = path

    def log(self, name: str, value: float, step: int) -> None: ...

    def progress(self, done: int, total: int, what: str = "") -> None: ...

    def shards(self, count: int | None = None) -> ShardWriter:
        return ShardWriter(self.path, apply_probe.stage.output)


def given(slot: str, kind: str, dataset: Any) -> Given:
    return Given(slot, slot, kind, "0" * 16, settings=dataset)


def features_of(values: np.ndarray, split: str) -> xr.Dataset:
    ids = np.array([f"{split}/{i}" for i in range(len(values))], dtype=object)
    names = np.array([f"c{i}" for i in range(values.shape[1])], dtype=object)
    return xr.Dataset(
        {"activation": (("image", "neuron"), values), "name": ("neuron", names)},
        {"image": ids, "neuron": np.arange(values.shape[1])},
    )


def labels_of(values: np.ndarray, split: str) -> xr.Dataset:
    ids = np.array([f"{split}/{i}" for i in range(len(values))], dtype=object)
    names = np.array([f"label:{i}" for i in range(values.shape[1])], dtype=object)
    found = xr.Dataset({"value": (("image", "label"), values)}, {"image": ids, "label": names})
    return found.isel(image=slice(None, None, -1))  # in another order than the features


def test_a_probe_is_trained_on_one_split_and_applied_to_another(
    data: tuple[np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    features, labels = data
    run: Any = Folder(tmp_path / "shards")
    config = train_probe.Config(solver="lbfgs", penalty=0.02, device="cpu")
    inputs = {
        "features": given("features", "activations", features_of(features[:60], "train")),
        "labels": given("labels", "labels", labels_of(labels[:60], "train")),
    }
    probe = train_probe.stage(config, inputs, run)
    train_probe.stage.output.check(probe)
    own = LogisticRegression(C=1 / (0.02 * 60), tol=1e-10, max_iter=10_000)
    own.fit(features[:60], labels[:60, 1])
    assert probe["accuracy"].values[1] == own.score(features[:60], labels[:60, 1])
    assert probe["trained"].values.tolist() == sorted(f"train/{i}" for i in range(60))

    inputs = {
        "probe": given("probe", "probe", probe),
        "activations": given("activations", "activations", features_of(features[60:], "test")),
        "labels": given("labels", "labels", labels_of(labels[60:], "test")),
    }
    found = apply_probe.stage(apply_probe.Config(), inputs, run)
    with xr.open_dataset(tmp_path / "shards/part-000000.nc", engine="h5netcdf") as part:
        expected = own.predict_proba(features[60:])[:, 1]
        np.testing.assert_allclose(part["activation"].values[:, 1], expected, rtol=1e-4)
        assert part["image"].values.tolist() == [f"test/{i}" for i in range(30)]
    with xr.open_dataset(tmp_path / "shards/summary.nc", engine="h5netcdf") as summary:
        assert summary["right_concept"].values.tolist() == [f"label:{i}" for i in range(LABELS)]
        assert summary["accuracy"].values[1] == own.score(features[60:], labels[60:, 1])
        assert len(summary["trained"]) == 60
    assert found.rows == (30,)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fact.networks.probes.SHARD_BYTES", 8 * 6 * 7)
        closed = closed_over(
            lambda own: apply_probe.stage(apply_probe.Config(), inputs, own),
            lambda: Folder(tmp_path / "parts"),
            2,
        )
    assert (closed.content, closed.rows) == (found.content, (7, 7, 7, 7, 2))

    other = features_of(features[60:, ::-1], "test").assign(name=("neuron", list("fedcba")))
    inputs["activations"] = given("activations", "activations", other)
    with pytest.raises(ProbeError, match="the probe is of features 'c0' to 'c5', these are 'f'"):
        apply_probe.stage(apply_probe.Config(), inputs, run)


def test_inputs_without_labels_are_named(
    data: tuple[np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    features, labels = data
    inputs = {
        "features": given("features", "activations", features_of(features, "train")),
        "labels": given("labels", "labels", labels_of(labels[:80], "train")),
    }
    with pytest.raises(ProbeError, match="10 of 90 inputs have no labels, as 'train/80'"):
        train_probe.stage(train_probe.Config(epochs=1), inputs, Folder(tmp_path))


def test_a_label_is_right_from_a_half_on() -> None:
    logits = np.array([[0.0, -1.0], [2.0, 1.0]])
    assert right_share(logits, np.array([[0.5, 0.4], [0.0, 1.0]])).tolist() == [0.5, 1.0]


# --- weights from elsewhere -----------------------------------------------------------------


def test_weights_are_read_from_every_kind_of_file(tmp_path: Path) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        linear = torch.nn.Linear(3, 2)
    state = linear.state_dict()
    save_file(state, tmp_path / "probe.safetensors")
    torch.save(state, tmp_path / "probe.pt")
    torch.save(linear, tmp_path / "whole.pth")  # as the released one of the paper is
    torch.save({f"module.linear.{name}": own for name, own in state.items()}, tmp_path / "deep.pt")
    torch.save(linear, tmp_path / "whole.pth")  # as the published one is
    np.savez(tmp_path / "probe.npz", **{name: own.numpy() for name, own in state.items()})
    (tmp_path / "names.txt").write_text("long\nred\n")
    for name in ("probe.safetensors", "probe.pt", "whole.pth", "deep.pt", "probe.npz", "whole.pth"):
        found = ProbeFile(str(tmp_path / name), str(tmp_path / "names.txt")).load()
        assert found.labels == ("long", "red")
        np.testing.assert_array_equal(found.weight, linear.weight.detach().numpy())
        np.testing.assert_array_equal(found.bias, linear.bias.detach().numpy())
    with pytest.raises(ProbeError, match="of 3 labels"):
        fact.read_probe(tmp_path / "probe.npz", ["a", "b", "c"])
    np.savez(tmp_path / "other.npz", a=np.zeros((2, 3)), b=np.zeros((2, 3)))
    with pytest.raises(ProbeError, match="expected a matrix"):
        fact.read_probe(tmp_path / "other.npz", ["a", "b"])
