"""Pictures that readers bring: what is read, and what is refused, in words and in time."""

from __future__ import annotations

import io
import struct
import time
import zlib
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from dashboards.views.concepts import image_choice
from dashboards.views.concepts.image_choice import UploadError, read_upload


def colours(y: int = 12, x: int = 16) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (y, x, 3), dtype=np.uint8)


def content(image: Image.Image | np.ndarray, format: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    picture = image if isinstance(image, Image.Image) else Image.fromarray(image)
    picture.save(file, format, **options)
    return file.getvalue()


def png_that_says(width: int, height: int) -> bytes:
    """A PNG of a few bytes whose head promises so many pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + checksum

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rows = zlib.compress(b"\0" * 10_000_000, 9)
    parts = [chunk(b"IHDR", head), chunk(b"IDAT", rows), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def test_rgb_is_read_as_it_is() -> None:
    np.testing.assert_array_equal(read_upload(content(colours())), colours())
    lossless = content(colours(), "WEBP", lossless=True)
    np.testing.assert_array_equal(read_upload(lossless), colours())
    jpeg = content(colours(40, 40), "JPEG", quality=90)
    expected = np.asarray(Image.open(io.BytesIO(jpeg)).convert("RGB"))
    np.testing.assert_array_equal(read_upload(jpeg), expected)


def test_one_pixel_is_a_picture() -> None:
    assert read_upload(content(colours(1, 1))).shape == (1, 1, 3)


def test_grey_palettes_transparency_cmyk_and_sixteen_bits_become_rgb() -> None:
    grey = colours()[..., 0]
    np.testing.assert_array_equal(read_upload(content(grey)), np.dstack([grey] * 3))
    see_through = np.dstack([colours(), np.zeros((12, 16), np.uint8)])
    assert (read_upload(content(see_through)) == 255).all()
    cmyk = content(Image.fromarray(colours(24, 24)).convert("CMYK"), "JPEG", quality=95)
    assert read_upload(cmyk).shape == (24, 24, 3)
    deep = np.linspace(0, 65535, 192).astype(np.uint16).reshape(12, 16)
    np.testing.assert_array_equal(read_upload(content(deep))[..., 0], np.round(deep / 257))
    palette = Image.fromarray(colours()).quantize(8)
    np.testing.assert_array_equal(read_upload(content(palette)), np.asarray(palette.convert("RGB")))


def test_of_an_animation_the_first_frame_is_read() -> None:
    frames = [Image.fromarray(np.full((8, 8, 3), value, np.uint8)) for value in (10, 200)]
    for format in ("WEBP", "PNG"):
        moving = content(frames[0], format, save_all=True, append_images=frames[1:], lossless=True)
        assert abs(int(read_upload(moving).max()) - 10) < 4


def animated_gif() -> bytes:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    return content(frames[0], "GIF", save_all=True, append_images=frames[1:])


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        pytest.param(b"", "an empty file", id="empty"),
        pytest.param(b"no picture at all", "not an image in PNG or JPEG or WEBP", id="text"),
        pytest.param(b"<svg onload='alert(1)'/>", "not an image", id="svg"),
        pytest.param(b"%PDF-1.7 ...", "not an image", id="pdf"),
        pytest.param(b"\x89PNG\r\n\x1a\n", "cannot be|not an", id="head-alone"),
        pytest.param(content(colours(60, 60))[:3000], "cannot be decoded", id="truncated-png"),
        pytest.param(
            content(colours(60, 60), "JPEG")[:900], "cannot be decoded", id="truncated-jpeg"
        ),
        pytest.param(animated_gif(), "not an image in PNG", id="animated-gif"),
        pytest.param(png_that_says(20_000, 20_000), "pixels", id="bomb"),
        pytest.param(png_that_says(6_000, 6_000), "at most 25,000,000 are read", id="large"),
        pytest.param(png_that_says(2**31 - 1, 1), "pixels", id="endless"),
        pytest.param(content(colours(1, 9)), "one side is more than 8 times", id="narrow"),
        pytest.param(content(colours(170, 20)), "20 x 170 pixels", id="tall"),
    ],
)
def test_what_is_refused_is_told_at_once(given: bytes, reason: str) -> None:
    begun = time.monotonic()
    with pytest.raises(UploadError, match=reason):
        read_upload(given)
    assert time.monotonic() - begun < 1


def test_too_many_bytes_are_not_even_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_choice, "MOST_MEGABYTES", 1)
    monkeypatch.setattr(Image, "open", lambda *_, **__: pytest.fail("opened"))
    with pytest.raises(UploadError, match="1,000,001 bytes; at most 1 MB are read"):
        read_upload(b"\0" * 1_000_001)


@settings(max_examples=150)
@given(data=st.data(), format=st.sampled_from(["PNG", "JPEG", "WEBP"]), cut=st.integers(0, 2000))
@pytest.mark.slow
def test_broken_bytes_are_read_or_refused_and_nothing_else(
    data: st.DataObject, format: str, cut: int
) -> None:
    whole = bytearray(content(colours(16, 16), format))
    for _ in range(data.draw(st.integers(0, 6))):
        place = data.draw(st.integers(0, len(whole) - 1))
        whole[place] = data.draw(st.integers(0, 255))
    with suppress(UploadError):
        picture = read_upload(bytes(whole[: max(1, len(whole) - cut)]))
        assert picture.dtype == np.uint8
        assert picture.shape[2] == 3
