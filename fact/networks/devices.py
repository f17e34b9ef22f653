"""The device that a configuration names."""

from __future__ import annotations

import torch


def choose_device(name: str) -> torch.device:
    """Return the device called ``name``; ``auto`` is the first accelerator, or the CPU.

    Raises
    ------
    ValueError
        If there is no such device here.
    """
    if name == "auto":
        accelerator = torch.accelerator.current_accelerator(check_available=True)
        return accelerator or torch.device("cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ValueError(f"device {name!r} cannot be used here: {error}") from error
    return device
