"""Files that were cut or whose bits have flipped: noticed, told, and mended by running again."""

from __future__ import annotations

import json
import os
import random
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import xarray as xr
from click.testing import CliRunner

from registry import StoreError
from registry.cli import main
from registry.record.journal import EVENTS, read_journal
from registry.record.plain import decode_event
from tests.faults.children import Fault
from tests.faults.conftest import ALL, Reference, Site
from tests.faults.test_kills import fresh

Damage = Callable[[Path], None]


def flip(fraction: float, bit: int = 0) -> Damage:
    """Flip one bit of a file."""

    def damage(path: Path) -> None:
        data = bytearray(path.read_bytes())
        data[int(fraction * (len(data) - 1))] ^= 1 << bit
        path.write_bytes(data)

    return damage


def cut(fraction: float) -> Damage:
    """Keep the beginning of a file."""
    return lambda path: os.truncate(path, int(fraction * path.stat().st_size))


def garbage(path: Path) -> None:
    """Replace a file by as many other bytes."""
    path.write_bytes(random.Random(0).randbytes(path.stat().st_size))


DAMAGES: dict[str, Damage] = {
    "first bit": flip(0.0),
    "a bit": flip(0.4, 6),
    "last bit": flip(1.0, 7),
    "cut": cut(0.9),
    "cut early": cut(0.1),
    "empty": cut(0.0),
    "garbage": garbage,
    "removed": lambda path: path.unlink(),
}
OUTPUTS = [("mean", "dataset.nc"), ("parts", "part-000003.nc"), ("parts", "summary.nc")]


def opened(folder: Path) -> xr.Dataset | None:
    """Return what xarray reads in a run's folder, None if that is refused."""
    try:
        with xr.open_dataset(folder, engine="factbook") as dataset:
            return dataset.load().drop_attrs()
    except StoreError:
        return None


@pytest.mark.parametrize(("name", "file"), OUTPUTS, ids=lambda value: str(value))
def test_a_damaged_dataset_is_never_read(complete: Site, name: str, file: str) -> None:
    path = complete.output(name) / file
    whole = path.read_bytes()
    for what, damage in DAMAGES.items():
        damage(path)
        assert complete.statuses()[name] == "damaged", what
        assert opened(path.parent) is None, what
        path.write_bytes(whole)
    assert complete.statuses()[name] == "complete"


@pytest.mark.parametrize(
    ("name", "file", "damage"),
    [
        ("mean", "dataset.nc", "a bit"),
        ("parts", "part-000003.nc", "a bit"),
        ("parts", "summary.nc", "cut"),
        ("twice", "manifest.json", "cut"),
        ("training", "manifest.json", "garbage"),
    ],
)
def test_status_tells_and_run_mends(
    complete: Site, reference: Reference, name: str, file: str, damage: str
) -> None:
    DAMAGES[damage](complete.output(name) / file)
    told = complete.factbook("status", name, "--verify")
    assert "damaged" in told
    assert file in told
    mended = complete.factbook("run", name, "--verify", "--here")
    assert "1 task to run" in mended
    assert set(complete.statuses().values()) == {"complete"}
    assert complete.contents() == reference.contents
    xr.testing.assert_identical(complete.values(name), reference.datasets[name])


@pytest.mark.parametrize("name", ["parts", "mean"])
def test_a_damaged_manifest_is_never_read(complete: Site, name: str) -> None:
    folder = complete.output(name)
    path = folder / "manifest.json"
    whole = path.read_bytes()
    moments = {f"bit at {i} %": flip(i / 100, i % 8) for i in range(0, 100, 3)}
    for what, damage in (DAMAGES | moments).items():
        damage(path)
        found = opened(folder)
        assert found is None, what
        if what in DAMAGES:
            assert complete.statuses()[name] == "damaged", what
        path.write_bytes(whole)


def test_a_digit_of_a_result_that_has_flipped_is_told_and_made_again(
    complete: Site, reference: Reference
) -> None:
    """Of a scalar, which is read from the manifest alone."""
    path = complete.output("mean") / "manifest.json"
    said = path.read_text()
    [value] = {str(entry["value"]) for entry in json.loads(said)["scalars"].values()}
    digit = value[0]
    before, after = f'"value": {digit}', f'"value": {chr(ord(digit) ^ 1)}'
    assert said.count(before) == 1
    path.write_text(said.replace(before, after))
    with complete.catalog() as catalog:
        assert catalog.over_seeds("mean").means().dropna(axis=1).empty
    assert "damaged" in complete.factbook("doctor", "--verify", status=1)
    complete.factbook("run", "mean", "--here")
    assert complete.contents() == reference.contents


@pytest.mark.parametrize("file", ["task.json", "attempts"])
def test_a_damaged_description_of_a_task_loses_nothing(
    complete: Site, reference: Reference, file: str
) -> None:
    path = complete.output("parts").parent / file
    whole = path.read_bytes()
    for damage in DAMAGES.values():
        damage(path)
        assert set(complete.statuses().values()) == {"complete"}
        xr.testing.assert_identical(complete.values("parts"), reference.datasets["parts"])
        path.write_bytes(whole)
    DAMAGES["garbage"](path)
    complete.factbook("run", "parts", "--force", "--here")
    assert complete.contents() == reference.contents


@pytest.mark.parametrize("damage", ["cut", "cut early", "empty"])
def test_a_cut_journal_concerns_its_own_run_alone(complete: Site, damage: str) -> None:
    with complete.catalog() as catalog:
        before = {view.uid: view.row() for view in catalog.runs()}
        uid = catalog.run("parts").uid
    DAMAGES[damage](complete.root / ".factbook" / "journal" / uid / "events.jsonl")
    listed = complete.factbook("runs")
    assert "Traceback" not in listed
    with complete.catalog() as catalog:
        after = {view.uid: view.row() for view in catalog.runs()}
    assert {**after, uid: before[uid]} == before
    assert set(complete.statuses().values()) == {"complete"}


def test_a_flipped_bit_of_a_journal_is_never_believed(
    complete: Site, tmp_path: Path, chance: random.Random, trial: int
) -> None:
    """An event that was damaged is left out and told; it says nothing that no run said."""
    with complete.catalog() as catalog:
        uid = catalog.run("training").uid
    written = (complete.root / ".factbook" / "journal" / uid / EVENTS).read_bytes()
    folder = tmp_path / uid
    folder.mkdir()
    (folder / EVENTS).write_bytes(written)
    was = read_journal(folder)
    assert was.status == "COMPLETED"
    said: dict[str, list[Any]] = defaultdict(list)
    for event in (decode_event(line, uid) for line in written.splitlines()):
        for name, value in event.get("facts", {}).items():
            said[name].append(value)
    for _ in range(100):
        path = folder / EVENTS
        path.write_bytes(written)
        flip(chance.random(), chance.randrange(8))(path)
        found = read_journal(folder)
        is_torn = found.size < len(written)
        assert found == was or found.unreadable or is_torn
        assert found.status in (was.status, "RUNNING")
        assert found.result in (was.result, None)
        assert found.config in (was.config, {})
        assert all(value in said[name] for name, value in found.facts.items())
        for name, series in found.metrics.items():
            for column in ("steps", "values", "timestamps"):
                assert {*series.column(column)} <= {*was.metrics[name].column(column)}


@pytest.fixture(scope="module")
def killed_collection(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """A project whose collection was killed before its last part; to be copied."""
    site = fresh(tmp_path_factory.mktemp("killed"))
    killed = site.start("tests.registry.lab.collect", "with", "parts", "die_at=3")
    assert killed.was_killed
    return site


@pytest.fixture(scope="module")
def killed_training(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """A project whose training was killed behind its third checkpoint; to be copied."""
    site = fresh(tmp_path_factory.mktemp("killed"))
    step = Fault("os.rename", "artifacts/training/HASH/partial/state.HASH.npz", 4)
    assert site.run("training", fault=step).was_killed
    return site


@pytest.mark.parametrize("damage", ["a bit", "cut", "empty", "garbage", "removed"])
@pytest.mark.parametrize("index", [2, 1], ids=["last", "middle"])
def test_a_damaged_part_of_a_killed_collection_is_made_again(
    killed_collection: Site,
    reference: Reference,
    tmp_path: Path,
    damage: str,
    index: int,
) -> None:
    site = killed_collection.copy(tmp_path)
    [part] = site.root.glob(f"artifacts/parts/*/partial/output/part-{index:06d}.nc")
    DAMAGES[damage](part)
    printed = site.factbook("run", "parts", "--here")
    assert site.contents()["parts"] == reference.contents["parts"]
    assert "Traceback" not in printed


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_training_whose_checkpoint_is_damaged_begins_again(
    killed_training: Site, reference: Reference, tmp_path: Path, damage: str
) -> None:
    site = killed_training.copy(tmp_path)
    [state] = site.root.glob("artifacts/training/*/partial/state.*.npz")
    DAMAGES[damage](state)
    printed = site.factbook("run", "training", "--here")
    with site.catalog() as catalog:
        assert catalog.metrics(catalog.run("training"))["resumed"]["values"] == [0]
        console = catalog.console(catalog.run("training"))
    assert console.count("is damaged; what it would have resumed begins again") == (
        damage != "removed"
    )
    assert "Traceback" not in printed
    assert site.contents()["training"] == reference.contents["training"]


def each_as_a_list(path: Path) -> None:
    """Keep the keys of an object, with values of another type."""
    path.write_text(json.dumps({key: [1] for key in json.loads(path.read_bytes())}))


def each_inside_as_a_list(path: Path) -> None:
    """Keep the keys of an object and of the objects in it, with values of another type."""

    def changed(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: changed(inside) for key, inside in value.items()}
        return list(map(changed, value)) if isinstance(value, list) else [value]

    path.write_text(json.dumps(changed(json.loads(path.read_bytes()))))


def pipe(path: Path) -> None:
    """Put a pipe in the place of a file, which nobody writes to."""
    path.unlink()
    os.mkfifo(path)


OTHERS = {
    **{text: lambda path, text=text: path.write_text(text) for text in ("[]", "null", "7\n", "{}")},
    **{kind.__name__: kind for kind in (each_as_a_list, each_inside_as_a_list, pipe)},
}
DESCRIPTIONS = ("manifest.json", "task.json", "attempts", "status.json", "events.jsonl")


def test_what_is_no_description_breaks_no_command(
    complete: Site,
    reference: Reference,
    monkeypatch: pytest.MonkeyPatch,
    chance: random.Random,
    trial: int,
) -> None:
    """Of a task, a dataset or a run: JSON of other types, or no file at all."""
    files = sorted(p for name in DESCRIPTIONS for p in complete.root.rglob(name))
    path = chance.choice(files)
    name = chance.choice([n for n in sorted(OTHERS) if path.suffix == ".json" or "each" not in n])
    OTHERS[name](path)
    monkeypatch.chdir(complete.root)
    monkeypatch.setenv("FACTBOOK_MONGO", "off")
    for words in ("status", "plan parts mean", "runs", "show parts", "doctor", "gc"):
        printed = CliRunner().invoke(main, words.split())
        assert printed.exception is None or isinstance(printed.exception, SystemExit), (path, name)
        assert "Traceback" not in printed.output
    complete.factbook("run", *ALL, "--here")
    assert complete.contents() == reference.contents


def test_random_damage(
    complete: Site, reference: Reference, chance: random.Random, trial: int
) -> None:
    files = [p for n in ALL for p in complete.output(n).iterdir() if p.is_file()]
    path = chance.choice(sorted(files))
    damage = chance.choice([flip(chance.random(), chance.randrange(8)), cut(chance.random())])
    damage(path)
    name = path.parents[2].name
    found = opened(path.parent)
    if path.suffix == ".nc":
        assert found is None
        assert complete.statuses()[name] == "damaged"
    if found is None:
        complete.factbook("run", name, "--verify", "--here")
        assert complete.contents() == reference.contents
        found = opened(complete.output(name))
    assert found is not None
    xr.testing.assert_identical(found, reference.datasets[name])
