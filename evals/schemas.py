"""What each dataset of ``evals`` holds: dimensions, types, units."""

from __future__ import annotations

from functools import partial

from registry import Schema, Variable

NEURON_EVAL = (
    "Oikarinen et al., Evaluating Neuron Explanations: A Unified Framework with Sanity Checks, "
    "ICML 2025, arXiv 2506.05774"
)


def _variable(
    dtype: str, long_name: str, dims: str = "", units: str = "1", optional: bool = False
) -> Variable:
    return Variable(tuple(dims.split()), dtype, long_name, units, optional)


_text, _flag = partial(_variable, "str"), partial(_variable, "bool")
_whole, _real = partial(_variable, "int64"), partial(_variable, "float64")

METRIC = _text("metric of how well a concept explains a neuron", "metric")
BOUNDS = {
    "lower": _real("smallest possible value; NaN where the data bound it", "metric"),
    "upper": _real("largest possible value; NaN where the data bound it", "metric"),
}

_SEEN = {
    "n_trained_scoring": _whole(
        "images that score, which the concepts were trained on", optional=True
    ),
    "n_same_ids": _whole(
        "images with ids of images that the concepts were trained on, in another set of images",
        optional=True,
    ),
}

_COMPAT = {
    "compat": _text(
        "whose rules the metrics follow, where it is not their definitions", optional=True
    )
}

SCORES = Schema(
    name="scores",
    version=1,
    title="How well each concept explains each neuron",
    coords={
        "neuron": _whole("index of the neuron", "neuron"),
        "metric": METRIC,
        "concept": _text("name of the concept", "concept"),
    },
    variables={
        "score": _real("score of the pair; NaN where undefined", "neuron metric concept"),
        "undefined": _whole("undefined pairs of the neuron", "neuron metric"),
        **BOUNDS,
        "labelled_share": _real("fraction of inputs with the label", "concept"),
        "n_inputs": _whole("number of inputs"),
        "undefined_share": _real("fraction of undefined pairs, over all metrics that did not fail"),
        **_COMPAT,
        **_SEEN,
    },
    references=NEURON_EVAL,
    sharded_along="neuron",
    first=("n_inputs", "undefined_share"),
)

_P = {
    "score": ("score of the name", "concept metric"),
    "margin": ("margin of the name", "concept metric"),
    "votes": ("votes for the consensus", "concept"),
    "consensus_score": ("score of the consensus", "concept metric"),
    "consensus": ("score of the consensus, by all voting metrics", "concept"),
}
_CHANCE = "above chance, undecided (for the concept alone), at chance, untested"
_BY_CHANCE = {
    **{
        f"{name}_p": _real(
            f"fraction of permutations of labels in which the {what} is as high; NaN if untested",
            dims,
            optional=True,
        )
        for name, (what, dims) in _P.items()
    },
    **{
        f"{name}_family_p": _real(
            f"fraction in which, of all tested concepts, the smallest p of the {what} is as small",
            dims,
            optional=True,
        )
        for name, (what, dims) in _P.items()
    },
    **{
        f"{name}_by_chance": _real(
            f"{what} that permutations of labels exceed in a fraction of 1 - confidence alone",
            dims,
            optional=True,
        )
        for name, (what, dims) in _P.items()
        if name != "consensus"
    },
    "chance": _text(f"verdict on the score: {_CHANCE}", "concept metric", optional=True),
    "consensus_chance": _text(f"verdict on the consensus: {_CHANCE}", "concept", optional=True),
    "above_chance_share": _real(
        "fraction of tested names that are above chance", "metric", optional=True
    ),
    "at_chance_share": _real("fraction of tested names at chance", "metric", optional=True),
    "consensus_above_chance_share": _real(
        "fraction of tested consensus that is above chance", optional=True
    ),
    "consensus_at_chance_share": _real("fraction of tested consensus at chance", optional=True),
    "confidence": _real(
        "confidence of the intervals; what is above chance is so at 1 less this", optional=True
    ),
    "n_permutations": _whole("permutations of labels; 0 for no test", optional=True),
    "n_tested": _whole("concepts that were tested against them", optional=True),
    "min_positives": _whole(
        "inputs of each half with a label, and without it, at least", optional=True
    ),
    "min_active": _whole("active inputs of a concept in each half, at least", optional=True),
    "n_rare_labels": _whole("labels of too few positives", optional=True),
    "n_few_active": _whole("concepts of too few active inputs", optional=True),
}

_OTHER_NAMES = {
    "second_name": _text(
        "best label beside the name that is no class; any other where all are classes",
        "concept metric",
        optional=True,
    ),
    "second_score": _real("its score on the scoring half", "concept metric", optional=True),
    "second_p": _real(
        "fraction of permutations of labels in which the best of such labels scores as high",
        "concept metric",
        optional=True,
    ),
    "consensus_second": _text(
        "consensus of voting metrics among labels beside it that are no classes",
        "concept",
        optional=True,
    ),
    "consensus_second_votes": _whole("voting metrics that choose it", "concept", optional=True),
    "consensus_second_score": _real(
        "its score on the scoring half", "concept metric", optional=True
    ),
    "consensus_second_p": _real(
        "fraction of permutations in which the consensus among such labels scores as high, by all "
        "voting metrics",
        "concept",
        optional=True,
    ),
    "passed_over": _text(
        "better label that the name was preferred to; empty if none",
        "concept metric",
        optional=True,
    ),
    "passed_over_score": _real("its score on the scoring half", "concept metric", optional=True),
    "consensus_passed_over": _text(
        "consensus among all labels, where another was preferred", "concept", optional=True
    ),
    "n_left_out": _whole("labels that were to name nothing", optional=True),
    "n_class_labels": _whole("labels that are classes", optional=True),
    "prefer": _text("labels that are preferred: the best, or concepts, not classes", optional=True),
}

NAMES = Schema(
    name="names",
    version=2,
    title="The label that explains each concept best, by each metric, and by their consensus",
    coords={
        "concept": _whole("index of the concept", "concept"),
        "metric": METRIC,
        "rank": _whole("rank by score, from 0", "rank"),
    },
    variables={
        "name": _text("best label on the choosing half; empty if undefined", "concept metric"),
        "score": _real("score of the name on the scoring half", "concept metric"),
        "interval_low": _real("lower end of the score's interval", "concept metric"),
        "interval_high": _real("upper end of the score's interval", "concept metric"),
        "margin": _real("score of the name minus that of the second-best label", "concept metric"),
        "tied": _whole(
            "labels that score as well as the name on the choosing half", "concept metric"
        ),
        "undefined": _whole("undefined pairs on the choosing half", "concept metric"),
        "top_label": _text("best labels on the choosing half", "concept metric rank"),
        "top_score": _real("their scores on the scoring half", "concept metric rank"),
        "chosen_score": _real("their scores on the choosing half", "concept metric rank"),
        "silent": _flag("whether it is the same in all inputs of the choosing half", "concept"),
        "consensus": _text("label that most voting metrics choose; empty if none does", "concept"),
        "consensus_votes": _whole("voting metrics that choose it", "concept"),
        "consensus_score": _real("score of the consensus on the scoring half", "concept metric"),
        "right_label": _text("ground-truth label; empty if none", "concept", optional=True),
        "right_rank": _whole(
            "labels that score above the ground truth on the choosing half; -1 if undefined",
            "concept metric",
            optional=True,
        ),
        "few_active": _flag(
            "whether it is active on too few inputs of a half, so that its pairs are undefined",
            "concept",
            optional=True,
        ),
        **_BY_CHANCE,
        **_OTHER_NAMES,
        "verdict": _text("sanity checks: passes, fails, undecided or untested", "metric"),
        "votes": _flag("whether the metric takes part in the consensus", "metric"),
        "sanity_forms": _text(
            "forms of the sanity checks that the verdicts rest on", optional=True
        ),
        **BOUNDS,
        "undefined_share": _real("fraction of undefined pairs", "metric"),
        "right_share": _real(
            "fraction of correct names among concepts of known label", "metric", optional=True
        ),
        "n_choosing": _whole("number of inputs in the choosing half"),
        "n_scoring": _whole("number of inputs in the scoring half"),
        "n_trained_choosing": _whole(
            "images of the choosing half that the concepts were trained on", optional=True
        ),
        **_SEEN,
        "n_silent": _whole("number of silent concepts"),
        "named_share": _real("fraction of concepts with a name by every metric that did not fail"),
        "agreeing_share": _real("fraction of these with one name by all metrics"),
        "n_names": _whole("number of different names"),
        "tied_share": _real("fraction of names that another label equals"),
        "n_voting": _whole("number of voting metrics"),
        "consensus_share": _real("fraction of concepts with a consensus"),
        "unanimous_share": _real("fraction of these that all voting metrics choose"),
        "majority_share": _real(
            "fraction of these that more than half of the voting metrics choose"
        ),
        "mean_votes": _real("mean votes of a consensus"),
        "n_consensus_names": _whole("number of different consensus names"),
        "consensus_right_share": _real(
            "fraction of correct consensus names among concepts of known label", optional=True
        ),
        "n_right_known": _whole("number of concepts of known label", optional=True),
    },
    references=NEURON_EVAL + "; Efron and Tibshirani, An Introduction to the Bootstrap, 1993",
    sharded_along="concept",
    first=("consensus_share", "consensus_above_chance_share", "n_voting"),
)

IDENTIFICATION = Schema(
    name="identification",
    version=1,
    title="How well each metric finds the known concept of a neuron",
    coords={
        "metric": METRIC,
        "seed": _whole("seed of a split into neurons that choose and others", "seed"),
        "neuron": _whole("index of the neuron", "neuron"),
    },
    variables={
        "auprc": _real(
            "average precision of the tested neurons' ground-truth pairs, mean over splits",
            "metric",
        ),
        "auprc_low": _real("lower end of the mean's t interval", "metric"),
        "auprc_high": _real("upper end of the mean's t interval", "metric"),
        "mean_rank": _real("rank among the metrics by AUPRC, from 1, mean over splits", "metric"),
        "top_share": _real(
            "fraction of tested neurons whose best concept is the ground truth", "metric"
        ),
        "undefined_share": _real("fraction of undefined pairs of tested neurons", "metric"),
        "published": _real(
            "published AUPRC of the same setting; NaN where there is none", "metric"
        ),
        "split_auprc": _real("AUPRC of the tested neurons", "metric seed"),
        "split_rank": _real("rank among the metrics by AUPRC, from 1", "metric seed"),
        "validation_auprc": _real(
            "AUPRC of the choosing neurons, with the chosen parameters", "metric seed"
        ),
        "alpha": _real("chosen fraction of active inputs; NaN where none is needed", "metric seed"),
        "lam": _real("chosen weight of how common a concept is; NaN likewise", "metric seed"),
        "name": _text("name of the neuron", "neuron"),
        "right_concept": _text("known concept of the neuron", "neuron"),
        "right_rank": _real(
            "rank of the known concept among all, from 1, mean over splits that test the neuron",
            "neuron metric",
        ),
        "best_concept": _text(
            "best concept in the first split that tests the neuron", "neuron metric"
        ),
        "is_choosing": _flag("whether the neuron chooses", "neuron seed"),
        "n_inputs": _whole("number of inputs"),
        "n_neurons": _whole("number of neurons of known concept"),
        "n_choosing": _whole("number of these that choose, in each split"),
        "n_concepts": _whole("number of concepts that compete"),
        "best_auprc": _real("highest AUPRC of a metric"),
        "shift": _real("constant added to the activations", units="activation"),
        "confidence": _real("confidence of the intervals"),
        **_COMPAT,
        **_SEEN,
    },
    references=NEURON_EVAL + ", section 5 and appendix E.2",
    first=("best_auprc", "n_neurons"),
)

CONSISTENCY = Schema(
    name="consistency",
    version=1,
    title="How similar the regions of a concept look to a foundation model: the C2-score",
    coords={
        "concept": _whole("index of the concept", "concept"),
        "baseline_class": _whole(
            "class of the baseline; 0 where there is only one", "baseline_class"
        ),
        "bin": _real("lower end of a bin of scores", "bin"),
    },
    variables={
        "score": _real("mean cosine of the concept's encodings; NaN below two", "concept"),
        "n_images": _whole("number of encodings", "concept"),
        "empty_maps": _whole("images whose map has no positive part", "concept"),
        "pixels": _real("mean number of pixels with 80 % of the map", "concept"),
        "concept_name": _text("name of the concept", "concept", optional=True),
        "concept_class": _text("class of the concept", "concept", optional=True),
        "baseline_score": _real("score of random maps", "baseline_class"),
        "baseline_name": _text("name of the class", "baseline_class", optional=True),
        "concept_baseline": _real(
            "score of random maps of the concept's class", "concept", optional=True
        ),
        "share": _real("fraction of the counted concepts in the bin", "bin"),
        "mean_score": _real("mean score of concepts with enough images"),
        "baseline": _real("mean score of random maps"),
        "difference": _real("mean score minus that of random maps"),
        "n_scored": _whole("concepts with enough images"),
        "n_few_images": _whole("concepts with a score, but of too few images"),
        "least_images": _whole("encodings that a concept needs to be counted"),
        "empty_total": _whole("maps without positive part, over all concepts"),
        "centred": _whole("whether the mean feature was subtracted, 0 or 1"),
        "variant": _text("encoder, up-sampler, choice of images, centring"),
        "reference_score": _real(
            "score by the images that the published code chooses", "concept", optional=True
        ),
        "reference_n_images": _whole("number of their encodings", "concept", optional=True),
        "reference_mean_score": _real("mean of these scores, likewise", optional=True),
        "reference_difference": _real("this less that of random maps", optional=True),
    },
    references="Parchami-Araghi et al., FaCT, NeurIPS 2025, arXiv 2510.25512",
    first=("mean_score", "baseline", "n_scored"),
)

LOCALISATION = Schema(
    name="localisation",
    version=1,
    title="Whether concepts are where their labels are",
    coords={
        "concept": _whole("index of the concept", "concept"),
        "measure": _text("measure: pointing, energy or iou", "measure"),
        "rank": _whole("rank by gain, from 0", "rank"),
    },
    variables={
        "name": _text("label that names the concept; empty for none", "concept"),
        "name_chance": _text(
            f"verdict on the name: {_CHANCE}; of one that was left out too",
            "concept",
            optional=True,
        ),
        "n_images": _whole("images that the concept was mapped in", "concept"),
        "n_empty": _whole("of them, those whose map has no positive part", "concept"),
        "n_shown": _whole("images with a mask of the name", "concept"),
        "score": _real("mean score of the name in these images", "concept measure"),
        "interval_low": _real("lower end of its interval", "concept measure"),
        "interval_high": _real("upper end of its interval", "concept measure"),
        "chance": _real("the same for a map that carries no location", "concept measure"),
        "elsewhere": _real("the same of maps on the masks of the other images", "concept measure"),
        "lift": _real("score above chance", "concept measure"),
        "lift_low": _real("lower end of its interval", "concept measure"),
        "lift_high": _real("upper end of its interval", "concept measure"),
        "gain": _real(
            "score above chance of the name, over all images, 0 where unshown", "concept measure"
        ),
        "top_label": _text("labels of the largest gain", "concept measure rank"),
        "top_gain": _real("their gains", "concept measure rank"),
        "mean_score": _real("mean score over concepts", "measure"),
        "mean_chance": _real("mean chance over concepts", "measure"),
        "mean_elsewhere": _real("mean over concepts, on the masks of other images", "measure"),
        "mean_lift": _real("mean score above chance over concepts", "measure"),
        "located_share": _real(
            "fraction of judged concepts whose interval lies above chance", "measure"
        ),
        "best_share": _real("fraction of shown names that no label exceeds in gain", "measure"),
        "n_named": _whole("number of concepts with a name"),
        "n_without_mask": _whole("of them, those whose name has no masks at all"),
        "n_not_shown": _whole("of the others, those whose images do not show it"),
        "n_judged": _whole("number of concepts with an interval"),
        "maps": _text(
            "how concepts were mapped, where that is an approximation of where they are: gradient "
            "at the image of a network that is not linear, up-sampled codes, or crp",
            optional=True,
        ),
        "n_at_chance": _whole("names at chance", optional=True),
        "n_left_out": _whole("names that were left out, being at chance", optional=True),
        "n_chose_names": _whole("mapped images that chose the names", optional=True),
        **_SEEN,
        "shown_share": _real("fraction of mapped images that show the name, where it has masks"),
    },
    references="Zhang et al., Top-down Neural Attention by Excitation Backprop, IJCV 126, 2018; "
    "Wang et al., Score-CAM, CVPR workshops 2020",
    first=("n_judged", "shown_share"),
)

MATCHING = Schema(
    name="matching",
    version=1,
    title="Which concepts of one set are found again in another",
    coords={
        "concept": _whole("index of the concept in the first set", "concept"),
        "basis": _text("what is compared: decoder or presence", "basis"),
        "threshold": _real("match threshold: least similarity of a match", "threshold"),
    },
    variables={
        "match": _whole(
            "concept of the other set, one to one; -1 where there is none", "concept basis"
        ),
        "similarity": _real("cosine, or correlation, with it", "concept basis"),
        "nearest": _whole("most similar concept of the other set", "concept basis"),
        "nearest_similarity": _real("cosine, or correlation, with it", "concept basis"),
        "mutual": _flag("whether each is the most similar one of the other", "concept basis"),
        "returned": _flag(
            "whether it is more similar to its nearest than in every draw of the null",
            "concept basis",
            optional=True,
        ),
        "returned_share": _real("fraction of concepts that come back", "basis", optional=True),
        "null_returned_share": _real("the same where nothing does", "basis", optional=True),
        "matched_share": _real(
            "fraction of concepts with a match at or above the threshold", "basis threshold"
        ),
        "matched_share_low": _real("lower end of its interval", "basis threshold"),
        "matched_share_high": _real("upper end of its interval", "basis threshold"),
        "null_matched_share": _real("the same of the null", "basis threshold"),
        "mutual_share": _real("fraction of concepts with a mutual nearest", "basis"),
        "null_mutual_share": _real("the same of the null", "basis"),
        "mean_similarity": _real("mean similarity of matched concepts", "basis"),
        "null_mean_similarity": _real("the same of the null", "basis"),
        "mean_nearest": _real("mean similarity to the most similar concept", "basis"),
        "mean_nearest_low": _real("lower end of its interval", "basis"),
        "mean_nearest_high": _real("upper end of its interval", "basis"),
        "null_mean_nearest": _real("the same of the null", "basis"),
        "same_match_share": _real(
            "fraction of concepts that both bases match, which they match alike"
        ),
        "n_one": _whole("concepts of the first set"),
        "n_other": _whole("concepts of the other set"),
        "n_alive_one": _whole("of the first, those that differ between images"),
        "n_alive_other": _whole("of the other, those that differ between images"),
    },
    references="Kuhn, The Hungarian method for the assignment problem, 1955; Sharkey et al., "
    "Taking features out of superposition with sparse autoencoders, 2022",
    first=("same_match_share", "n_alive_one"),
)

SANITY = Schema(
    name="sanity",
    version=1,
    title="Whether the score of a ground-truth concept falls when its labels are corrupted",
    coords={
        "metric": METRIC,
        "form": _text(
            "theoretical: binary neurons that are their concept; experimental: real neurons, "
            "labels corrupted at random; semantic: real neurons, classes for superclasses and back",
            "form",
        ),
        "test": _text("fault of the labels: missing or extra ones", "test"),
        "frequency": _real("fraction of inputs at which a binary neuron is active", "frequency"),
        "seed": _whole("seed of labels corrupted at random", "seed", optional=True),
    },
    variables={
        "decrease_accuracy": _real(
            "fraction of draws (mean over frequencies) or of neurons in which the score falls by "
            "more than epsilon; NaN where the form was not run",
            "metric form test",
        ),
        "decrease_accuracy_low": _real("lower end of its 95 % interval", "metric form test"),
        "decrease_accuracy_high": _real("upper end of its 95 % interval", "metric form test"),
        "standard_error": _real("standard error of the fraction", "metric form test"),
        "mean_change": _real(
            "mean change of the score, in units of the metric's range", "metric form test"
        ),
        "undefined": _real(
            "fraction of undefined scores on corrupted labels, which count as 0", "metric form test"
        ),
        "verdict": _text(
            "passes, fails or undecided; empty where the form was not run, or the metric failed",
            "metric form test",
        ),
        "published": _real(
            "fraction that the paper gives; NaN where it gives none", "metric form test"
        ),
        "difference": _text(
            "why ours, or its verdict, differs from it; empty if it does not", "metric form test"
        ),
        "score_change": _real(
            "theoretical: mean change, in units of the metric's range", "metric test frequency"
        ),
        "decrease_rate": _real(
            "theoretical: fraction of draws in which the score falls", "metric test frequency"
        ),
        "undefined_share": _real(
            "theoretical: fraction of undefined scores on corrupted labels", "metric test frequency"
        ),
        "passed": _text(
            "verdict on both tests in the theoretical and, where run, the experimental form",
            "metric",
        ),
        "seed_accuracy": _real(
            "decrease accuracy of each seed alone", "metric form test seed", optional=True
        ),
        "n_neurons": _whole("neurons tested; 0 where the form was not run", "form test"),
        "alpha": _real(
            "chosen fraction of active inputs; NaN where none is needed", "metric", optional=True
        ),
        "lam": _real(
            "chosen weight of how common a concept is; NaN where none is needed",
            "metric",
            optional=True,
        ),
        "n_passing": _whole("number of metrics that pass"),
        "n_failing": _whole("number of metrics that fail"),
        "n_undecided": _whole("number of metrics of which sampling decides"),
        "epsilon": _real("fall that counts, in units of a metric's range"),
        "required": _real("fraction in which scores must fall"),
        "n_draws": _whole("theoretical: draws at each frequency"),
        "variant": _text("rates, ground-truth concepts, handling of ties"),
        **_SEEN,
    },
    references=NEURON_EVAL + ", section 4 and appendices E.1 and E.3",
    first=("n_passing", "n_undecided", "n_failing"),
)

COMPARISON = Schema(
    name="comparison",
    version=1,
    title="Published figures beside ours, cell by cell",
    coords={
        "cell": _text(
            "cell of the published table: metric, and where it has them, test and setting", "cell"
        )
    },
    variables={
        "published": _real("published figure", "cell"),
        "ours": _real("ours, by the definitions", "cell"),
        "theirs": _real("ours, computed again under the cause; NaN if not computed", "cell"),
        "difference": _real("ours less the published one", "cell"),
        "error": _real("standard error of ours, of draws; 0 where none are drawn", "cell"),
        "theirs_error": _real("that of ours by the published rules", "cell"),
        "state": _text("equal, explained (by what was declared otherwise) or open", "cell"),
        "cause": _text("what explains the difference", "cell"),
        "n_equal": _whole("cells that are equal, up to their digits and to chance"),
        "n_explained": _whole("cells that are the published ones under the cause"),
        "n_open": _whole("other cells"),
    },
    references=NEURON_EVAL,
    first=("n_equal", "n_explained", "n_open"),
)
