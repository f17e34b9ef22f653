"""Weights on disk: state dicts and safetensors, never a pickle with code in it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from fact.data.pickles import PickleError
from fact.data.torch_file import CodeInFileError, read_torch
from fact.networks.network import NetworkError
from fact.networks.pickled import read_pickled
from registry.store.durable import whole_file


def write_tensors(path: Path, tensors: Mapping[str, Tensor], **facts: Any) -> None:
    """Write named tensors as safetensors; the file is whole or not there.

    Parameters
    ----------
    path : Path
        The file.
    tensors : mapping of str to Tensor
        On any device.
    **facts
        Plain JSON values for the file's header, each as one entry of its metadata.
    """
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with whole_file(path) as temporary:
        safetensors.torch.save_file(state, temporary, {k: json.dumps(v) for k, v in facts.items()})


def read_tensors(
    path: Path | str, fact: str, device: torch.device | str = "cpu"
) -> tuple[Any, dict[str, Tensor]]:
    """Return one entry of a file's header, None where it has none, and its tensors.

    Raises
    ------
    NetworkError
        If the file cannot be read as safetensors.
    """
    try:
        with safetensors.safe_open(path, framework="pt", device=str(device)) as file:
            text = (file.metadata() or {}).get(fact)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (safetensors.SafetensorError, OSError) as error:
        raise NetworkError(f"{path} cannot be read as safetensors: {error}") from error
    return None if text is None else json.loads(text), tensors


def read_state(path: Path | str) -> dict[str, Tensor]:
    """Read a state dict from safetensors or from a file of torch, weights only, on the CPU.

    A checkpoint of a training is unpacked: what it calls ``state_dict``, without the ``module.``
    that training on several devices puts before every name. Of a whole module that torch pickled,
    the weights are taken; nothing that the file names is imported or run.

    Raises
    ------
    NetworkError
        If the file is missing, or holds anything else than named tensors.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise NetworkError(f"no weights at {path}")
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        state = _unpickled(path)
    except PickleError as error:
        raise NetworkError(str(error)) from error
    except Exception as error:  # torch and safetensors raise many types for a file of another kind
        raise NetworkError(f"{path} cannot be read as weights: {error}") from error
    if isinstance(state, Mapping) and isinstance(state.get("state_dict"), Mapping):
        state = state["state_dict"]
    if isinstance(state, Mapping) and all(isinstance(value, Tensor) for value in state.values()):
        return {str(name).removeprefix("module."): value for name, value in state.items()}
    raise NetworkError(f"{path} holds a {type(state).__name__}; expected a state dict of tensors")


def _unpickled(path: Path) -> Any:
    """Return what torch wrote: by its own reader, or where that knows too little by ours."""
    try:
        return read_torch(path)
    except CodeInFileError:  # it names classes, of which nothing is needed
        return read_pickled(path).state


def load_weights(module: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Put weights into a module, all of them.

    Raises
    ------
    NetworkError
        If some are missing, too many, or of another shape; ``source`` is named.
    """
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        raise NetworkError(f"{source} does not belong to this architecture: {error}") from error
