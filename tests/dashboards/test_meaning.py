"""Concepts that are found by a text or an image."""

from __future__ import annotations

import tomllib
from pathlib import Path

import numpy as np
import pytest

from dashboards.server.meaning import Meaning
from dashboards.views.concepts.meaning import declaring, nearness
from fact.kinds import OpenClip
from fact.traces.by_concept import read_presences
from registry.catalog.access import open_catalog
from registry.catalog.lineage import FinishedRuns, lineage_of
from registry.execute.schedule import Watcher, run_plan
from registry.plan.project import Project, open_project
from registry.store.datasets import open_dataset
from tests.dashboards import fabricate
from tests.dashboards.test_pages import Open, app_test, frames, open_page, told
from tests.fact.networks.test_image_text import folder

__all__ = ["app_test", "folder", "open_page"]


def test_nearness_is_the_weighted_mean_of_cosines() -> None:
    dataset = fabricate.concepts()
    presence = dataset["presence"].values.astype(np.float64)
    cosines = np.random.default_rng(0).normal(size=len(presence))
    cosines[3] = np.nan
    known = np.isfinite(cosines)
    found = nearness(read_presences(dataset), cosines)
    for concept, weights in enumerate(presence.T):
        if not weights[known].sum():
            assert np.isnan(found[concept])
            continue
        mean = np.average(cosines[known], weights=weights[known])
        assert found[concept] == pytest.approx(mean - cosines[known].mean())


def with_vectors(project: Project, clip: Path) -> Project:
    """Declare vectors of the images by a tiny model, and make them."""
    file = project.root / "experiments.toml"
    lineage = lineage_of(project, FinishedRuns(project.store.root))
    entry = lineage.entries["concepts"]
    lines = tomllib.loads(declaring(entry))
    assert lines["experiments"]["concepts-vectors"]["needs"]["images"] == entry.needs["images"]
    model = f'model = "tiny"\nfolder = "{clip}"'
    text = declaring(entry).replace('model = "ViT-L-16-SigLIP-384"', model)
    file.write_text(f"{file.read_text()}\n{text}\n")
    changed = open_project(project.root)
    [one] = run_plan(changed, changed.plan(["concepts-vectors"]), runner="here", watcher=Watcher())
    assert one.name == "concepts-vectors"
    return changed


def test_concepts_are_found_by_any_text_and_by_an_image(
    open_page: Open, judged: Path, explained_copy: Project, folder: Path
) -> None:
    page = open_page(judged, "concepts")
    assert 'kind = "open-clip"' in "\n".join(code.value for code in page.code)
    project = with_vectors(explained_copy, folder)
    page = open_page(project, "concepts", {"cell": "concepts", "means": "a red star"})
    assert not page.exception
    assert "the nearest first" in told(page)
    table = frames(page)[0]
    assert table["nearness"].dropna().is_monotonic_decreasing
    seeker = Meaning(open_catalog(project.root, "off").input("concepts-vectors"))
    concepts = open_dataset(project.current("concepts"))
    images = concepts["image"].values.astype(str)
    model = OpenClip("tiny", folder=str(folder)).load_images()
    made = open_dataset(project.current("concepts-vectors"))
    vectors = made["activation"].sel(image=images).values
    text = model.encode_texts(["a red star"])[0].numpy()
    expected = vectors @ text / np.linalg.norm(vectors, axis=1)
    np.testing.assert_allclose(seeker.cosines(images, "a red star"), expected, atol=1e-5)
    near = nearness(read_presences(concepts), expected)
    assert table["concept"].iloc[0] == concepts["concept"].values[np.nanargmax(near)]
    own = seeker.cosines(images, np.zeros((9, 9, 3), np.uint8))
    assert np.isfinite(own).all()
