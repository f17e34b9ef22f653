"""Runs a job in this process."""

from __future__ import annotations

import time
import traceback
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace

from registry.declare.plugins import import_plugins
from registry.execute.experiment import StageExperiment, TaskRefusedError
from registry.execute.runner import (
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    EXIT_NOT_RECORDED,
    Job,
    JobEnd,
    Progress,
    TaskOutcome,
    error_message,
    outcome_of,
)
from registry.record.observer import SignalInterrupt
from registry.record.states import State


def run_job(job: Job) -> JobEnd:
    """Run a job to its end in this process; nothing that it raises passes through."""
    import_plugins(job.project.declaration.project.plugins)  # a worker has only what is installed
    stage, uid = job.task.stage, job.uid
    run = StageExperiment(stage, job.project, job.task, uid=uid, journal_only=job.journal_only)
    try:
        result = run.run()
        end = JobEnd(0, run.note, result)
    except TaskRefusedError as error:
        end = JobEnd(EXIT_FAILED, str(error))
    except (KeyboardInterrupt, SignalInterrupt):
        end = JobEnd(EXIT_INTERRUPTED)
    except Exception as error:  # Sacred has recorded it, and printed it to what the run captures
        text = "".join(traceback.format_exception_only(error))
        end = JobEnd(EXIT_FAILED, error_message(text))
    finally:
        recorded = run.close()
    return end if recorded or end.status != 0 else replace(end, status=EXIT_NOT_RECORDED)


class InProcessRunner:
    """Runs one job at a time, to its end, in this process: for debugging.

    Parameters
    ----------
    stages : collection of str
        What will be run; each is loaded when it is needed.
    workers : int
        Without effect.
    """

    def __init__(self, stages: Collection[str] = (), workers: int = 1):
        self._done: list[TaskOutcome] = []

    @property
    def has_room(self) -> bool:
        """Whether the outcome of the last job was taken."""
        return not self._done

    def start(self, job: Job) -> None:
        """Run a job to its end.

        Raises
        ------
        KeyboardInterrupt
            If it was interrupted.
        """
        began = time.monotonic()
        outcome = outcome_of(job, run_job(job), time.monotonic() - began)
        self._done.append(outcome)
        if outcome.ending is State.INTERRUPTED:
            raise KeyboardInterrupt

    def progress(self) -> Iterator[tuple[str, Progress]]:
        """Yield nothing: no job is under way when this is asked."""
        return iter(())

    def finished(self) -> Sequence[TaskOutcome]:
        """Return what has ended since the last call."""
        done, self._done = self._done, []
        return done

    def interrupt(self) -> Sequence[TaskOutcome]:
        """Return what has ended since the last call."""
        return self.finished()
