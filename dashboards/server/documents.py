"""What a window is given first: Streamlit's document, which tells more here than elsewhere.

A page needs scripts beside those that Streamlit's document names, and asked for them one after
another, as what it shows reached the window. They are named in the document, and come while the
page is computed. And it tells where the server is: a window that begins on a page below the root
looked for it below that page first.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from starlette.types import ASGIApp, Message, Receive, Scope, Send

ALWAYS = ("Html", "PageLink", "Spinner")
CHOICES = ("Selectbox", "TextInput", "ButtonGroup", "Button")
TABLES = ("DataFrame", "DownloadButton")
CHARTS = ("ArrowVegaLiteChart", "embed")

NEEDED = {
    "": (*ALWAYS, "Metric"),
    "runs": (*ALWAYS, *CHOICES, *TABLES),
    "concepts": (*ALWAYS, *CHOICES, *TABLES, *CHARTS),
    "decisions": (*ALWAYS, *CHOICES, *CHARTS, "Slider", "Checkbox", "Multiselect"),
}
"""Streamlit's names of the scripts that pages show themselves with, by their paths."""

OTHERS = NEEDED["concepts"]
"""Of any other page."""

WHERE = '<script>window.__streamlit = {BACKEND_BASE_URL: new URL(".", location.href).href}</script>'
"""Tells a page right below the root where the server is, whatever stands before both."""

AHEAD = '<link rel="modulepreload" crossorigin href="./static/js/{}">'
IMPORTED = re.compile(r"""\b(?:from|import)\s*["'`]\./([^"'`]+\.js)""")
NAMED = re.compile(r'static/js/([^"]+\.js)')


class Documents:
    """Adds to the documents of pages.

    Parameters
    ----------
    app : ASGI application
        What is served.
    scripts : Path
        The folder of Streamlit's scripts.
    base : str
        The path below which it is served, "" for none.
    """

    def __init__(self, app: ASGIApp, scripts: Path, base: str = ""):
        self.app = app
        self.scripts = scripts
        self.root = f"/{base.strip('/')}/" if base.strip("/") else "/"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer with a document of one's own, or let pass."""
        page = self._page(scope)
        if page is None:
            await self.app(scope, receive, send)
            return
        begun: list[Message] = []
        body = bytearray()

        async def own(message: Message) -> None:
            if message["type"] == "http.response.start":
                begun.append(message)
                return
            body.extend(message.get("body", b""))
            if not message.get("more_body") and begun:
                for answer in _answer(begun.pop(), bytes(body), self.scripts, page):
                    await send(answer)

        asked = [one for one in scope["headers"] if one[0] != b"accept-encoding"]  # as it is
        await self.app({**scope, "headers": asked}, receive, own)

    def _page(self, scope: Scope) -> str | None:
        """Return the path of the page whose document is asked for, "" at the root."""
        if scope["type"] != "http" or scope["method"] != "GET":
            return None
        path = str(scope["path"])
        if not path.startswith(self.root):
            return None
        page = path[len(self.root) :]
        return page if re.fullmatch(r"[\w-]*", page) else None


def _answer(start: Message, body: bytes, scripts: Path, page: str) -> tuple[Message, Message]:
    """Return an answer, with what is added where it is a document."""
    headers = [(name.lower(), value) for name, value in start["headers"]]
    kind = dict(headers).get(b"content-type", b"")
    if start["status"] == 200 and kind.startswith(b"text/html"):
        body = document(body.decode(), scripts, page).encode()
        changed = (b"content-length", b"etag", b"last-modified")
        headers = [(name, value) for name, value in headers if name not in changed]
        headers.append((b"content-length", str(len(body)).encode()))
    return {**start, "headers": headers}, {"type": "http.response.body", "body": body}


def document(text: str, scripts: Path, page: str) -> str:
    """Return Streamlit's document as a page has it; unchanged where it has no head."""
    there = set(NAMED.findall(text))
    needed = needed_files(scripts, NEEDED.get(page, OTHERS))
    more = "".join(AHEAD.format(name) for name in needed if name not in there)
    text = text.replace("</head>", f"{more}</head>", 1)
    return text.replace("<head>", f"<head>{WHERE}", 1) if page else text


@cache
def needed_files(scripts: Path, names: tuple[str, ...]) -> tuple[str, ...]:
    """Return the files of scripts by Streamlit's names, with all that these import themselves."""
    found = dict.fromkeys(files_of(scripts, names))
    waiting = list(found)
    while waiting:
        text = (scripts / waiting.pop()).read_text(encoding="utf-8")
        new = [name for name in IMPORTED.findall(text) if name not in found]
        found |= dict.fromkeys(new)
        waiting += new
    return tuple(found)


def files_of(scripts: Path, names: Sequence[str]) -> list[str]:
    """Return the files of scripts by Streamlit's names; of another Streamlit, what it has."""
    found = {path.name.partition(".")[0]: path.name for path in scripts.glob("*.js")}
    return [found[name] for name in names if name in found]
