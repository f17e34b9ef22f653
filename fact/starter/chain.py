"""The declaration of a whole chain, from images to named concepts, as commented TOML."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from fact.data.folder import FEW
from fact.networks.calibration import CALIBRATED, uncalibrated
from fact.starter.look import FolderLook
from registry.declare.described import toml, toml_key
from registry.wording import counted, verb

POSITIONS = 64
"""Feature vectors that are drawn from an image."""

UPDATES = 500
"""Of a network that is trained: twice as many make one of stamps hardly better."""

LARGE = 48
"""Pixels of a side from which on a small network halves an image three times, not twice."""


@dataclass(frozen=True)
class NetworkChoice:
    """The network of a chain.

    Attributes
    ----------
    settings : mapping of str to value
        Keys of ``[networks.network]``, ``kind`` among them; empty for one that is trained.
    layer : str
        The layer whose features are explained.
    note : str
        Which classes of the images it does not know; "" where it knows all.
    """

    settings: Mapping[str, Any]
    layer: str
    note: str = ""


@dataclass(frozen=True)
class SAEChoice:
    """An SAE from elsewhere.

    Attributes
    ----------
    settings : mapping of str to value
        Keys of ``[saes.theirs]``.
    note : str
        What it is.
    """

    settings: Mapping[str, Any]
    note: str = ""


@dataclass(frozen=True)
class WordChoice:
    """Words that a model of images and texts scores, as names for concepts.

    Attributes
    ----------
    words : mapping of str to value
        Keys of ``[datasets.words]``.
    model : mapping of str to value
        Keys of ``[networks.image-text]``, its kind left out.
    """

    words: Mapping[str, Any]
    model: Mapping[str, Any]


@dataclass(frozen=True)
class Choices:
    """What a chain is made of beside images.

    Attributes
    ----------
    network : NetworkChoice
        What is explained.
    sae : SAEChoice or None
        None for one that is trained.
    words : WordChoice or None
        None for names by the labels of the images alone.
    labels : str or None
        A file of more labels, as it is declared.
    """

    network: NetworkChoice
    sae: SAEChoice | None = None
    words: WordChoice | None = None
    labels: str | None = None


OURS = NetworkChoice({}, "features.2")
"""A small B-cos network, trained on the images."""


def chain_text(look: FolderLook, root: str, choices: Choices) -> str:
    """Return the declaration.

    Parameters
    ----------
    look : FolderLook
        What there is.
    root : str
        The folder of the images, as it is declared.
    choices : Choices
        What else the chain is made of.
    """
    return "\n".join(_lines(look, root, choices)) + "\n"


def _lines(look: FolderLook, root: str, choices: Choices) -> Iterator[str]:
    yield from _comment(*what_to_expect(look))
    yield ""
    yield from _images(look, root, choices.labels)
    yield from _network(look, choices.network)
    yield from _given_sae(choices) if choices.sae else _trained_sae(look, choices.network)
    yield from _concepts(look)
    yield from _judgements(look)
    if not choices.sae:
        yield from _stability(look)
    if look.has_classes or choices.labels:
        yield from _names(look, choices.labels)
    if choices.words:
        yield from _word_names(look, choices.words)
    elif not (look.has_classes or choices.labels):
        yield from _comment(
            "No label names the concepts: with a file of words, `factbook init --words words.txt` "
            "writes what scores them for each image; docs/how-to/dataset has it to paste."
        )


def what_to_expect(look: FolderLook) -> Iterator[str]:
    """Yield sentences on what can be learnt from so many images, and what numbers compare with."""
    n_classes = len(look.images.classes)
    if not look.has_classes:
        yield (
            f"{counted(look.n_train, 'image')} to train on, {look.n_test:,} to test on, without "
            "classes."
        )
    else:
        yield from _of_classes(look, n_classes)
    if look.is_small:
        yield (
            "These are few images. Concepts are of a network that has seen little, shares of the "
            f"test images are known to within {100 / math.sqrt(look.n_test):.0f} points, and few "
            "names will be above chance: names and concepts stand beside what chance gives, and "
            "beside another seed. Pages say so; read them before a name."
        )


def _of_classes(look: FolderLook, n_classes: int) -> Iterator[str]:
    yield (
        f"{counted(look.n_train, 'image')} to train on, {look.n_test:,} to test on, {n_classes} "
        "classes. "
        f"Saying {look.most_frequent[0]!r} of every image is right for "
        f"{look.most_frequent[1]:.0%} of those to test on: what a network is right for counts "
        "above that."
    )
    if look.few:
        listed = ", ".join(f"{name} ({count})" for name, count in look.few.items())
        yield f"Classes with fewer than {FEW} images are hardly learnt, nor tested: {listed}."
    left = n_classes - len(look.nameable)
    if left:
        yield (
            f"{len(look.nameable)} of the {n_classes} classes "
            f"{verb(len(look.nameable), 'has', 'have')} the {FEW} test images without "
            "which a label names nothing."
        )


def _comment(*paragraphs: str) -> Iterator[str]:
    """Yield paragraphs as comments of at most 100 letters."""
    for paragraph in paragraphs:
        line = "#"
        for word in paragraph.split():
            if len(line) + 1 + len(word) > 100:
                yield line
                line = "#"
            line += f" {word}"
        yield line


def _table(name: str, values: Mapping[str, Any]) -> Iterator[str]:
    yield f"[{name}]"
    yield from (f"{toml_key(key)} = {toml(value)}" for key, value in values.items())
    yield ""


def _experiment(
    name: str, stage: str, needs: Mapping[str, str], config: Mapping[str, Any] | None = None
) -> Iterator[str]:
    values: dict[str, Any] = {"stage": stage, "needs": needs}
    yield from _table(f"experiments.{name}", values | ({"config": config} if config else {}))


def _images(look: FolderLook, root: str, labels: str | None) -> Iterator[str]:
    values: dict[str, Any] = {"kind": "image-folder", "root": root}
    if look.folder.layout != "auto":
        values["layout"] = look.folder.layout
    if look.folder.lists:
        values["lists"] = look.folder.lists
    if look.folder.test_share != 0.2:
        values["test_share"] = look.folder.test_share
    if labels:
        yield from _comment(f"{labels} has labels of the images, beside classes if there are any.")
        values["labels"] = labels
    if look.broken:
        yield from _comment(
            f"{counted(len(look.broken), 'image is', 'images are')} broken, and left out; to find "
            "them, each stage decodes "
            "all: without them in the folder, leave out on_error."
        )
        values["on_error"] = "skip"
    yield from _table("datasets.images", values)


def _network(look: FolderLook, network: NetworkChoice) -> Iterator[str]:
    if network.settings:
        yield from _comment("The network that is explained.", *filter(None, [network.note]))
        yield from _table("networks.network", network.settings)
        return
    yield from _comment(
        "A small B-cos network, trained on the classes: its concepts add up to its logits exactly."
    )
    config: dict[str, Any] = {}
    if side := look.side():
        config = {"resize": side * 9 // 8, "crop": side}
    if (side or int(look.sizes[0, 0])) >= LARGE:  # as many positions as smaller images have
        config["strides"] = [2, 2, 2]
    # updates count where images are few: some hundreds, in batches that are not all of them
    batch = 32 if look.n_train < 4000 else 128
    epochs = round(UPDATES * batch / look.n_train)
    config |= {"epochs": min(max(epochs, 4), 20), "batch": batch, "flip": True}
    config |= _other("train_split", "train", look.train) | _other("test_split", "test", look.test)
    needs = {"images": "images"}
    yield from _experiment("network", "fact.train_classifier", needs, config)


def _other(key: str, default: str, value: str) -> dict[str, str]:
    return {} if value == default else {key: value}


def _trained_sae(look: FolderLook, network: NetworkChoice) -> Iterator[str]:
    yield from _comment(
        "What a layer puts out where that matters for the prediction, and a sparse autoencoder of "
        "it: its codes are the concepts."
    )
    config = {"layer": network.layer, "samples_per_image": POSITIONS}
    config |= _other("split", "train", look.train)
    needs = {"images": "images", "network": "network"}
    yield from _experiment("features", "fact.collect_features", needs, config)
    sae = sae_settings(look.n_train)
    yield from _experiment("sae", "fact.train_sae", {"features": "features"}, sae)


def _given_sae(choices: Choices) -> Iterator[str]:
    assert choices.sae is not None
    yield from _comment(
        "A sparse autoencoder from elsewhere, held against its layer before anything else: its "
        "codes are the concepts.",
        *filter(None, [choices.sae.note]),
    )
    yield from _table("saes.theirs", choices.sae.settings)
    needs = {"weights": "theirs", "network": "network", "images": "images"}
    config = {"layer": choices.network.layer}
    yield from _experiment("sae", "fact.import_sae", needs, config)


def _concepts(look: FolderLook) -> Iterator[str]:
    test = _other("split", "test", look.test)
    yield from _comment("How much of each concept is in each image, and what it contributes.")
    needs = {"sae": "sae", "images": "images"}
    yield from _experiment("concepts", "fact.measure_concepts", needs, test)
    yield from _comment("Pictures of the concepts, and of decisions.")
    yield from _experiment("gallery", "fact.draw_concepts", {"concepts": "concepts"})
    needs = {"concepts": "concepts", "gallery": "gallery"}
    yield from _experiment("decisions", "fact.explain_decisions", needs)


def sae_settings(n_train: int) -> dict[str, Any]:
    """Return the size of an SAE for so many training images, and its batches.

    Some 300 feature vectors a concept, 32 to 512 concepts; batches so small that an epoch has
    fifty updates.
    """
    samples = POSITIONS * n_train * 4 // 5  # a fifth is held out
    n_concepts = 2 ** min(max(int(math.log2(max(samples / 300, 1))), 5), 9)
    batch = 2 ** min(max(int(math.log2(max(samples / 50, 1))), 6), 12)
    return {"n_concepts": n_concepts, "k": 8 if n_concepts < 256 else 16, "batch": batch}


def _judgements(look: FolderLook) -> Iterator[str]:
    test = _other("split", "test", look.test)
    yield from _comment("What concepts lose of what the network says.")
    needs = {"model": "sae", "images": "images"}
    yield from _experiment("fidelity", "fact.measure_fidelity", needs, test)
    yield from _comment("Is what a concept points at alike to another network? Beside random maps.")
    config = {"side": 96} | ({} if look.n_test <= 1000 else {"n_images": 1000})
    yield from _experiment("encodings", "fact.encode_concepts", {"concepts": "concepts"}, config)
    yield from _experiment("consistency", "evals.measure_consistency", {"encodings": "encodings"})


def _stability(look: FolderLook) -> Iterator[str]:
    test = _other("split", "test", look.test)
    yield from _comment(
        "Which concepts come back under another seed? Those that do not are chance."
    )
    other = sae_settings(look.n_train) | {"seed": 1}
    yield from _experiment("other-sae", "fact.train_sae", {"features": "features"}, other)
    needs = {"sae": "other-sae", "images": "images"}
    yield from _experiment("other-concepts", "fact.measure_concepts", needs, test)
    needs = {"one": "concepts", "other": "other-concepts"}
    yield from _experiment("stability", "evals.match_concepts", needs)


def _names(look: FolderLook, labels: str | None) -> Iterator[str]:
    alpha = 0.1 if look.n_test < 5000 else 0.02
    yield from _comment(
        "Names: the labels of the images, which metrics notice wrong labels here, and for each "
        "concept the best label, chosen on one half of the test images and scored on the other."
    )
    test = _other("split", "test", look.test)
    yield from _experiment("labels", "fact.label_inputs", {"images": "images"}, test)
    needs = {"activations": "concepts", "labels": "labels"}
    config: dict[str, Any] = {"seeds": [0, 1, 2, 3, 4], "alphas": [alpha], "lams": [1.0]}
    yield from _experiment("sanity", "evals.sanity_check", needs, config)
    if labels and look.has_classes:
        yield from _comment(
            "A class explains no decision for it: another label names a concept where it can."
        )
    config = {"alpha": alpha} | ({"prefer": "concepts"} if labels and look.has_classes else {})
    yield from _experiment("names", "evals.name_concepts", needs | {"sanity": "sanity"}, config)


UNCALIBRATED = (
    "How this model's cosines become probabilities is not known: add scale and shift of "
    "sigmoid(scale (cos + shift)), as fitted to it."
)


def lacks_calibration(words: WordChoice) -> bool:
    """Return whether a declaration has to be told how a model's cosines become probabilities."""
    return bool(uncalibrated(words.model.get("model", CALIBRATED), words.model.get("folder")))


def _word_names(look: FolderLook, words: WordChoice) -> Iterator[str]:
    yield from _comment(
        "Names in words of your own: a model of images and texts scores each word for each image. "
        "A score is its opinion, not an annotation."
    )
    yield from _table("datasets.words", {"kind": "words"} | dict(words.words))
    if lacks_calibration(words):
        yield from _comment(UNCALIBRATED)
    yield from _table("networks.image-text", {"kind": "open-clip"} | dict(words.model))
    needs = {"images": "images", "model": "image-text", "words": "words"}
    config = {"template": "a photo of {}"} | _other("split", "test", look.test)
    yield from _experiment("word-labels", "fact.score_labels", needs, config)
    alpha = 0.1 if look.n_test < 5000 else 0.02
    needs = {"activations": "concepts", "labels": "word-labels"}
    yield from _experiment("word-names", "evals.name_concepts", needs, {"alpha": alpha})
