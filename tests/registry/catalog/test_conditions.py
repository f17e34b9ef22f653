"""Comparisons of runs by column: the grammar, and what equals what."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from registry.catalog.conditions import (
    Condition,
    QueryError,
    conditions_of,
    moment_of,
    require_columns,
)

START = datetime(2026, 11, 22, 1, tzinfo=UTC)


@dataclass
class One:
    """A run with these values."""

    values: dict[str, Any]

    def value(self, column: str) -> Any:
        return self.values.get(column)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("", []),
        ("config.k=16", [("config.k", "=", "16")]),
        (" config.k >= 16 ,a!=b, ", [("config.k", ">=", "16"), ("a", "!=", "b")]),
        ("a=", [("a", "=", "")]),
        ('a={"$gt": ""}', [("a", "=", '{"$gt": ""}')]),
        ('a="b, c",d~e', [("a", "=", '"b, c"'), ("d", "~", "e")]),
        ("config.x=a=b", [("config.x", "=", "a=b")]),
        ("cell=sae[k=8,seed=1], id<3", [("cell", "=", "sae[k=8,seed=1]"), ("id", "<", "3")]),
        ("a=[[1, 2], {}], b=1", [("a", "=", "[[1, 2], {}]"), ("b", "=", "1")]),
        ("a==3", [("a", "=", "3")]),
    ],
)
def test_conditions(text: str, parts: list[tuple[str, str, str]]) -> None:
    assert [(c.column, c.sign, c.text) for c in conditions_of(text)] == parts


@pytest.mark.parametrize(
    "text", ["config.k", "=3", "a=1, b", '{"$gt": ""}', "a\n", "a=>3", "a>==3", "a!~b", "a===3"]
)
def test_what_is_no_condition_is_refused(text: str) -> None:
    with pytest.raises(QueryError, match="expected a key"):
        conditions_of(text)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("config.n>=", "'config.n>=' has no value; expected a key, one of"),
        ("a=1, config.n~ ", "has no value"),
        (
            "config.n>=4 and config.n<5, a=1",
            "commas separate conditions; did you mean 'config.n>=4, config.n<5'?",
        ),
        ("config.n>=4 && config.n<5", "did you mean 'config.n>=4, config.n<5'?"),
        ("config.n=4 or config.n=5", "there is no word for or: ask once for each"),
    ],
)
def test_what_makes_no_sense_is_refused_with_what_does(text: str, told: str) -> None:
    with pytest.raises(QueryError, match=re.escape(told)):
        conditions_of(text)


def test_words_within_a_value_are_no_conditions() -> None:
    assert [c.text for c in conditions_of('a~salt and pepper, b="x and c=1"')] == [
        "salt and pepper",
        '"x and c=1"',
    ]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("config.n>four", "'config.n>four': config.n is a number; expected one"),
        ("config.n=four", "config.n is a number"),
        ("config.n!=", "config.n is a number"),
        ("config.flag=True", "config.flag is true or false"),
        ("config.flag>0", "config.flag is true or false"),
        ("config.list>3", "config.list is no number and no text"),
        ("started=yesterday", "started is a time; expected one as 2026-11-22"),
        ("status=completed", "no such status; did you mean 'COMPLETED'?"),
        ("status!=completed", "no such status; did you mean 'COMPLETED'?"),
        ("status=FALED", "did you mean 'FAILED'?"),
        ("cell=SAE", "no run has it; did you mean 'sae'?"),
        ("run=5", "no run has 'run'; did you mean 'id'?"),
        ("took>5", "no run has 'took'; did you mean 'seconds'?"),
        ("result>0.5", "did you mean 'result.…'?"),
    ],
)
def test_what_no_value_can_fulfil_is_refused(text: str, told: str) -> None:
    values = {"n": 4, "flag": True, "list": [1]}
    row = {f"config.{name}": value for name, value in values.items()}
    runs = [One({**row, "status": "COMPLETED", "cell": "sae", "started": START, "id": 5})] * 2
    with pytest.raises(QueryError, match=re.escape(told)):
        require_columns(conditions_of(text), runs, ["status", "cell", "started", "id"])


@pytest.mark.parametrize(
    "text",
    ["config.n=5", "config.n>inf", "status=FAILED", "cell=other", "cell>a", "cell~SAE", "x=null"],
)
def test_what_only_finds_nothing_is_asked(text: str) -> None:
    runs = [One({"config.n": 4, "status": "COMPLETED", "cell": "sae", "x": None})]
    require_columns(conditions_of(text), runs, ["status", "cell"])


@pytest.mark.parametrize(
    ("value", "text", "holds"),
    [
        (16, "=16", True),
        (16, "=16.0", True),
        (16, "=1e400", False),
        (1, "=true", False),
        (True, "=true", True),
        (True, "=1", False),
        (True, ">0", False),
        ("16", "=16", True),
        ("16", "<9", True),  # texts are compared as texts
        ("a", ">3", True),
        (16, ">a", False),
        (float("nan"), ">0", False),
        (float("nan"), "!=0", True),
        ([8, 16], "=[8, 16]", True),
        ([8], "=[8]", True),
        (2**80, "=" + str(2**80), True),
        ("b, c", '="b, c"', True),
        (None, "=null", True),
        (None, "!=3", False),
        (0.9, ">" + "[" * 9000, False),
        (0.9, "=" + "9" * 9000, False),
        (float("nan"), "=nan", True),
        (float("nan"), "=NaN", True),
        (float("nan"), "=0", False),
        ("nan", "=nan", True),  # as it was recorded once
        (0.5, "!=nan", True),
        (0.5, "<inf", True),
        (str(2**80), ">1", True),  # integers beyond 64 bits are recorded as texts
        (str(2**80), f">{2**80}", False),
        (str(2**80), f"={2**80}", True),
        (START, "=2026-11-22", True),
        (START, ">2026-11-21", True),
        (True, "~tru", True),
    ],
)
def test_comparisons(value: Any, text: str, holds: bool) -> None:
    [condition] = conditions_of(f"result.x{text}")
    assert condition.holds(One({"result.x": value})) == holds


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("config.factor>=NaN", "nothing is more or less than NaN"),
        ("result.total>1e400", "expected at most 1.8e+308"),
        ("config.k>1,,", "expected a key"),
        ("config.k>1,,config.n=2", "expected a key"),
        (",config.k>1", "expected a key"),
        (",", "expected a key"),
    ],
)
def test_what_compares_nothing_is_refused(text: str, told: str) -> None:
    with pytest.raises(QueryError, match=re.escape(told)):
        conditions_of(text)
    assert len(conditions_of("config.k>1, ")) == 1


def test_moments() -> None:
    noon = datetime(2026, 11, 22, 12, tzinfo=UTC)
    assert moment_of("24h", now=noon) == noon - timedelta(days=1)
    assert moment_of(" 30 min", now=noon) == noon - timedelta(minutes=30)
    assert moment_of("2026-11-22") == datetime(2026, 11, 22, tzinfo=UTC)
    assert moment_of("2026-11-22", is_end=True) == datetime(2026, 11, 23, tzinfo=UTC)
    assert moment_of("2026-11-22T13:00+01:00", is_end=True) == noon
    for text in ("yesterday", "999999w", "2026-13-01", "<script>", '{"$gt": ""}'):
        with pytest.raises(QueryError, match="is no time"):
            moment_of(text)
    with pytest.raises(QueryError):
        moment_of("9999-12-31", is_end=True)


def test_what_no_run_has_is_told_with_the_nearest_name() -> None:
    runs = [One({"config.k": 3}), One({"config.k": 4, "config.lr": None})]
    for text in ("config.k=9", "config.lr=1", "seconds>1"):
        require_columns(conditions_of(text), runs, ["seconds"])
    with pytest.raises(QueryError, match=r"no run has 'config\.kk'; did you mean 'config\.k'\?"):
        require_columns([Condition("config.kk", "=", "3")], runs)
    require_columns(conditions_of("config.kk=3"), [])  # where nothing ran, nothing is wrong


def test_the_search_for_a_column_ends_where_it_is_met() -> None:
    def runs() -> Iterator[One]:
        yield One({"a": 1})
        yield One({"b": 1})
        pytest.fail("read on")

    require_columns(conditions_of("b>0, a=1"), runs())
