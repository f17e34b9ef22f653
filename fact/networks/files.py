"""Networks on disk: safetensors, with all that rebuilds the module in the file's header."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from fact.data.images import Geometry
from fact.networks import bcos_networks, bcosify, bottlenecks, foreign, standard
from fact.networks.network import Architecture, Network, NetworkError, Normalisation, choose_device
from fact.networks.weights import load_weights, read_tensors, write_tensors
from registry import Input

BUILDERS = (bcos_networks, standard, foreign, bcosify, bottlenecks)
"""Modules whose architectures a file may name."""

WEIGHTS_FILE = "network.safetensors"
"""Where an experiment that trains a network leaves it, inside its output folder."""

FORMAT = 1
"""Version of the metadata in the header of a network's file."""


def save_network(network: Network, path: Path | str) -> None:
    """Write a network as safetensors, with all that rebuilds it as JSON in the file's header.

    Parameters
    ----------
    network : Network
        One that was built from an :class:`Architecture`.
    path : path
        The file to write; it is whole or not there.

    Raises
    ------
    NetworkError
        If the network does not know its architecture.
    """
    if network.architecture is None:
        raise NetworkError(
            f"network {network.name!r} cannot be saved: nothing says how to rebuild its module; "
            "give it an Architecture, whose builder is registered with "
            "@fact.networks.network.builder"
        )
    metadata = {
        "format": FORMAT,
        "name": network.name,
        "classes": list(network.classes),
        "geometry": asdict(network.geometry),
        "bcos": network.bcos,
        "normalisation": asdict(network.normalisation),
        "linear": network.linear,
        "probe": network.probe,
        "normalised": network.normalised,
        "builder": network.architecture.builder,
        "settings": dict(network.architecture.settings),
    }
    write_tensors(Path(path), network.module.state_dict(), factbook=metadata)


def load_network(path: Path | str) -> Network:
    """Read what :func:`save_network` wrote, ready to be explained: evaluation mode, no gradients.

    Parameters
    ----------
    path : path
        The file, or the output folder of an experiment that trained a network.

    Raises
    ------
    NetworkError
        If there is no such file, or it holds no network of ours.
    """
    path = Path(path)
    if path.is_dir():
        path = path / WEIGHTS_FILE
    if not path.is_file():
        raise NetworkError(f"no network at {path}")
    metadata, state = read_tensors(path, "factbook")
    if metadata is None:
        raise NetworkError(f"{path} has no metadata; expected a network that factbook saved")
    if metadata["format"] > FORMAT:
        raise NetworkError(f"{path} has format {metadata['format']}; expected at most {FORMAT}")
    recipe = Architecture(metadata["builder"], metadata["settings"])
    module = recipe.build()
    load_weights(module, state, str(path))
    normalisation: dict[str, Any] = metadata.get("normalisation", {})
    return Network(
        module.eval().requires_grad_(False),
        name=metadata["name"],
        classes=tuple(metadata["classes"]),
        geometry=Geometry(**metadata["geometry"]),
        bcos=metadata["bcos"],
        architecture=recipe,
        normalisation=Normalisation(**{k: tuple(v) for k, v in normalisation.items()}),
        linear=metadata.get("linear", metadata["bcos"]),  # which was the same thing once
        probe=metadata.get("probe"),
        normalised=metadata.get("normalised", False),
    )


def open_network(source: Input, device: str = "cpu") -> Network:
    """Return the network that fills a stage's slot: a declared resource, or one trained here.

    Parameters
    ----------
    source : Input
        What fills the slot.
    device : str
        As :func:`fact.networks.network.choose_device` takes it.

    Raises
    ------
    NetworkError
        If the experiment's output holds no network.
    StoreError
        If it is not what was written, by its checksums.
    ValueError
        If there is no such device here.
    """
    if source.settings is not None:
        network: Network = source.load()
        if network.linear is None:
            network = replace(network, linear=getattr(source.settings, "linear", None))
    elif source.path is not None:
        network = load_network(source.proven()[0])
    else:
        raise NetworkError(f"{source.name!r} has neither settings nor an output")
    return replace(network, name=source.name).to(choose_device(device))
