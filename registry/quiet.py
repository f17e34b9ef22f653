"""Ctrl-C while the modules of a command are imported: it ends, and shows no traceback."""

import sys
from types import TracebackType

COMMAND = "factbook"


def end_quietly() -> None:
    """Show no traceback of Ctrl-C in this process, if it is the command, or runs a module.

    Programs that import the registry keep theirs.
    """
    is_module = sys.argv[:1] == ["-m"] or getattr(sys.modules["__main__"], "__spec__", None)
    if is_module or (sys.argv[:1] and sys.argv[0].rpartition("/")[2] == COMMAND):
        show_no_traceback(KeyboardInterrupt)


def show_no_traceback(*kinds: type[BaseException]) -> None:
    """End this process without a word where an error of these kinds ends it."""

    def end(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if not issubclass(kind, kinds):
            sys.__excepthook__(kind, error, trace)

    sys.excepthook = end
