"""Several processes that start the same task at the same moment."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence

import pytest
import xarray as xr

from tests.faults.children import Child, Fault, barrier
from tests.faults.conftest import Reference, Site, has_status

TASK = "artifacts/twice/HASH"
RUN = ("factbook", "run", "twice", "--here")
STATE = Fault("os.rename", "artifacts/training/HASH/partial/state.HASH.npz")


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
    has_status(set(runs), {(name, "COMPLETED")})
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
        ("training", ("tests.faults.descend", "with", "training", "--repeat")),
    ],
)
def test_each_publishes_whole(
    site: Site, reference: Reference, name: str, words: tuple[str, ...]
) -> None:
    all_went_well(site, reference, name, start_together(site, [None] * 4, words))


def test_a_task_that_is_started_several_times_at_once_is_made_once(
    site: Site, reference: Reference, trial: int
) -> None:
    children = start_together(site, [None] * 3, ("factbook", "run", "training", "--here"))
    all_went_well(site, reference, "training", children)
    assert site.runs() == [("training", "COMPLETED")]
    [maker] = [child for child in children if "training  completed" in child.printed]
    for child in children:
        if child is not maker:
            assert "has made it" in child.printed or "nothing to run" in child.printed


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (("factbook", "run", "training", "--here", "--busy", "skip"), 1),
        (("tests.faults.descend", "with", "training"), 1),
        (("factbook", "run", "training", "--here", "--busy", "repeat"), 0),
    ],
    ids=["skip", "module", "repeat"],
)
def test_who_comes_second_does_as_asked(
    site: Site, reference: Reference, words: tuple[str, ...], status: int
) -> None:
    free = site.root.parent / "free"
    held = Fault(STATE.call, STATE.path, 3, seconds=120, until=free)
    first = site.start("factbook", "run", "training", "--here", fault=held)
    while not list(site.root.glob(".factbook/journal/*/progress.json")):
        assert not first.has_ended, first.printed
        time.sleep(0.02)
    second = site.start(*words)
    assert second.wait() == status, second.printed
    assert ("is at " in second.printed) == bool(status)
    assert "Traceback" not in second.printed
    free.touch()
    assert first.wait() == 0, first.printed
    assert set(site.runs()) == {("training", "COMPLETED")}
    assert len(site.runs()) == (1 if status else 2)
    assert site.contents()["training"] == reference.contents["training"]


def test_who_waits_takes_over_from_one_that_is_killed(site: Site, reference: Reference) -> None:
    held = Fault(STATE.call, STATE.path, 6, seconds=120)  # until it is killed
    first = site.start("factbook", "run", "training", "--here", fault=held)
    while not list(site.root.glob(".factbook/journal/*/progress.json")):
        assert not first.has_ended, first.printed
        time.sleep(0.02)
    second = site.start("factbook", "run", "training", "--here")
    while "waiting" not in second.printed:
        assert not second.has_ended, second.printed
        time.sleep(0.02)
    first.process.kill()
    assert second.wait() == 0, second.printed
    assert site.runs() == [("training", "DIED"), ("training", "COMPLETED")]
    assert site.contents()["training"] == reference.contents["training"]


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
