"""A step of a TopK SAE against those of other libraries, where they are installed.

Each takes its own step as it trains by itself: all of them by dense automatic differentiation, with
biases, which cost them little. None has dead concepts, whose loss each computes in another way.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
from collections.abc import Callable
from contextlib import redirect_stdout
from io import StringIO

import pytest
import torch
from torch import Tensor

from fact.sae.model import TopKSAE
from fact.sae.steps import Trainer, TrainingConfig
from tests.benchmarks.clock import least
from tests.benchmarks.table import Table

pytestmark = pytest.mark.benchmark

N_CHANNELS, N_CONCEPTS, K, BATCH = 512, 4096, 16, 4096
STEPS, LR = 1000, 1e-3
Step = Callable[[Tensor], object]


def factbook() -> Step:
    sae = TopKSAE.initialise(N_CONCEPTS, N_CHANNELS, K, torch.Generator().manual_seed(0))
    return Trainer(sae, TrainingConfig(STEPS, LR, dead_after=10**9)).step


def dictionary_learning() -> Step:
    from dictionary_learning.trainers.top_k import TopKTrainer

    trainer = TopKTrainer(
        steps=STEPS,
        activation_dim=N_CHANNELS,
        dict_size=N_CONCEPTS,
        k=K,
        layer=0,
        lm_name="",
        lr=LR,
        warmup_steps=10,
        device="cpu",
    )
    return lambda x: trainer.update(1, x)


def sae_lens() -> Step:
    from sae_lens import TopKTrainingSAE, TopKTrainingSAEConfig
    from sae_lens.saes.sae import TrainStepInput

    config = TopKTrainingSAEConfig(d_in=N_CHANNELS, d_sae=N_CONCEPTS, k=K, device="cpu")
    sae = TopKTrainingSAE(config)
    adam = torch.optim.Adam(sae.parameters(), lr=LR, betas=(0.9, 0.999))
    none_dead = torch.zeros(N_CONCEPTS, dtype=torch.bool)

    def step(x: Tensor) -> None:  # as its SAETrainer makes one
        sae.train()
        told = sae.training_forward_pass(
            TrainStepInput(
                sae_in=x,
                coefficients={},
                dead_neuron_mask=none_dead,
                n_training_steps=1,
                is_logging_step=False,
            )
        )
        told.loss.backward()
        torch.nn.utils.clip_grad_norm_(sae.parameters(), 1.0)
        adam.step()
        adam.zero_grad()

    return step


def overcomplete() -> Step:
    from overcomplete.sae import TopKSAE, train_sae

    sae = TopKSAE(N_CHANNELS, N_CONCEPTS, K)
    adam = torch.optim.Adam(sae.parameters(), lr=LR)

    def error(x: Tensor, x_hat: Tensor, *_others: Tensor) -> Tensor:
        return (x - x_hat).square().mean()

    def step(x: Tensor) -> None:
        with redirect_stdout(StringIO()):
            train_sae(sae, [x], error, adam, nb_epochs=1)

    return step


PEERS: dict[str, tuple[Callable[[], Step], str]] = {
    "dictionary_learning": (dictionary_learning, "dictionary-learning"),
    "sae_lens": (sae_lens, "sae-lens"),
    "overcomplete": (overcomplete, "overcomplete"),
}
"""By module: what makes a step, and what to install."""


@pytest.mark.parametrize("name", PEERS)
def test_a_step_takes_a_third_of_that_of(name: str, table: Table) -> None:
    make, package = PEERS[name]
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"pip install {package}")
    try:
        theirs = make()
    except (ImportError, AttributeError) as error:
        pytest.skip(f"{package} is installed, and does not import beside the rest: {error}")
    ours = factbook()
    x = torch.randn(BATCH, N_CHANNELS, generator=torch.Generator().manual_seed(0))
    x /= N_CHANNELS**0.5
    fast, slow = least(lambda: ours(x), lambda: theirs(x), rounds=9, warm_up=True)
    note = f"{importlib.metadata.version(package)}, {torch.get_num_threads()} threads"
    table.faster("SAE step", fast, slow, 3, against=package, note=note)
