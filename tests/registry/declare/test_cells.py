import itertools
import json
import pickle

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from registry.declare import plugins
from registry.declare.cells import expand
from registry.declare.declaration import parse_declaration
from registry.declare.declared import SelectionError, parse_reference
from registry.declare.faults import DeclarationError
from tests.registry.declare.test_declaration import WHOLE


@pytest.fixture(autouse=True)
def only_the_toy_plugin(monkeypatch):
    monkeypatch.setattr(plugins, "plugin_modules", tuple)


@pytest.fixture
def graph():
    return expand(parse_declaration(WHOLE))


def test_an_experiment_without_axes_is_one_cell_of_its_name():
    text = '[experiments.x]\nstage = "tests.registry.toy.begin"'
    (cell,) = expand(parse_declaration(text)).cells.values()
    assert (cell.name, cell.values, cell.needs) == ("x", {}, {})


def test_cells_are_the_product_in_declared_order(graph):
    product = itertools.product([0, 1, 2], [8, 16], ["0.0", "0.5"], [4, 5])
    names = [f"sae[net.seed={n},k={k},noise={x},seed={s}]" for n, k, x, s in product]
    assert [cell.name for cell in graph.by_experiment["sae"]] == names


def test_axes_stand_in_the_order_of_the_file():
    text = (
        '[experiments.x]\nstage = "tests.registry.toy.begin"\nmatrix = { b = [1, 2], a = [3, 4] }'
    )
    cells = expand(parse_declaration(text)).by_experiment["x"]
    assert [cell.name for cell in cells] == [f"x[b={b},a={a}]" for b in (1, 2) for a in (3, 4)]
    assert all(cell.config == cell.values for cell in cells)


def test_needs_that_share_an_axis_are_aligned_on_it(graph):
    concepts = graph.by_experiment["concepts"]
    assert len(concepts) == 3 * 2  # the network's seeds and the SAE's, each once
    for cell in concepts:
        net, sae = cell.values["net.seed"], cell.values["sae.seed"]
        assert cell.needs == {
            "features": f"features[seed={net}]",
            "network": f"net[seed={net}]",
            "sae": f"sae[net.seed={net},k=8,noise=0.0,seed={sae}]",
        }


def test_the_configuration_belongs_to_the_cell(graph):
    for cell in graph.by_experiment["sae"]:
        own = {key: cell.config[key] for key in ("k", "noise", "seed")}
        assert own == {key: cell.values[key] for key in own}
        assert "device" in cell.config
        assert "device" not in cell.result_config


def test_names_are_read_back_to_their_cell(graph):
    for name, cell in graph.cells.items():
        assert graph.select_one(name) is cell
        assert graph.select_one(str(parse_reference(name))) is cell


def test_a_graph_can_be_sent_to_another_process(graph):
    assert pickle.loads(pickle.dumps(graph)) == graph


# choosing


def test_choosing_by_name_pattern_suite_and_partial_cell(graph):
    def names(*texts):
        return [cell.name for cell in graph.select(texts)]

    assert names() == list(graph.cells)
    assert names("net") == ["net[seed=0]", "net[seed=1]", "net[seed=2]"]
    assert names("net[seed=1]", "net") == names("net")  # each once
    assert names("net[seed=1.0]") == ["net[seed=1]"]
    assert names("sae[k=8]") == [name for name in names("sae") if ",k=8," in name]
    assert names("sae[seed=5,k=8]") == [n for n in names("sae") if ",k=8," in n and ",seed=5" in n]
    assert names("*e*[seed=1]") == ["net[seed=1]", "features[seed=1]"]
    assert names("demo") == names("net", "sae[k=8]", "concepts")
    assert names("concepts", "net") == names("net", "concepts")  # always in order of the needs


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nett", "unknown experiment 'nett'; did you mean 'net'?"),
        ("dmo", "did you mean 'demo'?"),
        ("demo[seed=1]", "'demo' is a suite"),
        ("numbers", "'numbers' stands under 'datasets'; it is not run"),
        ("x-*", "'x-*' matches no experiment"),
        ("net[seed=7]", "no cell with seed=7; expected one of 0, 1, 2"),
        ("net[sed=1]", "no axis 'sed'; did you mean 'seed'?"),
        ("sae[noise=x]", "noise=x; expected one of 0.0, 0.5"),
        ("net[seed=true]", "no cell with seed=true"),
        ("net[", "cannot read"),
    ],
)
def test_what_selects_nothing_is_told(graph, text, message):
    with pytest.raises(SelectionError) as caught:
        graph.select(["net", text])
    assert message in str(caught.value)


def test_all_wrong_targets_are_told_at_once(graph):
    with pytest.raises(SelectionError) as caught:
        graph.select(["nett", "net", "sea"])
    assert len(str(caught.value).splitlines()) == 2


def test_several_where_one_is_wanted_are_listed(graph):
    with pytest.raises(SelectionError) as caught:
        graph.select_one("sae")
    message = str(caught.value)
    assert message.startswith("'sae' means 24 cells; name one of\n  sae[net.seed=0,k=8,")
    assert message.endswith("… and 16 more")
    with pytest.raises(SelectionError, match="means 3 cells"):
        graph.select_one("net")


def test_a_suite_is_run_even_if_a_dataset_has_its_name():
    graph = expand(parse_declaration(WHOLE + 'numbers = ["net"]'))
    assert graph.select(["numbers"]) == graph.by_experiment["net"]


def test_what_lies_behind_a_cell(graph):
    assert graph.behind(["features[seed=1]"]) == {"features[seed=1]", "net[seed=1]", "numbers"}
    assert {
        name
        for name in graph.behind(["sae[net.seed=0,k=8,noise=0.0,seed=4]"])
        if name in graph.declaration.resources
    } == {"numbers"}


# against an oracle that joins tables


AXES = {"a": (0, 1), "b": (0, 1, 2)}


@st.composite
def blends(draw):
    """Experiments in order, each with a matrix and two earlier ones that it needs, or none."""
    rows = []
    for index in range(draw(st.integers(2, 5))):
        matrix = draw(st.lists(st.sampled_from(sorted(AXES)), unique=True, max_size=2))
        needs = []
        if index and draw(st.integers(0, 3)):
            for _ in range(2):
                source = draw(st.integers(0, index - 1))
                pin = draw(st.none() | st.tuples(st.integers(0, index - 1), st.sampled_from("ab")))
                needs.append((source, pin))
        rows.append((matrix, needs))
    return rows


def joined(rows):
    """The cells of each experiment by nested loops: {axis: value} and the cells of its needs.

    None where a pin names no axis of its source, or one that another need leaves open.
    """
    tables = []
    for index, (matrix, needs) in enumerate(rows):
        sides, free, pinned = [], set(), set()
        for source, pin in needs:
            side = [(dict(cell), cell) for cell, _ in tables[source]]
            if pin:
                if not side or pin not in side[0][0]:
                    return None
                side = [
                    ({k: v for k, v in c.items() if k != pin}, o) for c, o in side if c[pin] == 1
                ]
                pinned.add(pin)
            free.update(side[0][0])
            sides.append(side)
        if free & pinned:
            return None
        table = []
        for chosen in itertools.product(*sides):
            merged = {}
            for cell, _ in chosen:
                if any(merged.get(key, value) != value for key, value in cell.items()):
                    break
                merged.update(cell)
            else:
                for values in itertools.product(*(AXES[key] for key in matrix)):
                    own = {(index, key): v for key, v in zip(matrix, values, strict=True)}
                    table.append(({**merged, **own}, tuple(origin for _, origin in chosen)))
        tables.append(table)
    return tables


def as_toml(rows):
    text = ""
    for index, (matrix, needs) in enumerate(rows):
        verb = "blend" if needs else "begin"
        text += f'[experiments.e{index}]\nstage = "tests.registry.toy.{verb}"\n'
        text += f"matrix = {{ {', '.join(f'{key} = {list(AXES[key])}' for key in matrix)} }}\n"
        sides = [f"e{source}" + (f"[e{p[0]}.{p[1]}=1]" if p else "") for source, p in needs]
        pairs = zip(("left", "right"), sides, strict=False)
        text += f"needs = {{ {', '.join(f'{slot} = {json.dumps(s)}' for slot, s in pairs)} }}\n"
    return text


@settings(max_examples=150)
@given(blends())
@pytest.mark.slow
def test_the_fan_out_is_the_natural_join_of_what_is_needed(rows):
    tables = joined(rows)
    if tables is None:
        with pytest.raises(DeclarationError):
            parse_declaration(as_toml(rows))
        return
    assume(sum(map(len, tables)) < 3000)
    declaration = parse_declaration(as_toml(rows))
    graph = expand(declaration)

    def identified(cell):
        axes = declaration.experiments[cell.experiment].axes
        keys = ((int(axis.origin[1:]), axis.key) for axis in axes)
        return frozenset(zip(keys, cell.values.values(), strict=True))

    for index, table in enumerate(tables):
        cells = graph.by_experiment[f"e{index}"]
        found = {
            identified(cell): tuple(identified(graph.cells[name]) for name in cell.needs.values())
            for cell in cells
        }
        expected = {
            frozenset(cell.items()): tuple(frozenset(o.items()) for o in origins)
            for cell, origins in table
        }
        assert found == expected
        assert len({cell.name for cell in cells}) == len(cells) == len(table)
