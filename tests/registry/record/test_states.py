"""The one vocabulary of how tasks and runs stand."""

from __future__ import annotations

import pytest

from registry.plan.task import Why
from registry.record.states import State


@pytest.mark.parametrize(
    ("recorded", "state"),
    [
        ("RUNNING", State.RUNNING),
        ("COMPLETED", State.COMPLETED),
        ("FAILED", State.FAILED),
        ("INTERRUPTED", State.INTERRUPTED),
        ("DIED", State.DIED),
        ("TIMEOUT", State.FAILED),
        ("DAMAGED", State.FAILED),
    ],
)
def test_what_sacred_calls_it(recorded: str, state: State) -> None:
    assert State.of_record(recorded) is state


def test_a_state_that_makes_a_task_due_is_a_reason() -> None:
    due = (State.FAILED, State.DIED, State.INTERRUPTED, State.MISSING, State.DAMAGED)
    assert {Why[state.name] for state in due} <= set(Why)
