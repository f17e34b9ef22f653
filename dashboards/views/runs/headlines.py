"""What each kind of run is asked for: its own result first, as people say it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from dashboards.views.parts.measured import ACCURACIES, HELD_OUT, of_images
from dashboards.views.parts.parts import Number, beside_accuracies, numbers_line
from dashboards.views.parts.text import number_text, share_text
from dashboards.views.runs.drafts import MAKERS
from registry.catalog.runs import RunView
from registry.declare.stage import find_stage

WORDS: Mapping[str, tuple[str, bool]] = {
    "accuracy": ("accuracy, spliced", True),
    "agreement": ("agreement", True),
    "alive_share": ("alive", True),
    "baseline": ("random maps", False),
    "best_accuracy": ("accuracy, spliced", True),
    "best_auprc": ("highest AUPRC", False),
    "consensus_above_chance_share": ("of these above chance", True),
    "consensus_share": ("with a consensus", True),
    "correlation": ("correlation with promises", False),
    "final_dead": ("dead", False),
    "final_explained_variance": ("explained variance", True),
    "kl_recovered": ("KL recovered", True),
    "mean_score": ("mean C2-score", False),
    "n_alive_one": ("concepts", False),
    "n_concepts": ("concepts", False),
    "n_encodings": ("encodings", False),
    "n_equal": ("equal", False),
    "n_explained": ("explained", False),
    "n_failing": ("✗ fail", False),
    "n_images": ("images", False),
    "n_inputs": ("inputs", False),
    "n_judged": ("concepts judged", False),
    "n_neurons": ("neurons", False),
    "n_open": ("open", False),
    "n_passing": ("✓ pass", False),
    "n_samples": ("samples", False),
    "n_scored": ("concepts", False),
    "n_undecided": ("? undecided", False),
    "n_voting": ("voters", False),
    "network_accuracy": ("of the network", True),
    "parameters": ("parameters", False),
    "relative_error": ("mean error", True),
    "same_match_share": ("matched alike", True),
    "shown_share": ("images that show it", True),
    "slope": ("slope", False),
    "test_accuracy": ("accuracy", True),
    "undefined_share": ("undefined", True),
}
"""By their key, what results are called, and whether they are shares; others as they are."""


def headline(run: RunView) -> list[Number]:
    """Return the results that a run of its kind is asked for, as far as it has them.

    Parameters
    ----------
    run : RunView
        One that made a dataset of a known schema, which says what comes first.
    """
    of = dict.fromkeys(ACCURACIES, measured_on(run))
    told = [(key, *WORDS.get(key, (key, False))) for key in _first(run)]
    found = [
        Number(label, _said(run.result[key], is_share), of=of.get(key, ""))
        for key, label, is_share in told
        if _is_number(run.result.get(key))
    ]
    share = run.result.get("commonest_share", math.nan)
    return beside_accuracies(found, float(share) if _is_number(share) else math.nan)


def headline_text(run: RunView) -> str:
    """Return the same as one text: ``accuracy, spliced 98.9 % of 60 held-out images; dead 3``.

    "" where there is none.
    """
    return numbers_line(headline(run), "; ")


def measured_on(run: RunView) -> str:
    """Return on which images the accuracies of a run were measured; "" where it has none."""
    if not any(key in run.result for key in _first(run) if key in ACCURACIES):
        return ""
    if run.output.get("schema") == "sae":
        return of_images(_count(run.result.get("n_held_out")), HELD_OUT)
    split = str(run.config.get("test_split") or run.config.get("split") or "")
    count, sizes = _count(run.result.get("n_labelled")), run.output.get("sizes")
    every = _count(sizes.get("image")) if isinstance(sizes, Mapping) else None
    return of_images(count, split, None not in (count, every) and count != every)


def _first(run: RunView) -> tuple[str, ...]:
    """Return which results the schema of what a run made tells first."""
    name = str(run.output.get("schema", ""))
    stage = find_stage(MAKERS.get(name, run.stage))
    return stage.output.first if stage and stage.output.name == name else ()


def _count(value: Any) -> int | None:
    return int(value) if _is_number(value) and math.isfinite(value) else None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _said(value: float, is_share: bool) -> str:
    return share_text(value) if is_share else number_text(float(value))
