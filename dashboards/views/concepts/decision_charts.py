"""Decisions as figures and tables: the sum, shares of it, the logits of all classes."""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt
import numpy as np
import pandas as pd
import xarray as xr

from dashboards.views.concepts.decision import Decision, Term
from dashboards.views.concepts.decision_names import NAMELESS, Naming
from dashboards.views.concepts.decision_words import (
    mark,
    meaning_of_shares,
    probability_text,
    residual_line,
)
from dashboards.views.concepts.exactness import APPROXIMATE, MARK, is_exact
from dashboards.views.parts.charts import BLUE, NUMBER, ROW, VERMILION, WORDS, layers, waterfall
from dashboards.views.parts.parts import Figure, Table
from registry.columns import Column

CHECKED = 5
"""Significant digits of terms of a sum, in the table by which one checks it."""

MOST_CLASSES = 9
MOST_RIVALS = 3
OFFSET = "offset (decoder's bias)"
MISSED = "not accounted for"


def waterfall_frame(decision: Decision, naming: Naming = NAMELESS) -> pd.DataFrame:
    """Return the terms of the sum in order, all others, the offset if any, and the total.

    Returns
    -------
    pd.DataFrame
        ``label``, ``value`` and ``kind``: for, against or total. The values but the last add up
        to the last. ``mark``: what stands before values that are an approximation.
    """
    rows = [(naming.short(term.concept), term.contribution) for term in decision.terms]
    rows += [("all others", decision.others)]
    rows += [(OFFSET, decision.offset)] if decision.offset else []
    rows += [] if decision.exact else [(MISSED, decision.missed)]
    lines = [(label, value, "for" if value >= 0 else "against") for label, value in rows]
    lines += [("difference" if decision.against else "logit", decision.logit, "total")]
    frame = pd.DataFrame(lines, columns=["label", "value", "kind"])
    is_sure = (frame["kind"] == "total") | (frame["label"] == MISSED)
    return frame.assign(mark=np.where(is_sure, "", mark(decision)))


def waterfall_figure(decision: Decision, naming: Naming = NAMELESS, name: str = "") -> Figure:
    """Return the sum as a waterfall."""
    frame = waterfall_frame(decision, naming)
    chart = waterfall(frame, x_title=decision.quantity)
    title = "The difference, concept by concept" if decision.against else "The logit as a sum"
    title += "" if decision.exact else " (≈ approximate)"
    return Figure(f"{name or 'decision'}-sum", chart, title, residual_line(decision))


def shares_frame(decision: Decision, naming: Naming = NAMELESS) -> pd.DataFrame:
    """Return a row per term with its share, then the others and the sums.

    Returns
    -------
    pd.DataFrame
        ``concept`` ("" in sums), ``name``, ``contribution``, ``share`` (NaN of what is against).
    """

    def terms(chosen: Sequence[Term]) -> list[tuple[str, str, float, float]]:
        return [
            (str(t.concept), naming.name.get(t.concept, ""), t.contribution, t.share)
            for t in chosen
        ]

    constant = decision.offset or 0.0
    offset = [("", OFFSET, constant, decision.offset_share if constant > 0 else np.nan)]
    rows = [
        *terms(decision.for_it),
        ("", "all others for it", decision.others_for, decision.others_share),
        *(offset if constant > 0 else []),
        ("", "all that speaks for it", decision.positive, 1.0 if decision.positive > 0 else np.nan),
        *terms(decision.against_it),
        ("", "all others against it", decision.others_against, np.nan),
        *(offset if constant < 0 else []),
        *([] if decision.exact else [("", MISSED, decision.missed, np.nan)]),
        ("", decision.quantity, decision.logit, np.nan),
    ]
    return pd.DataFrame(rows, columns=["concept", "name", "contribution", "share"])


def _contribution(exact: bool, meaning: str) -> Column:
    """Return the column of contributions, which says whether they are exact."""
    if exact:
        return Column(f"+.{CHECKED}g", help=meaning)
    return Column(f"+.{CHECKED}g", MARK, f"{meaning}; {APPROXIMATE}")


def shares_table(decision: Decision, naming: Naming = NAMELESS, name: str = "") -> Table:
    """Return what adds up, as a table."""
    columns = {
        "contribution": _contribution(decision.exact, f"to the {decision.quantity}"),
        "share": Column(".1%", f"{mark(decision)}share", meaning_of_shares(decision)),
    }
    return Table(
        f"{name or 'decision'}-shares",
        shares_frame(decision, naming),
        "Shares of what speaks for it",
        meaning_of_shares(decision),
        columns,
    )


def classes_frame(decision: Decision, most: int = MOST_CLASSES) -> pd.DataFrame:
    """Return the classes with the largest logits, and those that are talked of.

    Returns
    -------
    pd.DataFrame
        ``label`` with what the class is, ``class``, ``logit``, ``probability``, ``text``; largest
        logit first. Empty where logits are not stored.
    """
    if decision.classes is None:
        return pd.DataFrame(columns=["label", "class", "logit", "probability", "text"])
    ranked = decision.classes.sort_values("logit", ascending=False, kind="stable")
    talked_of = {decision.target, decision.against, decision.label} - {""}
    keep = (np.arange(len(ranked)) < most) | ranked["class"].isin(talked_of).to_numpy()
    kept = ranked[keep].reset_index(drop=True)
    known = {"label": decision.label, "explained": decision.target, "against": decision.against}
    marks = [", ".join(m for m, marked in known.items() if marked == n) for n in kept["class"]]
    labels = [f"{n} ({m})" if m else n for n, m in zip(kept["class"], marks, strict=True)]
    text = [probability_text(value) for value in kept["probability"]]
    return kept.assign(label=labels, text=text)


def classes_figure(decision: Decision, name: str = "") -> Figure | None:
    """Return logits as bars, each with its probability; None where they are not stored."""
    frame = classes_frame(decision)
    if frame.empty:
        return None
    y = alt.Y("label:N", sort=frame["label"].tolist(), title=None, axis=alt.Axis(labelLimit=220))
    bar = alt.Chart().mark_bar()
    bar = bar.encode(
        x=alt.X("logit:Q", title="logit before the bias"),
        y=y,
        color=alt.condition("datum.logit >= 0", alt.value(BLUE), alt.value(VERMILION)),
        tooltip=[
            alt.Tooltip("class:N"),
            alt.Tooltip("logit:Q", format=NUMBER),
            alt.Tooltip("probability:Q", format=NUMBER),
        ],
    )
    text = alt.Chart().mark_text(align="left", dx=4, color=WORDS)
    text = text.encode(x=alt.X("end:Q"), y=y, text=alt.Text("text:N"))
    data = frame.assign(end=frame["logit"].clip(lower=0))
    drawn = layers(bar, text, data=data, height={"step": ROW})
    note = (
        "Beside each bar the probability: by the logit with the network's bias, its sigmoid for a "
        "B-cos network, where those of all classes need not add up to 100 %; softmax for others."
    )
    return Figure(f"{name or 'decision'}-classes", drawn, "What it says", note)


def runner_up(decision: Decision) -> str:
    """Return the class to ask after: the label where it is missed, else the second; "" if none."""
    if decision.label and decision.label != decision.prediction:
        return decision.label
    if decision.classes is None:
        return ""
    ranked = decision.classes.sort_values("logit", ascending=False, kind="stable")["class"]
    return next((name for name in ranked if name != decision.prediction), "")


def rivals(decision: Decision, most: int = MOST_RIVALS) -> list[str]:
    """Return the classes to ask after, the likeliest first: see :func:`runner_up`.

    Parameters
    ----------
    decision : Decision
        Whose image it is.
    most : int
        How many.
    """
    if decision.classes is None:
        return []
    ranked = decision.classes.sort_values("logit", ascending=False, kind="stable")["class"]
    first = filter(None, (runner_up(decision), *ranked))
    found = dict.fromkeys(name for name in first if name != decision.prediction)
    return list(found)[:most]


def contributions_table(explained: xr.Dataset, naming: Naming = NAMELESS, name: str = "") -> Table:
    """Return all concepts that are present or contribute, the largest contribution first.

    Parameters
    ----------
    explained : xr.Dataset
        As :func:`fact.explain_image` returns it.
    naming : Naming
        What they are called.
    name : str
        Of the file.
    """
    given = explained[["presence", "contribution"]].reset_coords(drop=True).astype(np.float64)
    frame = given.to_dataframe().query("presence != 0 or contribution != 0").reset_index()
    frame.insert(1, "name", [naming.name.get(int(one), "") for one in frame["concept"]])
    ranked = frame.sort_values("contribution", ascending=False, kind="stable", ignore_index=True)
    form = _contribution(is_exact(explained), "to what is explained")
    columns = {"presence": Column(".3g", help="sum of its activations"), "contribution": form}
    return Table(f"{name or 'decision'}-concepts", ranked, columns=columns)
