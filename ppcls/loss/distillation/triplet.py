"""Tri-distillation: triplets whose anchor is the student's and whose other ends are the teacher's.

The triplet of Hermans et al., arXiv 1703.07737, across two feature spaces: images stay close to where
the teacher puts their id and away from where it puts other ids.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import paddle

from ppcls.loss.distillation.base import Context, Distillation, embeddings
from ppcls.loss.labels import Labels, label_array, same_id
from ppcls.loss.pairwise import euclidean_dist, row_distance
from ppcls.loss.triplet import hardest, margin_loss, require_negatives
from ppcls.utils.errors import UserError


def tri_distillation(
    student: paddle.Tensor, teacher: paddle.Tensor, pids: Labels, margin: float | None = None
) -> paddle.Tensor:
    """Batch-hard triplet loss with anchors from ``student`` and positives, negatives from ``teacher``.

    Args:
        student: [B, D] float.
        teacher: [B, D], held constant. The teacher's feature of the anchor's own image is one of its
            positives.
        pids: [B] integers.
        margin: ``None`` for the soft margin ln(1 + e^(d+ - d-)), a number m for the hinge max(d+ - d- +
            m, 0).

    Raises:
        UserError: the batch holds one id only.
    """
    teacher = teacher.detach()
    same = require_negatives(same_id(label_array(pids, student.shape[0])))
    with paddle.no_grad():
        farthest, nearest = hardest(euclidean_dist(student, teacher), same)
    positive = row_distance(student, paddle.gather(teacher, farthest))
    negative = row_distance(student, paddle.gather(teacher, nearest))
    return margin_loss(positive - negative, margin)


@dataclass(frozen=True)
class TriDistillation(Distillation):
    """Type ``tri-distillation``: :func:`tri_distillation` of the embeddings."""

    needs: ClassVar[frozenset[str]] = frozenset({"embedding", "pids"})
    margin: float | None = None

    def __post_init__(self) -> None:
        if self.margin is not None and (isinstance(self.margin, bool) or not isinstance(self.margin, int | float)):
            raise UserError(f"tri-distillation: margin must be a number or null, not {self.margin!r}")

    def _loss(self, student: Any, teacher: Any, pids: Any, context: Context) -> paddle.Tensor:
        return tri_distillation(*embeddings(student, teacher), pids, self.margin)
