"""What each kind of run is asked for: its own result first, as people say it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from dashboards.views.parts.measured import ACCURACIES, HELD_OUT, of_images
from dashboards.views.parts.parts import Number, beside_accuracies, numbers_line
from dashboards.views.parts.text import number_text, share_text
from registry.catalog.runs import RunView

HEADLINES: Mapping[str, Mapping[str, tuple[str, bool]]] = {
    "activations": {"n_neurons": ("neurons", False), "n_images": ("images", False)},
    "comparison": {
        "n_equal": ("equal", False),
        "n_explained": ("explained", False),
        "n_open": ("open", False),
    },
    "concepts": {
        "accuracy": ("accuracy, spliced", True),
        "network_accuracy": ("of the network", True),
        "alive_share": ("alive", True),
    },
    "consistency": {
        "mean_score": ("mean C2-score", False),
        "baseline": ("random maps", False),
        "n_scored": ("concepts", False),
    },
    "encodings": {"n_encodings": ("encodings", False), "n_images": ("images", False)},
    "features": {"n_samples": ("samples", False), "n_images": ("images", False)},
    "fidelity": {
        "agreement": ("agreement", True),
        "accuracy": ("accuracy, spliced", True),
        "kl_recovered": ("KL recovered", True),
    },
    "identification": {"best_auprc": ("highest AUPRC", False), "n_neurons": ("neurons", False)},
    "intervention": {
        "correlation": ("correlation with promises", False),
        "slope": ("slope", False),
        "relative_error": ("mean error", True),
    },
    "localisation": {
        "n_judged": ("concepts judged", False),
        "shown_share": ("images that show it", True),
    },
    "maps": {"n_concepts": ("concepts", False)},
    "masks": {"n_images": ("images", False)},
    "matching": {"same_match_share": ("matched alike", True), "n_alive_one": ("concepts", False)},
    "names": {
        "consensus_share": ("with a consensus", True),
        "consensus_above_chance_share": ("of these above chance", True),
        "n_voting": ("voters", False),
    },
    "network": {"test_accuracy": ("accuracy", True), "parameters": ("parameters", False)},
    "sae": {
        "best_accuracy": ("accuracy, spliced", True),
        "network_accuracy": ("of the network", True),
        "final_explained_variance": ("explained variance", True),
        "final_dead": ("dead", False),
    },
    "sanity": {
        "n_passing": ("✓ pass", False),
        "n_undecided": ("? undecided", False),
        "n_failing": ("✗ fail", False),
    },
    "scores": {"n_inputs": ("inputs", False), "undefined_share": ("undefined", True)},
}
"""By schema of what a run made: results by their key, what they are called, and whether they are
shares."""


def headline(run: RunView) -> list[Number]:
    """Return the results that a run of its kind is asked for, as far as it has them.

    Parameters
    ----------
    run : RunView
        One that made a dataset of a schema of ours; nothing is known of others.
    """
    known = HEADLINES.get(str(run.output.get("schema", "")), {})
    of = dict.fromkeys(ACCURACIES, measured_on(run))
    found = [
        Number(label, _said(run.result[key], is_share), of=of.get(key, ""))
        for key, (label, is_share) in known.items()
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
    known = HEADLINES.get(str(run.output.get("schema", "")), {})
    if not any(key in known and key in run.result for key in ACCURACIES):
        return ""
    if run.output.get("schema") == "sae":
        return of_images(_count(run.result.get("n_held_out")), HELD_OUT)
    split = str(run.config.get("test_split") or run.config.get("split") or "")
    count, sizes = _count(run.result.get("n_labelled")), run.output.get("sizes")
    every = _count(sizes.get("image")) if isinstance(sizes, Mapping) else None
    return of_images(count, split, None not in (count, every) and count != every)


def _count(value: Any) -> int | None:
    return int(value) if _is_number(value) and math.isfinite(value) else None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _said(value: float, is_share: bool) -> str:
    return share_text(value) if is_share else number_text(float(value))
