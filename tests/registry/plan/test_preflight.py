"""What a plan needs and is not there: told once, and before anything runs."""

from __future__ import annotations

import json
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from click.testing import CliRunner
from packaging.requirements import Requirement as Bound
from PIL import Image

from fact.data import array_file, folder
from fact.encode.encoders import needs_encoder
from fact.networks import requirements as networks
from fact.sae.estimates import estimate_features, estimate_sae
from registry.cli import main
from registry.declare import requirements
from registry.declare.requirements import Download, Extra, Package
from registry.execute.probing import take_first_looks
from registry.plan.preflight import look_ahead
from registry.plan.probes import Probes, unprobed
from registry.plan.project import open_project
from registry.plan.task import Change
from registry.record.journal import journal_uids
from tests.registry.lab.project import write_project

SOURCE = Path(__file__).parents[3]
MORE = """
[datasets.gone]
kind = "numbers"
file = "data/gone.txt"

[experiments.of-gone]
stage = "tests.registry.lab.scale"
needs = { numbers = "gone" }

[experiments.mean-of-gone]
stage = "tests.registry.lab.average"
needs = { scaled = "of-gone" }

[experiments.wishing]
stage = "tests.registry.lab.wish"
needs = { numbers = "few" }
config = { package = "no_such_package" }
matrix = { factor = [1.0, 2.0, 3.0, 4.0, 5.0] }
"""


@pytest.fixture
def wanting(fresh: Path) -> Path:
    """A project that needs a package and a file which are not there."""
    write_project(fresh, MORE)
    return fresh


def test_each_missing_thing_is_told_once_with_what_needs_it(wanting: Path) -> None:
    project = open_project(wanting)
    ahead = look_ahead(project, project.plan().due)
    package, data = map(str, ahead.missing)
    assert package == (
        "package no_such_package: pip install no_such_package (for wishing[factor=1.0], "
        "wishing[factor=2.0], wishing[factor=3.0] and 2 more)"
    )
    assert "the data of 'gone' cannot be read" in data
    assert "gone.txt" in data
    assert "put it there, or change [datasets.gone] (for of-gone, mean-of-gone)" in data
    assert len(ahead.lacking) == 7
    assert look_ahead(project, project.plan(["pair"]).due).needs == ()


def test_a_run_is_refused_before_its_first_task_unless_asked_to_go_on(wanting: Path) -> None:
    words = ["run", "pair", "wishing", "of-gone", "--here"]
    planned = CliRunner().invoke(main, ["plan", *words[1:-1]])
    assert planned.exit_code == 0
    assert planned.output.count("missing: ") == 2
    refused = CliRunner().invoke(main, words)
    assert refused.exit_code == 1
    assert "nothing was run; --keep-going" in refused.output
    assert not list(journal_uids(wanting))
    going = CliRunner().invoke(main, [*words, "--keep-going"])
    assert going.exit_code == 1
    assert "mean  completed" in going.output
    assert going.output.count("blocked") == 6
    assert len(list(journal_uids(wanting))) == 2


def test_sacreds_command_line_is_refused_alike(
    wanting: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from registry.declare.stage import load_stage
    from registry.execute.experiment import command_line

    for words in (["wishing", "factor=9.0"], ["twice", "needs.numbers=gone"]):
        name = "wish" if words[0] == "wishing" else "scale"
        with pytest.raises(SystemExit) as ended:
            command_line(load_stage(f"tests.registry.lab.{name}"), ["", "with", *words])
        assert str(ended.value.code).startswith("missing: ")
    assert not list(journal_uids(wanting))


LOOKED_AT = """
[experiments.small]
stage = "tests.registry.lab.wish"
needs = { numbers = "few" }
config = { most = 2 }

[experiments.large]
stage = "tests.registry.lab.wish"
needs = { numbers = "few" }
config = { bytes = 1_000_000_000_000_000_000 }

[experiments.after]
stage = "tests.registry.lab.average"
needs = { scaled = "large" }
"""


def test_a_first_look_is_taken_before_the_first_task_and_kept(fresh: Path) -> None:
    project = open_project(write_project(fresh, LOOKED_AT.replace("most = 2", "factor = 3.0")))
    plan = project.plan(["small", "large"])
    assert len(unprobed(project, plan.due)) == 2
    assert take_first_looks(project, plan.due) == {}
    task = plan.task("large")
    assert Probes.of(project).found[task.fingerprint]["sample"] == 3
    assert Probes.of(project).of_resource(task.inputs["numbers"]) == {"count": 3}
    assert unprobed(project, plan.due) == ()
    told = [str(need) for need in look_ahead(project, plan.due).missing]
    assert [text.partition(":")[0] for text in told] == ["disk", "memory"]
    assert "most by large" in told[0]
    assert look_ahead(project, plan.due).lacking == {}, "estimates stop nobody who goes on"


def test_what_a_first_look_finds_wrong_stops_the_suite(fresh: Path) -> None:
    write_project(fresh, LOOKED_AT.replace("bytes = 1_000_000_000_000_000_000", "factor = 4.0"))
    words = ["run", "small", "after", "--here"]
    refused = CliRunner().invoke(main, words)
    assert refused.exit_code == 1
    assert "missing: 3 numbers: too many (for small)" in refused.output
    assert not list(journal_uids(fresh))
    going = CliRunner().invoke(main, [*words, "-k"])
    assert "small  blocked" in going.output
    assert "after  completed" in going.output


# -- what is in the data -----------------------------------------------------------------------


def test_data_that_a_task_would_fail_on_is_told_before_it_runs(fresh: Path) -> None:
    for name, size in {"a/0": (8, 12), "a/1": (12, 8), "b/0": (8, 12)}.items():
        path = fresh / "pictures" / "val" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size).save(path)
    (fresh / "good.csv").write_text("image,red\na,1\nb,0\n")
    (fresh / "again.csv").write_text("image,red\na,1\na,0\n")
    (fresh / "beyond.csv").write_text("image,red\na,2\nb,0\n")
    (fresh / "gap.csv").write_text("image,red\na,1\nb,\n")
    table = '[datasets.{0}]\nkind = "array-file"\npath = "{0}.csv"\n[experiments.of-{0}]\n'
    table += 'stage = "fact.import_labels"\nneeds = {{ arrays = "{0}" }}\n'
    trained = """
[datasets.pictures]
kind = "image-folder"
root = "pictures"

[experiments.network]
stage = "fact.train_classifier"
needs = { images = "pictures" }

[experiments.cropped]
stage = "fact.train_classifier"
needs = { images = "pictures" }
config = { train_split = "val", test_split = "val", resize = 8, crop = 8 }
"""
    tables = "".join(table.format(name) for name in ("good", "again", "gap", "beyond"))
    write_project(fresh, trained + tables)
    project = open_project(fresh)
    names = ["network", "cropped", "of-good", "of-again", "of-gap", "of-beyond"]
    assert [str(need) for need in look_ahead(project, project.plan(names).due).missing] == [
        "beyond.csv: 1 value is no label, neither 0 or 1 nor a probability: they are from 0 to 2 "
        "(for of-beyond)",
        "[datasets.pictures] has no split 'train', only 'val': `train_split` in `config` says "
        "which is taken (for network)",
        "[datasets.pictures] has no split 'test', only 'val': `test_split` in `config` says "
        "which is taken (for network)",
        "[datasets.pictures] has images of 2 sizes (y, x), as (8, 12) and (12, 8): resize = 64, "
        "crop = 64 (pixels) in `config` brings them to one (for network)",
        "[datasets.again] again.csv: 1 name of an input repeats others: 'a' (for of-again)",
        "[datasets.gap] 1 value is not finite, of inputs 0 and on (for of-gap)",
    ]


# -- requirements ------------------------------------------------------------------------------


def test_packages_are_looked_for_with_their_least_versions() -> None:
    assert Package("numpy").look() is None
    assert Package("numpy", least="1.0").look() is None
    future = Package("numpy", least="99.1").look()
    found = metadata.version("numpy")
    assert str(future) == f"package numpy 99.1 or later, not {found}: pip install 'numpy>=99.1'"
    extra = Extra("siglip", (Package("numpy"), Package("not_here", why="a tokenizer")))
    assert str(extra.look()) == (
        "package not_here for a tokenizer: pip install -U 'factbook[siglip]'"
    )


def test_what_is_fetched_is_told_and_what_cannot_be_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(requirements, "_unreachable", lambda url: "")
    file = Download("the weights", "https://a.b/c", str(tmp_path / "x" / "c"), "", "MIT", 3)
    finding = file.look()
    assert finding is not None
    assert not finding.is_missing
    assert str(finding) == (
        f"will be fetched: the weights, 3 MB, from https://a.b/c to {tmp_path}/x/c; licence MIT"
    )
    large = Download("the weights", "https://a.b/c", str(tmp_path / "c"), megabytes=1e12)
    assert "of room at" in str(large.look())
    monkeypatch.setattr(requirements, "_unreachable", lambda url: "cannot be reached (no route)")
    missing = file.look()
    assert missing is not None
    assert missing.is_missing
    assert "https://a.b/c cannot be reached (no route): put it there" in str(missing)
    assert str(missing).startswith(f"the weights (licence MIT), not at {tmp_path}/x/c")
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "c").touch()
    assert file.look() is None


def test_a_server_that_does_not_answer_is_waited_for_a_moment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(requirements, "PATIENCE_SECONDS", 0.05)
    monkeypatch.setattr(requirements, "_ask", lambda url: __import__("time").sleep(1) or "")
    assert "does not answer" in requirements._unreachable("https://nobody.invalid/1")


def test_features_and_saes_are_estimated_from_what_a_look_has_found() -> None:
    found = {"n_samples": 1000, "channels": 16}
    features = estimate_features({}, {}, found)
    assert features is not None
    assert (features.disk, features.sizes) == (64_000, {"sample": 1000, "channel": 16})
    assert estimate_features({}, {}, {}) is None
    config = {"n_concepts": 32, "batch": 10, "memory": 2**30}
    sae = estimate_sae(config, {"features": features.sizes}, {})
    assert sae is not None
    assert sae.disk == 2 * 32 * 16 * 4
    assert sae.memory == 5 * sae.disk + 2 * 10 * 32 * 4 + 64_000


def test_bounds_are_those_of_the_extras() -> None:
    """What a plan looks for is what pip is told, version by version."""
    table = tomllib.loads((SOURCE / "pyproject.toml").read_text())["project"]
    extras = table["optional-dependencies"]
    known = {
        extra: {bound.name.replace("_", "-"): bound for bound in map(Bound, bounds)}
        for extra, bounds in extras.items()
    }
    found = [
        value
        for module in (networks, array_file, folder)
        for value in vars(module).values()
        if isinstance(value, Extra)
    ]
    assert len(found) >= 6
    for extra in found:
        for package in extra.packages:
            bound = known[extra.name][package.name.replace("_", "-")]
            assert package.least in ("", *(one.version for one in bound.specifier)), package
        assert extra.name in extras["all"][0]


def test_code_from_outside_is_refused_until_it_is_trusted() -> None:
    choice = {"encoder": "dinov2-vits14", "upsampler": "loftup", "trusted": False}
    trust = [each for each in needs_encoder(choice) if type(each).__name__ == "Trust"]
    findings = [each.look() for each in trust]
    assert [finding is not None and finding.is_missing for finding in findings] == [True, True]
    assert "`trusted = true` in `config`" in str(findings[0])
    assert "dinov2/tree/" in str(findings[0])
    names = {p.module for e in needs_encoder(choice) if isinstance(e, Extra) for p in e.packages}
    assert {"matplotlib", "huggingface_hub"} <= names
    granted = needs_encoder({**choice, "trusted": True})
    assert all(e.look() is None for e in granted if type(e).__name__ == "Trust")


# -- reasons -----------------------------------------------------------------------------------

METRICS = [f"metric-{number}" for number in range(25)]


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        (METRICS, [*METRICS, "overlap"], "metrics + overlap"),
        ([*METRICS, "iou"], METRICS, "metrics - iou"),
        ([*METRICS, "iou"], ["overlap", *METRICS], "metrics + overlap - iou"),
        (METRICS, METRICS[::-1], "metrics in another order"),
        ([*METRICS, "x"], ["x"], f"metrics - {' - '.join(METRICS[:3])} - {len(METRICS) - 3} more"),
        (["x" * 40], ["x" * 40, *METRICS[:4]], f"metrics + {' + '.join(METRICS[:4])}"),
        ([8, 16], [8, 32], "metrics [8, 16] -> [8, 32]"),
    ],
)
def test_a_reason_names_the_difference_of_long_lists(
    old: list[object], new: list[object], text: str
) -> None:
    assert str(Change("metrics", json.dumps(old), json.dumps(new))) == text
