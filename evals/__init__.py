"""Evaluators: labelled datasets in, scores out; they import no network and read no image."""

from lazy_loader import attach as _attach

__getattr__, __dir__, __all__ = _attach(
    __name__,
    submod_attrs={
        "scoring.conformance": ["examine"],
        "concepts.consistency": ["c2_score", "score_encodings"],
        "identification.identification": ["IdentificationOptions", "identify"],
        "concepts.localisation": ["LocalisationOptions", "localise"],
        "concepts.matching": ["ConceptSet", "MatchingOptions", "match_sets"],
        "metrics.table": [
            "Metric",
            "Parameters",
            "UnknownMetricError",
            "find_metric",
            "list_metrics",
            "metric",
        ],
        "naming.naming": ["NamingOptions", "choose_names"],
        "sanity.pairs": ["score_pairs"],
        "sanity.perturb": ["corrupt_labels", "spoil_labels"],
        "sanity.protocol": ["Rates"],
        "sanity.sanity": ["combine_forms", "experimental_sanity", "theoretical_sanity"],
        "scoring.scoring": ["score", "score_blocks", "score_matrix"],
        "identification.selection": [
            "choose_parameters",
            "identification_auprc",
            "validation_neurons",
        ],
        "sanity.subjects": ["SubjectOptions"],
        "sanity.verdicts": ["Criterion"],
    },
)
