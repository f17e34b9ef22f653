"""Addresses from before runs had a path of their own: they lead there."""

from __future__ import annotations

from urllib.parse import parse_qsl

from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Receive, Scope, Send

EMBED = "embed"
"""Begins the keys that are Streamlit's own, on any page."""


class OldAddresses:
    """Leads from ``/?run=…``, where runs used to be listed, to ``/runs?run=…``.

    Parameters
    ----------
    app : ASGI application
        What is served.
    base : str
        The path below which it is served, "" for none.
    """

    def __init__(self, app: ASGIApp, base: str = ""):
        self.app = app
        self.root = f"/{base.strip('/')}/" if base.strip("/") else "/"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Redirect, or let pass."""
        if scope["type"] == "http" and scope["path"] in (self.root, self.root.rstrip("/")):
            query = scope.get("query_string", b"").decode("latin-1")
            if any(not key.startswith(EMBED) for key, _ in parse_qsl(query)):
                await RedirectResponse(f"{self.root}runs?{query}")(scope, receive, send)
                return
        await self.app(scope, receive, send)
