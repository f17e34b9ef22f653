"""Concepts, decisions and verdicts of some runs as a static site; see :func:`publish`.

An address names a run, and what of it: ``index.html#/concept/RUN/76``. What was published before
stays in the site, so that its addresses go on leading to it. Nothing in a site tells of the time,
the machine or the folder that it was written in: the same runs give the same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dashboards.site.choice import Chosen
from dashboards.site.concept_sets import Writer, about_set, images_of_each, open_set, whole_model
from dashboards.site.content import Block, Publisher, plain
from dashboards.site.folder import FORMAT, MADE_BY, SiteFolder, number
from dashboards.site.seen import open_seen
from dashboards.views.concepts.decision import of_stored
from dashboards.views.concepts.decisions import decision_parts, known_naming
from dashboards.views.concepts.labels import called_by_readers, doubts_of
from dashboards.views.parts.parts import Heading, Part, Table, file_name
from dashboards.views.runs.datasets import open_made
from dashboards.views.runs.one_run import settings_frame
from dashboards.views.runs.settings import behind, maker_of
from dashboards.views.sections import dataset_parts, meaning_of
from registry.catalog.access import Catalog
from registry.catalog.lineage import Entry, Lineage
from registry.wording import counted

LARGE, LARGE_SIDE, SIDE = 4096, 128, 224
"""Concepts above which pictures are smaller, and the longer side of pictures in pixels."""

WALL = 12
"""Concepts of each set on the first page."""

Told = Callable[[str], object]


@dataclass(frozen=True)
class Listed:
    """One line of what is published.

    Attributes
    ----------
    what, run, cell : str
        Kind of page, and what made it.
    content : str
        How many concepts or decisions.
    pictures : int
        Images or texts of the data at most; 0 where none may be published.
    data : str
        Whose pictures these are, and under which licence, or why there are none.
    """

    what: str
    run: str
    cell: str
    content: str
    pictures: int
    data: str


def listed(chosen: Iterable[Chosen], lineage: Lineage) -> Iterator[Listed]:
    """Yield what would be published, without reading any picture."""
    for one in chosen:
        content, pictures = _counts(one, lineage)
        given = one.permission
        terms = ", ".join(filter(None, (given.licence, given.reason)))
        data = f"{given.dataset}: {terms}" if given.dataset else terms
        shown = pictures if given.is_given else 0
        what = {"set": "concepts", "decisions": "decisions", "result": "verdicts"}[one.kind]
        yield Listed(what, one.entry.run, one.entry.cell, content, shown, data)


def _counts(one: Chosen, lineage: Lineage) -> tuple[str, int]:
    """Return what a run has pages of, and how many pictures these have at most."""
    entry = one.entry
    if one.kind == "result" or entry.folder is None:
        return "1 page", 0
    with open_made(entry.folder, entry.stage) as dataset:
        if one.kind == "decisions":
            return counted(dataset.sizes["image"], "decision"), dataset.sizes["image"]
        count = dataset.sizes.get("concept", dataset.sizes.get("neuron", 0))
        if "top_input" in dataset:
            return counted(count, "neuron"), count * images_of_each(count)
    gallery = lineage.entries.get(maker_of(lineage, entry.name, "gallery"))
    if gallery is None or gallery.folder is None:
        return counted(count, "concept"), 0
    with open_made(gallery.folder, gallery.stage) as drawn:
        there = (drawn["image"].isel(rank=slice(images_of_each(count))) != "").sum()
        return counted(count, "concept"), int(there)


def publish(
    catalog: Catalog,
    lineage: Lineage,
    chosen: Sequence[Chosen],
    folder: Path,
    title: str = "Concepts",
    gone: Sequence[Mapping[str, Any]] = (),
    before: Path | None = None,
    tell: Told = lambda text: None,
) -> SiteFolder:
    """Write a site into an empty folder.

    Parameters
    ----------
    catalog, lineage
        What there is.
    chosen : sequence of Chosen
        What to publish.
    folder : Path
        Empty.
    title : str
        Of the site.
    gone : sequence of mapping
        Pages of an earlier publication whose runs are gone: they are taken over as they are.
    before : Path, optional
        Where they lie.
    tell : callable
        Told of each run that is done.
    """
    site = SiteFolder(folder)
    pages: list[Block] = []
    for one in chosen:
        write = {"set": _set, "decisions": _decisions, "result": _result}[one.kind]
        side = SIDE
        if one.kind == "set" and one.entry.folder is not None:
            with open_made(one.entry.folder, one.entry.stage) as dataset:
                side = LARGE_SIDE if dataset.sizes.get("concept", 0) > LARGE else SIDE
        site.side = side
        page = write(catalog, lineage, one, Publisher(site, one.permission))
        pages.append(page)
        site.end(one.entry.run)
        tell(f"{one.entry.title}: {site.files:,} files, {site.size / 1e6:.1f} MB so far")
    for old in gone:
        if before is not None:
            _take_over(site, before, old)
            pages.append(dict(old))
    pages.sort(key=lambda page: str(page["run"]))
    _tell_newer(pages)
    site.data("site", {"made_by": MADE_BY, "format": FORMAT, "title": title, "pages": pages})
    site.frame(title)
    return site


def _tell_newer(pages: list[Block]) -> None:
    """Note, of each page, the newest run of the same cell, where that is another one."""
    newest = {page["cell"]: page["run"] for page in pages}
    for page in pages:
        page["newer"] = newest[page["cell"]] if newest[page["cell"]] != page["run"] else ""


def _take_over(site: SiteFolder, before: Path, page: Mapping[str, Any]) -> None:
    listing = f"data/{page['run']}/files.json"
    for path in (listing, *json.loads((before / listing).read_text(encoding="utf-8"))):
        site.copy(before, path)


def _page(one: Chosen, site: SiteFolder, **more: Any) -> Block:
    """Return what the index tells of a run; all that it wrote is found by its own files."""
    entry, given = one.entry, one.permission
    return {
        "run": entry.run,
        "cell": entry.cell,
        "kind": one.kind,
        "stage": entry.stage,
        "schema": entry.provides,
        "fingerprint": entry.fingerprint,
        "dataset": given.dataset,
        "licence": given.licence,
        "terms": given.reason,
        "pictures": given.is_given,
        **more,
    }


# -- concepts ------------------------------------------------------------------------------------


def _set(catalog: Catalog, lineage: Lineage, one: Chosen, publisher: Publisher) -> Block:
    run, site = one.entry.run, publisher.folder
    known = open_set(lineage, one.entry, called_by_readers(catalog, run))
    seen = open_seen(catalog, known, publisher)
    writer = Writer(known, publisher, seen)
    for number_of_part, part in writer.parts():
        site.data(f"{run}/concepts-{number_of_part:04d}", part)
    if seen is not None:
        site.data(f"{run}/images", seen.about())
    index = writer.index()
    site.data(f"{run}/index", index)
    about = {**about_set(known), "has_images": seen is not None}
    site.data(f"{run}/set", about)
    if about["has_model"]:
        site.data(f"{run}/model", {"blocks": whole_model(lineage, known, publisher)})
    rows = [row for row, thumb in enumerate(index["thumb"]) if thumb][:WALL]
    rows = rows or list(range(min(WALL, len(index["concept"]))))
    names, own_names = index["name"], index["own_name" if "own_name" in index else "name"]
    wall = [
        {
            "concept": index["concept"][row],
            "name": names[row] or own_names[row],
            "called": index["called"][row] if "called" in index else "",
            "thumb": index["thumb"][row],
            "told": _told_of(index, row),
        }
        for row in rows
    ]
    summary = about["numbers"][:4]
    more = {"noun": known.noun, "count": about["count"], "numbers": summary, "wall": wall}
    return _page(one, site, **more)


def _told_of(index: Mapping[str, Any], row: int) -> str:
    """Return the verdict and the doubt that stand beside a name."""
    told = [
        index[key]["values"][index[key]["codes"][row]] if key in index else ""
        for key in ("verdict", "chance")
    ]
    return doubts_of(*told)


# -- decisions -----------------------------------------------------------------------------------


def _decisions(catalog: Catalog, lineage: Lineage, one: Chosen, publisher: Publisher) -> Block:
    entry, site = one.entry, publisher.folder
    assert entry.folder is not None
    stored = open_made(entry.folder, entry.stage)
    concepts = entry.needs.get("concepts", "")
    naming = known_naming(catalog, lineage, concepts if concepts in lineage.entries else "")
    of_set = lineage.entries[concepts].run if concepts in lineage.entries else ""
    index = []
    for place, image in enumerate(stored["image"].values.astype(str).tolist()):
        decision = of_stored(stored, image)
        parts = decision_parts(decision, naming, file_name(entry.cell, image), "")
        parts = [part for part in parts if not isinstance(part, Heading)]
        terms = [
            [
                *(t.concept, naming.name.get(t.concept, "")),
                *(number(t.contribution), number(t.share), naming.own.get(t.concept, "")),
            ]
            for t in decision.terms
        ]
        said = {
            "image": image,
            "question": decision.question,
            "target": decision.target,
            "prediction": decision.prediction,
            "label": decision.label,
            "logit": number(decision.logit),
        }
        content = {**said, "set": of_set, "terms": terms, "blocks": publisher.blocks(parts)}
        content["parts"] = list(plain(parts))
        site.data(f"{entry.run}/decision-{place:05d}", content)
        faces = (one for block in content["blocks"] for one in block.get("pictures", ()))
        thumb = next((face["face"] or face["layers"][0]["src"] for face in faces), "")
        index.append({**said, "thumb": thumb})
    site.data(f"{entry.run}/index", {"set": of_set, "decisions": index})
    wrong = sum(one["label"] not in ("", one["prediction"]) for one in index)
    return _page(one, site, count=len(index), wrong=wrong, wall=index[:WALL])


# -- results -------------------------------------------------------------------------------------


def _result(catalog: Catalog, lineage: Lineage, one: Chosen, publisher: Publisher) -> Block:
    entry, site = one.entry, publisher.folder
    assert entry.folder is not None
    parts: list[Part] = dataset_parts(catalog, entry.name, entry.folder, entry)
    settings = Table(file_name(entry.cell, "settings"), settings_frame(entry.config), "Settings")
    parts = [*parts, settings]
    about = {
        "meaning": meaning_of(entry.provides),
        "set": _set_behind(lineage, entry),
        "blocks": publisher.blocks(parts),
        "parts": list(plain(parts)),
    }
    site.data(f"{entry.run}/result", about)
    return _page(one, site)


def _set_behind(lineage: Lineage, entry: Entry) -> str:
    """Return the run of the concepts that a result is about, "" where it is about none."""
    found = lineage.entries.get(behind(lineage, entry.name, "concepts"))
    return found.run if found else ""
