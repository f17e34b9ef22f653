"""Several processes that start the same task at the same moment."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
import xarray as xr

from tests.faults.children import Child, Fault, barrier
from tests.faults.conftest import Reference, Site

TASK = "artifacts/parts/HASH"


def start_together(site: Site, faults: Sequence[Fault | None], *words: str) -> list[Child]:
    """Start one child for each fault; they begin at the same moment. All must end well."""
    gate = barrier(len(faults))
    words = words or ("factbook", "run", "parts", "--here")
    children = [site.start(*words, fault=fault, barrier=gate) for fault in faults]
    for child in children:
        assert child.wait() == 0, child.printed
    return children


def all_is_whole(site: Site, reference: Reference, count: int) -> None:
    assert site.statuses()["parts"] == "complete"
    assert site.contents()["parts"] == reference.contents["parts"]
    xr.testing.assert_identical(site.values("parts"), reference.datasets["parts"])
    runs = site.runs()
    assert 1 <= len(runs) <= count
    assert set(runs) == {("parts", "COMPLETED")}
    assert site.leftovers() == []
    with site.catalog() as catalog:
        for view in catalog.runs():
            with xr.open_dataset(catalog.path(view.uid), engine="factbook") as made:
                xr.testing.assert_identical(
                    made.load().drop_attrs(), reference.datasets["parts"]
                )


@pytest.mark.parametrize(
    "words",
    [("factbook", "run", "parts", "--here"), ("tests.registry.lab.collect", "with", "parts")],
    ids=["factbook", "module"],
)
def test_each_publishes_whole(site: Site, reference: Reference, words: tuple[str, ...]) -> None:
    start_together(site, [None] * 4, *words)
    all_is_whole(site, reference, 4)


@pytest.mark.parametrize(
    "path",
    [
        f"{TASK}/task.json",
        f"{TASK}/partial/origin.json",
        f"{TASK}/partial/output/part-N.nc",
        f"{TASK}/RUN",
        f"{TASK}/current",
    ],
    ids=lambda path: path.rpartition("/")[2],
)
def test_first_starts_do_not_clear_what_a_rival_is_writing(
    site: Site, reference: Reference, path: str
) -> None:
    """Each waits between writing a file and giving it its name, one longer than the other."""
    delays = [0.03 * (1 + number) for number in range(6)]
    faults = [Fault("os.rename", path, seconds=delay) for delay in delays]
    children = start_together(site, faults)
    waited = [call for child in children for call in child.calls if call.path == path]
    assert waited, f"nobody writes {path}"
    all_is_whole(site, reference, 6)


def test_one_killed_at_the_start_does_not_hold_up_the_others(
    site: Site, reference: Reference
) -> None:
    gate = barrier(4)
    faults = [Fault("os.rename", f"{TASK}/task.json"), None, None, None]
    children = [
        site.start("factbook", "run", "parts", "--here", fault=fault, barrier=gate)
        for fault in faults
    ]
    endings = [child.wait() for child in children]
    assert endings[1:] == [0, 0, 0], [child.printed for child in children]
    site.factbook("run", "parts", "--force", "--here")
    assert site.contents()["parts"] == reference.contents["parts"]
    assert site.leftovers() == []


def test_random_delays(
    site: Site, reference: Reference, chance: random.Random, trial: int
) -> None:
    calls = [call for call in reference.calls["parts"] if call.path.startswith(TASK)]
    faults = [
        Fault(call.name, call.path, number=0, seconds=chance.uniform(0, 0.1))
        for call in (chance.choice(calls) for _ in range(6))
    ]
    start_together(site, faults)
    all_is_whole(site, reference, 6)
