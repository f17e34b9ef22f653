import itertools
import json
import pickle
import subprocess
import sys
from dataclasses import FrozenInstanceError

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry.declare import plugins
from registry.declare.cells import expand
from registry.declare.declaration import (
    DeclarationError,
    find_declaration,
    parse_declaration,
    read_declaration,
)
from registry.declare.declared import SelectionError

HEAD = """
[project]
plugins = ["tests.registry.toy.kinds"]
[datasets.numbers]
kind = "toy-numbers"
"""

WHOLE = (
    HEAD
    + """
count = 3
scale = 2

[networks.line]
kind = "toy-line"
slope = 0.5

[experiments.features]
stage = "tests.registry.toy.collect"
needs = { network = "net", numbers = "numbers" }   # declared later, and in another order
config = { layer = "a" }
description = "what the layer sees"

[experiments.net]
stage = "tests.registry.toy.teach"
needs = { numbers = "numbers" }
matrix = { seed = [0, 1, 2] }

[experiments.sae]
stage = "tests.registry.toy.fit"
needs = { features = "features" }
config = { k = 99, training = { lr = 1 } }
matrix = { k = [8, 16], noise = [0, 0.5], seed = [4, 5] }

[experiments.concepts]
stage = "tests.registry.toy.measure"
needs = { sae = "sae[noise=0,k=8]", network = "net", features = "features" }

[suites]
demo = ["net", "sae[k=8]", "con*"]
"""
)


@pytest.fixture(autouse=True)
def only_the_toy_plugin(monkeypatch):
    """No installed plug-in takes part."""
    monkeypatch.setattr(plugins, "plugin_modules", tuple)


def faults_of(text):
    with pytest.raises(DeclarationError) as caught:
        parse_declaration(text)
    return caught.value.faults


def told(text):
    return {fault.key: fault.message for fault in faults_of(text)}


# what is read


def test_a_whole_file_is_resolved():
    declaration = parse_declaration(WHOLE)
    assert declaration.project.database == "factbook"
    numbers = declaration.resources["numbers"]
    assert (numbers.provides, numbers.settings.count) == ("numbers", 3)
    assert numbers.config == {"count": 3, "scale": 2.0, "workers": 0}
    assert list(declaration.experiments) == ["features", "net", "sae", "concepts"]
    assert declaration.order == ("net", "features", "sae", "concepts")
    features = declaration.experiments["features"]
    assert features.configs == ({"layer": "a", "samples": 12, "device": "auto"},)
    assert [need.slot for need in features.needs] == ["numbers", "network"]  # the stage's order
    assert declaration.suites == {"demo": ("net", "sae[k=8]", "con*")}


def test_the_matrix_overrides_the_configuration():
    sae = parse_declaration(WHOLE).experiments["sae"]
    cells = list(itertools.product([8, 16], [0.0, 0.5], [4, 5]))
    assert [(c["k"], c["noise"], c["seed"]) for c in sae.configs] == cells
    assert all(c["training"] == {"lr": 1.0, "passes": 16} for c in sae.configs)


def test_axes_are_inherited_first_and_have_validated_values():
    sae = parse_declaration(WHOLE).experiments["sae"]
    assert [axis.identity for axis in sae.axes] == [
        ("net", "seed"),
        ("sae", "k"),
        ("sae", "noise"),
        ("sae", "seed"),
    ]
    assert sae.labels == ("net.seed", "k", "noise", "seed")  # its own keeps the plain name
    assert [type(value) for value in sae.axes[2].values] == [float, float]
    assert sae.size == 24


def test_a_pinned_axis_is_not_inherited():
    concepts = parse_declaration(WHOLE).experiments["concepts"]
    assert concepts.labels == ("net.seed", "sae.seed")
    assert {need.slot: need.picks for need in concepts.needs} == {
        "features": (None,),
        "network": (None,),
        "sae": (None, 0, 0, None),
    }


def test_a_declaration_is_frozen_and_can_be_sent_to_another_process():
    declaration = parse_declaration(WHOLE)
    assert pickle.loads(pickle.dumps(declaration)) == declaration
    with pytest.raises(FrozenInstanceError):
        declaration.experiments["sae"].name = "other"


def test_comments_whitespace_and_order_of_keys_change_nothing():
    other = WHOLE.replace("count = 3\nscale = 2", "scale=2.0   # the same\n\ncount=3")
    other = other.replace('sae = "sae[noise=0,k=8]", network = "net",', 'network="net",')
    other = other.replace('features = "features" }\n\n[suites', 'features="features",sae=')
    other = other.replace(",sae=", ', sae = "sae[k=8,noise=0.0]" }\n\n[suites')
    assert other != WHOLE
    assert parse_declaration(other) == parse_declaration(WHOLE)


def test_describe_is_plain_json():
    described = parse_declaration(WHOLE).describe()
    assert json.loads(json.dumps(described)) == described
    sae = next(entry for entry in described["experiments"] if entry["name"] == "sae")
    assert sae["cells"] == 24
    assert sae["axes"] == {
        "net.seed": [0, 1, 2],
        "k": [8, 16],
        "noise": [0.0, 0.5],
        "seed": [4, 5],
    }
    assert sae["config"]["n_concepts"] == 512
    assert "k" not in sae["config"]
    assert described["suites"][0]["experiments"] == ["net", "sae", "concepts"]


def test_a_suite_may_have_the_name_of_a_dataset():
    declaration = parse_declaration(WHOLE + 'numbers = ["net"]')
    assert declaration.suites["numbers"] == ("net",)


def test_an_empty_file_declares_nothing():
    declaration = parse_declaration("")
    assert (declaration.experiments, declaration.suites) == ({}, {})


# faults, one by one


def experiment(lines, name="x"):
    return f"{HEAD}\n[experiments.{name}]\n{lines}"


FIT = 'stage = "tests.registry.toy.fit"\nneeds = { features = "features" }\n'
FEATURES = """
[experiments.features]
stage = "tests.registry.toy.collect"
needs = { numbers = "numbers", network = "net" }
config = { layer = "a" }
[experiments.net]
stage = "tests.registry.toy.teach"
needs = { numbers = "numbers" }
matrix = { seed = [0, 1] }
"""


@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        ("[project]\nstor = 'x'", "project.stor", "unknown key; did you mean 'store'?"),
        ("[project]\nstore = 3", "project.store", "expected a string; got an integer 3"),
        ("[project]\ndatabase = 'a.b'", "project.database", "got 'a.b'"),
        (
            "[project]\nplugins = 'm'",
            "project.plugins",
            'expected a list of strings; got a string "m',
        ),
        ("[project]\nplugins = ['no_such']", "project.plugins[0]", "No module named 'no_such'"),
        ("project = 3", "project", "expected a table; got an integer 3"),
        (HEAD + "[dataset.x]\nkind='y'", "dataset", "did you mean 'datasets'?"),
        (HEAD + "[datasets.x]\ncount = 3", "datasets.x", "'kind' is missing; expected one of"),
        (
            HEAD + "[datasets.x]\nkind='toy-number'",
            "datasets.x.kind",
            "did you mean 'toy-numbers'?",
        ),
        (HEAD + "[datasets]\nx = 3", "datasets.x", "expected a table; got an integer 3"),
        (HEAD + "cuont = 3", "datasets.numbers.cuont", "did you mean 'count'?"),
        (HEAD + "count = 0", "datasets.numbers.count", "greater than or equal to 1; got 0"),
        (HEAD + "count = 1.5", "datasets.numbers.count", "got 1.5"),
        (HEAD + "scale = 2020-01-01", "datasets.numbers.scale", 'got a date "2020-01-01"'),
        (HEAD + "scale = inf", "datasets.numbers.scale", "expected a finite number; got inf"),
        (HEAD + "[networks.x]\nkind='toy-line'", "networks.x.slope", "missing, and has no default"),
        (experiment("needs = {}"), "experiments.x", "key 'stage' is missing"),
        (experiment("stage = 3"), "experiments.x.stage", "expected a string"),
        (experiment("stage = 'no_such.fit'"), "experiments.x.stage", "unknown stage 'no_such.fit'"),
        (experiment("stage = 'tests.registry.toy.broken'"), "experiments.x.stage", "ZeroDivision"),
        (experiment("stage = 'tests.registry.toy.kinds'"), "experiments.x.stage", "no `stage`"),
        (experiment(FIT + "nedes = {}"), "experiments.x.nedes", "did you mean 'needs'?"),
        (experiment(FIT + "config = 3"), "experiments.x.config", "expected a table"),
        (experiment(FIT + "config = {kk=3}"), "experiments.x.config.kk", "unknown key"),
        (
            experiment(FIT + "config = {training={pases=3}}"),
            "experiments.x.config.training.pases",
            "did you mean 'passes'?",
        ),
        (experiment(FIT + "config = {k='8'}"), "experiments.x.config.k", "valid integer; got '8'"),
        (experiment(FIT + "config = {k=2000}"), "experiments.x.config", "k at most n_concepts"),
        (experiment(FIT + "matrix = {k=8}"), "experiments.x.matrix.k", "expected a list of values"),
        (experiment(FIT + "matrix = {k=[]}"), "experiments.x.matrix.k", "at least one value"),
        (experiment(FIT + "matrix = {k=[1,2,1]}"), "experiments.x.matrix.k[2]", "duplicate of the"),
        (
            experiment(FIT + "matrix = {noise=[0,0.0]}"),
            "experiments.x.matrix.noise[1]",
            "duplicate",
        ),
        (experiment(FIT + "matrix = {k=[1,0]}"), "experiments.x.matrix.k[1]", "got 0"),
        (experiment(FIT + "matrix = {k=[0,1]}"), "experiments.x.matrix.k[0]", "got 0"),
        (experiment(FIT + "matrix = {kk=[1,2]}"), "experiments.x.matrix.kk", "unknown key"),
        (experiment(FIT + "matrix = {device=['a']}"), "experiments.x.matrix.device", "no axis"),
        (experiment(FIT + "matrix = {seed=[1, nan]}"), "experiments.x.matrix.seed[1]", "finite"),
        (experiment(FIT), "experiments.x.needs.features", "unknown dataset, network or experiment"),
        (experiment(FIT, "a b".join('""')), "experiments.a b", "bad name 'a b'"),
        (experiment(FIT, "a.b".join('""')), "experiments.a.b", "bad name 'a.b'"),
        (experiment(FIT, "-x"), "experiments.-x", "bad name '-x'"),
        (experiment(FIT, "numbers"), "experiments.numbers", "stands under 'datasets' too"),
        (HEAD + "[networks.numbers]\nkind='toy-line'", "networks.numbers", "under 'datasets' too"),
        (HEAD + FEATURES + "[suites]\nnet=['net']", "suites.net", "an experiment's name too"),
        (HEAD + FEATURES + "[suites]\ns=['ent']", "suites.s[0]", "did you mean 'net'?"),
        (HEAD + FEATURES + "[suites]\ns=['nat*']", "suites.s[0]", "matches no experiment"),
        (HEAD + FEATURES + "[suites]\ns=['net[seed=3]']", "suites.s[0]", "expected one of 0, 1"),
        (HEAD + FEATURES + "[suites]\ns=['*[sed=3]']", "suites.s[0]", "no axis 'sed'"),
        (HEAD + FEATURES + "[suites]\ns=['net[']", "suites.s[0]", "cannot read 'net['"),
        (HEAD + FEATURES + "[suites]\ns=[]", "suites.s", "empty"),
        (HEAD + FEATURES + "[suites]\ns='net'", "suites.s", "expected a list of strings"),
    ],
)
def test_a_fault_is_told_with_its_place(text, place, message):
    found = told(text)
    assert place in found
    assert message in found[place]


@pytest.mark.parametrize(
    ("needs", "slot", "message"),
    [
        ("{}", "", "expected one of 'features'"),
        ("{ features = 'featurs' }", ".features", "did you mean 'features'?"),
        ("{ features = 'net' }", ".features", "wants 'features'; 'net' provides 'network'"),
        ("{ features = 'numbers' }", ".features", "'numbers' provides 'numbers'"),
        ("{ features = 3 }", ".features", "expected a string; got an integer 3"),
        ("{ features = 'features', imges = 'net' }", ".imges", "no such slot"),
        ("{ features = 'features[seed=2]' }", ".features", "no cell with seed=2; expected one of"),
        ("{ features = 'features[sed=1]' }", ".features", "did you mean 'seed'?"),
        ("{ features = 'features[seed=1' }", ".features", "got the end"),
        ("{ features = 'feat*' }", ".features", "a need names one thing"),
    ],
)
def test_a_wrong_need_is_told(needs, slot, message):
    text = experiment(f'stage = "tests.registry.toy.fit"\nneeds = {needs}') + FEATURES
    faults = faults_of(text)
    assert [fault.key for fault in faults] == [f"experiments.x.needs{slot}"]
    assert message in faults[0].message


def test_a_resource_has_no_cells():
    text = experiment('stage = "tests.registry.toy.teach"\nneeds = { numbers = "numbers[seed=1]" }')
    assert told(text) == {
        "experiments.x.needs.numbers": "'numbers' has no cells; got 'numbers[seed=1]'"
    }


def test_taking_one_value_of_an_axis_beside_all_of_it_is_a_fault():
    text = WHOLE.replace('network = "net", features', 'network = "net[seed=1]", features')
    (fault,) = faults_of(text)
    assert fault.key == "experiments.concepts.needs.network"
    assert "one 'seed' of 'net', while slot 'features' takes all" in fault.message


def test_an_axis_that_two_origins_share_must_be_named_with_its_origin():
    declaration = parse_declaration(
        WHOLE
        + """
[experiments.all]
stage = "tests.registry.toy.measure"
needs = { features = "features", network = "net", sae = "sae" }
"""
    )
    every = declaration.experiments["all"]
    assert every.labels == ("net.seed", "k", "noise", "sae.seed")
    with pytest.raises(SelectionError, match=r"ambiguous: name 'net\.seed' or 'sae\.seed'"):
        declaration.match("all[seed=1]")
    assert declaration.match("all[sae.seed=5,net.seed=1]") == ((every, (1, None, None, 1)),)


def test_naming_one_axis_in_two_ways_is_refused():
    with pytest.raises(SelectionError, match="names one axis twice"):
        parse_declaration(WHOLE).match("sae[sae.k=8,k=8]")


# faults, together


def test_syntax_is_told_with_its_line():
    (fault,) = faults_of("[project]\nstore = 'x'\nbad line\n")
    assert fault.line == 3
    assert "line 3, column 5" in fault.message
    (fault,) = faults_of("[project]\nstore = 1\nstore = 2\n")  # a duplicate key
    assert fault.line == 3
    (fault,) = faults_of("x = [1,\n2")
    assert fault.line == 2


BAD = """
[project]
databse = "x"
plugins = ["tests.registry.toy.kinds", "no_such"]

[datsets.x]
kind = "toy-numbers"

[datasets.numbers]
kind = "toy-number"

[datasets.one]
kind = "toy-numbers"
cuont = 3
scale = "x"

[networks.line]
kind = "toy-line"

[experiments.line]
stage = "tests.registry.toy.teech"
needs = { numbers = "oen" }

[experiments."a.b"]
stage = "tests.registry.toy.collect"
needs = { numbers = "one", network = "one", images = "x" }
config = { layr = "a" }
matrix = { device = ["a"], samples = [] }

[experiments.sae]
stage = "tests.registry.toy.fit"
matrix = { k = [8, 16, 16, "x"] }

[experiments.c]
stage = "tests.registry.toy.compare"
needs = { first = "d", second = "sae[k" }

[experiments.d]
stage = "tests.registry.toy.compare"
needs = { first = "sae", second = "c" }

[suites]
demo = ["nothing-*", 4]
"""


def test_every_fault_of_a_file_is_told_at_once_with_its_line():
    faults = faults_of(BAD)
    lines = BAD.splitlines()
    expected = {
        "project.databse": "databse",
        "project.plugins[1]": "plugins",
        "datsets": "[datsets.x]",
        "datasets.numbers.kind": 'kind = "toy-number"',
        "datasets.one.cuont": "cuont",
        "datasets.one.scale": "scale",
        "networks.line.slope": "[networks.line]",
        "experiments.line": "[experiments.line]",
        "experiments.line.stage": 'stage = "tests.registry.toy.teech"',
        "experiments.line.needs.numbers": 'needs = { numbers = "oen"',
        "experiments.a.b": '[experiments."a.b"]',
        "experiments.a.b.needs.images": 'needs = { numbers = "one", n',
        "experiments.a.b.needs.network": 'needs = { numbers = "one", n',
        "experiments.a.b.config.layr": "config = { layr",
        "experiments.a.b.config.layer": "config = { layr",
        "experiments.a.b.matrix.device": "matrix = { device",
        "experiments.a.b.matrix.samples": "matrix = { device",
        "experiments.sae.needs": "[experiments.sae]",
        "experiments.sae.matrix.k[2]": "matrix = { k",
        "experiments.sae.matrix.k[3]": "matrix = { k",
        "experiments.c.needs.second": 'needs = { first = "d"',
        "experiments.c.needs": 'needs = { first = "d"',
        "experiments.c.needs.first": 'needs = { first = "d"',
        "experiments.d.needs.second": 'needs = { first = "sae"',
        "suites.demo[0]": "demo",
        "suites.demo[1]": "demo",
    }
    assert sorted(fault.key for fault in faults) == sorted(expected)
    for fault in faults:
        assert lines[fault.line - 1].startswith(expected[fault.key]), fault
    assert [fault.line for fault in faults] == sorted(fault.line for fault in faults)


def test_the_error_reads_as_a_list_of_lines_and_survives_pickling(tmp_path):
    (tmp_path / "experiments.toml").write_text(BAD)
    with pytest.raises(DeclarationError) as caught:
        read_declaration(tmp_path)
    text = str(caught.value)
    assert f"{tmp_path / 'experiments.toml'}:3: project.databse: unknown key" in text
    assert text.endswith("26 faults; nothing was run")
    assert str(pickle.loads(pickle.dumps(caught.value))) == text


def test_nothing_follows_from_a_value_that_is_no_table():
    lines = 'stage = "tests.registry.toy.collect"\nneeds = 3\nconfig = 3\nmatrix = 3'
    text = experiment(lines) + "\n[experiments]\ny = 3\n"
    assert set(told(text)) == {f"experiments.x.{key}" for key in ("needs", "config", "matrix")} | {
        "experiments.y"
    }


def test_a_bad_value_in_a_large_matrix_is_told_once():
    values = list(range(1, 101))
    text = experiment(FIT + f"matrix = {{ seed = {values}, k = {[*values[:99], -1]} }}") + FEATURES
    (fault,) = faults_of(text)
    assert fault.key == "experiments.x.matrix.k[99]"


def test_what_only_combinations_violate_is_told_once_and_counted():
    text = experiment(FIT + "matrix = { n_concepts = [8, 16], k = [4, 8, 16, 32] }") + FEATURES
    (fault,) = faults_of(text)
    bad = [(n, k) for n in (8, 16) for k in (4, 8, 16, 32) if k > n]
    assert fault.key == "experiments.x.matrix"
    assert f"in cell x[n_concepts=8,k=16] and {len(bad) - 1} more" in fault.message


def test_a_matrix_beyond_reason_is_refused_at_once():
    values = list(range(1, 201))
    text = experiment(
        FIT + f"matrix = {{ seed = {values}, n_concepts = {values}, noise = {values} }}"
    )
    assert "8000000" in told(text + FEATURES)["experiments.x.matrix"]


# cycles


def blends(behind):
    """A file of experiments, each needing two others, or none."""
    text = ""
    for name, needs in behind.items():
        verb = "blend" if needs else "begin"
        text += f'[experiments.{name}]\nstage = "tests.registry.toy.{verb}"\n'
        if needs:
            text += f'needs = {{ left = "{needs[0]}", right = "{needs[1]}" }}\n'
    return text


def test_cycles_are_told_by_their_loop_and_nothing_follows_from_them():
    text = blends(
        {
            "free": (),
            "self": ("self", "free"),
            "a": ("free", "c"),
            "b": ("a", "a"),
            "c": ("b", "free"),
            "behind": ("c", "self"),
        }
    )
    assert told(text) == {
        "experiments.self.needs": "a cycle: self -> self",
        "experiments.a.needs": "a cycle: a -> c -> b -> a",
    }


@settings(max_examples=60)
@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)) | st.just(()), min_size=6, max_size=6)
)
def test_a_graph_is_refused_exactly_if_something_reaches_itself(edges):
    names = "abcdef"
    behind = {name: tuple(names[i] for i in row) for name, row in zip(names, edges, strict=True)}
    reached = {name: set(needs) for name, needs in behind.items()}
    for middle, start in itertools.product(names, names):  # Warshall
        if middle in reached[start]:
            reached[start] |= reached[middle]
    in_cycles = {name for name in names if name in reached[name]}
    try:
        order = parse_declaration(blends(behind)).order
    except DeclarationError as error:
        loops = [fault.message.removeprefix("a cycle: ").split(" -> ") for fault in error.faults]
        assert {name for loop in loops for name in loop} == in_cycles
        for loop in loops:
            assert loop[0] == loop[-1]
            assert all(after in behind[name] for name, after in itertools.pairwise(loop))
    else:
        assert not in_cycles
        assert all(order.index(n) > order.index(b) for n in names for b in behind[n])


# files


def test_the_file_is_found_from_below(tmp_path, monkeypatch):
    monkeypatch.delenv("FACTBOOK_PROJECT", raising=False)
    (tmp_path / "experiments.toml").write_text("")
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    monkeypatch.chdir(below)
    assert find_declaration() == tmp_path / "experiments.toml"
    declaration = read_declaration()
    assert declaration.root == tmp_path
    (tmp_path / "a" / "experiments.toml").write_text("")
    assert find_declaration() == tmp_path / "a" / "experiments.toml"


def test_the_environment_names_the_project(tmp_path, monkeypatch):
    file = tmp_path / "experiments.toml"
    file.write_text("")
    for chosen in (tmp_path, file):
        monkeypatch.setenv("FACTBOOK_PROJECT", str(chosen))
        assert find_declaration() == file
    monkeypatch.setenv("FACTBOOK_PROJECT", str(tmp_path / "gone"))
    with pytest.raises(DeclarationError, match="no such file"):
        find_declaration()


def test_a_missing_file_says_where_it_was_sought(tmp_path, monkeypatch):
    monkeypatch.delenv("FACTBOOK_PROJECT", raising=False)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DeclarationError, match=str(tmp_path)):
        find_declaration()
    with pytest.raises(DeclarationError, match="cannot be read: No such file"):
        read_declaration(tmp_path / "other.toml")
    (tmp_path / "experiments.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(DeclarationError, match="not UTF-8"):
        read_declaration(tmp_path)


def test_planning_imports_nothing_heavy():
    code = (
        "import sys, registry.declare.declaration, registry.plan.plan;"
        "heavy = {'torch', 'sacred', 'xarray', 'pymongo', 'numpy'} & set(sys.modules);"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def judgement(needs: str) -> str:
    return f'[experiments.judgement]\nstage = "tests.registry.toy.judge"\nneeds = {needs}\n'


def needs_of_judgement(needs: str) -> dict[str, str]:
    declared = parse_declaration(WHOLE + judgement(needs))
    return {need.slot: need.kind for need in declared.experiments["judgement"].needs}


def test_a_slot_may_take_one_of_several_kinds_and_an_optional_one_nothing():
    assert needs_of_judgement('{ judged = "features" }') == {"judged": "features"}
    assert needs_of_judgement('{ judged = "sae[k=8,noise=0,seed=4]" }') == {"judged": "sae"}
    told = needs_of_judgement('{ judged = "features", measures = "concepts" }')
    assert told == {"judged": "features", "measures": "concepts"}


@pytest.mark.parametrize(
    ("needs", "slot", "message"),
    [
        ('{ judged = "net" }', "judged", "wants 'features' or 'sae'; 'net' provides 'network'"),
        (
            '{ judged = "features", measures = "net" }',
            "measures",
            "wants 'concepts'; 'net' provides 'network'",
        ),
    ],
)
def test_what_fits_no_kind_of_a_slot_is_told_with_all_of_them(needs, slot, message):
    (fault,) = faults_of(WHOLE + judgement(needs))
    assert fault.key == f"experiments.judgement.needs.{slot}"
    assert message in fault.message


def test_a_list_fills_a_slot_that_takes_one_and_each_entry_has_its_axes():
    listed = '{ judged = "features", measures = ["concepts[sae.seed=4]", "concepts[sae.seed=5]"] }'
    declared = parse_declaration(WHOLE + judgement(listed))
    needs = declared.experiments["judgement"].needs
    assert [need.slot for need in needs] == ["judged", "measures", "measures_2"]
    cells = expand(declared).by_experiment["judgement"]
    one = expand(declared).by_experiment["concepts"]
    assert len(cells) == len(one) // 2
    for cell in cells:
        assert (
            cell.needs["measures"].replace("sae.seed=4", "sae.seed=5") == cell.needs["measures_2"]
        )
    alone = parse_declaration(WHOLE + judgement('{ judged = "features", measures = ["concepts"] }'))
    plain = parse_declaration(WHOLE + judgement('{ judged = "features", measures = "concepts" }'))
    assert alone.experiments == plain.experiments


@pytest.mark.parametrize(
    ("needs", "place", "message"),
    [
        ('{ judged = ["features"] }', "judged", "expected a string"),
        ('{ judged = "features", measures = [] }', "measures", "empty; expected at least one name"),
        (
            '{ judged = "features", measures = ["concepts", "net"] }',
            "measures_2",
            "wants 'concepts'; 'net' provides 'network'",
        ),
        ('{ judged = "features", measures = [1] }', "measures[0]", "expected a string"),
        ('{ judged = "features", judged_2 = "features" }', "judged_2", "no such slot"),
    ],
)
def test_a_list_that_cannot_fill_a_slot_is_told(needs, place, message):
    (fault,) = faults_of(WHOLE + judgement(needs))
    assert fault.key == f"experiments.judgement.needs.{place}"
    assert message in fault.message
