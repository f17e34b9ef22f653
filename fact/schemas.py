"""What each dataset of ``fact`` holds: dimensions, types, units. The door to ``evals``.

An image is named everywhere by its split and relative path, as ``test/00042``. Logits are taken
before the network's bias. Source of the quantities: Parchami-Araghi et al., "FaCT", NeurIPS 2025,
arXiv 2510.25512.
"""

from __future__ import annotations

from registry import Schema, Variable

FACT = (
    "Parchami-Araghi et al., FaCT: Faithful Concept Traces for Explaining Neural Network "
    "Decisions, NeurIPS 2025, arXiv 2510.25512"
)


def _share(long_name: str) -> Variable:
    return Variable((), "float", long_name, units="1")


IMAGE = Variable(("image",), "str", "image: split and relative path")
CLASS = Variable(("class",), "str", "name of the class")
CONCEPT = Variable(("concept",), "int64", "index of the concept")
LOGIT = Variable(("image", "class"), "float32", "logit before the bias")
CLASS_OF_IMAGE = {
    "label": Variable(("image",), "int64", "index of the labelled class; -1 where there is none"),
    "prediction": Variable(("image",), "int64", "index of the predicted class"),
}

NETWORK = Schema(
    name="network",
    version=1,
    title="A trained network and its logits on the test images",
    coords={"image": IMAGE, "class": CLASS},
    variables={
        "logit": LOGIT,
        **CLASS_OF_IMAGE,
        "loss": Variable(("pass",), "float", "mean training loss of the epoch"),
        "test_accuracy": _share("accuracy on the test images"),
        "parameters": Variable((), "int64", "number of trained parameters"),
    },
    references="Boehle et al., B-cos Networks: Alignment is All We Need for Interpretability, "
    "CVPR 2022, arXiv 2205.10268",
)

FEATURES = Schema(
    name="features",
    version=1,
    title="Feature vectors of a layer, drawn by their importance for the predicted class",
    coords={"sample": Variable(("sample",), "int64", "index of the sample")},
    variables={
        "feature": Variable(("sample", "channel"), "float32", "feature vector"),
        "image": Variable(("sample",), "str", "image of the sample"),
        "row": Variable(("sample",), "int32", "row in the layer's map; 0 for tokens off a grid"),
        "column": Variable(("sample",), "int32", "column in the layer's map, or token"),
        "importance": Variable(
            ("sample",), "float32", "|sum over channels of feature times gradient of the logit|"
        ),
        "root_mean_square": Variable((), "float", "root of the mean squared norm of the samples"),
        "n_samples": Variable((), "int64", "number of samples"),
        "n_images": Variable((), "int64", "number of images with a sample"),
        "n_held_out": Variable((), "int64", "number of images held out"),
    },
    references=FACT,
    sharded_along="sample",
)

SAE = Schema(
    name="sae",
    version=1,
    title="A bias-free TopK sparse autoencoder",
    coords={"concept": CONCEPT, "step": Variable(("step",), "int64", "update, from 0")},
    variables={
        "encoder": Variable(("concept", "channel"), "float32", "encoder weights"),
        "decoder": Variable(("channel", "concept"), "float32", "decoder weights, unit columns"),
        "reconstruction_loss": Variable(
            ("step",), "float", "mean squared error of scaled samples, summed over channels"
        ),
        "auxiliary_loss": Variable(("step",), "float", "loss of the dead concepts' reconstruction"),
        "explained_variance": Variable(("step",), "float", "share of variance explained"),
        "dead": Variable(("step",), "int64", "concepts that have not fired for half an epoch"),
        "held_out_accuracy": Variable(
            ("evaluation",), "float", "accuracy of the spliced network on the held-out images"
        ),
        "evaluated_step": Variable(("evaluation",), "int64", "updates made at the evaluation"),
        "k": Variable((), "int64", "active concepts per position"),
        "scale": Variable((), "float", "number by which the samples were divided in training"),
        "best_step": Variable((), "int64", "updates made by the kept weights"),
        "best_accuracy": _share("best accuracy of the spliced network on the held-out images"),
        "network_accuracy": _share("accuracy of the network itself on the held-out images"),
        "final_explained_variance": _share("share of variance explained in the last epoch"),
        "final_dead": Variable((), "int64", "dead concepts at the end"),
        "never_firing": Variable((), "int64", "concepts that never fired in the last epoch"),
        "always_active": Variable((), "int64", "concepts in at least 60 % of the last epoch"),
    },
    references=FACT + "; Gao et al., Scaling and evaluating sparse autoencoders, arXiv 2406.04093",
)

CONCEPTS = Schema(
    name="concepts",
    version=1,
    title="Presence and exact contribution of every concept in every image",
    coords={"image": IMAGE, "class": CLASS, "concept": CONCEPT},
    variables={
        "presence": Variable(("image", "concept"), "float32", "sum of the concept's activations"),
        "contribution": Variable(
            ("image", "concept"), "float32", "contribution to the target's logit"
        ),
        "logit": LOGIT,
        **CLASS_OF_IMAGE,
        "network_prediction": Variable(
            ("image",), "int64", "index of the class that the network alone predicts"
        ),
        "target": Variable(("image",), "int64", "index of the class that is explained"),
        "residual": Variable(
            ("image",),
            "float32",
            "|sum of contributions - logit| over the sum of absolute contributions",
        ),
        "input_residual": Variable(
            ("image",), "float32", "|sum of the presences' map - presences| over the presences"
        ),
        "position_share": Variable(
            ("image",),
            "float32",
            "share of the presences that comes through the positional embedding",
            optional=True,
        ),
        "residual_energy": Variable(
            ("image",), "float32", "norm of feature minus reconstruction, mean over positions"
        ),
        "image_share": Variable(("concept",), "float", "share of images where it is present"),
        "contributing_share": Variable(
            ("concept",), "float", "share of images where its contribution is not 0"
        ),
        "mean_contribution": Variable(("concept",), "float", "mean contribution over images"),
        "coverage": Variable(
            ("rank",), "float", "mean share of positive contribution in the strongest concepts"
        ),
        "accuracy": _share("accuracy of the spliced network"),
        "network_accuracy": _share("accuracy of the network itself"),
        "image_l0": Variable((), "float", "mean number of concepts present in an image"),
        "concepts_for_80": Variable(
            (), "float", "mean number of concepts that cover 80 % of the positive contribution"
        ),
        "alive_share": _share("share of concepts with a contribution in some image"),
        "common_concepts": Variable((), "int64", "concepts contributing in over 85 % of images"),
        "common_share": _share("their joint share of the positive contribution"),
        "residual_mean": _share("mean residual"),
        "residual_std": _share("standard deviation of the residual"),
        "residual_max": _share("largest residual"),
        "input_residual_max": _share("largest residual at the input"),
    },
    references=FACT + ", sections 3 and 4",
    sharded_along="image",
)

ACTIVATIONS = Schema(
    name="activations",
    version=1,
    title="Activations of neurons in every image",
    coords={
        "image": IMAGE,
        "neuron": Variable(("neuron",), "int64", "index of the neuron"),
    },
    variables={
        "activation": Variable(("image", "neuron"), "float32", "activation of the neuron"),
        "name": Variable(("neuron",), "str", "name of the neuron"),
        "right_concept": Variable(
            ("neuron",), "str", 'label that is the neuron\'s known concept; "" where unknown'
        ),
        "variant": Variable((), "str", "layer, pooling, transform"),
        "n_images": Variable((), "int64", "number of images"),
        "n_neurons": Variable((), "int64", "number of neurons"),
        "n_known": Variable((), "int64", "number of neurons whose concept is known"),
    },
    references="Oikarinen et al., Evaluating Neuron Explanations: A Unified Framework with "
    "Sanity Checks, ICML 2025, arXiv 2506.05774, section 2",
    sharded_along="image",
)

LABELS = Schema(
    name="labels",
    version=1,
    title="What every image shows",
    coords={
        "image": IMAGE,
        "label": Variable(("label",), "str", "name of the label: group and value"),
    },
    variables={
        "value": Variable(
            ("image", "label"), "float32", "0 or 1, or the probability that it is shown"
        ),
    },
    sharded_along="image",
)

PIXELS = {
    "colour": Variable(("colour",), "str", "red, green, blue"),
    "rgba": Variable(("rgba",), "str", "red, green, blue, opacity"),
}

GALLERY = Schema(
    name="gallery",
    version=1,
    title="The images in which each concept is strongest, and where it is in them",
    coords={
        "concept": CONCEPT,
        "rank": Variable(("rank",), "int64", "position by presence, from 0"),
        "class": CLASS,
        **PIXELS,
    },
    variables={
        "image": Variable(("concept", "rank"), "str", 'image; "" where there is none'),
        "presence": Variable(
            ("concept", "rank"), "float32", "sum of the concept's activations; NaN for no image"
        ),
        "label": Variable(("concept", "rank"), "int64", "labelled class; -1 where there is none"),
        "prediction": Variable(("concept", "rank"), "int64", "predicted class; -1 for no image"),
        "picture": Variable(
            ("concept", "rank", "y", "x", "colour"), "uint8", "image as the network sees it"
        ),
        "explanation": Variable(
            ("concept", "rank", "y", "x", "rgba"), "uint8", "colours that the concept looks for"
        ),
    },
    references=FACT + ", sections 3.3 and 4",
)

DECISIONS = Schema(
    name="decisions",
    version=1,
    title="Logits as sums of the contributions of concepts",
    coords={
        "image": IMAGE,
        "class": CLASS,
        "rank": Variable(("rank",), "int64", "position by contribution, from 0"),
        **PIXELS,
    },
    variables={
        "logit": Variable(("image",), "float32", "logit of the target before the bias"),
        **CLASS_OF_IMAGE,
        "target": Variable(("image",), "int64", "index of the class that is explained"),
        "residual": Variable(
            ("image",),
            "float32",
            "|sum of contributions - logit| over the sum of absolute contributions",
        ),
        "top_concept": Variable(
            ("image", "rank"), "int64", "index of the concept; -1 where fewer contribute"
        ),
        "contribution": Variable(("image", "rank"), "float32", "contribution to the logit"),
        "share": Variable(
            ("image", "rank"), "float32", "contribution over all positive contributions"
        ),
        "others": Variable(("image",), "float32", "contributions of all other concepts"),
        "others_share": Variable(("image",), "float32", "positive part of it, over the same"),
        "against_share": Variable(("image",), "float32", "negative part of it, over the same"),
        "picture": Variable(("image", "y", "x", "colour"), "uint8", "image as the network sees it"),
        "logit_explanation": Variable(
            ("image", "y", "x", "rgba"), "uint8", "colours behind the logit"
        ),
        "explanation": Variable(
            ("image", "rank", "y", "x", "rgba"), "uint8", "colours behind the contribution"
        ),
        "others_explanation": Variable(
            ("image", "y", "x", "rgba"), "uint8", "colours behind all other concepts"
        ),
        "logit_map": Variable(("image", "y", "x"), "float32", "what pixels give to the logit"),
        "concept_map": Variable(
            ("image", "rank", "y", "x"), "float32", "what pixels give through the concept"
        ),
        "others_map": Variable(
            ("image", "y", "x"), "float32", "what pixels give through all other concepts"
        ),
    },
    references=FACT + ", section 4",
)

ENCODINGS = Schema(
    name="encodings",
    version=1,
    title="What a foundation model sees where each concept is, in the images it is strongest in",
    coords={
        "sample": Variable(("sample",), "int64", "index of the encoding"),
        "concept": CONCEPT,
    },
    variables={
        "encoding": Variable(
            ("sample", "channel"),
            "float32",
            "mean feature under the positive part of the map; NaN where that is empty",
        ),
        "map": Variable(("sample",), "str", "what the map is of: concept, whole (image), random"),
        "group": Variable(
            ("sample",), "int64", "concept of the map, or class of a random one; -1 for whole"
        ),
        "image": Variable(("sample",), "str", "image: split and relative path"),
        "presence": Variable(
            ("sample",), "float32", "presence of the concept; sum of a random map; NaN for whole"
        ),
        "pixels": Variable(("sample",), "int64", "pixels that hold 80 % of the map"),
        "concept_name": Variable(("concept",), "str", "name of the concept", optional=True),
        "concept_class": Variable(("concept",), "str", "class of the concept", optional=True),
        "class_name": Variable(
            ("class",), "str", "names of the classes that random maps are of", optional=True
        ),
        "threshold": Variable(
            ("concept",), "float64", "presence of the weakest chosen images; NaN where none was"
        ),
        "n_images": Variable((), "int64", "number of images"),
        "n_encodings": Variable((), "int64", "number of pairs of image and concept"),
        "n_empty": Variable((), "int64", "pairs whose map has no positive part"),
        "variant": Variable((), "str", "encoder, up-sampler, choice of images"),
    },
    references=FACT + ", section 5",
    sharded_along="sample",
)

CRAFT = Schema(
    name="craft",
    version=1,
    title="Concepts of each class, by factorisation of the activations of crops",
    coords={"concept": CONCEPT},
    variables={
        "basis": Variable(("concept", "channel"), "float32", "activations of one unit of it"),
        "concept_name": Variable(("concept",), "str", "class, slash, and number in the class"),
        "concept_class": Variable(("concept",), "str", "class of the concept"),
        "error": Variable(
            ("concept",),
            "float64",
            "norm of what the concepts of its class leave of the activations, over their norm",
        ),
        "iterations": Variable(("concept",), "int64", "iterations of its class's factorisation"),
        "crops": Variable(("concept",), "int64", "crops of its class"),
        "n_classes": Variable((), "int64", "number of classes with concepts"),
        "per_class": Variable((), "int64", "concepts of each class"),
        "variant": Variable((), "str", "layer and size of crops"),
    },
    references="Fel et al., CRAFT, CVPR 2023, arXiv 2211.10154; " + FACT + ", section 5",
    sharded_along="concept",
)

MAPS = Schema(
    name="maps",
    version=1,
    title="Where each concept is, in a few of the images that it is present in",
    coords={
        "concept": CONCEPT,
        "rank": Variable(("rank",), "int64", "position by presence, from 0"),
    },
    variables={
        "image": Variable(("concept", "rank"), "str", 'image; "" where there is none'),
        "presence": Variable(
            ("concept", "rank"), "float32", "sum of the concept's activations; NaN for no image"
        ),
        "map": Variable(
            ("concept", "rank", "y", "x"), "float32", "part of each cell in the presence"
        ),
        "cell": Variable((), "int64", "side of a cell, in pixels of the image as the network sees"),
        "n_concepts": Variable((), "int64", "number of concepts"),
    },
    references=FACT + ", section 3.3",
    sharded_along="concept",
)

MASKS = Schema(
    name="masks",
    version=1,
    title="Where the labelled objects of images are",
    coords={
        "image": IMAGE,
        "label": Variable(("label",), "str", "name of the label: group and value"),
    },
    variables={
        "mask": Variable(
            ("image", "object", "y", "x"), "bool", "cells that are at least half in the object"
        ),
        "carries": Variable(("image", "object", "label"), "bool", "labels of the object"),
        "n_images": Variable((), "int64", "number of images"),
    },
    sharded_along="image",
)


_CURVE, _AREA = ("curve", "order", "step"), ("curve", "order")


def _measured(name: str, what: str) -> dict[str, Variable]:
    """Return a curve over images with its area, each with an interval of 95 %."""
    ends = {"": "", "_low": "; lower end of its interval", "_high": "; upper end of its interval"}
    curves = {f"{name}{e}": Variable(_CURVE, "float64", f"mean {what}{t}") for e, t in ends.items()}
    areas = {
        f"{name}_area{e}": Variable(_AREA, "float64", f"area under the curve of {what}{t}")
        for e, t in ends.items()
    }
    return curves | areas


INTERVENTION = Schema(
    name="intervention",
    version=1,
    title="What a network does when concepts are taken away, against what was promised",
    coords={
        "image": IMAGE,
        "curve": Variable(("curve",), "str", "deletion, from all concepts; insertion, from none"),
        "order": Variable(("order",), "str", "in which concepts are taken"),
        "step": Variable(("step",), "int64", "step of the curve, from 0"),
        "rank": Variable(("rank",), "int64", "position by contribution, from 0"),
        "quantile": Variable(("quantile",), "float64", "share of the errors below"),
    },
    variables={
        "share": Variable(("step",), "float64", "share of an image's concepts moved by the step"),
        "promised_logit": Variable(
            _CURVE, "float64", "mean logit of the target if the dynamic weights were frozen"
        ),
        **_measured("logit", "logit of the target, before the bias"),
        **_measured("probability", "probability of the target, by softmax"),
        **_measured("accuracy", "accuracy"),
        "target": Variable(("image",), "int64", "index of the class that is looked at"),
        "removed": Variable(
            ("image", "rank"), "int64", "concept taken away alone; -1 where there are fewer"
        ),
        "promised_change": Variable(
            ("image", "rank"), "float64", "change of the logit by frozen weights; NaN for none"
        ),
        "measured_change": Variable(
            ("image", "rank"), "float64", "change of the logit when the network is run again"
        ),
        "error_quantile": Variable(("quantile",), "float64", "measured less promised change"),
        "correlation": Variable((), "float64", "correlation of measured and promised changes"),
        "correlation_low": Variable((), "float64", "lower end of its interval of 95 %"),
        "correlation_high": Variable((), "float64", "upper end of its interval of 95 %"),
        "slope": Variable((), "float64", "least-squares slope of measured on promised changes"),
        "slope_low": Variable((), "float64", "lower end of its interval of 95 %"),
        "slope_high": Variable((), "float64", "upper end of its interval of 95 %"),
        "relative_error": Variable(
            (), "float64", "mean absolute error of changes over the mean absolute promise"
        ),
        "n_images": Variable((), "int64", "number of images"),
        "scale": Variable((), "float64", "factor of concepts that are taken away"),
    },
    references=FACT + ", section 3; Petsiuk et al., RISE, BMVC 2018, section 4",
)
