"""What tests of several packages need: a MongoDB server, fresh databases, folders made once."""

from __future__ import annotations

import dataclasses
import functools
import gc
import os
import secrets
import shutil
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import hypothesis
import pytest
from filelock import FileLock

from registry.mongo import server
from registry.mongo.database import OFF, URL_VARIABLE, Database, connect
from registry.store.durable import make_state_folder

# Markers of the tests that need a fixture; what draws pages or permutes in Python is slow.
NEEDS = {
    "mongo_server": "server",
    "own_server": "server",
    "bare": "server",
    "public": "server",
    "browser": "browser",
    "explained_template": "slow",
    "by_hand": "slow",
    "either": "slow",
    "reference": "slow",
    "site": "slow",
    "open_": "slow",
    "open_page": "slow",
    "open_result": "slow",
    "open_decisions": "slow",
}
MakeOnce = Callable[[str, Callable[[Path], object]], Path]


def pytest_configure() -> None:
    """Look for no garbage while modules are imported; no drawn example fails by being slow."""
    gc.disable()
    hypothesis.settings.register_profile("patient", deadline=None)
    hypothesis.settings.load_profile("patient")


def pytest_collection_finish() -> None:
    """Leave what was imported out of later searches for garbage: Streamlit makes one a page."""
    gc.freeze()
    gc.enable()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs a server or a browser, and begin with the modules that take longest.

    Processes that test side by side take module after module; those that come last are short.
    """
    lengths: Counter[Path] = Counter()
    for item in items:
        for name in NEEDS.keys() & set(getattr(item, "fixturenames", ())):
            item.add_marker(NEEDS[name])
        weights = {"browser": 3, "slow": 3, "server": 1}
        lengths[item.path] += sum(weights.get(mark.name, 0) for mark in item.iter_markers())
    items.sort(key=lambda item: -lengths[item.path])


@pytest.fixture(scope="session", autouse=True)
def _signals_end() -> None:
    """See to it that signals end programs, also where a shell began the tests in the background."""
    for number in (signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) == signal.SIG_IGN:
            restored = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
            signal.signal(number, restored)


@pytest.fixture(scope="session")
def make_once(tmp_path_factory: pytest.TempPathFactory) -> MakeOnce:
    """Fill a folder once in a run of the tests, whichever of its processes asks first.

    ``make_once(name, fill)`` gives the folder of that name, which ``fill`` made and filled; all
    processes read it, and none changes it.
    """
    base = tmp_path_factory.getbasetemp()
    base = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base

    def make(name: str, fill: Callable[[Path], object]) -> Path:
        folder, done = base / f"once-{name}", base / f"once-{name}.done"
        with FileLock(base / f"once-{name}.lock"):
            if not done.exists():
                shutil.rmtree(folder, ignore_errors=True)
                fill(folder)
                done.touch()
        return folder

    return make


@pytest.fixture(scope="module")
def encoder_built_once() -> Iterator[None]:
    """Where many encodings are by one encoder: build it, and read its weights, once."""
    from fact.encode import encoders  # heavy: few tests encode

    with pytest.MonkeyPatch.context() as patch:
        row = encoders._ENCODERS["efficientnet-lite0"]
        built_once = dataclasses.replace(row, build=functools.cache(row.build))
        patch.setitem(encoders._ENCODERS, row.name, built_once)
        yield


@pytest.fixture(scope="session")
def mongo_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a server: ``$FACTBOOK_MONGO`` if that is set, else an embedded one of this session."""
    given = os.environ.get(URL_VARIABLE, OFF)
    if given.lower() != OFF:
        yield given
        return
    root = tmp_path_factory.mktemp("mongo")
    yield server.start(root).uri
    server.stop(root)


@contextmanager
def fresh_database(server_url: str) -> Iterator[str]:
    """Yield the URL of an empty database on a server, which is dropped after the block."""
    name = f"factbook_test_{secrets.token_hex(6)}"
    parts = urlsplit(server_url)
    query = parts.query
    if parts.path.strip("/") and "authsource" not in query.lower():
        query = f"{query}&authSource={parts.path.strip('/')}".lstrip("&")
    url = parts._replace(path=f"/{name}", query=query).geturl()
    yield url
    database = connect(Path(), url)
    assert database is not None
    database.handle.client.drop_database(name)
    database.close()


@pytest.fixture
def database_url(mongo_server: str) -> Iterator[str]:
    """URL of a database of this test alone, which is dropped after it."""
    with fresh_database(mongo_server) as url:
        yield url


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """A fresh database, with its indexes."""
    database = connect(Path(), database_url)
    assert database is not None
    yield database
    database.close()


@pytest.fixture
def own_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_once: MakeOnce
) -> Iterator[Path]:
    """A project folder with an embedded server of its own, which may be killed.

    It knows its user already, which takes a first start a second.
    """

    def introduce(root: Path) -> None:
        root.mkdir()
        server.start(root)
        server.stop(root)

    known = make_once("server", introduce) / ".factbook" / "mongo"
    mine = tmp_path / ".factbook/mongo"
    make_state_folder(mine)
    shutil.copy(known / "user.json", mine)
    shutil.copytree(known / "data", mine / "data")
    monkeypatch.delenv(URL_VARIABLE, raising=False)
    yield tmp_path
    server.stop(tmp_path)
