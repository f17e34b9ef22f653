"""Decisions in a report, and what pages of them say first."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

import xarray as xr

from dashboards.views.concepts.decision import Decision, of_stored
from dashboards.views.concepts.decision_charts import (
    classes_figure,
    shares_table,
    waterfall_figure,
)
from dashboards.views.concepts.decision_names import NAMELESS, Naming, naming_of
from dashboards.views.concepts.decision_pictures import decision_pictures
from dashboards.views.concepts.decision_words import (
    position_line,
    reason_line,
    residual_line,
    verdict_line,
)
from dashboards.views.concepts.exactness import APPROXIMATE
from dashboards.views.concepts.labels import called_by_readers, namers_of, preferred_namer
from dashboards.views.parts.parts import Heading, Note, Number, Numbers, Part, file_name
from dashboards.views.parts.text import number_text
from dashboards.views.runs.advice import EXPECTED
from dashboards.views.runs.datasets import read_small
from dashboards.views.runs.settings import maker_of
from registry.catalog.access import Catalog
from registry.catalog.lineage import Lineage
from registry.wording import counted

MOST_REPORTED = 40
MEANING = (
    "Why does the network decide so? In the FaCT network a layer is replaced by its concepts, and "
    "every logit, before the bias, is exactly the sum of what they contribute; so is the "
    "difference of two logits (Parchami-Araghi et al., FaCT, NeurIPS 2025, arXiv 2510.25512, "
    "sections 3 and 4). Of a network that is not linear in its frozen weights, contributions are "
    "an approximation, gradient times activation, and what they miss of the logit stands beside "
    "them. Logits and contributions have no unit; each map shows what pixels give."
)


def decision_parts(decision: Decision, naming: Naming, name: str, heading: str) -> list[Part]:
    """Return all that a report shows of a decision."""
    numbers = [
        Number("prediction", decision.prediction, "of the network with its concepts in place"),
        Number("label", decision.label or "–", "the true class"),
        Number("logit", number_text(decision.logit), decision.quantity),
        Number("residual", number_text(decision.residual, 2), residual_line(decision)),
        *([] if decision.exact else [Number("contributions", "approximate", APPROXIMATE)]),
    ]
    naming, figure = naming.explaining(decision.target), classes_figure(decision, name)
    missing = position_line(decision)
    return [
        Heading(heading),
        Note(verdict_line(decision)),
        Note(reason_line(decision, naming)),
        *([Note(missing)] if missing else []),
        Numbers(numbers),
        decision_pictures(decision, naming),
        waterfall_figure(decision, naming, name),
        shares_table(decision, naming, name),
        *([figure] if figure else []),
    ]


def report_parts(catalog: Catalog, cell: str, decisions: xr.Dataset) -> list[Part]:
    """Return what a report shows of stored decisions: each image with its sum, shares, pictures.

    Parameters
    ----------
    catalog : Catalog
        Where the names of concepts are, if there are some.
    cell : str
        That made the decisions.
    decisions : xr.Dataset
        Of schema ``decisions``.
    """
    images = decisions["image"].values.astype(str).tolist()
    lineage = catalog.lineage()
    naming = known_naming(catalog, lineage, lineage.entries[cell].needs.get("concepts", ""))
    parts: list[Part] = [Note(MEANING)]
    for image in images[:MOST_REPORTED]:
        decision = of_stored(decisions, image)
        name = file_name(cell, image)
        parts += decision_parts(decision, naming, name, f"{image}: {decision.question}")
    if len(images) > MOST_REPORTED:
        parts.append(Note(f"{counted(len(images) - MOST_REPORTED, 'more image')} left out."))
    return parts


def known_naming(catalog: Catalog, lineage: Lineage, concepts: str) -> Naming:
    """Return the preferred names of some concepts, and what readers call them, if there are any."""
    made = lineage.entries.get(concepts)
    own = called_by_readers(catalog, made.run) if made is not None and made.run else {}
    entry = lineage.entries.get(maker_of(lineage, concepts, "names") if concepts else "")
    with suppress(*EXPECTED):
        if entry is not None and entry.folder is not None:
            names = read_small(entry.folder, entry.stage)
            namers = namers_of(names)
            return replace(naming_of(names, namers[preferred_namer(namers)]), own=own)
    return replace(NAMELESS, own=own)
