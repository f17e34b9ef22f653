"""Decisions: the logit of an image as a sum over concepts, each with its map.

Everything is of contribution and over one denominator, the positive contributions of the image:
the shares of the shown concepts and of all others add to 1, and the maps of all to the logit's
map. Source: Parchami-Araghi et al., "FaCT", NeurIPS 2025, arXiv 2510.25512, section 4; the
original shows maps of presence beside shares of contribution.

:func:`explain_decisions` explains images that were measured, :func:`explain_image` any image, for
any class, or for the difference of two.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray

from fact.networks.arrays import AnyArray, as_rgb, slices
from fact.traces.attribution import concept_maps, logit_maps, paint, pixel_coordinates
from fact.traces.choices import rows_of_images
from fact.traces.config import DecisionConfig
from fact.traces.contributions import TOLERANCE, trace_concepts
from fact.traces.plots import EMPTY, decision_picture, decision_shares
from fact.traces.spliced import ConceptSource, Target
from registry import Inputs, Run
from registry.wording import counted, verb

BATCH = 16
"""Measured images that are explained at once."""


def explain_decisions(config: DecisionConfig, inputs: Inputs, run: Run) -> xr.Dataset:
    """Explain what the concepts were measured for, next to the gallery of each concept.

    Returns
    -------
    Dataset
        Of the schema ``decisions``.

    Raises
    ------
    KeyError
        If a named image was not measured; with the nearest name.

    Notes
    -----
    Concepts that the gallery lacks are told; they are shown without it. To have it of all, draw by
    ``choose = "decisions"`` and the same choice of images.
    """
    source = ConceptSource.of_concepts(inputs["concepts"], config.device, config.maps)
    images = inputs["concepts"].origin("images").load()
    with inputs["concepts"].open() as measured:
        chosen = measured.isel(image=rows_of_images(measured, config.decided))
        ids = chosen["image"].values.astype(str)
        pictures = images.read(ids, source.network.geometry)
        explained = _explain_measured(source, chosen, pictures, config.most, config.smooth)
    explained = explained.assign(exact=source.exact, maps=source.maps_by)
    with inputs["gallery"].open() as gallery:
        _tell_missing(explained, gallery)
        if config.pictures:
            for number, name in enumerate(ids):
                picture = decision_picture(explained, name, gallery)
                picture.save(run.attach(f"pictures/{number:03d}-{name.replace('/', '-')}.png"))
                run.progress(number + 1, len(ids), "images")
    return explained


def _tell_missing(explained: xr.Dataset, gallery: xr.Dataset) -> None:
    """Write which concepts of decisions the gallery does not have."""
    shown = np.setdiff1d(explained["top_concept"].values, [EMPTY])
    if len(missing := np.setdiff1d(shown, gallery["concept"].values)):
        sys.stdout.write(
            f"{len(missing)} of {counted(len(shown), 'concept that is', 'concepts that are')} "
            "shown "
            f"{verb(len(missing), 'has', 'have')} no gallery; "
            "fact.draw_concepts draws them by choose = 'decisions' and the same images.\n"
        )


def _explain_measured(
    source: ConceptSource, measured: xr.Dataset, pictures: NDArray[np.uint8], most: int, smooth: int
) -> xr.Dataset:
    """Return decisions on measured images, of which these are the ``pictures``."""
    offset = measured["offset"].load() if "offset" in measured else None
    shares = decision_shares(measured["contribution"].load(), most, offset)
    target = measured["target"].values
    parts = [
        _explain(source, pictures[rows], shares["top_concept"].values[rows], target[rows], smooth)
        for rows in slices(len(pictures), BATCH)
    ]
    logit = np.take_along_axis(measured["logit"].values, target[:, None], axis=1)[:, 0]
    kept = {name: measured[name].load().variable for name in ("label", "prediction", "residual")}
    numbers = shares.drop_vars("image", errors="ignore").assign(
        kept | {"logit": ("image", logit), "target": ("image", target)}
    )
    maps = xr.concat(parts, "image", data_vars="all").assign(
        picture=(("image", "y", "x", "colour"), pictures)
    )
    names = {name: measured[name].values.astype(object) for name in ("image", "class")}
    return xr.merge([numbers, maps], join="exact").assign_coords(names | pixel_coordinates())


def explain_image(
    source: ConceptSource,
    picture: AnyArray,
    *,
    target: Target = "prediction",
    against: Target | None = None,
    most: int = 6,
    smooth: int = 3,
    tolerance: float | None = TOLERANCE,
) -> xr.Dataset:
    """Explain a logit of one image, or why one class and not another, checked for completeness.

    Contributions to a network that is not linear in its frozen weights are an approximation, and
    are not checked: ``exact`` says so, and ``missed`` what they miss.

    Parameters
    ----------
    source : ConceptSource
        A network, the layer, and its concepts: an SAE, or the layer's own channels.
    picture : array of uint8, (y, x, colour) or (y, x)
        RGB or grey, of any library and size, as it is: it is brought to the network's geometry
        here, and would be another one if it had been brought to it before.
    target : str or int
        The class that is explained: ``"prediction"``, its index or its name.
    against : str, int or None
        A class whose logit is taken away from the target's, in all that is explained. Both logits
        are sums over the same concepts, so that their difference is one, exactly.
    most : int
        Concepts with a map: so many that speak for it at most, and as many against it.
    smooth : int
        Side of the box that opacities are averaged over, in pixels; odd.
    tolerance : float or None
        Largest residual allowed; None only measures.

    Returns
    -------
    Dataset
        Dimensionless throughout. Of every concept, ``contribution`` to what is explained and
        ``presence`` (concept). Of every class, ``logits``, before the bias, and ``probability``,
        of the logits with their bias (class). ``logit``, what is explained: of
        ``target``, less that of ``against`` (-1 where there is none); ``prediction``; ``exact``;
        ``residual`` and ``input_residual``, see :func:`fact.traces.contributions.trace_batch`.
        ``top_concept`` (rank): those with a map, the strongest for it first, then the strongest
        against it; ``others``, the contributions of all concepts without one.
        ``picture`` (y, x, colour) as the network sees it, and as in the schema ``decisions``
        ``explanation``, ``concept_map`` (rank), ``others_explanation``, ``others_map``,
        ``logit_explanation``, ``logit_map``; a concept against it is painted in the colours of
        what it takes away. ``offset`` is what the bias of an SAE's decoder gives; it is there
        only for one that has it. The maps of all concepts add up to the logit's; that adds up to
        the logit, but for the offset, for ``missed``, 0 where contributions are exact, and for
        ``position``, what comes through a positional embedding, the bias of an encoder, or a
        class token that has no place (without any, rounding).

    Raises
    ------
    CompletenessError
        If a residual passes ``tolerance``.
    LayerError
        If there is no such layer.
    ValueError
        If a class is unknown, both classes are the same, or the picture is none.

    Notes
    -----
    Parchami-Araghi et al., "FaCT", NeurIPS 2025, arXiv 2510.25512, sections 3 and 4. Probabilities
    of a B-cos network are per class and need not add up to 1: it is trained by binary cross-entropy
    (Böhle et al., "B-cos Networks", CVPR 2022). Those of others are by softmax.
    """
    pixels = source.network.geometry.apply(as_rgb(picture))[None]
    source = source.probed(pixels)
    given = source.network, source.layer, source.sae, pixels, target
    traced = trace_concepts(*given, against=against, tolerance=tolerance).isel(image=0, drop=True)
    explained = int(traced["target"])
    other = EMPTY if against is None else int(traced["against"])
    if explained == other:
        name = str(traced["class"].values[explained])
        raise ValueError(f"{name!r} against itself; expected two classes")
    shown = strongest(traced["contribution"].values, most)
    targets = np.array([explained])
    rival = None if against is None else other
    maps = _explain(source, pixels, shown[None], targets, smooth, rival)
    hidden = np.setdiff1d(traced["concept"], shown)
    others = traced["contribution"].values[hidden].sum(dtype=np.float64)
    probability = source.network.probabilities(torch.from_numpy(traced["logits"].values))
    kept = [name for name in traced.data_vars if name not in ("reconstruction_error", "against")]
    offset = float(traced["offset"]) if "offset" in traced else 0.0
    given = traced["contribution"].values.sum(dtype=np.float64) + offset
    missed = 0.0 if traced["exact"] else float(traced["logit"]) - given
    constant = offset + missed
    position = float(traced["logit"]) - constant - maps["logit_map"].values.sum(dtype=np.float64)
    named = {
        "against": ((), other, "index of the class whose logit is taken away; -1 where none is"),
        "probability": (
            "class",
            probability.numpy(),
            f"{'sigmoid' if source.network.bcos else 'softmax'} of the logit with its bias",
        ),
        "others": ((), float(others), "contributions of all others"),
        "position": ((), position, "part of the logit that is in no pixel, nor the offset"),
        "missed": ((), missed, "what contributions that are an approximation miss of the logit"),
    }
    whole = traced[kept].merge(maps.isel(image=0))
    for name, (dims, value, meaning) in named.items():
        whole[name] = dims, value, {"long_name": meaning, "units": "1"}
    whole["top_concept"] = "rank", shown, {"long_name": "index of the concept"}
    whole["picture"] = ("y", "x", "colour"), pixels[0]
    whole = whole.assign_coords({**pixel_coordinates(), "rank": np.arange(len(shown))})
    return whole.isel(rank=np.flatnonzero(shown != EMPTY))


def strongest(contribution: NDArray[np.floating], most: int) -> NDArray[np.int64]:
    """Return the concepts that contribute most for it, then those that do against it.

    Parameters
    ----------
    contribution : ndarray, (concept,)
        Of one image.
    most : int
        Of each sign.

    Returns
    -------
    ndarray of int64, (rank,)
        Indices; ties in order. A single -1 where nothing contributes.
    """
    order = np.argsort(-contribution, kind="stable")
    for_it = order[contribution[order] > 0][:most]
    against = np.argsort(contribution, kind="stable")
    against = against[contribution[against] < 0][:most]
    found = np.concatenate([for_it, against]).astype(np.int64)
    return found if len(found) else np.array([EMPTY], dtype=np.int64)


def _explain(
    source: ConceptSource,
    pictures: NDArray[np.uint8],
    concepts: NDArray[np.int64],
    target: NDArray[np.int64],
    smooth: int,
    against: int | None = None,
) -> xr.Dataset:
    """Return the maps and colour pictures of a batch: of concepts, of the rest, of the logit."""
    given = source.network, source.layer, source.sae, pictures
    chosen = concepts != EMPTY
    explained: dict[str, Any] = {
        "target": "label",
        "labels": target,
        "against": against,
        "batch_size": len(pictures),
        "by": source.maps,
    }
    own = concept_maps(*given, np.where(chosen, concepts, 0), of="contribution", **explained)
    whole = logit_maps(*given, **explained)
    # What a rank without a concept would hold is left out of every sum.
    values = own["map"].values * chosen[:, :, None, None]
    rest = whole["map"].values - values.sum(axis=1)
    weights = rest_weights = whole_weights = None
    if "weights" in own:
        weights = own["weights"].values * chosen[:, :, None, None, None]
        whole_weights = whole["weights"].values
        rest_weights = whole_weights - weights.sum(axis=1)
    # Only what speaks for something has colour: what speaks against it is painted by its negative.
    sign = np.where(own["total"].values < 0, -1, 1)[:, :, None, None]
    signed = None if weights is None else sign[..., None] * weights
    painted = paint(signed, sign * values, pictures[:, None], smooth)
    others = paint(rest_weights, rest, pictures, smooth)
    logit = paint(whole_weights, whole["map"].values, pictures, smooth)
    ranked, plain = ("image", "rank", "y", "x"), ("image", "y", "x")
    return xr.Dataset(
        {
            "explanation": ((*ranked, "rgba"), painted),
            "others_explanation": ((*plain, "rgba"), others),
            "logit_explanation": ((*plain, "rgba"), logit),
            "concept_map": (ranked, values.astype(np.float32)),
            "others_map": (plain, rest.astype(np.float32)),
            "logit_map": (plain, whole["map"].values.astype(np.float32)),
        }
    )
