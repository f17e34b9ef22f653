"""Which labels may name: left out, preferred and second names, on images of known truth."""

from __future__ import annotations

import math

import numpy as np
import pytest
import xarray as xr

from evals.metrics.table import Parameters
from evals.naming.candidates import (
    CandidatesError,
    find_classes,
    leave_out,
    repeats_class,
)
from evals.naming.config import NamingConfig
from evals.naming.consensus import elect, elect_second
from evals.naming.naming import NamingOptions, choose_names
from fact.data.shapes import Shapes
from registry.declare.settings import Settings
from tests.evals.naming.test_chance import METRICS, OPTIONS, SANITY, VOTING, ByHand, make

ALPHA, LEVEL = 0.1, 0.05
NAMED = ["correlation", "auprc", "iou"]
ODD = "class:odd"


# -- labels by name and by group ------------------------------------------------------------------


def labels_of(*names: str) -> xr.DataArray:
    return xr.DataArray(np.zeros((2, len(names))), {"concept": list(names)}, ("input", "concept"))


GIVEN = labels_of("class:cool plain", "class:warm dots", "colour:red", "texture:dots", "tench")


@pytest.mark.parametrize(
    ("patterns", "kept"),
    [
        ((), "class:cool plain|class:warm dots|colour:red|texture:dots|tench"),
        (("class:*",), "colour:red|texture:dots"),
        (("colour:red", "tench"), "class:cool plain|class:warm dots|texture:dots"),
        (("class:*", "colour:*"), "texture:dots"),
    ],
)
def test_labels_are_left_out_by_name_or_by_group(patterns, kept):
    left = leave_out(GIVEN, patterns, classes=["tench", "cool plain"])
    assert "|".join(left["concept"].values) == kept


@pytest.mark.parametrize(
    ("patterns", "told"),
    [
        (("clas:*",), r"leave_out: no group 'clas:\*'; did you mean 'class:\*'\?"),
        (("colour:rod",), "leave_out: no label 'colour:rod'; did you mean 'colour:red'"),
        (("class:*", "colour:*", "texture:*", "tench"), "leaves none of 5 labels"),
    ],
)
def test_what_cannot_be_left_out_is_refused(patterns, told):
    with pytest.raises(CandidatesError, match=told):
        leave_out(GIVEN, patterns)


def test_classes_are_of_the_group_class_or_called_as_one():
    assert find_classes(GIVEN["concept"].values).tolist() == [True, True, False, False, False]
    assert find_classes(["tench", "red", "class:x"], ["tench"]).tolist() == [True, False, True]
    assert repeats_class("class:tench", "tench")
    assert repeats_class("tench", "tench")
    assert not repeats_class("colour:tench", "tench")
    assert not repeats_class("", "")


def test_preference_needs_a_test():
    with pytest.raises(ValueError, match="n_permutations of 1 or more; got 0"):
        NamingConfig(prefer="concepts", n_permutations=0)
    with pytest.raises(CandidatesError, match="chooses by what chance gives"):
        choose_names(*SHAPES, NAMED, NamingOptions(prefer="concepts", n_permutations=0))


def test_keys_that_say_nothing_new_rerun_nothing():
    settings = Settings(NamingConfig)

    def hashed(**values):
        return settings.rules.hashed(settings.plain(NamingConfig(**values)))

    assert not {"leave_out", "prefer"} & set(hashed())
    asked = hashed(leave_out=("class:*",), prefer="concepts")
    assert asked["leave_out"] == ["class:*"]
    assert asked["prefer"] == "concepts"


def test_the_second_consensus_is_that_without_the_first():
    best = np.array([[[0, 1, 2], [0, 2, 1], [1, 0, 2]], [[3, -1, -1]] * 3])
    voting = np.ones(3, dtype=bool)
    winner, votes = elect(best, voting)
    assert (winner.tolist(), votes.tolist()) == ([0, 3], [2, 3])
    second, votes = elect_second(best, winner, voting)
    assert (second.tolist(), votes.tolist()) == ([1, -1], [2, 0])


# -- on shapes, where the truth is known ----------------------------------------------------------


def make_shapes(n_images: int = 500) -> tuple[xr.DataArray, xr.DataArray]:
    """Concepts that follow a class, a texture, nothing, and a class that no other label tells."""
    rng = np.random.default_rng(0)
    labels = Shapes(n_train=1, n_test=n_images, size=24).concepts("test")
    odd = xr.DataArray(rng.random((n_images, 1)) < 0.15, dims=("image", "label"))
    odd = odd.assign_coords(image=labels["image"], label=[ODD])
    labels = xr.concat([labels.transpose("image", "label"), odd], "label")
    causes = ["class:cool plain", "texture:stripes", ODD]
    caused = labels.sel(label=causes).values * rng.gamma(4, size=(n_images, 3))
    noise = rng.gamma(1, size=(n_images, 1))
    presence = np.hstack([caused + 0.2 * rng.random(caused.shape), noise])
    coords = {"image": labels["image"].values}
    return xr.DataArray(presence, coords, ("image", "concept")), labels


SHAPES = make_shapes()
CLASS, TEXTURE, NO_OTHER, NOISE = range(4)


def name_shapes(**options):
    base = {"n_bootstrap": 5, "n_permutations": 199, "seed": 1} | options
    return choose_names(*SHAPES, NAMED, NamingOptions(Parameters(alpha=ALPHA), **base))


@pytest.fixture(scope="module")
def by_default():
    return name_shapes()


@pytest.fixture(scope="module")
def preferring():
    return name_shapes(prefer="concepts")


def test_a_class_wins_unless_others_are_preferred_and_the_second_name_is_none(by_default):
    assert (by_default.name[CLASS] == "class:cool plain").all()
    assert by_default.consensus[[CLASS, TEXTURE]].values.tolist() == [
        *("class:cool plain", "texture:stripes")
    ]
    second = by_default.second_name[CLASS].values.tolist()
    assert set(second) <= {"texture:plain", "colour:cool", "colour:blue", "colour:purple"}
    assert (by_default.second_p[CLASS] <= 1 / 200 + 1e-9).all()
    assert by_default.consensus_second[CLASS].item() in second
    assert by_default.consensus_second_p[CLASS] <= LEVEL
    assert (by_default.second_p[NO_OTHER] > LEVEL).all()
    assert by_default.consensus_second_p[NO_OTHER] > LEVEL
    assert (by_default.second_name != by_default.name).all()
    assert not by_default.second_name.str.startswith("class:").any()
    assert by_default.n_class_labels == 10
    assert "passed_over" not in by_default


def test_a_second_name_has_its_score_on_the_other_half(by_default):
    ranked = by_default.top_label.values == by_default.second_name.values[..., None]
    found = np.where(ranked, by_default.top_score, 0).sum(axis=2)
    is_kept = ranked.any(axis=2)
    assert is_kept.any()
    np.testing.assert_allclose(by_default.second_score.values[is_kept], found[is_kept])


def test_preferred_labels_name_what_they_explain_above_chance(by_default, preferring):
    assert (preferring.name[CLASS] == by_default.second_name[CLASS]).all()
    assert (preferring.passed_over[CLASS] == "class:cool plain").all()
    np.testing.assert_allclose(
        preferring.passed_over_score[CLASS], by_default.score[CLASS], rtol=1e-12
    )
    assert preferring.consensus[CLASS] == by_default.consensus_second[CLASS]
    assert preferring.consensus_passed_over[CLASS] == "class:cool plain"
    assert (preferring.chance[CLASS] == "above chance").all()
    assert (preferring.name[TEXTURE] == "texture:stripes").all()
    is_same = preferring.name == by_default.name
    assert is_same[TEXTURE].any()
    assert (preferring.passed_over == xr.where(is_same, "", by_default.name)).all()
    assert (preferring.top_label.isel(rank=0) == preferring.name).all()
    assert preferring.prefer.item() == "concepts"


def test_a_class_that_nothing_else_explains_keeps_its_name(by_default, preferring):
    assert (preferring.name[NO_OTHER] == ODD).all()
    assert preferring.consensus[NO_OTHER] == ODD
    assert (preferring.consensus_p[[NO_OTHER]] <= 2 / 200 + 1e-9).all()
    np.testing.assert_allclose(preferring.score[NO_OTHER], by_default.score[NO_OTHER], rtol=1e-12)
    assert (preferring.second_p[NO_OTHER] > LEVEL).all()


def test_labels_that_are_left_out_are_as_if_they_were_not_there():
    some = name_shapes(leave_out=("class:*", "colour:red"), n_permutations=19)
    presence, labels = SHAPES
    keep = [n for n in labels["label"].values if not n.startswith("class:") and n != "colour:red"]
    options = NamingOptions(Parameters(alpha=ALPHA), n_bootstrap=5, n_permutations=19, seed=1)
    without = choose_names(presence, labels.sel(label=keep), NAMED, options)
    assert some.n_left_out == 11
    xr.testing.assert_identical(some.drop_vars("n_left_out"), without.drop_vars("n_left_out"))
    assert (some.second_name == some.top_label.isel(rank=1)).all()


def test_a_known_label_that_is_left_out_is_not_known():
    right = ["class:cool plain", "texture:stripes", "", ""]
    named = choose_names(
        *SHAPES,
        ["iou"],
        NamingOptions(
            Parameters(alpha=ALPHA), n_bootstrap=0, n_permutations=0, leave_out=("class:*",)
        ),
        right=right,
    )
    assert named.n_right_known == 1
    assert named.right_label.values.tolist() == ["", "texture:stripes", "", ""]


def test_a_known_label_that_is_too_rare_is_not_known():
    presence, labels = SHAPES
    right = ["class:cool plain", "texture:stripes", "", ""]
    counts = dict(zip(labels["label"].values, labels.sum("image").values, strict=True))
    least = int(counts["class:cool plain"] // 2) + 1  # more than a half can have
    options = NamingOptions(
        Parameters(alpha=ALPHA), n_bootstrap=0, n_permutations=0, min_positives=least
    )
    named = choose_names(presence, labels, ["iou"], options, right=right)
    assert counts["texture:stripes"] > 2.5 * least
    assert named.n_right_known == 1


def test_one_rank_has_a_second_name_too(by_default):
    one = name_shapes(n_ranks=1, n_permutations=19)
    xr.testing.assert_equal(one.second_name, by_default.second_name)


# -- the null of the choice that was made ---------------------------------------------------------


@pytest.fixture(scope="module")
def pair():
    presence, labels = make(n_inputs=90, n_noise=4)
    names = ["class:a", "label 1", "class:b", "label 3", "class:c", "label 5"]
    return presence, labels.assign_coords(label=names)


class EitherByHand:
    """Two choices for every permutation, in plain Python: among labels that are none, and all."""

    def __init__(self, presence, labels):
        self.all = ByHand(presence, labels)
        others = labels[:, ~find_classes(labels["label"].values)]
        self.concepts = ByHand(presence, others)

    @staticmethod
    def ranks(of: ByHand, what: object) -> list[list[float]]:
        values = of.values(what)
        return [
            [of._p(own, draw) - (math.atan(z) / math.pi + 0.5) / len(own)]
            for own, far in zip(values, of.excess(values), strict=True)
            for draw, z in enumerate(far)
        ]

    def p(self, what: object, gate: object) -> tuple[list[bool], list[float]]:
        """Return which concepts a label names that is no class, and p."""
        n_draws = len(self.all.values(what)[0])

        def both(asked: object) -> list[tuple[np.ndarray, np.ndarray]]:
            pairs = (self.ranks(self.concepts, asked), self.ranks(self.all, asked))
            shaped = [np.array(own).reshape(-1, n_draws) for own in pairs]
            return list(zip(*shaped, strict=True))

        preferred = [
            sum(min(a, b) <= one[0] + 1e-9 for a, b in zip(one, other, strict=True)) / n_draws
            <= LEVEL + 1e-9
            for one, other in both(gate)
        ]
        p = []
        for is_one, (one, other) in zip(preferred, both(what), strict=True):
            own = one[0] if is_one else other[0]
            least = [min(a, b) for a, b in zip(one[1:], other[1:], strict=True)]
            p.append((1 + sum(rank <= own + 1e-9 for rank in least)) / n_draws)
        return preferred, p


@pytest.fixture(scope="module")
def either(pair):
    return EitherByHand(*pair)


@pytest.fixture(scope="module")
def preferred(pair):
    options = NamingOptions(**vars(OPTIONS) | {"prefer": "concepts"})
    return choose_names(*pair, METRICS, options, sanity=SANITY)


@pytest.mark.parametrize("statistic", ["score", "margin"])
@pytest.mark.parametrize("metric", METRICS)
def test_p_of_a_preferred_name_is_that_of_permutations_by_hand(
    preferred, either, statistic, metric
):
    named, p = either.p((statistic, metric), ("score", metric))
    own = preferred.sel(metric=metric)
    np.testing.assert_allclose(own[f"{statistic}_p"], p, rtol=1e-12)
    is_concept = ~own.name.str.startswith("class:").values
    assert (is_concept | ~np.array(named)).all()


def test_p_of_a_preferred_consensus_is_that_of_permutations_by_hand(preferred, either):
    for what in ("consensus", "votes", *(("consensus_score", name) for name in VOTING)):
        _, p = either.p(what, "consensus")
        name = what if isinstance(what, str) else what[0]
        own = preferred if isinstance(what, str) else preferred.sel(metric=what[1])
        np.testing.assert_allclose(own[f"{name}_p"], p, rtol=1e-12, err_msg=str(what))


def test_p_of_second_names_is_above_the_best_of_such_labels(pair, either):
    named = choose_names(*pair, METRICS, OPTIONS, sanity=SANITY)
    others = either.concepts
    for metric in METRICS:
        drawn = np.array(others.values(("score", metric)))[:, 1:]
        own = named.sel(metric=metric)
        as_high = (drawn >= own.second_score.values[:, None] - 1e-11).sum(axis=1)
        np.testing.assert_allclose(own.second_p, (1 + as_high) / (drawn.shape[1] + 1), rtol=1e-12)


@pytest.mark.parametrize("change", [{"block_size": 1}, {"block_size": 4, "workers": 2}, "chunks"])
def test_blocks_chunks_and_threads_do_not_matter(pair, preferred, change, monkeypatch):
    options = vars(OPTIONS) | {"prefer": "concepts"}
    if change == "chunks":
        monkeypatch.setattr("evals.naming.chance.CHUNK_VALUES", 500)
    else:
        options |= change
    found = choose_names(*pair, METRICS, NamingOptions(**options), sanity=SANITY)
    xr.testing.assert_allclose(found, preferred)


def test_what_the_budget_leaves_out_is_named_by_the_best(pair):
    base = vars(OPTIONS) | {"permutation_budget": 19 * 3 * 90 * 6}
    some = choose_names(
        *pair, METRICS, NamingOptions(**base | {"prefer": "concepts"}), sanity=SANITY
    )
    best = choose_names(*pair, METRICS, NamingOptions(**base), sanity=SANITY)
    untested = (some.consensus_chance == "untested").values
    assert untested.sum() == 3
    assert (some.name[untested] == best.name[untested]).all()


@pytest.mark.slow
def test_noise_is_at_chance_where_labels_are_preferred_too():
    """Over 20 seeds: at most 5 % of 18 neurons of noise, and truth is named by what is no class."""
    options = NamingOptions(
        Parameters(alpha=0.2), n_bootstrap=0, n_permutations=99, prefer="concepts"
    )
    noise, truth = [], []
    for seed in range(20):
        presence, labels = make(n_inputs=300, n_noise=18, seed=seed, n_labels=12)
        names = [f"class:{i}" if i % 2 == 0 else f"label {i}" for i in range(12)]
        found = choose_names(presence, labels.assign_coords(label=names), VOTING, options)
        verdicts = np.column_stack([found.consensus_chance, found.chance])
        alone = np.column_stack([found.consensus_p, found.score_p]) <= LEVEL
        hit = np.column_stack([found.consensus, found.name])[:2] == [["class:2"], ["label 3"]]
        noise.append(np.stack([verdicts[2:] == "above chance", alone[2:]]))
        truth.append((verdicts[:2] == "above chance") & hit)
    above, alone = np.mean(noise, axis=(0, 2))
    assert (above <= LEVEL).all()
    assert (alone <= LEVEL + 3 * (LEVEL * 0.95 / 360) ** 0.5).all()
    assert (np.mean(truth, axis=(0, 1)) >= 0.9).all()
