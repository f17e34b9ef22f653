"""Metrics that are wrong: refused at registration, told by the check, and alone in runs."""

from __future__ import annotations

import re
import subprocess
import sys
import warnings

import numpy as np
import pytest
import xarray as xr
from click.testing import CliRunner

import evals
import registry
from evals import schemas
from evals.commands import metrics
from evals.identification.identification_table import identification_table
from evals.metrics import table
from evals.metrics.conformance import examine
from evals.metrics.table import Metric, MetricError, Parameters
from evals.metrics.tolerance import FAULTY
from evals.naming.naming import NamingOptions
from evals.naming.tables import names_table
from evals.sanity.forms import sanity_table
from evals.sanity.theoretical import exact_verdicts
from tests.evals import data


@pytest.fixture(autouse=True)
def clean_table(monkeypatch):
    monkeypatch.setattr(table, "_TABLE", dict(evals.list_metrics()))


def good(activations, labels):
    return activations.T @ labels / len(labels)


BAD_RESULTS = {
    "nothing": (lambda a, c: None, "returned None"),
    "one_number": (lambda a, c: 0.5, "returned 0.5 for all pairs"),
    "complex_ones": (lambda a, c: (a.T @ c) * 1j, "complex128"),
    "texts": (lambda a, c: np.full((a.shape[1], c.shape[1]), "x"), "ndarray of <U1"),
    "raising": (lambda a, c: 1 / 0, "ZeroDivisionError: division by zero"),
    "transposed": (lambda a, c: c.T @ a, "returned shape"),
    "summed_up": (lambda a, c: good(a, c).mean(keepdims=True), "returned shape (1, 1)"),
    "summed_over": (lambda a, c: good(a, c).mean(axis=0, keepdims=True), "returned shape (1, "),
    "leaving": (lambda a, c: sys.exit(3), "raised SystemExit(3)"),
    "closing": (lambda a, c: close(), "raised GeneratorExit(too early)"),
    "stopping": (lambda a, c: next(iter([])), "raised StopIteration()"),
    "hungry": (lambda a, c: starve(), "MemoryError: too much"),
    "random": (lambda a, c: np.random.default_rng().random((a.shape[1], c.shape[1])), "each time"),
}


def starve():
    raise MemoryError("too much")


def close():
    raise GeneratorExit("too early")


def known_names() -> list[str]:
    """Return the label that each of as many neurons as labels is called by, "" for an empty one."""
    return [str(j) if own.any() else "" for j, own in enumerate(LABELS.T)]


def register_bad() -> dict[str, str]:
    for name, (function, _) in BAD_RESULTS.items():
        evals.metric(name)(function)
    evals.metric("too_large", bounds=(0, 0.1))(good)
    evals.metric("never")(lambda a, c: np.full((a.shape[1], c.shape[1]), np.nan))
    evals.metric("endless")(lambda a, c: np.full((a.shape[1], c.shape[1]), -np.inf))
    told = {name: message for name, (_, message) in BAD_RESULTS.items()}
    told |= {"too_large": "outside its bounds", "never": "undefined (NaN)"}
    return told | {"endless": "undefined (NaN) or infinite"}


@pytest.mark.parametrize("name", ["alpha", "lam", "seed", "neuron", "concept", "input", "workers"])
def test_a_name_of_a_dimension_or_an_argument_is_refused(name):
    with pytest.raises(MetricError, match=rf"'{name}': that is the name of a dimension or an arg"):
        evals.metric(name)
    with pytest.raises(MetricError, match="give it another"):
        Metric(name, good)


def test_no_dimension_or_coordinate_of_a_dataset_is_free():
    """Metrics are variables beside these; variables of datasets are never metrics by name."""
    held = [one for one in vars(schemas).values() if isinstance(one, registry.Schema)]
    taken = {name for one in held for name in one.coords}
    taken |= {dim for one in held for entry in one.variables.values() for dim in entry.dims}
    for name in taken:
        with pytest.raises(MetricError, match="dimension or an argument"):
            evals.metric(name)


def test_a_name_that_is_built_in_is_taken_before_anything_is_asked():
    code = """
from evals.metrics.table import MetricError, metric
try:
    metric("iou")(lambda activations, labels: 0)
except MetricError as error:
    print(error)
"""
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "metric 'iou' is registered already, by evals.metrics.builtin.iou" in told.stdout


@pytest.mark.parametrize("name", ["", "a b", "a/b", "a\nb", 3, None])
def test_a_name_that_no_dataset_can_have_is_refused(name):
    with pytest.raises(MetricError, match="a name "):
        evals.metric(name)


@pytest.mark.parametrize("bounds", [(0, 0), (0, np.nan), (0, np.inf), (0, 1, 2), 1, ("0", "1")])
def test_bounds_are_a_smaller_and_a_larger_number(bounds):
    with pytest.raises(MetricError, match="expected a smaller and a larger number"):
        evals.metric("own", bounds=bounds)


def test_reversed_bounds_say_so():
    with pytest.raises(MetricError, match=r"did you mean \(0.0, 1.0\)\?"):
        evals.metric("own", bounds=(1, 0))


@pytest.mark.parametrize(
    ("function", "options"),
    [
        (lambda activations: 0, {}),
        (lambda activations, labels: 0, {"needs": ("alpha",)}),
        (lambda activations, labels: 0, {"family": "moment"}),
        (lambda counts, alpha: 0, {"family": "contingency", "needs": ("alpha",)}),
        (lambda statistics: 0, {"family": "statistics", "needs": ("seed",)}),
    ],
)
def test_a_function_takes_what_it_will_be_given(function, options):
    with pytest.raises(MetricError, match=r"its function \(.*\) is given \("):
        evals.metric("own", **options)(function)


def test_what_else_is_known_is_told_at_once():
    with pytest.raises(MetricError, match="expected a function; got int"):
        evals.metric("own")(3)
    with pytest.raises(MetricError, match=r"needs is 'alpha'; expected a tuple, as \('alpha',\)"):
        evals.metric("own", needs="alpha")
    with pytest.raises(
        MetricError, match=r"dimension or an argument; .*; bounds are .*; unknown f"
    ):
        evals.metric("alpha", bounds=(1, 0), family="contingent")


def test_the_check_tells_every_kind_and_goes_on():
    told = register_bad()
    for name, message in told.items():
        faults = examine(name)
        assert any(message in fault for fault in faults) or name in ("too_large", "random"), faults
    assert examine("random")
    assert examine("too_large")[0].startswith("bounds: scores from ")
    evals.metric("lonely", partner="nobody")(good)
    assert any("unknown metric 'nobody'" in fault for fault in examine("lonely"))


def test_a_check_that_raises_is_a_fault_of_it():
    evals.metric("picky")(lambda a, c: good(a, c) if a.shape[1] > 1 else 1 / 0)
    faults = examine("picky")
    assert "blocks: ZeroDivisionError: division by zero" in faults
    assert not any(fault.startswith("finite") for fault in faults)


def test_the_command_goes_on(monkeypatch, tmp_path):
    monkeypatch.delenv("FACTBOOK_PROJECT", raising=False)
    monkeypatch.chdir(tmp_path)
    register_bad()
    done = CliRunner().invoke(metrics, ["nothing", "raising", "iou", "--check"])
    assert done.exit_code == 1
    assert "nothing: 1 fault\n  scores: metric 'nothing' returned None; expected" in done.output
    assert done.output.endswith("iou: no faults\n")


NEURONS, LABELS = data.activations(), data.one_hot()


def scored(names):
    with pytest.warns(UserWarning, match="metric nothing: metric 'nothing' returned None"):
        return evals.score_matrix(NEURONS, LABELS, names, alphas=[0.1], workers=2, block_size=3)


def test_in_a_matrix_one_takes_nothing_but_itself():
    told = register_bad()
    together = scored(["iou", *told, "auc"])
    alone = evals.score_matrix(NEURONS, LABELS, ["iou", "auc"], alphas=[0.1])
    for name in ("iou", "auc"):
        np.testing.assert_array_equal(together[name], alone[name])
    lines = together.attrs[FAULTY].splitlines()
    assert len(lines) == len(told)
    for name, message in told.items():
        assert not np.isfinite(together[name]).any()
        assert any(line.startswith(f"{name}: ") and message in line for line in lines)


def test_asked_for_alone_it_raises():
    for name, message in register_bad().items():
        if name in ("never", "endless"):
            assert not np.isfinite(evals.score(name, NEURONS, LABELS)).any()
            continue
        with pytest.raises(Exception, match=re.escape(message.rpartition("Error: ")[-1])):
            evals.score(name, NEURONS, LABELS)
    with pytest.raises(MetricError, match=r"no metric is left:\n  nothing: .*\n  raising: "):
        evals.score_matrix(NEURONS, LABELS, ["nothing", "raising"])


@pytest.mark.parametrize("block_size", [1, None])
def test_the_end_of_an_iterator_is_an_error_in_every_block(block_size):
    blocks = []

    def stop(activations, labels):
        blocks.append(None)
        return good(activations, labels) if len(blocks) == 1 else next(iter([]))

    evals.metric("stop_later")(stop)
    with pytest.raises(MetricError, match=r"raised StopIteration\(\)"):
        evals.score("stop_later", NEURONS, LABELS, block_size=block_size, workers=1)


def test_what_is_masked_is_undefined():
    evals.metric("masked")(lambda a, c: np.ma.masked_greater(good(a, c), -1e9))
    assert np.isnan(evals.score("masked", NEURONS, LABELS)).all()
    evals.metric("masked_whole")(
        lambda a, c: np.ma.masked_equal(np.full((a.shape[1], c.shape[1]), 7), 7)
    )
    assert np.isnan(evals.score("masked_whole", NEURONS, LABELS)).all()


def test_what_is_wrong_with_the_data_is_nobodys_fault():
    evals.metric("own", family="contingency", needs=("alpha",))(lambda counts: counts.both)
    with pytest.raises(ValueError, match="without alpha, activations must be 0 or 1"):
        evals.score_matrix(NEURONS, LABELS, ["iou", "own"])


def test_a_matrix_turned_about_is_seen_where_there_are_as_many_neurons_as_concepts():
    evals.metric("turned")(lambda a, c: c.T @ a)
    evals.metric("turned_counts", family="contingency", needs=("alpha",))(lambda n: n.both.T)
    square = NEURONS[:, :3], LABELS[:, :3]
    for name in ("turned", "turned_counts"):
        with pytest.raises(MetricError, match="returned shape"):
            evals.score(name, *square, alpha=0.1)
        with pytest.warns(UserWarning, match=f"metric {name}: .*returned shape"):
            evals.score_matrix(*square, ["iou", name], alphas=[0.1])


def test_names_do_without_it():
    register_bad()
    pair = NEURONS, LABELS
    options = NamingOptions(n_bootstrap=2)
    bad = ["raising", "leaving", "hungry", "endless", "summed_up"]
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        named = evals.choose_names(*pair, ["correlation", *bad], options)
    alone = evals.choose_names(*pair, ["correlation"], options)
    np.testing.assert_array_equal(named["name"][:, 0], alone["name"][:, 0])
    np.testing.assert_array_equal(named["consensus"], alone["consensus"])
    assert (named["name"][:, 1:] == "").all()
    for share in ("named_share", "agreeing_share"):
        assert named[share] == alone[share]
    told = names_table(named)
    assert "metric raising: ZeroDivisionError: division by zero" in told
    assert "metric endless: every score is undefined (NaN) or infinite" in told
    assert "metric summed_up: metric 'summed_up' returned shape (1, 1)" in told


def test_infinite_scores_are_undefined_for_names():
    def end(activations, labels):
        scores = good(activations, labels)
        return np.where(scores > np.median(scores), np.inf, scores)

    evals.metric("half_endless")(end)
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        options = NamingOptions(n_bootstrap=5, n_permutations=19)
        named = evals.choose_names(NEURONS, LABELS, ["half_endless", "correlation"], options)
    scores = [name for name in named if named[name].dtype.kind == "f"]
    assert scores
    assert not any(np.isinf(named[name]).any() for name in scores)


@pytest.mark.parametrize("bounds", [[-1e6, 9e9], np.array([-1e6, 9e9]), (np.float64(-1e6), 9e9)])
def test_bounds_of_any_sequence_are_two_floats(bounds):
    own = evals.metric("own", bounds=bounds)(good)
    assert own.bounds == (-1e6, 9e9)
    assert {type(end) for end in own.bounds} == {float}
    assert examine("own") == []
    options = NamingOptions(n_bootstrap=0, n_permutations=19)
    named = evals.choose_names(NEURONS, LABELS, ["own", "correlation"], options)
    assert (named["name"].sel(metric="own") != "").any()


def test_identification_and_sanity_do_without_it():
    register_bad()
    right = np.where(LABELS.any(axis=0), np.arange(LABELS.shape[1]), -1)
    neurons = NEURONS[:, : len(right)]
    options = evals.IdentificationOptions(n_splits=2)
    found = evals.identify(neurons, LABELS, right, ["correlation", "raising"], options)
    alone = evals.identify(neurons, LABELS, right, ["correlation"], options)
    np.testing.assert_array_equal(found.auprc[0], alone.auprc[0])
    assert "metric raising: Zero" in identification_table(found)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tested = evals.theoretical_sanity(["iou", "nothing"], n_inputs=1000, frequencies=[0.1])
    assert tested.verdict.sel(metric="nothing").values.tolist() == ["", ""]
    assert tested.attrs[FAULTY].startswith("nothing: metric 'nothing' returned None")


@pytest.mark.parametrize("name", ["raising", "nothing", "too_large", "never", "endless"])
def test_one_that_fails_itself_has_no_verdict(name):
    told = register_bad()[name]
    setting = {"n_inputs": 1000, "frequencies": [0.1, 0.4], "simulated_draws": 2}
    right = known_names()
    neurons, metrics = NEURONS[:, : len(right)], ["f1_score", name]
    theoretical = evals.theoretical_sanity(metrics, **setting)
    real = evals.experimental_sanity(neurons, LABELS, metrics, right)
    alone = evals.experimental_sanity(neurons, LABELS, metrics[:1], right)
    xr.testing.assert_identical(real.isel(metric=[0]).drop_attrs(), alone.drop_attrs())
    whole = evals.combine_forms(theoretical, real)
    assert whole["passed"].values.tolist()[1] == ""
    assert whole["passed"].values.tolist()[0] in ("passes", "fails", "undecided")
    assert set(whole["verdict"].sel(metric=name).values.ravel()) == {""}
    assert whole["decrease_accuracy"].sel(metric=name).isnull().all()
    lines = sanity_table(whole.assign(required=0.9)).splitlines()
    assert [line for line in lines if line.startswith(f"metric {name}: ") and told in line]
    assert [line for line in lines if line.split() == [name, "none"]]


def test_one_that_fails_on_real_neurons_alone_has_no_verdict_on_the_whole():
    @evals.metric("of_bits", bounds=(0, 1), family="contingency", needs=("alpha",))
    def of_bits(counts):
        if np.max(counts.total) <= len(LABELS):
            raise RuntimeError("so few")
        return 2 * counts.both / (counts.active + counts.labelled)

    assert exact_verdicts(["of_bits"]) == {"of_bits": "passes"}
    theoretical = evals.theoretical_sanity(["of_bits", "f1_score"], n_draws=50)
    right = known_names()
    real = evals.experimental_sanity(
        NEURONS[:, : len(right)], LABELS, ["of_bits", "f1_score"], right
    )
    whole = evals.combine_forms(theoretical, real).sel(metric="of_bits")
    assert whole["verdict"].sel(form="theoretical").values.tolist() == ["passes", "passes"]
    assert whole["passed"] == ""
    named = evals.choose_names(
        NEURONS, LABELS, ["of_bits", "correlation"], NamingOptions(Parameters(0.05), n_bootstrap=0)
    )
    assert named["verdict"].values.tolist() == ["passes", "passes"]
    assert named["votes"].values.tolist() == [False, True]
    assert named["n_voting"] == 1


def test_without_a_sanity_check_one_that_fails_itself_is_untested():
    @evals.metric("broken", bounds=(0, 1), family="contingency", needs=("alpha",))
    def broken(counts):
        raise RuntimeError("not written yet")

    assert exact_verdicts(["broken", "f1_score"]) == {"f1_score": "passes"}
    assert exact_verdicts(["broken"]) == {}


@pytest.mark.parametrize("family", ["arrays", "contingency", "moment", "statistics"])
def test_one_that_writes_into_what_others_read_does_not_change_it(family):
    @evals.metric("greedy", family=family, needs=("alpha",) if family == "contingency" else ())
    def greedy(*given):
        shared = {
            "arrays": lambda: given[1],
            "contingency": lambda: given[0].both,
            "moment": lambda: given[0].covariance,
            "statistics": lambda: given[0].inverse_average_precision(),
        }[family]()
        shared *= 2
        return shared

    names = ["greedy", "iou", "correlation", "inverse_auprc", "mad"]
    with pytest.warns(UserWarning, match="metric greedy: ValueError: .*read-only"):
        together = evals.score_matrix(NEURONS, LABELS.astype(float), names, alphas=[0.1])
    alone = evals.score_matrix(NEURONS, LABELS.astype(float), names[1:], alphas=[0.1])
    for name in names[1:]:
        np.testing.assert_array_equal(together[name], alone[name])
