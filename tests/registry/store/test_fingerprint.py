import hashlib
import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.plan.plan import fingerprint, resource_fingerprint, task_fingerprint
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
def test_the_text_is_canonical_and_tells_values_apart(left, right):
    assert json.loads(canonical_json(left)) == left
    texts_agree = canonical_json(left) == canonical_json(right)
    assert texts_agree == (json.dumps(left, sort_keys=True) == json.dumps(right, sort_keys=True))


def test_the_hash_is_that_of_the_sorted_compact_text():
    text = '{"config":{"a":1,"é":[1.5,true]},"inputs":{"x":"00ff"},"stage":"m.s","version":3}'
    expected = hashlib.sha256(text.encode()).hexdigest()[:16]
    assert task_fingerprint("m.s", 3, {"é": [1.5, True], "a": 1}, {"x": "00ff"}) == expected


def test_each_part_counts():
    task = ("m.s", 1, {"k": 8}, {"features": "aa"})
    changed = [("m.t", *task[1:]), (task[0], 2, *task[2:]), (*task[:2], {"k": 9}, task[3])]
    changed += [(*task[:3], {"features": "bb"}), (*task[:3], {"feature": "aa"})]
    assert len({task_fingerprint(*other) for other in [task, *changed]}) == 6
    resource = ("datasets", "folder", {"path": "x"}, "hash")
    others = [("networks", *resource[1:]), (*resource[:3], None), (*resource[:3], "")]
    assert len({resource_fingerprint(*other) for other in [resource, *others]}) == 4


def test_what_is_no_json_is_refused():
    with pytest.raises(ValueError, match="JSON"):
        fingerprint({"lr": float("nan")})
    with pytest.raises(TypeError):
        fingerprint({"path": object()})
