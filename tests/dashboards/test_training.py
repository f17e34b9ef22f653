"""What training left."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dashboards.views.concepts.training import sae_parts, training_figures
from dashboards.views.parts.parts import Figure, Numbers
from dashboards.views.sections import class_accuracy, network_parts
from tests.dashboards import fabricate_concepts


@pytest.mark.slow
def test_an_sae_has_numbers_and_curves() -> None:
    parts = sae_parts("x", fabricate_concepts.sae())
    assert isinstance(parts[0], Numbers)
    numbers = {number.label: number.value for number in parts[0].numbers}
    assert (numbers["accuracy, spliced"], numbers["k"]) == ("75 %", "8")
    figures = [part for part in parts if isinstance(part, Figure)]
    assert [figure.title for figure in figures] == [
        "Reconstruction loss",
        "Auxiliary loss",
        "Explained variance",
        "Dead concepts",
        "Accuracy of the spliced network",
    ]
    assert figures[1].note.startswith("1 value is")
    assert all(figure.svg().startswith("<svg") for figure in figures)


def test_held_out_losses_are_drawn_beside_those_of_the_training() -> None:
    held_out: dict[str, Any] = {
        f"held_out_{name}": ("step", np.array([np.nan] * 3 + [0.5] + [np.nan] * 4 + [0.25]))
        for name in ("reconstruction_loss", "explained_variance", "l0", "dead")
    }
    sae = fabricate_concepts.sae().assign(**held_out)
    figures = {figure.title: figure.chart.to_dict() for figure in training_figures("x", sae)}
    assert list(figures)[3] == "Active concepts"
    for title in ("Reconstruction loss", "Explained variance", "Dead concepts"):
        texts = str(figures[title])
        assert "'training'" in texts
        assert "'held-out images'" in texts
        assert "'step': 8, 'value': 0.25" in texts
    assert "'training'" not in str(figures["Active concepts"])


def test_a_loss_that_is_nowhere_finite_is_an_empty_curve() -> None:
    broken = fabricate_concepts.sae().assign(reconstruction_loss=("step", np.full(9, np.inf)))
    figure = sae_parts("x", broken)[1]
    assert isinstance(figure, Figure)
    assert figure.note.startswith("9 values")


def test_accuracy_by_class_leaves_out_what_has_no_label() -> None:
    frame = class_accuracy(fabricate_concepts.network())
    assert frame.values.tolist() == [["circle", 0.5, 2], ["square", 1.0, 3]]


def test_a_network_has_numbers_and_figures() -> None:
    parts = network_parts("x", fabricate_concepts.network())
    assert isinstance(parts[0], Numbers)
    assert [number.value for number in parts[0].numbers] == ["80 %", "60 %", "6", "3", "12,345"]
    assert parts[0].numbers[0].title == "accuracy, of 5 labelled test images"
    assert [type(part) for part in parts[1:]] == [Figure, Figure]


def test_a_network_that_was_converted_shows_the_way_to_it() -> None:
    converted = fabricate_concepts.network()
    epochs = converted.sizes["pass"]
    converted = converted.assign(
        original_accuracy=0.9,
        conversion=("step", np.array(["six colours", "b 2"], dtype=object)),
        conversion_accuracy=("step", np.array([0.9, 0.2])),
        epoch_accuracy=("pass", np.linspace(0.5, 0.8, epochs)),
    )
    way, by_epoch = network_parts("x", converted)[-2:]
    assert isinstance(way, Figure)
    assert isinstance(by_epoch, Figure)
    rows = next(iter(way.chart.to_dict()["datasets"].values()))
    labels = ["the original", "then six colours", "then b 2", "fine-tuned"]
    assert {row["label"] for row in rows} == set(labels)
    assert {row["label"]: row["value"] for row in rows}["then b 2"] == 0.2
