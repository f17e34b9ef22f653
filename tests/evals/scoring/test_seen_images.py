"""Images that concepts were trained on, known from the ids of the datasets behind them."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from evals.identification.config import IdentificationConfig
from evals.identification.identification import identify_neurons
from evals.sanity.config import SanityConfig
from evals.sanity.forms import check_metrics
from evals.scoring.seen_images import SeenImages, SeenImagesError, count_seen, seen_note
from registry.declare.stage import Input
from tests.evals.runs import FakeInput

TRAINED = [f"train/{number}" for number in range(6)]


class Features(Input):
    """What was collected of some images of the training split, some of them twice."""

    def open(self, proven: float | None = None) -> xr.Dataset:
        return xr.Dataset({"image": ("sample", np.array(TRAINED * 2, dtype=object))})

    @property
    def config(self) -> Mapping[str, Any]:
        return {"split": "train"}


def concepts_of(images: str = "0" * 16, trained: str = "0" * 16) -> Input:
    own, others = (
        Input("images", "pictures", "images", fingerprint) for fingerprint in (images, trained)
    )
    features = Features("features", "features", "features", "1" * 16, inputs={"images": others})
    sae = Input("sae", "sae", "sae", "2" * 16, inputs={"features": features})
    return Input(
        "activations", "concepts", "concepts", "3" * 16, inputs={"sae": sae, "images": own}
    )


def count(concepts: Input, choosing: list[str], scoring: list[str]) -> SeenImages | None:
    ids = (np.array(part, dtype=object) for part in (scoring, choosing))
    return SeenImages.of(concepts, *ids)


def test_they_are_counted_in_each_half():
    seen = count(concepts_of(), TRAINED[:2], [*TRAINED[2:5], "test/0"])
    assert seen == SeenImages(2, 3, 4)
    with pytest.raises(
        SeenImagesError, match=r'trained on 3 of the 4 images .* seen_images = "all'
    ):
        seen.require_unseen("refuse")
    seen.require_unseen("allow")
    told = seen_note(xr.Dataset(seen.variables()))
    assert told == (
        "The concepts were trained on 2 of the images that chose names, and on 3 of those that "
        "scored them."
    )


def test_another_split_and_images_held_out_are_unseen():
    for own in (["test/0", "test/1"], ["train/77", "train/78"]):
        seen = count(concepts_of(), own[:1], own[1:])
        assert seen == SeenImages(0, 0, 1)
        seen.require_unseen("refuse")
        assert seen_note(xr.Dataset(seen.variables())).startswith("None of these images has the id")


def test_where_it_is_not_known_nothing_is_said(tmp_path):
    bare = Input("activations", "imported", "concepts", "4" * 16)
    plain = FakeInput.of(xr.Dataset({"a": 1}), tmp_path / "plain.nc")
    assert [count(one, TRAINED[:1], TRAINED[1:]) for one in (bare, plain)] == [None, None]
    assert seen_note(xr.Dataset()) == ""


def test_equal_ids_of_another_set_of_images_are_told_and_refused_to_nobody():
    seen = count(concepts_of(trained="9" * 16), TRAINED[:1], [*TRAINED[1:3], "test/0"])
    assert seen == SeenImages(1, 2, 3, are_same=False)
    seen.require_unseen("refuse")
    told = seen_note(xr.Dataset(seen.variables()))
    assert told.startswith("3 of these images have ids of images that the concepts were trained")
    unlike = count(concepts_of(trained="9" * 16), ["test/0"], ["test/1"])
    assert seen_note(xr.Dataset(unlike.variables())) == ""


class Pictures:
    """A declared set of images: one grey square for each id."""

    def __init__(self, greys: Mapping[str, int]):
        self.greys = greys

    def load(self) -> Pictures:
        return self

    def read(self, ids: Sequence[str]) -> np.ndarray:
        return np.array([np.full((2, 2, 3), self.greys[name], np.uint8) for name in ids])


@pytest.mark.parametrize(
    ("shift", "lost", "are_same"), [(0, 0, True), (1, 0, False), (0, 6, False)]
)
def test_a_copy_of_the_images_under_the_same_ids_is_known_by_its_pictures(shift, lost, are_same):
    greys = {name: 10 * row for row, name in enumerate(TRAINED)}
    copied = {name: grey + shift for name, grey in [*greys.items()][lost:]}
    concepts = concepts_of(trained="9" * 16)
    features = concepts.inputs["sae"].inputs["features"]
    for holder, settings in ((features, Pictures(greys)), (concepts, Pictures(copied))):
        holder.inputs["images"] = replace(holder.inputs["images"], settings=settings)
    seen = count(concepts, TRAINED[:1], [*TRAINED[1:3], "test/0"])
    assert seen == SeenImages(1, 2, 3, are_same=are_same)


def test_where_nothing_chooses_scores_alone_count():
    ids = np.array([*TRAINED[:2], "test/0"])
    with pytest.raises(SeenImagesError, match="trained on 2 of the 3 images that would score the"):
        count_seen(concepts_of(), ids, "refuse")
    found = count_seen(concepts_of(), ids, "allow")
    assert found == {"n_trained_scoring": 2}
    assert seen_note(xr.Dataset(found)) == "The concepts were trained on 2 of these images."


@pytest.mark.parametrize("work", [check_metrics, identify_neurons])
def test_every_evaluator_of_single_images_asks(work, monkeypatch):
    pair = xr.DataArray(np.zeros((6, 2)), {"input": TRAINED}, ("input", "neuron")), None
    module = sys.modules[work.__module__]
    monkeypatch.setattr(module, "pair_datasets", lambda *_: pair)
    monkeypatch.setattr(Input, "open", lambda self: xr.Dataset())
    given = {"activations": concepts_of(), "labels": Input("labels", "l", "labels", "5" * 16)}
    configs = {check_metrics: SanityConfig, identify_neurons: IdentificationConfig}
    config = configs[work](metrics=("iou",))
    with pytest.raises(SeenImagesError, match="trained on 6 of the 6 images that would"):
        work(config, given, None)


class Gone(Features):
    """Features whose folder was deleted."""

    @property
    def config(self) -> Mapping[str, Any]:
        return Input("features", "features", "features", "1" * 16, path=Path("/none")).config


def test_features_that_were_deleted_keep_nobody_from_scoring():
    sae = concepts_of().inputs["sae"]
    features = sae.inputs["features"]
    gone = Gone(**{**vars(features)})
    concepts = replace(
        concepts_of(),
        inputs={**concepts_of().inputs, "sae": replace(sae, inputs={"features": gone})},
    )
    assert count(concepts, TRAINED[:1], TRAINED[1:]) is None


class Imported(Input):
    """Neurons whose file says on what they were trained."""

    def open(self, proven: float | None = None) -> xr.Dataset:
        return xr.Dataset({"trained": ("training_input", np.array(TRAINED, dtype=object))})


def test_imported_neurons_tell_what_they_were_trained_on():
    arrays = {"arrays": Input("arrays", "table", "arrays", "5" * 16)}
    neurons = Imported("activations", "imported", "activations", "4" * 16, inputs=arrays)
    assert count(neurons, TRAINED[:1], ["test/0", TRAINED[3]]) == SeenImages(1, 1, 2)
