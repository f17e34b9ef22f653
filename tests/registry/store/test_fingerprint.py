import hashlib
import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.plan.plan import fingerprint
from registry.store.durable import canonical_json

PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abcé"), inner, max_size=3),
    max_leaves=10,
)


def shuffled(value, seed):
    """The same value with the keys of every table in another order."""
    if isinstance(value, dict):
        keys = sorted(value)
        random.Random(seed).shuffle(keys)
        return {key: shuffled(value[key], seed) for key in keys}
    return [shuffled(entry, seed) for entry in value] if isinstance(value, list) else value


@given(PLAIN, st.integers(0, 5))
def test_the_order_of_keys_does_not_matter(value, seed):
    assert fingerprint(value) == fingerprint(shuffled(value, seed))


@given(PLAIN, PLAIN)
@pytest.mark.slow
def test_the_text_is_canonical_and_tells_values_apart(left, right):
    assert json.loads(canonical_json(left)) == left
    texts_agree = canonical_json(left) == canonical_json(right)
    assert texts_agree == (json.dumps(left, sort_keys=True) == json.dumps(right, sort_keys=True))


def test_the_hash_is_that_of_the_sorted_compact_text():
    text = '{"config":{"a":1,"é":[1.5,true]},"inputs":{"x":"00ff"},"stage":"m.s","version":3}'
    expected = hashlib.sha256(text.encode()).hexdigest()[:16]
    config = {"é": [1.5, True], "a": 1}
    task = {"version": 3, "stage": "m.s", "inputs": {"x": "00ff"}, "config": config}
    assert fingerprint(task) == expected


def test_each_part_counts():
    task = {"stage": "m.s", "version": 1, "config": {"k": 8}, "inputs": {"features": "aa"}}
    changed = [{"stage": "m.t"}, {"version": 2}, {"config": {"k": 9}}]
    changed += [{"inputs": {"features": "bb"}}, {"inputs": {"feature": "aa"}}]
    assert len({fingerprint({**task, **other}) for other in [{}, *changed]}) == 6
    settings = {"path": "x"}
    resource = {"family": "datasets", "kind": "folder", "settings": settings, "identity": "hash"}
    others = [{"family": "networks"}, {"identity": None}, {"identity": ""}]
    assert len({fingerprint({**resource, **other}) for other in [{}, *others]}) == 4


def test_what_is_no_json_is_refused():
    with pytest.raises(ValueError, match="JSON"):
        fingerprint({"lr": float("nan")})
    with pytest.raises(TypeError):
        fingerprint({"path": object()})
