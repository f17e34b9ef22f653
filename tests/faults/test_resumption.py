"""Killed on the way and run again: the same bits as if it had never been stopped."""

from __future__ import annotations

import random

import pytest
import xarray as xr

from tests.faults.children import Call, Fault
from tests.faults.conftest import Reference, Site

OUTPUT = "artifacts/parts/HASH/partial/output"
STEPS = {
    "parts": Fault("os.rename", f"{OUTPUT}/part-N.nc"),
    "training": Fault("os.rename", "artifacts/training/HASH/partial/state.HASH.npz"),
}
MODULES = {"parts": "tests.registry.lab.collect", "training": "tests.faults.descend"}


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
    taken = reference.calls[name].count(Call(step.call, step.path))
    assert last.calls.count(Call(step.call, step.path)) == taken - 2 - 1
    with site.catalog() as catalog:
        curve = catalog.metrics(catalog.run(name))["resumed"]
    assert curve["values"] == [3], "whole steps before the two kills"
    assert site.contents()[name] == reference.contents[name]
    xr.testing.assert_identical(site.values(name), reference.datasets[name])
    assert site.runs() == [(name, "DIED"), (name, "DIED"), (name, "COMPLETED")]
    assert site.leftovers() == []


def test_killed_again_and_again(
    site: Site, reference: Reference, chance: random.Random, trial: int
) -> None:
    name = chance.choice(sorted(STEPS))
    for _ in range(4):
        number = chance.randint(1, len(reference.calls[name]) // 2)
        if site.run(name, fault=Fault(number=number)).wait() == 0:
            break
    site.factbook("run", name, "--here")
    assert site.contents()[name] == reference.contents[name]
