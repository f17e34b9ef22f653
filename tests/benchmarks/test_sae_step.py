"""Sparse against dense gradients of a TopK SAE, alternated in one run."""

import statistics
import time

import pytest
import torch

from fact.sae.model import TopKSAE
from fact.sae.steps import Trainer, TrainingConfig
from tests.fact.dense_training import DenseTraining

N_CHANNELS, N_CONCEPTS, K, BATCH = 512, 4096, 16, 4096
SCHEDULE = {"steps": 1000, "warmup": 10, "decay_start": 500, "lr": 1e-3}


def alternate(first, second, rounds):
    """Median seconds of both, each called once a round after one call to warm up."""
    seconds = ([], [])
    for round_ in range(rounds + 1):
        for call, taken in zip((first, second), seconds, strict=True):
            start = time.perf_counter()
            call()
            if round_:
                taken.append(time.perf_counter() - start)
    return tuple(statistics.median(taken) for taken in seconds)


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
    dense, sparse, x = contestants(dead_after=10**9)
    n_dead = N_CONCEPTS // 8
    for since_fired in (dense.since_fired, sparse.since_fired):
        since_fired[:n_dead] = 2 * 10**9
    # A concept of zero weights is among no sample's k: dead it stays.
    for training_weights in (dense.encoder.data, sparse.sae.encoder.data):
        training_weights[:n_dead] *= 1e-3
    slow, fast = alternate(lambda: dense.step(x), lambda: sparse.step(x), rounds=5)
    with capsys.disabled():
        print(f"\nwith {n_dead} dead: dense {slow:.3f} s, sparse {fast:.3f} s, {slow / fast:.1f}")
    assert slow / fast >= 3
