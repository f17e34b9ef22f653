"""Who asks the dashboard by another's name is refused, and nobody outside is asked at its start."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from websockets.sync.client import connect

from tests.registry.lab.project import write_project

SOURCE = Path(__file__).parents[2]
KNOWN = "dash.example.org"
STREAM = "/_stcore/stream"
TRACER = """
import os, sys

def note(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto"):
        with open(os.environ["CONNECTS"], "a") as file:
            file.write(f"{event} {arguments[-1] if 'socket.c' in event else arguments[:1]}\\n")

sys.addaudithook(note)
"""
"""Notes every address that a process asks for; the interpreter calls it, whoever connects."""
HANDSHAKE = (
    "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)


@dataclass(frozen=True)
class Served:
    """A server, and the files of the addresses that it has asked for, and of what went wrong."""

    port: int
    connects: Path
    errors: Path

    def answer(self, host: str | None, path: str = "/", more: str = "", at: str = "") -> tuple:
        """Return status and text of the answer to a request, sent as it stands."""
        named = "" if host is None else f"Host: {host.replace('PORT', str(self.port))}\r\n"
        lines = f"GET {path} HTTP/1.1\r\n{named}{more.replace('PORT', str(self.port))}"
        with socket.create_connection((at or "127.0.0.1", self.port), 60) as asked:
            asked.sendall(f"{lines}Accept: text/html\r\n\r\n".encode())
            asked.settimeout(60)
            text = asked.recv(65536).decode("latin-1")
            if (
                " 101 " not in text[:16]
                and "\r\n\r\n" in text
                and not text.partition("\r\n\r\n")[2]
            ):
                text += asked.recv(65536).decode("latin-1")
        return int(text.split(" ")[1]), text

    def opens(self, host: str, origin: str | None, at: str = "") -> tuple:
        """Return status and text of the answer to a websocket's handshake."""
        page = "" if origin is None else f"Origin: {origin}\r\n"
        return self.answer(host, STREAM, f"{HANDSHAKE}{page}", at)


@contextmanager
def serving(folder: Path, *words: str, torch: bool = True) -> Iterator[Served]:
    """Serve a project; a server without torch has not the seconds of work to import it."""
    root = write_project(folder / "project")
    (folder / "tracer").mkdir()
    if not torch:
        (folder / "tracer" / "torch.py").write_text("raise ImportError")
    (folder / "tracer" / "sitecustomize.py").write_text(TRACER)
    path = os.pathsep.join([str(folder / "tracer"), *filter(None, sys.path)])
    beside = {"FACTBOOK_PROJECT": str(root), "FACTBOOK_MONGO": "off", "PYTHONPATH": path}
    home = {"HOME": str(folder), "CONNECTS": str(folder / "connects")}
    process = subprocess.Popen(
        [sys.executable, "-m", *words],
        cwd=root,
        env={**os.environ, **beside, **home},
        stdout=subprocess.PIPE,
        stderr=(folder / "errors").open("wb"),
        text=True,
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        told = iter(process.stdout.readline, "")
        port = next(int(found[1]) for line in told if (found := re.search(r"//.*:(\d+)", line)))
        yield Served(port, folder / "connects", folder / "errors")
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The dashboard as a user starts it."""
    words = ("registry.cli", "dashboard", "--port", "0")
    with serving(tmp_path_factory.mktemp("served"), *words) as found:
        yield found


@pytest.fixture(scope="module")
def public(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The dashboard as Streamlit starts it, for other machines, and known by another name too."""
    options = ("--server.address=0.0.0.0", "--server.port=0", "--server.headless=true")
    words = ("streamlit", "run", str(SOURCE / "dashboards/app.py"), *options)
    allowed = ("--", f"--allow-host={KNOWN}", "--allow-host=*.lab.example.org")
    with serving(tmp_path_factory.mktemp("public"), *words, *allowed, torch=False) as found:
        yield found


PATHS = (
    "/",
    "/runs",
    "/_stcore/health",
    "/_stcore/host-config",
    "/static/x.js",
    "/media/x",
    STREAM,
)
OTHERS = (
    "evil.example",
    "evil.example:PORT",
    "localhost.evil.example",
    "127.0.0.1.evil.example:PORT",
    "localhost@evil.example",
    "evil.example#localhost",
    "evil.example/localhost",
    "localhost:PORT:80",
    "localhost:x",
    "192.0.2.1:PORT",
    "0.0.0.0:PORT",
    "[::1",
    socket.gethostname() + ".",
    "",
)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.slow
def test_nothing_is_told_to_who_asks_by_another_name(served: Served, path: str) -> None:
    status, told = served.answer("evil.example:PORT", path)
    assert status == 421
    assert told.endswith("start it with --allow-host evil.example.\n")
    assert served.answer("localhost:PORT", path)[0] != 421


@pytest.mark.parametrize("host", OTHERS)
@pytest.mark.slow
def test_the_name_must_be_the_servers_own(served: Served, host: str) -> None:
    assert served.answer(host, "/_stcore/health")[0] in (400, 421)
    assert served.opens(host, "http://" + host)[0] in (400, 403)


@pytest.mark.slow
def test_one_name_must_be_given(served: Served) -> None:
    assert served.answer(None)[0] in (400, 421)
    assert served.answer("localhost", more="Host: evil.example\r\n")[0] in (400, 421)


OWN = ("localhost", "LOCALHOST:PORT", "localhost:9", "127.0.0.1", "127.0.0.1:PORT", "[::1]:PORT")


@pytest.mark.parametrize("host", OWN)
@pytest.mark.slow
def test_its_own_names_are_answered(served: Served, host: str) -> None:
    """Whatever the port, since a tunnel may have another one."""
    assert served.answer(host, "/_stcore/health")[1].endswith("ok")
    assert served.opens(host, f"http://{host}")[0] == 101
    assert served.opens(host, None)[0] == 101  # a program, since browsers name the page


PAGES = (
    "http://evil.example",
    "http://evil.example:PORT",
    "http://localhost:3000",
    "http://127.0.0.1:PORT",
    "null",
    "file://",
    "localhost:PORT",
    "http://localhost:PORT@evil.example",
    "",
)


@pytest.mark.parametrize("origin", PAGES)
@pytest.mark.slow
def test_other_pages_open_no_websocket(served: Served, origin: str) -> None:
    assert served.opens("localhost:PORT", origin)[0] == 403
    status, told = served.answer("localhost:PORT", more=f"Origin: {origin}\r\n")
    assert status == 403
    assert "--allow-host" in told


@pytest.mark.slow
def test_a_websocket_that_is_refused_is_no_error(served: Served) -> None:
    for host, origin in (("evil.example", None), ("localhost:PORT", "http://evil.example")):
        assert served.opens(host, origin)[0] == 403
    assert "handshake" not in served.errors.read_text()


@pytest.mark.slow
def test_a_server_for_others_answers_to_its_addresses_and_to_what_it_was_told(
    public: Served,
) -> None:
    """One of its addresses is where the connection arrived, which no name of a page can be."""
    own = ("127.0.0.2:PORT", socket.gethostname(), KNOWN, f"{KNOWN}:8443", "gpu.lab.example.org")
    for host in own:
        assert public.answer(host, at="127.0.0.2")[0] == 200, host
        assert public.opens(host, f"https://{host}", at="127.0.0.2")[0] == 101, host
    for host in ("127.0.0.3", "evil.example", f"{KNOWN}.evil.example", "xlab.example.org"):
        assert public.answer(host, at="127.0.0.2")[0] == 421, host
    assert public.opens("localhost:PORT", f"https://{KNOWN}")[0] == 101  # a proxy rewrites the name
    assert public.opens("localhost:PORT", "https://evil.example")[0] == 403


def draw(port: int) -> int:
    """Open a page as a browser does; return how many messages drew it."""
    origin = f"http://localhost:{port}"
    stream = f"ws://localhost:{port}{STREAM}"
    with connect(stream, origin=origin, subprotocols=["streamlit"], max_size=None) as page:  # type: ignore[arg-type, list-item]
        message = BackMsg()
        message.rerun_script.query_string = ""
        page.send(message.SerializeToString())
        for count in range(10_000):
            told = ForwardMsg()
            told.ParseFromString(bytes(page.recv(timeout=120)))  # type: ignore[arg-type]
            if told.WhichOneof("type") == "script_finished":
                return count
    return 0


@pytest.mark.parametrize("name", ["served", "public"])
@pytest.mark.slow
def test_nobody_outside_is_asked(name: str, request: pytest.FixtureRequest) -> None:
    server: Served = request.getfixturevalue(name)
    assert draw(server.port) > 5
    server.opens("localhost:PORT", f"https://{KNOWN}")  # a page that Streamlit would not know
    asked = server.connects.read_text().splitlines() if server.connects.exists() else []
    local = re.compile(r"'127\.0\.0\.1'|'localhost'|'::1'|^socket\.connect '?/|b''|^socket\.\w+ ''")
    assert [line for line in asked if not local.search(line)] == []


def test_the_tracer_sees_who_is_asked(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(TRACER)
    program = "import urllib.request as r; r.urlopen('http://192.0.2.1:9', timeout=0.01)"
    environment = {"PYTHONPATH": str(tmp_path), "CONNECTS": str(tmp_path / "connects")}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True)
    assert done.returncode == 1
    assert "192.0.2.1" in (tmp_path / "connects").read_text()


@pytest.mark.slow
def test_the_address_that_it_tells_is_the_one_to_open(served: Served) -> None:
    with urllib.request.urlopen(f"http://127.0.0.1:{served.port}/", timeout=60) as answer:
        assert answer.status == 200
