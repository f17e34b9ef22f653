"""How tasks stand, in words and signs."""

from __future__ import annotations

from collections.abc import Mapping

from registry.plan.task import Task, Why
from registry.record.states import State

STATES: Mapping[str, tuple[str, str]] = {
    "complete": ("✓", "#b5e3d3"),
    "running": ("▶", "#bfe0f5"),
    "never ran": ("○", "#f2f2f2"),
    "changed": ("↻", "#f8dfae"),
    "waiting for upstream": ("…", "#ead3e2"),
    "failed or interrupted": ("✗", "#f3c3a8"),
    "unreadable": ("!", "#f6f0a4"),
    "data": ("◇", "#dcdcdc"),
}
"""Sign and ground of each state, tints of the colours of Okabe and Ito under dark letters."""


def state_of(task: Task) -> str:
    """Return how a task stands, a key of `STATES`."""
    whys = {reason.why for reason in task.reasons}
    broken = (State.FAILED, State.DIED, State.INTERRUPTED, State.MISSING, State.DAMAGED)
    if task.is_running:
        return "running"
    if not task.due:
        return "complete"
    if Why.UNREADABLE in whys:
        return "unreadable"
    if task.state.status in broken:
        return "failed or interrupted"
    if task.is_conditional:
        return "waiting for upstream"
    return "never ran" if whys == {Why.NEVER} else "changed"
