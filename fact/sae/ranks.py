"""Processes that train one SAE together, each on its own rows of every batch."""

from __future__ import annotations

import atexit
import os
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch import Tensor, distributed
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

PATIENCE = timedelta(days=1)
"""How long the others wait for the first process, which evaluates alone. That one of them is gone
shows at once."""


@dataclass(frozen=True)
class Ranks:
    """The processes of a training, of which this is one; by default the only one.

    Where there are several, their process group is the default one of `torch.distributed`.

    Attributes
    ----------
    rank, size : int
        Which of how many.
    """

    rank: int = 0
    size: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this is the process that records, evaluates and keeps what is trained."""
        return self.rank == 0

    def add(self, *tensors: Tensor) -> None:
        """Replace each tensor by its sum over all processes, to the same bits in each."""
        if self.size > 1:
            for tensor in tensors:
                distributed.all_reduce(tensor)

    def least(self, tensor: Tensor) -> None:
        """Replace a tensor by its minimum over all processes."""
        if self.size > 1:
            distributed.all_reduce(tensor, distributed.ReduceOp.MIN)

    def share(self, tensor: Tensor) -> None:
        """Replace a tensor by that of the first process."""
        if self.size > 1:
            distributed.broadcast(tensor, src=0)

    def word(self, text: str) -> str:
        """Return the text of the first process."""
        if self.size == 1:
            return text
        texts = [text]
        distributed.broadcast_object_list(texts, src=0)
        return texts[0]

    def gather(self, values: Tensor) -> list[Tensor]:
        """Return the values, of one dimension and any length, of each process in order."""
        if self.size == 1:
            return [values]
        lengths = torch.zeros(self.size, dtype=torch.int64, device=values.device)
        lengths[self.rank] = len(values)
        distributed.all_reduce(lengths)
        longest = int(lengths.max())
        padded = values.new_zeros(longest)
        padded[: len(values)] = values
        found = [torch.empty_like(padded) for _ in range(self.size)]
        distributed.all_gather(found, padded)
        return [each[:length] for each, length in zip(found, lengths.tolist(), strict=True)]

    def rows(self, count: int) -> slice:
        """Return which of so many rows are this process's own: together they are all, in order."""
        return slice(count * self.rank // self.size, count * (self.rank + 1) // self.size)


ALONE = Ranks()
"""A training in one process."""


def join() -> PrefixStore:
    """Join the processes that torchrun has started with this one, each at a GPU if there is any.

    Returns
    -------
    torch.distributed.PrefixStore
        What they share; of one that is started again, apart from what was there before.

    Raises
    ------
    ValueError
        If this host has GPUs, and fewer than processes.
    """
    if torch.cuda.is_available():
        processes, devices = os.environ.get("LOCAL_WORLD_SIZE", "1"), torch.cuda.device_count()
        if int(processes) > devices:
            raise ValueError(f"{processes} processes and GPUs: {devices}; expected one for each")
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    store, rank, size = next(rendezvous("env://", timeout=PATIENCE))
    start = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    store = PrefixStore(start, store)
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    distributed.init_process_group(
        backend, store=store, rank=rank, world_size=size, timeout=PATIENCE
    )
    atexit.register(distributed.destroy_process_group)
    return PrefixStore("run", store)


def joined() -> Ranks:
    """Return this process's place among those that :func:`join` has joined."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return ALONE
    return Ranks(distributed.get_rank(), distributed.get_world_size())
