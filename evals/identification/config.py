"""How neurons are split, what is tried, the configuration that says so, and published figures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

import registry
from evals.metrics.registered import resolve_metrics
from evals.metrics.table import ALPHAS, LAMBDAS, Alpha
from evals.scoring.config import Compat, DrawingOptions, Neuron, NeuronChoice
from evals.scoring.seen_images import REFUSE, SeenOption
from registry.suggest import nearest

VALIDATION_SHARE = 0.05
"""Fraction of neurons that choose parameters, unless another is given."""


@dataclass(frozen=True)
class IdentificationOptions(DrawingOptions):
    """How neurons are split, and what is tried.

    Parameters
    ----------
    alphas : tuple of float
        Fractions of inputs at which a neuron may be active, in (0, 1]; the best is chosen for
        each metric. None where activations are 0 or 1 already.
    lams : tuple of float
        Weights that ``wpmi`` may give to how common a concept is; the best is chosen.
    n_splits : int
        Splits of the neurons into those that choose and those that are tested, at least 1.
    share : float
        Fraction of neurons that choose, in (0, 1); at least 2 do, but under ``compat``, which
        rounds down.
    seed : int
        Of the first split, and of inputs that are drawn by neuron; the next split has the next.
    confidence : float
        Of the interval, in (0, 1).
    published : str
        Setting whose published figures are shown beside, where the inputs are those: ``cub-cbm``,
        ``cub-cbm-shifted``, as :func:`published_auprc` knows them; "" for none.
    workers : int
        Threads; they do not change the result.
    compat : str
        "neuroneval" scores by the rules of the published code, of ties above all, ranks undefined
        scores above all others in the average precision, as it does, and divides the neurons as it
        does with ``torch.manual_seed`` of each seed; "" by the definitions. Ranks and the best
        concepts of neurons, which it does not have, are by the definitions.
    choosing : tuple of str
        The names or numbers of the neurons that choose, or ranges as ``0:5``, in one split that is
        given; then ``n_splits``, ``share`` and ``seed`` divide nothing. None draws them.
    """

    alphas: tuple[Alpha, ...] = ALPHAS
    lams: tuple[float, ...] = LAMBDAS
    n_splits: Annotated[int, Field(ge=1)] = 10
    share: Annotated[float, Field(gt=0, lt=1)] = VALIDATION_SHARE
    seed: Annotated[int, Field(ge=0)] = 0
    confidence: Annotated[float, Field(gt=0, lt=1)] = 0.95
    published: str = ""
    workers: registry.Runtime[Annotated[int, Field(ge=1)]] = 1
    compat: Annotated[Compat, registry.Since("")] = ""
    choosing: Annotated[tuple[Neuron, ...], registry.Since(())] = ()


IDENTIFICATION_OPTIONS = IdentificationOptions()


@dataclass(frozen=True)
class IdentificationConfig(IdentificationOptions, NeuronChoice):
    """Configuration of ``evals.identify_neurons``, with the keys of `IdentificationOptions`.

    Parameters
    ----------
    metrics : tuple of str
        Names in the table of metrics; all of it where none is named.
    shift : float
        Added to all activations, in units of theirs: what is learned of a neuron should not depend
        on it, and by cosine it does (appendix E.2 adds 1).
    split : str
        Use the inputs of this split alone; all by default.
    seen_images : str
        Whether concepts may be identified on images that they were trained on: ``refuse``, or
        ``allow``. How many there are is said in either case.
    """

    metrics: tuple[str, ...] = ()
    shift: float = 0.0
    split: str = ""
    seen_images: Annotated[SeenOption, registry.Since(REFUSE)] = REFUSE

    def __post_init__(self) -> None:
        object.__setattr__(self, "metrics", resolve_metrics(self.metrics))
        published_auprc(self.published)


# AUPRC over the test neurons of one split, alpha and lambda chosen on 5 of 112: from the outputs
# that the authors' notebooks hold (known_neuron_auprc_eval, cosine_failure_case_app_E2).
_CUB = {
    "cosine": (0.8986, 0.0443),
    "inverse_auc": (0.8956, 0.8956),
    "correlation": (0.8885, 0.8883),
    "mad": (0.7757, 0.7760),
    "wpmi": (0.7318, 0.7323),
    "balanced_accuracy": (0.7160, 0.7166),
    "auc": (0.7045, 0.7045),
    "precision": (0.6765, 0.6803),
    "auprc": (0.6709, 0.6712),
    "inverse_balanced_accuracy": (0.6614, 0.6628),
    "correlation_top_and_random": (0.6479, 0.7153),
    "f1_score": (0.6378, 0.6386),
    "iou": (0.6378, 0.6386),
    "accuracy": (0.5853, 0.5853),
    "spearman_correlation_top_and_random": (0.4318, 0.4233),
    "spearman_correlation": (0.4232, 0.4233),
    "inverse_auprc": (0.3976, 0.3977),
    "recall": (0.3953, 0.3958),
    "combined_auc": (0.8049, 0.8054),
    "combined_balanced_accuracy": (0.6883, 0.6896),
    "recall_auc": (0.7985, 0.7989),
    "recall_inverse_auc": (0.8725, 0.8725),
    "precision_balanced_accuracy": (0.5306, 0.5303),
    "precision_inverse_balanced_accuracy": (0.8125, 0.8116),
}

PUBLISHED: Mapping[str, Mapping[str, float]] = {
    setting: {metric: auprc[column] for metric, auprc in _CUB.items()}
    for column, setting in enumerate(("cub-cbm", "cub-cbm-shifted"))
}
"""Setting to metric to AUPRC (Oikarinen et al. 2025, arXiv 2506.05774).

``cub-cbm``: 5,794 test images of CUB-200, the 112 attribute neurons of the concept bottleneck
through a sigmoid, ground truth attributes. ``cub-cbm-shifted``: the same, 1 added to all
activations in float32 (appendix E.2), which is why others than cosine differ in the fourth digit.
"""


_SIZES = {"inputs": 5794, "neurons": 112, "concepts": 112}

OTHER_DATA = "other_data"
"""Attribute of a dataset: why the published figures beside it are of other data; absent if not."""


def other_data(setting: str, **sizes: int) -> str:
    """Return in what a dataset differs from that of a published setting, "" if its sizes do not.

    Parameters
    ----------
    setting : str
        As of `published_auprc`.
    **sizes : int
        How many ``inputs``, ``neurons`` of known concept, and ``concepts`` that compete there are.
    """
    differing = [what for what in _SIZES if sizes[what] != _SIZES[what]] if setting else []
    told = ", ".join(f"{_SIZES[what]:,} {what} (here {sizes[what]:,})" for what in differing)
    return f"the published figures of {setting!r} are of other data: of {told}" if told else ""


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
