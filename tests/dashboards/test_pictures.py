"""Pictures of a page: smoothed, laid out, and harmless whatever is written below them."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from dashboards.views.parts import pictures as view
from dashboards.views.parts.parts import Picture, Pictures, without_image
from dashboards.views.parts.pictures import COLOURS, PLACE, WEIGHTS, pictures_html
from tests.dashboards.fabricate import HOSTILE

RED = (220, 30, 40)


def dotted(stride: int, side: int = 48) -> np.ndarray:
    """Return an explanation that is red, but at the dots of a stride alone; half of it is empty."""
    explanation = np.zeros((side, side, 4), np.uint8)
    explanation[::stride, : side // 2 : stride] = (*RED, 255)
    return explanation


@pytest.mark.parametrize("stride", [2, 4])
def test_the_dots_of_strides_are_smoothed_away(stride: int) -> None:
    shown = view.smoothed(dotted(stride)).astype(int)
    inside = shown[8:40, 8:16]
    np.testing.assert_array_equal(inside[..., :3], np.broadcast_to(RED, (32, 8, 3)))
    assert inside[..., 3].min() > 0.2 * 255, "no hole is left between the dots"
    assert (shown[:, 32:, 3] == 0).all(), "and nothing comes where nothing was"


def test_as_much_is_smoothed_as_by_the_authors_of_bcos_networks() -> None:
    assert [view.smoothing(side) for side in (28, 48, 224, 448)] == [5, 5, 15, 29]
    plain = np.full((28, 28, 4), 255, np.uint8)
    assert (view.smoothed(plain)[5:-5, 5:-5] == 255).all()
    assert (view.smoothed(np.zeros((28, 28, 4), np.uint8)) == 0).all()
    map = np.zeros((28, 28))
    map[14, 14] = 25.0
    assert view.smoothed_map(map)[12:17, 12:17] == pytest.approx(1.0)
    assert view.smoothed_map(map).sum() == pytest.approx(map.sum())


def drawn(**others: object) -> Picture:
    image = np.full((48, 48, 3), 90, np.uint8)
    layers = {**view.colour_layers(dotted(2)), PLACE: view.veil(dotted(2))}
    return Picture(image, "warm plain\npresence 532", "test/00042", layers, **others)  # type: ignore[arg-type]


def sources(html: str) -> list[str]:
    return re.findall(r'src="(.*?)"', html)


def test_what_stands_below_a_picture_is_sent_once() -> None:
    html = pictures_html(Pictures([drawn()], below=WEIGHTS))
    assert len(sources(html)) == len(set(sources(html))) == 4  # the image, and three layers
    assert re.findall('data-layer="(.*?)"', html) == [COLOURS, WEIGHTS, PLACE]
    assert 'title="test/00042"' in html
    assert "test/00042" not in re.sub("<[^>]*>", "", html), "only on demand"
    over = pictures_html(Pictures([drawn()], below=PLACE))
    assert len(set(sources(over))) == 4
    assert ".fb-stack .fb-below { background: none; }" in view.style(), "it hides no image"
    assert "data-hover" in pictures_html(Pictures([drawn()]))


def test_a_face_stands_for_the_image_until_it_is_enlarged() -> None:
    face = np.zeros((48, 48, 3), np.uint8)
    html = pictures_html(Pictures([drawn(face=face)]))
    assert sources(html)[0] == view.data_address(face)
    assert 'class="fb-base' in html


def test_large_pictures_are_sent_as_webp_and_small_ones_as_they_are() -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (224, 224, 3)).astype(np.uint8)
    assert view.data_address(pixels).startswith("data:image/webp;base64,")
    assert view.data_address(pixels[:64, :64]).startswith(view.ADDRESS)


def test_texts_of_pictures_are_escaped_and_a_report_has_no_links() -> None:
    picture = Picture(np.zeros((2, 2, 3), np.uint8), HOSTILE, HOSTILE, link=f"x?c={HOSTILE}")
    html = pictures_html(Pictures([picture], HOSTILE))
    assert "<b>" not in html
    assert "<script" not in html
    assert '<a class="fb-go" href="x?c=' in html
    inert = pictures_html(Pictures([picture, drawn()], below=COLOURS), inert=True)
    assert not re.search("<(a|button|script)|hidden", inert)


def test_what_has_no_image_is_a_caption_with_its_links() -> None:
    one = replace(
        without_image(), caption="Concept 3\n<b>", link="x?c=3", aside=("Compare", "x?with=3")
    )
    html = pictures_html(Pictures([one]))
    assert "<img" not in html
    assert '<strong><a class="fb-go" href="x?c=3" data-keep>Concept 3</a></strong>' in html
    assert "<span>&lt;b&gt;</span>" in html
    assert (
        'href="x?with=3" data-keep aria-label="Compare: Concept 3 · &lt;b&gt;">Compare</a>' in html
    )
    assert "<a" not in pictures_html(Pictures([one]), inert=True)
