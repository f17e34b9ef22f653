"""Static sites: what is published, under which licence, where, and that it lasts."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from dashboards.commands import publish
from dashboards.site import folder as site_folder
from dashboards.site import seen
from dashboards.site.concept_sets import open_set
from dashboards.site.content import Publisher, bare
from dashboards.site.folder import SiteFolder, published_in, taking_the_place_of
from dashboards.views.parts.parts import Figure, Picture, Pictures
from dashboards.views.parts.pictures import COLOURS, PLACE, WEIGHTS, veil
from fact.schemas import NEXT_TOKENS
from fact.traces.by_concept import ENTRY
from registry.catalog.access import open_catalog
from registry.catalog.notes import NoteBook, concept_subject
from registry.declare.licences import Permission
from registry.mongo.database import URL_VARIABLE
from registry.plan.project import Project
from registry.store.datasets import open_dataset
from registry.suggest import RefusalError
from tests.dashboards import fabricate, fabricate_tokens
from tests.dashboards.fabricate import CONCEPTS, HOSTILE, run_uid
from tests.dashboards.test_report import assert_inert, read

CONCEPTS_RUN = run_uid("toy-concepts", 1)
GIVEN = Permission("mine", "MIT", True, "asks for its notice")
REFUSED = Permission("mine", "", False, "no licence declared")
Run = Callable[..., Result]


@pytest.fixture
def run(mine: Project, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Publish the project that is there to be changed."""
    monkeypatch.setenv(URL_VARIABLE, "off")
    monkeypatch.setenv("FACTBOOK_PROJECT", str(mine.root))
    return lambda *words, **options: CliRunner().invoke(publish, words, **options)


def told(result: Result) -> str:
    assert result.exit_code == 0, (result.output, result.exception)
    return result.output


def tree(folder: Path) -> dict[str, bytes]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def data(folder: Path, name: str) -> Any:
    return json.loads((folder / "data" / f"{name}.json").read_text())


def texts(value: Any) -> Iterator[tuple[str, str]]:
    """Yield every text of plain values, with the key that it stands under."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from ((key if one == "" else one, text) for one, text in texts(inner))
    elif isinstance(value, list):
        for inner in value:
            yield from texts(inner)
    elif isinstance(value, str):
        yield "", value


@pytest.mark.slow
def test_a_site_of_a_project(run: Run, mine: Project, tmp_path: Path) -> None:
    site = tmp_path / "site"
    own = NoteBook.of(mine.root, None)
    own.write(
        replace(
            own.read(concept_subject(mine.current("toy-concepts").name, 0)),
            name="<i>round</i> ones",
        )
    )
    listed = told(run(str(site), "--dry-run"))
    assert "toy-concepts" in listed
    assert "6 concepts" in listed
    assert not site.exists(), "nothing is written before somebody says so"
    assert run(str(site), input="n\n").exit_code == 1
    assert not site.exists()
    told(run(str(site), input="y\n"))
    assert sorted(path.name for path in tmp_path.iterdir() if "site" in path.name) == ["site"]

    index = data(site, "site")
    pages = {page["cell"]: page for page in index["pages"]}
    assert {"toy-concepts", "toy-decisions", "toy-names", "toy-consistency"} <= set(pages)
    assert not any(page["pictures"] for page in pages.values()), "no licence, no images"
    concepts = pages["toy-concepts"]
    folder = concepts["run"]
    columns = data(site, f"{folder}/index")
    assert sorted(columns["concept"]) == list(range(CONCEPTS))
    assert all(len(columns[name]) == CONCEPTS for name in ("name", "thumb", "evidence"))
    part = data(site, f"{folder}/concepts-0000")
    first = part["concepts"][0]
    assert first["title"].startswith("Concept 0: ")
    assert len(first["evidence"]) == sum(columns["evidence"][columns["concept"].index(0)])
    assert {question for question, *_ in first["evidence"]} >= {"Do trusted metrics agree?"}
    assert first["references"][0][0] == "test/00000"
    assert_seen_is_right(first["seen"], data(site, f"{folder}/images"), mine)
    assert_own_name_is_everywhere(site, pages, columns, first)
    assert all(one["face"] == "" for one in first["pictures"])

    for path, content in tree(site).items():
        if path.endswith(".js") and path.startswith("data/"):
            name = path.removeprefix("data/").removesuffix(".js")
            head = f"factbook.take({json.dumps(name)},"
            assert content.decode().startswith(head)
            script = content.decode().removeprefix(head).rstrip().removesuffix(")")
            assert json.loads(script) == data(site, name)
        assert str(mine.root).encode() not in content, "no folder of ours"
    for name in (path for path in tree(site) if path.endswith(".json")):
        for key, text in texts(json.loads((site / name).read_text())):
            if key == "html":
                assert_inert(read(text))
    assert any(HOSTILE in text for _, text in texts(part)), "as it is stored, shown as text"


def assert_seen_is_right(seen: Any, shared: Any, project: Project) -> None:
    """Compare what is told of concept 0 in all images with its presences themselves."""
    with open_dataset(project.current("toy-concepts")) as stored:
        kept = stored.load()
    presence, label = kept["presence"].values[:, 0], kept["label"].values
    there = presence > 0
    assert (seen["present"], seen["of"]) == (there.sum(), len(presence))
    counts, _ = np.histogram(presence[there], 40, (0, presence.max()))
    assert seen["counts"] == counts.tolist()
    for at, share in seen["classes"]:
        assert share == pytest.approx(there[label == at].mean(), rel=5e-3)
    assert shared["classes"] == kept["class"].values.tolist()
    ranked = np.sort(presence[there])[::-1]
    quarters = np.array_split(ranked, 4)
    for (high, low, count, shown), own in zip(seen["quarters"], quarters, strict=True):
        assert (high, low) == pytest.approx((own[0], own[-1]), rel=5e-3)
        assert count == len(own)
        assert len(shown) == min(4, count)
        for at, value in shown:
            image, of, face = shared["images"][at]
            row = kept.indexes["image"].get_loc(image)
            assert (value, of) == (pytest.approx(presence[row], rel=5e-3), label[row])
            assert low <= value <= high
            assert face == "", "no licence, no images"


def assert_own_name_is_everywhere(site: Path, pages: Any, columns: Any, first: Any) -> None:
    """Look for what a reader calls concept 0 in lists, on its page, in decisions and results."""
    own = "<i>round</i> ones"
    row = columns["concept"].index(0)
    assert [name for name in columns["called"] if name] == [columns["called"][row]] == [own]
    assert first["called"] == own
    assert own in [each["called"] for each in pages["toy-concepts"]["wall"]]
    decision = data(site, f"{pages['toy-decisions']['run']}/decision-00000")
    assert {term[0]: term[4] for term in decision["terms"]}.get(0, own) == own
    for cell in ("toy-names", "toy-consistency", "toy-localisation"):
        parts = data(site, f"{pages[cell]['run']}/result")["parts"]
        tables = [part for part in parts if "called" in part.get("columns", ())]
        assert tables, cell
        for table in tables:
            at, of = table["columns"].index("called"), table["columns"].index("concept")
            assert {row[at] for row in table["rows"] if row[of] == "0"} == {own}, cell
            assert {row[at] for row in table["rows"] if row[of] != "0"} <= {""}, cell


def test_where_images_cannot_be_read_their_ids_are_told(judged: Path, tmp_path: Path) -> None:
    with open_catalog(judged, "off") as catalog:
        lineage = catalog.lineage()
        known = open_set(lineage, lineage.entries["toy-concepts"])
        found = seen.open_seen(catalog, known, Publisher(SiteFolder(tmp_path), GIVEN))
        assert found is not None
        assert found.of(0)["seen"]["present"] > 0
        assert {face for _, _, face in found.about()["images"]} == {""}


def test_examples_of_all_concepts_are_of_the_same_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seen, "POOL", 10)
    ids = np.array([f"test/{row}" for row in range(100)])
    publisher = Publisher(SiteFolder(tmp_path), REFUSED)
    pool = seen.Pool(ids, np.zeros(100, int), publisher, None)
    drawn = set()
    for concept in range(50):
        entries = np.zeros(100, ENTRY)
        entries["row"] = np.random.default_rng(concept).permutation(100)
        found = pool.drawn(entries, 4)
        assert len(found) == 4
        places = [entries["row"].tolist().index(row) for row in found["row"]]
        assert places == sorted(places), "in their order"
        drawn |= set(found["row"].tolist())
    assert len(drawn) == 4, "the first four of all, since each concept is in all images"
    assert len(pool.drawn(entries[:50], 50)) < 10
    assert [pool.place(3), pool.place(8), pool.place(3)] == [0, 1, 0]
    assert pool.listed == [["test/3", 0, ""], ["test/8", 0, ""]]


@pytest.mark.slow
def test_the_same_runs_give_the_same_bytes_and_links_last(
    run: Run, mine: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site, other = tmp_path / "site", tmp_path / "other"
    told(run(str(site), "toy-channels", "toy-decisions", "--yes"))
    told(run(str(other), "toy-channels", "toy-decisions", "--yes"))
    before = tree(site)
    assert before == tree(other)
    # published again with something else: what was there stays, and is the same
    monkeypatch.setattr(Figure, "svg", lambda self: "<svg></svg>")  # which takes most of the time
    told(run(str(other), "toy-channels", "toy-decisions", "--yes"))
    before = tree(other)
    site = other
    told(run(str(site), "toy-consistency", "--yes"))
    after = tree(site)
    changed = {path for path in before if before[path] != after.get(path)}
    assert changed == {"data/site.json", "data/site.js"}
    # a run that is gone stays too
    folder = mine.current("toy-decisions")
    shutil.rmtree(folder.parent)
    assert "its run is gone" in told(run(str(site), "toy-consistency", "--yes"))
    own = [path for path in after if folder.name in path]
    assert len(own) > 4
    assert all(tree(site)[path] == after[path] for path in own)
    assert data(site, "site")["pages"] == json.loads(after["data/site.json"])["pages"]
    # but for who wants it anew
    told(run(str(site), "toy-consistency", "--anew", "--yes"))
    assert [page["cell"] for page in data(site, "site")["pages"]] == ["toy-consistency"]
    assert not list(site.glob(f"data/{folder.name}*"))


def test_what_is_not_ours_is_left_alone(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "thesis"
    folder.mkdir()
    (folder / "chapter.tex").write_text("years of work")
    found = run(str(folder), "--yes")
    assert isinstance(found.exception, RefusalError)
    assert "did not write (chapter.tex" in str(found.exception)
    site = tmp_path / "site"
    with taking_the_place_of(site) as new:
        SiteFolder(new).data("site", {"made_by": "factbook publish", "format": 1})
    (site / "CNAME").write_text("example.org")
    found = run(str(site), "--yes")
    assert isinstance(found.exception, RefusalError)
    assert "holds CNAME" in str(found.exception)
    assert tree(folder) == {"chapter.tex": b"years of work"}
    assert (site / "CNAME").read_text() == "example.org"


def test_a_publication_that_fails_changes_nothing(tmp_path: Path) -> None:
    site = tmp_path / "site"
    with taking_the_place_of(site) as new:
        SiteFolder(new).data("site", {"made_by": "factbook publish", "format": 1})
    before = tree(site)
    with pytest.raises(RefusalError, match="another publication"):
        _publish_twice_at_once(site)
    assert tree(site) == before
    assert [path.name for path in tmp_path.iterdir()] == ["site"]
    (tmp_path / "site").rename(tmp_path / ".site.replaced")  # killed between both renamings
    with taking_the_place_of(site) as new:
        assert tree(site) == before
        SiteFolder(new).data("site", {"made_by": "factbook publish", "format": 1})


@pytest.mark.parametrize(
    ("renames", "title"), [(0, "first"), (1, "second"), (2, "second")], ids=str
)
def test_the_next_publication_ends_what_one_left_that_was_killed(
    tmp_path: Path, renames: int, title: str
) -> None:
    site = tmp_path / "site"
    with taking_the_place_of(site) as new:
        SiteFolder(new).data("site", index_called("first"))
    if not (child := os.fork()):  # killed while it writes, or after so many of its two renames
        _publish_and_be_killed(site, renames)
    os.waitpid(child, 0)
    assert site.exists() == (renames != 1)
    assert len(list(tmp_path.iterdir())) == 2, "it has left something"
    assert (published_in(site) or {})["title"] == title
    assert [path.name for path in tmp_path.iterdir()] == ["site"]
    with taking_the_place_of(site) as new:
        SiteFolder(new).data("site", index_called("third"))
    assert (published_in(site) or {})["title"] == "third"


def index_called(title: str) -> dict[str, Any]:
    return {"made_by": "factbook publish", "format": 1, "title": title, "pages": []}


def _publish_and_be_killed(site: Path, renames: int) -> None:
    """End this process as a signal would: no block is left, nothing is cleared."""
    rename, done = os.rename, list[str]()

    def counted(source: Path, target: Path) -> None:
        if len(done) == renames:
            os._exit(9)
        rename(source, target)
        done.append(target.name)

    def cleared(path: Path, **_: Any) -> None:
        if len(done) == 2:
            os._exit(9)

    site_folder.os.rename, site_folder.shutil.rmtree = counted, cleared  # type: ignore
    with taking_the_place_of(site) as new:
        SiteFolder(new).data("site", index_called("second"))
        if renames == 0:
            os._exit(9)
    os._exit(1)


def _publish_twice_at_once(site: Path) -> None:
    with taking_the_place_of(site) as new:
        (new / "half").write_text("")
        with taking_the_place_of(site):
            pass


def layered(random: np.random.Generator) -> Picture:
    explanation = random.integers(0, 256, (32, 32, 4), dtype=np.uint8)
    layers = {COLOURS: explanation, WEIGHTS: explanation, PLACE: veil(explanation)}
    picture = random.integers(0, 256, (32, 32, 3), dtype=np.uint8)
    return Picture(picture, "circle\npresence 1", "test/0", layers)


def test_images_are_published_with_a_licence_and_maps_alone_without(tmp_path: Path) -> None:
    picture = layered(np.random.default_rng(0))
    with_it, without = SiteFolder(tmp_path / "with"), SiteFolder(tmp_path / "without")
    shown = Publisher(with_it, GIVEN).pictures(Pictures([picture], below=COLOURS))
    [one] = shown["pictures"]
    assert [layer["name"] for layer in one["layers"]] == [COLOURS], "exact ones are left out"
    assert len(tree(with_it.root)) == 2
    assert pixels(with_it.root / one["face"]).tolist() == picture.pixels.tolist(), "small: no loss"

    hidden = Publisher(without, REFUSED).pictures(Pictures([picture], below=COLOURS))
    [one] = hidden["pictures"]
    assert one["face"] == ""
    assert "no licence declared" in hidden["note"]
    [path] = tree(without.root)
    colours = pixels(without.root / path)
    seen = colours[colours[..., 3] > 0][:, :3]
    assert len(np.unique(seen, axis=0)) == 1, "one colour: nothing of the image is in it"
    assert Publisher(without, REFUSED).picture(Picture(picture.pixels)) is None


def test_a_map_without_its_image_is_as_opaque_as_it_was() -> None:
    explanation = layered(np.random.default_rng(1)).layers[COLOURS]
    np.testing.assert_array_equal(bare(explanation, False)[..., 3], explanation[..., 3])
    back = bare(veil(explanation), True)[..., 3].astype(int)
    assert np.abs(back - explanation[..., 3]).max() <= 1


def pixels(path: Path) -> np.ndarray:
    from PIL import Image

    with Image.open(path) as image:
        return np.asarray(image)


def test_an_unfinished_project_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = fabricate.declare(tmp_path / "project")
    monkeypatch.setenv(URL_VARIABLE, "off")
    monkeypatch.setenv("FACTBOOK_PROJECT", str(project.root))
    found = CliRunner().invoke(publish, [str(tmp_path / "site"), "--yes"])
    assert "nothing to publish" in str(found.exception)
    assert not (tmp_path / "site").exists()


def test_neurons_of_texts_are_published_with_a_licence_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = fabricate_tokens.made(tmp_path / "project")
    tokens, uid = fabricate_tokens.next_tokens(), run_uid("tokens", 1)
    fabricate.store(project, "tokens", tokens, NEXT_TOKENS, uid)
    monkeypatch.setenv(URL_VARIABLE, "off")
    monkeypatch.setenv("FACTBOOK_PROJECT", str(project.root))
    monkeypatch.chdir(project.root)

    def first(site: str) -> dict[str, Any]:
        words = [str(tmp_path / site), "tokens", "--yes"]
        told(CliRunner().invoke(publish, words))
        [page] = data(tmp_path / site, "site")["pages"]
        found: dict[str, Any] = data(tmp_path / site, f"{page['run']}/concepts-0000")
        return found["concepts"][0]

    without = first("without")
    assert "texts" not in without
    assert "no licence declared" in without["note"]
    declaration = project.root / "experiments.toml"
    given = 'kind = "token-sequences"\nlicence = "CC-BY-SA-4.0"'
    declaration.write_text(declaration.read_text().replace('kind = "token-sequences"', given))
    _, token, *_ = first("with")["texts"][0]
    assert token
