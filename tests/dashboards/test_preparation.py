"""What a server imports early: all of it, and never while somebody waits for a page."""

from __future__ import annotations

import gc
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dashboards.server.preparation import STEPS, Preparation


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, str]]:
    """Two modules that nobody has imported."""
    names = ("prepared_first", "prepared_second")
    for name in names:
        (tmp_path / f"{name}.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield names
    for name in names:
        sys.modules.pop(name, None)


@pytest.mark.slow
def test_a_server_answers_and_shows_its_first_page_before_it_imports_what_others_need() -> None:
    program = (
        "import gc, sys, dashboards.app\n"
        "assert 'torch' not in sys.modules and not gc.get_freeze_count()\n"
        "import dashboards.pages, dashboards.screens.first\n"
        "assert not {'altair', 'numba', 'scipy.optimize', 'torch'} & set(sys.modules)\n"
        "import numpy, dashboards.screens.concepts, dashboards.screens.decisions\n"
        "from dashboards.views.concepts.evidence import reach\n"
        "assert reach(numpy.eye(9)[0], 0.1)\n"
        "assert not {'numba', 'torch'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=300)


@pytest.mark.slow
def test_a_server_imports_what_explaining_needs() -> None:
    Preparation(dict.fromkeys(STEPS, 0.0)).start().join()
    assert {"dashboards.pages", "fact.traces.decisions"} <= set(sys.modules)
    assert len(gc.get_objects()) < 10_000 < 100_000 < gc.get_freeze_count()


@pytest.mark.slow
def test_nothing_is_imported_while_a_page_is_drawn(modules: tuple[str, str]) -> None:
    preparation = Preparation(dict.fromkeys(modules, 0.0))
    frozen = gc.get_freeze_count()
    with preparation.reader():
        with preparation.reader():
            thread = preparation.start()
        thread.join(0.2)
        assert thread.is_alive()
        assert not set(modules) & set(sys.modules)
    thread.join(60)
    assert set(modules) <= set(sys.modules)
    assert gc.get_freeze_count() > frozen
    assert gc.isenabled()


@pytest.mark.slow
def test_who_waits_for_the_last_module_need_not_wait_between_the_others(
    modules: tuple[str, str],
) -> None:
    preparation = Preparation(dict.fromkeys(modules, 3600.0))
    assert not preparation.is_busy
    with preparation.reader():
        preparation.start()
        assert preparation.is_busy
        assert not preparation.wait(0.01)
        preparation.hurry()
        with preparation.reader():
            assert preparation.wait(60)
        assert set(modules) <= set(sys.modules)
        assert not preparation.is_busy


@pytest.mark.slow
def test_the_first_page_that_is_drawn_begins_it(modules: tuple[str, str]) -> None:
    preparation = Preparation(dict.fromkeys([*modules, "no_module_of_this_name"], 0.01))
    with pytest.raises(ZeroDivisionError), preparation.reader():
        raise ZeroDivisionError
    preparation.start().join(60)
    assert set(modules) <= set(sys.modules)
    assert preparation.start() is preparation.start()
