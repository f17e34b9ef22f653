"""CUB's evaluations from official files to the table, and what is said of the files before."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from registry.catalog.access import open_catalog
from registry.cli import main
from registry.execute.schedule import run_plan
from registry.plan.preflight import look_ahead
from registry.plan.project import open_project
from registry.record.states import State
from tests.fact.data.official_files import BIRDS, bird_attributes, write_attributes, write_cub
from tests.fact.networks.bottleneck import save_bottleneck

ROOT = Path(__file__).parents[2]
EXPERIMENTS = ("cub-labels", "bottleneck-neurons")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The paper's declaration beside small official files."""
    root = tmp_path_factory.mktemp("neuron-eval")
    shutil.copy(ROOT / "papers/neuron-eval/experiments.toml", root)
    write_cub(root / "data", n_each=3)
    write_attributes(root / "data")
    save_bottleneck(root / "data/cub_cbm_trained.pth")
    return root


def checked(folder: Path, monkeypatch: pytest.MonkeyPatch, *names: str) -> tuple[int, str]:
    monkeypatch.chdir(folder)
    result = CliRunner().invoke(main, ["data", "check", *names])
    return result.exit_code, result.output


def test_data_that_is_there_is_ready(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    status, told = checked(folder, monkeypatch, "cub", "bottleneck")
    assert status == 0, told
    assert "3 classes: Black footed Albatross, Laysan Albatross, Sooty Albatross" in told
    assert "test: 3 images, 1 of each class" in told
    assert "112 attributes of each bird, as has_bill_shape::dagger" in told
    assert "test: 3 images; the published split has 5,794" in told
    assert "fault" not in told


def test_data_that_is_not_there_says_how_to_get_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    status, told = checked(folder, monkeypatch, "places")
    assert status == 1
    assert "split 'val': no folder val_256 or val_large" in told
    assert "to get it: http://places2.csail.mit.edu/download.html has val_256.tar" in told
    assert "not ready: places" in told
    status, told = checked(folder, monkeypatch, "cubb")
    assert status == 1
    assert "no dataset or network 'cubb'; did you mean 'cub'?" in told


@pytest.mark.slow
def test_the_papers_chain_runs_from_official_files(folder: Path) -> None:
    project = open_project(folder / "experiments.toml")
    with contextlib.chdir(folder):
        outcomes = run_plan(project, project.plan(EXPERIMENTS), runner="here", journal_only=True)
    assert not [outcome for outcome in outcomes if outcome.ending is not State.COMPLETED]
    with open_catalog(folder, "off") as catalog:
        labels = catalog.dataset("cub-labels").load()
        neurons = catalog.dataset("bottleneck-neurons").load()
    assert labels.sizes == {"image": 3, "label": 112}
    expected = [bird_attributes(label) for label in range(len(BIRDS))]
    np.testing.assert_array_equal(labels["value"], expected)
    assert neurons["right_concept"].values.tolist() == labels["label"].values.tolist()
    assert neurons["image"].values.tolist() == labels["image"].values.tolist()
    assert ((neurons["activation"] > 0) & (neurons["activation"] < 1)).all()
    assert float(neurons["activation"].std()) > 1e-4
    # From here on the table's stages have what they need.
    ahead = look_ahead(project, project.plan(["s5", "known-7", "known-7-shifted"]).tasks)
    assert not ahead.missing
