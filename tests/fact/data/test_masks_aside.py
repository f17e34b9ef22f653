"""Masks are read by one stage alone: where they are added, nothing else is due."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from registry.declare.cells import Cell
from registry.plan.plan import make_plan
from registry.plan.project import Project, open_project
from registry.plan.task import Earlier, Plan, TaskState
from registry.record.states import State

DECLARATION = """
[datasets.images]
kind = "image-folder"
root = "pictures"
{masks}
[experiments.classifier]
stage = "fact.train_classifier"
needs = {{ images = "images" }}

[experiments.channels]
stage = "fact.measure_channels"
needs = {{ network = "classifier", images = "images" }}
config = {{ layer = "features.1" }}

[experiments.maps]
stage = "fact.map_concepts"
needs = {{ concepts = "channels" }}

[experiments.masks]
stage = "fact.mask_inputs"
needs = {{ maps = "maps" }}

[experiments.labels]
stage = "fact.label_inputs"
needs = {{ images = "images" }}

[experiments.names]
stage = "evals.name_concepts"
needs = {{ activations = "channels", labels = "labels" }}

[experiments.located]
stage = "evals.localise_concepts"
needs = {{ maps = "maps", masks = "masks", names = "names" }}
"""
ALONE = {"masks", "located"}
"""What reads masks, and what rests on it."""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for folder, pictures in {"pictures": "ab", "masks/ear": "a", "others/ear": "a"}.items():
        for name in pictures:
            (tmp_path / folder / name).mkdir(parents=True)
            for number in range(6):
                shade = 200 if folder == "others/ear" else 40 * number
                pixels = np.full((8, 8), shade, np.uint8)
                Image.fromarray(pixels).save(tmp_path / folder / name / f"{number}.png")
    (tmp_path / "mask names.txt").write_text("ear\n")
    return tmp_path


def declared(root: Path, masks: str = "") -> Project:
    (root / "experiments.toml").write_text(DECLARATION.format(masks=masks))
    return open_project(root)


def known(root: Path, masks: str = "") -> dict[str, str]:
    return declared(root, masks).declared_fingerprints()[0]


def changed(one: dict[str, str], other: dict[str, str]) -> set[str]:
    return {name for name in one if one[name] != other[name]}


def test_masks_enter_the_fingerprint_of_what_reads_them(root: Path) -> None:
    without, masked = known(root), known(root, 'masks = "masks"')
    assert changed(without, masked) == ALONE
    assert changed(masked, known(root, 'masks = "others"')) == ALONE
    named = known(root, 'masks = "masks"\nmask_names = "mask names.txt"')
    assert changed(masked, named) == changed(without, named) == ALONE
    moved = known(root, f'masks = "{root / "masks"}"')
    assert changed(masked, moved) == set(), "where they lie is not what they are"
    Image.new("L", (8, 8)).save(root / "pictures/b/more.png")
    assert changed(masked, known(root, 'masks = "masks"')) == masked.keys()


def planned(project: Project, before: Plan) -> dict[str, str]:
    """Return why each cell would run, if all had run as they are in another plan."""
    past = {task.name: Earlier.from_record(task.record()) for task in before.tasks}
    known = {task.name: task.fingerprint for task in before.tasks}

    def state(cell: Cell, fingerprint: str) -> TaskState:
        same = known[cell.name] == fingerprint
        return TaskState(State.COMPLETE) if same else TaskState(earlier=past[cell.name])

    plan = make_plan(
        project.graph,
        identities={"images": project.identity(project.declaration.resources["images"])[0]},
        states=state,
        past=lambda experiment, _fingerprint: past[experiment],
    )
    return {task.name: task.reason for task in plan.due}


def test_a_plan_says_that_it_is_for_masks(root: Path) -> None:
    before = declared(root).plan()
    assert planned(declared(root), before) == {}
    with_masks = declared(root, 'masks = "masks"')
    reasons = planned(with_masks, before)
    assert reasons["masks"] == "what it alone reads of images changed"
    assert reasons.keys() == ALONE
    assert "what it alone reads of images changed" in reasons["located"]
    record = with_masks.plan().task("masks").record()
    assert record["aside"].keys() == {"images"}
    assert "aside" not in before.task("masks").record()


def test_fingerprints_of_folders_without_masks_are_what_they_were(root: Path) -> None:
    project = declared(root)
    identity, _ = project.identity(project.declaration.resources["images"])
    assert project.declaration.resources["images"].common(identity) == identity
    assert identity is not None
    assert identity.startswith("root ")
    masked = declared(root, 'masks = "masks"\nmask_names = "mask names.txt"\nnames = "voc"')
    whole, _ = masked.identity(masked.declaration.resources["images"])
    assert whole is not None
    assert "masks" in whole
    common = masked.declaration.resources["images"].common(whole)
    assert common == f"{identity} names {whole.split(' names ')[1].split(' ')[0]}"


def test_masks_that_are_gone_from_here_count_as_they_were_read(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = declared(root).plan()  # made without masks, but for what reads them
    project = declared(root, 'masks = "masks"')
    after, expected = project.plan(), known(root, 'masks = "masks"')
    tasks = {task.name: (task, "1") for task in before.tasks}
    tasks |= {name: (after.task(name), "2") for name in ALONE}
    past = {
        name: {name: (Earlier.from_record(task.record()),)} for name, (task, _) in tasks.items()
    }
    attempts = {task.fingerprint: attempt for task, attempt in tasks.values()}
    monkeypatch.setattr(project.store, "history", past.__getitem__)
    monkeypatch.setattr(project.store, "last_attempt", lambda _, value: attempts[value])
    (root / "pictures").rename(root / "elsewhere")
    names = project.graph.cells.keys()
    found = project.known_fingerprints(names)
    assert {name: found[name] for name in names} == {name: expected[name] for name in names}
