"""Several processes that start the same task at the same moment."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
import xarray as xr

from tests.faults.children import Child, Fault, barrier
from tests.faults.conftest import Reference, Site

TASK = "artifacts/twice/HASH"
RUN = ("factbook", "run", "twice", "--here")


def start_together(
    site: Site, faults: Sequence[Fault | None], words: tuple[str, ...] = RUN
) -> list[Child]:
    """Start one child for each fault; they begin at the same moment, and have ended."""
    gate = barrier(len(faults))
    children = [site.start(*words, fault=fault, barrier=gate) for fault in faults]
    for child in children:
        child.wait()
    return children


def all_went_well(site: Site, reference: Reference, name: str, children: list[Child]) -> None:
    """Check that every run that began is whole, and that nothing is left of any."""
    for child in children:
        assert child.wait() == 0, child.printed
    assert site.statuses()[name] == "complete"
    assert site.contents()[name] == reference.contents[name]
    runs = site.runs()
    assert 1 <= len(runs) <= len(children)
    assert set(runs) == {(name, "COMPLETED")}
    assert site.leftovers() == []
    with site.catalog() as catalog:
        folders = [catalog.path(view.uid) for view in catalog.runs()]
    for folder in folders:
        with xr.open_dataset(folder, engine="factbook") as made:
            xr.testing.assert_identical(made.load().drop_attrs(), reference.datasets[name])


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("parts", ("factbook", "run", "parts", "--here")),
        ("training", ("tests.faults.descend", "with", "training")),
    ],
)
def test_each_publishes_whole(
    site: Site, reference: Reference, name: str, words: tuple[str, ...]
) -> None:
    all_went_well(site, reference, name, start_together(site, [None] * 4, words))


@pytest.mark.parametrize("file", ["task.json", "partial/output/dataset.nc", "RUN", "current"])
def test_nobody_clears_what_a_rival_is_writing(site: Site, reference: Reference, file: str) -> None:
    """Each waits before it gives a file its name, one longer than the other."""
    delays = [0.05 * number for number in range(5)]
    faults = [Fault("os.rename", f"{TASK}/{file}", seconds=delay) for delay in delays]
    children = start_together(site, faults)
    assert any(call.path == f"{TASK}/{file}" for child in children for call in child.calls)
    all_went_well(site, reference, "twice", children)


def test_one_killed_at_its_start_does_not_hold_up_the_others(
    site: Site, reference: Reference
) -> None:
    killed = Fault("os.rename", f"{TASK}/partial/origin.json")
    first, *others = start_together(site, [killed, None, None])
    assert [child.wait() for child in others] == [0, 0], [child.printed for child in others]
    assert first.was_killed or first.wait() == 0
    site.factbook("run", "twice", "--force", "--here")
    assert site.contents()["twice"] == reference.contents["twice"]
    assert site.leftovers() == []


def test_random_delays(site: Site, reference: Reference, chance: random.Random, trial: int) -> None:
    calls = [call for call in reference.calls["twice"] if call.path.startswith(TASK)]
    faults = [
        Fault(call.name, call.path, number=0, seconds=chance.uniform(0, 0.2))
        for call in (chance.choice(calls) for _ in range(5))
    ]
    all_went_well(site, reference, "twice", start_together(site, faults))
