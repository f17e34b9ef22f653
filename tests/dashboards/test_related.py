"""What was made of concepts."""

from __future__ import annotations

from pathlib import Path

import pytest

from dashboards.views.runs.settings import autoencoder_of, cells_of, made_of, other_set
from registry.catalog.lineage import Lineage, lineage_of
from tests.dashboards import fabricate_concepts


@pytest.fixture
def lineage(tmp_path: Path) -> Lineage:
    return lineage_of(fabricate_concepts.declare(tmp_path))


def test_what_rests_on_a_cell_directly_or_not(lineage: Lineage) -> None:
    assert made_of(lineage, "toy-concepts", "consistency") == ["toy-consistency"]
    assert made_of(lineage, "toy-sae[k=8]", "consistency") == ["toy-consistency"]
    assert cells_of(lineage, "consistency", made_from="toy-sae[k=8]") == []
    assert cells_of(lineage, "names", made_from="toy-concepts") == ["toy-names"]
    assert made_of(lineage, "toy-again", "consistency") == []
    assert made_of(lineage, "toy-again", "matching") == ["toy-matching"]


def test_concepts_of_an_sae_and_channels(lineage: Lineage) -> None:
    assert autoencoder_of(lineage, "toy-concepts") == "toy-sae[k=8]"
    assert autoencoder_of(lineage, "toy-channels") == ""


def test_a_set_is_matched_with_the_other(lineage: Lineage) -> None:
    matching = lineage.entries["toy-matching"]
    assert other_set(matching, "toy-concepts") == ("toy-again", True)
    assert other_set(matching, "toy-again") == ("toy-concepts", False)
    assert other_set(matching, "toy-channels") is None
    assert other_set(matching, "x", sae="toy-again") == ("toy-concepts", False)
