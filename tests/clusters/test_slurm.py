"""Tasks on a real Slurm, whose jobs, nodes, daemons and drivers end when nobody expects it."""

from __future__ import annotations

import os
import re
import signal
import sys

from tests.clusters.conftest import Place


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


def test_an_interrupted_driver_ends_its_jobs(place: Place) -> None:
    driver = place.start("long", "parts")
    place.until(lambda: place.statuses("long") == place.statuses("parts") == ["RUNNING"])
    os.kill(driver.process.pid or 0, signal.SIGINT)
    place.end(driver, 130)
    assert place.statuses("long") == place.statuses("parts") == ["INTERRUPTED"]


def test_a_job_that_somebody_cancels_is_not_begun_again(place: Place) -> None:
    driver = place.start("long")
    place.until(lambda: place.statuses("long") == ["RUNNING"])
    place.slurm.ask("scancel", "--name=long")
    assert "interrupted" in place.end(driver, 130)
    assert place.statuses("long") == ["INTERRUPTED"]


def test_a_run_that_is_interrupted_by_somebody_else_s_signal_begins_again(place: Place) -> None:
    """Slurm gives no reason: a node that shuts down, or a step that ends as it is preempted."""
    driver = place.start("parts")
    place.until(lambda: list(place.root.glob("artifacts/parts/*/partial/output/part-000001.nc")))
    place.slurm.ask("scancel", "--batch", "--signal=TERM", "--name=parts")
    printed = place.end(driver)
    assert place.statuses("parts") == ["INTERRUPTED", "COMPLETED"], printed
    assert place.resumed("parts") > 0


def test_what_is_preempted_is_requeued_and_resumes(place: Place) -> None:
    driver = place.start("parts")
    place.until(lambda: list(place.root.glob("artifacts/parts/*/partial/output/part-000001.nc")))
    other = place.slurm.submit("sleep 600", "-p", "high", "-N2", "-c2")
    place.until(lambda: place.statuses("parts") == ["INTERRUPTED"])
    place.slurm.ask("scancel", other)
    place.end(driver)
    assert place.statuses("parts") == ["INTERRUPTED", "COMPLETED"]
    assert place.resumed("parts") > 0


def test_a_time_limit_is_told_early_and_the_run_begins_again(place: Place) -> None:
    place.declare('[resources.parts]\ntime = "1 min"\n')
    place.edit('poll = "1 s"', 'poll = "1 s"\nnotice = "50 s"\nrequeues = 20')
    place.edit("n_parts = 8", "n_parts = 100")  # Slurm looks every 30 seconds
    printed = place.end(place.start("parts"))
    *before, last = place.statuses("parts")
    assert set(before) == {"INTERRUPTED"}, printed
    assert last == "COMPLETED"
    assert place.resumed("parts") > 0


def test_a_run_begins_again_as_often_as_declared(place: Place) -> None:
    place.declare('[resources.long]\ntime = "1 min"\n')
    place.edit('poll = "1 s"', 'poll = "1 s"\nnotice = "55 s"\nrequeues = 1')
    place.edit("sleep = 25.0", "sleep = 100.0")
    printed = place.end(place.start("long"), 130)
    assert "interrupted 2 times, with requeues = 1" in printed
    assert place.statuses("long") == ["INTERRUPTED"] * 2


def test_a_run_that_takes_too_much_memory_has_failed(place: Place) -> None:
    place.declare('[resources.long]\nmemory = "30 MB"\n')
    printed = place.end(place.start("long"), 1)
    assert re.search(r"job \d+ of slurm ended as (FAILED|OUT_OF_MEMORY)", printed)
    assert "memory" in printed
    assert set(place.statuses("long")) <= {"DIED"}


def test_a_job_that_does_not_begin_says_why(place: Place) -> None:
    place.slurm.ask("scontrol", "update", "nodename=n1,n2", "state=drain", "reason=broken fan")
    driver = place.start("twice")
    place.until(lambda: "waits in slurm" in driver.printed)
    reasons = r"waits in slurm, job \d+: (ReqNodeNotAvail|.*DRAINED)"  # before and after a look
    place.until(lambda: re.search(reasons, driver.printed))
    assert re.search(reasons, place.factbook("status", "twice"))
    place.slurm.ask("scontrol", "update", "nodename=n1,n2", "state=resume")
    place.end(driver)


def test_a_lost_node_is_survived(place: Place) -> None:
    driver = place.start("parts")
    place.until(lambda: list(place.root.glob("artifacts/parts/*/partial/output/part-000001.nc")))
    node = place.slurm.ask("squeue", "-h", "--name=parts", "-o", "%N")
    place.slurm.lose(node)
    place.until(lambda: place.statuses("parts") == ["DIED"], 5)
    place.end(driver)
    assert place.statuses("parts") == ["DIED", "COMPLETED"]
    assert place.resumed("parts") > 0


def test_of_a_step_that_outlives_its_daemon_and_the_next_attempt_one_publishes(
    place: Place,
) -> None:
    place.edit("sleep = 25.0", "sleep = 75.0")  # Slurm misses a daemon after 30 seconds and more
    driver = place.start("long")
    place.until(lambda: place.statuses("long") == ["RUNNING"])
    node = place.slurm.ask("squeue", "-h", "--name=long", "-o", "%N")
    place.slurm.kill(node)
    place.until(
        lambda: place.slurm.ask("squeue", "-h", "--name=long", "-o", "%N") not in ("", node)
    )
    place.end(driver)
    assert place.statuses("long") == ["COMPLETED"]


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
