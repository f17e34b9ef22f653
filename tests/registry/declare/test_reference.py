import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.declare.declared import (
    Reference,
    SelectionError,
    format_value,
    parse_reference,
    same_value,
)

NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_-]{0,10}", fullmatch=True)
LABELS = st.from_regex(r"([a-z][a-z-]{0,5}\.)?[a-z_]{1,6}", fullmatch=True)
SCALARS = (
    st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]))
)
VALUES = SCALARS | st.lists(SCALARS, max_size=3) | st.dictionaries(st.text("abc"), SCALARS)


@pytest.mark.slow
@given(NAMES, st.dictionaries(LABELS, VALUES, max_size=4))
def test_a_name_is_read_back_as_it_was_written(name, values):
    reference = Reference(name, tuple(values.items()))
    read = parse_reference(str(reference))
    assert read == reference
    assert [type(v) for _, v in read.values] == [type(v) for v in values.values()]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (8, "8"),
        (1.0, "1.0"),
        (1e-5, "1e-05"),
        (True, "true"),
        ("features.2", "features.2"),
        ("true", '"true"'),
        ("8", '"8"'),
        ("", '""'),
        ("a b", '"a b"'),
        ([1, "x"], '[1,"x"]'),
        ({"b": 1, "a": 2}, '{"a":2,"b":1}'),
    ],
)
def test_values_have_one_short_form(value, text):
    assert format_value(value) == text


@pytest.mark.parametrize("text", ["sae[k=8,seed=1]", "sae[ k = 8 , seed=1 ]", " sae[k=8,seed=1] "])
def test_whitespace_does_no_harm(text):
    assert parse_reference(text) == Reference("sae", (("k", 8), ("seed", 1)))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "expected a name"),
        ("[k=8]", "expected a name"),
        ("sae[", "expected axis=value; got the end"),
        ("sae[]", "expected axis=value; got ']'"),
        ("sae[k m]", "expected axis=value"),
        ("sae[k=]", "expected a value; got ']'"),
        ("sae[k=8", "got the end"),
        ("sae[k=8]x", "'x' after the closing"),
        ("sae[k=8,]", "expected axis=value"),
        ("sae[k=8,k=9]", "'k' is given twice"),
        ("sae[k=3d]", "needs quotes"),
        ('sae[k="3]', "expected a JSON value"),
    ],
)
def test_what_cannot_be_read_is_told_with_its_place(text, told):
    with pytest.raises(SelectionError) as caught:
        parse_reference(text)
    assert told in str(caught.value)


def test_numbers_are_the_same_by_value_and_truth_is_no_number():
    assert same_value(1, 1.0)
    assert not same_value(1, True)
    assert not same_value(0.0, False)
    assert not same_value("1", 1)


def test_patterns_match_whole_names():
    assert parse_reference("shapes-*").matches("shapes-sae")
    assert not parse_reference("shapes-*").matches("my-shapes-sae")
    assert parse_reference("sae?[k=8]").is_pattern
    assert not parse_reference("sae").matches("sae2")
