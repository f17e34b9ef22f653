"""Stages, their typed configurations, kinds of resources, inputs."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import pytest
from pydantic import Field

from registry.declare import plugins as table_of_kinds
from registry.declare.faults import ConfigError, StageError
from registry.declare.plugins import kind, kinds, load_plugins
from registry.declare.settings import Runtime, Settings
from registry.declare.stage import Input, Slot, Stage, known_stages, listed, load_stage
from registry.store.durable import StoreError
from registry.store.manifest import write_manifest
from registry.store.schema import Schema, Variable
from tests.registry.lab import scale
from tests.registry.lab.kinds import Numbers


@dataclass(frozen=True)
class Inner:
    rate: Annotated[float, Field(gt=0)] = 0.5
    steps: int = 3


@dataclass(frozen=True)
class Outer:
    k: Annotated[int, Field(ge=1)]
    inner: Inner = field(default_factory=Inner)
    name: str = "x"
    sizes: tuple[int, ...] = (1, 2)
    device: Runtime[str] = "auto"


OUTPUT = Schema("thing", 1, "A thing", coords={}, variables={"a": Variable((), "float", "a")})


def faults(values: dict[str, object]) -> dict[str, str]:
    with pytest.raises(ConfigError) as error:
        Settings(Outer).validate(values)
    return {fault.key: fault.message for fault in error.value.faults}


def test_what_is_named_goes_over_the_defaults() -> None:
    settings = Settings(Outer).validate({"k": 2, "inner": {"steps": 7}, "sizes": [4]})
    assert settings == Outer(2, Inner(0.5, 7), "x", (4,), "auto")


def test_a_configuration_is_plain_values_and_can_be_read_back() -> None:
    settings = Settings(Outer)
    plain = settings.plain(settings.validate({"k": 2}))
    assert plain == {
        "k": 2,
        "inner": {"rate": 0.5, "steps": 3},
        "name": "x",
        "sizes": [1, 2],
        "device": "auto",
    }
    assert settings.plain(settings.validate(plain)) == plain


def test_every_fault_is_told_at_once_with_the_nearest_key() -> None:
    told = faults({"K": 2, "inner": {"stepz": 1, "rate": -1}, "name": 5, "sizes": "ab"})
    assert told.keys() == {"k", "K", "inner.stepz", "inner.rate", "name", "sizes"}
    assert told["k"] == "missing, and has no default"
    assert told["inner.stepz"] == "unknown key; did you mean 'steps'?"
    assert "greater than 0; got -1" in told["inner.rate"]
    assert "got 5" in told["name"]


@pytest.mark.parametrize("value", [True, 2.0, 2.5, "2", None, [2], 0])
def test_types_are_those_of_json_and_nothing_is_converted(value: object) -> None:
    assert faults({"k": value}).keys() == {"k"}


def test_an_integer_is_a_number() -> None:
    assert Settings(Inner).validate({"rate": 2}).rate == 2.0


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {1, 2}, object(), Path("x")])
def test_what_is_no_json_is_refused(value: object) -> None:
    assert "not plain JSON" in faults({"k": 1, "name": value})[""]


def test_runtime_keys_are_known_by_their_type() -> None:
    assert Settings(Outer).rules.runtime == {"device"}
    assert Settings(Inner).rules.runtime == frozenset()


def test_defaults_have_every_key() -> None:
    assert Settings(Outer).defaults() == {
        "k": None,
        "inner": {"rate": 0.5, "steps": 3},
        "name": "x",
        "sizes": [1, 2],
        "device": "auto",
    }


def test_a_configuration_is_a_dataclass() -> None:
    with pytest.raises(StageError, match="Path is no dataclass"):
        Settings(Path)


def test_a_stage_does_its_work_and_says_if_it_has_none() -> None:
    made = Stage("tests.nothing", version=1, config=Inner, needs={}, output=OUTPUT)
    with pytest.raises(StageError, match=r"'tests.nothing' has no main function"):
        made(Inner(), {}, None)
    made.main(lambda config, inputs, run: config.steps)
    assert made(Inner(steps=9), {}, None) == 9


def test_a_stage_whose_work_is_gone_says_which_module() -> None:
    work = "tests.registry.lab.gone:work"
    made = Stage("tests.nothing", version=1, config=Inner, needs={}, output=OUTPUT, main=work)
    with pytest.raises(StageError, match=r"no module 'tests.registry.lab.gone': put its file back"):
        made(Inner(), {}, None)


def test_a_stage_knows_its_module() -> None:
    assert scale.stage.doc.startswith("Multiply numbers by a factor")
    assert scale.stage.settings.rules.runtime == {"sleep", "then"}
    assert load_stage("tests.registry.lab.scale") is scale.stage


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("tests.registry.lab.scal", "unknown stage .*; did you mean 'tests.registry.lab.scale'?"),
        ("tests.registry.lab.kinds", "declares no `stage`"),
        ("tests.nowhere.scale", "unknown stage 'tests.nowhere.scale'"),
        ("nowhere.scale", "unknown stage 'nowhere.scale'"),
        ("scale", "unknown stage 'scale'"),
        ("", "unknown stage ''"),
    ],
)
def test_a_stage_that_is_not_there(name: str, message: str) -> None:
    with pytest.raises(StageError, match=message):
        load_stage(name)


def write_module(folder: Path, name: str, text: str, monkeypatch: pytest.MonkeyPatch) -> str:
    package = f"{folder.name}_{name}"
    (folder / package).mkdir()
    (folder / package / "__init__.py").touch()
    (folder / package / "work.py").write_text(text)
    monkeypatch.syspath_prepend(folder)
    return f"{package}.work"


def test_a_stage_whose_module_lacks_a_package_says_which(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = write_module(tmp_path, "a", "import no_such_package\n", monkeypatch)
    with pytest.raises(StageError, match=r"work' cannot be imported: .*'no_such_package'"):
        load_stage(name)


def test_a_stage_has_the_name_of_its_module(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "from tests.registry.lab.scale import stage\n"
    name = write_module(tmp_path, "b", text, monkeypatch)
    with pytest.raises(StageError, match=f"named 'tests.registry.lab.scale'; expected '{name}'"):
        load_stage(name)


def test_stages_are_found_without_importing_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = write_module(tmp_path, "c", "1 / 0\nstage = None\n", monkeypatch)
    package = name.rpartition(".")[0]
    assert name in known_stages(package)
    assert name not in sys.modules
    assert known_stages("no_such_package") == known_stages()


def test_a_declaration_within_a_text_is_no_stage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = write_module(tmp_path, "d", 'TOML = """\nstage = "fact.train_sae"\n"""\n', monkeypatch)
    assert name not in known_stages(name.rpartition(".")[0])


def test_plug_ins_that_fail_are_told() -> None:
    with pytest.raises(StageError, match="plug-in 'no_such_plugin' cannot be imported"):
        load_plugins(("no_such_plugin",))


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_of_kinds, "_KINDS", {})


@pytest.mark.usefixtures("table")
def test_a_kind_is_a_row_of_a_table() -> None:
    kind("datasets", "numbers", provides="numbers")(Numbers)
    kind("datasets", "numbers", provides="numbers")(Numbers)  # imported twice does no harm
    row = kinds("datasets")["numbers"]
    assert (row.family, row.name, row.provides) == ("datasets", "numbers", "numbers")
    assert row.settings.validate({"values": [1]}).load() == [1.0]
    assert table_of_kinds.families() == ("datasets",)
    assert kinds("networks") == {}


@pytest.mark.usefixtures("table")
def test_a_kind_has_two_methods_and_a_name_of_its_own() -> None:
    with pytest.raises(StageError, match="kind 'inner' of 'datasets' has no identity"):
        kind("datasets", "inner", provides="numbers")(Inner)
    kind("datasets", "numbers", provides="numbers")(Numbers)

    @dataclass(frozen=True)
    class Other(Numbers):
        pass

    with pytest.raises(StageError, match="'numbers' of 'datasets' is registered already"):
        kind("datasets", "numbers", provides="numbers")(Other)


def test_an_input_is_opened_or_loaded_as_what_it_is(tmp_path: Path) -> None:
    resource = Input("numbers", "few", "numbers", "f" * 16, settings=Numbers((2.0,)))
    dataset = Input("scaled", "twice", "scaled", "f" * 16, path=tmp_path)
    assert resource.load() == [2.0]
    with pytest.raises(StageError, match="'few' is a declared numbers; it has no dataset"):
        resource.open()
    with pytest.raises(StageError, match="'few' is a declared numbers; see its settings"):
        _ = resource.config
    with pytest.raises(StageError, match="'twice' is a dataset on disk; open it instead"):
        dataset.load()
    with pytest.raises(StageError, match="'few' is a declared numbers; it has no dataset"):
        resource.proven()


def test_a_damaged_input_says_what_makes_it_again(tmp_path: Path) -> None:
    (tmp_path / "weights").write_bytes(b"1234")
    write_manifest(tmp_path, {})
    given = Input("scaled", "twice[k=8]", "scaled", "f" * 16, path=tmp_path)
    assert given.proven()[0] == tmp_path
    (tmp_path / "weights").write_bytes(b"1235")
    told = r"weights has another checksum .*; factbook run --verify 'twice\[k=8\]' makes it again"
    with pytest.raises(StoreError, match=told):
        given.proven()
    with pytest.raises(StoreError, match=told):
        given.open(proven=100)
    assert given.proven(most=3)[0] == tmp_path, "too large to be read before it is used"
    (tmp_path / "weights").unlink()
    with pytest.raises(StoreError, match=r"weights is missing; factbook run --verify"):
        given.open()


def test_what_is_behind_an_input_is_found_by_slot() -> None:
    numbers = Input("numbers", "few", "numbers", "0" * 16)
    far = Input("numbers", "far", "numbers", "3" * 16)
    scaled = Input("scaled", "twice", "scaled", "1" * 16, inputs={"numbers": numbers})
    deep = Input("deep", "deep", "deep", "4" * 16, inputs={"numbers": far})
    mean = Input("mean", "mean", "mean", "2" * 16, inputs={"deep": deep, "scaled": scaled})
    assert mean.origin("mean") is mean
    assert mean.origin("scaled") is scaled
    assert mean.origin("numbers") is far
    with pytest.raises(StageError, match="nothing that 'mean' was made from fills the slot 'x'"):
        mean.origin("x")


@pytest.mark.parametrize(
    ("text", "kinds", "is_optional"),
    [
        ("concepts", ("concepts",), False),
        ("concepts | activations", ("concepts", "activations"), False),
        ("concepts|activations?", ("concepts", "activations"), True),
    ],
)
def test_a_slot_says_what_it_takes(text: str, kinds: tuple[str, ...], is_optional: bool) -> None:
    assert Slot.parse("a", text) == Slot("a", kinds, is_optional)


def test_a_slot_may_take_a_list():
    assert Slot.parse("a", "concepts | labels+") == Slot("a", ("concepts", "labels"), False, True)
    assert Slot.parse("a", "concepts*") == Slot("a", ("concepts",), True, True)
    names = ["a", "b", "a_10", "a_2", "a_b", "ab_3"]
    inputs = {name: Input(name, f"of-{name}", "numbers", "0" * 16) for name in names}
    assert [one.name for one in listed(inputs, "a")] == ["of-a", "of-a_2", "of-a_10"]
    assert listed(inputs, "c") == ()


@pytest.mark.parametrize("text", ["", "?", "concepts?|labels", "con-cepts", "a,b", "a?+", "a+*"])
def test_a_slot_that_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(StageError, match="expected kinds as"):
        Slot.parse("a", text)
