"""Streamlit's tests of a page, without what they do for each page, and servers once or never."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from streamlit.components.v2 import manifest_scanner
from streamlit.testing.v1 import local_script_runner


@contextmanager
def pages_alone() -> Iterator[None]:
    """Draw pages, and nothing else.

    Streamlit reads what all installed packages say of themselves for each ``AppTest``, to find
    components among them; a server does once, when it starts. And it looks whether a page has
    ended a thousand times a second; now it sleeps until then.
    """
    look = local_script_runner.require_widgets_deltas

    def wait(runner: local_script_runner.LocalScriptRunner, timeout: float) -> None:
        runner._script_thread.join(timeout)
        if not runner.script_stopped():
            look(runner, 0)  # says so

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(manifest_scanner, "scan_component_manifests", lambda *_: [])
        patch.setattr(local_script_runner, "require_widgets_deltas", wait)
        yield
