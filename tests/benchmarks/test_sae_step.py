"""Sparse against dense gradients of a TopK SAE, alternated in one run."""

import pytest
import torch

from fact.sae.gradients import certified_codes, has_bfloat16, top_codes
from fact.sae.model import TopKSAE
from fact.sae.steps import Trainer, TrainingConfig
from tests.benchmarks.clock import least
from tests.benchmarks.table import Table
from tests.fact.dense_training import DenseTraining

N_CHANNELS, N_CONCEPTS, K, BATCH = 512, 4096, 16, 4096
SCHEDULE = {"steps": 1000, "warmup": 10, "decay_start": 500, "lr": 1e-3}


def contestants(dead_after, seed=0):
    generator = torch.Generator().manual_seed(seed)
    sae = TopKSAE.initialise(N_CONCEPTS, N_CHANNELS, K, generator)
    x = torch.randn(BATCH, N_CHANNELS, generator=generator) / N_CHANNELS**0.5
    weights = sae.encoder.detach(), sae.decoder.detach().contiguous()
    dense = DenseTraining(*weights, K, dead_after=dead_after, **SCHEDULE)
    sparse = Trainer(sae, TrainingConfig(dead_after=dead_after, **SCHEDULE))
    return dense, sparse, x


@pytest.mark.benchmark
def test_a_sparse_step_takes_at_most_a_third_of_a_dense_one(table: Table) -> None:
    dense, sparse, x = contestants(dead_after=10**9)
    slow, fast = least(lambda: dense.step(x), lambda: sparse.step(x), rounds=9, warm_up=True)
    note = f"{torch.get_num_threads()} threads"
    table.faster("SAE step", fast, slow, 3, against="dense autograd", asked=3, note=note)


@pytest.mark.benchmark
def test_an_auxiliary_loss_does_not_undo_it(table: Table) -> None:
    _, without, x = contestants(dead_after=10**9)
    dense, sparse, _ = contestants(dead_after=10**9)
    n_dead = N_CONCEPTS // 8
    for since_fired in (dense.since_fired, sparse.since_fired):
        since_fired[:n_dead] = 2 * 10**9
    # A concept of zero weights is among no sample's k: dead it stays.
    for training_weights in (dense.encoder.data, sparse.sae.encoder.data):
        training_weights[:n_dead] *= 1e-3
    steps = (training.step for training in (dense, sparse, without))
    slow, fast, none = least(*((lambda s=step: s(x)) for step in steps), rounds=9, warm_up=True)
    name = f"SAE step with {n_dead} dead"
    table.faster(name, fast, slow, 3, against="dense autograd")
    note = "the four products are 1.4 by themselves"
    table.costs(name, fast, none, 1.55, against="without dead", asked=1.3, note=note)


@pytest.mark.benchmark
@pytest.mark.skipif(not has_bfloat16(), reason="needs a processor with AMX or AVX512_BF16")
def test_candidates_in_bfloat16_take_less_time(table: Table) -> None:
    _, sparse, x = contestants(dead_after=10**9)
    encoder = sparse.sae.encoder.detach()
    slow, fast = least(
        lambda: top_codes(x, encoder, K),
        lambda: certified_codes(x, encoder, K),
        rounds=9,
        warm_up=True,
    )
    table.faster("codes by candidates in bfloat16", fast, slow, 1, against="float32", asked=1)
