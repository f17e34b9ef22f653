"""How much every concept of an image is there, and how much it gives to a logit, exactly.

In the FaCT network the output of a layer is *replaced* by the SAE's reconstruction. With the
dynamic weights frozen, what follows the layer is linear, and so is what comes before it:

- ``presence[i, f] = sum_p z[i, p, f]``
- ``contribution[i, f] = sum_p z[i, p, f] * d logit_t / d z[i, p, f]``, which sums over f to the
  logit before the bias;
- the map of all presences at the input sums to all presences.

Source: Parchami-Araghi et al., "FaCT: Faithful Concept Traces for Explaining Neural Network
Decisions", NeurIPS 2025, arXiv 2510.25512, section 3. The last two lines are measured for every
image and have to hold.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np
import torch
import xarray as xr
from torch import Tensor, nn

from fact.networks.layers import LayerError, grid_shape, splice, to_positions
from fact.networks.network import Network, as_network
from fact.traces.codes import Codes, Concepts, as_concepts
from registry.suggest import nearest

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from fact.sae.model import TopKSAE

TOLERANCE = 1e-5
"""Largest residual that float32 and an honest network can have (float32 reaches 1e-6)."""

FLOOR = 1e-12
"""Smallest denominator of a residual: it keeps 0 / 0 of a dead output at 0, and still lets a bias
beside a dead output show, whose residual is then its size over this number."""


class CompletenessError(RuntimeError):
    """Concepts that do not add up to what they explain, with how many images and by how much."""


@dataclass(frozen=True)
class SplicedPass:
    """One forward pass of the FaCT network, its dynamic weights frozen in the graph.

    What comes before the layer and what follows it are separate graphs, which meet in the codes.

    Attributes
    ----------
    image : Tensor
        The encoded images ``(image, colour, y, x)``; a leaf.
    embeddings : tuple of Tensor
        Positional embeddings that were added on the way, one per image; leaves.
    output : Tensor
        What the layer itself put out, connected to ``image`` and ``embeddings``.
    concepts : Concepts
        What stands at the layer.
    codes : Codes
        Concepts at each position; their values are leaves.
    reconstruction : Tensor
        ``(image, position, channel)``, what took the place of ``output``.
    logits : Tensor
        ``(image, class)`` before the bias, connected to the values of ``codes``.
    """

    image: Tensor
    embeddings: tuple[Tensor, ...]
    output: Tensor
    concepts: Concepts
    codes: Codes
    reconstruction: Tensor
    logits: Tensor

    def chosen_logit(self, chosen: Tensor, against: Tensor | None = None) -> Tensor:
        """Logits ``(image,)`` of the classes chosen per image, less those they are held against."""
        logit = self.logits.gather(1, chosen.unsqueeze(1)).squeeze(1)
        if against is None:
            return logit
        return logit - self.logits.gather(1, against.unsqueeze(1)).squeeze(1)

    def at_codes(self, logit: Tensor) -> Tensor:
        """Derivative of a logit per image, ``(image,)``, by each entry of the codes."""
        (gradient,) = torch.autograd.grad(logit.sum(), self.codes.values)
        return gradient

    def at_input(self, weights: Tensor, keep: bool = False) -> tuple[Tensor, ...]:
        """Derivative of ``sum(weights * codes)`` by the image, and by each embedding.

        Parameters
        ----------
        weights : Tensor
            ``(image, position, rank)``, one per entry of the codes.
        keep : bool
            Keep the graph for another call.
        """
        leaves = (self.image, *self.embeddings)
        cotangent = self.concepts.pull(self.codes, weights)
        gradients = torch.autograd.grad(
            to_positions(self.output), leaves, cotangent, retain_graph=keep, allow_unused=True
        )
        return tuple(
            torch.zeros_like(leaf) if gradient is None else gradient
            for gradient, leaf in zip(gradients, leaves, strict=True)
        )


@dataclass(frozen=True)
class Trace:
    """Presence and contribution of every concept in a batch of images.

    Attributes
    ----------
    presence, contribution : Tensor
        ``(image, concept)``.
    logits : Tensor
        ``(image, class)`` of the spliced network, before the bias.
    logit : Tensor
        ``(image,)``, that of ``target``, less that of ``against`` where there is one.
    prediction, target : Tensor
        ``(image,)``, indices of classes.
    against : Tensor or None
        ``(image,)``, the class whose logit is taken away; None for a logit by itself.
    residual : Tensor
        ``(image,)``: ``|sum of contributions - logit| / sum of absolute contributions``.
    input_residual : Tensor
        ``(image,)``: ``|sum of the presences' map at the input - sum of presences|`` over the sum
        of absolute presences. NaN where an unknown positional embedding hides it.
    position_share : Tensor or None
        ``(image,)``: the part of the presences that comes through the positional embedding, over
        the sum of absolute presences; None for a network without one.
    reconstruction_error : Tensor
        ``(image, row, column)``: L2 norm of the layer's output less its reconstruction.
    """

    presence: Tensor
    contribution: Tensor
    logits: Tensor
    logit: Tensor
    prediction: Tensor
    target: Tensor
    residual: Tensor
    input_residual: Tensor
    position_share: Tensor | None
    reconstruction_error: Tensor
    against: Tensor | None = None


Target = str | int
"""``"prediction"``, ``"label"``, the index of a class, or its name."""


def trace_concepts(
    network: Network | nn.Module,
    layer: str,
    sae: TopKSAE | None,
    images: ArrayLike | Tensor | xr.DataArray,
    target: Target = "prediction",
    labels: ArrayLike | None = None,
    *,
    against: Target | None = None,
    batch_size: int = 32,
    tolerance: float | None = TOLERANCE,
) -> xr.Dataset:
    """Return presence and contribution of every concept in every image, checked for completeness.

    Parameters
    ----------
    network : Network or Module
        A B-cos network; it is spliced and frozen only while this function runs.
    layer : str
        Name of the layer whose output the concepts replace, as ``features.2``.
    sae : TopKSAE or None
        The concepts; None takes the layer's own channels.
    images : array, Tensor or DataArray
        ``(image, y, x, colour)`` RGB, or a Tensor ``(image, 3 or 6, y, x)``, as
        :meth:`fact.networks.network.Network.encode` takes them. A DataArray's coordinate
        ``image`` is kept.
    target : str or int
        The logit explained: the predicted class, the label, or one class by index or name.
        "prediction" and "label" are never taken as names of classes.
    labels : array or None
        Class index of every image; needed by the target ``"label"``, stored where given.
    against : str, int or None
        A class, named like the target, whose logit is taken away from the target's: why the one
        and not the other. Both are sums over the same concepts, and so is their difference. None
        explains the target's logit by itself.
    batch_size : int
        Images at a time; bounds the memory.
    tolerance : float or None
        Largest residual allowed; None only measures.

    Returns
    -------
    Dataset
        ``presence``, ``contribution`` (image, concept); ``logit``, ``prediction``, ``target``,
        ``residual``, ``input_residual`` (image), with a positional embedding also
        ``position_share``, with labels ``label``, with a class against it ``against``;
        ``logits`` (image, class);
        ``reconstruction_error`` (image, y, x) of the layer's grid. See :class:`Trace`.

    Raises
    ------
    CompletenessError
        If a residual passes ``tolerance``; says which and what it means.
    LayerError
        If there is no such layer.
    ValueError
        If the target is unknown, or labels are missing or not one per image.
    """
    network = as_network(network)
    ids = image_ids(images)
    if labels is not None:
        labels = checked_labels(labels, len(ids))
    parts = []
    for chosen in batches(len(ids), batch_size):
        encoded = network.encode(take(images, chosen))
        some = None if labels is None else torch.as_tensor(labels[chosen], device=encoded.device)
        pick = target_of(network, target, some)
        other = None if against is None else target_of(network, against, some)
        traced = trace_batch(network, layer, sae, encoded, pick, other)
        parts.append(_to_numpy(traced))
    whole = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
    if tolerance is not None:
        check_completeness(whole["residual"], whole["input_residual"], tolerance)
    if labels is not None:
        whole["label"] = labels
    dataset = _label(whole, ids, network.class_names(whole["logits"].shape[1]))
    return dataset.assign_attrs(network=network.name, layer=layer, explained=str(target))


def trace_batch(
    network: Network,
    layer: str,
    sae: TopKSAE | None,
    encoded: Tensor,
    target: Callable[[Tensor], Tensor],
    against: Callable[[Tensor], Tensor] | None = None,
) -> Trace:
    """Trace the concepts of one batch: one forward pass, two backward passes, no gate.

    Parameters
    ----------
    network : Network
        A B-cos network.
    layer : str
        The layer that the concepts replace.
    sae : TopKSAE or None
        The concepts; None takes the layer's own channels.
    encoded : Tensor
        Images ``(image, colour, y, x)`` from :meth:`fact.networks.network.Network.encode`.
    target : callable
        Takes the logits ``(image, class)``, returns the class to explain ``(image,)``;
        see :func:`target_of`.
    against : callable or None
        The same for the class whose logit is taken away.

    Raises
    ------
    LayerError
        If there is no such layer, or the network calls it more than once.
    """
    with torch.enable_grad():
        spliced = forward_spliced(network, layer, sae, encoded)
        chosen = target(spliced.logits.detach())
        other = None if against is None else against(spliced.logits.detach())
        logit = spliced.chosen_logit(chosen, other)
        values, collect = spliced.codes.values.detach(), spliced.concepts.collect
        contribution = collect(spliced.codes, values * spliced.at_codes(logit))
        presence = collect(spliced.codes, values)
        at_image, *at_embeddings = spliced.at_input(torch.ones_like(values))
    map_sum = _sum(at_image * spliced.image)
    input_residual, position_share = _input_check(spliced, presence, map_sum, at_embeddings)
    error = (to_positions(spliced.output) - spliced.reconstruction).detach().norm(dim=2)
    logits, logit = spliced.logits.detach(), logit.detach()
    return Trace(
        presence=presence,
        contribution=contribution,
        logits=logits,
        logit=logit,
        prediction=logits.argmax(dim=1),
        target=chosen,
        residual=relative_residual(contribution, logit),
        input_residual=input_residual,
        position_share=position_share,
        reconstruction_error=error.view(-1, *grid_shape(spliced.output)),
        against=other,
    )


def forward_spliced(
    network: Network, layer: str, sae: TopKSAE | None, encoded: Tensor
) -> SplicedPass:
    """Run the FaCT network on one batch, frozen, so that gradients can be asked of it.

    Gradients must be enabled.

    Raises
    ------
    LayerError
        If there is no such layer, the network calls it more than once, or not at all.
    """
    image = encoded.detach().requires_grad_()
    met: list[tuple[Concepts, Codes, Tensor]] = []

    def reconstruct(positions: Tensor) -> Tensor:
        if met:
            raise LayerError(f"layer {layer!r} is called twice in a forward pass; expected once")
        concepts = as_concepts(sae, positions.shape[2])
        codes = concepts.encode(positions.detach())
        codes.values.requires_grad_()
        met.append((concepts, codes, concepts.decode(codes)))
        return met[0][2]

    with (
        network.explanation_mode(),
        splice(network.module, layer, reconstruct) as captured,
        _embeddings_as_leaves(network.module) as embeddings,
    ):
        logits = network.logits(image)
    output = captured.output  # an error if the layer was not reached
    return SplicedPass(image, tuple(embeddings), output, *met[0], logits)


def target_of(
    network: Network, target: Target, labels: Tensor | None = None
) -> Callable[[Tensor], Tensor]:
    """Return the function that picks the class to explain from logits ``(image, class)``.

    Raises
    ------
    ValueError
        If labels are needed and missing, the class is unknown, or beyond the logits.
    """
    if target == "prediction":
        return lambda logits: logits.argmax(dim=1)
    if target == "label":
        if labels is None:
            raise ValueError("target 'label' needs labels; got none")
        return lambda logits: _within(labels, logits)
    index = _class_index(network, target)
    return lambda logits: _within(torch.full_like(logits[:, 0], index, dtype=torch.long), logits)


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
    residual: ArrayLike, input_residual: ArrayLike, tolerance: float = TOLERANCE
) -> None:
    """Raise if concepts do not add up, at the logit or at the input.

    Parameters
    ----------
    residual, input_residual : array
        ``(image,)``, as in :class:`Trace`. NaN in all of ``input_residual`` passes: there, an
        unknown positional embedding hides it.
    tolerance : float
        Largest residual allowed.

    Raises
    ------
    CompletenessError
        Names each check that failed, on how many images, the worst value, and what it means.
    """
    residual, input_residual = np.asarray(residual), np.asarray(input_residual)
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


def image_ids(images: ArrayLike | Tensor | xr.DataArray) -> np.ndarray:
    """Return the ids of images: those of a DataArray, else their numbers, as strings."""
    if isinstance(images, xr.DataArray) and "image" in images.coords:
        return images["image"].to_numpy()
    return np.array([str(number) for number in range(len(images))], dtype=object)  # type: ignore[arg-type]


def batches(count: int, size: int) -> Iterator[slice]:
    """Yield slices of at most ``size`` that cover ``count``; one empty slice where it is 0."""
    if size < 1:
        raise ValueError(f"batch_size {size}; expected at least 1")
    for start in range(0, max(count, 1), size):
        yield slice(start, min(start + size, count))


def checked_labels(labels: ArrayLike, count: int) -> np.ndarray:
    """Return labels as ``(image,)`` of int64.

    Raises
    ------
    ValueError
        If they are no indices, or not one per image.
    """
    array = np.asarray(labels)
    if array.shape != (count,) or not np.issubdtype(array.dtype, np.integer):
        raise ValueError(
            f"labels of shape {array.shape} and type {array.dtype}; expected {count} class indices"
        )
    return array.astype(np.int64)


def take(images: ArrayLike | Tensor | xr.DataArray, chosen: slice) -> np.ndarray | Tensor:
    """Return some images, as :meth:`fact.networks.network.Network.encode` takes them."""
    if isinstance(images, Tensor):
        return images[chosen]
    if isinstance(images, xr.DataArray):
        images = images.transpose("image", "y", "x", "colour")
    return np.asarray(images[chosen])  # type: ignore[index]


# --- parts ----------------------------------------------------------------------------------


def _embedding_layers(module: nn.Module) -> list[nn.Module]:
    try:
        from bcos.models.vit import PosEmbSinCos2d
    except ImportError:  # without einops there are no ViTs
        return []
    return [part for part in module.modules() if isinstance(part, PosEmbSinCos2d)]


@contextmanager
def _embeddings_as_leaves(module: nn.Module) -> Iterator[list[Tensor]]:
    """Turn positional embeddings into leaves, one per image, and list them as they come by."""
    leaves: list[Tensor] = []

    def keep(_part: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
        leaf = output.detach().expand(len(args[0]), *output.shape).clone().requires_grad_()
        leaves.append(leaf)
        return leaf

    with ExitStack() as stack:
        for part in _embedding_layers(module):
            stack.callback(part.register_forward_hook(keep).remove)
        yield leaves


def _input_check(
    spliced: SplicedPass, presence: Tensor, map_sum: Tensor, at_embeddings: Sequence[Tensor]
) -> tuple[Tensor, Tensor | None]:
    """Return the residual at the input and, with an embedding, the share of the position."""
    total, scale = _sum(presence), _sum(presence.abs()).clamp(min=FLOOR)
    if spliced.embeddings:
        pairs = zip(at_embeddings, spliced.embeddings, strict=True)
        position = sum((_sum(g * e) for g, e in pairs), torch.zeros_like(total))
        residual = (map_sum + position - total).abs() / scale
        return residual.to(presence.dtype), (position / scale).to(presence.dtype)
    if spliced.output.ndim == 3:  # tokens placed by an embedding that nothing tells from a bias
        share = ((total - map_sum) / scale).to(presence.dtype)
        return torch.full_like(share, torch.nan), share
    return ((map_sum - total).abs() / scale).to(presence.dtype), None


def _sum(tensor: Tensor) -> Tensor:
    """Sum over all but images, in double precision, so that the sum adds no rounding of its own."""
    double = torch.float32 if tensor.device.type == "mps" else torch.float64  # mps has no double
    return tensor.detach().flatten(1).sum(dim=1, dtype=double)


def _class_index(network: Network, target: Target) -> int:
    if isinstance(target, str):
        if target not in network.classes:
            known = (*network.classes, "prediction", "label")
            raise ValueError(f"unknown target {target!r}{nearest(target, known)}")
        return network.classes.index(target)
    return int(target)


def _within(chosen: Tensor, logits: Tensor) -> Tensor:
    count = logits.shape[1]
    if bool(((chosen < 0) | (chosen >= count)).any()):
        raise ValueError(f"target classes {chosen.unique().tolist()}; expected 0 to {count - 1}")
    return chosen.to(logits.device)


def _extent(residual: np.ndarray, tolerance: float) -> str:
    bad = ~(residual <= tolerance)
    worst = residual[bad].max()  # NaN, if there is one
    return (
        f"on {int(bad.sum())} of {residual.size} images "
        f"(worst residual {worst:.1e}, allowed {tolerance:.0e})"
    )


def _to_numpy(traced: Trace) -> dict[str, np.ndarray]:
    tensors = {entry.name: getattr(traced, entry.name) for entry in fields(traced)}
    return {name: t.cpu().numpy() for name, t in tensors.items() if t is not None}


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
