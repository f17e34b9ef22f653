"""What was made of concepts."""

from __future__ import annotations

from pathlib import Path

import pytest

from dashboards.views.runs.settings import autoencoder_of, cells_of, made_of, other_set
from registry.plan.project import Project
from tests.dashboards import fabricate_concepts


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return fabricate_concepts.declare(tmp_path)


def test_what_rests_on_a_cell_directly_or_not(project: Project) -> None:
    assert made_of(project, "toy-concepts", "consistency") == ["toy-consistency"]
    assert made_of(project, "toy-sae[k=8]", "consistency") == ["toy-consistency"]
    assert cells_of(project, "consistency", made_from="toy-sae[k=8]") == []
    assert cells_of(project, "names", made_from="toy-concepts") == ["toy-names"]
    assert made_of(project, "toy-again", "consistency") == []
    assert made_of(project, "toy-again", "matching") == ["toy-matching"]


def test_concepts_of_an_sae_and_channels(project: Project) -> None:
    assert autoencoder_of(project, "toy-concepts") == "toy-sae[k=8]"
    assert autoencoder_of(project, "toy-channels") == ""


def test_a_set_is_matched_with_the_other(project: Project) -> None:
    matching = project.graph.cells["toy-matching"]
    assert other_set(matching, "toy-concepts") == ("toy-again", True)
    assert other_set(matching, "toy-again") == ("toy-concepts", False)
    assert other_set(matching, "toy-channels") is None
    assert other_set(matching, "x", sae="toy-again") == ("toy-concepts", False)
