"""What is there of images, and what is wrong with them: what ``factbook data check`` says."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

import registry
from fact.data.images import Ids, ImageDataError, ImageDataset
from registry.declare.requirements import Finding
from registry.wording import counted

LOOKED_AT = 32
"""Images of each split that are decoded, unless all are asked for."""

SHOWN = 5
"""Faults of a kind that are shown."""


@registry.checks("images")
def check_images(settings: Any, every: bool = False) -> Iterator[Finding]:
    """Yield what is there of images, and all that is wrong.

    Parameters
    ----------
    settings : object
        Of a kind that provides images. Its ``remarks(images)``, if it has them, are told too.
    every : bool
        Decode every image, not some of each split.
    """
    try:
        images = settings.load()
        yield from _described(images, every)
        if hasattr(settings, "remarks"):
            yield from settings.remarks(images)
    except ImageDataError as error:
        for fault in error.faults[: error.shown]:
            yield Finding(f"{error.subject}: {fault}")
        if len(error.faults) > error.shown:
            yield Finding(
                f"{error.subject}: {counted(len(error.faults) - error.shown, 'more fault')}"
            )
    except (OSError, ValueError, RuntimeError, ImportError) as error:
        yield Finding(str(error))


@registry.checks("arrays")
def check_arrays(settings: Any, every: bool = False) -> Iterator[Finding]:
    """Yield what is there of a table of numbers, or what is wrong with it.

    Parameters
    ----------
    settings : object
        Of a kind that provides arrays.
    every : bool
        Look at every row, not at the first ones.
    """
    try:
        table = settings.load()
        table.rows(slice(0, len(table) if every else LOOKED_AT))
        shown = ", ".join(table.columns[:3])
        text = f"{counted(len(table), 'row')}, {counted(len(table.columns), 'column')}: {shown}, …"
        yield Finding(text, is_missing=False)
        if not table.are_rows_named and not table.rows_of:
            yield Finding("its rows have no names: they join nothing", is_missing=False)
    except (OSError, ValueError, RuntimeError, ImportError) as error:
        yield Finding(str(error))


@registry.checks("network")
def check_network(settings: Any, every: bool = False) -> Iterator[Finding]:
    """Yield what a network is that can be built from what is here, or why it cannot.

    Parameters
    ----------
    settings : object
        Of a kind that provides a network.
    every : bool
        Means nothing here.
    """
    return _opened(settings, _network_line)


@registry.checks("probe_weights")
def check_probe(settings: Any, every: bool = False) -> Iterator[Finding]:
    """Yield what a linear probe is whose weights can be read, or why they cannot.

    Parameters
    ----------
    settings : object
        Of a kind that provides the weights of a probe.
    every : bool
        Means nothing here.
    """
    return _opened(settings, _probe_line)


@registry.checks("sae_weights")
def check_sae(settings: Any, every: bool = False) -> Iterator[Finding]:
    """Yield what an SAE is whose weights can be read, or why they cannot.

    Parameters
    ----------
    settings : object
        Of a kind that provides the weights of an SAE.
    every : bool
        Means nothing here.
    """
    return _opened(settings, _sae_line)


@registry.checks("image_text")
@registry.checks("language_model")
def check_model(settings: Any, every: bool = False) -> Iterator[Finding]:
    """Yield how large a model is that can be built from what is here, or why it cannot.

    Parameters
    ----------
    settings : object
        Of a kind that provides a model of images and texts, or of language.
    every : bool
        Means nothing here.
    """
    return _opened(settings, lambda model: counted(_n_weights(model.module), "weight"))


def _opened(settings: Any, line: Callable[[Any], str]) -> Iterator[Finding]:
    """Yield a line on what a stage would be given, read as it reads it, or why it cannot be."""
    try:
        found = settings.load()
    except Exception as error:  # libraries raise many types for a file of another kind
        yield Finding(str(error) or type(error).__name__)
        return
    yield Finding(line(found), is_missing=False)


def _network_line(network: Any) -> str:
    return (
        f"{counted(_n_weights(network.module), 'weight')}; "
        f"{counted(len(network.classes), 'logit')}: {_some_names(network.classes)}"
    )


def _probe_line(probe: Any) -> str:
    n_labels, n_channels = probe.weight.shape
    return (
        f"{counted(n_labels, 'label')} of {counted(n_channels, 'channel')}: "
        f"{_some_names(probe.labels)}"
    )


def _sae_line(sae: Any) -> str:
    k = f", k {sae.k}" if getattr(sae, "k", None) else ""
    sizes = f"{counted(sae.n_concepts, 'concept')} of {counted(sae.n_channels, 'channel')}"
    return f"{sizes}, {sae.activation}{k}"


def _n_weights(module: Any) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _some_names(names: Sequence[str]) -> str:
    return ", ".join([*names[:3], "…", names[-1]] if len(names) > 4 else names)


def _described(images: ImageDataset, every: bool) -> Iterator[Finding]:
    names = images.classes
    yield Finding(f"{counted(len(names), 'class')}: {_some_names(names)}", is_missing=False)
    for split in images.splits:
        ids, labels = images.ids(split), images.labels(split)
        counts = np.bincount(labels, minlength=len(names)) if len(ids) else np.zeros(1, int)
        each = (
            f"{counts.min():,}"
            if counts.min() == counts.max()
            else (f"{counts.min():,} to {counts.max():,}")
        )
        text = f"{split}: {counted(len(ids), 'image')}, {each} of each class"
        if not len(ids):
            yield Finding(f"{split}: no images")
            continue
        yield Finding(text, is_missing=False)
        yield from _decoded(images, split, ids if every else _some(ids))


def _some(ids: Ids) -> Ids:
    """Return some ids, from the first to the last."""
    chosen: Ids = ids[np.unique(np.linspace(0, len(ids) - 1, LOOKED_AT).astype(int))]
    return chosen


def _decoded(images: ImageDataset, split: str, ids: Ids) -> Iterator[Finding]:
    """Yield what came of decoding images, one at a time, since they may differ in size."""
    heights: set[int] = set()
    widths: set[int] = set()
    broken: dict[str, str] = {}
    one_by_one = getattr(images, "faults", None)
    if one_by_one is not None:
        broken = one_by_one(ids.tolist())
    for image in ids.tolist():
        if image not in broken:
            try:
                height, width = images.read([image]).shape[1:3]
            except (OSError, ValueError) as error:
                broken[image] = str(error)
            else:
                heights.add(height)
                widths.add(width)
    for image, reason in list(broken.items())[:SHOWN]:
        yield Finding(f"{split}: {image}: {reason}")
    if len(broken) > SHOWN:
        yield Finding(f"{split}: {len(broken) - SHOWN} more of {counted(len(ids), 'image')} broken")
    if heights:
        text = (
            f"{split}: {counted(len(ids), 'image')} decoded, {_span(widths)} pixels wide, "
            f"{_span(heights)} high"
        )
        yield Finding(text, is_missing=False)


def _span(sizes: set[int]) -> str:
    low, high = min(sizes), max(sizes)
    return f"{low} to {high}" if low != high else f"{low}"


def of_official(split: str, found: int, official: int) -> Finding | None:
    """Return what is to be said of a split that has other than its official number of images."""
    if found == official:
        return None
    text = f"{split}: {counted(found, 'image')}; the published split has {official:,}"
    return Finding(text, is_missing=False)
