"""Killed on the way and run again: the same bits as if it had never been stopped."""

from __future__ import annotations

import random

import pytest
import xarray as xr

from tests.faults.children import Fault
from tests.faults.conftest import Reference, Site

OUTPUT = "artifacts/parts/HASH/partial/output"
STEPS = {
    "parts": Fault("os.rename", f"{OUTPUT}/part-N.nc"),
    "training": Fault("os.rename", "artifacts/training/HASH/partial/state.npz"),
}
MODULES = {"parts": "tests.registry.lab.collect", "training": "tests.faults.descend"}


def resumed_at(site: Site) -> list[int]:
    """How far the run before each had come, oldest first."""
    with site.catalog() as catalog:
        curves = [catalog.metrics(view) for view in reversed(catalog.runs())]
    return [int(curve["resumed"]["values"][0]) for curve in curves if "resumed" in curve]


@pytest.mark.parametrize("name", STEPS)
@pytest.mark.parametrize("door", ["factbook", "module"])
def test_it_goes_on_where_it_was_killed(
    site: Site, reference: Reference, name: str, door: str
) -> None:
    words = {
        "factbook": ("factbook", "run", name, "--here"),
        "module": (MODULES[name], "with", name),
    }[door]
    step = STEPS[name]
    for number in (3, 2):
        child = site.start(*words, fault=Fault(step.call, step.path, number))
        assert child.was_killed, child.printed
        assert site.statuses()[name] == "died"
    last = site.start(*words)
    assert last.wait() == 0, last.printed
    assert resumed_at(site) == [0, 2, 3], "whole steps before the kills"
    assert site.contents()[name] == reference.contents[name]
    xr.testing.assert_identical(site.values(name), reference.datasets[name])
    assert site.runs() == [(name, "DIED"), (name, "DIED"), (name, "COMPLETED")]
    assert site.leftovers() == []


def test_killed_again_and_again(
    site: Site, reference: Reference, chance: random.Random, trial: int
) -> None:
    name = chance.choice(sorted(STEPS))
    for _ in range(5):
        number = chance.randint(1, len(reference.calls[name]) // 2)
        if site.run(name, fault=Fault(number=number)).wait() == 0:
            break
    site.factbook("run", name, "--here")
    assert resumed_at(site) == sorted(resumed_at(site))
    assert site.contents()[name] == reference.contents[name]
