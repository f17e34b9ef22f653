"""What explains images for all readers of a server, on a project whose stages really ran."""

from __future__ import annotations

import dataclasses
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from dashboards.server.explainer import Explainer, ExplainerError, input_key
from fact.data.images import Geometry
from fact.networks.files import WEIGHTS_FILE
from registry.catalog.access import Catalog, open_catalog
from registry.declare.stage import Input
from registry.plan.project import Project


@pytest.fixture
def real(explained_template: Path, monkeypatch: pytest.MonkeyPatch) -> Catalog:
    monkeypatch.chdir(explained_template)
    return open_catalog(explained_template, "off")


@pytest.mark.parametrize("cell", ["concepts", "channels", "tokens"])
def test_it_says_what_was_measured(real: Catalog, cell: str) -> None:
    explainer = Explainer(real.input(cell), "cpu")
    with real.dataset(cell) as measured:
        for image in measured["image"].values[[0, 7, 33]].astype(str):
            own = measured.sel(image=image).load()
            explained = explainer.explain(explainer.read(image))
            np.testing.assert_allclose(explained["contribution"], own["contribution"], atol=1e-4)
            np.testing.assert_allclose(explained["presence"], own["presence"], rtol=1e-4, atol=1e-4)
            assert int(explained["prediction"]) == int(own["prediction"])
            assert float(explained["residual"]) < 1e-5


def test_it_says_what_was_explained_in_advance(real: Catalog) -> None:
    explainer = Explainer(real.input("concepts"))
    with real.dataset("decisions") as stored:
        own = stored.isel(image=1).load()
    explained = explainer.explain(explainer.read(str(own["image"].item())))
    shown = own["top_concept"].values[own["top_concept"].values >= 0]
    np.testing.assert_array_equal(explained["top_concept"][: len(shown)], shown)
    np.testing.assert_array_equal(explained["picture"], own["picture"])
    for index in range(len(shown)):
        np.testing.assert_allclose(
            explained["concept_map"][index], own["concept_map"][index], atol=1e-4
        )


def test_a_difference_is_that_of_two_logits(real: Catalog) -> None:
    explainer = Explainer(real.input("concepts"))
    picture = explainer.read("test/00003")
    one, other = explainer.explain(picture, 4), explainer.explain(picture, 2)
    both = explainer.explain(picture, 4, 2)
    expected = one["contribution"] - other["contribution"]
    np.testing.assert_allclose(both["contribution"], expected, atol=1e-4)
    with pytest.raises(ExplainerError, match="against itself"):
        explainer.explain(picture, 4, 4)
    with pytest.raises(ExplainerError, match=r"target classes \[99\]; expected 0 to 8"):
        explainer.explain(picture, 99)


def test_concepts_are_scaled_in_the_network_itself(real: Catalog) -> None:
    explainer = Explainer(real.input("concepts"))
    picture = explainer.read("test/00003")
    explained = explainer.explain(picture, 4, 2)
    opened = explainer.open_concepts(picture, 4, 2)
    first, second = explained["top_concept"].values[:2].tolist()
    scaled = explainer.scale(opened, {first: 0.0, second: 2.0})
    change = explained["contribution"].sel(concept=second) - explained["contribution"][first]
    promised = float(scaled["promised"] - scaled["before"])
    assert promised == pytest.approx(float(change), rel=1e-3, abs=1e-5)
    logits = scaled["logits"].values
    assert float(scaled["measured"]) == pytest.approx(float(logits[4] - logits[2]), abs=1e-5)
    again = explainer.explain(picture, 4, 2)
    np.testing.assert_array_equal(again["logits"], explained["logits"])
    with pytest.raises(ExplainerError, match="expected 0 to"):
        explainer.scale(opened, {9999: 0.0})
    with pytest.raises(ExplainerError, match="target classes"):
        explainer.open_concepts(picture, 99)


def test_many_readers_at_once_are_told_what_one_is(real: Catalog) -> None:
    explainer = Explainer(real.input("concepts"))
    pictures = [explainer.read(f"test/{number:05d}") for number in range(8)]
    alone = [explainer.explain(picture, 1) for picture in pictures]
    hooks = [len(part._forward_hooks) for part in explainer._source.network.module.modules()]
    start = threading.Barrier(8)

    def one(place: int) -> np.ndarray:
        start.wait()
        against = [explainer.explain(pictures[place], 1, 2) for _ in range(3)]
        again = explainer.explain(explainer.read(f"test/{place:05d}"), 1)
        assert len(against) == 3
        return np.asarray(again["contribution"])

    with ThreadPoolExecutor(8) as readers:
        together = list(readers.map(one, range(8)))
    for whole, contribution in zip(alone, together, strict=True):
        np.testing.assert_allclose(contribution, whole["contribution"], atol=1e-5)
    assert hooks == [
        len(part._forward_hooks) for part in explainer._source.network.module.modules()
    ]


def test_somebodys_picture_is_brought_to_the_size_of_the_images(real: Catalog) -> None:
    explainer = Explainer(real.input("concepts"))
    assert explainer.fit(np.zeros((90, 160, 3), np.uint8)).shape == (24, 24, 3)
    assert explainer.fit(np.zeros((1, 1, 3), np.uint8)).shape == (24, 24, 3)
    picture = explainer.read("test/00000")
    np.testing.assert_array_equal(explainer.fit(picture), picture)
    tokens = Explainer(real.input("tokens"))
    large = np.zeros((90, 160, 3), np.uint8)
    assert tokens.fit(large) is large or tokens.fit(large).shape == (24, 24, 3)
    assert tokens.explain(tokens.fit(large))["picture"].shape == (24, 24, 3)


def test_where_the_network_has_a_geometry_of_its_own_pictures_are_left_to_it(
    real: Catalog,
) -> None:
    explainer = Explainer(real.input("concepts"))
    network = dataclasses.replace(explainer._source.network, geometry=Geometry(30, 20))
    explainer._source = dataclasses.replace(explainer._source, network=network)
    picture = np.zeros((60, 40, 3), np.uint8)
    assert explainer.fit(picture) is picture
    assert explainer.explain(picture)["picture"].shape == (20, 20, 3)


def test_an_image_is_brought_to_the_geometry_of_the_network_once(real: Catalog) -> None:
    given, geometry = real.input("concepts"), Geometry(30, 20)
    explainer = Explainer(given)
    network = dataclasses.replace(explainer._source.network, geometry=geometry)
    explainer._source = dataclasses.replace(explainer._source, network=network)
    [seen] = given.origin("images").load().read(["test/00000"], geometry)
    picture = explainer.read("test/00000")
    np.testing.assert_array_equal(explainer.explain(picture)["picture"], seen)
    assert (geometry.apply(seen) != seen).any()
    opened = explainer.open_concepts(picture, 4)
    logits = explainer.explain(picture)["logits"]
    np.testing.assert_allclose(explainer.scale(opened, {})["logits"], logits, atol=1e-5)


def test_a_device_that_is_not_here_is_no_reason_to_give_up(real: Catalog) -> None:
    assert Explainer(real.input("concepts"), "cuda:7").read("test/00000").shape == (24, 24, 3)


def test_an_image_that_is_not_there_is_told_with_the_nearest(real: Catalog) -> None:
    explainer = Explainer(real.input("concepts"))
    with pytest.raises(ExplainerError, match=r"no image 'test/0000'; did you mean 'test/\d+'"):
        explainer.read("test/0000")


def test_weights_that_are_gone_or_damaged_are_told(
    explained_copy: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(explained_copy.root)
    catalog = open_catalog(explained_copy.root, "off")
    given = catalog.input("concepts")
    weights = given.origin("network").path
    assert weights is not None
    (weights / WEIGHTS_FILE).write_bytes(b"no weights")
    with pytest.raises(ExplainerError, match=r"network\.safetensors has 10 bytes; expected"):
        Explainer(given)
    (weights / WEIGHTS_FILE).unlink()
    with pytest.raises(ExplainerError, match=r"network\.safetensors is missing"):
        Explainer(given)


def test_what_it_is_made_from_and_is_gone_is_told(real: Catalog) -> None:
    given = real.input("concepts")
    without_sae = dataclasses.replace(given, inputs={"images": given.inputs["images"]})
    with pytest.raises(ExplainerError, match=r"the sae '.*' that it was made from is gone"):
        Explainer(without_sae)
    without_images = dataclasses.replace(given, inputs={"sae": given.inputs["sae"]})
    explainer = Explainer(_forgetting_images(without_images))
    with pytest.raises(ExplainerError, match="the images are not on this machine"):
        explainer.read("test/00000")
    assert explainer.fit(np.zeros((9, 9, 3), np.uint8)).shape == (224, 224, 3)
    sized = Explainer(_forgetting_images(without_images), side=20)
    assert sized.fit(np.zeros((9, 9, 3), np.uint8)).shape == (20, 20, 3)


def _forgetting_images(given: Input) -> Input:
    behind = {s: _forgetting_images(i) for s, i in given.inputs.items() if s != "images"}
    return dataclasses.replace(given, inputs=behind)


def test_a_model_is_known_by_all_that_it_was_made_from(real: Catalog) -> None:
    given = real.input("concepts")
    assert input_key(given) == input_key(real.input("concepts"))
    assert hash(input_key(given)) != hash(input_key(real.input("channels")))
    moved = {**given.inputs, "sae": dataclasses.replace(given.inputs["sae"], path=Path("/else"))}
    assert input_key(dataclasses.replace(given, inputs=moved)) != input_key(given)
