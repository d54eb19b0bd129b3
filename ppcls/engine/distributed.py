"""Data-parallel training: one mechanism for every method.

Each rank computes its own shard's gradients; :meth:`Group.average` then averages gradients and batch-norm statistics
in one flat vector. So a method may run any number of backward passes before a step, and all ranks hold the same network
at every step, which is what makes a resumed run exact.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import paddle
import paddle.distributed as dist


@dataclass(frozen=True)
class Group:
    """The processes of one run: ``rank`` 0 … ``world_size`` − 1."""

    rank: int = 0
    world_size: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this process writes files."""
        return self.rank == 0

    def average(self, tensors: Sequence[paddle.Tensor]) -> None:
        """Replace each tensor by its mean over ranks, in place."""
        if self.world_size == 1 or not tensors:
            return
        flat = paddle.concat([tensor.detach().flatten().astype("float32") for tensor in tensors])
        dist.all_reduce(flat)
        flat = flat / self.world_size
        parts = paddle.split(flat, [tensor.size for tensor in tensors])
        for tensor, part in zip(tensors, parts, strict=True):
            paddle.assign(part.reshape(tensor.shape).astype(tensor.dtype), tensor)

    def broadcast_int(self, value: int) -> int:
        """Rank 0's 31-bit integer on every rank."""
        if self.world_size == 1:
            return value
        box = paddle.to_tensor([value], dtype="int64")
        dist.broadcast(box, src=0)
        return int(box.numpy()[0])

    def wait(self) -> None:
        """Return when all ranks have come here."""
        if self.world_size > 1:
            dist.barrier()


def join_group() -> Group:
    """The group that ``python -m paddle.distributed.launch`` made, or a group of one (gloo on CPU, NCCL on GPU)."""
    world_size = int(os.environ.get("PADDLE_TRAINERS_NUM", "1"))
    if world_size == 1:
        return Group()
    dist.init_parallel_env()
    return Group(dist.get_rank(), dist.get_world_size())
