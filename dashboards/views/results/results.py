"""What each kind of result is shown as: a page of its own, and a section of a report.

One row per schema of a dataset: a new kind of result needs a function of its datasets and a row.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from dashboards.views.parts.parts import Part
from dashboards.views.results.choices import Choice, Datasets, no_choices
from dashboards.views.results.consistency import consistency_parts
from dashboards.views.results.identification import identification_choices, identification_parts
from dashboards.views.results.intervention import intervention_choices, intervention_parts
from dashboards.views.results.localisation import localisation_choices, localisation_parts
from dashboards.views.results.names import names_choices, names_parts
from dashboards.views.results.sanity import sanity_choices, sanity_parts
from dashboards.views.results.scores import scores_choices, scores_parts
from dashboards.views.results.stability import stability_choices, stability_parts


@dataclass(frozen=True)
class Result:
    """How datasets of one schema are shown.

    Attributes
    ----------
    schema : str
        Name of the schema.
    title : str
        Of the page.
    path : str
        Of the page, in the address.
    group : str
        Under which the menu has it.
    meaning : str
        The help line: what the numbers mean, and the source.
    parts : callable
        From datasets, by the cell that made each, to what is shown; it also takes, by keyword,
        what was chosen.
    choices : callable
        From the same datasets to what a reader may choose.
    together : int
        Settings that differ in their configuration alone, with which the page begins, at most.
    is_named : bool
        Whether its concepts are given their names before it is shown.
    """

    schema: str
    title: str
    path: str
    group: str
    meaning: str
    parts: Callable[..., list[Part]]
    choices: Callable[[Datasets], list[Choice]] = no_choices
    together: int = 1
    is_named: bool = False


ABOUT_METRICS, ABOUT_CONCEPTS = "Metrics", "More on concepts"

RESULTS = (
    Result(
        "sanity",
        "Sanity checks",
        "sanity",
        ABOUT_METRICS,
        "Can a metric be trusted? Half of the labels of a right concept are taken away (missing), "
        "or as many added again (extra): its score must fall, in at least 90 % of the draws or "
        "neurons. A metric that does not notice says little about an explanation (Oikarinen et "
        "al., ICML 2025, arXiv 2506.05774, section 4).",
        sanity_parts,
        sanity_choices,
    ),
    Result(
        "identification",
        "Known neurons",
        "known-neurons",
        ABOUT_METRICS,
        "Does a metric find what is known? Output neurons have a known concept: AUPRC is the "
        "average precision of a metric's scores as a detector of the right pairs of neuron and "
        "concept, 1 at best (Oikarinen et al., ICML 2025, arXiv 2506.05774, section 5 and "
        "appendix E.2).",
        identification_parts,
        identification_choices,
        together=4,
    ),
    Result(
        "consistency",
        "Consistency",
        "consistency",
        ABOUT_CONCEPTS,
        "Does a concept mean one thing? The C2-score is the mean cosine between what a foundation "
        "model sees where the concept is, over the images it is strongest in; random maps are the "
        "baseline (Parchami-Araghi et al., FaCT, NeurIPS 2025, arXiv 2510.25512, section 5).",
        consistency_parts,
        is_named=True,
    ),
    Result(
        "intervention",
        "Intervention",
        "intervention",
        ABOUT_CONCEPTS,
        "Are contributions what the network uses? Concepts are taken away (deletion) or put back "
        "(insertion) in order of their contribution, and the network is run again: its output "
        "should fall, or rise, sooner than in random order, and by what was promised (Petsiuk et "
        "al., RISE, BMVC 2018, section 4; FaCT, arXiv 2510.25512, section 3).",
        intervention_parts,
        intervention_choices,
    ),
    Result(
        "matching",
        "Stability",
        "stability",
        ABOUT_CONCEPTS,
        "Do concepts come back? Those of one dictionary are matched one to one with those of "
        "another, as of another seed: by the cosine of their decoders, or the correlation of their "
        "presence in the same images. The null is what chance gives (Kuhn 1955; Sharkey et al. "
        "2022).",
        stability_parts,
        stability_choices,
        is_named=True,
    ),
    Result(
        "localisation",
        "Localisation",
        "localisation",
        ABOUT_CONCEPTS,
        "Is a concept where its label is? Its map is held against the masks of the label that "
        "names it: is the strongest place inside (pointing), how much of the map lies inside "
        "(energy), how well do the two overlap (IoU); chance is a map without any place, elsewhere "
        "the same maps on masks of other images (Zhang et al. 2018; Wang et al. 2020).",
        localisation_parts,
        localisation_choices,
    ),
    Result(
        "scores",
        "Scores",
        "scores",
        ABOUT_METRICS,
        "How well does each concept explain each neuron? One number for every pair, by each "
        "metric, on the same activations and labels; what a metric is worth stands under Sanity "
        "checks (Oikarinen et al., ICML 2025, arXiv 2506.05774).",
        scores_parts,
        scores_choices,
    ),
    Result(
        "names",
        "Names",
        "names",
        ABOUT_CONCEPTS,
        "How sure are names? Every metric chooses a label for each concept, on one half of the "
        "images, and scores it on the other; those that pass the sanity checks vote for a "
        "consensus (metrics: Oikarinen et al., ICML 2025, arXiv 2506.05774). Single concepts stand "
        "under Concepts.",
        names_parts,
        names_choices,
    ),
)
"""In the order of the menu."""
