"""A task in parts whose runs are killed: each part is written once, to the digest of one run."""

from __future__ import annotations

import random
import time
from collections.abc import Iterable

import xarray as xr

from tests.faults.children import Child, Fault, barrier
from tests.faults.conftest import Reference, Site, has_status

TASK = "artifacts/parts/HASH"
PART = Fault("os.rename", f"{TASK}/partial/output/part-N.nc")
RUN = ("factbook", "run", "parts", "--here", "--parts", "3")
N_PARTS = 4

MOMENTS = [
    PART,  # of the first part, and then of the third
    Fault("os.rename", f"{TASK}/partial/parts/00001-of-00003.json"),
    Fault(PART.call, PART.path, 2),
    Fault("os.rename", f"{TASK}/partial/output/summary.nc"),
    Fault("os.rename", f"{TASK}/partial/output/manifest.json"),
    Fault("os.symlink", f"{TASK}/.current.tmp"),
]
"""What is killed at one moment after the other: of parts, between them, and of what closes."""


def is_made_once(site: Site, reference: Reference, children: Iterable[Child]) -> None:
    """Check that the task is whole, and that no part has been written twice."""
    assert site.statuses()["parts"] == "complete"
    assert site.contents()["parts"] == reference.contents["parts"]
    xr.testing.assert_identical(site.values("parts"), reference.datasets["parts"])
    given = 0
    for child in children:
        taken = [call for call in child.calls if (call.name, call.path) == (PART.call, PART.path)]
        was_killed_there = child.was_killed and child.command.fault in (MOMENTS[0], MOMENTS[2])
        given += len(taken) - was_killed_there
    assert given == N_PARTS
    assert site.leftovers() == []


def test_killed_at_each_step_and_run_again(site: Site, reference: Reference, holds) -> None:
    children = []
    for fault in MOMENTS:
        child = site.start(*RUN, fault=fault)
        assert child.was_killed, f"{fault}\n{child.printed}"
        children.append(child)
        has_status(holds(site)["parts"], "died", "missing")
    last = site.start(*RUN)
    assert last.wait() == 0, last.printed
    assert "had finished it when it was killed" in last.printed
    is_made_once(site, reference, [*children, last])


def test_one_run_goes_on_with_what_parts_have_left(site: Site, reference: Reference) -> None:
    killed = site.start(*RUN, fault=MOMENTS[2])
    assert killed.was_killed, killed.printed
    last = site.run("parts")
    assert last.wait() == 0, last.printed
    is_made_once(site, reference, [killed, last])


def test_two_drivers_at_once_share_the_parts(site: Site, reference: Reference, trial: int) -> None:
    gate = barrier(2)
    children = [site.start(*RUN, barrier=gate) for _ in range(2)]
    for child in children:
        assert child.wait() == 0, child.printed
    is_made_once(site, reference, children)
    assert site.runs() == [("parts", "COMPLETED")] * 4


def test_a_driver_goes_on_where_another_is_killed_at_a_part(
    site: Site, reference: Reference
) -> None:
    held = Fault(PART.call, PART.path, 2, seconds=600)  # until it is killed
    first = site.start(*RUN, fault=held)
    while sum((call.name, call.path) == (PART.call, PART.path) for call in first.calls) < 2:
        assert not first.has_ended, first.printed
        time.sleep(0.02)
    second = site.start(*RUN)
    while "waiting" not in second.printed and "completed" not in second.printed:
        assert not second.has_ended, second.printed
        time.sleep(0.02)
    first.process.kill()
    assert second.wait() == 0, second.printed
    assert site.contents()["parts"] == reference.contents["parts"]
    assert {status for _, status in site.runs()} == {"COMPLETED", "DIED"}
    assert site.leftovers() == []


def test_killed_again_and_again(
    site: Site, reference: Reference, chance: random.Random, trial: int
) -> None:
    for _ in range(4):
        parts = str(chance.randint(1, 5))
        words = ("factbook", "run", "parts", "--here", "--parts", parts)
        if site.start(*words, fault=Fault(number=chance.randint(1, 60))).wait() == 0:
            break
    last = site.start(*RUN)
    assert last.wait() == 0, last.printed
    assert site.contents()["parts"] == reference.contents["parts"]
    xr.testing.assert_identical(site.values("parts"), reference.datasets["parts"])
    assert site.leftovers() == []
