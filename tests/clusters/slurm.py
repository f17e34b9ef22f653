"""A real Slurm of two nodes on this machine, in a folder of its own, on free ports of loopback."""

from __future__ import annotations

import getpass
import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

NEEDED = ("slurmctld", "slurmd", "munged", "sbatch")
NODES = ("n1", "n2")
LOST_SECONDS = 10
"""Without a word from its daemon, a node counts as lost after so long."""

CONFIG = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.sock
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
SlurmctldPort={port}
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=1,sched_interval=1,batch_sched_delay=0,sched_min_interval=0
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
ReturnToService=2
SlurmdTimeout={lost}
KillWait=5
MpiDefault=none
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
JobRequeue=1
SlurmdParameters=config_overrides
{nodes}
PartitionName=low Nodes=n1,n2 Default=YES State=UP PriorityTier=1 PreemptMode=REQUEUE
PartitionName=high Nodes=n1,n2 State=UP PriorityTier=10 PreemptMode=OFF
"""


def missing() -> list[str]:
    """Return the programs of Slurm that are not installed."""
    return [name for name in NEEDED if shutil.which(name) is None]


@dataclass
class Slurm:
    """Its daemons, while they run.

    Attributes
    ----------
    folder : Path
        Configuration, state and logs.
    daemons : dict of str to Popen
        By name: ``munged``, ``slurmctld``, and each node.
    """

    folder: Path
    daemons: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def config(self) -> Path:
        return self.folder / "slurm.conf"

    def start(self, name: str) -> None:
        """Start a daemon: that of a node, or ``slurmctld``."""
        words = ["slurmctld", "-D"] if name == "slurmctld" else ["slurmd", "-D", "-N", name]
        self._popen(name, *words)

    def _popen(self, name: str, *words: str) -> None:
        environment = {**os.environ, "SLURM_CONF": str(self.config)}
        with (self.folder / f"{name}.out").open("ab") as log:
            self.daemons[name] = subprocess.Popen(
                words, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip

    def kill(self, name: str) -> None:
        """Kill a daemon as a crash of it would."""
        daemon = self.daemons.pop(name)
        daemon.kill()
        daemon.wait()

    def ask(self, *words: str) -> str:
        """Return what a command of Slurm prints."""
        done = subprocess.run(
            words, capture_output=True, text=True, timeout=60, check=False,
            env={**os.environ, "SLURM_CONF": str(self.config)},
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(f"{words}: {done.stderr}")
        return done.stdout.strip()

    def submit(self, command: str, *options: str) -> str:
        """Submit a job of somebody else's; return its identifier."""
        return self.ask("sbatch", "--parsable", "--output=/dev/null", f"--wrap={command}", *options)

    def state(self, job: str) -> str:
        """Return how a job stands, as ``RUNNING``; "" if Slurm has forgotten it."""
        with suppress(RuntimeError):
            return self.ask("squeue", "-h", "--states=all", "-j", job, "-o", "%T")
        return ""

    def steps(self, node: str) -> list[psutil.Process]:
        """Return what runs the jobs of a node, with their processes: known by the node's log."""
        found, log = [], str(self.folder / f"slurmd-{node}.log")
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                is_step = process.name() == "slurmstepd"
                if is_step and log in [file.path for file in process.open_files()]:
                    found += [process, *process.children(recursive=True)]
        return found

    def lose(self, node: str) -> None:
        """Kill the daemon of a node, and all that it runs, as a loss of power would."""
        steps = self.steps(node)
        self.kill(node)
        for process in steps:
            with suppress(psutil.Error):
                process.kill()

    def wait(self, what: str, seconds: float = 60.0) -> None:
        """Wait until both nodes are in a state, as ``idle``."""
        deadline = time.monotonic() + seconds
        while (found := self.node_states()) != [what] * len(NODES):
            if time.monotonic() > deadline:
                raise TimeoutError(f"nodes are {found}; expected {what}")
            time.sleep(0.1)

    def node_states(self) -> list[str]:
        with suppress(RuntimeError):
            return self.ask("sinfo", "-h", "-N", "-p", "low", "-o", "%t").split()
        return []

    def queue(self) -> str:
        """Return all jobs, for people."""
        return self.ask("squeue", "--states=all", "--array", "-o", "%i|%T|%r|%N|%j|%k")

    def hurry(self) -> None:
        """Let requeued jobs begin, which Slurm leaves for two minutes, or for an operator."""
        waiting = ""
        with suppress(RuntimeError):  # the controller is away
            waiting = self.ask("squeue", "-h", "--array", "-t", "PD", "-o", "%i|%r")
        for line in waiting.splitlines():
            id, reason = line.split("|")
            if reason == "BeginTime":
                with suppress(RuntimeError):
                    self.ask("scontrol", "update", f"jobid={id}", "starttime=now")
            elif reason == "launch failed requeued held":
                with suppress(RuntimeError):
                    self.ask("scontrol", "release", id)

    def clear(self) -> None:
        """End all jobs, and bring back nodes that were lost or drained."""
        for name in ("slurmctld", *NODES):
            if name not in self.daemons:
                self.start(name)
        for node in NODES:
            with suppress(RuntimeError):
                self.ask("scontrol", "update", f"nodename={node}", "state=resume")
        self.ask("scancel", "-u", getpass.getuser())
        self.wait("idle")

    def stop(self) -> None:
        """Stop everything that was started."""
        with suppress(RuntimeError, subprocess.TimeoutExpired):
            self.ask("scancel", "-u", getpass.getuser())
        for node in NODES:
            for process in self.steps(node):
                with suppress(psutil.Error):
                    process.kill()
        for daemon in reversed(self.daemons.values()):
            daemon.send_signal(signal.SIGTERM)
        for daemon in self.daemons.values():
            with suppress(subprocess.TimeoutExpired):
                daemon.wait(10)
            daemon.kill()
            daemon.wait()


def free_ports(count: int) -> list[int]:
    """Return ports of loopback that nobody has."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


@contextmanager
def running(folder: Path) -> Iterator[Slurm]:
    """Run Slurm in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    slurm = Slurm(folder)
    host, (port, *ports) = socket.gethostname().split(".")[0], free_ports(1 + len(NODES))
    nodes = "\n".join(
        f"NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={own} CPUs=2 RealMemory=4000"
        for node, own in zip(NODES, ports, strict=True)
    )
    values = {"host": host, "user": getpass.getuser(), "folder": folder, "port": port}
    slurm.config.write_text(CONFIG.format(**values, nodes=nodes, lost=LOST_SECONDS))
    for name in ("state", *(f"spool-{node}" for node in NODES)):
        (folder / name).mkdir()
    key = folder / "munge.key"
    key.write_bytes(secrets.token_bytes(1024))
    key.chmod(0o400)
    try:
        slurm._popen(
            "munged", "munged", "--foreground", "--force", f"--socket={folder}/munge.sock",
            f"--key-file={key}", f"--pid-file={folder}/munged.pid",
            f"--log-file={folder}/munged.log", f"--seed-file={folder}/munge.seed",
        )  # fmt: skip
        for name in ("slurmctld", *NODES):
            slurm.start(name)
        slurm.wait("idle")
        yield slurm
    finally:
        slurm.stop()
