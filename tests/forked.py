"""Small programs in processes of their own, forked from one that has loaded the registry.

A process that imports all of it anew takes two seconds of a core; a forked one a tenth.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import textwrap
from multiprocessing.process import BaseProcess
from multiprocessing.reduction import DupFd
from typing import Any

from tests.faults.children import PRELOAD, without_main


class Forked:
    """A program that is started at once, and spoken with by lines of text.

    Parameters
    ----------
    code : str
        What it does, in Python; its ``sys.argv[1:]`` are the arguments.
    *arguments : object
        As texts.

    Attributes
    ----------
    stdin, stdout : text file
        To and from the program; what it says of errors comes with the rest.
    """

    def __init__(self, code: str, *arguments: object):
        theirs_in, ours_in = os.pipe()
        ours_out, theirs_out = os.pipe()
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([PRELOAD])
        with without_main():
            given = (textwrap.dedent(code), [str(argument) for argument in arguments])
            pipes = (_Passed(theirs_in), _Passed(theirs_out))
            self._process: BaseProcess = context.Process(target=_work, args=(*given, *pipes))
            self._process.start()
        os.close(theirs_in)
        os.close(theirs_out)
        self.stdin = os.fdopen(ours_in, "w")
        self.stdout = os.fdopen(ours_out)

    def say(self, line: str) -> None:
        """Send it a line."""
        print(line, file=self.stdin, flush=True)

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


class _Passed:
    """A file descriptor that is handed to the process that is being started."""

    def __init__(self, descriptor: int):
        self.descriptor = descriptor

    def __reduce__(self) -> Any:
        return _received, (DupFd(self.descriptor),)


def _received(handed: Any) -> int:
    return int(handed.detach())


def _work(code: str, arguments: list[str], stdin: int, stdout: int) -> None:
    """Be the program."""
    for standard, descriptor in ((0, stdin), (1, stdout), (2, stdout)):
        os.dup2(descriptor, standard)
    sys.stdin = os.fdopen(0)
    sys.argv = ["-c", *arguments]
    exec(code, {"__name__": "__main__"})
