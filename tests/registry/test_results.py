"""What runs found, on one line of a console."""

from __future__ import annotations

from registry.commands.results import results_text
from registry.store.schema import Schema, Variable

OF = ("of {n} {split} images", "always the commonest class: {commonest}")
FOUND = Schema(
    "found",
    1,
    "What was found",
    {
        "scale": Variable((), "float", "scale"),
        "right": Variable((), "float", "share that is right", of=OF),
        "right_before": Variable((), "float", "share before", of=OF),
        "n": Variable((), "int", "images"),
        "commonest": Variable((), "float", "share of the commonest class", optional=True),
    },
    {},
    first=("right", "right_before"),
)
RESULT = {"scale": 20.41234, "n": 100, "right": 0.9, "right_before": 0.95}


def test_what_is_asked_for_comes_first_with_what_it_is_of_once() -> None:
    assert results_text(RESULT, {"split": "test"}, FOUND, 3) == (
        "right 0.9 of 100 test images, right_before 0.95, scale 20.41"
    )
    told = results_text({**RESULT, "commonest": 0.25}, {"split": "val"}, FOUND)
    assert told == (
        "right 0.9 of 100 val images (always the commonest class: 0.25), right_before 0.95, "
        "scale 20.41, n 100, commonest 0.25"
    )


def test_of_a_stage_that_is_not_known_results_are_told_as_they_come() -> None:
    assert results_text(RESULT, {}, None, 2) == "scale 20.41, n 100"
    assert results_text({}, {}, FOUND) == ""
    assert results_text({"scale": 1.0, "odd": True}, {}, FOUND) == "scale 1, odd true"
