"""The preview of a dataset: nothing in it can run, whatever is stored."""

from __future__ import annotations

from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from dashboards.views.parts.pictures import is_picture, may_be_picture, pixels_of
from dashboards.views.runs import datasets
from dashboards.views.runs.datasets import dataset_frame
from registry.catalog.access import Catalog
from registry.store.durable import StoreError

HOSTILE = '"></iframe><script>alert(1)</script><img src=x onerror=alert(2)>'


class Tags(HTMLParser):
    """Collects the tags of a page, with their attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def tags_of(text: str) -> list[tuple[str, dict[str, str | None]]]:
    parser = Tags()
    parser.feed(text)
    return parser.tags


def inner(frame: str) -> str:
    [(tag, attributes)] = tags_of(frame)
    assert tag == "iframe"
    assert attributes["sandbox"] == ""
    return str(attributes["srcdoc"])


@pytest.mark.parametrize("theme", ["light", "dark", HOSTILE])
def test_a_dataset_stands_in_a_sandbox(catalog: Catalog, theme: str) -> None:
    page = inner(dataset_frame(catalog.path("toy-concepts"), theme))
    assert "mean_contribution" in page
    assert "default-src 'none'" in page
    assert ("theme='dark'" in page) == (theme == "dark")
    assert not [tag for tag, _ in tags_of(page) if tag in ("script", "img", "iframe", "link")]


def test_stored_text_is_text(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    hostile = xr.Dataset(
        {HOSTILE: ((HOSTILE,), np.array([HOSTILE], object), {HOSTILE: HOSTILE})},
        {"c": ((HOSTILE,), [HOSTILE])},
        {HOSTILE: HOSTILE, "list": [HOSTILE]},
    )
    monkeypatch.setattr(datasets, "open_made", lambda *_: hostile)
    page = inner(dataset_frame(tmp_path))
    assert not [tag for tag, _ in tags_of(page) if tag in ("script", "img", "iframe")]
    assert not [name for _, attributes in tags_of(page) for name in attributes if name[:2] == "on"]
    assert "alert(1)" in unescape(page)


def test_no_dataset_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StoreError):
        dataset_frame(tmp_path / "nothing")


def png() -> bytes:
    import io

    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(np.full((2, 3, 3), 7, np.uint8)).save(file, "PNG")
    return file.getvalue()


def test_only_pictures_are_shown_as_pictures() -> None:
    assert is_picture(png())
    assert pixels_of(png()).shape == (2, 3, 3)
    for content in (b"", b"<svg onload='alert(1)'/>", b"GIF89a", png()[:20], b"%PDF-1.4"):
        assert not is_picture(content)
    assert may_be_picture("a/B.PNG")
    assert not may_be_picture("a.svg")
