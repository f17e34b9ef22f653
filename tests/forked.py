"""Small programs in processes of their own, forked from one that has loaded the registry.

A process that imports all of it anew takes two seconds of a core; a forked one a tenth.
"""

from __future__ import annotations

import os
import runpy
import signal
import subprocess
import sys
import textwrap
from collections.abc import Mapping
from multiprocessing.process import BaseProcess
from multiprocessing.reduction import DupFd
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from registry.cli import main
from registry.interrupts import STOPPING
from tests.faults.children import warm_context

PROGRAM = """
    import sys
    from tests.forked import be
    be(*sys.argv[1:])
"""


def be(program: str, *words: str) -> None:
    """Be ``factbook …``, or a module as ``python -m`` runs it."""
    sys.path.insert(0, "")
    if program == "factbook":
        main(words, prog_name="factbook")
    sys.argv = [program, *words]
    runpy.run_module(program, run_name="__main__", alter_sys=True)


class Forked:
    """A program that is started at once, and spoken with by lines of text.

    As any other it has the working folder and the environment of who starts it.

    Parameters
    ----------
    code : str
        What it does, in Python; its ``sys.argv[1:]`` are the arguments.
    *arguments : object
        As texts.
    folder : Path, optional
        Its working folder.
    environment : mapping of str to str
        What it has beside the environment of who starts it.
    errors : int, optional
        Descriptor of a file for what it says of errors.

    Attributes
    ----------
    stdin, stdout : text file
        To and from the program; what it says of errors comes with the rest.
    pid : int
        Of its process.
    """

    def __init__(
        self,
        code: str,
        *arguments: object,
        folder: Path | None = None,
        environment: Mapping[str, str] = {},
        errors: int | None = None,
    ):
        theirs_in, ours_in = os.pipe()
        ours_out, theirs_out = os.pipe()
        with warm_context() as context:
            given = (textwrap.dedent(code), [str(argument) for argument in arguments])
            around = (str(folder or Path.cwd()), {**os.environ, **environment})
            files = (theirs_in, theirs_out, theirs_out if errors is None else errors)
            handed = (*given, *around, *map(_Passed, files))
            self._process: BaseProcess = context.Process(target=_work, args=handed)
            self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid
        os.close(theirs_in)
        os.close(theirs_out)
        self.stdin = os.fdopen(ours_in, "w")
        self.stdout = os.fdopen(ours_out)

    def say(self, line: str) -> None:
        """Send it a line."""
        print(line, file=self.stdin, flush=True)

    @property
    def has_ended(self) -> bool:
        """Whether it runs no longer."""
        return self._process.exitcode is not None

    def kill(self) -> None:
        """End it by SIGKILL."""
        self._process.kill()

    def wait(self) -> int:
        """Wait for its end, and return its exit status: negative for a signal."""
        self._process.join()
        assert self._process.exitcode is not None
        return self._process.exitcode

    def finish(self) -> str:
        """Send it nothing more, wait for its end, and return the rest of what it prints."""
        self.stdin.close()
        with self.stdout:
            printed = self.stdout.read()
        self.wait()
        return printed


def run(
    *words: str, folder: Path | None = None, environment: Mapping[str, str] = {}
) -> subprocess.CompletedProcess[str]:
    """Run ``factbook …``, or a module as ``python -m`` does, to its end."""
    with TemporaryFile("w+") as errors:
        program = Forked(
            PROGRAM, *words, folder=folder, environment=environment, errors=errors.fileno()
        )
        printed = program.finish()
        errors.seek(0)
        return subprocess.CompletedProcess(words, program.wait(), printed, errors.read())


class _Passed:
    """A file descriptor that is handed to the process that is being started."""

    def __init__(self, descriptor: int):
        self.descriptor = descriptor

    def __reduce__(self) -> Any:
        return _received, (DupFd(self.descriptor),)


def _received(handed: Any) -> int:
    return int(handed.detach())


def _work(
    code: str,
    arguments: list[str],
    folder: str,
    environment: Mapping[str, str],
    *standard: int,
) -> None:
    """Be the program."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)  # as a server of workers has them
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    for number, descriptor in enumerate(standard):
        os.dup2(descriptor, number)
    sys.stdin = os.fdopen(0)
    for name, descriptor in (("stdout", 1), ("stderr", 2)):
        setattr(sys, name, os.fdopen(descriptor, "w", buffering=1))
    sys.argv = ["-c", *arguments]
    exec(code, {"__name__": "__main__"})
