"""Images that concepts were trained on, known from the ids of the datasets behind them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import xarray as xr

from evals.naming.seen_images import SeenImages, SeenImagesError, seen_note
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


def halves(*parts: list[str]) -> list[np.ndarray]:
    return [np.array(part, dtype=object) for part in parts]


def test_they_are_counted_in_each_half():
    seen = SeenImages.of(concepts_of(), halves(TRAINED[:2], [*TRAINED[2:5], "test/0"]))
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
        seen = SeenImages.of(concepts_of(), halves(own[:1], own[1:]))
        assert seen == SeenImages(0, 0, 1)
        seen.require_unseen("refuse")
        assert seen_note(xr.Dataset(seen.variables())).endswith("on none of these images.")


def test_where_it_is_not_known_nothing_is_said(tmp_path):
    given = halves(TRAINED[:1], TRAINED[1:])
    others = concepts_of(trained="9" * 16)
    bare = Input("activations", "imported", "activations", "4" * 16)
    plain = FakeInput.of(xr.Dataset({"a": 1}), tmp_path / "plain.nc")
    assert [SeenImages.of(one, given) for one in (others, bare, plain)] == [None, None, None]
    assert seen_note(xr.Dataset()) == ""
