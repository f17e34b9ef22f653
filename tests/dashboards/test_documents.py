"""The document of a page: Streamlit's, with where the server is and the scripts that it needs."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Message
from streamlit.file_util import get_static_dir

from dashboards.server.documents import (
    AHEAD,
    NEEDED,
    OTHERS,
    WHERE,
    Documents,
    document,
    files_of,
    needed_files,
)

SCRIPTS = Path(get_static_dir()) / "static" / "js"
HTML = "<html><head><title></title></head></html>"


def answered(app: ASGIApp, path: str, base: str = "", method: str = "GET") -> tuple[Any, str]:
    """Return the headers and the text of an answer."""
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        return {"type": "http.request"}

    asked = [(b"accept-encoding", b"gzip")]
    scope = {"type": "http", "method": method, "path": path, "headers": asked}
    asyncio.run(Documents(app, SCRIPTS, base)(scope, receive, send))
    start, *parts = sent
    text = b"".join(part.get("body", b"") for part in parts).decode()
    return dict(start["headers"]), text


@pytest.mark.parametrize(
    ("path", "base", "tells"),
    [
        ("/", "", False),
        ("/concepts", "", True),
        ("/base/", "/base/", False),
        ("/base/runs", "base", True),
    ],
)
def test_a_page_is_told_where_the_server_is(path: str, base: str, tells: bool) -> None:
    headers, text = answered(HTMLResponse(HTML, headers={"ETag": "a"}), path, base)
    assert (WHERE in text) == tells
    assert "modulepreload" in text
    assert headers[b"content-length"] == str(len(text)).encode()
    assert b"etag" not in headers, "what is added may change"


def test_a_document_is_added_to_where_others_are_compressed() -> None:
    _, text = answered(GZipMiddleware(HTMLResponse(HTML), minimum_size=1), "/concepts")
    assert WHERE in text


@pytest.mark.parametrize(
    ("answer", "path", "base"),
    [
        (HTMLResponse(HTML), "/static/js/index.js", ""),
        (HTMLResponse(HTML), "/concepts/_stcore/health", ""),
        (HTMLResponse(HTML), "/base", "/base"),
        (HTMLResponse(HTML), "/runs", "/base"),
        (PlainTextResponse(HTML), "/concepts", ""),
        (HTMLResponse(HTML, 404), "/concepts", ""),
    ],
)
def test_what_is_no_document_of_a_page_passes(answer: Response, path: str, base: str) -> None:
    headers, text = answered(answer, path, base)
    assert text == HTML
    assert headers == dict(answer.raw_headers)


def test_scripts_are_named_with_all_that_they_import_and_none_twice() -> None:
    streamlits = (SCRIPTS.parents[1] / "index.html").read_text()
    for page in (*NEEDED, "sanity"):
        names = NEEDED.get(page, OTHERS)
        files = needed_files(SCRIPTS, names)
        assert set(files_of(SCRIPTS, names)) <= set(files)
        text = document(streamlits, SCRIPTS, page)
        for name in files:
            assert text.count(f'/{name}"') == 1
            assert (SCRIPTS / name).exists()
    assert len(files_of(SCRIPTS, OTHERS)) == len(OTHERS), (
        "this Streamlit has them under other names"
    )
    table, chart = (
        AHEAD.format(*files_of(SCRIPTS, [name])) for name in ("DataFrame", "ArrowVegaLiteChart")
    )
    assert table in document(streamlits, SCRIPTS, "runs")
    assert chart not in document(streamlits, SCRIPTS, "runs")
    assert files_of(SCRIPTS, ["NoScriptOfThisName"]) == []


def test_pages_asked_for_by_any_name_are_not_kept() -> None:
    streamlits = (SCRIPTS.parents[1] / "index.html").read_text()
    needed_files.cache_clear()
    for number in range(100):
        assert "modulepreload" in document(streamlits, SCRIPTS, f"no-page-{number}")
    assert needed_files.cache_info().currsize == 1
