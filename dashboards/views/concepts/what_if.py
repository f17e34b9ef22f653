"""Concepts of one image scaled or taken away: what was promised, and what the network does."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

import numpy as np
import pandas as pd
import xarray as xr

from dashboards.views.concepts.decision import Decision
from dashboards.views.concepts.decision_charts import classes_frame
from dashboards.views.concepts.decision_words import mark, said_text
from dashboards.views.concepts.image_choice import class_options
from dashboards.views.parts.charts import bars, dots
from dashboards.views.parts.parts import Figure
from dashboards.views.parts.text import number_text
from registry.wording import signed_text

MEANING = (
    "Promised: each contribution scaled alike, with the weights that the image chose. Happens: the "
    "network runs again on the scaled concepts, and chooses its weights anew."
)
WHOLE, MOST = 100, 200
"""Percent of a concept as it is, and at most."""

LONGEST = 2000
"""Characters of an address that are read."""

FIRST, MOST_SHOWN = 4, 4
"""Concepts that can be scaled at first, and classes beside them."""

NOW, THEN = "as it is", "then"


def concepts_to_scale(explained: xr.Dataset) -> list[int]:
    """Return the concepts that contribute to a decision, the largest size first.

    Parameters
    ----------
    explained : xr.Dataset
        As :func:`fact.explain_image` returns it.
    """
    size = np.abs(explained["contribution"].values)
    ranked = np.argsort(-size, kind="stable")
    found: list[int] = explained["concept"].values[ranked[size[ranked] > 0]].tolist()
    return found


def percents_text(percents: Mapping[int, int]) -> str:
    """Return to what concepts are scaled, as an address holds it: ``57:0,3:150``."""
    return ",".join(f"{one}:{percent}" for one, percent in percents.items() if percent != WHOLE)


def percents_of(text: str, possible: Collection[int]) -> dict[int, int]:
    """Return what :func:`percents_text` wrote; what is no concept or no percentage is left out."""
    found = re.findall(r"(?:^|,)(\d{1,9}):(\d{1,3})(?=,|$)", text[:LONGEST])
    pairs = ((int(one), int(percent)) for one, percent in found)
    return {one: percent for one, percent in pairs if one in possible and percent <= MOST}


def is_as_it_was(factors: Mapping[int, float]) -> bool:
    """Return whether no concept is scaled."""
    return all(factor == 1 for factor in factors.values())


def answer_line(decision: Decision, scaled: xr.Dataset, factors: Mapping[int, float]) -> str:
    """Return what was promised of scaled concepts, and what happens.

    Parameters
    ----------
    decision : Decision
        Of the image as it is.
    scaled : xr.Dataset
        As :func:`fact.traces.interventions.scale_concepts` returns it.
    factors : mapping of int to float
        By concept.
    """
    if is_as_it_was(factors):
        return f"Nothing is changed yet: the {decision.quantity} is {_number(scaled['before'])}."
    before, promised, measured = (float(scaled[n]) for n in ("before", "promised", "measured"))
    sign = mark(decision)
    return (
        f"The {decision.quantity} is {_number(before)}. Promised: {sign}{_number(promised)} "
        f"({sign}{signed_text(promised - before)}). It becomes {_number(measured)} "
        f"({signed_text(measured - before)}). {_said(decision, scaled)}"
    )


def _number(value: object) -> str:
    return number_text(float(value))  # type: ignore[arg-type]


def _said(decision: Decision, scaled: xr.Dataset) -> str:
    names = class_options(scaled["class"].values.tolist())
    index = int(scaled["prediction"])
    every = scaled["probability"].values.astype(np.float64)
    when = "still" if names[index] == decision.prediction else "then"
    return f"The network {when} says {said_text(names[index], index, every)}."


def promise_figure(decision: Decision, scaled: xr.Dataset) -> Figure:
    """Return what is explained as it is, as promised, and as it becomes."""
    rows = {
        NOW: float(scaled["before"]),
        f"{mark(decision)}promised": float(scaled["promised"]),
        "happens": float(scaled["measured"]),
    }
    frame = pd.DataFrame({"label": rows.keys(), "value": rows.values()})
    chart = bars(frame, x_title=decision.quantity)
    return Figure("scaled", chart)


def classes_figure(decision: Decision, scaled: xr.Dataset) -> Figure:
    """Return the logits of the likeliest classes as they are, and as they become."""
    now = classes_frame(decision, MOST_SHOWN)
    names = class_options(scaled["class"].values.tolist())
    then = dict(zip(names, scaled["logits"].values.astype(np.float64).tolist(), strict=True))
    known = [name for name in now["class"] if name in then]
    best = names[int(scaled["prediction"])]
    before = dict(zip(decision.classes["class"], decision.classes["logit"], strict=True))  # type: ignore[index]
    shown = list(dict.fromkeys([*known, best]))
    frame = pd.DataFrame(
        [
            {"label": name, "series": series, "value": values[name]}
            for name in shown
            for series, values in ((NOW, before), (THEN, then))
        ]
    )
    chart = dots(frame, x_title="logit before the bias", series=(NOW, THEN))
    return Figure("scaled-classes", chart)
