"""What each dataset of ``fact`` holds: dimensions, types, units. The door to ``evals``.

An image is named everywhere by its split and relative path, as ``test/00042``. Logits are taken
before the network's bias. Source of the quantities: Parchami-Araghi et al., "FaCT", NeurIPS 2025,
arXiv 2510.25512.
"""

from __future__ import annotations

from collections.abc import Callable

from registry import Schema, Variable

FACT = (
    "Parchami-Araghi et al., FaCT: Faithful Concept Traces for Explaining Neural Network "
    "Decisions, NeurIPS 2025, arXiv 2510.25512"
)


def _typed(dtype: str) -> Callable[..., Variable]:
    """Return what declares a variable of a type by its dimensions, in one string, and long name."""

    def declare(
        dims: str, long_name: str, optional: bool = False, of: tuple[str, ...] = ()
    ) -> Variable:
        return Variable(tuple(dims.split()), dtype, long_name, optional=optional, of=of)

    return declare


_text, _bool, _uint8 = _typed("str"), _typed("bool"), _typed("uint8")
_int32, _int64 = _typed("int32"), _typed("int64")
_float, _float32, _float64 = _typed("float"), _typed("float32"), _typed("float64")


IMAGE = _text("image", "image: split and relative path")
CLASS = _text("class", "name of the class")
CONCEPT = _int64("concept", "index of the concept")
LOGIT = _float32("image class", "logit before the bias")
CLASS_OF_IMAGE = {
    "label": _int64("image", "index of the labelled class; -1 where there is none"),
    "prediction": _int64("image", "index of the predicted class"),
}
EXPLAINED = {
    "target": _int64("image", "index of the class that is explained"),
    "residual": _float32(
        "image", "|sum of contributions - logit| over the sum of absolute contributions"
    ),
}
EXACT = {
    "exact": _bool(
        "",
        "whether contributions must add up to the logit; else gradient times activation, an "
        "approximation",
        optional=True,
    )
}
"""What datasets lack that were written while all contributions were exact."""
PROBE = {
    "probe": _float("", "residual by which the network was found linear, or not", optional=True)
}
"""What datasets have of a network that nobody declared linear or not."""
MAPS_BY = {
    "maps": _text(
        "",
        "how concepts were mapped: gradient at the image, up-sampled codes, or crp",
        optional=True,
    )
}
"""What datasets lack that were written while all maps were of gradients."""
COMMONEST_SHARE = {
    "commonest_share": _float(
        "", "share of the commonest class among them: accuracy of always naming it", optional=True
    )
}
"""What accuracies are to be held against; datasets lack it that were written before it was told."""
_BY_COMMONEST = "always the commonest class: {commonest_share}"
_OF_TESTED = "of {n_labelled} labelled {test_split} images", _BY_COMMONEST
_OF_SPLIT = "of {n_labelled} labelled {split} images", _BY_COMMONEST
_OF_HELD_OUT = "of {n_held_out} held-out images", _BY_COMMONEST
"""What accuracies are of, by results and settings of their run."""
N_LABELLED = {
    "n_labelled": _int64("", "images with a label, of which accuracies are", optional=True),
    **COMMONEST_SHARE,
}
"""What datasets lack that were written while accuracies did not say of how many images they are."""
LABELLED = {"image": IMAGE, "label": _text("label", "name of the label: group and value")}

_BCOSIFIED = {
    "original_accuracy": _float("", "accuracy of the network before", optional=True),
    "conversion": _text("step", "step of the conversion", optional=True),
    "conversion_accuracy": _float("step", "accuracy after the step, untrained", optional=True),
    "conversion_change": _float(
        "step", "mean absolute change of the logits by the step, over their size", optional=True
    ),
    "epoch_accuracy": _float("pass", "accuracy after the epoch", optional=True),
    **PROBE,
}
"""What is known of a network that was B-cosified here, on the test images."""

NETWORK = Schema(
    name="network",
    version=1,
    title="A trained network and its logits on the test images",
    coords={"image": IMAGE, "class": CLASS},
    variables={
        "logit": LOGIT,
        **CLASS_OF_IMAGE,
        "loss": _float("pass", "mean training loss of the epoch"),
        "test_accuracy": _float("", "accuracy on the test images", of=_OF_TESTED),
        **N_LABELLED,
        "parameters": _int64("", "number of trained parameters"),
        **_BCOSIFIED,
    },
    references="Boehle et al., B-cos Networks: Alignment is All We Need for Interpretability, "
    "CVPR 2022, arXiv 2205.10268",
    first=("test_accuracy", "parameters"),
)

POINTING = Schema(
    name="pointing",
    version=1,
    title="Grid pointing game: share of each class's map that lies on the picture of that class",
    coords={},
    variables={
        "image": _text("grid cell", "image that stands in the cell, row by row"),
        "class_index": _int64("grid cell", "index of its class"),
        "score": _float64("grid cell", "share of the class's positive map that lies in its cell"),
        "mean_score": _float("", "mean share over all cells"),
        "chance": _float("", "share of a map that lies anywhere alike"),
        "n_confident": _int64("", "images that the network recognises confidently"),
        "exact": _bool("", "whether a map adds up to its logit; else gradient times image"),
    },
    references="Boehle et al., Convolutional Dynamic Alignment Networks for Interpretable "
    "Classifications, CVPR 2021, arXiv 2104.00032",
)

FEATURES = Schema(
    name="features",
    version=1,
    title="Feature vectors of a layer, drawn by their importance for the predicted class",
    coords={"sample": _int64("sample", "index of the sample")},
    variables={
        "feature": _float32("sample channel", "feature vector"),
        "image": _text("sample", "image of the sample"),
        "row": _int32("sample", "row in the layer's map; 0 for tokens off a grid"),
        "column": _int32("sample", "column in the layer's map, or token"),
        "importance": _float32(
            "sample", "|sum over channels of feature times gradient of the logit|"
        ),
        "root_mean_square": _float("", "root of the mean squared norm of the samples"),
        "n_samples": _int64("", "number of samples"),
        "n_images": _int64("", "number of images with a sample"),
        "n_held_out": _int64("", "number of images held out"),
        **PROBE,
    },
    references=FACT,
    sharded_along="sample",
    by_rows=("feature",),
    first=("n_samples", "n_images"),
)

_HELD_OUT = {
    f"held_out_{name}": _float64("step", f"{what}; NaN within an epoch", optional=True)
    for name, what in {
        "reconstruction_loss": "reconstruction loss of held-out images after the last update",
        "explained_variance": "share of variance explained, of samples of held-out images",
        "l0": "mean number of concepts active in a sample of held-out images",
        "dead": "concepts active in no sample of held-out images",
    }.items()
}
"""What datasets lack that were written before it was measured, or without held-out images."""

_TRAINING = {
    "reconstruction_loss": _float(
        "step", "mean squared error of scaled samples, summed over channels", optional=True
    ),
    "auxiliary_loss": _float("step", "loss of the dead concepts' reconstruction", optional=True),
    "explained_variance": _float("step", "share of variance explained", optional=True),
    "dead": _int64("step", "concepts that have not fired for half an epoch", optional=True),
    "held_out_accuracy": _float(
        "evaluation", "accuracy of the spliced network on the held-out images", optional=True
    ),
    "evaluated_step": _int64("evaluation", "updates made at the evaluation", optional=True),
    "best_step": _int64("", "updates made by the kept weights", optional=True),
    "best_accuracy": _float(
        "", "best accuracy of the spliced network on the held-out images", True, _OF_HELD_OUT
    ),
    "network_accuracy": _float(
        "", "accuracy of the network itself on the held-out images", True, _OF_HELD_OUT
    ),
    "n_held_out": _int64(
        "", "held-out images with a label, of which accuracies are", optional=True
    ),
    **COMMONEST_SHARE,
    "final_explained_variance": _float(
        "", "share of variance explained in the last epoch", optional=True
    ),
    "final_dead": _int64("", "dead concepts at the end", optional=True),
    "never_firing": _int64("", "concepts that never fired in the last epoch", optional=True),
    "always_active": _int64("", "concepts in at least 60 % of the last epoch", optional=True),
    "prefix_explained_variance": _float(
        "prefix",
        "share of variance of held-out samples that the first concepts explain",
        optional=True,
    ),
}
"""What is known of an SAE that was trained here."""

_ARCHETYPAL = {
    "point_feature": _float32("point channel", "points that atoms are mixed of", optional=True),
    "mixing": _float32("concept point", "shares of points in an atom, of sum 1", optional=True),
    "gain": _float32("", "factor of all atoms", optional=True),
}
"""What an archetypal dictionary is made of: gain (mixing @ point_feature), relaxation aside."""

_CHECKED = {
    "checked_explained_variance": _float(
        "", "share of variance explained at the layer, when it was imported", optional=True
    ),
    "checked_l0": _float("", "mean number of concepts active at a position then", optional=True),
    "checked_dead": _int64("", "concepts active at no position then", optional=True),
    "checked_agreement": _float(
        "", "share of images with the network's own prediction, spliced, then", optional=True
    ),
    "checked_shuffled": _float(
        "",
        "share of variance explained of a few images with the layer's channels shuffled, mean",
        optional=True,
    ),
    "n_checked": _int64("", "images that it was checked on", optional=True),
}
"""What an SAE from elsewhere did at its layer, when it was imported."""

SAE = Schema(
    name="sae",
    version=1,
    title="A sparse autoencoder",
    coords={
        "concept": CONCEPT,
        "step": _int64("step", "update, from 0", optional=True),
        "prefix": _int64("prefix", "first concepts that reconstruct by themselves", optional=True),
    },
    variables={
        "encoder": _float32("concept channel", "encoder weights"),
        "decoder": _float32("channel concept", "decoder weights; unit columns where trained so"),
        "encoder_bias": _float32("concept", "added to the encoder's products", optional=True),
        "decoder_bias": _float32("channel", "added to every reconstruction", optional=True),
        "threshold": _float32(
            "concept", "pre-activation above which the concept is active", optional=True
        ),
        "activation": _text(
            "", "activation function: topk, batch_topk, jumprelu, relu", optional=True
        ),
        "k": _int64("", "active concepts per position", optional=True),
        "scale": _float("", "number by which the samples were divided in training"),
        **_TRAINING,
        **_HELD_OUT,
        **_ARCHETYPAL,
        **_CHECKED,
    },
    references=FACT + "; Gao et al., Scaling and evaluating sparse autoencoders, arXiv 2406.04093",
    first=("best_accuracy", "network_accuracy", "final_explained_variance", "final_dead"),
)

CONCEPTS = Schema(
    name="concepts",
    version=1,
    title="Presence and contribution of every concept in every image",
    coords={"image": IMAGE, "class": CLASS, "concept": CONCEPT},
    variables={
        "presence": _float32("image concept", "sum of the concept's activations"),
        "contribution": _float32("image concept", "contribution to the target's logit"),
        "logit": LOGIT,
        **CLASS_OF_IMAGE,
        "network_prediction": _int64("image", "index of the class that the network alone predicts"),
        **EXPLAINED,
        **EXACT,
        **PROBE,
        "input_residual": _float32(
            "image", "|sum of the presences' map - presences| over the presences"
        ),
        "position_share": _float32(
            "image",
            "share of the presences that comes through the positional embedding",
            optional=True,
        ),
        "offset": _float32(
            "image", "what the decoder's bias gives to the target's logit", optional=True
        ),
        "encoder_bias_share": _float32(
            "image", "share of the presences that is the encoder's bias", optional=True
        ),
        "residual_energy": _float32(
            "image", "norm of feature minus reconstruction, mean over positions"
        ),
        "image_share": _float("concept", "share of images where it is present"),
        "contributing_share": _float("concept", "share of images where its contribution is not 0"),
        "mean_contribution": _float("concept", "mean contribution over images"),
        "coverage": _float("rank", "mean share of positive contribution in the strongest concepts"),
        "accuracy": _float(
            "", "accuracy of the spliced network on images with a label", of=_OF_SPLIT
        ),
        "network_accuracy": _float("", "accuracy of the network itself on these", of=_OF_SPLIT),
        **N_LABELLED,
        "image_l0": _float("", "mean number of concepts whose presence is not 0 in an image"),
        "concepts_for_80": _float(
            "", "mean number of concepts that cover 80 % of the positive contribution"
        ),
        "alive_share": _float("", "share of concepts with a contribution in some image"),
        "common_concepts": _int64("", "concepts contributing in over 85 % of images"),
        "common_share": _float("", "their joint share of the positive contribution"),
        "mean_offset": _float("", "mean offset over images", optional=True),
        "offset_share": _float(
            "",
            "|offset| over the sum of it and the absolute contributions, mean over images",
            optional=True,
        ),
        "residual_mean": _float("", "mean residual"),
        "residual_std": _float("", "standard deviation of the residual"),
        "residual_max": _float("", "largest residual"),
        "input_residual_max": _float("", "largest residual at the input"),
    },
    references=FACT + ", sections 3 and 4",
    sharded_along="image",
    derived="fact.traces.by_concept:lay_down",
    first=("accuracy", "network_accuracy", "alive_share"),
)

ACTIVATIONS = Schema(
    name="activations",
    version=1,
    title="Activations of neurons in every image",
    coords={"image": IMAGE, "neuron": _int64("neuron", "index of the neuron")},
    variables={
        "activation": _float32("image neuron", "activation of the neuron"),
        "name": _text("neuron", "name of the neuron"),
        "right_concept": _text(
            "neuron", 'label that is the neuron\'s known concept; "" where unknown'
        ),
        "variant": _text("", "layer, pooling, transform"),
        "n_images": _int64("", "number of images"),
        "n_neurons": _int64("", "number of neurons"),
        "n_known": _int64("", "number of neurons whose concept is known"),
        "trained": _text("training_input", "input that the neurons were trained on", optional=True),
        "accuracy": _float64(
            "neuron",
            "share of inputs where it is at least 1/2 just where its label is",
            optional=True,
        ),
        "mean_accuracy": _float64("", "mean of it over neurons", optional=True),
    },
    references="Oikarinen et al., Evaluating Neuron Explanations: A Unified Framework with "
    "Sanity Checks, ICML 2025, arXiv 2506.05774, section 2",
    sharded_along="image",
    first=("n_neurons", "n_images"),
)

NEXT_TOKENS = Schema(
    name="next_tokens",
    version=1,
    title="What a language model gives to next tokens at positions of texts, and which come next",
    coords={
        "input": _text("input", "position of a text: split, sequence, position"),
        "sequence": _int32("input", "sequence, from 0"),
        "position": _int32("input", "position in it, from 0"),
        "text": _text("input", "text of the token at the position, the last that the model sees"),
        "next_text": _text("input", "text of the token that comes next"),
        "neuron": _int64("neuron", "index of the neuron"),
        "label": _text("label", "token that comes next"),
        "rank": _int64("rank", "position by activation, from 0"),
    },
    variables={
        "activation": _float32(
            "input neuron",
            "probability of the token, among all of the model; of a channel, what its layer gives",
        ),
        "value": _uint8("input label", "1 where the token comes next, else 0"),
        "loss": _float32("input", "-log of the probability of the token that comes next, in nats"),
        "name": _text("neuron", "name of the neuron: its token, or the number of its channel"),
        "right_concept": _text("neuron", "label that is the neuron's known concept"),
        "token": _int64("neuron", "id of the token; -1 of a channel, which is of none"),
        "count": _int64("neuron", "positions of the sequences that hold the token"),
        "top_input": _int64("neuron rank", "index of the input; -1 where there are fewer"),
        "top_activation": _float32("neuron rank", "activation there; NaN where there are fewer"),
        "variant": _text("", "model, layer if any, choice of tokens"),
        "mean_loss": _float64("", "mean loss over inputs, in nats"),
        "n_inputs": _int64("", "number of inputs: positions but the last of each sequence"),
        "n_sequences": _int64("", "number of sequences"),
        "n_neurons": _int64("", "number of neurons"),
        "n_known": _int64("", "number of neurons whose concept is known"),
    },
    references="Oikarinen et al., Evaluating Neuron Explanations: A Unified Framework with "
    "Sanity Checks, ICML 2025, arXiv 2506.05774, settings 7 and 8",
    sharded_along="input",
)

LABELS = Schema(
    name="labels",
    version=1,
    title="What every image shows",
    coords=LABELLED,
    variables={"value": _float32("image label", "0 or 1, or the probability that it is shown")},
    sharded_along="image",
)

PROBE_WEIGHTS = Schema(
    name="probe",
    version=1,
    title="A linear probe: what of features speaks for each label",
    coords={
        "label": _text("label", "name of the label: group and value"),
        "channel": _int64("channel", "index of the feature"),
        "step": _int64("step", "pass over all inputs, from 0"),
    },
    variables={
        "weight": _float64("label channel", "weight of the feature in the logit of the label"),
        "bias": _float64("label", "bias of the logit"),
        "channel_name": _text("channel", "name of the feature"),
        "objective": _float64("step", "what is minimised, before the step, in nats"),
        "gradient": _float64("", "largest entry of the gradient at the end, as a size"),
        "positive_share": _float64("label", "share of the training inputs with the label"),
        "accuracy": _float64(
            "label", "share of the training inputs that it is right about, at 1/2"
        ),
        "mean_accuracy": _float64("", "mean of it over labels"),
        "trained": _text("training_input", "input that it was trained on"),
        "n_samples": _int64("", "number of training inputs"),
        "n_labels": _int64("", "number of labels"),
        "n_constant": _int64("", "labels that all training inputs have, or none"),
    },
    references="Oikarinen et al., Evaluating Neuron Explanations: A Unified Framework with "
    "Sanity Checks, ICML 2025, arXiv 2506.05774, appendix B",
)

RANKED = {
    "image": _text("concept rank", 'image; "" where there is none'),
    "presence": _float32("concept rank", "sum of the concept's activations; NaN for no image"),
}
PIXELS = {
    "colour": _text("colour", "red, green, blue"),
    "rgba": _text("rgba", "red, green, blue, opacity"),
}

_OF_NEURONS = {
    "name": _text("concept", "name of the neuron", optional=True),
    "lowest_image": _text(
        "concept rank", 'image where it is lowest, below 0; "" for none', optional=True
    ),
    "lowest_presence": _float32("concept rank", "activation there; NaN for none", optional=True),
    "lowest_label": _int64("concept rank", "labelled class; -1 where there is none", optional=True),
    "lowest_picture": _uint8(
        "concept rank y x colour", "image as the network sees it", optional=True
    ),
    "lowest_explanation": _uint8("concept rank y x rgba", "where it is in it", optional=True),
}
"""What galleries have of neurons that are no concepts: presences are then their activations."""

GALLERY = Schema(
    name="gallery",
    version=1,
    title="The images in which each concept is strongest, and where it is in them",
    coords={
        "concept": CONCEPT,
        "rank": _int64("rank", "position by presence, from 0"),
        "class": CLASS,
        **PIXELS,
    },
    variables={
        **RANKED,
        "label": _int64("concept rank", "labelled class; -1 where there is none"),
        "prediction": _int64("concept rank", "predicted class; -1 for no image"),
        "picture": _uint8("concept rank y x colour", "image as the network sees it"),
        "explanation": _uint8(
            "concept rank y x rgba", "colours that the concept looks for", optional=True
        ),
        **MAPS_BY,
        **_OF_NEURONS,
        **EXACT,
    },
    sharded_along="concept",
    references=FACT + ", sections 3.3 and 4",
)

DECISIONS = Schema(
    name="decisions",
    version=1,
    title="Logits as sums of the contributions of concepts",
    coords={
        "image": IMAGE,
        "class": CLASS,
        "rank": _int64("rank", "position by contribution, from 0"),
        **PIXELS,
    },
    variables={
        "logit": _float32("image", "logit of the target before the bias"),
        **CLASS_OF_IMAGE,
        **EXPLAINED,
        **EXACT,
        **MAPS_BY,
        "top_concept": _int64("image rank", "index of the concept; -1 where fewer contribute"),
        "contribution": _float32("image rank", "contribution to the logit"),
        "share": _float32("image rank", "contribution over all that speaks for the logit"),
        "others": _float32("image", "contributions of all other concepts"),
        "others_share": _float32("image", "positive part of it, over the same"),
        "against_share": _float32("image", "all that speaks against it, over the same"),
        "offset": _float32("image", "what the decoder's bias gives to the logit", optional=True),
        "offset_share": _float32("image", "positive part of it, over the same", optional=True),
        "picture": _uint8("image y x colour", "image as the network sees it"),
        "logit_explanation": _uint8("image y x rgba", "colours behind the logit"),
        "explanation": _uint8("image rank y x rgba", "colours behind the contribution"),
        "others_explanation": _uint8("image y x rgba", "colours behind all other concepts"),
        "logit_map": _float32("image y x", "what pixels give to the logit"),
        "concept_map": _float32("image rank y x", "what pixels give through the concept"),
        "others_map": _float32("image y x", "what pixels give through all other concepts"),
    },
    references=FACT + ", section 4",
)

ENCODINGS = Schema(
    name="encodings",
    version=1,
    title="What a foundation model sees where each concept is, in the images it is strongest in",
    coords={"sample": _int64("sample", "index of the encoding"), "concept": CONCEPT},
    variables={
        "encoding": _float32(
            "sample channel",
            "mean feature under the positive part of the map; NaN where that is empty",
        ),
        "map": _text("sample", "what the map is of: concept, whole (image), random"),
        "group": _int64("sample", "concept of the map, or class of a random one; -1 for whole"),
        "image": _text("sample", "image: split and relative path"),
        "presence": _float32(
            "sample", "presence of the concept; sum of a random map; NaN for whole"
        ),
        "pixels": _int64("sample", "pixels that hold 80 % of the map"),
        "concept_name": _text("concept", "name of the concept", optional=True),
        "concept_class": _text("concept", "class of the concept", optional=True),
        "class_name": _text("class", "names of the classes that random maps are of", optional=True),
        "threshold": _float64(
            "concept", "presence of the weakest chosen images; NaN where none was"
        ),
        "published_threshold": _float64(
            "concept",
            "presence above which the published code chooses; NaN where there is none",
            optional=True,
        ),
        "n_images": _int64("", "number of images"),
        "n_encodings": _int64("", "number of pairs of image and concept"),
        "n_empty": _int64("", "pairs whose map has no positive part"),
        "variant": _text("", "encoder, up-sampler, choice of images"),
    },
    references=FACT + ", section 5",
    sharded_along="sample",
    first=("n_encodings", "n_images"),
)

CRAFT = Schema(
    name="craft",
    version=1,
    title="Concepts of each class, by factorisation of the activations of crops",
    coords={"concept": CONCEPT},
    variables={
        "basis": _float32("concept channel", "activations of one unit of it"),
        "concept_name": _text("concept", "class, slash, and number in the class"),
        "concept_class": _text("concept", "class of the concept"),
        "error": _float64(
            "concept",
            "norm of what the concepts of its class leave of the activations, over their norm",
        ),
        "iterations": _int64("concept", "iterations of its class's factorisation"),
        "crops": _int64("concept", "crops of its class"),
        "n_classes": _int64("", "number of classes with concepts"),
        "per_class": _int64("", "concepts of each class"),
        "variant": _text("", "layer and size of crops"),
    },
    references="Fel et al., CRAFT, CVPR 2023, arXiv 2211.10154; " + FACT + ", section 5",
    sharded_along="concept",
)

MAPS = Schema(
    name="maps",
    version=1,
    title="Where each concept is, in a few of the images that it is present in",
    coords={"concept": CONCEPT, "rank": _int64("rank", "position by presence, from 0")},
    variables={
        **RANKED,
        "map": _float32("concept rank y x", "part of each cell in the presence"),
        "cell": _int64("", "side of a cell, in pixels of the image as the network sees"),
        **MAPS_BY,
        **EXACT,
        "n_concepts": _int64("", "number of concepts"),
    },
    references=FACT + ", section 3.3",
    sharded_along="concept",
    first=("n_concepts",),
)

MASKS = Schema(
    name="masks",
    version=1,
    title="Where the labelled objects of images are",
    coords=LABELLED,
    variables={
        "mask": _bool("image object y x", "cells that are at least half in the object"),
        "carries": _bool("image object label", "labels of the object"),
        "n_images": _int64("", "number of images"),
    },
    sharded_along="image",
    first=("n_images",),
)


_CURVE, _AREA = "curve order step", "curve order"
_ENDS = {
    "low": _float64("", "lower end of its interval of 95 %"),
    "high": _float64("", "upper end of its interval of 95 %"),
}


def _measured(name: str, what: str) -> dict[str, Variable]:
    """Return a curve over images with its area, each with an interval of 95 %."""
    ends = {"": "", "_low": "; lower end of its interval", "_high": "; upper end of its interval"}
    curves = {f"{name}{e}": _float64(_CURVE, f"mean {what}{t}") for e, t in ends.items()}
    areas = {
        f"{name}_area{e}": _float64(_AREA, f"area under the curve of {what}{t}")
        for e, t in ends.items()
    }
    return curves | areas


INTERVENTION = Schema(
    name="intervention",
    version=1,
    title="What a network does when concepts are taken away, against what was promised",
    coords={
        "image": IMAGE,
        "curve": _text("curve", "deletion, from all concepts; insertion, from none"),
        "order": _text("order", "in which concepts are taken"),
        "step": _int64("step", "step of the curve, from 0"),
        "rank": _int64("rank", "position by contribution, from 0"),
        "quantile": _float64("quantile", "share of the errors below"),
    },
    variables={
        "share": _float64("step", "share of an image's concepts moved by the step"),
        "promised_logit": _float64(
            _CURVE, "mean logit of the target if the dynamic weights were frozen"
        ),
        **_measured("logit", "logit of the target, before the bias"),
        **_measured("probability", "probability of the target, by softmax"),
        **_measured("accuracy", "accuracy"),
        "target": _int64("image", "index of the class that is looked at"),
        "removed": _int64("image rank", "concept taken away alone; -1 where there are fewer"),
        "promised_change": _float64(
            "image rank", "change of the logit by frozen weights; NaN for none"
        ),
        "measured_change": _float64(
            "image rank", "change of the logit when the network is run again"
        ),
        "error_quantile": _float64("quantile", "measured less promised change"),
        "correlation": _float64("", "correlation of measured and promised changes"),
        **{f"correlation_{end}": variable for end, variable in _ENDS.items()},
        "slope": _float64("", "least-squares slope of measured on promised changes"),
        **{f"slope_{end}": variable for end, variable in _ENDS.items()},
        "relative_error": _float64(
            "", "mean absolute error of changes over the mean absolute promise"
        ),
        "n_images": _int64("", "number of images"),
        "scale": _float64("", "factor of concepts that are taken away"),
        **EXACT,
    },
    references=FACT + ", section 3; Petsiuk et al., RISE, BMVC 2018, section 4",
    first=("correlation", "slope", "relative_error"),
)


def _with_ends(name: str, what: str) -> dict[str, Variable]:
    """Return a scalar with its interval of 95 %, by bootstrap over images."""
    return {
        name: _float64("", what),
        f"{name}_low": _float64("", "lower end of its interval of 95 %"),
        f"{name}_high": _float64("", "upper end of its interval of 95 %"),
    }


FIDELITY = Schema(
    name="fidelity",
    version=1,
    title="What a network says with concepts in a layer's place, and how dense they are",
    coords={
        "image": IMAGE,
        "case": _text("case", "network: as it is; spliced: with concepts; ablated: with neither"),
        "concept": CONCEPT,
    },
    variables={
        "kl_divergence": _float64(
            "image case", "Kullback-Leibler divergence from the network's distribution, in nats"
        ),
        "cross_entropy": _float64("image case", "cross-entropy of the label, in nats"),
        "prediction": _int64("image case", "index of the predicted class"),
        "label": _int64("image", "index of the labelled class; -1 where there is none"),
        "position_density": _float64("concept", "share of positions where it is active"),
        "image_density": _float64("concept", "share of images where it is active somewhere"),
        **_with_ends("kl", "mean divergence of the spliced network, in nats"),
        "ablated_kl": _float64("", "mean divergence of the ablated network, in nats"),
        **_with_ends("kl_recovered", "1 - spliced over ablated divergence"),
        "network_ce": _float64("", "mean cross-entropy of the network itself, in nats"),
        "ce": _float64("", "mean cross-entropy of the spliced network, in nats"),
        "ablated_ce": _float64("", "mean cross-entropy of the ablated network, in nats"),
        **_with_ends(
            "ce_recovered", "(ablated - spliced) over (ablated - network's) cross-entropy"
        ),
        **_with_ends("agreement", "share of images with the network's own prediction, spliced"),
        "network_accuracy": _float64(
            "", "accuracy of the network itself on images with a label", of=_OF_SPLIT
        ),
        "accuracy": _float64("", "accuracy of the spliced network on these", of=_OF_SPLIT),
        "ablated_accuracy": _float64("", "accuracy of the ablated network on these", of=_OF_SPLIT),
        "normalised_mse": _float64(
            "", "squared error of the reconstruction over that of giving the mean, at all positions"
        ),
        "explained_variance": _float64("", "share of variance explained, at all positions"),
        "l0": _float64("", "mean number of concepts active at a position"),
        "dead_concepts": _int64("", "concepts active at no position"),
        "dense_concepts": _int64("", "concepts active at over 10 % of the positions"),
        "n_concepts": _int64("", "number of concepts"),
        "n_positions": _int64("", "number of positions"),
        "n_images": _int64("", "number of images"),
        "n_labelled": _int64("", "images with a label among the logits"),
        **COMMONEST_SHARE,
        "n_without_concepts": _int64("", "images left out, of a class without concepts"),
        "n_fitted": _int64("", "images that the concepts were fitted on", optional=True),
        "n_omitted": _int64(
            "", "images left out, since the concepts were fitted on them", optional=True
        ),
        "ablation": _text("", "what stands in the ablated layer's place: zero or mean"),
    },
    references="Gao et al., Scaling and evaluating sparse autoencoders, arXiv 2406.04093, section "
    "4; Bricken et al., Towards Monosemanticity, Transformer Circuits Thread, 2023",
    first=("agreement", "accuracy", "kl_recovered"),
)
