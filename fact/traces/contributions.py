"""How much every concept of an image is there, and how much it gives to a logit, exactly.

In the FaCT network the output of a layer is *replaced* by the SAE's reconstruction. With the
dynamic weights frozen, what follows the layer is linear, and so is what comes before it:

- ``presence[i, f] = sum_p z[i, p, f]``
- ``contribution[i, f] = sum_p z[i, p, f] * d logit_t / d z[i, p, f]``, which sums over f to the
  logit before the bias;
- the map of all presences at the input sums to all presences.

An SAE with biases adds constants, which are known and counted:

- ``offset[i] = sum_p b_d . d logit_t / d x_hat[i, p]``, of the decoder's bias ``b_d``: with it the
  contributions sum to the logit;
- ``sum_pf mask[i, p, f] b_e[f]``, of the encoder's bias, in the presences and in no pixel.

Source: Parchami-Araghi et al., "FaCT: Faithful Concept Traces for Explaining Neural Network
Decisions", NeurIPS 2025, arXiv 2510.25512, section 3. The last two lines are measured for every
image and have to hold, but for a network that is not linear in its frozen weights: there, the
contribution is gradient times activation in the spliced network, an approximation.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import xarray as xr
from torch import Tensor, nn

from fact.networks.arrays import AnyArray, as_numpy, checked_labels, image_ids, slices, take
from fact.networks.layers import grid_shape, to_positions
from fact.networks.linearity import N_IMAGES
from fact.networks.network import Network, as_network
from fact.sae.model import SAE
from fact.traces.spliced import ConceptSource, Pick, SplicedPass, Target, forward_spliced, picks
from registry.wording import counted

TOLERANCE = 1e-5
"""Largest residual that float32 and an honest network can have (float32 reaches 1e-6)."""

FLOOR = 1e-12
"""Smallest denominator of a residual: it keeps 0 / 0 of a dead output at 0, and still lets a bias
beside a dead output show, whose residual is then its size over this number."""


EXACT = "whether contributions must add up to the logit; else gradient times activation"


class CompletenessError(RuntimeError):
    """Concepts that do not add up to what they explain, with how many images and by how much."""


def trace_concepts(
    network: Network | nn.Module,
    layer: str,
    sae: SAE | None,
    images: AnyArray,
    target: Target = "prediction",
    labels: AnyArray | None = None,
    *,
    against: Target | None = None,
    batch_size: int = 32,
    tolerance: float | None = TOLERANCE,
) -> xr.Dataset:
    """Return presence and contribution of every concept in every image, checked for completeness.

    Parameters
    ----------
    network : Network or Module
        Spliced and frozen only while this function runs. One that is not linear in its frozen
        weights (see :class:`fact.Network`) gets contributions that are an approximation.
    layer : str
        Name of the layer whose output the concepts replace, as ``features.2``.
    sae : SAE or None
        The concepts; None takes the layer's own channels.
    images : array
        ``(image, y, x, colour)`` RGB of any library, or a Tensor ``(image, 3 or 6, y, x)``, as
        :meth:`fact.networks.network.Network.encode` takes them. A DataArray's coordinate
        ``image`` is kept, and its dimensions may be in any order.
    target : str or int
        The logit explained: the predicted class, the label, or one class by index or name.
        "prediction" and "label" are never taken as names of classes.
    labels : array or None
        ``(image,)``, class index of every image; needed by the target ``"label"``, stored where
        given. Joined by name where both name their images, else by position.
    against : str, int or None
        A class, named like the target, whose logit is taken away from the target's: why the one
        and not the other. Both are sums over the same concepts, and so is their difference. None
        explains the target's logit by itself.
    batch_size : int
        Images at a time; bounds the memory.
    tolerance : float or None
        Largest residual allowed of a linear network; None only measures, as it is of any other.

    Returns
    -------
    Dataset
        ``presence``, ``contribution`` (image, concept); ``exact``, whether these must add up;
        ``logit``, ``prediction``, ``target``, ``residual``, ``input_residual`` (image), with a
        positional embedding also ``position_share``, with biases in the SAE ``offset`` and
        ``encoder_bias_share``, with labels ``label``, with a class against it ``against``;
        ``logits`` (image, class);
        ``reconstruction_error`` (image, y, x) of the layer's grid. See :func:`trace_batch`.

    Raises
    ------
    CompletenessError
        If a residual passes ``tolerance``; says which and what it means.
    LayerError
        If there is no such layer.
    ValueError
        If the target is unknown, or labels are missing or not one per image.
    """
    ids = image_ids(images)
    few = take(images, slice(0, min(batch_size, N_IMAGES)))
    source = ConceptSource(as_network(network), layer, sae).probed(few)
    network = source.network
    known = None if labels is None else checked_labels(labels, images)
    parts = []
    for chosen in slices(len(ids), batch_size):
        encoded = network.encode(take(images, chosen))
        some = picks(network, target, against, known, chosen)
        traced = trace_batch(source, encoded, *some)
        parts.append({name: tensor.cpu().numpy() for name, tensor in traced.items()})
    whole = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
    if tolerance is not None and source.exact:
        check_completeness(whole["residual"], whole["input_residual"], tolerance)
    if known is not None:
        whole["label"] = known
    dataset = _label(whole, ids, network.class_names(whole["logits"].shape[1]))
    dataset["exact"] = (), source.exact, {"long_name": EXACT, "units": "1"}
    return dataset.assign_attrs(network=network.name, layer=layer, explained=str(target))


def trace_batch(
    source: ConceptSource, encoded: Tensor, target: Pick, against: Pick | None = None
) -> dict[str, Tensor]:
    """Trace the concepts of one batch: one forward pass, two backward passes, no gate.

    Parameters
    ----------
    source : ConceptSource
        A network, the layer, and the concepts that replace it.
    encoded : Tensor
        Images ``(image, colour, y, x)`` from :meth:`fact.networks.network.Network.encode`.
    target : callable
        Takes the logits ``(image, class)``, returns the class to explain ``(image,)``;
        see :func:`fact.traces.spliced.picks`.
    against : callable or None
        The same for the class whose logit is taken away.

    Returns
    -------
    dict of str to Tensor
        Variables of :func:`trace_concepts`. ``residual`` is ``|sum of contributions - logit|``
        over the sum of absolute contributions; with a bias in the decoder ``offset`` is one more
        term of both sums. ``input_residual`` is ``|sum of the presences' map at the input - sum of
        presences|`` over the sum of absolute presences, NaN where an unknown positional embedding
        hides it; ``position_share`` the part of the presences that comes through the positional
        embedding, over the same, and left out for a network without one;
        ``encoder_bias_share`` the part that is the encoder's bias, likewise, which then counts in
        that denominator with its absolute values; ``reconstruction_error`` the L2 norm of the
        layer's output less its reconstruction.

    Raises
    ------
    LayerError
        If there is no such layer, or the network calls it more than once.
    """
    with torch.enable_grad():
        spliced = forward_spliced(source, encoded)
    return trace_pass(source, spliced, target, against)


def trace_pass(
    source: ConceptSource, spliced: SplicedPass, target: Pick, against: Pick | None = None
) -> dict[str, Tensor]:
    """Trace the concepts of one forward pass, as :func:`trace_batch` does; its graph is used up."""
    with torch.enable_grad():
        logit, chosen, other = spliced.explain(target, against)
        offset = spliced.offset(logit)
        values, collect = spliced.codes.values.detach(), spliced.concepts.collect
        contribution = collect(spliced.codes, values * spliced.at_codes(logit))
        presence = collect(spliced.codes, values)
        at_image, *at_embeddings = spliced.at_input(torch.ones_like(values))
    map_sum = _sum(at_image * spliced.image)
    at_input = _input_check(spliced, presence, map_sum, at_embeddings, source.network.probe)
    error = (to_positions(spliced.output) - spliced.reconstruction).detach().norm(dim=2)
    logits, logit = spliced.logits.detach(), logit.detach()
    traced = {
        "presence": presence,
        "contribution": contribution,
        "logits": logits,
        "logit": logit,
        "prediction": logits.argmax(dim=1),
        "target": chosen,
        "offset": offset,
        "residual": relative_residual(_with_offset(contribution, offset), logit),
        **at_input,
        "reconstruction_error": error.view(-1, *grid_shape(spliced.output)),
        "against": other,
    }
    return {name: tensor for name, tensor in traced.items() if tensor is not None}


def _with_offset(contribution: Tensor, offset: Tensor | None) -> Tensor:
    return contribution if offset is None else torch.cat([contribution, offset[:, None]], dim=1)


def relative_residual(parts: Tensor, whole: Tensor) -> Tensor:
    """``|sum of parts - whole| / max(sum of |parts|, floor)`` per image.

    Parameters
    ----------
    parts : Tensor
        ``(image, …)``, what should add up.
    whole : Tensor
        ``(image,)``, to what it should.
    """
    difference = _sum(parts) - whole.detach()
    return (difference.abs() / _sum(parts.abs()).clamp(min=FLOOR)).to(parts.dtype)


def check_completeness(
    residual: AnyArray, input_residual: AnyArray, tolerance: float = TOLERANCE
) -> None:
    """Raise if concepts do not add up, at the logit or at the input.

    Parameters
    ----------
    residual, input_residual : array
        ``(image,)``, as in :func:`trace_batch`. NaN in all of ``input_residual`` passes: there, an
        unknown positional embedding hides it.
    tolerance : float
        Largest residual allowed.

    Raises
    ------
    CompletenessError
        Names each check that failed, on how many images, the worst value, and what it means.
    """
    residual, input_residual = as_numpy(residual), as_numpy(input_residual)
    faults = []
    if not np.all(residual <= tolerance):
        faults.append(
            f"contributions do not add up to the logit {_extent(residual, tolerance)}: a bias, a "
            "connection that goes around the layer, or a part whose dynamic weight is not frozen "
            "stands after the layer"
        )
    if not np.all(input_residual <= tolerance) and not np.all(np.isnan(input_residual)):
        faults.append(
            f"the presences' map at the input does not add up to the presences "
            f"{_extent(input_residual, tolerance)}: a bias, or a part whose dynamic weight is not "
            "frozen, stands before the layer"
        )
    if faults:
        raise CompletenessError("; and ".join(faults))


def _input_check(
    spliced: SplicedPass,
    presence: Tensor,
    map_sum: Tensor,
    at_embeddings: Sequence[Tensor],
    probe: float | None,
) -> dict[str, Tensor]:
    """Return the residual at the input, and the shares of what is in no pixel.

    A network that was probed has no embedding that is unknown: all of its parts were counted.
    """
    total, scale = _sum(presence), _sum(presence.abs()).clamp(min=FLOOR)
    shares = {}
    if (constants := spliced.concepts.constants(spliced.codes)) is not None:
        scale = scale + _sum(constants.abs())
        shares["encoder_bias_share"] = _sum(constants) / scale
        map_sum = map_sum + _sum(constants)
    if spliced.embeddings:
        pairs = zip(at_embeddings, spliced.embeddings, strict=True)
        position = sum((_sum(g * e) for g, e in pairs), torch.zeros_like(total))
        shares["position_share"], map_sum = position / scale, map_sum + position
    elif (
        spliced.output.ndim == 3 and probe is None
    ):  # tokens placed by an embedding that nothing tells from a bias
        shares["position_share"], map_sum = (total - map_sum) / scale, total * torch.nan
    residual = (map_sum - total).abs() / scale
    found = {"input_residual": residual, **shares}
    return {name: values.to(presence.dtype) for name, values in found.items()}


def _sum(tensor: Tensor) -> Tensor:
    """Sum over all but images, in double precision, so that the sum adds no rounding of its own."""
    double = torch.float32 if tensor.device.type == "mps" else torch.float64  # mps has no double
    return tensor.detach().flatten(1).sum(dim=1, dtype=double)


def _extent(residual: np.ndarray, tolerance: float) -> str:
    bad = ~(residual <= tolerance)
    worst = residual[bad].max()  # NaN, if there is one
    return (
        f"on {int(bad.sum())} of {counted(residual.size, 'image')} "
        f"(worst residual {worst:.1e}, allowed {tolerance:.0e})"
    )


_LABELS: dict[str, tuple[tuple[str, ...], str]] = {
    "presence": (("image", "concept"), "sum of the concept's activations over positions"),
    "contribution": (("image", "concept"), "contribution to the logit that is explained"),
    "logits": (("image", "class"), "logit before the bias, of the spliced network"),
    "logit": (("image",), "logit that is explained, before the bias, of the spliced network"),
    "prediction": (("image",), "index of the class that the spliced network predicts"),
    "target": (("image",), "index of the class that is explained"),
    "against": (("image",), "index of the class whose logit is taken away"),
    "label": (("image",), "index of the labelled class"),
    "residual": (("image",), "|sum of contributions - logit| over sum of |contributions|"),
    "input_residual": (("image",), "|sum of the presences' map - presences| over |presences|"),
    "position_share": (("image",), "share of the presences from the positional embedding"),
    "encoder_bias_share": (("image",), "share of the presences from the encoder's bias"),
    "offset": (("image",), "what the decoder's bias gives to the logit that is explained"),
    "reconstruction_error": (("image", "y", "x"), "L2 norm of the output less its reconstruction"),
}


def _label(arrays: dict[str, np.ndarray], ids: np.ndarray, classes: Sequence[str]) -> xr.Dataset:
    variables = {
        name: (_LABELS[name][0], array, {"long_name": _LABELS[name][1], "units": "1"})
        for name, array in arrays.items()
    }
    coords = {
        "image": ids,
        "concept": np.arange(arrays["presence"].shape[1]),
        "class": np.array(classes, dtype=object),
    }
    return xr.Dataset(variables, coords)
