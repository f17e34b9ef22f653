"""What is garbage, and what never is."""

from __future__ import annotations

import os
import shutil
import time
from collections import Counter
from datetime import timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner

from registry.catalog.access import open_catalog
from registry.cli import main
from registry.mongo.database import URL_VARIABLE
from registry.plan.project import MissingInputsError, Project, open_project
from registry.record.journal import journal_root, new_uid
from registry.store.durable import StoreError
from registry.store.manifest import MANIFEST
from registry.upkeep import garbage as removal
from registry.upkeep.doctor import examine
from registry.upkeep.garbage import Garbage, find_garbage, remove_garbage
from tests.registry.lab.project import edit
from tests.registry.upkeep.conftest import datasets, run

FACTOR = "}\n\n[experiments.mean]"


def with_factor(root: Path, factor: float) -> Project:
    """Declare another factor of `twice`."""
    text = (root / "experiments.toml").read_text()
    head, _, rest = text.partition("[experiments.twice]")
    _, _, rest = rest.partition("[experiments.mean]")
    stage = 'stage = "tests.registry.lab.scale"\nneeds = { numbers = "few" }\n'
    twice = f"[experiments.twice]\n{stage}config = {{ factor = {factor} }}\n\n"
    (root / "experiments.toml").write_text(f"{head}{twice}[experiments.mean]{rest}")
    return open_project(root)


def removed(project: Project, **how: object) -> list[Garbage]:
    garbage = find_garbage(project, **how)  # type: ignore[arg-type]
    gone = list(remove_garbage(project, garbage))
    assert gone == garbage
    assert find_garbage(project, **how) == []  # type: ignore[arg-type]
    return gone


def test_nothing_is_garbage_of_a_project_that_has_run(fresh: Path) -> None:
    run(fresh)
    assert find_garbage(open_project(fresh)) == []


def test_superseded_and_former_datasets_go_and_what_is_needed_stays(fresh: Path) -> None:
    first = run(fresh, "pair")
    again = run(fresh, "twice", force=True)
    project = open_project(fresh)
    assert find_garbage(project) == [], "the first `twice` is what `mean` was made from"
    last = run(fresh, "twice", force=True)
    [garbage] = find_garbage(project)
    assert (garbage.kind, garbage.what, garbage.why) == ("dataset", "twice", "superseded")
    assert garbage.path.name == again["twice"]
    assert garbage.size > 1000
    changed = with_factor(fresh, 5.0)
    now = run(fresh, "pair")
    found = {each.path.name: each.why for each in find_garbage(changed)}
    former = "of a former configuration"
    assert found == {
        again["twice"]: "superseded",
        first["twice"]: "superseded",
        last["twice"]: former,
        first["mean"]: former,
    }
    removed(changed)
    assert datasets(changed) == set(now.values())
    statuses = {task.name: str(task.state.status) for task in changed.plan(["pair"]).tasks}
    assert set(statuses.values()) == {"complete"}
    with open_catalog(fresh, "off") as catalog:
        assert len(catalog.runs()) == 6, "records stay"
        with pytest.raises(MissingInputsError, match="was removed by factbook gc at 20") as told:
            catalog.path(first["mean"])
        assert told.value.command == "factbook run mean"
    assert "its output is gone" in with_factor(fresh, 2.0).plan(["pair"]).task("twice").reason
    run(fresh, "pair")


def test_what_is_young_or_among_the_newest_is_kept_with_all_behind_it(fresh: Path) -> None:
    runs = [run(with_factor(fresh, factor).root, "pair") for factor in (1.0, 2.0, 3.0, 4.0)]
    project = open_project(fresh)
    assert find_garbage(project, older_than=timedelta(hours=1)) == []
    assert find_garbage(project, keep=4) == []
    kept = {uid for each in runs[2:] for uid in each.values()}
    removed(project, keep=2)
    assert datasets(project) == kept
    text = (fresh / "experiments.toml").read_text()
    (fresh / "experiments.toml").write_text(text.partition("[experiments.twice]")[0])
    found = find_garbage(open_project(fresh))
    assert {each.path.name for each in found} == kept
    assert {each.why for each in found} == {"declared no more"}


def test_datasets_of_data_that_is_away_are_kept(fresh: Path) -> None:
    edit(fresh, "values = [1, 2, 3.5]", 'file = "numbers.txt"')
    numbers = fresh / "numbers.txt"
    numbers.write_text("1 2 3.5")
    run(fresh, "pair")
    numbers.rename(fresh / "away.txt")
    assert find_garbage(open_project(fresh)) == []


def test_a_store_that_is_shared_keeps_what_others_made(fresh: Path, tmp_path: Path) -> None:
    own = run(fresh, "pair")
    run(fresh, "pair", force=True)
    text = (fresh / "experiments.toml").read_text()
    store = f'[project]\nstore = "{fresh / "artifacts"}"'
    other = tmp_path / "other"
    other.mkdir()
    (other / "experiments.toml").write_text(text.replace("[project]", store))
    os.chdir(other)
    with_factor(other, 7.0)
    assert find_garbage(open_project(other)) == []
    assert {each.path.name for each in find_garbage(open_project(fresh))} == set(own.values())


def test_what_dead_runs_have_left(fresh: Path) -> None:
    uid = run(fresh, "twice")["twice"]
    project = open_project(fresh)
    [task] = project.store.root.glob("twice/*")
    state = project.state
    unbegun, beginning = (journal_root(fresh) / new_uid() for _ in range(2))
    for path, size in {
        task / "partial" / "output" / "part-000000.nc": 1000,
        task / f"partial-{uid}" / "origin.json": 10,
        task / ".task.json.1-2.tmp": 7,
        journal_root(fresh) / uid / "ballast": 262_144,
        journal_root(fresh) / uid / ".status.json.1-00.tmp": 5,
        state / "workers" / f"{uid}.log": 20,
        state / "sources" / ("0" * 32): 30,
        state / "sources" / ".1.tmp": 40,
        state / "cache" / f"presences-3-{'0' * 32}": 50,
        unbegun / "ballast": 262_144,
        unbegun / "events.jsonl": 0,
        beginning / "ballast": 262_144,
        beginning / "events.jsonl": 0,
    }.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(size))
    old = time.time() - 7200
    os.utime(state / "sources" / ".1.tmp", (old, old))
    os.utime(unbegun, (old, old))
    with open_catalog(fresh, "off") as catalog:
        [finding] = examine(catalog)
    assert finding.what == f"run {unbegun.name} never began; its journal is empty"
    gone = removed(project)
    sizes: Counter[str] = Counter()
    for each in gone:
        sizes[each.kind] += each.size
    assert sizes == {
        "partial": 1010,
        "temporary": 52,
        "journal": 262_144,
        "ballast": 262_144,
        "code": 30,
        "log": 20,
        "cache": 50,
    }
    assert len(gone) == 10
    assert beginning.exists()
    assert not list(task.glob("partial*"))
    assert project.plan(["twice"]).due == ()


def test_what_was_made_whole_and_is_not_published_is_kept(fresh: Path) -> None:
    uids = [run(fresh, "twice", force=True)["twice"] for _ in range(2)]
    project = open_project(fresh)
    [task] = project.store.root.glob("twice/*")
    (task / "current").unlink()
    [garbage] = find_garbage(project)
    assert garbage.path.name == uids[0]
    project.store.repair_current(task)
    shutil.copytree(task / uids[1], task / "partial" / "output")
    assert [each.kind for each in find_garbage(project)] == ["dataset"]


def test_what_a_task_can_be_resumed_from_is_kept(fresh: Path) -> None:
    project = open_project(fresh)
    run(fresh, "twice")
    [task] = project.store.root.glob("twice/*")
    (task / "current").unlink()
    (task / "partial" / "output").mkdir(parents=True)
    assert all(each.kind != "partial" for each in find_garbage(project))


def test_what_cannot_be_noted_stays_unless_it_makes_the_room(
    fresh: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A removed dataset that nothing notes would be missed for ever."""
    first = run(fresh, "twice")["twice"]
    run(fresh, "twice", force=True)
    project = open_project(fresh)
    garbage = [each for each in find_garbage(project) if each.path.name == first]
    monkeypatch.setattr(removal, "_note_removal", lambda *_: False)
    monkeypatch.setattr(removal, "_is_on_one_disk", lambda *_: False)
    with pytest.raises(StoreError, match="cannot be noted"):
        list(remove_garbage(project, garbage))
    assert garbage[0].path.is_dir()
    monkeypatch.setattr(removal, "_is_on_one_disk", lambda *_: True)
    assert [each.path for each in remove_garbage(project, garbage)] == [garbage[0].path]


def test_the_preview_says_how_many_links_will_show_nothing(
    fresh: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Links of the dashboard name runs: of each that goes, not of what no page has shown."""
    monkeypatch.chdir(fresh)
    monkeypatch.setenv(URL_VARIABLE, "off")
    first, *_ = [run(with_factor(fresh, factor).root, "pair") for factor in (1.0, 2.0, 3.0)]
    (half,) = fresh.glob(f"artifacts/twice/*/{first['twice']}")
    (half / MANIFEST).unlink()
    lost = find_garbage(open_project(fresh))
    assert [each.is_shown for each in lost].count(True) == 3
    told = " ".join(CliRunner().invoke(main, ["gc"]).stdout.split())
    assert "links to 3 earlier runs will no longer show their data" in told
    assert "nothing was removed" in told
    assert len(find_garbage(open_project(fresh))) == len(lost)
    assert "links to" not in CliRunner().invoke(main, ["gc", "--older-than", "1d"]).stdout
