"""Steps that no device waits in: what a GPU does, checked on it where one is, and without one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from fact.sae import steps
from fact.sae.dictionaries import ArchetypalDictionary
from fact.sae.model import TopKSAE
from fact.sae.steps import AHEAD, StepLog, Trainer, TrainingConfig
from tests.fact.sae.test_steps import N_CHANNELS, SCHEDULE, make_batches, make_sae


class Event:
    """What is over once it was asked for so often."""

    def __init__(self, asked: int):
        self.left = asked

    def query(self) -> bool:
        self.left -= 1
        return self.left < 0


@contextmanager
def as_on_a_device(asked: int) -> Iterator[None]:
    """Values may not be looked at, and what a step measures comes late."""

    def pending(step: int, rate: float, values: torch.Tensor) -> Any:
        return steps._Pending(step, rate, values, Event(asked))

    with pytest.MonkeyPatch.context() as patch:
        for module in ("steps", "gradients"):
            patch.setattr(f"fact.sae.{module}.may_look", lambda tensor: False)
        patch.setattr(steps._Pending, "of", staticmethod(pending))
        yield


@pytest.mark.parametrize("asked", [0, 1, 50])
def test_a_step_that_is_not_waited_for_is_the_same_step(asked: int) -> None:
    config = TrainingConfig(**SCHEDULE, auxiliary_k=8)
    batches = make_batches(50)
    batches[20] = torch.cat([batches[20], batches[21]])  # a longer one than those before
    waited, ahead = Trainer(make_sae(), config), Trainer(make_sae(), config)
    expected = [waited.step(x) for x in batches]
    known: list[StepLog] = []
    with as_on_a_device(asked):
        for number, x in enumerate(batches):
            known += ahead.advance(x)
            assert number + 1 - AHEAD <= len(known) <= number + 1
            assert asked < 50 or len(known) <= max(number, 21)
        known += ahead.drain()
    assert max(log.dead for log in expected) > 8
    for name in vars(expected[0]):
        values = ([getattr(log, name) for log in logs] for logs in (known, expected))
        np.testing.assert_allclose(*values, rtol=1e-10, atol=1e-15, err_msg=name)
    for name, tensor in waited._tensors().items():
        torch.testing.assert_close(ahead._tensors()[name], tensor, rtol=1e-9, atol=1e-12)


def test_a_loss_that_is_not_finite_stops_the_updates_until_it_is_read() -> None:
    trainer, (x, bad, *rest) = Trainer(make_sae(), TrainingConfig(steps=9)), make_batches(4)
    bad[3, 4] = torch.nan
    with as_on_a_device(10**4):
        trainer.advance(x)
        before = trainer.sae.encoder.detach().clone()
        for samples in (bad, *rest):
            trainer.advance(samples)
        assert torch.equal(trainer.sae.encoder, before)
        with pytest.raises(FloatingPointError, match="the loss of step 1 is nan"):
            trainer.drain()


@pytest.mark.parametrize("dictionary", ["unit", "archetypal"])
def test_no_shape_of_a_step_depends_on_values(dictionary: str) -> None:
    """Fake tensors have no values: whatever looks at one raises."""
    with FakeTensorMode(), as_on_a_device(10**4):
        encoder = torch.randn(512, N_CHANNELS)
        atoms = ArchetypalDictionary.start(torch.randn(600, N_CHANNELS), 512, 0.5)
        trainer = Trainer(
            TopKSAE(encoder, encoder.T, 4),
            TrainingConfig(steps=9, dead_after=100),
            atoms if dictionary == "archetypal" else None,
        )
        trainer._longest, trainer._room = 48, 300  # counted once, before the first step
        for _ in range(AHEAD):
            assert trainer.advance(torch.randn(48, N_CHANNELS)) == []


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_no_step_on_a_gpu_waits() -> None:
    encoder = torch.randn(4096, 64, device="cuda")
    trainer = Trainer(TopKSAE(encoder, encoder.T, 16), TrainingConfig(steps=50, dead_after=2000))
    batches = [torch.randn(512, 64).numpy() for _ in range(20)]
    logs = trainer.advance(batches[0])  # counts once which concepts may be dead
    torch.cuda.set_sync_debug_mode("error")
    try:
        for x in batches[1:]:
            logs += trainer.advance(x)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    logs += trainer.drain()
    assert [log.step for log in logs] == list(range(20))
    assert logs[-1].dead > 0
