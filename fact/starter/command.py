"""The command ``factbook init``: a declaration of the whole chain, from what there is."""

from __future__ import annotations

import os
import sys
import tomllib
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

import click

from registry.declare.declaration import FILE_NAME, parse_declaration
from registry.suggest import RefusalError, needs_extras
from registry.wording import counted, verb

if TYPE_CHECKING:
    from fact.data.folder import FolderImages, Layout
    from fact.starter.chain import Choices, WordChoice
    from fact.starter.look import FolderLook

LABELS = "labels.csv"
OWN = "train"
READY = "efficientnet-lite0"
"""A trained network that comes with a package, for images of which nothing can be learnt."""

QUESTION = (
    "Network: train (one of ours), bcos:NAME, torchvision:NAME, timm:NAME, efficientnet-lite0, a "
    "file, python:MODULE:FUNCTION"
)


class NoBeginningError(RefusalError):
    """What a project cannot begin with."""


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option("--images", type=click.Path(path_type=Path), help="Folder of images.")
@click.option(
    "--labels",
    type=click.Path(path_type=Path),
    help="CSV of labels: a column `image`, paths inside the folder, and one for each label.",
)
@click.option(
    "--network",
    help="train (default), bcos:NAME, torchvision:NAME[:WEIGHTS], timm:NAME, "
    "efficientnet-lite0, FILE, or python:MODULE:FUNCTION. WEIGHTS may be a file.",
)
@click.option("--sae", metavar="[FORMAT:]FILE", help="An SAE of that network, from elsewhere.")
@click.option(
    "--sae-key",
    "sae_keys",
    multiple=True,
    metavar="KEY=VALUE",
    help="What its file does not say, as activation=topk, k=32.",
)
@click.option("--words", help="Words to name concepts by: a file, or 'a wheel, fur'.")
@click.option("--words-model", help="Scores them: a name in open_clip, or a local folder.")
@click.option("--layer", help="Layer whose features are explained.")
@click.option(
    "--classes",
    metavar="LIST|FILE",
    help="Names of the network's classes: a known list, as imagenet, or a file, one a line.",
)
@click.option(
    "--layout",
    type=click.Choice(["auto", "splits", "classes", "flat"]),
    default="auto",
    help="Whether folders are splits or classes; flat: no classes.",
)
@click.option("--list", "lists", multiple=True, metavar="SPLIT=FILE", help="Of a flat split.")
def init(
    images: Path | None,
    labels: Path | None,
    network: str | None,
    sae: str | None,
    sae_keys: tuple[str, ...],
    words: str | None,
    words_model: str | None,
    layer: str | None,
    classes: str | None,
    layout: Layout,
    lists: tuple[str, ...],
) -> None:
    """Write a declaration of the whole chain, images to named concepts.

    Looks at a folder of images, which has a folder for each class or holds images alone, and writes
    experiments.toml into the current folder, with comments and with choices that suit so many
    images. On a terminal, it asks for what no option says. `factbook run` then runs it all.
    """
    if os.path.lexists(FILE_NAME):
        raise already_here(Path(FILE_NAME))
    asks = is_asked()
    if images is None and not asks:
        raise NoBeginningError("a folder of images is needed: --images FOLDER")
    images = images or Path(click.prompt("Folder of images, one folder in it for each class"))
    if network is None and asks:
        network = click.prompt(QUESTION, default=OWN)
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())  # where modules of one's own lie
    with needs_extras():
        from fact.data.images import ImageDataError
        from fact.starter.chain import UNCALIBRATED, lacks_calibration
        from fact.starter.look import UnusableImagesError, look_at

        try:
            look = look_at(images.expanduser(), layout, _pairs("--list", lists, "val=val.txt"))
        except (ImageDataError, UnusableImagesError) as error:
            raise NoBeginningError(str(error)) from error
        labelled = None if labels is None else _labelled(look, labels)
        _tell(look)
        if labelled is not None:
            click.echo(f"  {nameable_labels(labelled, look.test)}")
        keys = _pairs("--sae-key", sae_keys, "k=32")
        choices = _choices(look, network, (sae, keys), layer, classes)
        for note in (choices.network.note, choices.sae.note if choices.sae else ""):
            if note:
                click.echo(f"  {note}")
        given = None if labels is None else str(labels)
        choices = replace(choices, words=_words(words, words_model), labels=given)
        if choices.words and lacks_calibration(choices.words):
            click.echo(f"  Before it runs, [networks.image-text] needs more. {UNCALIBRATED}")
        _write(look, images, choices)


MOST_NAMED = 6
TABLES = {"datasets": "dataset", "networks": "network", "experiments": "experiment"}


def already_here(path: Path) -> NoBeginningError:
    """Return what to say where a declaration is there already: what is in it, and what to do."""
    here = f"{path.name} is here already"
    kept = "Nothing was written. To begin anew, do so in another folder."
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        return NoBeginningError(f"{here}, and cannot be read: {error}. {kept}")
    named = {what: tables.get(table) for table, what in TABLES.items()}
    held = {what: list(own) for what, own in named.items() if isinstance(own, dict) and own}
    names = held.get("experiment", [])
    found = ", ".join(counted(len(own), what) for what, own in held.items()) or "nothing declared"
    if names:
        more = ["…"] * (len(names) > MOST_NAMED)
        found += f" ({', '.join([*names[:MOST_NAMED], *more])})"
    command = "factbook plan" if names else ""
    what_next = f"; {command} says what of it would run" if command else ""
    return NoBeginningError(f"{here}, with {found}{what_next}. {kept}", command=command)


def _labelled(look: FolderLook, labels: Path) -> FolderImages:
    """Return the images with a table of labels, refused if it is not one of these images."""
    from fact.data.images import ImageDataError

    try:
        return replace(look.folder, labels=str(labels)).load()
    except ImageDataError as error:
        raise NoBeginningError(str(error)) from error


def nameable_labels(images: FolderImages, split: str) -> str:
    """Return how many labels of a table are there often enough to name a concept.

    Parameters
    ----------
    images : FolderImages
        With a table of labels.
    split : str
        The images that names are chosen and scored on, a half each.
    """
    from fact.data.folder import FEW

    table = images.concepts(split)
    own = [label for label in table["label"].values.astype(str) if not label.startswith("class:")]
    counts = table.sel(label=own).sum("image").values
    enough = int((counts >= FEW).sum())
    return (
        f"{enough} of the {counted(len(own), 'label')} {verb(enough, 'is', 'are')} true of {FEW} "
        "test images, without which a label names nothing."
    )


def is_asked() -> bool:
    """Whether somebody is there to answer."""
    return sys.stdin.isatty()


def _pairs(option: str, given: tuple[str, ...], example: str) -> dict[str, str]:
    pairs = [text.partition("=") for text in given]
    if wrong := [text for text, (_, sign, _) in zip(given, pairs, strict=True) if not sign]:
        raise NoBeginningError(f"{option} {wrong[0]}; expected it as {example}")
    return {key: value for key, _, value in pairs}


def _tell(look: FolderLook) -> None:
    from fact.starter.chain import what_to_expect

    heights, widths = look.sizes.min(axis=0), look.sizes.max(axis=0)
    classes = f"{len(look.images.classes)} classes" if look.has_classes else "no classes"
    click.echo(
        f"{look.folder.root}: {classes}; images of {heights[1]} x "
        f"{heights[0]} to {widths[1]} x {widths[0]} pixels"
    )
    if others := passed_over(look.images.ignored):
        click.echo(f"  passed over, of types that are not read: {others}")
    for path, reason in list(look.broken.items())[:10]:
        click.echo(f"  broken: {path}: {reason}")
    if len(look.broken) > 10:
        click.echo(f"  … and {len(look.broken) - 10} more broken images")
    for sentence in what_to_expect(look):
        click.echo(f"  {sentence}")


def passed_over(names: Iterable[str]) -> str:
    """Return how many files of each type lie among the images and are none, "" if there are none.

    Parameters
    ----------
    names : iterable of str
        Paths of what was left out. Hidden files and folders do not count.
    """
    types = [path.suffix.lower() for path in map(PurePath, names) if not path.name.startswith(".")]
    counts = Counter(filter(None, types)).most_common()
    told = [f"{number} {suffix}" for suffix, number in counts[:5]]
    rest = sum(number for _, number in counts[5:])
    return ", ".join([*told, *([counted(rest, "other")] if rest else [])])


def _choices(
    look: FolderLook,
    network: str | None,
    sae: tuple[str | None, dict[str, str]],
    layer: str | None,
    classes: str | None,
) -> Choices:
    """Return the network and the SAE that words mean."""
    from fact.starter.chain import OURS, Choices, SAEChoice

    word, keys = sae
    if network is None:
        network = OWN if look.has_classes else READY
    if network == OWN:
        if word is not None:
            raise NoBeginningError("name the network that the SAE was trained on: --network")
        if not look.has_classes:
            raise NoBeginningError(
                f"nothing can be learnt of images without classes; name a network, as {READY}"
            )
        return Choices(OURS)
    from fact.starter.networks import choose_network, choose_sae  # with torch: seconds

    try:
        if word is None:
            return Choices(choose_network(network, layer, classes, look))
        values = {key: _value(text) for key, text in keys.items()}
        found, settings = choose_sae(word, values)
        chosen = choose_network(network, layer, classes, look, found)
    except ValueError as error:
        raise NoBeginningError(str(error)) from error
    n_concepts, channels = found.encoder.shape
    note = (
        f"{counted(n_concepts, 'concept')}, {found.activation}, of {counted(channels, 'channel')} "
        f"of {chosen.layer}."
    )
    return Choices(chosen, SAEChoice(settings, note))


def _value(text: str) -> Any:
    """Return a value as TOML has it: a number, else the text itself."""
    with suppress(tomllib.TOMLDecodeError):
        return tomllib.loads(f"value = {text}")["value"]
    return text


def _words(words: str | None, model: str | None) -> WordChoice | None:
    from fact.starter.chain import WordChoice

    if words is None:
        return None
    if Path(words).is_file():
        listed: dict[str, Any] = {"file": words}
    else:
        listed = {"words": [word.strip() for word in words.split(",") if word.strip()]}
    named = {} if model is None else {"folder" if Path(model).is_dir() else "model": model}
    return WordChoice(listed, named)


def _write(look: FolderLook, root: Path, choices: Choices) -> None:
    from fact.starter.chain import chain_text

    if is_own := bool(look.inner_folders) and not choices.labels:
        if Path(LABELS).exists():
            raise NoBeginningError(
                f"{LABELS} is here already: name it by --labels {LABELS}, or begin elsewhere"
            )
        choices = replace(choices, labels=LABELS)
    text = chain_text(look, _declared(root), choices)
    parse_declaration(text, Path(FILE_NAME).absolute())  # every fault before anything is written
    if is_own:
        look.write_labels(Path(LABELS))
        click.echo(f"wrote {LABELS}: labels by folders inside the classes")
    try:
        with Path(FILE_NAME).open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:  # written by somebody else meanwhile
        raise already_here(Path(FILE_NAME)) from None
    click.echo(f"wrote {FILE_NAME}\n")
    click.echo("factbook plan         what would run, and why")
    click.echo("factbook run          run it, from images to named concepts")
    click.echo("factbook dashboard    look at it")


def _declared(root: Path) -> str:
    """Return the folder as it is declared: relative if it lies here."""
    whole = Path(os.path.abspath(root.expanduser()))
    here = Path.cwd()
    return str(whole.relative_to(here)) if whole.is_relative_to(here) else str(whole)
