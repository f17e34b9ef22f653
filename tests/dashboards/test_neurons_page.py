"""Neurons that are no concepts on the page of concepts, and what is said of approximate maps."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
import xarray as xr
from streamlit.testing.v1 import AppTest

from dashboards.server.image_reader import ImageReader
from dashboards.views.concepts.concepts import (
    about,
    concept_table,
    concepts_frame,
    noun,
    orders_of,
    tiles,
)
from dashboards.views.concepts.exactness import shown_below
from dashboards.views.concepts.neurons import (
    OF_TEXTS,
    as_concepts,
    why_no_decisions,
    with_statistics,
    without_pictures_line,
    words_of,
)
from dashboards.views.parts.pictures import PLACE
from dashboards.views.sections import gallery_parts, neurons_parts
from fact import schemas
from fact.traces.by_concept import read_alone, read_presences
from registry.catalog.access import open_catalog
from registry.catalog.lineage import Entry, Lineage
from registry.declare.stage import Input
from registry.mongo.database import URL_VARIABLE
from registry.plan.project import Project
from tests.dashboards import fabricate
from tests.dashboards.fabricate import CONCEPTS, HOSTILE, IMAGES, RANKS, run_uid
from tests.dashboards.test_decisions_page import show_decisions
from tests.dashboards.test_pages import Open, frames, open_page, told

__all__ = ["open_page"]

DECLARATION = """
[experiments.toy-neurons]
stage = "tests.dashboards.toy.collect"

[experiments.toy-neuron-gallery]
stage = "tests.dashboards.toy.draw"
needs = { concepts = "toy-neurons" }
"""
NAMES = [f"class {index}" for index in range(CONCEPTS - 1)] + [HOSTILE]


def activations() -> xr.Dataset:
    """Return logits: of both signs, one of them 0 here and there, one NaN once."""
    values = np.random.default_rng(2).normal(size=(IMAGES, CONCEPTS)).astype(np.float32)
    values[::3, 1] = 0
    values[4, 2] = np.nan
    return xr.Dataset(
        {
            "activation": (("image", "neuron"), values),
            "name": ("neuron", np.array(NAMES, dtype=object)),
            "right_concept": ("neuron", np.array([""] * CONCEPTS, dtype=object)),
            "variant": "logits, mean over positions",
            "n_images": IMAGES,
            "n_neurons": CONCEPTS,
            "n_known": 0,
        },
        {"image": [f"test/{row:05d}" for row in range(IMAGES)], "neuron": np.arange(CONCEPTS)},
    )


def gallery(maps: str = "") -> xr.Dataset:
    """Return a gallery with both sides; neuron 3 is nowhere below 0."""
    drawn = fabricate.gallery()
    lowest = drawn[["image", "presence", "label", "picture", "explanation"]]
    lowest = lowest.assign(presence=-lowest["presence"])
    lowest["image"] = lowest["image"].where(lowest["concept"] != 3, "")
    drawn = drawn.assign({f"lowest_{name}": value for name, value in lowest.data_vars.items()})
    drawn["name"] = "concept", np.array(NAMES[: drawn.sizes["concept"]], dtype=object)
    drawn["prediction"] = drawn["prediction"] * 0 - 1
    if not maps:
        return drawn.drop_vars(["explanation", "lowest_explanation"])
    return drawn.assign(maps=maps, exact=False)


@pytest.fixture
def neurons(tmp_path: Path) -> Project:
    """A project of neurons alone."""
    project = fabricate.declare(tmp_path / "neurons", DECLARATION)
    for minute, (cell, dataset, schema) in enumerate(
        [
            ("toy-neurons", activations(), schemas.ACTIVATIONS),
            ("toy-neuron-gallery", gallery("codes"), schemas.GALLERY),
        ]
    ):
        fabricate.store(project, cell, dataset, schema, run_uid(cell, minute))
    return project


def test_the_page_of_concepts_shows_neurons_with_their_images(
    open_page: Open, neurons: Project
) -> None:
    page = open_page(neurons, "concepts", {"concept": "1"})
    assert not page.exception
    text = told(page).replace("\\", "")
    assert "Neuron 1 (class 1)" in text
    assert "They are no concepts of an SAE" in text
    assert "Images with the largest activation. Below each: ≈ the image, faded" in text
    assert "contribution" not in frames(page)[0]
    assert "How strongly it is active" in text
    assert "Strong in the same images" in text
    assert "resent in" not in text, "a neuron is nowhere absent"
    page = open_page(neurons, "concepts", {"concept": "3", "side": "Lowest"})
    assert "this neuron is nowhere below 0" in told(page)
    page = open_page(neurons, "concepts", {"concept": "0", "side": "Lowest"})
    assert not page.exception
    assert "Images with the lowest activation" in told(page)
    page = open_page(neurons, "concepts", {"section": "The whole model"})
    assert not page.exception
    assert "What the network knows" in told(page)


def test_the_first_page_leads_to_neurons_without_pictures(open_page: Open, tmp_path: Path) -> None:
    project = fabricate.declare(tmp_path / "bare", DECLARATION)
    uid = run_uid("toy-neurons", 0)
    fabricate.store(project, "toy-neurons", activations(), schemas.ACTIVATIONS, uid)
    page = open_page(project, "")
    assert not page.exception
    text = told(page).replace("\\", "")
    assert "toy-neuron-gallery has not drawn them yet. The page of each neuron shows the" in text
    assert "images of its largest activations" in text
    links = [link.proto.label.replace("\\", "") for link in page.get("page_link")]
    best = int(np.nanmax(activations()["activation"].values, axis=0).argmax())
    assert links[0] == f"{NAMES[best]} · neuron {best}"
    line = without_pictures_line("", words_of(xr.Dataset({"own_name": "x"})))
    assert line.startswith("No pictures here: nothing draws them (fact.draw_concepts does).")


def test_neurons_explain_no_decision_and_the_page_says_what_does(
    neurons: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(URL_VARIABLE, "off")
    monkeypatch.setenv("FACTBOOK_PROJECT", str(neurons.root))
    monkeypatch.chdir(neurons.root)
    page = AppTest.from_function(show_decisions, default_timeout=60).run()
    assert not page.exception
    assert "toy-neurons has activations, and no contributions" in told(page).replace("\\", "")
    made = {"stage": "fact.collect_activations", "provides": "activations"}
    needs = {"images": "photos", "network": "resnet"}
    channels, logits = (
        Entry(name, name, name, config=config, needs=needs, **made)
        for name, config in (("channels", {"layer": "layer3", "split": "val"}), ("logits", {}))
    )
    lineage = cast(Lineage, SimpleNamespace(entries={"channels": channels, "logits": logits}))
    declared = tomllib.loads("\n".join(why_no_decisions(channels, lineage).lines))
    own = declared["experiments"]["channels-contributions"]
    assert own.pop("config") == {"layer": "layer3", "split": "val"}
    assert own == {"stage": "fact.measure_channels", "needs": needs}
    assert 'layer = "layer3"' in why_no_decisions(logits, lineage).lines[-1]
    alone = cast(Lineage, SimpleNamespace(entries={}))
    assert 'layer = "NAME OF A LAYER"' in why_no_decisions(logits, alone).lines[-1]
    tokens = replace(channels, needs={"texts": "stories", "model": "gpt2"})
    assert why_no_decisions(tokens, alone).lines == ()


def test_of_a_language_model_the_page_says_what_can_be_had_instead() -> None:
    made = {"stage": "fact.collect_next_tokens", "provides": "next_tokens"}
    needs = {"texts": "stories", "model": "gpt2"}
    tokens = Entry("tokens", "tokens", "tokens", config={"layer": ""}, needs=needs, **made)
    alone = cast(Lineage, SimpleNamespace(entries={}))
    found = why_no_decisions(tokens, alone)
    assert found.reason.startswith(OF_TEXTS)
    assert "with an SAE in it or without" in OF_TEXTS
    declared = tomllib.loads("\n".join(found.lines))
    assert declared["experiments"]["tokens-channels"] == {
        "stage": made["stage"],
        "needs": needs,
        "config": {"layer": "NAME OF A LAYER"},
    }
    of_channels = why_no_decisions(replace(tokens, config={"layer": "h.0"}), alone)
    assert (of_channels.reason, of_channels.lines) == (OF_TEXTS, ())


def test_statistics_of_neurons_are_those_of_numpy_and_names_stand_beside() -> None:
    raw = activations()
    found = with_statistics(as_concepts(raw))
    values = raw["activation"].values
    np.testing.assert_allclose(found["mean_activation"], np.nanmean(values, axis=0), rtol=1e-6)
    np.testing.assert_allclose(found["largest_activation"], np.nanmax(values, axis=0))
    frame = concepts_frame(found)
    assert noun(frame) == "Neuron"
    heads = concept_table("x", frame).texts().columns.tolist()
    assert heads[:2] == ["neuron", "own name"]
    assert len(heads) == len(set(heads)), "no two columns are called alike"
    assert orders_of(frame) == ["activation", "score", "name", "number"]
    title, line = about(frame, CONCEPTS - 1)
    assert title == f"Neuron {CONCEPTS - 1} ({HOSTILE})"
    assert "on average" in line
    numbered = found.assign(own_name=("concept", np.arange(CONCEPTS).astype(str)))
    assert "own_name" not in concepts_frame(numbered)
    column = read_presences(as_concepts(raw).fillna(0)).column(1)
    alone = read_alone(as_concepts(raw), 1).column(0)
    np.testing.assert_array_equal(column, alone)
    np.testing.assert_array_equal(column["presence"], values[values[:, 1] != 0, 1])
    assert (column["contribution"] == 0).all()


def test_images_of_neurons_are_told_by_the_classes_of_their_dataset() -> None:
    ids = {"train": ["train/0", "train/1"], "test": ["test/0", "test/1", "test/2"]}
    labels = {"train": [0, 0], "test": [1, -1, 0]}
    images = SimpleNamespace(
        splits=tuple(ids),
        classes=("cat", "dog"),
        ids=lambda split: np.array(ids[split]),
        labels=lambda split: np.array(labels[split]),
    )
    given = SimpleNamespace(origin=lambda _: SimpleNamespace(load=lambda: images))
    reader = ImageReader(cast(Input, given))
    assert reader.classes(["test/2", "test/0", "test/1", "else"]) == ["cat", "dog", "", ""]


def test_both_sides_of_a_neuron_have_tiles_with_a_place_where_there_is_one() -> None:
    drawn = gallery()
    strongest, lowest = tiles(drawn, 0), tiles(drawn, 0, lowest=True)
    assert len(strongest) == len(lowest) == RANKS
    assert strongest[0].presence == -lowest[0].presence > 0
    assert strongest[0].explanation is None
    assert strongest[0].classes == fabricate.CLASSES[0]
    assert tiles(drawn, 3, lowest=True) == []
    assert PLACE in tiles(gallery("crp"), 0, lowest=True)[0].layers


def test_what_stands_below_images_says_whether_it_is_an_approximation() -> None:
    concepts = fabricate.concepts()
    exact, plain = fabricate.gallery(), ("Colours", "Exact weights", "Place")
    assert tuple(shown_below(exact, concepts)) == plain
    assert "≈" not in "".join(shown_below(exact, concepts).values())
    ordinary = concepts.assign(exact=False)
    for drawn, kept, options in [
        (exact.assign(maps="gradient"), ordinary, plain),
        (exact.assign(maps="gradient", exact=False), activations(), plain),
        (exact.assign(maps="codes"), concepts, ("Place",)),
        (exact.assign(maps="crp"), ordinary, ("Place",)),
    ]:
        below = shown_below(drawn, kept)
        assert tuple(below) == options
        assert all("≈" in text and "approximation" in text for text in below.values())
    assert shown_below(gallery(), activations()) == {}


def test_a_report_shows_neurons_and_their_gallery(neurons: Project) -> None:
    catalog = open_catalog(neurons.root, "off")
    parts = neurons_parts(catalog, "toy-neurons", activations())
    notes = [part.text for part in parts if hasattr(part, "text")]
    assert any("no concepts of an SAE" in note for note in notes)
    table = parts[-1]
    assert table.title == "Neurons"
    assert table.frame["own_name"].tolist() == NAMES
    headings = [
        part.text for part in gallery_parts(catalog, "cell", gallery()) if hasattr(part, "text")
    ]
    assert "largest activation." in headings[0]
    assert headings[1] == "Neuron 0: class 0"
