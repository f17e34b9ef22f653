"""BatchTopK, Matryoshka and archetypal dictionaries against other libraries and dense codes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.optimize import nnls

import fact
from fact.sae.config import SAEConfig
from fact.sae.dictionaries import ArchetypalDictionary, begin_with, draw_points
from fact.sae.gradients import (
    batch_codes,
    reconstruct,
    reconstruct_residual,
    spread,
    threshold_codes,
)
from fact.sae.model import BatchTopKSAE, TopKSAE
from fact.sae.steps import Trainer, TrainingConfig, calibrate_threshold
from tests.fact.sae.test_steps import N_CHANNELS, make_batches

FOREIGN = Path(__file__).parent / "foreign"
SCHEDULE = {"steps": 60, "warmup": 5, "decay_start": 20, "lr": 1e-2, "dead_after": 120}


def recorded(name: str) -> dict[str, torch.Tensor]:
    """What another library's own code computed: see ``foreign/write.py``."""
    with np.load(FOREIGN / f"{name}_step.npz") as arrays:
        return {key: torch.from_numpy(arrays[key]) for key in arrays}


@pytest.mark.parametrize(("name", "prefixes"), [("batchtopk", ()), ("matryoshka", (3, 6))])
def test_a_step_is_that_of_dictionary_learning(name: str, prefixes: tuple[int, ...]) -> None:
    own = recorded(f"dictionary_learning_{name}")
    weights = own["encoder"], own["decoder"].T.contiguous()
    main = reconstruct(own["x"], *weights, 3, over_batch=True, prefixes=prefixes)
    dead = torch.tensor([9, 10, 11])
    assert not main.counts[dead].any()
    activations = own["x"] @ own["encoder"][dead].T
    given = main.residual, activations, weights[1][dead], dead > 0, 2, spread(main.residual)
    auxiliary = reconstruct_residual(own["x"], *given)
    total = main.minimised + auxiliary.loss / 32
    torch.testing.assert_close(main.minimised, own["reconstruction_loss"])
    torch.testing.assert_close(auxiliary.loss, own["auxiliary_loss"])
    torch.testing.assert_close(total, own["loss"])
    main.by_encoder[dead] = auxiliary.by_encoder / 32
    main.by_directions[dead] = auxiliary.by_directions / 32
    torch.testing.assert_close(main.by_encoder, own["by_encoder"], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(main.by_directions.T, own["by_decoder"], rtol=1e-4, atol=1e-6)
    codes = batch_codes(own["x"], own["encoder"], 3)
    dense = torch.zeros_like(own["z"])
    dense[codes.samples, codes.concepts] = codes.values
    torch.testing.assert_close(dense, own["z"])
    sae = BatchTopKSAE(own["encoder"], own["decoder"], 3, 0.0, scale=2.0)
    assert calibrate_threshold(sae, [own["x"]]) == pytest.approx(2 * float(own["threshold"]))


def test_an_archetypal_dictionary_is_that_of_overcomplete() -> None:
    own = recorded("overcomplete_archetypal")
    given = own["points"], own["mixing"], 0.3, own["relaxation"], own["log_gain"]
    dictionary = ArchetypalDictionary(*given)
    torch.testing.assert_close(dictionary.mixing, own["settled_mixing"])
    torch.testing.assert_close(dictionary.relaxation, own["settled_relaxation"])
    torch.testing.assert_close(dictionary.directions, own["directions"])
    # Its gradient by mixing is not through the sums that rows are divided by; ours is.
    pull = (own["by_mixing"] * own["settled_mixing"]).sum(dim=1, keepdim=True)
    own["by_mixing"] -= pull
    found = dictionary.gradients(own["by_directions"].clone())
    for name, gradient in zip(dictionary.weights(), found, strict=True):
        torch.testing.assert_close(gradient, own[f"by_{name}"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("relaxation", [0.0, 0.5])
def test_gradients_of_a_dictionary_are_those_of_its_constraints(relaxation: float) -> None:
    """By automatic differentiation through the division of rows by their sums."""
    draw = torch.Generator().manual_seed(2)
    points, mixing = (torch.rand(n, 6, generator=draw, dtype=torch.float64) for n in (6, 9))
    found = ArchetypalDictionary(points, mixing, relaxation, None, 0.3)
    names = list(found.weights())
    leaves = [tensor.clone().requires_grad_() for tensor in found.weights().values()]
    by_name = dict(zip(names, leaves, strict=True))
    shares = by_name["mixing"] / by_name["mixing"].sum(dim=1, keepdim=True)
    atoms = shares @ points + by_name.get("relaxation", torch.zeros(()))
    weights = torch.randn(9, 6, generator=draw, dtype=torch.float64)
    (by_name["log_gain"].exp() * atoms * weights).sum().backward()
    for leaf, gradient in zip(leaves, found.gradients(weights.clone()), strict=True):
        torch.testing.assert_close(gradient, leaf.grad)


@pytest.mark.parametrize("likely", [0.0, 1e9, None])
@pytest.mark.parametrize("with_ties", [False, True])
def test_the_largest_of_a_batch_are_those_of_dense_codes(likely, with_ties, monkeypatch) -> None:
    """Whatever was guessed of where they begin, and however many samples are taken at a time."""
    if likely is not None:
        bound = torch.tensor(likely, dtype=torch.float64)
        monkeypatch.setattr("fact.sae.gradients._likely_bound", lambda *_: bound)
    draw = torch.Generator().manual_seed(0)
    x, encoder = (torch.randn(n, 6, generator=draw, dtype=torch.float64) for n in (40, 96))
    if with_ties:
        x, encoder = x.round(), encoder.round()
    dense = torch.relu(x @ encoder.T)
    whole = batch_codes(x, encoder, 4)
    monkeypatch.setattr("fact.sae.gradients.CHUNK_ON_CPU", 7 * 96)
    codes = batch_codes(x, encoder, 4)
    for name in ("values", "concepts", "samples"):
        torch.testing.assert_close(getattr(codes, name), getattr(whole, name))
    expected = dense.flatten().sort(descending=True).values[:160]
    torch.testing.assert_close(codes.values.sort(descending=True).values, expected)
    torch.testing.assert_close(dense[codes.samples, codes.concepts], codes.values)
    assert len(set(zip(codes.samples.tolist(), codes.concepts.tolist(), strict=True))) == 160
    assert bool((codes.samples.diff() >= 0).all())


def test_a_batch_with_few_activations_keeps_those_above_0() -> None:
    encoder, x = torch.eye(3), torch.tensor([[-1.0, -1, -1], [2, 0, -1]])
    codes = batch_codes(x, encoder, 2)
    assert (codes.samples.tolist(), codes.concepts.tolist()) == ([1], [0])
    found = reconstruct(x, encoder, encoder, 2, over_batch=True, prefixes=(1, 2))
    assert found.loss == 2.0
    assert found.counts.tolist() == [1, 0, 0]
    none = reconstruct(-x.abs(), encoder, encoder, 2, over_batch=True)
    assert none.loss == 4.0
    assert not none.by_encoder.any()
    sae = BatchTopKSAE(encoder, encoder, 2, 0.7)
    assert calibrate_threshold(sae, [-x.abs()]) == 0
    assert calibrate_threshold(sae, [-x.abs(), x, 2 * x]) == 3


@pytest.mark.parametrize("over_batch", [False, True])
@pytest.mark.parametrize("prefixes", [(), (8,), (5, 20, 60)])
def test_gradients_are_those_of_automatic_differentiation(over_batch, prefixes) -> None:
    (x,), draw = make_batches(1), torch.Generator().manual_seed(0)
    encoder = torch.randn(96, N_CHANNELS, generator=draw, dtype=torch.float64, requires_grad=True)
    decoder = torch.randn(N_CHANNELS, 96, generator=draw, dtype=torch.float64, requires_grad=True)
    found = reconstruct(x, encoder.detach(), decoder.detach().T, 3, over_batch, prefixes)
    dense = torch.relu(x @ encoder.T)
    ranked = dense.flatten()[None] if over_batch else dense
    kept = ranked.topk(ranked.numel() // 32 if over_batch else 3, dim=1).indices
    z = torch.zeros_like(ranked).scatter(1, kept, 1.0).view_as(dense) * dense
    losses = [
        (x - z[:, :size] @ decoder[:, :size].T).pow(2).sum(1).mean() for size in (*prefixes, 96)
    ]
    sum(losses).backward()
    torch.testing.assert_close(found.minimised, sum(losses).detach())
    torch.testing.assert_close(found.loss, losses[-1].detach())
    torch.testing.assert_close(found.by_encoder, encoder.grad, rtol=0, atol=1e-10)
    torch.testing.assert_close(found.by_directions.T, decoder.grad, rtol=0, atol=1e-10)


def start(name: str, dtype: torch.dtype = torch.float64, relaxation: float = 0.0):
    """A trainer of one kind, and the batches that it is for."""
    batches = make_batches(60, dtype)
    kind = TopKSAE if name in ("topk", "archetypal") else BatchTopKSAE
    sae = kind.initialise(96, N_CHANNELS, 3, torch.Generator().manual_seed(0), dtype=dtype)
    config = {**SCHEDULE, "prefixes": (8, 32) if name == "matryoshka" else ()}
    dictionary = None
    if "archetypal" in name:
        points = draw_points(torch.cat(batches[:6]), 100, seed=0)
        dictionary = ArchetypalDictionary.start(points, 96, relaxation)
        begin_with(sae, dictionary)
    return Trainer(sae, TrainingConfig(**config), dictionary), batches


NAMES = ("batch_topk", "matryoshka", "archetypal", "archetypal_batch")


@pytest.mark.parametrize("name", NAMES)
def test_a_stopped_training_goes_on_to_the_same_bits(name: str, tmp_path: Path) -> None:
    through, batches = start(name, torch.float32, relaxation=0.1)
    logs = [through.step(x) for x in batches]
    if "archetypal" not in name:  # which begins with centroids, no random directions
        assert logs[-1].reconstruction_loss < 0.8 * logs[0].reconstruction_loss
    stopped, _ = start(name, torch.float32, relaxation=0.1)
    for x in batches[:25]:
        stopped.step(x)
    stopped.save(tmp_path / "state")
    again = Trainer.load(tmp_path / "state")
    assert [again.step(x) for x in batches[25:]] == logs[25:]
    for key, tensor in through._tensors().items():
        assert torch.equal(tensor, again._tensors()[key]), key
    for key, weight in through.sae.state_dict().items():
        assert torch.equal(weight, again.sae.state_dict()[key]), key
    assert type(again.sae) is type(through.sae)


@pytest.mark.parametrize("relaxation", [0.0, 0.2])
def test_archetypal_atoms_stay_by_the_hull_of_the_points(relaxation: float) -> None:
    trainer, batches = start("archetypal", relaxation=relaxation)
    before = trainer.sae.decoder.detach().clone()
    for x in batches:
        trainer.step(x)
    labelled = trainer.dictionary.to_dataset()
    atoms = trainer.sae.decoder.detach().T.numpy() / float(labelled["gain"])
    mixed = (labelled["mixing"] @ labelled["point_feature"]).values
    distance = np.linalg.norm(atoms - mixed, axis=1)
    assert distance.max() <= relaxation + 1e-12
    assert (distance.max() > 1e-12) == (relaxation > 0)
    assert (labelled["mixing"] >= 0).all()
    np.testing.assert_allclose(labelled["mixing"].sum("point"), 1)
    assert not torch.equal(before, trainer.sae.decoder)
    if not relaxation:  # and by weights that are found anew, of sum 1: a heavy last row
        points = np.vstack([labelled["point_feature"].values.T, np.full(100, 1e3)])
        for atom in atoms[:5]:
            assert nnls(points, np.append(atom, 1e3))[1] < 1e-6


def test_mixing_without_anything_above_0_becomes_its_largest_share() -> None:
    points = torch.eye(3)
    mixing = torch.tensor([[-0.2, -0.1, -0.3], [0.5, -1.0, 1.5]])
    found = ArchetypalDictionary(points, mixing)
    assert found.mixing.tolist() == [[0, 1, 0], [0.25, 0, 0.75]]
    with pytest.raises(ValueError, match=r"mixing \(2, 3\), points \(2, 3\).*expected"):
        ArchetypalDictionary(points[:2], mixing)


def test_points_are_centroids_drawn_by_the_seed() -> None:
    x = torch.cat(make_batches(4))
    one, same, other = (draw_points(x, 8, seed) for seed in (0, 0, 1))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    nearest = torch.cdist(x, one).argmin(dim=1)
    spread_now = (x - one[nearest]).square().sum()
    assert spread_now < 0.7 * (x - x.mean(dim=0)).square().sum()
    with pytest.raises(ValueError, match="4 samples for 8 points"):
        draw_points(x[:4], 8, 0)


def test_a_threshold_serves_about_as_many_as_were_kept_in_training() -> None:
    trainer, batches = start("batch_topk")
    for x in batches[:40]:
        trainer.step(x)
    sae = BatchTopKSAE(trainer.sae.encoder, trainer.sae.decoder, 3, 0.0, scale=5.0)
    threshold = calibrate_threshold(sae, batches[40:])
    least = []
    for x in batches[40:]:
        dense = torch.relu(x @ sae.encoder.detach().T).flatten()
        least.append(float(dense.sort(descending=True).values[3 * len(x) - 1]))
    assert threshold == pytest.approx(5 * np.mean(least))
    served = 5 * torch.cat(batches[40:])
    assert (sae.encode(served) > 0).sum(1).double().mean().item() == pytest.approx(3, rel=0.05)
    codes = threshold_codes(served, sae.encoder.detach(), sae.threshold)
    torch.testing.assert_close(sae.encode(served)[codes.samples, codes.concepts], codes.values)
    torch.testing.assert_close(codes.decode(sae.decoder.T), sae(served))
    assert isinstance(fact.SAE.from_dataset(sae.to_dataset()), BatchTopKSAE)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"prefixes": (8, 8)}, r"prefixes \[8, 8\]; expected ascending"),
        ({"prefixes": (512,)}, "below n_concepts 512"),
        ({"candidates": "bf16", "precision": "bf16"}, 'of precision = "float32" alone'),
        ({"relaxation": 0.1}, 'of dictionary = "archetypal" alone'),
        ({"dictionary": "archetypal", "n_points": 100}, "n_points 100 is less than n_concepts 512"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(given, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SAEConfig(**given)


def test_prefixes_of_a_trainer_are_shorter_than_its_dictionary() -> None:
    sae = TopKSAE.initialise(8, 4, 2, torch.Generator())
    with pytest.raises(ValueError, match=r"prefixes \(3, 8\); expected less than 8"):
        Trainer(sae, TrainingConfig(steps=1, prefixes=(3, 8)))
    with pytest.raises(ValueError, match=r"prefixes is \(3, 3\); expected ascending"):
        TrainingConfig(steps=1, prefixes=(3, 3))
