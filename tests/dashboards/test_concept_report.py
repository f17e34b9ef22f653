"""What reports show of concepts, galleries, SAEs and networks."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from dashboards.report import render
from dashboards.views import sections
from dashboards.views.parts.parts import (
    PICTURE,
    Figure,
    Note,
    Numbers,
    Part,
    Pictures,
    Table,
)
from dashboards.views.sections import Section, section_of
from registry.catalog.access import Catalog, open_catalog
from registry.columns import Column
from registry.plan.project import Project
from tests.dashboards import fabricate, fabricate_concepts
from tests.dashboards.fabricate import CONCEPTS, RANKS
from tests.dashboards.test_report import HOSTILE, assert_inert, read


@pytest.fixture
def catalog(judged: Path) -> Catalog:
    """The catalog of a project with concepts and what stands beside them."""
    return open_catalog(judged, "off")


def parts_of(catalog: Catalog, cell: str) -> list[Part]:
    return list(section_of(catalog, catalog.project.cell(cell)).parts)


def concept_table(parts: list[Part]) -> Table:
    return next(p for p in parts if isinstance(p, Table) and "image_share" in p.frame)


@pytest.mark.slow
def test_concepts_with_pictures_names_and_figures(catalog: Catalog) -> None:
    parts = parts_of(catalog, "toy-concepts")
    assert isinstance(parts[0], Numbers)
    assert len([part for part in parts if isinstance(part, Figure)]) == 9  # five of the training
    assert len(next(part for part in parts if isinstance(part, Pictures)).pictures) == CONCEPTS - 1
    table = concept_table(parts)
    assert len(table.frame) == CONCEPTS
    dead = table.frame.set_index("concept").loc[CONCEPTS - 1]
    assert (dead["name"], dead["picture"]) == ("", "")
    assert table.frame.set_index("concept").loc[0, "c2"] == 0.8
    tags = read(render("t", "", [Section("s", parts)]))
    assert_inert(tags)
    drawn = [attributes for tag, attributes in tags.tags if tag == "img"]
    assert len(drawn) == 2 * (CONCEPTS - 1)
    assert "<b>star</b>" in tags.text


@pytest.mark.slow
def test_long_tables_of_concepts_are_cut(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sections, "LISTED", 2)
    table = concept_table(parts_of(catalog, "toy-concepts"))
    assert table.title == f"The 2 of {CONCEPTS} concepts that contribute most"
    assert len(table.frame) == 2


@pytest.mark.slow
def test_concepts_alone(tmp_path: Path) -> None:
    project = fabricate_concepts.declare(tmp_path)
    schema, uid = fabricate.schemas.CONCEPTS, fabricate.run_uid("toy-channels", 0)
    fabricate.store(project, "toy-channels", fabricate.concepts(), schema, uid)
    parts = parts_of(open_catalog(project.root, "off"), "toy-channels")
    assert "picture" not in concept_table(parts).frame
    notes = [part.text for part in parts if isinstance(part, Note)]
    assert any("the layer's own channels" in note for note in notes)


def test_a_gallery_has_images_above_their_colours(catalog: Catalog) -> None:
    parts = parts_of(catalog, "toy-gallery")
    shown = [part for part in parts if isinstance(part, Pictures)]
    assert [len(part.pictures) for part in shown[:2]] == [RANKS, 2]
    assert shown[0].below == "Colours"
    assert "circle, taken for square" in shown[0].pictures[0].caption


def test_galleries_of_many_concepts_are_cut(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sections, "DRAWN", 2)
    parts = parts_of(catalog, "toy-gallery")
    assert len([part for part in parts if isinstance(part, Pictures)]) == 2
    assert isinstance(parts[0], Note)
    assert "3 more concepts are on the dashboard page" in parts[0].text


@pytest.mark.slow
def test_names_that_cannot_be_read_are_left_out(mine: Project) -> None:
    (mine.current("toy-names") / "dataset.nc").unlink()
    (mine.current("toy-gallery") / "manifest.json").unlink()
    table = concept_table(parts_of(open_catalog(mine.root, "off"), "toy-concepts"))
    assert (table.frame["name"] == "").all()


@pytest.mark.slow
def test_an_autoencoder_has_its_curves(catalog: Catalog) -> None:
    parts = parts_of(catalog, "toy-sae[k=8]")
    assert len([part for part in parts if isinstance(part, Figure)]) == 5
    assert_inert(read(render("t", "", [Section("s", parts)])))


def test_only_our_own_addresses_become_pictures() -> None:
    frame = pd.DataFrame({"p": ["javascript:alert(1)", HOSTILE, "http://evil/x.png", None]})
    table = Table("x", frame, columns={"p": Column(PICTURE)})
    tags = read(render("t", "", [Section("s", [table])]))
    assert_inert(tags)
    assert "img" not in [tag for tag, _ in tags.tags]
    assert table.csv().strip() == ""
