"""Tasks on a real Slurm, whose jobs, nodes, daemons and drivers end when nobody expects it."""

from __future__ import annotations

import os
import random
import re
import signal
import sys
import time
from contextlib import suppress

from tests.clusters.conftest import Place
from tests.faults.conftest import has_status


def test_tasks_run_as_jobs_and_cells_as_one_array(place: Place) -> None:
    printed = place.run("mean", "sweep")
    assert place.complete("mean", "sweep") == {"complete"}, printed
    jobs = [line.split("|") for line in place.slurm.ask(*SQUEUE).splitlines()]
    own = [(array, name) for array, name, folder in jobs if folder == str(place.root)]
    arrays = {array for array, name in own if name == "twice"}
    assert len(own) == 6
    assert len(arrays) == 1
    with place.site.catalog() as catalog:
        assert "scaling by 2.0" in catalog.console(catalog.run("twice"))


SQUEUE = ("squeue", "-h", "-r", "-t", "all", "-o", "%F|%j|%Z")


def test_a_run_that_fails_says_why(place: Place) -> None:
    place.edit("sleep = 25.0", 'then = "fail"')
    printed = place.run("long", status=1)
    assert "RuntimeError: asked to fail" in printed
    assert place.statuses("long") == ["FAILED"]


def test_an_interrupted_driver_ends_its_jobs(
    place: Place, chance: random.Random, trial: int
) -> None:
    driver = place.start("long", "parts")
    place.moment(chance)
    os.kill(driver.process.pid or 0, chance.choice([signal.SIGINT, signal.SIGTERM]))
    place.ends(driver, 130)
    for name in ("long", "parts"):
        has_status(place.statuses(name), [], ["INTERRUPTED"], ["COMPLETED"], why=driver.printed)
    assert not place.tickets()
    place.end(place.start("parts"))
    place.is_made_once("parts", "INTERRUPTED")


def test_an_interrupted_driver_ends_an_array_that_never_began(place: Place) -> None:
    place.edit('poll = "1 s"', 'poll = "1 s"\noptions = { hold = true }')
    driver = place.start("sweep")
    place.until(lambda: "waits in slurm" in driver.printed)
    os.kill(driver.process.pid or 0, signal.SIGINT)
    printed = place.end(driver, 130)
    assert "failed" not in printed
    assert "before it began" in printed


def test_a_job_that_somebody_cancels_is_not_begun_again(
    place: Place, chance: random.Random, trial: int
) -> None:
    driver = place.start("parts")
    place.moment(chance)
    place.slurm.ask("scancel", "--name=parts")
    is_made = place.ends(driver, 0, 130) == 0
    expected = [["COMPLETED"]] if is_made else [[], ["INTERRUPTED"]]
    has_status(place.statuses("parts"), *expected, why=driver.printed)
    place.end(place.start("parts"))
    place.is_made_once("parts", "INTERRUPTED")


def test_a_run_that_is_interrupted_by_somebody_else_s_signal_begins_again(
    place: Place, chance: random.Random, trial: int
) -> None:
    """Slurm gives no reason: a node that shuts down, or a step that ends as it is preempted."""
    driver = place.start("parts")
    place.until(lambda: place.node_of("parts"))
    place.moment(chance)
    had_part = place.has_part()
    with suppress(RuntimeError):  # it has ended
        place.slurm.ask("scancel", "--batch", "--signal=TERM", "--name=parts")
    place.ends(driver, 0)
    place.is_made_once("parts", "INTERRUPTED")
    if len(place.statuses("parts")) > 1 and had_part:
        assert place.resumed("parts") > 0


def test_what_is_preempted_is_requeued_and_resumes(
    place: Place, chance: random.Random, trial: int
) -> None:
    driver = place.start("parts")
    place.moment(chance)
    had_part = place.has_part()
    other = place.slurm.submit("sleep 600", "-p", "high", "-N2", "-c2")
    place.until(lambda: driver.has_ended or place.slurm.state(other) == "RUNNING")
    time.sleep(chance.uniform(0.0, 2.0))
    place.slurm.ask("scancel", other)
    place.ends(driver, 0)
    place.is_made_once("parts", "INTERRUPTED")
    if len(place.statuses("parts")) > 1 and had_part:
        assert place.resumed("parts") > 0


def test_a_time_limit_is_told_early_and_the_run_begins_again(
    place: Place, chance: random.Random, trial: int
) -> None:
    place.declare('[resources.parts]\ntime = "1 min"\n')
    notice = f'notice = "{chance.randint(45, 52)} s"'  # and Slurm looks every 30 seconds
    place.edit('poll = "1 s"', f'poll = "1 s"\n{notice}\nrequeues = 20')
    place.edit(
        "n_parts = 8, part_size = 4, sleep = 0.5", "n_parts = 20, part_size = 4, sleep = 2.5"
    )
    place.ends(place.start("parts"), 0)
    place.is_made_once("parts", "INTERRUPTED")
    assert len(place.statuses("parts")) > 1
    assert place.resumed("parts") > 0


def test_a_run_begins_again_as_often_as_declared(place: Place) -> None:
    place.declare('[resources.long]\ntime = "1 min"\n')
    place.edit('poll = "1 s"', 'poll = "1 s"\nnotice = "55 s"\nrequeues = 1')
    place.edit("sleep = 25.0", "sleep = 100.0")
    printed = place.end(place.start("long"), 130)
    assert "interrupted 2 times, with requeues = 1" in printed
    runs = place.statuses("long")  # none of an attempt that is told before its run begins
    assert set(runs) <= {"INTERRUPTED"}
    assert len(runs) <= 2


def test_a_run_that_takes_too_much_memory_has_failed(
    place: Place, chance: random.Random, trial: int
) -> None:
    place.declare(f'[resources.long]\nmemory = "{chance.randint(10, 60)} MB"\n')
    driver = place.start("long")
    place.ends(driver, 1)
    assert re.search(r"job \d+ of slurm ended as (FAILED|OUT_OF_MEMORY)", driver.printed)
    assert "memory" in driver.printed
    has_status(set(place.statuses("long")) - {"DIED"}, set(), why=driver.printed)


def test_a_job_that_does_not_begin_says_why(place: Place) -> None:
    place.slurm.ask("scontrol", "update", "nodename=n1,n2", "state=drain", "reason=broken fan")
    driver = place.start("twice")
    place.until(lambda: "waits in slurm" in driver.printed)
    reasons = r"waits in slurm, job \d+: (ReqNodeNotAvail|.*DRAINED)"  # before and after a look
    place.until(lambda: re.search(reasons, driver.printed))
    assert re.search(reasons, place.factbook("status", "twice"))
    place.slurm.ask("scontrol", "update", "nodename=n1,n2", "state=resume")
    place.end(driver)


def test_a_lost_node_is_survived(place: Place, chance: random.Random, trial: int) -> None:
    driver = place.start("parts")
    place.until(lambda: place.node_of("parts"))
    place.moment(chance)
    had_part, began = place.has_part(), place.statuses("parts") == ["RUNNING"]
    if node := place.node_of("parts"):
        place.slurm.lose(node)
    if began and place.statuses("parts") != ["COMPLETED"]:
        place.until(lambda: place.statuses("parts") in (["DIED"], ["COMPLETED"]), 5)
    place.ends(driver, 0)
    place.is_made_once("parts", "DIED")
    if len(place.statuses("parts")) > 1 and had_part:
        assert place.resumed("parts") > 0


def test_of_a_step_that_outlives_its_daemon_and_the_next_attempt_one_publishes(
    place: Place, chance: random.Random, trial: int
) -> None:
    place.edit("sleep = 25.0", "sleep = 75.0")  # Slurm misses a daemon after 30 seconds and more
    driver = place.start("long")
    place.until(lambda: place.statuses("long") == ["RUNNING"])
    time.sleep(chance.uniform(0.0, 20.0))
    node = place.node_of("long")
    place.slurm.kill(node)
    place.until(lambda: place.node_of("long") not in ("", node))
    place.ends(driver, 0)
    place.is_made_once("long")


def test_slurm_s_controller_is_away_for_a_while(
    place: Place, chance: random.Random, trial: int
) -> None:
    driver = place.start("parts")
    time.sleep(chance.uniform(0.0, 9.0))
    place.slurm.kill("slurmctld")
    time.sleep(chance.uniform(0.0, 6.0))
    place.slurm.start("slurmctld")
    place.ends(driver, 0)
    place.is_made_once("parts", "DIED", "INTERRUPTED")  # of a job that it had not written down


def test_a_node_is_drained_while_it_runs_a_job(
    place: Place, chance: random.Random, trial: int
) -> None:
    driver = place.start("parts")
    place.moment(chance)
    place.slurm.ask("scontrol", "update", "nodename=n1,n2", "state=drain", "reason=broken fan")
    time.sleep(chance.uniform(0.0, 4.0))
    place.slurm.ask("scontrol", "update", "nodename=n1,n2", "state=resume")
    place.ends(driver, 0)
    place.is_made_once("parts")


def test_the_process_of_a_job_is_killed(place: Place, chance: random.Random, trial: int) -> None:
    driver = place.start("parts")
    place.until(lambda: place.node_of("parts"))
    place.moment(chance)
    with suppress(RuntimeError):  # it has ended
        place.slurm.ask("scancel", "--batch", "--signal=KILL", "--name=parts")
    is_made = place.ends(driver, 0, 1) == 0
    expected = [["COMPLETED"]] if is_made else [[], ["DIED"]]
    has_status(place.statuses("parts"), *expected, why=driver.printed)
    place.end(place.start("parts"))
    place.is_made_once("parts", "DIED")


def test_a_file_system_that_is_not_shared_is_told(place: Place) -> None:
    hide = f"mount -t tmpfs none {place.root}/.factbook"
    python = f"""unshare -m sh -c '{hide}; exec {sys.executable} \\"$@\\"' sh"""
    place.edit('poll = "1 s"', f'poll = "1 s"\npython = "{python}"')
    printed = place.end(place.start("twice"), 1)
    assert "left no trace of a run" in printed
    assert "whatever runs jobs needs the folder" in printed


def test_parts_of_a_task_are_an_array(place: Place) -> None:
    driver = place.start("parts", "--parts", "3")
    place.end(driver)
    names = [line.split("|")[1:] for line in place.slurm.ask(*SQUEUE).splitlines()]
    assert names.count(["parts", str(place.root)]) == 4  # and what closes the dataset
    assert place.complete("parts") == {"complete"}
