"""What `factbook kinds` and `stages` print is what the code takes; so does the reference."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner

from registry.cli import main
from registry.declare.described import (
    LONGEST,
    UNSET,
    Declarable,
    described_kinds,
    described_stages,
    toml,
)
from registry.declare.plugins import kinds, load_plugins
from registry.declare.settings import Settings
from registry.declare.stage import load_stage

load_plugins()


def is_own(entry: Declarable) -> bool:
    """Whether no other test has registered it."""
    return kinds(entry.family)[entry.name].settings.cls.__module__.startswith("fact.")


EITHER = {"words": {"words": ["red"]}, "language-model": {"model": "gpt2"}}
"""What kinds ask for of which no single key is required."""

ALL = [
    *(entry for entry in described_kinds() if is_own(entry)),
    *(entry for entry in described_stages() if entry.name.startswith(("fact.", "evals."))),
]


def settings_of(entry: Declarable) -> Settings:
    if entry.family == "experiments":
        return load_stage(entry.name).settings
    return kinds(entry.family)[entry.name].settings


@pytest.mark.parametrize("entry", ALL, ids=lambda entry: entry.name)
def test_a_snippet_is_what_the_code_takes_with_or_without_its_comments(entry: Declarable) -> None:
    settings = settings_of(entry)
    assert [key.name for key in entry.keys] == list(settings.keys)
    assert all(key.meaning for key in entry.keys), "a key that no docstring explains"
    tables = tomllib.loads(entry.snippet)
    [(_, declared)] = tables[entry.family].items()
    assert declared.pop("stage" if entry.family == "experiments" else "kind") == entry.name
    if entry.family == "experiments":
        assert set(declared.pop("needs", {})) == set(entry.needs) - entry.optional
        declared = declared.pop("config", {})
    assert set(declared) == {key.name for key in entry.keys if key.is_required}
    declared |= EITHER.get(entry.name, {})
    plain = settings.plain(settings.validate(declared))
    # every comment that has a value is that of the default
    written = re.sub(r"^# (\w+ = )", r"\1", entry.snippet, flags=re.M)
    [(_, whole)] = tomllib.loads(written)[entry.family].items()
    whole = whole.get("config", {}) if entry.family == "experiments" else whole
    whole.pop("kind", None)
    assert settings.plain(settings.validate(whole | EITHER.get(entry.name, {}))) == plain
    shown = {key.name for key in entry.keys if len(key.line) <= LONGEST and key.default != UNSET}
    assert set(whole) == shown


def test_types_are_said_with_their_ranges() -> None:
    by_name = {entry.name: {key.name: key for key in entry.keys} for entry in ALL}
    sae, folder = by_name["fact.train_sae"], by_name["image-folder"]
    assert sae["k"].type == "integer >= 1"
    assert folder["test_share"].type == "number > 0 and < 1"
    assert folder["labels"].type == "text, or unset"
    assert folder["layout"].type == '"auto" or "splits" or "classes" or "flat"'
    assert folder["root"].is_required
    assert folder["workers"].is_runtime
    assert by_name["fact.train_classifier"]["channels"].type == "list, each integer >= 1"
    assert by_name["fact.train_classifier"]["channels"].default == "[32, 64, 128]"


@pytest.mark.parametrize(
    "value", [True, 3, 0.25, 1e-05, 'a"b\\c\n\x7f', [1, 2], [], {"a b": {"c": [1.5]}}, {}]
)
def test_values_are_written_as_toml_reads_them(value: object) -> None:
    assert tomllib.loads(f"x = {toml(value)}")["x"] == value


def test_the_commands_list_and_show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # no project is needed
    # Other tests load plug-ins of their own.
    monkeypatch.setattr("registry.declare.plugins._IMPORTED", set())
    monkeypatch.setattr("registry.declare.stage.plugin_modules", lambda: ("fact.kinds", "evals"))

    def told(*words: str) -> str:
        result = CliRunner().invoke(main, words)
        assert result.exit_code == 0, result.output
        return result.stdout

    assert "image-folder" in told("kinds")
    assert "fact.train_sae" in told("stages")
    shown = told("stages", "train_sae")
    assert 'stage = "fact.train_sae"' in shown
    assert "evals.name_concepts" not in shown
    assert told("stages", "*_concepts").count("stage = ") > 3
    assert told("kinds", "--all").count("kind = ") == len(list(described_kinds()))
    everything = json.loads(told("stages", "--json"))
    assert {entry["name"] for entry in everything} == {entry.name for entry in described_stages()}
    result = CliRunner().invoke(main, ["kinds", "image-foldr"])
    assert result.exit_code == 1
    assert "did you mean 'image-folder'?" in result.stderr


def test_the_plug_ins_of_a_project_are_listed_even_where_it_has_faults(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "experiments.toml").write_text(
        '[project]\nplugins = ["tests.registry.lab.kinds"]\nnonsense = 1\n'
    )
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, ["kinds"])
    assert "numbers" in result.stdout
