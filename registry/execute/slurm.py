"""Slurm as a queue: batches are submitted through submitit, and asked for by ``squeue``."""

from __future__ import annotations

import math
import re
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr, suppress
from io import StringIO
from pathlib import Path
from typing import Any

import submitit
from submitit.core.utils import FailedJobError, FailedSubmissionError

from registry.declare.executors import Demand
from registry.declare.executors import Slurm as Settings
from registry.execute.queued import Phase, QueueError, Standing
from registry.execute.runner import THREAD_VARIABLES
from registry.execute.tickets import Batch, Submitted

ASK_SECONDS = 60
_WAITING = {"PENDING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT", "RESV_DEL_HOLD"}
_LOST = {"PREEMPTED", "TIMEOUT", "NODE_FAIL", "BOOT_FAIL", "DEADLINE", "REVOKED"}
_OVER = {"COMPLETED": Phase.ENDED, "FAILED": Phase.ENDED, "OUT_OF_MEMORY": Phase.ENDED}


class _Commands(submitit.SlurmExecutor):
    """Submits commands.

    `submit` of submitit pickles what is to be called, and its job unpickles it; `CommandFunction`
    does too. A pickle holds code, and dies with the versions that wrote it. What `submit` itself
    stands on takes a command: the file for ``sbatch``, its parameters, the answer are submitit's.
    """

    def submit_command(self, command: str, count: int) -> str:
        """Submit a command, as an array if it is to run several times; return the identifier."""
        if count > 1:
            self.parameters["map_count"] = count
        with redirect_stderr(StringIO()):  # submitit prints what its errors hold, at each try
            return str(self._submit_command(command).job_id)


class SlurmQueue:
    """A Slurm cluster, by its commands.

    Parameters
    ----------
    settings : Settings
        What the executor's table says.
    root : Path
        Folder of the project.
    """

    name = "slurm"

    def __init__(self, settings: Settings, root: Path):
        self._settings, self._root = settings, root

    def submit(self, batch: Batch, demand: Demand) -> str:
        """Submit a batch, as an array if it has several jobs; return the queue's identifier."""
        count, said = len(batch.tickets), self._settings
        try:
            executor = _Commands(batch.folder, python=said.python or None)
            executor.update_parameters(**self._parameters(batch, demand))
            return executor.submit_command(self._command(batch, demand, executor.python), count)
        except (FailedJobError, FailedSubmissionError, RuntimeError, ValueError, OSError) as error:
            raise QueueError(f"slurm did not take the job: {str(error).strip()}") from error

    def _parameters(self, batch: Batch, demand: Demand) -> dict[str, Any]:
        said, count = self._settings, len(batch.tickets)
        seconds = demand.time
        more: dict[str, Any] = {
            "chdir": str(self._root),
            "output": str(batch.folder / ("%a.log" if count > 1 else "0.log")),
            "signal": f"B:USR1@{said.notice}",
            "requeue": True,
            **({"mem": f"{math.ceil(demand.memory / 1024**2)}M"} if demand.memory else {}),
            **said.options,
        }
        limits = {
            "partition": said.partition or None,
            "account": said.account or None,
            "qos": said.qos or None,
            "constraint": said.constraint or None,
            "time": math.ceil(seconds / 60) if seconds else None,
            "cpus_per_task": demand.cpus,
            "gpus_per_node": demand.gpus or None,
        }
        return {
            **limits,
            "job_name": batch.tickets[0].experiment,
            "comment": batch.name,
            "wckey": None,
            "array_parallelism": said.side_by_side or count,
            "setup": [*said.setup, *_environment(demand)],
            "stderr_to_stdout": True,
            "use_srun": False,  # signals reach the command itself, which is the batch script's own
            "additional_parameters": more,
        }

    def _command(self, batch: Batch, demand: Demand, python: str) -> str:
        """Return the command of each job; the shell becomes it, so that it hears the signals."""
        words = f"{python} -P -m registry.cli job --root {shlex.quote(str(self._root))}"
        return f"exec {words} {batch.name}:${{SLURM_ARRAY_TASK_ID:-0}}"

    def find(self, batch: Batch) -> str:
        """Return the identifier of a batch that may have been submitted; "" if it was not."""
        for line in self._squeue("%F|%k"):
            id, _, comment = line.partition("|")
            if comment == batch.name:
                return id
        places = (job.last.place for job in batch.jobs if job.last)
        return next((place.partition("_")[0] for place in places if place), "")

    def standings(self, jobs: Sequence[Submitted]) -> Mapping[str, Standing]:
        """Return how jobs stand, by name."""
        names = {job.id: job.name for job in jobs if job.id}
        found, arrays = {}, {}
        for line in self._squeue("%i|%T|%r|%N") if names else ():
            id, state, reason, node = line.split("|", 3)
            if id in names:
                found[names[id]] = self._standing(id, state, reason, node)
            else:
                arrays[id] = state, reason, node
        for id, name in names.items():  # of an array that never began there is one line
            array = id.partition("_")[0]
            if name not in found and array in arrays:
                found[name] = self._standing(array, *arrays[array])
        return found

    def _standing(self, id: str, state: str, reason: str, node: str) -> Standing:
        where = f" on {node}" if node else ""
        if state in _WAITING:
            return Standing(Phase.WAITING, reason)
        if state == "CANCELLED":
            return Standing(Phase.CANCELLED, f"was cancelled{where}")
        if state in _LOST:
            return Standing(Phase.LOST, f"ended as {state}{where}")
        if state in _OVER:
            code, number = self._ending(id)
            how = f"{reason}, exit code {code}:{number}"
            return Standing(Phase.ENDED, f"ended as {state}{where} ({how})", code or -number)
        return Standing(Phase.RUNNING, state)

    def _ending(self, id: str) -> tuple[int, int]:
        """Return the exit status and the signal by which a job ended; zeros if nobody knows."""
        with suppress(QueueError):
            found = re.search(r"ExitCode=(\d+):(\d+)", _answer("scontrol", "show", "job", id))
            return (int(found[1]), int(found[2])) if found else (0, 0)
        return 0, 0

    def cancel(self, jobs: Sequence[Submitted]) -> None:
        """End jobs: those that wait at once, those that run by SIGTERM first."""
        if ids := [job.id for job in jobs if job.id]:
            _answer("scancel", *ids)

    def log(self, job: Submitted) -> Path:
        """Return the file for what Slurm, and the shell that it starts, prints of a job."""
        return job.batch.folder / f"{job.index}.log"

    def release(self, job: Submitted) -> None:
        """Slurm forgets by itself what is over."""

    def close(self) -> None:
        """Nothing is open."""

    def _squeue(self, form: str) -> list[str]:
        """Return what ``squeue`` says of all jobs of this user that Slurm still knows."""
        words = ("squeue", "--me", "--states=all", "--array", "--noheader", f"--format={form}")
        return _answer(*words).splitlines()


def _environment(demand: Demand) -> list[str]:
    """Return the lines of shell before the command; as many threads compute as there are cores."""
    names = [f"export {name}=${{{name}:-{demand.cpus or 1}}}" for name in THREAD_VARIABLES]
    # A notice that comes while Python starts would kill it; the limit itself is heard then.
    return ["trap '' USR1", *names, "export OMP_WAIT_POLICY=${OMP_WAIT_POLICY:-PASSIVE}"]


def _answer(*words: str) -> str:
    """Return what a command of Slurm prints.

    Raises
    ------
    QueueError
        If it does not answer.
    """
    try:
        done = subprocess.run(
            words, capture_output=True, text=True, timeout=ASK_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise QueueError(f"{words[0]}: {error}") from error
    if done.returncode:
        raise QueueError(f"{words[0]}: {done.stderr.strip()}")
    return done.stdout
