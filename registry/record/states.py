"""How a task stands, how a run at it ended, and what Sacred calls that."""

from __future__ import annotations

from enum import StrEnum


class State(StrEnum):
    """How a task or a run stands: the one vocabulary of plans, schedules, records and readers."""

    NEVER = "never"
    """No run of the task began."""
    RUNNING = "running"
    """A process is at it now."""
    COMPLETE = "complete"
    """The task has a whole current output."""
    COMPLETED = "completed"
    """The run ended well."""
    UNCHANGED = "unchanged"
    """No run was needed after all: the inputs came out with the same bits."""
    FAILED = "failed"
    """The run raised an error."""
    DIED = "died"
    """The run's process is gone without an end in its record."""
    INTERRUPTED = "interrupted"
    """The run was stopped from outside, by Ctrl-C or a signal."""
    BLOCKED = "blocked"
    """Something that the task needs failed, or is not there."""
    MISSING = "missing"
    """A run completed, and its output is gone."""
    DAMAGED = "damaged"
    """The output is not as it was written."""

    @classmethod
    def of_record(cls, status: str) -> State:
        """Return the state of a run by its status in Sacred's record, ``COMPLETED``.

        What only other clients of Sacred write, as ``TIMEOUT``, counts as failed.
        """
        known = ("RUNNING", "COMPLETED", "FAILED", "INTERRUPTED", "DIED")
        return cls[status] if status in known else cls.FAILED
