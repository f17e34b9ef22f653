"""Evaluators: labelled datasets in, scores out; they import no network and read no image."""

from lazy_loader import attach as _attach

__getattr__, __dir__, __all__ = _attach(
    __name__,
    submod_attrs={
        "conformance": ["examine"],
        "consistency": ["c2_score", "score_encodings"],
        "identification": ["IdentificationOptions", "identify"],
        "localisation": ["LocalisationOptions", "localise"],
        "matching": ["ConceptSet", "MatchingOptions", "match_sets"],
        "metrics.table": [
            "Metric",
            "Parameters",
            "UnknownMetricError",
            "find_metric",
            "list_metrics",
            "metric",
        ],
        "naming": ["NamingOptions", "choose_names"],
        "pairs": ["score_pairs"],
        "perturb": ["spoil_labels"],
        "protocol": ["Rates"],
        "sanity": ["combine_forms", "experimental_sanity", "theoretical_sanity"],
        "scoring": ["score", "score_blocks", "score_matrix"],
        "selection": ["choose_parameters", "identification_auprc", "validation_neurons"],
        "subjects": ["SubjectOptions"],
        "verdicts": ["Criterion"],
    },
)
