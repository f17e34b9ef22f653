"""``factbook data check``: what of any kind is there, what is missing, whether all is ready."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import registry
from registry import Download, Finding, Package
from registry.cli import main
from registry.commands.data import chosen, examine
from registry.declare.declared import Resource
from registry.declare.plugins import check_of
from registry.plan.project import open_project


@dataclass
class Kind:
    """Settings that say what they are told to."""

    needed: list[Any] = field(default_factory=list)
    looked_at: list[bool] = field(default_factory=list)

    def requires(self) -> Iterator[Any]:
        yield from self.needed

    def identity(self) -> str:
        return ""

    def load(self) -> None:
        pytest.fail("loaded")


class OwnCheck(Kind):
    """Looks at its data itself."""

    def check(self, every: bool) -> Iterator[Finding]:
        self.looked_at.append(every)
        yield Finding("half", is_missing=False)
        yield Finding("the other half")


@registry.checks("made for this test")
def check_made(settings: Any, every: bool) -> Iterator[Finding]:
    settings.looked_at.append(every)
    yield Finding("all", is_missing=False)


def found(root: Path, settings: Kind, provides: str = "numbers", every: bool = False) -> list[str]:
    resource = Resource("mine", "datasets", "toy", provides, settings, {})
    return [str(finding) for finding in examine(open_project(root), resource, every)]


def test_a_kind_looks_itself_or_as_all_that_provide_the_same(fresh: Path) -> None:
    own = OwnCheck()
    assert found(fresh, own, every=True) == ["half", "the other half"]
    assert own.looked_at == [True]
    general = Kind()
    assert check_of("made for this test") is check_made
    assert found(fresh, general, "made for this test") == ["all"]
    assert general.looked_at == [False]
    assert found(fresh, Kind()) == ["made, not read"]


def test_nothing_is_loaded_without_its_packages_or_fetched(fresh: Path, tmp_path: Path) -> None:
    lacking = Kind([Package("no_such_module")])
    assert found(fresh, lacking, "made for this test") == [
        "package no_such_module: pip install no_such_module"
    ]
    there = tmp_path / "there"
    there.write_text("")
    absent = tmp_path / "absent" / "file"
    far = Download("it", "http://127.0.0.1:9/x", str(absent))
    assert "not at" in found(fresh, Kind([far]), "made for this test")[0]
    near = Download("it", "http://127.0.0.1:9/x", str(there))
    assert found(fresh, Kind([near]), "made for this test") == ["all"]


class FromFile(Kind):
    """Has content of its own, which is not there if it has none."""

    def __init__(self, content: str | None):
        super().__init__()
        self.content = content

    def identity(self) -> str:
        if self.content is None:
            raise FileNotFoundError("no file")
        return self.content


def test_without_names_all_that_comes_from_outside_is_looked_at(fresh: Path) -> None:
    given: dict[str, tuple[str, Kind]] = {
        "a dataset that is made": ("datasets", Kind()),
        "a network that is made": ("networks", Kind()),
        "a network of a file": ("networks", FromFile("0")),
        "an SAE whose file is missing": ("saes", FromFile(None)),
        "a network that is fetched": (
            "networks",
            Kind([Download("it", "http://127.0.0.1:9", "x")]),
        ),
    }
    resources = {n: Resource(n, f, "toy", "numbers", s, {}) for n, (f, s) in given.items()}
    project = open_project(fresh)
    project = replace(project, declaration=replace(project.declaration, resources=resources))
    found = [resource.name for resource in chosen(project, ())]
    assert found == [name for name in given if name != "a network that is made"]
    assert [r.name for r in chosen(project, ("a network that is made",))] == [
        "a network that is made"
    ]


def test_all_datasets_of_a_project_are_looked_at(fresh: Path) -> None:
    result = CliRunner().invoke(main, ["data", "check"])
    declared = open_project(fresh).declaration.resources
    datasets = [r.name for r in declared.values() if r.family == "datasets"]
    for name in datasets:
        assert f"[datasets.{name}]" in result.output
    assert result.exit_code in (0, 1)
    assert ("not ready: " in result.output) == bool(result.exit_code)
    refused = CliRunner().invoke(main, ["data", "check", "nothing"])
    assert refused.exit_code == 1
    assert "no dataset or network 'nothing'" in refused.output
