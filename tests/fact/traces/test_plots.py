"""Galleries and decisions: what is chosen, what adds up, and what the pictures show."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from PIL import ImageFont

from fact.traces import plots
from fact.traces.plots import (
    decision_picture,
    decision_shares,
    gallery_picture,
    over_white,
    select_gallery,
)

CLASSES = ["cat", "dog"]


def presences(values, ids=None, concepts=None):
    values = np.asarray(values, dtype=np.float32)
    ids = ids if ids is not None else [f"test/{n:05d}" for n in range(len(values))]
    coords = {"image": list(ids)}
    if concepts is not None:
        coords["concept"] = concepts
    return xr.DataArray(values, coords, dims=("image", "concept"))


# -- which images ----------------------------------------------------------------------------


def brute_force_gallery(presence, n):
    """Sort all images of every concept by presence, then by id."""
    for concept in presence["concept"].values:
        column = presence.sel(concept=concept)
        pairs = zip(column.values.tolist(), column["image"].values.tolist(), strict=True)
        ranked = sorted((-value, name) for value, name in pairs if value > 0)[:n]
        yield [name for _, name in ranked], [-value for value, _ in ranked]


@pytest.mark.parametrize("levels", [3, 1000])
@pytest.mark.parametrize("share", [0.02, 0.3, 1.0])
def test_the_gallery_is_that_of_a_full_sort(levels, share):
    draw = np.random.default_rng(levels)
    values = draw.integers(1, levels + 1, (300, 40)) * (draw.random((300, 40)) < share)
    ids = draw.permutation([f"val/{n}" for n in range(300)])
    presence = presences(values, ids, concepts=np.arange(100, 140))
    chosen = select_gallery(presence, 16)
    assert chosen["concept"].values.tolist() == list(range(100, 140))
    for row, (names, strengths) in enumerate(brute_force_gallery(presence, 16)):
        filled = len(names)
        assert chosen["image"].values[row].tolist() == names + [""] * (16 - filled)
        np.testing.assert_array_equal(chosen["presence"].values[row, :filled], strengths)
        assert np.isnan(chosen["presence"].values[row, filled:]).all()


def test_the_order_of_images_and_the_blocks_do_not_matter(monkeypatch):
    draw = np.random.default_rng(0)
    presence = presences(draw.integers(0, 4, (50, 9)), concepts=np.arange(9))
    whole = select_gallery(presence, 5)
    monkeypatch.setattr(plots, "BLOCK", 2)
    shuffled = presence.isel(image=draw.permutation(50)).transpose("concept", "image")
    xr.testing.assert_identical(select_gallery(shuffled, 5), whole)
    xr.testing.assert_identical(select_gallery(presence.chunk(image=7, concept=4), 5), whole)


def test_images_without_the_concept_are_never_shown():
    presence = presences([[0.0, -1.0], [np.nan, 0.0], [2.0, -3.0]])
    chosen = select_gallery(presence, 2)
    assert chosen["image"].values.tolist() == [["test/00002", ""], ["", ""]]
    assert np.isnan(chosen["presence"].values[1]).all()


def test_other_dimensions_are_refused():
    with pytest.raises(ValueError, match=r"got dimensions \('input', 'neuron'\)"):
        select_gallery(xr.DataArray(np.zeros((2, 2)), dims=("input", "neuron")))
    with pytest.raises(ValueError, match="expected"):
        decision_shares(xr.DataArray(np.zeros(2), dims=("image",)))


# -- shares ----------------------------------------------------------------------------------


@pytest.mark.parametrize("top", [1, 4, 30])
def test_shares_add_to_one_and_contributions_to_the_logit(top):
    draw = np.random.default_rng(top)
    contribution = presences(draw.normal(0.2, 1, (40, 20)), concepts=np.arange(20) + 7)
    shares = decision_shares(contribution, top)
    total = shares["share"].sum("rank") + shares["others_share"]
    np.testing.assert_allclose(total, 1, atol=1e-6)
    logit = contribution.sum("concept")
    np.testing.assert_allclose(
        shares["contribution"].sum("rank") + shares["others"], logit, atol=1e-5
    )
    positive = contribution.clip(min=0).sum("concept")
    np.testing.assert_allclose(1 + shares["against_share"], logit / positive, atol=1e-5)
    for image in contribution["image"].values:
        row = contribution.sel(image=image)
        ranked = sorted(
            (-float(v), int(c)) for v, c in zip(row, row["concept"], strict=True) if v > 0
        )[:top]
        got = shares["top_concept"].sel(image=image).values.tolist()
        assert got == [c for _, c in ranked] + [-1] * (top - len(ranked))


def test_a_decision_that_nothing_speaks_for_has_no_shares():
    shares = decision_shares(presences([[-1.0, -2.0], [0.0, 0.0], [3.0, -1.0]]), top=2)
    assert shares["top_concept"].values.tolist() == [[-1, -1], [-1, -1], [0, -1]]
    assert shares["share"].values.tolist() == [[0, 0], [0, 0], [1, 0]]
    assert np.isnan(shares["others_share"].values).tolist() == [True, True, False]
    assert np.isnan(shares["against_share"].values[:2]).all()
    assert shares["others"].values.tolist() == [-3, 0, -1]


def test_equal_contributions_come_in_order_of_the_concepts():
    shares = decision_shares(presences([[1.0, 2.0, 1.0, 2.0, 1.0]]), top=4)
    assert shares["top_concept"].values.tolist() == [[1, 3, 0, 2]]


# -- colours ---------------------------------------------------------------------------------


def test_over_white_is_linear_in_alpha():
    colour = np.array([200, 100, 0])
    for alpha in (0, 51, 255):
        expected = np.round(colour * alpha / 255 + 255 - alpha)
        got = over_white(np.array([*colour, alpha], np.uint8))
        np.testing.assert_allclose(got, expected, atol=1)
    exact = over_white(np.array([[1.0, 0.5, 0.0, 1.0], [1.0, 0.5, 0.0, 0.0]]))
    np.testing.assert_array_equal(exact, [[255, 128, 0], [255, 255, 255]])
    assert exact.dtype == np.uint8


def test_over_white_wants_four_colours():
    with pytest.raises(ValueError, match=r"got shape \(4, 4, 3\)"):
        over_white(np.zeros((4, 4, 3), np.uint8))


# -- pictures --------------------------------------------------------------------------------

COLOUR_OF = [(250, 10, 20), (20, 240, 30), (10, 30, 230), (240, 230, 20), (200, 20, 220)]


def flat(colour, side, alpha=None):
    pixels = np.zeros((side, side, 3 if alpha is None else 4), np.uint8)
    pixels[..., :3] = colour
    if alpha is not None:
        pixels[..., 3] = alpha
    return pixels


@pytest.fixture(params=[28, 224])
def gallery(request):
    """Two concepts: one with three images of known colours, one with none."""
    side = request.param
    chosen = select_gallery(presences([[0.9, 0], [0.5, 0], [0.2, 0]]), 4)
    pictures = np.zeros((2, 4, side, side, 3), np.uint8)
    explanations = np.zeros((2, 4, side, side, 4), np.uint8)
    for rank in range(3):
        pictures[0, rank] = flat(COLOUR_OF[rank], side)
        explanations[0, rank] = flat(COLOUR_OF[rank], side, alpha=51)
    return chosen.assign(
        label=(("concept", "rank"), [[0, 1, 1, -1], [-1] * 4]),
        picture=(("concept", "rank", "y", "x", "colour"), pictures),
        explanation=(("concept", "rank", "y", "x", "rgba"), explanations),
    ).assign_coords({"class": CLASSES})


@pytest.fixture
def decisions():
    side = 28
    shares = decision_shares(presences([[3.0, 1.0, -1.0], [-1.0, -1.0, -1.0]]), top=2)
    explanations = np.zeros((2, 2, side, side, 4), np.uint8)
    explanations[0, 0] = flat(COLOUR_OF[0], side, 255)
    explanations[0, 1] = flat(COLOUR_OF[1], side, 255)
    of_both = [np.stack([flat(colour, side, 255)] * 2) for colour in COLOUR_OF[3:]]
    return shares.assign(
        picture=(("image", "y", "x", "colour"), np.stack([flat(COLOUR_OF[2], side)] * 2)),
        logit_explanation=(("image", "y", "x", "rgba"), of_both[0]),
        others_explanation=(("image", "y", "x", "rgba"), of_both[1]),
        explanation=(("image", "rank", "y", "x", "rgba"), explanations),
        logit=("image", [3.0, -3.0]),
        prediction=("image", [0, 1]),
        label=("image", [0, 0]),
    ).assign_coords({"class": CLASSES})


def area(picture, colour):
    return int((np.asarray(picture) == np.asarray(colour, np.uint8)).all(axis=-1).sum())


def written(monkeypatch):
    """Collect the words that a picture holds."""
    words, original = [], plots._Page.text

    def text(self, x, y, text, *args):
        words.append(text)
        original(self, x, y, text, *args)

    monkeypatch.setattr(plots._Page, "text", text)
    return words


def test_a_gallery_shows_each_image_and_its_explanation(gallery, monkeypatch):
    words = written(monkeypatch)
    picture = gallery_picture(gallery, 0, title="fur", tile=96)
    for colour in COLOUR_OF[:3]:
        assert area(picture, colour) == 96 * 96
        assert area(picture, over_white(np.array([*colour, 51], np.uint8))) == 94 * 94
    assert words[0] == "concept 0  ·  fur"
    assert [w for w in words if w in CLASSES] == ["cat", "dog", "dog"]
    assert {"0.9", "0.5", "0.2"} <= set(words)


def test_an_image_stands_above_its_own_explanation(gallery):
    pixels = np.asarray(gallery_picture(gallery, 0, tile=96))
    tops = []
    for colour in COLOUR_OF[:3]:
        y, x = np.nonzero((pixels == np.array(colour)).all(-1))
        faint = over_white(np.array([*colour, 51], np.uint8))
        below_y, below_x = np.nonzero((pixels == faint).all(-1))
        assert below_y.min() > y.max()
        assert abs(below_x.min() - x.min()) <= 1
        tops.append(x.min())
    assert tops == sorted(tops)


def test_a_gallery_wraps_into_rows(gallery):
    wide, narrow = (gallery_picture(gallery, 0, columns=c, tile=64) for c in (8, 2))
    assert narrow.width < wide.width
    assert narrow.height > wide.height
    assert area(narrow, COLOUR_OF[2]) == 64 * 64


def test_a_concept_without_images_says_so(gallery, monkeypatch):
    words = written(monkeypatch)
    gallery_picture(gallery, 1)
    assert "present in no image" in words


def test_unknown_concepts_and_images_are_named(gallery, decisions):
    with pytest.raises(KeyError, match="no concept 7 among 2"):
        gallery_picture(gallery, 7)
    with pytest.raises(KeyError, match=r"no image 'test/0001'.*did you mean 'test/0000"):
        decision_picture(decisions, "test/0001")


@pytest.mark.parametrize("beside", [True, False])
def test_a_decision_shows_image_logit_concepts_and_others(decisions, gallery, monkeypatch, beside):
    words = written(monkeypatch)
    picture = decision_picture(
        decisions, "test/00000", gallery if beside else None, names={0: "fur"}, tile=128
    )
    side = 192  # of the image and the logit's explanation
    strip = 64 * 64 if beside else 0
    assert area(picture, COLOUR_OF[2]) == (side - 6) ** 2 + strip
    assert area(picture, COLOUR_OF[3]) == (side - 2) ** 2
    assert area(picture, COLOUR_OF[0]) == 126**2 + strip
    assert area(picture, COLOUR_OF[1]) == 126**2 + strip
    assert area(picture, COLOUR_OF[4]) == 126**2
    assert area(picture, plots.RIGHT) > 0
    for text in (
        "label: cat",
        "prediction: cat",
        "logit 3 of cat",
        "fur",
        "75.0 %",
        "25.0 %",
        "0.0 %",
    ):
        assert text in words
    assert "against: -25.0 %" in words


def test_the_logit_is_of_the_class_that_is_explained(decisions, monkeypatch):
    words = written(monkeypatch)
    decision_picture(decisions.assign(target=("image", [1, 1])), "test/00000")
    assert "logit 3 of dog" in words


def test_a_wrong_decision_without_positive_concepts(decisions, monkeypatch):
    words = written(monkeypatch)
    picture = decision_picture(decisions, "test/00001")
    assert "prediction: dog" in words
    assert "undefined" in words
    assert area(picture, plots.WRONG) > area(picture, plots.RIGHT)
    assert area(picture, COLOUR_OF[0]) == 0


def test_a_machine_without_fonts_will_do(gallery, monkeypatch):
    expected, original = gallery_picture(gallery, 0), ImageFont.truetype

    def only_pillows(font=None, *args, **kwargs):
        if isinstance(font, str):
            raise OSError("cannot open resource")
        return original(font, *args, **kwargs)

    plots._font.cache_clear()
    monkeypatch.setattr(ImageFont, "truetype", only_pillows)
    np.testing.assert_array_equal(gallery_picture(gallery, 0), expected)
    named = gallery.assign_coords({"class": ["кошка", "собака"]})
    assert gallery_picture(named, 0, title="мех").size == expected.size
    plots._font.cache_clear()


def test_long_names_are_wrapped_and_shortened_to_their_column(gallery, decisions, monkeypatch):
    names = ["Mexican hairless dog (xoloitzcuintli)", "desert grassland whiptail lizard"]
    words = written(monkeypatch)
    long = gallery_picture(gallery.assign_coords({"class": names}), 0, tile=96)
    usual = gallery_picture(gallery, 0, tile=96)
    assert (long.width, long.height) == (usual.width, usual.height + 2 * plots.STEP)
    assert words[1:4] == ["Mexican", "hairless dog", "(xoloitzcuintli)"]
    assert "desert" in words
    words.clear()
    decision_picture(decisions.assign_coords({"class": names}), "test/00000")
    assert words[1:3] == ["label: Mexican hairless dog", "(xoloitzcuintli)"]
    assert plots._wrapped("", plots.TEXT, 48, 2) == [""]
    font = plots._font(plots.TEXT, True)
    assert font.getlength(plots._shortened("a rather long name of a class", font, 48)) <= 48
    assert plots._shortened("cat", font, 48) == "cat"
