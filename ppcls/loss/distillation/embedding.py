"""Plain distances between student and teacher embeddings, and no distillation at all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import paddle

from ppcls.loss.distillation.base import Context, Distillation, embeddings


def l1(new: paddle.Tensor, old: paddle.Tensor) -> paddle.Tensor:
    """mean_i sum_d abs(new_id - old_id) for [B, D] rows."""
    return (new - old).abs().sum(1).mean()


def l2(new: paddle.Tensor, old: paddle.Tensor) -> paddle.Tensor:
    """mean_i sum_d (new_id - old_id)^2 for [B, D] rows."""
    return (new - old).square().sum(1).mean()


@dataclass(frozen=True)
class L1(Distillation):
    """Type ``l1``: :func:`l1` of the embeddings."""

    needs: ClassVar[frozenset[str]] = frozenset({"embedding"})

    def _loss(self, student: Any, teacher: Any, pids: Any, context: Context) -> paddle.Tensor:
        return l1(*embeddings(student, teacher))


@dataclass(frozen=True)
class L2(Distillation):
    """Type ``l2``: :func:`l2` of the embeddings."""

    needs: ClassVar[frozenset[str]] = frozenset({"embedding"})

    def _loss(self, student: Any, teacher: Any, pids: Any, context: Context) -> paddle.Tensor:
        return l2(*embeddings(student, teacher))


@dataclass(frozen=True)
class NoDistillation(Distillation):
    """Type ``no``: exactly zero, whatever the outputs hold; ``backward`` on it (alone or in a sum) works."""

    def _loss(self, student: Any, teacher: Any, pids: Any, context: Context) -> paddle.Tensor:
        zero = paddle.zeros([])
        zero.stop_gradient = False
        return zero
