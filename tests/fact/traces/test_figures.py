"""Figures for scripts: what they draw, read back from their axes."""

from __future__ import annotations

import sys
from itertools import pairwise

import numpy as np
import pytest
import xarray as xr

import evals
import fact
from fact.traces.plots import decision_shares, select_gallery
from registry.suggest import RefusalError

CLASSES = ["cat", "dog", "owl"]
IMAGES = [f"test/{n:05d}" for n in range(30)]
RANDOM = np.random.default_rng(0)


def labelled(dataset: xr.Dataset) -> xr.Dataset:
    return dataset.assign_coords({"class": CLASSES})


@pytest.fixture(scope="module")
def concepts() -> xr.Dataset:
    presence = RANDOM.random((30, 5)) * (RANDOM.random((30, 5)) < 0.6)
    presence[:, 4] = 0
    return labelled(
        xr.Dataset(
            {
                "presence": (("image", "concept"), presence.astype(np.float32)),
                "contribution": (("image", "concept"), RANDOM.normal(size=(30, 5))),
                "prediction": ("image", np.arange(30) % 3),
            },
            {"image": IMAGES, "concept": np.arange(5)},
        )
    )


@pytest.fixture(scope="module")
def gallery(concepts: xr.Dataset) -> xr.Dataset:
    chosen = select_gallery(concepts["presence"], 4)
    shape = (5, 4, 6, 6)
    return labelled(
        chosen.assign(
            label=(("concept", "rank"), np.zeros((5, 4), int)),
            picture=(
                ("concept", "rank", "y", "x", "c"),
                RANDOM.integers(0, 256, (*shape, 3), "u1"),
            ),
            explanation=(
                ("concept", "rank", "y", "x", "rgba"),
                RANDOM.integers(0, 256, (*shape, 4), "u1"),
            ),
        )
    )


@pytest.fixture(scope="module")
def decisions(concepts: xr.Dataset) -> xr.Dataset:
    own = decision_shares(concepts["contribution"].isel(image=slice(3)), top=2)
    return labelled(
        own.assign(
            picture=(("image", "y", "x", "c"), RANDOM.integers(0, 256, (3, 6, 6, 3), "u1")),
            label=("image", [-1, 0, 1]),
            prediction=("image", [2, 0, 1]),
        )
    )


def test_a_decision_adds_up_from_bar_to_bar(concepts: xr.Dataset, decisions: xr.Dataset) -> None:
    figure = fact.plot_decision(decisions, IMAGES[1], names={0: "fur"})
    picture, bars = figure.axes
    np.testing.assert_array_equal(
        picture.images[0].get_array(), decisions["picture"].sel(image=IMAGES[1])
    )
    drawn = [(bar.get_x(), bar.get_x() + bar.get_width()) for bar in bars.patches]
    logit = float(concepts["contribution"].sel(image=IMAGES[1]).sum())
    *parts, whole = drawn
    assert whole == pytest.approx((0, logit), abs=1e-5)
    assert parts[0][0] == pytest.approx(0)
    assert parts[-1][1] == pytest.approx(logit, abs=1e-5)
    for (_, end), (start, _) in pairwise(parts):
        assert end == pytest.approx(start)
    names = [text.get_text() for text in bars.get_yticklabels()]
    assert names[-2:] == ["all others", "logit"]
    assert len(names) == len(drawn)
    with_offset = decisions.assign(offset=("image", [1.0, 2.0, 3.0]))
    bars = fact.plot_decision(with_offset, IMAGES[1]).axes[1]
    assert bars.patches[-1].get_width() == pytest.approx(logit + 2, abs=1e-5)


def test_a_gallery_shows_each_image_above_its_explanation(gallery: xr.Dataset) -> None:
    figure = fact.plot_gallery(gallery, 1, title="fur", most=3)
    assert figure.get_suptitle() == "concept 1: fur"
    assert len(figure.axes) == 6
    for rank, axes in enumerate(figure.axes[:3]):
        shown = gallery["picture"].values[1, rank]
        np.testing.assert_array_equal(axes.images[0].get_array(), shown)
    assert fact.plot_gallery(gallery, 4).get_suptitle() == "concept 4: present in no image"
    with pytest.raises(KeyError, match="no concept 7"):
        fact.plot_gallery(gallery, 7)


def test_a_dataset_of_another_schema_is_refused(
    concepts: xr.Dataset, decisions: xr.Dataset, gallery: xr.Dataset
) -> None:
    other = gallery.assign_attrs(schema="gallery")
    wrong = r"the schema 'concepts'; got one of 'gallery' without contribution"
    with pytest.raises(ValueError, match=wrong):
        fact.plot_concept(other, 1)
    with pytest.raises(ValueError, match="'decisions'; got one without picture, top_concept"):
        fact.plot_decision(concepts, IMAGES[0])
    with pytest.raises(ValueError, match="the schema 'gallery'; got one without picture"):
        fact.plot_gallery(concepts, 1)
    with pytest.raises(ValueError, match="the schema 'sanity'; got one without verdict"):
        evals.plot_sanity(decisions)


def test_a_concept_is_counted_and_averaged(concepts: xr.Dataset, gallery: xr.Dataset) -> None:
    figure = fact.plot_concept(concepts, 2, gallery, most=2)
    presence, classes, *pictures = figure.axes
    here = concepts["presence"].values[:, 2]
    assert sum(bar.get_height() for bar in presence.patches) == (here > 0).sum()
    contribution = concepts["contribution"].values[:, 2]
    means = [contribution[np.arange(30) % 3 == c].mean() for c in range(3)]
    largest = sorted(range(3), key=lambda c: abs(means[c]))[-2:]
    assert [text.get_text() for text in classes.get_yticklabels()] == [CLASSES[c] for c in largest]
    widths = [bar.get_width() for bar in classes.patches]
    assert widths == pytest.approx([means[c] for c in largest])
    assert len(pictures) == 4
    assert len(fact.plot_concept(concepts, 4, gallery).axes) == 2  # present nowhere


def test_figures_show_themselves(gallery: xr.Dataset) -> None:
    png = fact.plot_gallery(gallery, 0)._repr_png_()  # type: ignore[attr-defined]
    assert png.startswith(b"\x89PNG")
    assert len(png) > 2000


def test_what_is_missing_is_named(gallery: xr.Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(RefusalError, match=r"pip install 'factbook\[figures\]'"):
        fact.plot_gallery(gallery, 0)
