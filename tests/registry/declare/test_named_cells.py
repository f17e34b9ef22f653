"""Cells with names: what each sets, who has the same ones, how they are chosen."""

from __future__ import annotations

import pytest

from registry.declare import plugins
from registry.declare.cells import expand
from registry.declare.declaration import DeclarationError, parse_declaration
from registry.declare.declared import SelectionError

RESOURCES = """
[project]
plugins = ["tests.registry.toy.kinds"]
[datasets.numbers]
kind = "toy-numbers"
[networks.flat]
kind = "toy-line"
slope = 0.5
[networks.steep]
kind = "toy-line"
slope = 2.0
"""
FEATURES = """
[experiments.features]
stage = "tests.registry.toy.collect"
needs = { numbers = "numbers" }
matrix = [
    { cell = "flat-a", needs = { network = "flat" }, layer = "a" },
    { cell = "steep-b", needs = { network = "steep" }, layer = "b" },
    { cell = "steep-c", needs = { network = "steep" }, layer = "c" },
]
"""
SAE = """
[experiments.sae]
stage = "tests.registry.toy.fit"
needs = { features = "features" }
config = { k = 4, noise = 0.5 }
"""
CELLS = """matrix = [
    { cell = "steep-b", k = 8 },
    { cell = "flat-a", n_concepts = 64, k = 16 },
]
"""
MEASURED = """
[experiments.concepts]
stage = "tests.registry.toy.measure"
needs = { sae = "sae", network = "flat", features = "features" }
[suites]
steep = ["*[steep-*]"]
flat-a = ["*[flat-a]"]
"""


@pytest.fixture(autouse=True)
def only_the_toy_plugin(monkeypatch):
    monkeypatch.setattr(plugins, "plugin_modules", tuple)


def graph_of(*texts):
    return expand(parse_declaration("".join((RESOURCES, *texts))))


def told(*texts):
    with pytest.raises(DeclarationError) as caught:
        graph_of(*texts)
    return {fault.key: fault.message for fault in caught.value.faults}


def test_each_cell_sets_its_own_keys_and_inputs():
    cells = graph_of(FEATURES).by_experiment["features"]
    assert [cell.name for cell in cells] == [
        "features[cell=flat-a]",
        "features[cell=steep-b]",
        "features[cell=steep-c]",
    ]
    assert [cell.needs["network"] for cell in cells] == ["flat", "steep", "steep"]
    assert [cell.config["layer"] for cell in cells] == ["a", "b", "c"]
    assert {cell.needs["numbers"] for cell in cells} == {"numbers"}
    assert cells[0].values == {"cell": "flat-a"}


def test_named_cells_are_those_of_as_many_experiments_written_one_by_one():
    one = """
    [experiments.alone]
    stage = "tests.registry.toy.collect"
    needs = { numbers = "numbers", network = "steep" }
    config = { layer = "c" }
    """
    graph = graph_of(FEATURES, one)
    [alone] = graph.by_experiment["alone"]
    assert graph.cells["features[cell=steep-c]"].result_config == alone.result_config
    assert graph.cells["features[cell=steep-c]"].needs == alone.needs


def test_what_needs_them_has_cells_of_the_same_names():
    graph = graph_of(FEATURES, SAE)
    assert [cell.needs["features"] for cell in graph.by_experiment["sae"]] == [
        cell.name for cell in graph.by_experiment["features"]
    ]


def test_settings_for_inherited_names_choose_among_them():
    graph = graph_of(FEATURES, SAE, CELLS, MEASURED)
    sae = graph.by_experiment["sae"]
    assert [cell.name for cell in sae] == ["sae[cell=steep-b]", "sae[cell=flat-a]"]
    assert [(cell.config["n_concepts"], cell.config["k"]) for cell in sae] == [(512, 8), (64, 16)]
    assert {cell.config["noise"] for cell in sae} == {0.5}
    for own in graph.by_experiment["concepts"]:
        name = own.values["cell"]
        assert own.needs["sae"] == f"sae[cell={name}]"
        assert own.needs["features"] == f"features[cell={name}]"
    assert len(graph.by_experiment["concepts"]) == 2


def test_axes_cross_named_cells():
    text = SAE + CELLS.replace("matrix = [", "matrix = { seed = [3, 4], cell = [") + "}"
    cells = graph_of(FEATURES, text.replace("]\n}", "]}")).by_experiment["sae"]
    assert [(cell.values["cell"], cell.config["seed"], cell.config["k"]) for cell in cells] == [
        ("steep-b", 3, 8),
        ("steep-b", 4, 8),
        ("flat-a", 3, 16),
        ("flat-a", 4, 16),
    ]
    assert all(cell.needs["features"].endswith(f"={cell.values['cell']}]") for cell in cells)


def test_tables_of_a_list_may_stand_one_under_the_other():
    tables = "[[experiments.sae.matrix]]\ncell = 'steep-b'\nk = 8\n"
    tables += "[[experiments.sae.matrix]]\ncell = 'flat-a'\nn_concepts = 64\nk = 16\n"
    assert graph_of(FEATURES, SAE, CELLS).cells == graph_of(FEATURES, SAE, tables).cells


def test_a_need_takes_one_cell_by_its_name():
    text = SAE.replace('"features" }', '"features[steep-c]" }')
    [cell] = graph_of(FEATURES, text).by_experiment["sae"]
    assert (cell.name, cell.needs["features"]) == ("sae", "features[cell=steep-c]")


def test_a_named_cell_may_take_one_cell_of_an_experiment():
    nets = """
    [experiments.net]
    stage = "tests.registry.toy.teach"
    needs = { numbers = "numbers" }
    matrix = { seed = [0, 1] }
    """
    taught = FEATURES.replace('network = "flat"', 'network = "net[seed=1]"')
    graph = graph_of(nets, taught)
    assert graph.cells["features[cell=flat-a]"].needs["network"] == "net[seed=1]"
    assert list(graph.cells).index("net[seed=1]") < list(graph.cells).index("features[cell=flat-a]")
    several = FEATURES.replace('network = "flat"', 'network = "net"')
    assert told(nets, several) == {
        "experiments.features.matrix[0].needs.network": "'net' means several cells; name one for "
        "this cell"
    }


def test_cells_are_chosen_by_their_names():
    graph = graph_of(FEATURES, SAE, CELLS, MEASURED)

    def chosen(*texts):
        return [cell.name for cell in graph.select(texts)]

    assert chosen("sae[flat-a]") == chosen("sae[cell=flat-a]") == ["sae[cell=flat-a]"]
    assert chosen("features[steep-*]") == ["features[cell=steep-b]", "features[cell=steep-c]"]
    assert chosen("steep") == [
        "features[cell=steep-b]",
        "features[cell=steep-c]",
        "sae[cell=steep-b]",
        "concepts[cell=steep-b]",
    ]
    assert chosen("flat-a") == [
        "features[cell=flat-a]",
        "sae[cell=flat-a]",
        "concepts[cell=flat-a]",
    ]
    assert graph.select_one("sae[steep-?]").name == "sae[cell=steep-b]"
    with pytest.raises(SelectionError, match="no cell with cell=steep-d; expected one of flat-a"):
        graph.select(["features[steep-d]"])
    with pytest.raises(SelectionError, match=r"no cell with cell=\"x\*\""):
        graph.select(["features[x*]"])


def test_cells_without_names_are_chosen_by_their_values():
    text = SAE.replace('"features" }', '"features[flat-a]" }') + "matrix = { k = [2, 3] }"
    with pytest.raises(SelectionError, match="have no names; choose them as axis=value, by k"):
        graph_of(FEATURES, text).select(["sae[large]"])


@pytest.mark.parametrize(
    ("matrix", "place", "message"),
    [
        ("[{ k = 3 }]", "matrix[0]", "key 'cell' is missing"),
        ("[{ cell = 'a b' }]", "matrix[0].cell", "bad name 'a b'"),
        ("[{ cell = 3 }]", "matrix[0].cell", "expected a string; got an integer 3"),
        ("['flat-a']", "matrix[0]", 'expected a table; got a string "flat-a"'),
        ("[]", "matrix", "expected a table; got a list"),
        ("[{ cell = 'flat-b' }]", "matrix[0].cell", "did you mean 'flat-a'?"),
        ("[{ cell = 'flat-a' }, { cell = 'flat-a' }]", "matrix[1].cell", "stands before it"),
        ("[{ cell = 'flat-a', kk = 3 }]", "matrix[0].kk", "unknown key; did you mean 'k'?"),
        ("[{ cell = 'flat-a', k = 0 }]", "matrix[0].k", "got 0"),
        ("[{ cell = 'flat-a' }, { cell = 'steep-b', k = 0 }]", "matrix[1].k", "got 0"),
        ("[{ cell = 'flat-a', k = 2000 }]", "matrix", "k at most n_concepts"),
        ("[{ cell = 'flat-a', needs = { fetures = 'features' } }]", "matrix[0].needs.fetures", ""),
        ("{ k = [1], cell = [{ cell = 'flat-a', k = 2 }] }", "matrix.cell[0].k", "an axis of"),
        ("{ k = [0], cell = [{ cell = 'flat-a' }] }", "matrix.k[0]", "got 0"),
    ],
)
def test_what_is_wrong_with_a_named_cell_is_told_where_it_stands(matrix, place, message):
    found = told(FEATURES, SAE, f"matrix = {matrix}\n")
    assert list(found) == [f"experiments.sae.{place}"]
    assert message in found[f"experiments.sae.{place}"]


def test_a_slot_is_filled_in_every_cell():
    found = told(FEATURES.replace(', needs = { network = "flat" }', ""))
    assert found == {
        "experiments.features.matrix[0]": "nothing fills slot 'network', as in other cells"
    }


def test_named_cells_of_two_origins_are_not_chosen_among_at_once():
    others = FEATURES.replace("experiments.features", "experiments.others")
    judged = """
    [experiments.concepts]
    stage = "tests.registry.toy.measure"
    needs = { sae = "sae", network = "flat", features = "others" }
    """
    graph = graph_of(FEATURES, others, SAE, judged)
    assert len(graph.by_experiment["concepts"]) == 9
    assert "concepts[others.cell=steep-b,features.cell=flat-a]" in graph.cells
    found = told(FEATURES, others, SAE, judged, "matrix = [{ cell = 'flat-a' }]\n")
    assert "named cells of 'others' and 'features'" in found["experiments.concepts.needs"]


def test_describe_says_what_all_cells_have():
    declaration = parse_declaration("".join((RESOURCES, FEATURES, SAE, CELLS)))
    features, sae = declaration.describe()["experiments"]
    assert features["needs"] == {"numbers": "numbers", "network": "flat, steep"}
    assert "layer" not in features["config"]
    assert (features["axes"], features["cells"]) == (
        {"cell": ["flat-a", "steep-b", "steep-c"]},
        3,
    )
    assert not {"k", "n_concepts"} & sae["config"].keys()
    assert sae["config"]["noise"] == 0.5
