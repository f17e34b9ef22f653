"""The command ``factbook init``: a declaration of the whole chain, from what there is."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from registry.declare.declaration import FILE_NAME, parse_declaration
from registry.suggest import RefusalError, needs_extras

if TYPE_CHECKING:
    from fact.data.folder import Layout
    from fact.starter.chain import NetworkChoice
    from fact.starter.look import FolderLook

LABELS = "labels.csv"
OWN = "train"


class NoBeginningError(RefusalError):
    """What a project cannot begin with."""


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option("--images", type=click.Path(path_type=Path), help="Folder of images.")
@click.option(
    "--network",
    help="train (default), bcos:NAME, torchvision:NAME[:WEIGHTS], timm:NAME, "
    "python:MODULE:FUNCTION, or efficientnet-lite0.",
)
@click.option("--layer", help="Layer whose features are explained.")
@click.option("--classes", help="Names of the network's classes: a list, or a file.")
@click.option(
    "--layout",
    type=click.Choice(["auto", "splits", "classes"]),
    default="auto",
    help="Whether folders are splits or classes.",
)
@click.option("--list", "lists", multiple=True, metavar="SPLIT=FILE", help="Of a flat split.")
def init(
    images: Path | None,
    network: str | None,
    layer: str | None,
    classes: str | None,
    layout: Layout,
    lists: tuple[str, ...],
) -> None:
    """Write a declaration of the whole chain, images to named concepts.

    Looks at a folder of images, which has a folder for each class, and writes experiments.toml into
    the current folder, with comments and with choices that suit so many images. On a terminal, it
    asks for what no option says. `factbook run` then runs it all.
    """
    if Path(FILE_NAME).exists():
        raise NoBeginningError(f"{FILE_NAME} is here already; begin in an empty folder")
    asks = is_asked()
    if images is None and not asks:
        raise NoBeginningError("a folder of images is needed: --images FOLDER")
    images = images or Path(click.prompt("Folder of images, one folder in it for each class"))
    if network is None:
        question = "Network: train (one of ours), bcos:NAME, torchvision:NAME, efficientnet-lite0"
        network = click.prompt(question, default=OWN) if asks else OWN
    with needs_extras():
        from fact.data.images import ImageDataError
        from fact.starter.look import UnusableImagesError, look_at

        try:
            look = look_at(images.expanduser(), layout, _pairs(lists))
        except (ImageDataError, UnusableImagesError) as error:
            raise NoBeginningError(str(error)) from error
        _tell(look)
        chosen = _choice(network, layer, classes, look)
        if chosen.note:
            click.echo(f"  {chosen.note}")
        _write(look, images, chosen)


def is_asked() -> bool:
    """Whether somebody is there to answer."""
    return sys.stdin.isatty()


def _pairs(lists: tuple[str, ...]) -> dict[str, str]:
    pairs = [text.partition("=") for text in lists]
    if wrong := [text for text, (_, sign, _) in zip(lists, pairs, strict=True) if not sign]:
        raise NoBeginningError(f"--list {wrong[0]}; expected SPLIT=FILE, as val=val.txt")
    return {split: file for split, _, file in pairs}


def _tell(look: FolderLook) -> None:
    from fact.starter.chain import what_to_expect

    heights, widths = look.sizes.min(axis=0), look.sizes.max(axis=0)
    click.echo(
        f"{look.folder.root}: {len(look.images.classes)} classes; images of {heights[1]} x "
        f"{heights[0]} to {widths[1]} x {widths[0]} pixels"
    )
    for path, reason in list(look.broken.items())[:10]:
        click.echo(f"  broken: {path}: {reason}")
    if len(look.broken) > 10:
        click.echo(f"  … and {len(look.broken) - 10} more broken images")
    for sentence in what_to_expect(look):
        click.echo(f"  {sentence}")


def _choice(
    network: str, layer: str | None, classes: str | None, look: FolderLook
) -> NetworkChoice:
    """Return the network that a word means."""
    from fact.starter.chain import OURS
    from fact.starter.networks import choose_network

    if network == OWN:
        return OURS
    try:
        return choose_network(network, layer, classes, look)
    except ValueError as error:
        raise NoBeginningError(str(error)) from error


def _write(look: FolderLook, root: Path, network: NetworkChoice) -> None:
    from fact.starter.chain import chain_text

    labels = LABELS if look.inner_folders else None
    text = chain_text(look, _declared(root), network, labels)
    parse_declaration(text, Path(FILE_NAME).absolute())  # every fault before anything is written
    if labels:
        look.write_labels(Path(labels))
        click.echo(f"wrote {labels}: labels by folders inside the classes")
    Path(FILE_NAME).write_text(text, encoding="utf-8")
    click.echo(f"wrote {FILE_NAME}\n")
    click.echo("factbook plan         what would run, and why")
    click.echo("factbook run          run it, from images to named concepts")
    click.echo("factbook dashboard    look at it")


def _declared(root: Path) -> str:
    """Return the folder as it is declared: relative if it lies here."""
    whole = Path(os.path.abspath(root.expanduser()))
    here = Path.cwd()
    return str(whole.relative_to(here)) if whole.is_relative_to(here) else str(whole)
