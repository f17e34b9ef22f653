"""Drivers that are killed while their jobs are in the queue: each task is run once all the same."""

from __future__ import annotations

import os
import random
import signal
import time

import pytest

from tests.clusters.conftest import Place
from tests.faults.children import Fault
from tests.faults.conftest import has_status

MOMENTS = {
    "before anything is written": Fault("os.rename", ".factbook/jobs/RUN/batch.json"),
    "before it is submitted": Fault("open", ".factbook/jobs/RUN/.submission_file_HASH.sh"),
    "before its number is noted": Fault("os.rename", ".factbook/jobs/RUN/id"),
}


@pytest.mark.parametrize("moment", list(MOMENTS))
def test_what_a_killed_driver_had_submitted_is_found(place: Place, moment: str) -> None:
    driver = place.start("mean", fault=MOMENTS[moment])
    assert driver.was_killed, driver.printed
    place.end(place.start("mean"))
    assert place.statuses("twice") == place.statuses("mean") == ["COMPLETED"]
    assert place.complete("mean") == {"complete"}
    assert not place.tickets()


def test_drivers_that_are_killed_at_any_moment_lose_nothing(
    place: Place, chance: random.Random, trial: int
) -> None:
    for _ in range(2):
        driver = place.start("mean", "sweep")
        time.sleep(chance.uniform(0.5, 8.0))
        os.kill(driver.process.pid or 0, signal.SIGKILL)
        driver.wait()
    place.ends(place.start("mean", "sweep"), 0)
    assert place.complete("mean", "sweep") == {"complete"}
    cells = [cell for cell, status in place.site.runs()]
    assert sorted(cells) == sorted(set(cells))
    has_status({status for _, status in place.site.runs()}, {"COMPLETED"})
    assert not place.tickets()


def test_a_driver_whose_terminal_is_closed_leaves_its_jobs(place: Place) -> None:
    driver = place.start("long")
    place.until(lambda: place.statuses("long") == ["RUNNING"])
    os.kill(driver.process.pid or 0, signal.SIGHUP)
    assert "its job goes on" in place.end(driver, 130)
    assert place.statuses("long") == ["RUNNING"]
    place.end(place.start("long"))
    assert place.statuses("long") == ["COMPLETED"]
