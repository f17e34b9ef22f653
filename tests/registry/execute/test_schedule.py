"""Plans that run: in order, side by side, past failures; interrupted and killed."""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path
from typing import Any

import pytest

from registry.declare.faults import StageError
from registry.execute import workers
from registry.execute.resolved import planned_task
from registry.execute.runner import RUNNER_GROUP, Job, Progress, Runner, TaskOutcome, open_runner
from registry.execute.schedule import Watcher, run_plan
from registry.mongo import server
from registry.mongo.database import URL_VARIABLE, connect
from registry.mongo.queries import find_metrics, find_run
from registry.plan.project import Project, open_project
from registry.plan.task import Task
from registry.record.journal import journal_root, journal_uids, new_uid, read_journal
from registry.record.liveness import create_time, journal_status
from registry.record.states import State
from registry.store.datasets import open_dataset
from tests import forked
from tests.forked import PROGRAM, Forked
from tests.registry.conftest import Lab
from tests.registry.lab import average
from tests.registry.lab.project import edit, write_project

TROUBLE = """
[experiments.failing]
stage = "tests.registry.lab.scale"
needs = { numbers = "few" }
config = { factor = 3.0, then = "fail" }

[experiments.failing-mean]
stage = "tests.registry.lab.average"
needs = { scaled = "failing" }

[experiments.dying]
stage = "tests.registry.lab.scale"
needs = { numbers = "few" }
config = { factor = 4.0, then = "die" }

[experiments.slow]
stage = "tests.registry.lab.scale"
needs = { numbers = "few" }
config = { factor = 5.0, sleep = 1.0 }

[experiments.slow-too]
stage = "tests.registry.lab.scale"
needs = { numbers = "few" }
config = { factor = 6.0, sleep = 1.0 }

[experiments.endless]
stage = "tests.registry.lab.scale"
needs = { numbers = "few" }
config = { factor = 7.0, sleep = 600.0 }

[experiments.endless-mean]
stage = "tests.registry.lab.average"
needs = { scaled = "endless" }

[experiments.parts]
stage = "tests.registry.lab.collect"
needs = { numbers = "few" }
"""


class Listener(Watcher):
    """Writes down what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []
        self.progress: list[Progress] = []

    def started(self, task: Task, uid: str) -> None:
        self.told.append(("started", task.name))

    def progressed(self, task: Task, progress: Progress) -> None:
        self.progress.append(progress)

    def ended(self, task: Task, outcome: TaskOutcome) -> None:
        self.told.append((str(outcome.ending), task.name))


@pytest.fixture
def troubled(fresh: Path) -> Project:
    write_project(fresh, TROUBLE)
    return open_project(fresh)


def run(
    project: Project, *targets: str, force: bool = False, **options: Any
) -> dict[str, TaskOutcome]:
    outcomes = run_plan(project, project.plan(targets, force=force), **options)
    return {outcome.name: outcome for outcome in outcomes}


def status(project: Project, name: str) -> State:
    return project.plan([name]).task(name).state.status


# -- in this process --------------------------------------------------------------------------


@pytest.mark.slow
def test_tasks_run_after_what_they_need_and_somebody_is_told(fresh: Path) -> None:
    listener = Listener()
    outcomes = run(open_project(fresh), "mean", runner="here", watcher=listener)
    assert listener.told == [
        ("started", "twice"),
        ("completed", "twice"),
        ("started", "mean"),
        ("completed", "mean"),
    ]
    assert [outcomes[name].ending for name in outcomes] == [State.COMPLETED] * 2
    for outcome in outcomes.values():
        assert outcome.recorded
        assert outcome.seconds > 0
        assert read_journal(journal_root(fresh) / str(outcome.uid)).status == "COMPLETED"


@pytest.mark.slow
def test_a_failure_blocks_what_needs_it_and_nothing_else(troubled: Project) -> None:
    targets = ("failing", "failing-mean", "twice")
    outcomes = run(troubled, *targets, runner="here")
    assert outcomes["failing"].ending is State.FAILED
    assert outcomes["failing"].message == "RuntimeError: asked to fail"
    assert outcomes["failing-mean"] == TaskOutcome(
        "failing-mean", State.BLOCKED, message="needs failing"
    )
    assert outcomes["twice"].ending is State.COMPLETED
    assert status(troubled, "failing") is State.FAILED
    assert "failed in run" in troubled.plan(["failing"]).task("failing").reason


@pytest.mark.slow
@pytest.mark.parametrize(
    ("then", "runner"), [("exit", "here"), ("exit", "workers"), ("vanish", "workers")]
)
def test_a_stage_that_ends_its_process_has_failed(fresh: Path, then: str, runner: str) -> None:
    old = 'scale"\nneeds = { numbers = "few" }\n\n[experiments.mean]'
    project = edit(fresh, old, old.replace("\n\n", f'\nconfig = {{ then = "{then}" }}\n\n'))
    outcome = run(project, "twice", runner=runner)["twice"]
    assert outcome.ending is State.FAILED
    told = {
        "exit": "StageError: the stage ended the process, status 0",
        "vanish": "the process ended with status 1",
    }
    assert outcome.message.startswith(told[then])
    assert project.plan(["twice"]).due


@pytest.mark.slow
def test_a_complete_task_runs_again_only_by_force(fresh: Path) -> None:
    project = open_project(fresh)
    first = run(project, "twice", runner="here")["twice"].uid
    assert run(project, "twice", runner="here") == {}
    second = run(project, "twice", force=True, runner="here")["twice"].uid
    assert first != second
    assert project.current("twice").name == second
    folder = project.current("twice").parent
    assert (folder / str(first) / "dataset.nc").is_file()


DESCRIPTIONS = """
[experiments.of-numbers]
stage = "tests.registry.lab.describe"
needs = { told = "twice" }

[experiments.of-mean]
stage = "tests.registry.lab.describe"
needs = { told = "mean", beside = "mean" }
"""


@pytest.mark.slow
def test_a_slot_takes_what_fits_and_an_optional_one_may_stay_empty(fresh: Path) -> None:
    project = open_project(write_project(fresh, DESCRIPTIONS))
    assert all(outcome.is_good for outcome in run(project, "of-*", runner="here").values())
    found = {name: open_dataset(project.current(name)) for name in ("of-numbers", "of-mean")}
    told = {name: (float(d["largest"]), int(d["others"])) for name, d in found.items()}
    assert told == {"of-numbers": (7.0, 0), "of-mean": (pytest.approx(13 / 3), 1)}


@pytest.mark.slow
def test_filling_an_optional_slot_makes_another_result(fresh: Path) -> None:
    project = open_project(write_project(fresh, DESCRIPTIONS))
    run(project, "of-numbers", runner="here")
    project = edit(fresh, '{ told = "twice" }', '{ told = "twice", beside = "mean" }')
    task = project.plan(["of-numbers"]).task("of-numbers")
    assert task.reason == "input beside changed (mean is new here)"


@pytest.mark.slow
def test_a_task_goes_on_by_its_journal_while_the_database_is_away(
    fresh: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(URL_VARIABLE, "mongodb://me:s3cret@127.0.0.1:1")
    outcome = run(open_project(fresh), "twice", runner="here")["twice"]
    assert outcome.ending is State.COMPLETED
    assert not outcome.recorded
    [uid] = journal_uids(fresh)
    assert read_journal(journal_root(fresh) / uid).result == outcome.result == {"total": 13.0}


@pytest.mark.parametrize(("busy", "ending"), [("wait", "unchanged"), ("repeat", "completed")])
def test_what_another_process_has_made_since_the_plan(fresh: Path, busy: Any, ending: str) -> None:
    project = open_project(fresh)
    plan = project.plan(["twice"])
    run(project, "twice", runner="here", journal_only=True)
    [outcome] = run_plan(project, plan, runner="here", journal_only=True, busy=busy)
    assert str(outcome.ending) == ending


class Other(Watcher):
    """Another process that holds a task, and has no journal yet, until it is waited for."""

    def __init__(self, project: Project, task: Task):
        self.attempt = planned_task(project, task).begin(project.store, new_uid())
        self.begun_runs: list[str] = []

    def begun(self, task: Task, uid: str) -> None:
        self.begun_runs.append(uid)

    def waits(self, task: Task, run: str) -> None:
        assert run == self.attempt.uid
        self.attempt.close()


@pytest.mark.parametrize(("busy", "ending"), [("skip", "blocked"), ("wait", "completed")])
def test_a_task_is_held_before_its_run_has_a_journal(fresh: Path, busy: Any, ending: str) -> None:
    project = open_project(fresh)
    plan = project.plan(["twice"])
    other = Other(project, plan.task("twice"))
    [outcome] = run_plan(project, plan, runner="here", journal_only=True, busy=busy, watcher=other)
    assert str(outcome.ending) == ending
    assert other.begun_runs == ([outcome.uid] if busy == "wait" else [])
    other.attempt.close()


def test_an_input_that_vanishes_blocks_its_task(
    fresh: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = open_project(fresh)
    run(project, "twice", runner="here")
    plan = project.plan(["mean"])
    (project.current("twice") / "manifest.json").unlink()
    [outcome] = run_plan(project, plan, runner="here")
    assert outcome.ending is State.BLOCKED
    assert "scaled: 'twice' is damaged (manifest.json is missing)" in outcome.message


@pytest.mark.slow
def test_code_that_vanishes_in_a_suite_fails_its_own_task_with_what_to_do(
    fresh: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    folder = tmp_path / "going"
    folder.mkdir()
    (folder / "__init__.py").touch()
    text = Path(average.__file__).read_text().replace(average.__name__, "going.soon")
    (folder / "soon.py").write_text(text)
    needs = 'stage = "going.soon"\nneeds = { scaled = "twice" }\n'
    write_project(fresh, f"\n[experiments.soon]\n{needs}")
    project = open_project(fresh)

    class Removing(Listener):
        def ended(self, task: Task, outcome: TaskOutcome) -> None:
            (folder / "soon.py").unlink(missing_ok=True)

    outcomes = run(project, "soon", "mean", watcher=Removing())
    gone = outcomes.pop("soon")
    assert gone.ending is State.FAILED
    assert gone.message.startswith(f"the source file {folder / 'soon.py'} of stage 'going.soon'")
    assert {name for name, other in outcomes.items() if other.is_good} == {"twice", "mean"}


FROM_A_FILE = """
[datasets.more]
kind = "numbers"
file = "data.txt"

[experiments.scaled]
stage = "tests.registry.lab.scale"
needs = { numbers = "more" }

[experiments.more-mean]
stage = "tests.registry.lab.average"
needs = { scaled = "scaled" }
"""


def test_data_that_changes_in_a_suite_is_never_taken_for_what_was_planned(fresh: Path) -> None:
    file = fresh / "data.txt"
    file.write_text("1 2")
    write_project(fresh, FROM_A_FILE)
    project = open_project(fresh)

    class Changing(Listener):
        def ended(self, task: Task, outcome: TaskOutcome) -> None:
            file.write_text("1 2 3")

    outcomes = run(project, "twice", "scaled", "more-mean", watcher=Changing())
    assert {name: each.ending for name, each in outcomes.items()} == {
        "twice": State.COMPLETED,
        "scaled": State.FAILED,
        "more-mean": State.BLOCKED,
    }
    assert outcomes["scaled"].message == (
        "the data of 'more' has changed since this was planned: run again, and what rests on it "
        "is made anew"
    )
    file.write_text("1 2")
    assert status(project, "scaled") is State.NEVER, "nothing stands for what was planned"
    file.write_text("1 2 3")
    assert all(each.is_good for each in run(project, "more-mean").values())


def test_there_is_at_least_one_worker(fresh: Path) -> None:
    project = open_project(fresh)
    with pytest.raises(ValueError, match="workers 0; expected at least 1"):
        run_plan(project, project.plan(["twice"]), workers=0)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.slow
def test_a_signal_interrupts_the_run_and_all_that_waits(
    troubled: Project, number: signal.Signals
) -> None:
    class Impatient(Watcher):
        def started(self, task: Task, uid: str) -> None:
            events = journal_root(troubled.root) / uid / "events.jsonl"
            subprocess.Popen(
                [
                    "sh",
                    "-c",
                    f"until test -s {events}; do sleep 0.1; done; sleep 0.3; "
                    f"kill -{number.value} {os.getpid()}",
                ]
            )

    before = signal.getsignal(signal.SIGTERM)
    outcomes = run(troubled, "endless", "endless-mean", runner="here", watcher=Impatient())
    assert signal.getsignal(signal.SIGTERM) == before
    assert [outcome.ending for outcome in outcomes.values()] == [State.INTERRUPTED] * 2
    assert status(troubled, "endless") is State.INTERRUPTED
    journal = read_journal(journal_root(troubled.root) / journal_uids(troubled.root)[-1])
    assert journal.facts["interrupted_by"] == number.name


@pytest.mark.slow
def test_a_worker_that_does_not_heed_signals_is_killed_and_was_interrupted(
    troubled: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Impatient(Watcher):
        def progressed(self, task: Task, progress: Progress) -> None:
            if progress.done == 10:
                signal.raise_signal(signal.SIGINT)
                signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(workers, "PATIENCE_SECONDS", 0.2)
    project = edit(troubled.root, 'then = "die"', 'then = "deaf"')
    outcomes = run(project, "dying", watcher=Impatient())
    assert outcomes["dying"].ending is State.INTERRUPTED
    assert outcomes["dying"].message == "it did not end in time and was killed"
    journal = read_journal(journal_root(project.root) / str(outcomes["dying"].uid))
    assert journal.status == "INTERRUPTED"
    assert journal.facts["interrupted_by"] == "SIGTERM"
    assert status(project, "dying") is State.INTERRUPTED


@pytest.mark.slow
def test_a_full_disk_is_told_recorded_and_resumed_from(
    troubled: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[Path] = []
    replace = os.replace

    def until_full(source: Any, target: Any) -> None:
        if "part-" in str(target):
            written.append(Path(target))
            if len(written) > 2:  # several are being written at once
                raise OSError(28, "No space left on device")
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", until_full)
        outcome = run(troubled, "parts", runner="here")["parts"]
    assert outcome.ending is State.FAILED
    assert outcome.message.startswith("StoreError: disk full: cannot write ")
    assert "part-0000" in outcome.message
    journal = read_journal(journal_root(troubled.root) / str(outcome.uid))
    assert journal.status == "FAILED"
    assert status(troubled, "parts") is State.FAILED
    again = run(troubled, "parts", runner="here")["parts"]
    resumed = read_journal(journal_root(troubled.root) / str(again.uid)).metrics["resumed"]
    assert resumed.column("values") == [2]
    assert troubled.plan(["parts"]).due == ()


# -- in workers -------------------------------------------------------------------------------


def test_workers_run_side_by_side_and_survive_each_other(lab: Lab, tmp_path: Path) -> None:
    root = write_project(tmp_path / "project", TROUBLE)
    project, listener = open_project(root), Listener()
    targets = ("dying", "failing", "failing-mean", "slow", "slow-too")
    outcomes = run(project, *targets, workers=2, watcher=listener)
    endings = {name: outcome.ending for name, outcome in outcomes.items()}
    assert endings == {
        "dying": State.FAILED,
        "failing": State.FAILED,
        "failing-mean": State.BLOCKED,
        "slow": State.COMPLETED,
        "slow-too": State.COMPLETED,
    }
    assert outcomes["failing"].message == "RuntimeError: asked to fail"
    assert outcomes["dying"].message.startswith("the process was killed by SIGKILL\n")
    assert "scaling by 4.0" in outcomes["dying"].message
    [log] = (root / ".factbook" / "workers").iterdir()
    assert str(log.relative_to(root)) in outcomes["dying"].message
    assert {progress.what for progress in listener.progress} == {"steps"}
    journals = {
        n: read_journal(journal_root(root) / str(outcomes[n].uid)) for n in ("slow", "slow-too")
    }
    first, second = journals.values()
    starts, stops = [[getattr(j, f"{s}_time") for j in (first, second)] for s in ("start", "stop")]
    assert max(starts) < min(stops)
    assert first.facts["pid"] != second.facts["pid"]
    assert os.getpid() not in (first.facts["pid"], second.facts["pid"])
    assert first.console() == "scaling by 5.0\n"
    assert journal_status(journal_root(root) / str(outcomes["dying"].uid)).status == "DIED"
    assert status(project, "dying") is State.DIED
    database = connect(root)
    assert database is not None
    record = find_run(database, str(outcomes["slow"].uid))
    database.close()
    assert record is not None
    assert record["status"] == "COMPLETED"


def test_a_worker_has_its_share_of_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    with workers._threads_of(3):
        assert os.environ["MKL_NUM_THREADS"] == "2"
        assert os.environ["OMP_NUM_THREADS"] == "5"  # the user's own choice
    assert "MKL_NUM_THREADS" not in os.environ
    with workers._threads_of(100):
        assert os.environ["MKL_NUM_THREADS"] == "1"


# -- as a program -----------------------------------------------------------------------------


def factbook(root: Path, *words: str) -> Forked:
    """Start a command, as the first process of a session."""
    return Forked(f"    import os; os.setsid()\n{PROGRAM}", "factbook", *words, folder=root)


def wait_for(what: Callable[[], Any], seconds: float = 60.0) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := what()):
        if time.monotonic() > deadline:
            raise TimeoutError("nothing happened")
        time.sleep(0.05)
    return found


def running(root: Path) -> Any:
    """Return the journal of the run that is in its main function, if there is one."""
    for uid in reversed(journal_uids(root)):
        folder = journal_root(root) / uid
        if (folder / "progress.json").exists() and not read_journal(folder).ended:
            return read_journal(folder)
    return None


@pytest.fixture
def program(troubled: Project) -> Iterator[Forked]:
    """`factbook run` of a task without an end, in its main function by now."""
    process = factbook(troubled.root, "run", "endless", "endless-mean")
    try:
        wait_for(lambda: running(troubled.root) or process.has_ended)
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.mark.slow
def test_ctrl_c_ends_a_program_promptly_and_is_recorded(program: Forked, troubled: Project) -> None:
    journal = running(troubled.root)
    began = time.monotonic()
    os.killpg(program.pid, signal.SIGINT)  # as a terminal does: parent and worker
    told = program.finish()
    assert time.monotonic() - began < 20
    assert program.wait() == 130
    assert "! endless  interrupted" in told
    assert "! endless-mean  interrupted" in told
    assert "Traceback" not in told
    assert journal.refresh().status == "INTERRUPTED"
    assert create_time(journal.facts["pid"]) is None
    assert status(troubled, "endless") is State.INTERRUPTED


@pytest.mark.slow
def test_workers_end_when_their_parent_is_killed(program: Forked, troubled: Project) -> None:
    journal = running(troubled.root)
    program.kill()
    wait_for(lambda: create_time(journal.facts["pid"]) is None, 20)
    assert journal.refresh().status == "INTERRUPTED"


@pytest.mark.slow
def test_a_killed_run_is_resumed_to_the_same_bits(troubled: Project) -> None:
    words = ("tests.registry.lab.collect", "with", "parts", "die_at=3")
    assert forked.run(*words, folder=troubled.root).returncode == -signal.SIGKILL
    assert status(troubled, "parts") is State.DIED
    resumed = run(troubled, "parts", runner="here")["parts"]
    content = troubled.plan(["parts"]).task("parts").state.content
    whole = run(troubled, "parts", force=True, runner="here")["parts"]
    assert troubled.plan(["parts"]).task("parts").state.content == content
    counts = [
        read_journal(journal_root(troubled.root) / str(outcome.uid))
        .metrics["resumed"]
        .column("values")
        for outcome in (resumed, whole)
    ]
    assert counts == [[3], [0]]


def test_the_record_survives_a_database_that_is_killed_and_comes_back(own_server: Path) -> None:
    root = write_project(own_server, TROUBLE)
    listener, killed = KillTheServer(root), open_project(root)
    outcome = run(killed, "slow", runner="here", watcher=listener)["slow"]
    assert listener.pid not in (0, server_pid(root))
    assert (outcome.ending, outcome.recorded) == (State.COMPLETED, True)
    database = connect(root)
    assert database is not None
    record = find_run(database, str(outcome.uid))
    assert record is not None
    assert record["status"] == "COMPLETED"
    assert record["result"] == {"total": 32.5}
    assert find_metrics(database, record["_id"])["training.loss"]["steps"] == list(range(10))
    database.close()


class KillTheServer(Watcher):
    """Kills the embedded server as soon as a run has begun."""

    def __init__(self, root: Path):
        self.root = root
        self.pid = 0

    def started(self, task: Task, uid: str) -> None:
        server.start(self.root)
        self.pid = server_pid(self.root)
        begun = journal_root(self.root) / uid / "progress.json"
        subprocess.Popen(
            ["sh", "-c", f"until test -s {begun}; do sleep 0.1; done; kill -9 {self.pid}"]
        )


def server_pid(root: Path) -> int:
    return int(json.loads((root / ".factbook" / "mongo" / "server.json").read_text())["pid"])


# -- runners ----------------------------------------------------------------------------------


class Recorder:
    """A runner that runs nothing: what it is given fails or goes well, two at once."""

    def __init__(self, *failing: str):
        self.failing = failing
        self.jobs: list[Job] = []
        self.calls: list[str] = []

    @property
    def has_room(self) -> bool:
        return len(self.jobs) < 2

    def start(self, job: Job) -> None:
        self.calls.append(f"start {job.name}")
        self.jobs.append(job)

    def progress(self) -> Iterator[tuple[str, Progress]]:
        yield from ((job.uid, Progress(1, 2, "halves")) for job in self.jobs)

    def finished(self) -> list[TaskOutcome]:
        done, self.jobs = self.jobs, []
        if done:
            self.calls.append("finished " + " ".join(job.name for job in done))
        return [
            TaskOutcome(
                job.name, State.FAILED if job.name in self.failing else State.COMPLETED, job.uid
            )
            for job in done
        ]

    def interrupt(self) -> list[TaskOutcome]:
        self.calls.append("interrupt")
        return []


def test_any_runner_will_do(troubled: Project) -> None:
    listener, runner = Listener(), Recorder("failing")
    assert isinstance(runner, Runner)
    outcomes = run(troubled, "failing", "failing-mean", "slow", runner=runner, watcher=listener)
    assert runner.calls == ["start failing", "start slow", "finished failing slow"]
    assert {name: str(outcome.ending) for name, outcome in outcomes.items()} == {
        "failing": "failed",
        "slow": "completed",
        "failing-mean": "blocked",
    }
    assert listener.progress == [Progress(1, 2, "halves")] * 2


def test_a_job_has_all_that_another_process_needs(troubled: Project) -> None:
    class Pickler(Recorder):
        def start(self, job: Job) -> None:
            super().start(pickle.loads(pickle.dumps(job)))

    runner = Pickler()
    run(troubled, "slow", runner=runner)
    assert runner.calls == ["start slow", "finished slow"]


@pytest.mark.parametrize("name", ["here", "workers"])
def test_the_own_runners_follow_the_protocol(name: str) -> None:
    assert isinstance(open_runner(name, (), 1), Runner)


def test_an_unknown_runner_is_named(troubled: Project) -> None:
    with pytest.raises(StageError, match="unknown runner 'worker'; did you mean 'workers'"):
        run(troubled, "slow", runner="worker")


class Plugged(Recorder):
    """A runner of a plug-in."""

    def __init__(self, stages: set[str], workers: int):
        super().__init__()
        assert (stages, workers) == ({"tests.registry.lab.scale"}, 3)


def test_a_package_adds_a_runner_by_an_entry_point(
    troubled: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    points = EntryPoints([EntryPoint("cluster", f"{__name__}:Plugged", RUNNER_GROUP)])
    monkeypatch.setattr("registry.execute.runner.entry_points", lambda group: points)
    outcomes = run(troubled, "slow", runner="cluster", workers=3)
    assert outcomes["slow"].ending is State.COMPLETED
