"""Training of an SAE against a dense, straight implementation, and its state."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from safetensors import safe_open

from fact.networks.precision import computing_in
from fact.sae import gradients
from fact.sae.gradients import (
    _bounding,
    certified_codes,
    reconstruct,
    reconstruct_residual,
    spread,
    top_codes,
)
from fact.sae.model import BatchTopKSAE, TopKSAE
from fact.sae.steps import Trainer, TrainingConfig, train_topk_sae
from tests.fact.dense_training import DenseTraining

N_CHANNELS, BATCH = 12, 48
SCHEDULE = {"steps": 100, "warmup": 20, "decay_start": 40, "lr": 1e-2, "dead_after": 120}


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Threads only wait for each other on arrays as small as these."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def make_sae(n_concepts=96, k=3, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return TopKSAE.initialise(n_concepts, N_CHANNELS, k, generator, dtype=dtype)


def make_batches(count, dtype=torch.float64, seed=1, n_directions=5):
    """Few directions, positive codes: many concepts are never among the k."""
    generator = torch.Generator().manual_seed(seed)
    basis = torch.randn(n_directions, N_CHANNELS, generator=generator, dtype=torch.float64)
    codes = torch.rand(count, BATCH, n_directions, generator=generator, dtype=torch.float64)
    noise = torch.randn(count, BATCH, N_CHANNELS, generator=generator, dtype=torch.float64)
    x = codes.pow(3) @ basis + 0.05 * noise
    return list((x / x.pow(2).sum(-1).mean().sqrt()).to(dtype))


def follow_both(sae, batches, **options):
    dense = DenseTraining(sae.encoder.detach(), sae.decoder.detach(), sae.k, **options)
    expected = np.array([dense.step(x) for x in batches])
    logs = []
    losses = train_topk_sae(batches, sae, TrainingConfig(**options), logs.append)
    return dense, expected, losses, logs


@pytest.mark.parametrize(
    ("n_concepts", "k", "auxiliary_k"),
    # Below and above 4 * 16 * k concepts, which are sorted out differently; then no auxiliary
    # concept is ever left over, and some are.
    [(96, 3, 256), (97, 3, 8), (256, 4, 256), (256, 4, 8)],
)
@pytest.mark.slow
def test_losses_and_weights_are_those_of_a_dense_implementation(n_concepts, k, auxiliary_k):
    sae, batches = make_sae(n_concepts, k), make_batches(100)
    dense, expected, losses, logs = follow_both(sae, batches, auxiliary_k=auxiliary_k, **SCHEDULE)
    assert sum(expected[:, 2] > 0) > 80
    assert max(log.dead for log in logs) > 8
    np.testing.assert_allclose(losses, expected[:, 0], rtol=1e-10)
    np.testing.assert_allclose(losses.reconstruction_loss, expected[:, 1], rtol=1e-10)
    np.testing.assert_allclose(losses.auxiliary_loss, expected[:, 2], rtol=1e-9)
    torch.testing.assert_close(sae.encoder, dense.encoder, rtol=0, atol=1e-8)
    torch.testing.assert_close(sae.decoder, dense.decoder, rtol=0, atol=1e-8)
    assert losses[-1] < 0.7 * losses[0]


@pytest.mark.slow
def test_float32_follows_float64():
    _, expected, _, _ = follow_both(make_sae(256, 4), make_batches(100), **SCHEDULE)
    sae, batches = make_sae(256, 4), make_batches(100, torch.float32)
    losses = train_topk_sae(batches, sae.float(), TrainingConfig(**SCHEDULE))
    assert sae.encoder.dtype == torch.float32
    np.testing.assert_allclose(losses, expected[:, 0], rtol=1e-4)


def test_gradients_are_those_of_automatic_differentiation():
    sae, (x,) = make_sae(256, 4), make_batches(1)
    encoder, decoder = sae.encoder.detach(), sae.decoder.detach()
    found = reconstruct(x, encoder, decoder.T, 4)
    (x - sae(x)).pow(2).sum(1).mean().backward()
    torch.testing.assert_close(found.by_encoder, sae.encoder.grad, rtol=0, atol=1e-8)
    torch.testing.assert_close(found.by_directions.T, sae.decoder.grad, rtol=0, atol=1e-8)


def test_gradients_do_not_depend_on_how_many_samples_are_taken_at_a_time(monkeypatch):
    sae, (x,) = make_sae(256, 4), make_batches(1)
    weights, dead = (sae.encoder.detach(), sae.decoder.detach().T), torch.arange(20)

    def both():
        main = reconstruct(x, *weights, 4, idle=dead)
        given = main.idle.clone(), weights[1][dead], dead >= 0, 8, spread(main.residual)
        return main, reconstruct_residual(x, main.residual, *given)

    whole = both()
    monkeypatch.setattr("fact.sae.gradients.CHUNK_ON_CPU", 7 * 256)
    for one, other in zip(whole, both(), strict=True):
        for name, value in vars(one).items():
            torch.testing.assert_close(value, getattr(other, name))


@settings(max_examples=50)
@given(
    arrays(np.float32, (5, 3), elements=st.integers(-3, 3).map(float)),
    arrays(np.float32, (128, 3), elements=st.integers(-1, 1).map(float)),
    st.integers(1, 128),
)
@pytest.mark.slow
def test_top_codes_are_the_largest_with_many_ties(x, encoder, k):
    activations = torch.relu(torch.tensor(x) @ torch.tensor(encoder).T)
    values, indices = top_codes(torch.tensor(x), torch.tensor(encoder), k)
    expected = activations.topk(k, sorted=False)
    assert torch.equal(values.sort(1).values, expected.values.sort(1).values)
    assert torch.equal(activations.gather(1, indices), values)
    assert all(len(set(row)) == k for row in indices.tolist())
    short = expected.values.amin(1) == 0
    assert torch.equal(indices[short].sort(1).values, expected.indices[short].sort(1).values)


def test_a_concept_fires_even_at_activation_0():
    sae = TopKSAE(-torch.eye(3), -torch.eye(3), 2)
    trainer = Trainer(sae, TrainingConfig(steps=5))
    log = trainer.step(torch.tensor([[1.0, 1.0, 1.0], [1.0, 2.0, 3.0]]))
    assert log.l0 == 0
    assert trainer.fired_in_epoch.sum() == 4
    assert sorted(set(trainer.since_fired.tolist())) == [0, 2]


def test_dead_is_what_has_not_fired_for_long_enough_this_batch_counted():
    encoder = torch.eye(3)
    trainer = Trainer(TopKSAE(encoder, encoder.T, 1), TrainingConfig(steps=9, dead_after=4))
    first, second = torch.tensor([[1.0, 0, 0], [1, 0, 0]]), torch.tensor([[0, 1.0, 0], [1, 0, 0]])
    assert [trainer.step(x).dead for x in (first, second, first, first)] == [0, 1, 1, 2]


def test_the_decoder_stays_of_unit_norm_and_a_zero_column_stays_zero():
    sae = make_sae()
    with torch.no_grad():
        sae.decoder[:, 5] = 0
    train_topk_sae(make_batches(10), sae, TrainingConfig(steps=10))
    norms = sae.decoder.norm(dim=0)
    assert norms[5] == 0
    torch.testing.assert_close(norms[norms > 0], torch.ones(95, dtype=torch.float64))


def test_the_rate_warms_up_stays_and_decays():
    config = TrainingConfig(steps=40, lr=0.5, warmup=10, decay_start=20)
    rates = [config.rate(step) for step in range(41)]
    assert rates[0] == 0
    np.testing.assert_allclose(rates[:11], 0.05 * np.arange(11))
    assert set(rates[10:21]) == {0.5}
    np.testing.assert_allclose(rates[20:], 0.25 * (1 + np.cos(np.pi * np.arange(21) / 20)))
    assert TrainingConfig(steps=40, lr=0.5).rate(39) == 0.5


def test_the_first_update_of_a_warm_up_changes_nothing():
    sae = make_sae()
    before = sae.encoder.detach().clone()
    trainer = Trainer(sae, TrainingConfig(steps=5, warmup=2))
    batches = make_batches(2)
    assert trainer.step(batches[0]).rate == 0
    assert torch.equal(sae.encoder, before)
    trainer.step(batches[1])
    assert not torch.equal(sae.encoder, before)


def test_a_schedule_in_passes_is_the_papers_by_default():
    config = TrainingConfig.for_epochs(1001, 100, lr=1e-4)
    assert config == TrainingConfig(176, 1e-4, 11, 22, 500)
    short = TrainingConfig.for_epochs(1, 100, epochs=1)
    assert (short.steps, short.warmup, short.decay_start, short.dead_after) == (1, 1, 1, 1)
    assert TrainingConfig.for_epochs(10, 5, dead_after=None).dead_after is None


def test_every_fault_of_a_configuration_is_named():
    with pytest.raises(
        ValueError, match=r"lr is 0; .*warmup is 11; expected 0 to 10.*clip"
    ) as error:
        TrainingConfig(steps=20, lr=0, warmup=11, decay_start=10, clip=-1)
    assert "steps" not in str(error.value)
    with pytest.raises(ValueError, match="decay_start is 30; expected at most 20"):
        TrainingConfig(steps=20, decay_start=30)


def test_what_a_step_logs_is_measured_from_the_weights_before_it():
    sae, batches = make_sae(), make_batches(3)
    trainer = Trainer(sae, TrainingConfig(steps=3))
    for x in batches:
        z, x_hat = sae.encode(x).detach(), sae(x).detach()
        log = trainer.step(x)
        assert log.l0 == pytest.approx((z > 0).sum(1).double().mean().item())
        left = torch.var(x - x_hat, dim=0).sum() / torch.var(x, dim=0).sum()
        assert log.explained_variance == pytest.approx(1 - left.item())
        assert (
            log.loss
            == log.reconstruction_loss
            == pytest.approx((x - x_hat).pow(2).sum(1).mean().item())
        )


def test_a_pass_counts_how_often_concepts_fire():
    sae, batches = make_sae(), make_batches(4)
    trainer = Trainer(sae, TrainingConfig(steps=4, lr=1e-12))
    codes = torch.cat([sae.encode_sparse(x)[1] for x in batches])
    counts = torch.bincount(codes.flatten(), minlength=96)
    for x in batches:
        trainer.step(x)
    log = trainer.end_epoch()
    assert log.samples == 4 * BATCH
    assert log.never_firing == (counts == 0).sum() > 0
    assert log.always_active == (counts / log.samples >= 0.6).sum()
    assert trainer.end_epoch().samples == 0


def test_a_concept_in_exactly_60_percent_is_always_active():
    encoder = torch.eye(2)
    trainer = Trainer(TopKSAE(encoder, encoder.T, 1), TrainingConfig(steps=1))
    trainer.step(torch.tensor([[1.0, 0]] * 3 + [[0, 1.0]] * 2))
    assert trainer.end_epoch().always_active == 1


@pytest.mark.parametrize("x", [torch.ones(1, N_CHANNELS), torch.ones(4, N_CHANNELS)])
def test_a_residual_without_variance_has_no_auxiliary_loss(x):
    sae = make_sae(dtype=torch.float32)
    log = Trainer(sae, TrainingConfig(steps=1, dead_after=1)).step(x)
    assert log.dead > 0
    assert log.auxiliary_loss == 0
    assert math.isnan(log.explained_variance)
    assert all(weights.isfinite().all() for weights in sae.parameters())


def test_a_loss_that_is_not_finite_leaves_the_weights_alone():
    sae, (x, bad) = make_sae(), make_batches(2)
    trainer = Trainer(sae, TrainingConfig(steps=3))
    trainer.step(x)
    before = {name: tensor.clone() for name, tensor in trainer._tensors().items()}
    bad[3, 4] = math.nan
    with pytest.raises(FloatingPointError, match="the loss of step 1 is nan"):
        trainer.step(bad)
    for name, tensor in trainer._tensors().items():
        assert torch.equal(tensor, before[name]), name


@pytest.mark.parametrize("stop", [0, 13, 45])
@pytest.mark.slow
def test_a_stopped_training_goes_on_to_the_same_bits(tmp_path, stop):
    config = TrainingConfig(**{**SCHEDULE, "steps": 60})
    batches = make_batches(60, torch.float32)
    through = Trainer(make_sae(dtype=torch.float32), config)
    logs = [through.step(x) for x in batches]
    stopped = Trainer(make_sae(dtype=torch.float32), config)
    for x in batches[:stop]:
        stopped.step(x)
    stopped.notes["best_accuracy"] = 0.5
    stopped.save(tmp_path / "training.safetensors")
    again = Trainer.load(tmp_path / "training.safetensors")
    assert [again.step(x) for x in batches[stop:]] == logs[stop:]
    assert again.notes == {"best_accuracy": 0.5}
    assert again.end_epoch() == through.end_epoch()
    for name, tensor in through._tensors().items():
        assert torch.equal(tensor, again._tensors()[name]), name


def test_the_state_is_one_file_of_tensors_and_json(tmp_path):
    trainer = Trainer(make_sae(), TrainingConfig(steps=3))
    trainer.save(tmp_path / "state")
    trainer.step(make_batches(1)[0])
    trainer.save(tmp_path / "state")
    assert [path.name for path in tmp_path.iterdir()] == ["state"]
    with safe_open(tmp_path / "state", framework="numpy") as file:
        assert json.loads(file.metadata()["training"])["step_count"] == 1
        assert "since_fired" in file.keys()  # noqa: SIM118


def test_a_state_of_another_format_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("fact.sae.steps.STATE_FORMAT", 99)
    Trainer(make_sae(), TrainingConfig(steps=3)).save(tmp_path / "state")
    monkeypatch.undo()
    with pytest.raises(ValueError, match="format 99; expected 1"):
        Trainer.load(tmp_path / "state")


def test_the_weights_are_trained_in_place_and_no_longer_than_the_schedule():
    sae, batches = make_sae(), make_batches(5)
    config = TrainingConfig(steps=3)
    assert len(train_topk_sae(batches, sae, config)) == 3
    trainer = Trainer(sae, replace(config, steps=1))
    trainer.step(batches[0].numpy())
    with pytest.raises(ValueError, match="schedule of 1 step is over"):
        trainer.step(batches[1])
    assert len(train_topk_sae(batches[:2], make_sae(), config)) == 2


def test_samples_of_another_shape_are_refused():
    trainer = Trainer(make_sae(), TrainingConfig(steps=3))
    with pytest.raises(ValueError, match=r"shape \(4, 13\); expected \(sample, 12\)"):
        trainer.step(torch.zeros(4, 13))
    with pytest.raises(ValueError, match="expected"):
        trainer.step(torch.zeros(0, 12))


def test_training_changes_no_global_state():
    torch.manual_seed(3)
    before = torch.get_rng_state()
    train_topk_sae(make_batches(2), make_sae(), TrainingConfig(steps=2))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.is_grad_enabled()


@settings(max_examples=40, deadline=None)
@given(
    arrays(np.float32, (5, 6), elements=st.floats(-3, 3, width=32)),
    arrays(np.float32, (64, 6), elements=st.floats(-2, 2, width=16)),
    st.integers(1, 40),
    st.floats(1e-3, 1e3),
)
@pytest.mark.slow
def test_the_bound_of_a_product_in_bfloat16_is_above_the_product(x, encoder, k, scale):
    x, encoder = torch.tensor(x) * scale, torch.tensor(encoder)
    ours, theirs = _bounding(x, encoder)
    assert torch.equal(ours.bfloat16().float(), ours.float())  # what a processor would multiply
    exact, bound = x.double() @ encoder.double().T, ours.double() @ theirs.double().T
    tiny = 2**-40 * x.double().norm(dim=1)[:, None] * encoder.double().norm(dim=1).max()
    assert (bound >= exact - tiny).all()
    values, indices, left = certified_codes(x, encoder, k)
    found = torch.relu(x @ encoder.T)
    assert left == 0
    assert all(len(set(row)) == k for row in indices.tolist())
    expected = found.topk(k).values
    near = 1e-5 * x.norm(dim=1)[:, None] * encoder.norm(dim=1).max()
    assert ((values.sort(descending=True).values - expected).abs() <= near).all()
    assert ((found.gather(1, indices) - values).abs() <= near).all()


@pytest.mark.parametrize("looks", [True, False])
def test_concepts_that_are_found_in_bfloat16_are_those_of_float32(looks, monkeypatch):
    draw = torch.Generator().manual_seed(0)
    x, encoder = (torch.randn(n, 64, generator=draw) / 8 for n in (256, 1024))
    monkeypatch.setattr("fact.sae.gradients.may_look", lambda tensor: looks)
    for name in ("CANDIDATES", "MORE"):  # so few that some cannot be proven
        monkeypatch.setattr(f"fact.sae.gradients.{name}", 1)
    proven = []
    again = gradients._do_again
    monkeypatch.setattr(
        gradients, "_do_again", lambda *given: proven.append(given[2]) or again(*given)
    )
    expected = torch.relu(x @ encoder.T).topk(4).indices.sort(1).values
    _, indices, left = certified_codes(x, encoder, 4)
    assert 0.3 < proven[0].float().mean() < 0.8
    assert left == (0 if looks else (~proven[0]).sum() - 256 // 8)
    is_known = proven[0] | looks
    assert torch.equal(indices.sort(1).values[is_known], expected[is_known])
    # All alike: nothing can be proven.
    _, indices, left = certified_codes(x, encoder[:1].expand(1024, -1), 4)
    assert not proven[1].any()
    assert left == (0 if looks else 256 - 32)


def test_a_training_by_candidates_in_bfloat16_is_that_of_float32():
    config = TrainingConfig(**SCHEDULE)
    batches = make_batches(30, torch.float32)
    exact, coarse = (
        Trainer(make_sae(256, 4, torch.float32), replace(config, candidates=candidates))
        for candidates in ("float32", "bf16")
    )
    logs = [[trainer.step(x) for x in batches] for trainer in (exact, coarse)]
    for one, other in zip(*logs, strict=True):
        assert one.loss == pytest.approx(other.loss, rel=1e-3)
    assert one.dead == pytest.approx(other.dead, abs=2)
    with pytest.raises(ValueError, match="candidates is bf8; expected float32 or bf16"):
        replace(config, candidates="bf8")


@pytest.mark.parametrize("kind", [TopKSAE, BatchTopKSAE])
@pytest.mark.parametrize("prefixes", [(), (32,)])
def test_a_training_in_bf16_learns_as_one_in_float32(kind, prefixes, tmp_path):
    config = TrainingConfig(**SCHEDULE, prefixes=prefixes)
    batches, logs, products = make_batches(40, torch.float32), [], []
    for precision in ("float32", "bf16"):
        draw = torch.Generator().manual_seed(0)
        trainer = Trainer(
            kind.initialise(96, N_CHANNELS, 3, draw), replace(config, precision=precision)
        )
        logs.append([trainer.step(x) for x in batches])
        products.append(trainer.sae.encoder.detach())
        assert {weight.dtype for weight in trainer._tensors().values()} <= {
            torch.float32,
            torch.int64,
        }
    exactly, nearly = logs
    assert nearly[0].loss != exactly[0].loss
    assert max(log.auxiliary_loss for log in nearly) > 0
    for one, other in zip(exactly[:5], nearly[:5], strict=True):
        assert other.loss == pytest.approx(one.loss, rel=2**-6)
    assert exactly[-1].loss < 0.5 * exactly[0].loss
    assert nearly[-1].loss == pytest.approx(exactly[-1].loss, rel=0.1)
    trainer.save(tmp_path / "state.safetensors")
    assert Trainer.load(tmp_path / "state.safetensors").config.precision == "bf16"


def test_gradients_in_bf16_are_near_those_in_float32():
    draw = torch.Generator().manual_seed(0)
    x, residual, encoder, directions = (
        torch.randn(n, N_CHANNELS, generator=draw) / N_CHANNELS**0.5 for n in (64, 64, 256, 20)
    )
    is_dead, variance = torch.arange(20) % 3 > 0, spread(residual)
    found = []
    for precision in ("float32", "bf16"):
        with computing_in(precision, x.device):
            main = reconstruct(x, encoder, encoder, 200)  # nearly all: the same ones
            given = torch.randn(64, 20, generator=torch.Generator().manual_seed(1))
            auxiliary = reconstruct_residual(x, residual, given, directions, is_dead, 5, variance)
        parts = (main.by_encoder, main.by_directions, main.residual)
        found.append([*parts, auxiliary.loss, auxiliary.by_encoder, auxiliary.by_directions])
    for one, other in zip(*found, strict=True):
        assert one.dtype == other.dtype == torch.float32
        assert 0 < (one - other).norm() < 2**-4 * one.norm()
    with pytest.raises(ValueError, match="precision is bf8; expected float32 or bf16"):
        TrainingConfig(1, precision="bf8")
