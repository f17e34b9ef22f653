"""Published tables: which cells are ours too, which are explained, which are open."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pandas as pd

from dashboards.views.parts.charts import bars
from dashboards.views.parts.parts import Figure, Part
from dashboards.views.results import answers, view
from dashboards.views.results.menu import MENU
from evals.sanity.published_tables import BY_CELL, STATES


def blocks(at: view.Setting) -> Iterator[Part]:
    """Yield how far each cell is from the published one, then all cells."""
    frame = pd.DataFrame(
        {
            "label": view.texts(at.own, "cell"),
            "value": at.own["ours"].values,
            "mark": at.own["published"].values,
        }
    )
    chart = bars(frame, x_title="ours", mark="published")
    yield at.figure("cells", chart, "Ours", "The tick is the published figure.")
    note = (
        "Explained: computed again under the cause that stands beside it, as the rules of the "
        "published code, the figure is the published one. Open: it is not, or was not."
    )
    yield at.table("cells", BY_CELL, "Cells", note)


def states(settings: Sequence[view.Setting]) -> Iterator[Figure]:
    """Yield how many published figures are ours too, explained, or open."""
    rows = [
        {"label": state, "series": at.cell, "value": int(at.own[f"n_{state}"])}
        for state in STATES
        for at in settings
    ]
    chart = bars(
        pd.DataFrame(rows),
        x_title="published figures",
        form=".0f",
        series=[at.cell for at in settings],
    )
    yield Figure("comparison", chart, "Published figures that are ours too")


def _count(state: str) -> view.Headline:
    return view.Headline(state, f"n_{state}", ",", "published cells")


VIEW = view.ResultView(
    *MENU["comparison"],
    "Results beside the published figures of the same setting (Oikarinen et al., arXiv "
    "2506.05774), cell by cell. A difference is explained only where its cause, when it is put in "
    "place, gives the published figure.",
    blocks,
    lambda at: answers.comparison(at.own),
    states,
    tuple(_count(state) for state in STATES),
)
