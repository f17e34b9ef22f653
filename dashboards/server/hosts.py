"""Who may ask the server: pages that came from it, and programs that name it as itself.

A browser lets any page of the web send requests to this machine, and a page whose name is made to
point here (DNS rebinding) even read the answers. Neither can choose what the browser says of it:
``Host`` is the name in its address, ``Origin`` the page that asks. So both must be the server's.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from urllib.parse import SplitResult, urlsplit

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

LOOPBACK = ("localhost", "127.0.0.1", "::1")
_PORTS = {"http": 80, "https": 443}


class OwnHosts:
    """Refuses pages, files, health checks and websockets that are asked for by another's name.

    Its own names are those of the loopback, the address at which the connection arrived, and
    those that are given. A port is not compared in ``Host``, since a tunnel may have another one;
    a page's ``Origin`` must be the very ``Host``, with its port, or one of the allowed names.

    Parameters
    ----------
    app : ASGI application
        What is served.
    own : sequence of str
        What this machine is called.
    allowed : sequence of str
        What it is called elsewhere, as by a proxy; ``*.example.org`` for all below it, ``*`` for
        any name that is asked for, but not for pages from anywhere.
    """

    def __init__(self, app: ASGIApp, own: Sequence[str] = (), allowed: Sequence[str] = ()):
        self.app = app
        self.own = {*LOOPBACK, *map(_name, own)}
        self.allowed = tuple(map(_name, allowed))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or refuse: 421 for another's name, 403 for another's page, or its websocket."""
        if scope["type"] in ("http", "websocket"):
            headers = Headers(scope=scope)
            if refused := self._refusal(headers, scope.get("server")):
                status, reason = refused
                if scope["type"] == "websocket":  # closed before it is accepted: 403, and no text
                    await send({"type": "websocket.close"})
                    return
                await PlainTextResponse(f"{reason}\n", status)(scope, receive, send)
                return
            if "origin" in headers:
                scope = {**scope, "headers": _without_origin(headers)}
        await self.app(scope, receive, send)

    def _refusal(
        self, headers: Headers, server: tuple[str, int | None] | None
    ) -> tuple[int, str] | None:
        """Return status and reason where neither Host nor Origin may be answered."""
        hosts, origins = headers.getlist("host"), headers.getlist("origin")
        host = _split(f"//{hosts[0]}") if len(hosts) == 1 else None
        if host is None or not host.hostname:
            return 421, "This request names no host, or none that can be read."
        if not self._is_own(host.hostname.rstrip("."), server):
            return 421, _advice(f"to the name {_shown(host.hostname)}", _shown(host.hostname))
        if origins and not (len(origins) == 1 and self._is_own_page(origins[0], host)):
            return 403, _advice(f"to pages from {_shown(origins[0])}", "and its name")
        return None

    def _is_own(self, name: str, server: tuple[str, int | None] | None) -> bool:
        arrived = _address(server[0]) if server else None
        named = name in self.own or _matches(name, self.allowed)
        return named or _address(name) == arrived

    def _is_own_page(self, origin: str, host: SplitResult) -> bool:
        page = _split(origin)
        if page is None or page.scheme not in _PORTS or not page.hostname:
            return False
        default = _PORTS[page.scheme]
        same = (page.hostname, page.port or default) == (host.hostname, host.port or default)
        return same or _matches(page.hostname, [name for name in self.allowed if name != "*"])


def _name(text: str) -> str:
    return text.strip().lower().strip("[]").rstrip(".")


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _advice(to: str, given: str) -> str:
    return (
        f"This dashboard does not answer {to}. If it is known by that name, start it with "
        f"--allow-host {given}."
    )


def is_loopback(address: str) -> bool:
    """Return whether only this machine reaches an address."""
    try:
        return address == "localhost" or ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


def _split(text: str) -> SplitResult | None:
    """Return the parts of a URL with nothing but a host and a port; None of another one."""
    try:
        parts = urlsplit(text)
        _ = parts.port  # which is a number
    except ValueError:
        return None
    is_bare = not (parts.path or parts.query or parts.fragment or parts.username or parts.password)
    return parts if is_bare else None


def _address(text: str) -> str:
    """Return an address in its one spelling, that of IPv4 for IPv4 in IPv6; else the text."""
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return text
    return str(getattr(address, "ipv4_mapped", None) or address)


def _shown(text: str) -> str:
    return "".join(letter for letter in text[:200] if letter.isprintable())


def _without_origin(headers: Headers) -> list[tuple[bytes, bytes]]:
    """Return headers without what was checked: Streamlit would ask outside for its own address."""
    return [(name, value) for name, value in headers.raw if name.lower() != b"origin"]
