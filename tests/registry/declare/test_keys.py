"""Keys that were added later, and keys that were renamed: what is read, and what is hashed."""

from __future__ import annotations

import pickle
import warnings
from dataclasses import dataclass, field
from typing import Annotated

import pytest
from pydantic import Field

from registry.declare.faults import ConfigError, RenamedWarning
from registry.declare.settings import Formerly, Runtime, Settings, Since


@dataclass(frozen=True)
class OldTraining:
    lr: float = 0.1
    passes: int = 16


@dataclass(frozen=True)
class Old:
    k: int = 8
    share: float = 0.5
    training: OldTraining = field(default_factory=OldTraining)
    device: Runtime[str] = "auto"


@dataclass(frozen=True)
class Training:
    lr: float = 0.1
    epochs: Annotated[int, Field(ge=1), Formerly("passes")] = 16
    warmup: Annotated[int, Since(0)] = 0


@dataclass(frozen=True)
class New:
    k: int = 8
    fraction: Annotated[float, Field(le=1), Formerly("share", "portion")] = 0.5
    sizes: Annotated[tuple[int, ...], Since((1, 2))] = (1, 2)
    training: Training = field(default_factory=Training)
    device: Runtime[str] = "auto"


def hashed(cls: type, **values: object) -> dict[str, object]:
    settings = Settings(cls)
    return settings.rules.hashed(settings.plain(settings.validate(values)))


def test_an_added_key_is_hashed_only_where_it_differs() -> None:
    assert (
        hashed(New) == hashed(Old) == {"k": 8, "share": 0.5, "training": {"lr": 0.1, "passes": 16}}
    )
    assert hashed(New, sizes=[1, 2]) == hashed(Old)
    assert hashed(New, sizes=[2, 1]) == hashed(Old) | {"sizes": [2, 1]}
    assert hashed(New, training={"warmup": 5})["training"] == {"lr": 0.1, "passes": 16, "warmup": 5}


def test_a_default_that_moves_on_is_hashed() -> None:
    @dataclass(frozen=True)
    class Later(Old):
        sizes: Annotated[int, Since(3)] = 4

    rules = Settings(Later).rules
    assert rules.hashed({"k": 8, "sizes": 4}) == {"k": 8, "sizes": 4}
    assert rules.hashed({"k": 8, "sizes": 3}) == {"k": 8}
    assert rules.completed({"k": 8}) == {"sizes": 3, "k": 8}, "what a record left out was a 3"


def test_a_flag_is_no_number() -> None:
    @dataclass(frozen=True)
    class Flagged:
        value: Annotated[bool | int, Since(0)] = 0

    assert Settings(Flagged).rules.hashed({"value": False}) == {"value": False}


def test_old_names_are_read_with_a_warning_and_hashed_for_good() -> None:
    settings = Settings(New)
    with pytest.warns(RenamedWarning, match="'share' was renamed 'fraction'; the old name still"):
        assert settings.validate({"share": 0.25}).fraction == 0.25
    with pytest.warns(RenamedWarning, match="'training.passes' was renamed 'epochs'"):
        assert settings.validate({"training": {"passes": 3}}).training.epochs == 3
    with pytest.warns(RenamedWarning, match="'portion'"):
        assert hashed(New, portion=0.25) == hashed(Old, share=0.25)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert hashed(New, fraction=0.25, training={"epochs": 2}) == hashed(
            Old, share=0.25, training={"passes": 2}
        )


def test_a_key_under_both_names_is_a_fault() -> None:
    with pytest.raises(ConfigError, match="share: given as 'fraction' too, its name now"):
        Settings(New).validate({"share": 0.25, "fraction": 0.25})


def test_a_fault_has_the_name_of_today() -> None:
    with pytest.warns(RenamedWarning), pytest.raises(ConfigError) as error:
        Settings(New).validate({"share": 2, "training": {"passes": 0}})
    assert {fault.key for fault in error.value.faults} == {"fraction", "training.epochs"}


def test_names_of_any_time() -> None:
    rules = Settings(New).rules
    assert rules.name("share") == rules.name("fraction") == "fraction"
    assert rules.name("training.passes") == "training.epochs"
    assert rules.name("needs.images") == "needs.images"
    assert rules.names("portion") == ("fraction", "share", "portion")
    assert rules.names("training.epochs") == ("training.epochs", "training.passes")
    assert rules.names("k") == ("k",)


def test_what_was_recorded_is_read_in_the_form_of_today() -> None:
    old = Settings(Old)
    recorded = old.plain(old.validate({"share": 0.25})) | {"seed": 3}
    today = Settings(New).rules.completed(recorded)
    assert today.pop("seed") == 3
    assert today == Settings(New).plain(New(fraction=0.25))


def test_rules_reach_workers() -> None:
    rules = Settings(New).rules
    assert pickle.loads(pickle.dumps(rules)) == rules
    assert not Settings(Old).rules.has_history
