"""Dask's workers as a queue: each takes commands, and runs them as processes of its own.

What travels is the name of :func:`run_command` and a list of words; no object of ours is pickled.
The futures are published with the scheduler under the names of the jobs, where the next driver
finds them.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import IO, Any, TypeVar

import distributed

from registry.declare.executors import Dask as Settings
from registry.declare.executors import Demand
from registry.execute.queued import Phase, QueueError, Standing
from registry.execute.runner import THREAD_VARIABLES
from registry.execute.tickets import Batch, Submitted

CONNECT_SECONDS = 10
GPU = "GPU"
"""Name of the resource by which workers say how many devices they have, as Dask's own tools do."""

T = TypeVar("T")


def run_command(words: Sequence[str], threads: int, log: str) -> int:
    """Run a command to its end, on a worker; return its exit status.

    Its standard input is held open by this process: where a worker is killed, the job hears it.

    Parameters
    ----------
    words : sequence of str
        The command; "" at its beginning is the worker's own Python.
    threads : int
        How many threads compute; 0 leaves that to the worker.
    log : str
        File for what the command prints, where the worker sees its folder.
    """
    command = [words[0] or sys.executable, *words[1:]]
    environment = dict(os.environ)
    if threads:
        environment |= dict.fromkeys(THREAD_VARIABLES, str(threads))
    with (
        _opened(log) as out,
        subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        ) as process,
    ):
        try:
            return process.wait()
        finally:
            process.terminate()


@contextmanager
def _opened(log: str) -> Iterator[IO[bytes] | int]:
    try:
        file = open(log, "ab")  # noqa: SIM115
    except OSError:
        yield subprocess.DEVNULL
        return
    with file:
        yield file


class DaskQueue:
    """The workers of a scheduler, or of a cluster that is started when it is needed first.

    Parameters
    ----------
    settings : Settings
        What the executor's table says.
    root : Path
        Folder of the project.
    """

    name = "dask"

    def __init__(self, settings: Settings, root: Path):
        self._settings, self._root = settings, root
        self._client: Any = None
        self._cluster: Any = None
        self._futures: dict[str, Any] = {}
        self._demands: dict[str, Demand] = {}

    # -- the connection ------------------------------------------------------------------------

    def _ask(self, question: Callable[[Any], T]) -> T:
        """Return what the scheduler answers.

        Raises
        ------
        QueueError
            If it does not; the next question connects anew.
        """
        try:
            if self._client is None:
                self._client = self._connect()
            return question(self._client)
        except Exception as error:  # Tornado's, Dask's, the system's
            self._let_go()
            raise QueueError(f"dask does not answer: {error}") from error

    def _connect(self) -> Any:
        where = self._settings.address or self._opened_cluster()
        return distributed.Client(where, timeout=CONNECT_SECONDS, set_as_default=False)

    def _opened_cluster(self) -> Any:
        if self._cluster is None:
            point = EntryPoint("cluster", self._settings.cluster, "")
            self._cluster = point.load()(**self._settings.arguments)
            if self._settings.scale:
                self._cluster.scale(self._settings.scale)
        return self._cluster

    def _let_go(self) -> None:
        client, self._client = self._client, None
        self._futures.clear()
        if client is not None:
            with suppress(Exception):
                client.close(timeout=1)

    def close(self) -> None:
        """Let go of the scheduler; a cluster that was started for this suite is closed."""
        self._let_go()
        if self._cluster is not None:
            self._cluster.close()

    # -- jobs ----------------------------------------------------------------------------------

    def submit(self, batch: Batch, demand: Demand) -> str:
        """Submit the jobs of a batch; return its name."""
        resources = {GPU: demand.gpus} if demand.gpus else None

        def send(client: Any) -> None:
            for job in batch.jobs:
                words = (self._command(job), demand.cpus or 0, str(self.log(job)))
                future = client.submit(
                    run_command, *words, key=job.name, pure=False, resources=resources
                )
                client.publish_dataset(future, name=job.name)
                self._futures[job.name] = future
                self._demands[job.name] = demand

        self._ask(send)
        return batch.name

    def _command(self, job: Submitted) -> list[str]:
        python = self._settings.python.split() or [""]
        words = ("-P", "-m", "registry.cli", "job", "--lifeline", "--root", str(self._root))
        return [*python, *words, job.name]

    def find(self, batch: Batch) -> str:
        """Return the name of a batch of which the scheduler has a job; "" if it has none."""
        names = set(self._ask(lambda client: client.list_datasets()))
        return batch.name if any(job.name in names for job in batch.jobs) else ""

    def standings(self, jobs: Sequence[Submitted]) -> Mapping[str, Standing]:
        """Return how jobs stand, by name."""
        known = set(self._ask(lambda client: client.list_datasets()))
        workers = self._ask(lambda client: client.scheduler_info(n_workers=-1)["workers"])
        gone = Standing(Phase.LOST, "is not known to the scheduler any more")
        return {
            job.name: self._standing(job, workers) if job.name in known else gone for job in jobs
        }

    def _standing(self, job: Submitted, workers: Mapping[str, Any]) -> Standing:
        future = self._future(job)
        if future.status == "pending":
            if job.last is not None:
                return Standing(Phase.RUNNING)
            return Standing(Phase.WAITING, self._why(self._demands.get(job.name), workers))
        if future.status == "finished":
            status = self._ask(lambda _: future.result())
            return Standing(Phase.ENDED, f"ended with status {status}", status)
        if future.status == "error":
            error = self._ask(lambda _: future.exception())
            is_lost = isinstance(error, distributed.KilledWorker)
            words = "lost its worker again and again" if is_lost else f"ended: {error}"
            return Standing(Phase.LOST if is_lost else Phase.ENDED, words)
        return Standing(Phase.LOST, f"is {future.status}")

    def _future(self, job: Submitted) -> Any:
        if job.name not in self._futures:
            found = self._ask(lambda client: client.get_dataset(job.name))
            self._futures[job.name] = found
        return self._futures[job.name]

    def _why(self, demand: Demand | None, workers: Mapping[str, Any]) -> str:
        """Return why a job waits."""
        if not workers:
            return "there is no worker"
        wanted = (demand and demand.gpus) or 0
        if wanted and all(w["resources"].get(GPU, 0) < wanted for w in workers.values()):
            return f"no worker has {wanted} {GPU} (dask worker --resources {GPU}={wanted})"
        return "all workers are busy"

    def cancel(self, jobs: Sequence[Submitted]) -> None:
        """Take back jobs that wait; those that run see that they were asked to end."""
        waiting = [self._futures[j.name] for j in jobs if j.name in self._futures and not j.last]
        if waiting:
            self._ask(lambda client: client.cancel(waiting))

    def release(self, job: Submitted) -> None:
        """Have the scheduler forget a job that is over."""
        self._futures.pop(job.name, None)
        self._ask(lambda client: client.unpublish_dataset(job.name))

    def log(self, job: Submitted) -> Path:
        """Return the file for what a job prints before and after its run."""
        return job.batch.folder / f"{job.index}.log"
