"""Distillation of class scores.

``hinton``: Hinton et al., "Distilling the Knowledge in a Neural Network", 2015; in continual learning Li
& Hoiem, "Learning without Forgetting", ECCV 2016. ``always-be-dreaming``: Smith et al., "Always Be
Dreaming: A New Approach for Data-Free Class-Incremental Learning", ICCV 2021.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import paddle

from ppcls.loss.distillation.base import Context, Distillation, require_positive, require_same_shape
from ppcls.loss.precision import widen
from ppcls.loss.softmax import log_softmax
from ppcls.utils.errors import UserError


def hinton(student_logits: paddle.Tensor, teacher_logits: paddle.Tensor, T: float = 2.0) -> paddle.Tensor:
    """(1/B) sum q (ln q - ln p), q and p the teacher's and student's softmax at temperature T; no T^2 factor.

    Args:
        student_logits: [B, C] with C >= C_old; the *last* C_old columns are the old classes.
        teacher_logits: [B, C_old].
        T: temperature.

    Raises:
        UserError: the student has fewer classes than the teacher.
    """
    log_p = log_softmax(old_columns(student_logits, teacher_logits) / T)
    log_q = log_softmax(teacher_logits / T)
    return (log_q.exp() * (log_q - log_p)).sum(1).mean()


def always_be_dreaming(old_head_logits: paddle.Tensor, teacher_logits: paddle.Tensor) -> paddle.Tensor:
    """Mean squared difference, over all elements, of the old classifier's scores [B, C_old].

    Args:
        old_head_logits: the frozen old classifier on the *student's* embedding.
        teacher_logits: the same classifier on the teacher's embedding.
    """
    return (old_head_logits - teacher_logits).square().mean()


def old_columns(student_logits: paddle.Tensor, teacher_logits: paddle.Tensor) -> paddle.Tensor:
    """The student's scores of the teacher's classes: its last C_old columns (new classes come first)."""
    classes, old = student_logits.shape[1], teacher_logits.shape[1]
    if classes < old:
        raise UserError(f"the student scores {classes} classes, the teacher {old}; expand the old classifier")
    return student_logits[:, classes - old :]


@dataclass(frozen=True)
class Hinton(Distillation):
    """Type ``hinton``: :func:`hinton` of the logits."""

    needs: ClassVar[frozenset[str]] = frozenset({"logits"})
    T: float = 2.0

    def __post_init__(self) -> None:
        require_positive("hinton", T=self.T)

    def _loss(self, student: Any, teacher: Any, pids: Any, context: Context) -> paddle.Tensor:
        return hinton(widen(student.logits), widen(teacher.logits).detach(), self.T)


@dataclass(frozen=True)
class AlwaysBeDreaming(Distillation):
    """Type ``always-be-dreaming``: :func:`always_be_dreaming` of the student's embedding."""

    needs: ClassVar[frozenset[str]] = frozenset({"embedding", "logits", "old_head"})

    def _loss(self, student: Any, teacher: Any, pids: Any, context: Context) -> paddle.Tensor:
        new, old = widen(context.old_head(widen(student.embedding))), widen(teacher.logits).detach()
        require_same_shape(new, old, "scores of the old classes")
        return always_be_dreaming(new, old)
