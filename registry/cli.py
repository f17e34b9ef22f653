"""The command ``factbook``."""

from __future__ import annotations

import io
import os
import signal
import sys
import warnings
from contextlib import suppress
from importlib.metadata import EntryPoint, entry_points
from typing import Any, NoReturn, cast

import click
from rich.markup import escape

from registry.commands.hashing import hashing_shown
from registry.commands.tasks import HELP
from registry.declare.faults import StageError
from registry.interrupts import Check, signals_interrupt
from registry.quiet import leave_signals
from registry.suggest import RefusalError, needs_extras
from registry.terminal import err

_OWN = {
    "list": "tasks:list_",
    "plan": "tasks:plan",
    "status": "tasks:status",
    **{name: f"records:{name}" for name in ("runs", "show", "diff", "path", "sync", "mongo")},
    **{name: f"declarables:{name}" for name in ("kinds", "stages")},
    "compare": "compare:compare",
    "data": "data:data",
    "run": "run:run",
    "job": "job:job",
    "dashboard": "records:dashboard",
    **{name: f"upkeep:{name}" for name in ("gc", "delete", "doctor", "backup", "restore")},
}
"""Commands to modules and functions, imported when called: planning needs no pymongo."""

COMMAND_GROUP = "factbook.commands"
"""Entry points of installed packages that are commands of this one: name to a click command."""


class _Group(click.Group):
    """Knows the commands of installed packages; turns errors that the user can mend into one
    message and exit status 1.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*_OWN, *entry_points(group=COMMAND_GROUP).names})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in _OWN:
            own = EntryPoint(cmd_name, f"registry.commands.{_OWN[cmd_name]}", COMMAND_GROUP)
            return cast(click.Command, own.load())
        found = tuple(entry_points(group=COMMAND_GROUP, name=cmd_name))
        if not found:
            return None
        try:
            command: click.Command = found[0].load()
        except (ImportError, AttributeError) as error:
            return _broken_command(cmd_name, f"command {cmd_name!r} cannot be loaded: {error}")
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Do what is asked; each of the signals that stop a run interrupts it."""
        try:
            with signals_interrupt() as check_signals:
                return self._invoke(ctx, check_signals)
        finally:
            leave_signals()

    def _invoke(self, ctx: click.Context, check_signals: Check) -> Any:
        if isinstance(sys.stdout, io.TextIOWrapper):  # names of files come out as they went in
            sys.stdout.reconfigure(errors="surrogateescape")
        try:
            with warnings.catch_warnings():
                warnings.showwarning = _show_warning
                with needs_extras(), hashing_shown():
                    return self._call(ctx, check_signals)
        except BrokenPipeError:  # the reader, as `head`, has enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            ctx.exit(0)
        except RefusalError as error:
            _refuse(ctx, str(error))
        except OSError as error:  # of a file that is not ours to read, or no folder
            path = f"{error.filename}: " if error.filename else ""
            _refuse(ctx, f"{path}{error.strerror or error}")
        except (EOFError, click.Abort):  # click would say no more than "Aborted!"
            _refuse(ctx, "what this command was reading from has ended; nothing more was done")
        except KeyboardInterrupt:
            _refuse(ctx, "interrupted", 128 + signal.SIGINT)

    def _call(self, ctx: click.Context, check_signals: Check) -> Any:
        try:
            return super().invoke(ctx)
        except click.exceptions.Exit:
            raise
        except Exception:  # as an import may end that a signal interrupts
            check_signals()
            raise


def _refuse(ctx: click.Context, reason: str, status: int = 1) -> NoReturn:
    with suppress(OSError):  # of a terminal that was closed
        err.print(escape(reason), style="red")
    ctx.exit(status)


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    err.print(f"warning: {escape(str(message))}", style="yellow", soft_wrap=True)


def _broken_command(name: str, message: str) -> click.Command:
    """Return a command that says what is wrong with it when it is called, not when it is listed."""

    def refuse(**_: Any) -> None:
        raise StageError(message)

    lenient = {"ignore_unknown_options": True, "allow_extra_args": True}
    return click.Command(name, lenient, refuse, short_help=f"({message})")


@click.group("factbook", cls=_Group, context_settings=HELP)
@click.version_option(package_name="factbook", prog_name="factbook")
def main() -> None:
    """A declarative registry of interpretability experiments.

    Works on the experiments.toml of the current folder, or of one above it (or of
    $FACTBOOK_PROJECT). Records go to $FACTBOOK_MONGO, or to an embedded server that is started when
    it is needed.

    \b
    factbook init                write a declaration of the whole chain, for a folder of images
    factbook kinds               what can be declared, with every key; stages: what can be done
    factbook list                what is declared
    factbook data check NAME     whether its data is there, what is wrong, how to get it
    factbook plan demo           what would run, why, and about how long
    factbook run demo            run it
    factbook dashboard           look at it
    """  # noqa: D301


if __name__ == "__main__":
    main()
