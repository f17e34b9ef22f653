"""Concepts of one class, by factorisation of the activations of crops (CRAFT).

The activations of a layer on crops of a class's images, averaged over positions, are a matrix
``A`` (crop, channel) of numbers that are at least 0. It is factorised as ``A = U B`` into factors
that are at least 0 too: the rows of ``B`` (concept, channel) are the concepts. How much of each
concept is at a position with activations ``x`` is the ``u >= 0`` with the smallest ``|x - u B|``.

Source: Fel et al., "CRAFT: Concept Recursive Activation FacTorization for Explainability", CVPR
2023, arXiv 2211.10154, sections 3.1 and 3.3, without recursion, as Parchami-Araghi et al., "FaCT",
NeurIPS 2025, arXiv 2510.25512, section 5, take it for a baseline. The factorisation is
scikit-learn's; crops are as in the authors' package ``craft-xai``.

A concept is sought in the images of its class alone; its presence in an image is the sum of its
coefficients over positions, and its map is the coefficients, enlarged. Of each class's random maps,
those with the largest sums are kept by the same quantile.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from scipy.optimize import nnls
from torch import Tensor

import registry
from fact.data.images import Ids, ImageDataset, batches, images_by_class, write_parts
from fact.encode.config import CraftConceptsConfig, FactorisationConfig
from fact.encode.encodings import (
    MappedImage,
    MapSource,
    choose_threshold,
    encode_parts,
    random_weights,
)
from fact.encode.image_encoder import resize_maps
from fact.networks.arrays import slices
from fact.networks.files import open_network
from fact.networks.layers import LayerError, run_until
from fact.networks.network import Network
from fact.sae.model import weighted_rows
from fact.traces.spliced import Codes, SparseConcepts, codes_indices
from registry.store.shards import Shards
from registry.wording import counted

OVERLAP = 0.2
"""Fraction of its side by which a crop overlaps the next."""

CONDITION, SLOPE = 1e5, 1e-12
"""Condition of a basis up to which its rows are solved together; slope, over the norms of row and
basis, that counts as 0."""

SPARE_EXCHANGES, MOST_EXCHANGES = 3, 100
"""Exchanges of blocks without progress, after which one concept at a time changes sides; of all,
after which a row is solved alone."""


@dataclass(frozen=True)
class Factors:
    """Concepts of a class.

    Attributes
    ----------
    basis : ndarray of float32, (concept, channel)
        At least 0.
    error : float
        ``|A - U B| / |A|`` (Frobenius), in [0, 1]; NaN where all activations are 0.
    iterations : int
        Of the factorisation.
    """

    basis: NDArray[np.float32]
    error: float
    iterations: int


def factorise(
    activations: NDArray[np.floating], n_concepts: int, seed: int, most: int = 200
) -> Factors:
    """Factorise activations (crop, channel) into factors that are at least 0.

    Parameters
    ----------
    activations : ndarray, (crop, channel)
        At least 0.
    n_concepts : int
        Rows of the basis; there may be fewer crops.
    seed : int
        Of the start: a randomised singular value decomposition.
    most : int
        Iterations after which it ends where it is.
    """
    from sklearn.decomposition import NMF
    from sklearn.exceptions import ConvergenceWarning

    model = NMF(n_concepts, random_state=seed, max_iter=most)
    with warnings.catch_warnings():  # iterations tell
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(activations.astype(np.float32))
    norm = float(np.linalg.norm(activations))
    error = float(model.reconstruction_err_) / norm if norm else float("nan")
    return Factors(model.components_.astype(np.float32), error, int(model.n_iter_))


def coefficients(activations: Tensor, basis: NDArray[np.floating]) -> Tensor:
    """Return how much of each concept is in activations, for all of them together.

    By block principal pivoting: which concepts are above 0 is guessed for every row, the least
    squares of these solved, and the guess bettered where a coefficient, or the slope of one that is
    0, is below 0. A row counts as solved once neither is; what is not solved so is solved alone, by
    SciPy. Source: Kim and Park, "Fast nonnegative matrix factorization: An active-set-like method
    and comparisons", SIAM J. Sci. Comput. 33(6), 2011, algorithm 2.

    Parameters
    ----------
    activations : Tensor, (…, channel)
        On any device.
    basis : ndarray, (concept, channel)

    Returns
    -------
    Tensor of float64, (…, concept)
        On the device of the activations, at least 0: what minimises the distance to them. 0 for a
        concept that is 0.
    """
    unitary, triangle = np.linalg.qr(basis.astype(np.float64).T)  # |x - u B| = |Q'x - R u'| + …
    device = torch.device("cpu") if activations.device.type == "mps" else activations.device
    rows = activations.detach().to(device).flatten(0, -2).double()  # mps has no float64
    rows = rows @ torch.from_numpy(unitary).to(device)
    found = _solve_rows(rows, torch.from_numpy(triangle).to(device), np.asarray(basis.any(axis=1)))
    return found.view(*activations.shape[:-1], len(basis))


def _solve_rows(rows: Tensor, triangle: Tensor, there: NDArray[np.bool_]) -> Tensor:
    """Return the ``u >= 0`` (row, concept) that minimise ``|rows - u R'|``."""
    count = len(there)
    found = rows.new_zeros(len(rows), count)
    own = np.flatnonzero(there)
    own_triangle = triangle[:, torch.from_numpy(own).to(rows.device)]
    left = torch.arange(len(rows), device=rows.device)
    if len(rows) and 0 < len(own) <= len(triangle):
        values, solved = _pivot_blocks(rows, own_triangle)
        found[:, torch.from_numpy(own).to(rows.device)] = values
        left = left[~solved]
    whole = triangle.cpu().numpy()
    for row in left.tolist() if len(own) else ():
        found[row] = torch.from_numpy(nnls(whole, rows[row].cpu().numpy())[0])
    return found


def _pivot_blocks(rows: Tensor, triangle: Tensor) -> tuple[Tensor, Tensor]:
    """Return coefficients (row, concept), and which rows are solved, (row,)."""
    gram, products = triangle.T @ triangle, rows @ triangle
    scale = torch.linalg.vector_norm(rows, dim=1, keepdim=True) * gram.diagonal().sqrt().max()
    solved = torch.zeros(len(rows), dtype=torch.bool, device=rows.device)
    values, passive = torch.zeros_like(products), products > 0
    if float(torch.linalg.cond(triangle)) > CONDITION:
        return values, solved
    fewest = torch.full((len(rows),), len(gram) + 1, device=rows.device)
    spare = torch.full_like(fewest, SPARE_EXCHANGES)
    order = torch.arange(len(gram), device=rows.device)
    for _ in range(MOST_EXCHANGES):
        due = torch.nonzero(~solved)[:, 0]
        if not len(due):
            break
        kept = passive[due]
        values[due], slope = _least_squares(gram, products[due], kept)
        wrong = torch.where(kept, values[due] < 0, slope < -SLOPE * scale[due])
        number = wrong.sum(dim=1)
        solved[due] = number == 0
        better = number < fewest[due]
        fewest[due] = torch.minimum(number, fewest[due])
        spare[due] = torch.where(better, SPARE_EXCHANGES, spare[due] - 1)
        last = order == torch.where(wrong, order, -1).amax(dim=1, keepdim=True)
        passive[due] = kept ^ torch.where((spare[due] >= 0)[:, None], wrong, last)
    return values, solved


def _least_squares(gram: Tensor, products: Tensor, kept: Tensor) -> tuple[Tensor, Tensor]:
    """Return coefficients (row, concept), 0 where not kept, and the slopes there."""
    own = kept.to(gram.dtype)
    systems = gram * own[:, :, None] * own[:, None, :] + torch.diag_embed(1 - own)
    factors, pivots = torch.linalg.lu_factor(systems)

    def solve(right: Tensor) -> Tensor:
        solved: Tensor = torch.linalg.lu_solve(factors, pivots, (own * right)[:, :, None])
        return solved[:, :, 0]

    values = solve(products)
    values = values + solve(products - values @ gram)  # what rounding left
    return values, values @ gram - products


def cut_crops(images: Tensor, side: int) -> Tensor:
    """Return square crops (crop, colour, y, x) of images (image, colour, y, x), row by row.

    Raises
    ------
    ValueError
        If the images are smaller than a crop.
    """
    if side > min(images.shape[2:]):
        raise ValueError(f"crops of {side} pixels from images of {tuple(images.shape[2:])}")
    stride = max(1, int(side * (1 - OVERLAP)))
    windows = images.unfold(2, side, stride).unfold(3, side, stride)
    return windows.permute(0, 2, 3, 1, 4, 5).flatten(0, 2)


def crop_activations(
    network: Network, layer: str, encoded: Tensor, side: int, batch: int
) -> NDArray[np.float32]:
    """Return mean activations (crop, channel) of crops, each enlarged to the size of an image.

    Parameters
    ----------
    network : Network
        In evaluation mode.
    layer : str
        Name of the layer.
    encoded : Tensor
        From :meth:`fact.networks.network.Network.encode`.
    side : int
        Of a crop, in pixels.
    batch : int
        Crops at a time.

    Raises
    ------
    LayerError
        If there is no such layer, or it puts out numbers below 0.
    """
    size = encoded.shape[2], encoded.shape[3]
    crops = cut_crops(encoded, side)
    parts = [
        position_activations(network, layer, resize_maps(crops[rows], size)).mean(dim=(1, 2))
        for rows in slices(len(crops), batch)
    ]
    return torch.cat(parts).cpu().numpy()


def position_activations(network: Network, layer: str, encoded: Tensor) -> Tensor:
    """Return activations (image, row, column, channel) of encoded images.

    Raises
    ------
    LayerError
        If there is no such layer, or it puts out numbers below 0.
    """
    with torch.no_grad():
        captured = run_until(network.module, layer, encoded)
    found = captured.positions.float()
    require_not_negative(found, layer)
    return found.reshape(len(found), *captured.grid, found.shape[-1])


def require_not_negative(activations: Tensor, layer: str) -> None:
    """Raise a LayerError if a layer puts out numbers below 0."""
    lowest = float(activations.min()) if activations.numel() else 0.0
    if lowest < 0:
        raise LayerError(
            f"layer {layer!r} puts out {lowest:g}; expected at least 0, as behind a ReLU"
        )


class CraftConcepts(SparseConcepts):
    """The concepts of one class for each image, in a layer's place.

    Parameters
    ----------
    layer : str
        Name of the layer, for errors.
    basis : ndarray of float32, (concept, channel)
        Of all classes.
    chosen : ndarray of int64, (image, rank)
        The concepts of each image's class, rows of the basis.
    """

    def __init__(self, layer: str, basis: NDArray[np.float32], chosen: NDArray[np.int64]):
        super().__init__(len(basis))
        self._layer, self._basis, self._chosen = layer, basis, chosen

    def encode(self, positions: Tensor) -> Codes:
        """Return how much of each concept of its image's class is at each position.

        Raises
        ------
        LayerError
            If the layer puts out numbers below 0.
        """
        rows = positions.detach().float()
        require_not_negative(rows, self._layer)
        indices = torch.from_numpy(self._chosen).to(positions.device)[:, None]
        amounts = positions.new_zeros(*rows.shape[:2], self._chosen.shape[1])
        classes, of_image = np.unique(self._chosen, axis=0, return_inverse=True)
        for number, chosen in enumerate(classes):
            own = torch.from_numpy(np.flatnonzero(of_image.ravel() == number)).to(rows.device)
            amounts[own] = coefficients(rows[own], self._basis[chosen]).to(amounts)
        return Codes(amounts, indices.expand(amounts.shape).contiguous())

    def decode(self, codes: Codes) -> Tensor:
        """Return the rows of the basis, weighted by the codes."""
        basis, shape = torch.from_numpy(self._basis).to(codes.values), codes.values.shape[:2]
        entries = (codes_indices(codes).flatten(0, 1), codes.values.flatten(0, 1))
        return weighted_rows(basis, *entries).view(*shape, -1)


def fit_craft(config: FactorisationConfig, inputs: registry.Inputs, run: registry.Run) -> Shards:
    """Factorise class by class; a run that was stopped continues at its next class.

    Returns
    -------
    Shards
        Of the schema ``craft``, a part for each class.

    Raises
    ------
    ValueError
        If the split has no images, or crops are larger than images.
    LayerError
        If the layer puts out numbers below 0.
    """
    network = open_network(inputs["network"], config.device)
    images: ImageDataset = inputs["images"].load()
    classes = list(images_by_class(images, config.split, config.images_per_class, config.seed))
    if not classes:
        raise ValueError(f"split {config.split!r} has no images")

    def part(index: int, _rows: slice) -> xr.Dataset:
        return _fit_class(config, network, images, *classes[index])

    writer = write_parts(run, len(classes), 1, part, "classes")
    variant = f"{config.layer}, crops of {config.crop} pixels"
    scalars = {"n_classes": len(classes), "per_class": config.n_concepts, "variant": variant}
    return writer.finish(xr.Dataset(scalars))


def _fit_class(
    config: FactorisationConfig, network: Network, images: ImageDataset, label: int, ids: Ids
) -> xr.Dataset:
    activations = np.concatenate(
        [
            crop_activations(
                network, config.layer, network.encode(pixels), config.crop, config.batch
            )
            for _, pixels in batches(images, ids, config.batch, network.geometry)
        ]
    )
    factors = factorise(activations, config.n_concepts, config.seed, config.iterations)
    count, name = config.n_concepts, images.classes[label]
    names = np.array([f"{name}/{k}" for k in range(count)], dtype=object)
    return xr.Dataset(
        {
            "basis": (("concept", "channel"), factors.basis),
            "concept_name": ("concept", names),
            "concept_class": ("concept", np.array([name] * count, dtype=object)),
            "error": ("concept", np.full(count, factors.error)),
            "iterations": ("concept", np.full(count, factors.iterations)),
            "crops": ("concept", np.full(count, len(activations))),
        },
        {"concept": label * count + np.arange(count)},
    )


def craft_concepts(
    network: Network,
    layer: str,
    images: ImageDataset,
    craft: xr.Dataset,
    config: CraftConceptsConfig,
) -> MapSource:
    """Return the images of each class in which its concepts are most present, with their maps.

    Parameters
    ----------
    network : Network
        On its device.
    layer : str
        Whose activations were factorised.
    images : ImageDataset
        Where to read.
    craft : Dataset
        Of the schema ``craft``; may be lazy.
    config : CraftConceptsConfig
        Selects images.

    Raises
    ------
    ValueError
        If no class with concepts has images in the split.
    """
    concepts: NDArray[np.int64] = craft["concept"].values
    class_of = concepts // int(craft["per_class"])
    classes = [c for c in images_by_class(images, config.split) if c[0] in class_of]
    if not classes:
        raise ValueError(f"split {config.split!r} has no images of a class with concepts")

    def read(part: int) -> Iterator[list[MappedImage]]:
        label, ids = classes[part]
        own = class_of == label
        basis, found, random = craft["basis"].isel(concept=own).values, [], []
        for names, pictures in batches(images, ids, config.batch, network.geometry):
            activations = position_activations(network, layer, network.encode(pictures))
            found.append(coefficients(activations, basis).movedim(-1, 1).cpu().numpy())
            size = pictures.shape[1], pictures.shape[2]
            random += [random_weights(str(name), size, config.seed).sum() for name in names]
        maps = np.concatenate(found)  # (image, concept, row, column)
        presence = maps.sum(axis=(2, 3)).astype(np.float32)
        selected = np.stack([is_strong(column) for column in presence.T], axis=1)
        in_baseline, row = is_strong(np.array(random)), 0
        for names, pictures in batches(images, ids, config.batch, network.geometry):
            yield [
                MappedImage(
                    str(name),
                    picture,
                    concepts[own][selected[row]],
                    presence[row, selected[row]],
                    list(maps[row, selected[row]]),
                    (label,) if in_baseline[row] else (),
                )
                for row, (name, picture) in enumerate(zip(names, pictures, strict=True), row)
            ]
            row += len(names)

    def is_strong(presence: NDArray[np.floating]) -> NDArray[np.bool_]:
        return presence >= choose_threshold(presence, config.quantile, config.least)

    of_class = f"presence above the {config.quantile:g}-quantile in the class"
    names = {name: ("concept", craft[name].values) for name in ("concept_name", "concept_class")}
    return MapSource(
        concepts,
        [1] * len(classes),
        "classes",
        read,
        f"{of_class}, at least {counted(config.least, 'image')}",
        {**names, "class_name": ("class", np.array(images.classes, dtype=object))},
    )


def encode_craft(config: CraftConceptsConfig, inputs: registry.Inputs, run: registry.Run) -> Shards:
    """Encode each class's concepts in the images of it in which they are most present."""
    craft = inputs["craft"]
    network = open_network(craft.origin("network"), config.device)
    images, layer = craft.origin("images").load(), craft.config["layer"]
    with craft.open() as fitted:
        source = craft_concepts(network, layer, images, fitted, config)
        return encode_parts(source, config, run)
