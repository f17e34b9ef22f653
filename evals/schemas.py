"""What each dataset of ``evals`` holds: dimensions, types, units."""

from __future__ import annotations

from registry import Schema, Variable

NEURON_EVAL = (
    "Oikarinen et al., Evaluating Neuron Explanations: A Unified Framework with Sanity Checks, "
    "ICML 2025, arXiv 2506.05774"
)

METRIC = Variable(("metric",), "str", "metric of how well a concept explains a neuron")
LOWER = Variable(("metric",), "float64", "smallest possible value; NaN where the data bound it")
UPPER = Variable(("metric",), "float64", "largest possible value; NaN where the data bound it")

SCORES = Schema(
    name="scores",
    version=1,
    title="How well each concept explains each neuron",
    coords={
        "neuron": Variable(("neuron",), "int64", "index of the neuron"),
        "metric": METRIC,
        "concept": Variable(("concept",), "str", "name of the concept"),
    },
    variables={
        "score": Variable(
            ("neuron", "metric", "concept"), "float64", "score of the pair; NaN where undefined"
        ),
        "undefined": Variable(("neuron", "metric"), "int64", "undefined pairs of the neuron"),
        "lower": LOWER,
        "upper": UPPER,
        "labelled_share": Variable(("concept",), "float64", "share of inputs with the label"),
        "n_inputs": Variable((), "int64", "number of inputs"),
        "undefined_share": Variable((), "float64", "share of undefined pairs, over all metrics"),
    },
    references=NEURON_EVAL,
    sharded_along="neuron",
)

_BY_METRIC = ("concept", "metric")
_BY_RANK = ("concept", "metric", "rank")

NAMES = Schema(
    name="names",
    version=2,
    title="The label that explains each concept best, by each metric, and by their consensus",
    coords={
        "concept": Variable(("concept",), "int64", "index of the concept"),
        "metric": METRIC,
        "rank": Variable(("rank",), "int64", "place by score, from 0"),
    },
    variables={
        "name": Variable(
            _BY_METRIC, "str", "best label on the choosing half of the inputs; empty if undefined"
        ),
        "score": Variable(_BY_METRIC, "float64", "score of the name on the scoring half"),
        "interval_low": Variable(_BY_METRIC, "float64", "lower end of the score's interval"),
        "interval_high": Variable(_BY_METRIC, "float64", "upper end of the score's interval"),
        "margin": Variable(
            _BY_METRIC, "float64", "score of the name minus that of the second-best label"
        ),
        "tied": Variable(
            _BY_METRIC, "int64", "labels that score as well as the name on the choosing half"
        ),
        "undefined": Variable(_BY_METRIC, "int64", "undefined pairs on the choosing half"),
        "top_label": Variable(_BY_RANK, "str", "best labels on the choosing half"),
        "top_score": Variable(_BY_RANK, "float64", "their scores on the scoring half"),
        "chosen_score": Variable(_BY_RANK, "float64", "their scores on the choosing half"),
        "silent": Variable(
            ("concept",), "bool", "whether it is the same in all inputs of the choosing half"
        ),
        "consensus": Variable(
            ("concept",), "str", "label that most voting metrics choose; empty if none does"
        ),
        "consensus_votes": Variable(("concept",), "int64", "voting metrics that choose it"),
        "consensus_score": Variable(
            _BY_METRIC, "float64", "score of the consensus on the scoring half"
        ),
        "right_label": Variable(
            ("concept",), "str", "label that is known to be right; empty if none", optional=True
        ),
        "right_rank": Variable(
            _BY_METRIC,
            "int64",
            "labels that score higher than the right one on the choosing half; -1 if undefined",
            optional=True,
        ),
        "verdict": Variable(
            ("metric",), "str", "sanity tests: passes, fails, undecided or untested"
        ),
        "votes": Variable(("metric",), "bool", "whether the metric takes part in the consensus"),
        "sanity_forms": Variable(
            (), "str", "forms of the sanity tests that the verdicts rest on", optional=True
        ),
        "lower": LOWER,
        "upper": UPPER,
        "undefined_share": Variable(("metric",), "float64", "share of undefined pairs"),
        "right_share": Variable(
            ("metric",),
            "float64",
            "share of right names among concepts of known label",
            optional=True,
        ),
        "n_choosing": Variable((), "int64", "number of inputs in the choosing half"),
        "n_scoring": Variable((), "int64", "number of inputs in the scoring half"),
        "n_silent": Variable((), "int64", "number of silent concepts"),
        "named_share": Variable((), "float64", "share of concepts with a name by every metric"),
        "agreeing_share": Variable((), "float64", "share of these with one name by all metrics"),
        "n_names": Variable((), "int64", "number of different names"),
        "tied_share": Variable((), "float64", "share of names that another label equals"),
        "n_voting": Variable((), "int64", "number of voting metrics"),
        "consensus_share": Variable((), "float64", "share of concepts with a consensus"),
        "unanimous_share": Variable((), "float64", "share of these that all voting metrics choose"),
        "majority_share": Variable(
            (), "float64", "share of these that more than half of the voting metrics choose"
        ),
        "mean_votes": Variable((), "float64", "mean votes of a consensus"),
        "n_consensus_names": Variable((), "int64", "number of different consensus names"),
        "consensus_right_share": Variable(
            (),
            "float64",
            "share of right consensus names among concepts of known label",
            optional=True,
        ),
        "n_right_known": Variable((), "int64", "number of concepts of known label", optional=True),
    },
    references=NEURON_EVAL + "; Efron and Tibshirani, An Introduction to the Bootstrap, 1993",
    sharded_along="concept",
)

_BY_SPLIT = ("metric", "seed")
_BY_NEURON = ("neuron", "metric")

IDENTIFICATION = Schema(
    name="identification",
    version=1,
    title="How well each metric finds the known concept of a neuron",
    coords={
        "metric": METRIC,
        "seed": Variable(("seed",), "int64", "seed of a split into neurons that choose and others"),
        "neuron": Variable(("neuron",), "int64", "index of the neuron"),
    },
    variables={
        "auprc": Variable(
            ("metric",),
            "float64",
            "average precision of scores as a detector of right pairs of tested neurons, mean over "
            "splits",
        ),
        "auprc_low": Variable(("metric",), "float64", "lower end of the mean's t interval"),
        "auprc_high": Variable(("metric",), "float64", "upper end of the mean's t interval"),
        "mean_rank": Variable(
            ("metric",), "float64", "place among the metrics by AUPRC, from 1, mean over splits"
        ),
        "top_share": Variable(
            ("metric",), "float64", "share of tested neurons whose best concept is the right one"
        ),
        "undefined_share": Variable(
            ("metric",), "float64", "share of undefined pairs of tested neurons"
        ),
        "published": Variable(
            ("metric",), "float64", "published AUPRC of the same setting; NaN where there is none"
        ),
        "split_auprc": Variable(_BY_SPLIT, "float64", "AUPRC of the tested neurons"),
        "split_rank": Variable(_BY_SPLIT, "float64", "place among the metrics by AUPRC, from 1"),
        "validation_auprc": Variable(
            _BY_SPLIT, "float64", "AUPRC of the choosing neurons, with the chosen parameters"
        ),
        "alpha": Variable(
            _BY_SPLIT, "float64", "chosen fraction of active inputs; NaN where none is needed"
        ),
        "lam": Variable(
            _BY_SPLIT, "float64", "chosen weight of how common a concept is; NaN likewise"
        ),
        "name": Variable(("neuron",), "str", "name of the neuron"),
        "right_concept": Variable(("neuron",), "str", "known concept of the neuron"),
        "right_rank": Variable(
            _BY_NEURON,
            "float64",
            "place of the right concept among all, from 1, mean over splits that test the neuron",
        ),
        "best_concept": Variable(
            _BY_NEURON, "str", "best concept in the first split that tests the neuron"
        ),
        "is_choosing": Variable(("neuron", "seed"), "bool", "whether the neuron chooses"),
        "n_inputs": Variable((), "int64", "number of inputs"),
        "n_neurons": Variable((), "int64", "number of neurons of known concept"),
        "n_choosing": Variable((), "int64", "number of these that choose, in each split"),
        "n_concepts": Variable((), "int64", "number of concepts that compete"),
        "best_auprc": Variable((), "float64", "highest AUPRC of a metric"),
        "shift": Variable((), "float64", "constant added to the activations", "activation"),
        "confidence": Variable((), "float64", "confidence of the intervals"),
    },
    references=NEURON_EVAL + ", section 5 and appendix E.2",
)

CONSISTENCY = Schema(
    name="consistency",
    version=1,
    title="How alike what a concept points at looks to a foundation model: the C2-score",
    coords={
        "concept": Variable(("concept",), "int64", "index of the concept"),
        "baseline_class": Variable(
            ("baseline_class",), "int64", "class of the baseline; 0 where there is only one"
        ),
        "bin": Variable(("bin",), "float64", "lower end of a bin of scores"),
    },
    variables={
        "score": Variable(
            ("concept",), "float64", "mean cosine of the concept's encodings; NaN below two"
        ),
        "n_images": Variable(("concept",), "int64", "number of encodings"),
        "empty_maps": Variable(("concept",), "int64", "images whose map has no positive part"),
        "pixels": Variable(("concept",), "float64", "mean number of pixels with 80 % of the map"),
        "concept_name": Variable(("concept",), "str", "name of the concept", optional=True),
        "concept_class": Variable(("concept",), "str", "class of the concept", optional=True),
        "baseline_score": Variable(("baseline_class",), "float64", "score of random maps"),
        "baseline_name": Variable(("baseline_class",), "str", "name of the class", optional=True),
        "concept_baseline": Variable(
            ("concept",), "float64", "score of random maps of the concept's class", optional=True
        ),
        "share": Variable(("bin",), "float64", "share of the counted concepts in the bin"),
        "mean_score": Variable((), "float64", "mean score of concepts with enough images"),
        "baseline": Variable((), "float64", "mean score of random maps"),
        "difference": Variable((), "float64", "mean score less that of random maps"),
        "n_scored": Variable((), "int64", "concepts with enough images"),
        "n_few_images": Variable((), "int64", "concepts with a score, but of too few images"),
        "least_images": Variable((), "int64", "encodings that a concept needs to count"),
        "empty_total": Variable((), "int64", "maps without positive part, over all concepts"),
        "centred": Variable((), "int64", "whether the mean feature was subtracted, 0 or 1"),
        "variant": Variable((), "str", "encoder, up-sampler, choice of images, centring"),
    },
    references="Parchami-Araghi et al., FaCT, NeurIPS 2025, arXiv 2510.25512",
)

_BY_MEASURE = ("concept", "measure")

LOCALISATION = Schema(
    name="localisation",
    version=1,
    title="Whether concepts are where their labels are",
    coords={
        "concept": Variable(("concept",), "int64", "index of the concept"),
        "measure": Variable(("measure",), "str", "measure: pointing, energy or iou"),
        "rank": Variable(("rank",), "int64", "place by gain, from 0"),
    },
    variables={
        "name": Variable(("concept",), "str", "label that names the concept; empty for none"),
        "n_images": Variable(("concept",), "int64", "images that the concept was mapped in"),
        "n_empty": Variable(("concept",), "int64", "of them, those whose map has no positive part"),
        "n_shown": Variable(("concept",), "int64", "images with a mask of the name"),
        "score": Variable(_BY_MEASURE, "float64", "mean score of the name in these images"),
        "interval_low": Variable(_BY_MEASURE, "float64", "lower end of its interval"),
        "interval_high": Variable(_BY_MEASURE, "float64", "upper end of its interval"),
        "chance": Variable(_BY_MEASURE, "float64", "the same of a map without any place"),
        "elsewhere": Variable(
            _BY_MEASURE, "float64", "the same of maps on the masks of the other images"
        ),
        "lift": Variable(_BY_MEASURE, "float64", "score above chance"),
        "lift_low": Variable(_BY_MEASURE, "float64", "lower end of its interval"),
        "lift_high": Variable(_BY_MEASURE, "float64", "upper end of its interval"),
        "gain": Variable(
            _BY_MEASURE,
            "float64",
            "score above chance of the name, over all images, 0 where unshown",
        ),
        "top_label": Variable(("concept", "measure", "rank"), "str", "labels of the largest gain"),
        "top_gain": Variable(("concept", "measure", "rank"), "float64", "their gains"),
        "mean_score": Variable(("measure",), "float64", "mean score over concepts"),
        "mean_chance": Variable(("measure",), "float64", "mean chance over concepts"),
        "mean_elsewhere": Variable(
            ("measure",), "float64", "mean over concepts, on the masks of other images"
        ),
        "mean_lift": Variable(("measure",), "float64", "mean score above chance over concepts"),
        "located_share": Variable(
            ("measure",), "float64", "share of judged concepts whose interval lies above chance"
        ),
        "best_share": Variable(
            ("measure",), "float64", "share of shown names that no label exceeds in gain"
        ),
        "n_named": Variable((), "int64", "number of concepts with a name"),
        "n_without_mask": Variable((), "int64", "of them, those whose name has no masks at all"),
        "n_not_shown": Variable((), "int64", "of the others, those whose images do not show it"),
        "n_judged": Variable((), "int64", "number of concepts with an interval"),
        "shown_share": Variable(
            (), "float64", "share of mapped images that show the name, where it has masks"
        ),
    },
    references="Zhang et al., Top-down Neural Attention by Excitation Backprop, IJCV 126, 2018; "
    "Wang et al., Score-CAM, CVPR workshops 2020",
)

_BY_BASIS = ("concept", "basis")
_AT_THRESHOLD = ("basis", "threshold")

MATCHING = Schema(
    name="matching",
    version=1,
    title="Which concepts of one set come back in another",
    coords={
        "concept": Variable(("concept",), "int64", "index of the concept in the one set"),
        "basis": Variable(("basis",), "str", "what is compared: decoder or presence"),
        "threshold": Variable(("threshold",), "float64", "similarity from which on it is the same"),
    },
    variables={
        "match": Variable(
            _BY_BASIS, "int64", "concept of the other set, one to one; -1 where there is none"
        ),
        "similarity": Variable(_BY_BASIS, "float64", "cosine, or correlation, with it"),
        "nearest": Variable(_BY_BASIS, "int64", "most similar concept of the other set"),
        "nearest_similarity": Variable(_BY_BASIS, "float64", "cosine, or correlation, with it"),
        "mutual": Variable(_BY_BASIS, "bool", "whether each is the most similar one of the other"),
        "matched_share": Variable(
            _AT_THRESHOLD, "float64", "share of concepts with a match at or above the threshold"
        ),
        "matched_share_low": Variable(_AT_THRESHOLD, "float64", "lower end of its interval"),
        "matched_share_high": Variable(_AT_THRESHOLD, "float64", "upper end of its interval"),
        "null_matched_share": Variable(_AT_THRESHOLD, "float64", "the same of the null"),
        "mutual_share": Variable(("basis",), "float64", "share of concepts with a mutual nearest"),
        "null_mutual_share": Variable(("basis",), "float64", "the same of the null"),
        "mean_similarity": Variable(("basis",), "float64", "mean similarity of matched concepts"),
        "null_mean_similarity": Variable(("basis",), "float64", "the same of the null"),
        "mean_nearest": Variable(
            ("basis",), "float64", "mean similarity to the most similar concept"
        ),
        "mean_nearest_low": Variable(("basis",), "float64", "lower end of its interval"),
        "mean_nearest_high": Variable(("basis",), "float64", "upper end of its interval"),
        "null_mean_nearest": Variable(("basis",), "float64", "the same of the null"),
        "same_match_share": Variable(
            (), "float64", "share of concepts that both bases match, which they match alike"
        ),
        "n_one": Variable((), "int64", "concepts of the one set"),
        "n_other": Variable((), "int64", "concepts of the other set"),
        "n_alive_one": Variable((), "int64", "of the one, those that differ between images"),
        "n_alive_other": Variable((), "int64", "of the other, those that differ between images"),
    },
    references="Kuhn, The Hungarian method for the assignment problem, 1955; Sharkey et al., "
    "Taking features out of superposition with sparse autoencoders, 2022",
)

_BY_TEST = ("metric", "form", "test")
_BY_FREQUENCY = ("metric", "test", "frequency")
_BY_SANITY_SEED = ("metric", "form", "test", "seed")

SANITY = Schema(
    name="sanity",
    version=1,
    title="Whether the score of a right concept falls when its labels are spoiled",
    coords={
        "metric": METRIC,
        "form": Variable(
            ("form",),
            "str",
            "theoretical: binary neurons that are their concept; experimental: real neurons, "
            "labels spoiled at random; semantic: real neurons, classes for superclasses and back",
        ),
        "test": Variable(("test",), "str", "what is wrong with the labels: missing or extra ones"),
        "frequency": Variable(
            ("frequency",), "float64", "share of inputs at which a binary neuron is active"
        ),
        "seed": Variable(("seed",), "int64", "seed of labels spoiled at random", optional=True),
    },
    variables={
        "decrease_accuracy": Variable(
            _BY_TEST,
            "float64",
            "share of draws (mean over frequencies) or of neurons in which the score falls by "
            "more than epsilon; NaN where the form was not run",
        ),
        "decrease_accuracy_low": Variable(_BY_TEST, "float64", "lower end of its 95 % interval"),
        "decrease_accuracy_high": Variable(_BY_TEST, "float64", "upper end of its 95 % interval"),
        "standard_error": Variable(_BY_TEST, "float64", "standard error of the share"),
        "mean_change": Variable(
            _BY_TEST, "float64", "mean change of the score, in units of the metric's range"
        ),
        "undefined": Variable(
            _BY_TEST, "float64", "share of undefined scores on spoiled labels, which count as 0"
        ),
        "verdict": Variable(
            _BY_TEST, "str", "passes, fails or undecided; empty where the form was not run"
        ),
        "published": Variable(
            _BY_TEST, "float64", "share that the paper gives; NaN where it gives none"
        ),
        "difference": Variable(
            _BY_TEST, "str", "why ours, or its verdict, differs from it; empty if it does not"
        ),
        "score_change": Variable(
            _BY_FREQUENCY, "float64", "theoretical: mean change, in units of the metric's range"
        ),
        "decrease_rate": Variable(
            _BY_FREQUENCY, "float64", "theoretical: share of draws in which the score falls"
        ),
        "undefined_share": Variable(
            _BY_FREQUENCY, "float64", "theoretical: share of undefined scores on spoiled labels"
        ),
        "passed": Variable(
            ("metric",),
            "str",
            "verdict on both tests in the theoretical and, where run, the experimental form",
        ),
        "seed_accuracy": Variable(
            _BY_SANITY_SEED, "float64", "decrease accuracy of each seed alone", optional=True
        ),
        "n_neurons": Variable(
            ("form", "test"), "int64", "neurons tested; 0 where the form was not run"
        ),
        "alpha": Variable(
            ("metric",),
            "float64",
            "chosen fraction of active inputs; NaN where none is needed",
            optional=True,
        ),
        "lam": Variable(
            ("metric",),
            "float64",
            "chosen weight of how common a concept is; NaN where none is needed",
            optional=True,
        ),
        "n_passing": Variable((), "int64", "number of metrics that pass"),
        "n_failing": Variable((), "int64", "number of metrics that fail"),
        "n_undecided": Variable((), "int64", "number of metrics of which sampling decides"),
        "epsilon": Variable((), "float64", "fall that counts, in units of a metric's range"),
        "required": Variable((), "float64", "share in which scores must fall"),
        "n_draws": Variable((), "int64", "theoretical: draws at each frequency"),
        "variant": Variable((), "str", "rates, right concepts, handling of ties"),
    },
    references=NEURON_EVAL + ", section 4 and appendices E.1 and E.3",
)
