"""Maps and masks for evaluators: which images, what adds up, and the chain of stages on shapes."""

from __future__ import annotations

import functools
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr

import registry
from evals.naming.halves import halve_inputs
from fact.data.images import Geometry
from fact.data.shapes import Shapes
from fact.traces.attribution import concept_maps
from fact.traces.maps import choose_images, map_images, mask_images, sum_cells
from fact.traces.spliced import ConceptSource
from registry.declare.faults import ConfigError
from registry.declare.stage import load_stage
from registry.plan.project import Project
from tests.conftest import MakeOnce
from tests.fact import tiny
from tests.fact.chain import chain_with
from tests.fact.test_stages import PartialRun, run_stage
from tests.in_parts import closed_over

PRESENCE = xr.DataArray(
    np.array([[0, 3, 0], [2, 1, 0], [5, 0, 0], [4, 2, 0]], dtype=np.float32),
    dims=("image", "concept"),
    coords={"image": ["d", "a", "c", "b"], "concept": [7, 8, 9]},
)


class Pictures:
    """Some pictures by id, and no masks."""

    name = "pictures"

    def __init__(self, pictures: dict[str, np.ndarray]):
        self.pictures = pictures

    def read(self, ids, geometry=None) -> np.ndarray:
        return np.stack([self.pictures[name] for name in ids])

    def masks(self, ids, geometry=None) -> None:
        return None


def test_the_strongest_images_come_first() -> None:
    chosen = choose_images(PRESENCE, 2)
    assert chosen["image"].values.tolist() == [["c", "b"], ["d", "b"], ["", ""]]


def test_random_images_are_those_in_which_the_concept_is_present() -> None:
    drawn = {
        str(choose_images(PRESENCE, 1, "random", seed)["image"].values[0, 0]) for seed in range(40)
    }
    assert drawn == {"a", "b", "c"}
    chosen = choose_images(PRESENCE, 2, "random", seed=3)
    again = choose_images(PRESENCE[::-1, ::-1], 2, "random", seed=3)
    xr.testing.assert_equal(again.sel(concept=[7, 8, 9]), chosen)
    assert set(chosen["image"].values[1]) <= {"d", "a", "b"}
    assert chosen["image"].values[2].tolist() == ["", ""]
    with pytest.raises(ValueError, match="expected one of strongest, random"):
        choose_images(PRESENCE, 1, "best")


@pytest.mark.parametrize("cell", [1, 2, 3])
def test_maps_are_those_of_the_concept_summed_over_cells(cell: int) -> None:
    network = tiny.convnet()
    source = ConceptSource(network, "features.1", tiny.sae(6))
    pictures = dict(zip("abcd", tiny.images(4), strict=True))
    chosen = choose_images(PRESENCE, 2)
    chosen = chosen.assign_coords(concept=[0, 4, 8])
    found = map_images(source, Pictures(pictures), chosen, cell)
    side = -(-8 // cell)
    assert found["map"].shape == (3, 2, side, side)
    for i, j in np.ndindex(3, 2):
        name = str(found["image"].values[i, j])
        got = found["map"].values[i, j]
        if not name:
            assert (got == 0).all()
            continue
        whole = concept_maps(network, "features.1", source.sae, pictures[name][None], [4 * i])
        expected = whole["map"].values[0, 0]
        np.testing.assert_allclose(got[0, 0], expected[:cell, :cell].sum(), atol=1e-5)
        np.testing.assert_allclose(
            got[-1, 0], expected[cell * (side - 1) :, :cell].sum(), atol=1e-5
        )
        np.testing.assert_allclose(got.sum(), whole["total"].values[0, 0], atol=1e-5)


def test_sums_over_cells_lose_nothing() -> None:
    values = torch.from_numpy(np.random.default_rng(0).random((2, 7, 5)))
    summed = sum_cells(values, 3)
    assert summed.shape == (2, 3, 2)
    np.testing.assert_allclose(summed.sum(axis=(1, 2)), values.sum(axis=(1, 2)))
    np.testing.assert_allclose(summed[:, 2, 1], values[:, 6:, 3:].sum(axis=(1, 2)))
    assert sum_cells(values, 1) is values


def test_masks_are_of_the_geometry_and_the_cells_that_are_half_inside() -> None:
    shapes = Shapes(4, 6, size=32)
    ids = shapes.ids("test")
    fine, coarse = (mask_images(shapes, ids, None, cell) for cell in (1, 4))
    xr.testing.assert_equal(fine["mask"], shapes.masks(ids)["mask"].reset_coords(drop=True))
    share = fine["mask"].values.reshape(6, 2, 8, 4, 8, 4).mean(axis=(3, 5))
    np.testing.assert_array_equal(coarse["mask"].values, share >= 0.5)
    np.testing.assert_array_equal(coarse["carries"], fine["carries"])
    cropped = mask_images(shapes, ids, Geometry(crop=16), 1)
    np.testing.assert_array_equal(cropped["mask"], fine["mask"][:, :, 8:24, 8:24])


def test_what_no_object_covers_carries_the_background() -> None:
    shapes = Shapes(4, 6, size=32)
    ids = np.array(["test/00004", "train/00001", "test/00002"])
    plain, found = mask_images(shapes, ids, None), mask_images(shapes, ids, None, 1, "ground")
    np.testing.assert_array_equal(found["mask"][:, :2], plain["mask"])
    np.testing.assert_array_equal(found["mask"][:, 2], ~plain["mask"].any("object"))
    for row, name in enumerate(ids):
        labels = found["label"].values[found["carries"].values[row, 2]]
        own = shapes.concepts(name.split("/")[0]).sel(image=name)
        grounds = [str(n) for n in own["label"].values[own.values] if n.startswith("ground:")]
        assert labels.tolist() == grounds
        assert len(grounds) == 1
    known = plain["label"].values
    np.testing.assert_array_equal(found["carries"].sel(label=known)[:, :2], plain["carries"])
    assert not found["carries"].sel(label=known)[:, 2].any()
    with pytest.raises(ValueError, match="no labels of the group 'grund'; did you mean 'ground'"):
        mask_images(shapes, ids, None, 1, "grund")


def test_images_without_masks_are_told() -> None:
    with pytest.raises(ValueError, match="images 'pictures' have no masks"):
        mask_images(Pictures({}), np.array(["a"]), None)


DECLARATION = """
[experiments.maps]
stage = "fact.map_concepts"
needs = { concepts = "concepts" }
config = { n_images = 4, most = 10 }

[experiments.channel-maps]
stage = "fact.map_concepts"
needs = { concepts = "channels" }
config = { n_images = 3, images = "random", cell = 2 }

[experiments.masks]
stage = "fact.mask_inputs"
needs = { maps = "maps" }
config = { background = "ground" }

[experiments.channel-masks]
stage = "fact.mask_inputs"
needs = { maps = "channel-maps" }

[experiments.localisation]
stage = "evals.localise_concepts"
needs = { maps = "maps", masks = "masks", names = "names" }

[experiments.channel-localisation]
stage = "evals.localise_concepts"
needs = { maps = "channel-maps", masks = "channel-masks" }

[experiments.seeds]
stage = "fact.train_sae"
needs = { features = "features" }
config = { n_concepts = 24, k = 4, batch = 256, epochs = 2, lr = 1e-2, evaluate_every = 1 }
matrix = { seed = [0, 1] }

[experiments.seeds-concepts]
stage = "fact.measure_concepts"
needs = { sae = "seeds", images = "shapes" }

[experiments.matching]
stage = "evals.match_concepts"
needs = { one = "concepts", other = "seeds-concepts" }

[experiments.sae-matching]
stage = "evals.match_concepts"
needs = { one = "concepts", other = "seeds[seed=1]" }

[experiments.channel-matching]
stage = "evals.match_concepts"
needs = { one = "channels", other = "concepts" }
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, make_once: MakeOnce) -> Project:
    return chain_with(DECLARATION, make_once, tmp_path_factory.mktemp("maps"))


@pytest.fixture(scope="module")
def open_(project: Project):
    @functools.cache
    def open_one(name: str) -> xr.Dataset:
        with registry.open_dataset(project.current(name)) as dataset:
            return dataset.load()

    return open_one


@pytest.mark.slow
def test_the_datasets_of_the_chain_follow_their_schemas(project: Project) -> None:
    for cell in project.graph.select(tomllib.loads(DECLARATION)["experiments"]):
        load_stage(cell.stage).output.check(registry.open_dataset(project.current(cell.name)))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["maps", "masks"])
def test_parts_give_the_digest_of_one_run(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr("fact.traces.maps.MAPPED_CONCEPTS", 3)
    monkeypatch.setattr("fact.traces.maps.MASKED_IMAGES", 9)
    schema = load_stage(project.graph.cells[name].stage).output
    whole = run_stage(project, name, PartialRun(tmp_path / "whole", schema))
    closed = closed_over(
        lambda run: run_stage(project, name, run), lambda: PartialRun(tmp_path / "a", schema), 2
    )
    assert len(whole.rows) > 2
    assert (closed.content, closed.rows) == (whole.content, whole.rows)


def test_localisation_says_which_images_were_seen_before(open_) -> None:
    maps, concepts, located = open_("maps"), open_("concepts"), open_("localisation")
    mapped = set(maps["image"].values.ravel().tolist()) - {""}
    ids = concepts["image"].values.astype(str)
    choosing, _ = halve_inputs(ids, seed=0)
    assert located["n_trained_scoring"] == 0
    assert located["n_chose_names"] == len(mapped & set(ids[choosing])) > 0
    assert set(located["name_chance"].values) <= {"above chance", "undecided", "at chance", ""}
    assert "n_chose_names" not in open_("channel-localisation")


def test_maps_of_a_convolutional_network_add_up_to_presences(open_) -> None:
    maps, concepts = open_("maps"), open_("concepts")
    assert maps.sizes["concept"] == maps["n_concepts"] <= 10
    filled = maps["image"].values != ""
    total = maps["map"].values.astype(np.float64).sum(axis=(2, 3))
    np.testing.assert_allclose(total[filled], maps["presence"].values[filled], rtol=1e-4)
    for concept in maps["concept"].values:
        own = maps.sel(concept=concept)
        image = own["image"].values[0]
        assert concepts["presence"].sel(image=image, concept=concept) == own["presence"][0]
        assert own["presence"][0] == concepts["presence"].sel(concept=concept).max()


def test_masks_are_of_the_images_that_are_mapped(open_) -> None:
    for prefix, side in [("", 24), ("channel-", 12)]:
        maps, masks = open_(f"{prefix}maps"), open_(f"{prefix}masks")
        assert set(masks["image"].values) == set(maps["image"].values.ravel()) - {""}
        assert masks["mask"].shape[2:] == maps["map"].shape[2:] == (side, side)


def test_concepts_are_localised(open_) -> None:
    found = open_("localisation")
    assert found["n_named"] == found.sizes["concept"]
    assert (found["score"].fillna(0) <= 1).all()
    assert open_("channel-localisation")["n_named"] == 0


def test_an_sae_of_the_same_seed_is_the_same_and_another_less_so(open_) -> None:
    same, other = open_("matching[seed=0]"), open_("matching[seed=1]")
    assert same["basis"].values.tolist() == ["decoder", "presence"]
    alive = same["match"].values[:, 1] >= 0
    assert alive.sum() == same["n_alive_one"] == same["n_alive_other"]
    own = same["concept"].values[alive, None]
    np.testing.assert_array_equal(same["match"].values[alive], np.broadcast_to(own, (len(own), 2)))
    np.testing.assert_allclose(same["similarity"].values[alive], 1, rtol=1e-6)
    assert (same["matched_share"] == 1).all()
    assert (other["mean_nearest"] < 0.999).all()
    assert other.attrs["seed"] == 0  # of the bootstrap; the other set's is in its inputs


def test_what_is_not_known_of_both_is_not_compared(open_) -> None:
    assert open_("sae-matching")["basis"].values.tolist() == ["decoder"]
    assert open_("channel-matching")["basis"].values.tolist() == ["presence"]


@pytest.mark.slow
def test_concepts_of_another_layer_are_refused(project: Project) -> None:
    stage = load_stage("evals.match_concepts")
    cells = {name: project.graph.cells[name] for name in ("matching[seed=0]",)}
    cell = cells["matching[seed=0]"]
    inputs = project.inputs(project.graph, cell, project.fingerprints(project.graph, cell.name))

    class Elsewhere:
        kind, name = "sae", "elsewhere"

        def origin(self, slot: str):
            return self if slot == "features" else inputs["one"].origin(slot)

        config = {"layer": "features.0"}  # noqa: RUF012

    with pytest.raises(ValueError, match=r"elsewhere is of layer features\.0 of classifier"):
        stage(stage.resolve({}), {"one": inputs["one"], "other": Elsewhere()}, None)


def test_choices_are_checked() -> None:
    with pytest.raises(ConfigError, match="expected 'strongest' or 'random'"):
        load_stage("fact.map_concepts").resolve({"images": "best"})
