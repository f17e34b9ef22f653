import hashlib
import itertools
import json
import pickle
import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry.declare import plugins
from registry.declare.cells import expand
from registry.declare.declaration import parse_declaration
from registry.declare.declared import SelectionError
from registry.declare.stage import load_stage
from registry.plan.plan import changed_keys, fingerprints, make_plan
from registry.plan.task import Change, Earlier, PlanError, TaskState, Why
from registry.record.states import State

CHAIN = """
[project]
plugins = ["tests.registry.toy.kinds"]
[datasets.numbers]
kind = "toy-numbers"
count = 3
[experiments.net]
stage = "tests.registry.toy.teach"
needs = { numbers = "numbers" }
[experiments.features]
stage = "tests.registry.toy.collect"
needs = { numbers = "numbers", network = "net" }
config = { layer = "a" }
[experiments.sae]
stage = "tests.registry.toy.fit"
needs = { features = "features" }
config = { k = 8, training = { passes = 4 } }
[experiments.concepts]
stage = "tests.registry.toy.measure"
needs = { features = "features", network = "net", sae = "sae" }
"""
EVERY = {"numbers": "data-1"}


@pytest.fixture(autouse=True)
def only_the_toy_plugin(monkeypatch):
    monkeypatch.setattr(plugins, "plugin_modules", tuple)


class Disk:
    """What a store would say, kept in memory; `run` completes everything that is due."""

    def __init__(self):
        self.states = {}
        self.records = {}
        self.latest = {}

    def __call__(self, cell, fingerprint):
        state = self.states.get(fingerprint, TaskState())
        latest = self.latest.get(cell.name)
        if latest in (None, fingerprint):
            return state
        return replace(state, earlier=self.past(cell.experiment, latest))

    def past(self, experiment, fingerprint):
        record = self.records.get(fingerprint)
        return Earlier.from_record(json.loads(json.dumps(record))) if record else None

    def run(self, plan, content="bits"):
        for task in plan.due:
            read = {
                slot: self.states[fingerprint].content
                for slot, fingerprint in task.inputs.items()
                if fingerprint in self.states
            }
            self.states[task.fingerprint] = TaskState(
                State.COMPLETE, f"run-{task.name}", f"{content}-{task.name}", read, "code-1"
            )
            self.records[task.fingerprint] = task.record()
            self.latest[task.name] = task.fingerprint

    def change(self, task, **facts):
        self.states[task.fingerprint] = replace(self.states[task.fingerprint], **facts)


def plan_of(text, disk=None, targets=(), identities=None, **options):
    graph = expand(parse_declaration(text))
    states = {} if disk is None else disk
    past = disk.past if disk else None
    return make_plan(
        graph, targets, identities=identities or EVERY, states=states, past=past, **options
    )


@pytest.fixture
def disk():
    """A disk on which everything of CHAIN is complete."""
    disk = Disk()
    disk.run(plan_of(CHAIN))
    return disk


def reasons(plan):
    return {task.name: task.reason for task in plan.due}


# fingerprints


def test_a_fingerprint_is_the_hash_of_what_can_change_the_result():
    def digest(value):
        text = json.dumps(value, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    plan = plan_of(CHAIN)
    numbers = digest(
        {
            "family": "datasets",
            "kind": "toy-numbers",
            "settings": {"count": 3, "scale": 1.0},  # without workers
            "identity": "data-1",
        }
    )
    net = digest(
        {
            "stage": "tests.registry.toy.teach",
            "version": 1,
            "config": {"seed": 0},
            "inputs": {"numbers": numbers},
        }
    )
    features = digest(
        {
            "stage": "tests.registry.toy.collect",
            "version": 1,
            "config": {"layer": "a", "samples": 12},  # without device
            "inputs": {"numbers": numbers, "network": net},
        }
    )
    assert plan.task("net").fingerprint == net
    assert plan.task("features").fingerprint == features
    known = fingerprints(expand(parse_declaration(CHAIN)), ["features"], EVERY)
    assert known == {"numbers": numbers, "net": net, "features": features}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("count = 3", "count = 3\nscale = 1"),
        ("count = 3", "count = 3\nscale = 1.0  # a comment"),
        ("count = 3", "workers = 7\ncount   =   3"),
        ('{ layer = "a" }', '{ samples = 12, layer = "a" }'),
        ('{ layer = "a" }', '{ layer = "a", device = "cuda:1" }'),
        ("training = { passes = 4 }", "noise = 0, training = { lr = 1e-3, passes = 4 }"),
        ("training = { passes = 4 }", "seed = 0, noise = 0.0, training = { passes = 4 }"),
        ('features = "features", network = "net"', 'network = "net", features = "features"'),
    ],
)
def test_what_means_the_same_never_runs_again(disk, old, new):
    assert old in CHAIN
    assert reasons(plan_of(CHAIN.replace(old, new), disk)) == {}


VALUES = {
    "n_concepts": st.integers(16, 99),
    "k": st.integers(1, 16),
    "noise": st.sampled_from([0, 0.0, 1, 1.0, 0.5]),
    "seed": st.integers(0, 3),
}


@given(st.fixed_dictionaries({}, optional=VALUES), st.randoms(use_true_random=False))
@pytest.mark.slow
def test_defaults_written_out_and_the_order_of_keys_do_not_count(config, shuffle):
    def sae_of(values):
        items = list(values.items())
        shuffle.shuffle(items)
        table = ", ".join(f"{key} = {json.dumps(value)}" for key, value in items)
        text = CHAIN.replace("k = 8, training = { passes = 4 }", table)
        return plan_of(text).task("sae").fingerprint

    defaults = {"n_concepts": 512, "k": 16, "noise": 0.0, "seed": 0}
    written = {**defaults, **config}
    assert sae_of(config) == sae_of(written)
    assert sae_of(config) == sae_of({**written, "noise": float(written["noise"])})
    other = {**written, "seed": written["seed"] + 1}
    assert sae_of(config) != sae_of(other)


def test_the_identity_of_the_data_must_be_given():
    graph = expand(parse_declaration(CHAIN))
    with pytest.raises(PlanError, match="no identity given for 'numbers'"):
        make_plan(graph, identities={}, states={})


# what is due


def test_at_first_everything_is_due_in_order_of_the_needs():
    plan = plan_of(CHAIN)
    assert [task.name for task in plan.due] == ["net", "features", "sae", "concepts"]
    assert {task.reasons[0].why for task in plan.tasks} == {Why.NEVER}
    assert set(reasons(plan).values()) == {"never ran"}


def test_what_was_run_is_not_due(disk):
    plan = plan_of(CHAIN, disk)
    assert plan.due == ()
    assert [task.name for task in plan.tasks] == ["net", "features", "sae", "concepts"]


def test_only_targets_and_what_of_their_inputs_is_due_are_shown(disk):
    plan = plan_of(CHAIN, disk, ["sae"])
    assert [task.name for task in plan.tasks] == ["sae"]
    assert [task.name for task in plan.settled] == ["net", "features"]
    disk.change(plan.task("features"), status=State.MISSING)
    plan = plan_of(CHAIN, disk, ["sae"])
    assert [(task.name, task.is_target) for task in plan.tasks] == [
        ("features", False),
        ("sae", True),
    ]
    with pytest.raises(PlanError, match="no task 'concepts' in this plan"):
        plan.task("concepts")


def test_a_wrong_target_is_told():
    with pytest.raises(SelectionError, match="did you mean 'sae'"):
        plan_of(CHAIN, targets=["sea"])


def test_a_changed_value_is_told_key_by_key_and_to_everything_behind_it(disk):
    text = CHAIN.replace("k = 8, training = { passes = 4 }", "k = 9, training = { lr = 0.01 }")
    plan = plan_of(text, disk)
    changed = "configuration changed: k 8 -> 9, training.lr 0.001 -> 0.01, training.passes 4 -> 16"
    assert reasons(plan) == {"sae": changed, "concepts": f"input sae changed (sae: {changed})"}
    (reason,) = plan.task("sae").reasons
    assert (reason.why, reason.changes[0]) == (Why.CONFIG, Change("k", "8", "9"))
    (reason,) = plan.task("concepts").reasons
    assert (reason.why, reason.slots) == (Why.INPUT, ("sae",))


def test_a_cause_far_behind_is_told_once_for_all_inputs_that_it_changed(disk):
    old = 'needs = { numbers = "numbers" }\n'
    text = CHAIN.replace(old, old + "config = { seed = 5 }\n")
    assert reasons(plan_of(text, disk)) == {
        "net": "configuration changed: seed 0 -> 5",
        "features": "input network changed (net: configuration changed: seed 0 -> 5)",
        "sae": "input features changed (net: configuration changed: seed 0 -> 5)",
        "concepts": (
            "inputs features, network, sae changed (net: configuration changed: seed 0 -> 5)"
        ),
    }


def test_the_cause_is_still_known_when_the_input_was_made_again_alone(disk):
    text = CHAIN.replace("k = 8", "k = 9")
    disk.run(plan_of(text, disk, ["sae"]))
    assert reasons(plan_of(text, disk)) == {
        "concepts": "input sae changed (sae: configuration changed: k 8 -> 9)"
    }
    plan = make_plan(expand(parse_declaration(text)), identities=EVERY, states=disk)
    (reason,) = plan.task("concepts").reasons  # nobody remembers the past
    assert reason.text.startswith("input sae changed (sae: is ")


def test_changed_data_and_settings_of_a_resource_are_told(disk):
    plan = plan_of(CHAIN, disk, identities={"numbers": "data-2"})
    assert plan.task("net").reason == "input numbers changed (numbers: its data changed)"
    plan = plan_of(CHAIN.replace("count = 3", "count = 4"), disk)
    assert plan.task("net").reason == "input numbers changed (numbers: count 3 -> 4)"
    assert "numbers: count 3 -> 4" in plan.task("concepts").reason


def test_another_input_is_told_by_name(disk):
    text = CHAIN + '\n[networks.line]\nkind = "toy-line"\nslope = 1\n'
    text = text.replace('network = "net" }', 'network = "line" }', 1)
    plan = plan_of(text, disk, identities={"numbers": "data-1", "line": ""})
    assert plan.task("features").reason == "input network changed (net -> line)"


def test_a_new_version_of_a_stage_is_told(disk, monkeypatch):
    monkeypatch.setattr(load_stage("tests.registry.toy.fit"), "version", 2)
    plan = plan_of(CHAIN, disk)
    changed = "stage changed: tests.registry.toy.fit 1 -> tests.registry.toy.fit 2"
    assert plan.task("sae").reason == changed
    assert set(reasons(plan)) == {"sae", "concepts"}


@pytest.mark.parametrize(
    ("status", "why", "text"),
    [
        (State.FAILED, Why.FAILED, "failed in run u1"),
        (State.DIED, Why.DIED, "died in run u1"),
        (State.INTERRUPTED, Why.INTERRUPTED, "interrupted in run u1"),
        (State.MISSING, Why.MISSING, "output missing of run u1"),
        (State.DAMAGED, Why.DAMAGED, "output damaged of run u1"),
    ],
)
def test_what_ended_badly_is_due_with_its_run(disk, status, why, text):
    disk.change(plan_of(CHAIN).task("features"), status=status, run="u1")
    plan = plan_of(CHAIN, disk)
    (reason,) = plan.task("features").reasons
    assert (reason.why, reason.text, reason.run) == (why, text, "u1")
    assert plan.task("sae").reason == "upstream will run: features"
    assert plan.task("sae").is_conditional
    assert not plan.task("features").is_conditional
    assert not plan.task("net").due


def test_what_runs_now_is_not_due_and_what_needs_it_waits(disk):
    disk.change(plan_of(CHAIN).task("features"), status=State.RUNNING, run="u1")
    plan = plan_of(CHAIN, disk, ["sae"], force=True)
    features = plan.task("features")
    assert features in plan.tasks
    assert (features.due, features.is_running) == (False, True)
    assert features.notes == ("running now as u1",)
    assert plan.task("sae").reason == "upstream will run: features; forced"
    assert not plan_of(CHAIN, disk, ["features"], force=True).task("features").due


def test_an_input_recomputed_to_other_bits_is_noticed(disk):
    features = plan_of(CHAIN).task("features")
    disk.change(features, content="other-features", run="u2")
    plan = plan_of(CHAIN, disk)
    assert set(reasons(plan)) == {"sae", "concepts"}
    (reason,) = plan.task("sae").reasons
    assert (reason.why, reason.slots, reason.run) == (Why.RECOMPUTED, ("features",), "u2")
    assert "other bits (features is other-featur, was read as bits-feature)" in reason.text
    assert not plan.task("concepts").is_conditional
    disk.change(features, content="bits-features")
    assert plan_of(CHAIN, disk).due == ()


def test_force_runs_the_targets_and_nothing_before_them(disk):
    plan = plan_of(CHAIN, disk, ["sae"], force=True)
    assert reasons(plan) == {"sae": "forced"}
    plan = plan_of(CHAIN, disk, force=True)
    assert len(plan.due) == 4
    assert plan.task("sae").reason == "upstream will run: features; forced"


def test_changed_code_is_noted_and_a_reason_only_if_asked(disk):
    sources = {"sae": "code-2", "features": "code-1"}
    plan = plan_of(CHAIN, disk, sources=sources)
    assert plan.due == ()
    note = "the code of tests.registry.toy.fit changed since run run-sae"
    assert {task.name: task.notes for task in plan.tasks if task.notes} == {"sae": (note,)}
    plan = plan_of(CHAIN, disk, sources=sources, rerun_changed_code=True)
    assert reasons(plan) == {"sae": "code changed since", "concepts": "upstream will run: sae"}


def test_data_that_cannot_be_read_makes_due_what_rests_on_it(disk):
    plan = plan_of(CHAIN, disk, identities={"numbers": None})
    assert set(reasons(plan).values()) == {"the data of 'numbers' cannot be read here"}
    assert len(plan.due) == 4
    assert plan.task("concepts").reasons[0].why is Why.UNREADABLE


def test_a_cell_added_to_a_matrix_leaves_the_others_alone():
    disk = Disk()
    text = CHAIN.replace("k = 8", "k = 7").replace(
        "config = { k", "matrix.seed = [0, 1]\nconfig = { k"
    )
    disk.run(plan_of(text))
    plan = plan_of(text.replace("[0, 1]", "[0, 7, 1]"), disk)
    assert reasons(plan) == dict.fromkeys(["sae[seed=7]", "concepts[seed=7]"], "never ran")


EDITS = {
    "net": (
        'needs = { numbers = "numbers" }\n',
        'needs = { numbers = "numbers" }\nconfig.seed = 3\n',
    ),
    "features": ('layer = "a"', 'layer = "b"'),
    "sae": ("k = 8", "k = 7"),
    "concepts": ('sae = "sae" }', 'sae = "sae" }\nconfig = { batch = 3 }'),
}
BEHIND = {
    "net": {"features", "sae", "concepts"},
    "features": {"sae", "concepts"},
    "sae": {"concepts"},
    "concepts": set(),
}


@pytest.mark.parametrize(
    "edited",
    list(itertools.chain.from_iterable(itertools.combinations(EDITS, count) for count in range(3))),
)
def test_an_edit_makes_due_exactly_what_rests_on_it(disk, edited):
    text = CHAIN
    for name in edited:
        assert EDITS[name][0] in text
        text = text.replace(EDITS[name][0], EDITS[name][1], 1)
    expected = set(edited).union(*(BEHIND[name] for name in edited))
    plan = plan_of(text, disk)
    assert {task.name for task in plan.due} == expected
    disk.run(plan)
    assert plan_of(text, disk).due == ()
    assert plan_of(CHAIN, disk).due == ()  # the old outputs are there still


# how long


def test_the_estimate_is_its_own_past_then_its_experiments_then_its_stages():
    text = CHAIN.replace("config = { k = 8, training = { passes = 4 } }", "matrix = { k = [1, 2] }")
    text += (
        '\n[experiments.other]\nstage = "tests.registry.toy.fit"\n'
        'needs = { features = "features" }\n'
    )
    known = {"sae[k=1]": (10.0, 30.0, 11.0), "net": (2.0,), "concepts[k=1]": (5.0, 7.0)}

    def states(cell, fingerprint):
        return TaskState(State.DIED, "u1", durations=known.get(cell.name, ()))

    plan = plan_of(text, None, identities=EVERY)
    assert (plan.seconds, plan.unknown) == (0, 7)
    graph = expand(parse_declaration(text))
    plan = make_plan(graph, identities=EVERY, states=states)
    assert {task.name: task.seconds for task in plan.tasks} == {
        "net": 2.0,
        "features": None,
        "sae[k=1]": 11.0,
        "sae[k=2]": 11.0,
        "concepts[k=1]": 6.0,
        "concepts[k=2]": 6.0,
        "other": 11.0,
    }
    assert (plan.seconds, plan.unknown) == (2 + 3 * 11 + 2 * 6, 1)
    done = make_plan(graph, identities=EVERY, states=lambda cell, f: TaskState(State.COMPLETE))
    assert [task.seconds for task in done.tasks] == [None] * 7


# the plan as a value


def test_a_plan_can_be_sent_to_another_process(disk):
    plan = plan_of(CHAIN.replace("k = 8", "k = 9"), disk, ["concepts"])
    assert pickle.loads(pickle.dumps(plan)) == plan


def test_a_record_is_plain_json_and_tells_all_that_was_hashed():
    task = plan_of(CHAIN).task("features")
    record = task.record()
    assert json.loads(json.dumps(record)) == record
    assert record["cell"] == record["experiment"] == "features"
    assert record["config"] == {"layer": "a", "samples": 12, "device": "auto"}
    assert record["needs"]["network"] == {"name": "net", "fingerprint": task.inputs["network"]}
    assert record["needs"]["numbers"]["settings"] == {"count": 3, "scale": 1.0}
    assert Earlier.from_record(record).fingerprint == task.fingerprint


TREES = st.recursive(
    st.integers(0, 3), lambda inner: st.dictionaries(st.sampled_from("abc"), inner), max_leaves=8
)
TABLES = st.dictionaries(st.sampled_from("abc"), TREES)


def patched(table, changes):
    """The table after the changes; each must have told the value that was there."""
    table = json.loads(json.dumps(table))
    for change in changes:
        *path, key = change.key.split(".")
        inner = table
        for part in path:
            inner = inner[part]
        old = inner.pop(key, None)
        assert change.old == (
            None if old is None else json.dumps(old, sort_keys=True, separators=(",", ":"))
        )
        if change.new is not None:
            inner[key] = json.loads(change.new)
    return table


@given(TABLES, TABLES)
@pytest.mark.slow
def test_changed_keys_turn_the_old_table_into_the_new_one(old, new):
    changes = list(changed_keys(old, new))
    assert patched(old, changes) == new
    assert bool(changes) == (old != new)
    assert all(change.old != change.new for change in changes)


def test_a_change_reads_well():
    changes = list(changed_keys({"a": 1, "b": {"c": "x"}}, {"b": {"c": "y"}, "d": 2.0}))
    assert list(map(str, changes)) == ['b.c "x" -> "y"', "d unset -> 2.0", "a 1 -> unset"]


@settings(max_examples=30)
@given(st.integers(0, 10_000))
def test_tasks_come_after_their_inputs_whatever_the_order_of_the_file(seed):
    head, *tables = CHAIN.split("[experiments.")
    random.Random(seed).shuffle(tables)
    plan = plan_of(head + "".join(f"[experiments.{table}" for table in tables))
    names = [task.name for task in plan.tasks]
    for task in plan.tasks:
        needed = [name for name in task.cell.needs.values() if name != "numbers"]
        assert all(names.index(name) < names.index(task.name) for name in needed)
    assert {task.fingerprint for task in plan.tasks} == {
        t.fingerprint for t in plan_of(CHAIN).tasks
    }
