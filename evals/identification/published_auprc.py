"""Published figures of how well metrics identify neurons, each with its setting."""

from __future__ import annotations

from collections.abc import Mapping

from registry.suggest import nearest

# AUPRC over the test neurons of one split, alpha and lambda chosen on 5 of 112: from the outputs
# that the authors' notebooks hold (known_neuron_auprc_eval, cosine_failure_case_app_E2).
_CUB = {
    "cosine": 0.8986,
    "inverse_auc": 0.8956,
    "correlation": 0.8885,
    "mad": 0.7757,
    "wpmi": 0.7318,
    "balanced_accuracy": 0.7160,
    "auc": 0.7045,
    "precision": 0.6765,
    "auprc": 0.6709,
    "inverse_balanced_accuracy": 0.6614,
    "correlation_top_and_random": 0.6479,
    "f1_score": 0.6378,
    "iou": 0.6378,
    "accuracy": 0.5853,
    "spearman_correlation_top_and_random": 0.4318,
    "spearman_correlation": 0.4232,
    "inverse_auprc": 0.3976,
    "recall": 0.3953,
    "combined_auc": 0.8049,
    "combined_balanced_accuracy": 0.6883,
    "recall_auc": 0.7985,
    "recall_inverse_auc": 0.8725,
    "precision_balanced_accuracy": 0.5306,
    "precision_inverse_balanced_accuracy": 0.8125,
}
_CUB_SHIFTED = {
    "cosine": 0.0443,
    "inverse_auc": 0.8956,
    "correlation": 0.8883,
    "mad": 0.7760,
    "wpmi": 0.7323,
    "balanced_accuracy": 0.7166,
    "auc": 0.7045,
    "precision": 0.6803,
    "auprc": 0.6712,
    "inverse_balanced_accuracy": 0.6628,
    "correlation_top_and_random": 0.7153,
    "f1_score": 0.6386,
    "iou": 0.6386,
    "accuracy": 0.5853,
    "spearman_correlation_top_and_random": 0.4233,
    "spearman_correlation": 0.4233,
    "inverse_auprc": 0.3977,
    "recall": 0.3958,
    "combined_auc": 0.8054,
    "combined_balanced_accuracy": 0.6896,
    "recall_auc": 0.7989,
    "recall_inverse_auc": 0.8725,
    "precision_balanced_accuracy": 0.5303,
    "precision_inverse_balanced_accuracy": 0.8116,
}

PUBLISHED: Mapping[str, Mapping[str, float]] = {"cub-cbm": _CUB, "cub-cbm-shifted": _CUB_SHIFTED}
"""Setting to metric to AUPRC (Oikarinen et al. 2025, arXiv 2506.05774).

``cub-cbm``: 5,794 test images of CUB-200, the 112 attribute neurons of the concept bottleneck
through a sigmoid, ground truth attributes. ``cub-cbm-shifted``: the same, 1 added to all
activations in float32 (appendix E.2), which is why others than cosine differ in the fourth place.
"""


def published_auprc(setting: str) -> Mapping[str, float]:
    """Return the published figures of a setting by metric; none for "".

    Raises
    ------
    ValueError
        For a setting of which none are known, with the nearest.
    """
    if setting and setting not in PUBLISHED:
        raise ValueError(f"unknown published setting {setting!r}{nearest(setting, PUBLISHED)}")
    return PUBLISHED[setting] if setting else {}
