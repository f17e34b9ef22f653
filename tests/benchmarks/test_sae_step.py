"""Sparse against dense gradients of a TopK SAE, alternated in one run."""

import time

import pytest
import torch

from fact.sae.gradients import certified_codes, has_bfloat16, top_codes
from fact.sae.model import TopKSAE
from fact.sae.steps import Trainer, TrainingConfig
from tests.fact.dense_training import DenseTraining

N_CHANNELS, N_CONCEPTS, K, BATCH = 512, 4096, 16, 4096
SCHEDULE = {"steps": 1000, "warmup": 10, "decay_start": 500, "lr": 1e-3}


def alternate(*calls, rounds):
    """Least seconds of each, called once a round after one call to warm up."""
    seconds = [float("inf")] * len(calls)
    for round_ in range(rounds + 1):
        for i, call in enumerate(calls):
            start = time.perf_counter()
            call()
            if round_:
                seconds[i] = min(seconds[i], time.perf_counter() - start)
    return seconds


def contestants(dead_after, seed=0):
    generator = torch.Generator().manual_seed(seed)
    sae = TopKSAE.initialise(N_CONCEPTS, N_CHANNELS, K, generator)
    x = torch.randn(BATCH, N_CHANNELS, generator=generator) / N_CHANNELS**0.5
    weights = sae.encoder.detach(), sae.decoder.detach().contiguous()
    dense = DenseTraining(*weights, K, dead_after=dead_after, **SCHEDULE)
    sparse = Trainer(sae, TrainingConfig(dead_after=dead_after, **SCHEDULE))
    return dense, sparse, x


@pytest.mark.benchmark
def test_a_sparse_step_takes_at_most_a_third_of_a_dense_one(capsys):
    dense, sparse, x = contestants(dead_after=10**9)
    slow, fast = alternate(lambda: dense.step(x), lambda: sparse.step(x), rounds=9)
    with capsys.disabled():
        print(
            f"\nSAE step: dense {slow:.3f} s, sparse {fast:.3f} s, ratio {slow / fast:.1f}, "
            f"{torch.get_num_threads()} threads"
        )
    assert slow / fast >= 3


@pytest.mark.benchmark
def test_an_auxiliary_loss_does_not_undo_it(capsys):
    _, without, x = contestants(dead_after=10**9)
    dense, sparse, _ = contestants(dead_after=10**9)
    n_dead = N_CONCEPTS // 8
    for since_fired in (dense.since_fired, sparse.since_fired):
        since_fired[:n_dead] = 2 * 10**9
    # A concept of zero weights is among no sample's k: dead it stays.
    for training_weights in (dense.encoder.data, sparse.sae.encoder.data):
        training_weights[:n_dead] *= 1e-3
    steps = (training.step for training in (dense, sparse, without))
    slow, fast, none = alternate(*((lambda s=step: s(x)) for step in steps), rounds=9)
    with capsys.disabled():
        print(
            f"\nwith {n_dead} dead: dense {slow:.3f} s, sparse {fast:.3f} s, {slow / fast:.1f}; "
            f"without any {none:.3f} s, the auxiliary loss costs {fast / none:.2f} of that"
        )
    assert slow / fast >= 3
    assert fast / none <= 1.55  # the four products are 1.4 by themselves


@pytest.mark.benchmark
@pytest.mark.skipif(not has_bfloat16(), reason="needs a processor with AMX or AVX512_BF16")
def test_candidates_in_bfloat16_take_less_time(capsys):
    _, sparse, x = contestants(dead_after=10**9)
    encoder = sparse.sae.encoder.detach()
    slow, fast = alternate(
        lambda: top_codes(x, encoder, K), lambda: certified_codes(x, encoder, K), rounds=9
    )
    with capsys.disabled():
        print(f"\ncodes: float32 {slow:.3f} s, by candidates in bfloat16 {fast:.3f} s")
    assert fast < slow
